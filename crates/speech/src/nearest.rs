//! What someone may have meant by a name that is not known.

/// The names most like `wanted`, best first, and how many others there are.
///
/// Each candidate comes with the spellings it goes by.
pub(crate) fn nearest<T>(wanted: &str, candidates: impl IntoIterator<Item = (T, Vec<String>)>) -> (Vec<T>, usize) {
    const SHOWN: usize = 5;
    let wanted = wanted.to_lowercase();
    let likeness = |spelling: &String| strsim::jaro_winkler(&wanted, &spelling.to_lowercase());
    let mut scored: Vec<(f64, T)> =
        candidates.into_iter().map(|(candidate, spellings)| (spellings.iter().map(likeness).fold(0.0, f64::max), candidate)).collect();
    scored.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let others = scored.len().saturating_sub(SHOWN);
    (scored.into_iter().take(SHOWN).map(|(_, candidate)| candidate).collect(), others)
}

/// The beginning of what someone wrote, short enough for a message.
pub(crate) fn beginning(of: &str) -> String {
    of.chars().take(40).collect()
}
