//! The trace context that an event is sent with.

/// Whether it is a trace context of version 00 (W3C Trace Context, section 3.2).
pub fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let set = |part: &str| part.bytes().any(|c| c != b'0');
    let mut parts = text.split('-');
    let (Some("00"), Some(trace), Some(span), Some(flags), None) = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    hex(trace, 32) && set(trace) && hex(span, 16) && set(span) && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_passed_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        for bad in [
            &good.replace("00-4", "01-4"),
            &good.to_uppercase(),
            &good[..54],
            &good.replace("00f067aa0ba902b7", "0000000000000000"),
            &format!("{good}-00"),
            "",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
