//! The command line of this run, as it can be shown.

/// What stands in the place of a secret.
const MASK: &str = "***";

/// `arguments` as a shell would read them, without the key among them.
pub(crate) fn line(arguments: impl Iterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut is_key = false;
    for argument in arguments {
        let shown = match argument.split_once('=') {
            _ if is_key => MASK.to_owned(),
            Some(("--api-key", _)) => format!("--api-key={MASK}"),
            Some(_) | None => quoted(&argument),
        };
        is_key = argument == "--api-key";
        words.push(shown);
    }
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_repeated_and_tells_no_key() {
        let line = |words: &[&str]| line(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(line(&["loadtest", "--spawn", "a b", "--fault", "kill@1s+2s"]), "loadtest --spawn 'a b' --fault kill@1s+2s");
        assert_eq!(line(&["x", "it's", ""]), "x 'it'\\''s' ''");
        for secret in [&["loadtest", "--api-key", "k3y", "--rate", "5"][..], &["loadtest", "--api-key=k3y", "--rate", "5"]] {
            let shown = line(secret);
            assert!(shown.contains("***") && !shown.contains("k3y") && shown.ends_with("--rate 5"), "{shown}");
        }
    }
}
