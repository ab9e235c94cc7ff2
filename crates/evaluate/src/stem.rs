//! The Porter stemmer (Porter, "An algorithm for suffix stripping", 1980) with the extensions that rouge-score's stemmer,
//! NLTK's, has by default.

/// Words whose stem the rules would miss.
const IRREGULAR: [(&[u8], &[u8]); 16] = [
    (b"sky", b"sky"),
    (b"skies", b"sky"),
    (b"dying", b"die"),
    (b"lying", b"lie"),
    (b"tying", b"tie"),
    (b"news", b"news"),
    (b"innings", b"inning"),
    (b"inning", b"inning"),
    (b"outings", b"outing"),
    (b"outing", b"outing"),
    (b"cannings", b"canning"),
    (b"canning", b"canning"),
    (b"howe", b"howe"),
    (b"proceed", b"proceed"),
    (b"exceed", b"exceed"),
    (b"succeed", b"succeed"),
];

/// A suffix and what takes its place.
type Rule = (&'static [u8], &'static [u8]);

/// Step 2; each wants a stem of measure above 0. The first suffix that fits decides, even where its condition fails.
const STEP_2: [Rule; 21] = [
    (b"ational", b"ate"),
    (b"tional", b"tion"),
    (b"enci", b"ence"),
    (b"anci", b"ance"),
    (b"izer", b"ize"),
    (b"bli", b"ble"),
    (b"alli", b"al"),
    (b"entli", b"ent"),
    (b"eli", b"e"),
    (b"ousli", b"ous"),
    (b"ization", b"ize"),
    (b"ation", b"ate"),
    (b"ator", b"ate"),
    (b"alism", b"al"),
    (b"iveness", b"ive"),
    (b"fulness", b"ful"),
    (b"ousness", b"ous"),
    (b"aliti", b"al"),
    (b"iviti", b"ive"),
    (b"biliti", b"ble"),
    (b"fulli", b"ful"),
];

/// Step 3; each wants a stem of measure above 0.
const STEP_3: [Rule; 7] =
    [(b"icate", b"ic"), (b"ative", b""), (b"alize", b"al"), (b"iciti", b"ic"), (b"ical", b"ic"), (b"ful", b""), (b"ness", b"")];

/// Step 4; each wants a stem of measure above 1, `ion` also one on `s` or `t`.
const STEP_4: [&[u8]; 19] = [
    b"al", b"ance", b"ence", b"er", b"ic", b"able", b"ible", b"ant", b"ement", b"ment", b"ent", b"ion", b"ou", b"ism", b"ate", b"iti",
    b"ous", b"ive", b"ize",
];

/// Shortens `word`, of `a` to `z` and digits and at least three long, to its stem in place.
pub(crate) fn stem(word: &mut Vec<u8>) {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| form == word) {
        word.clear();
        word.extend_from_slice(stem);
        return;
    }
    plural(word);
    past(word);
    if word.len() > 2 && word.ends_with(b"y") && is_consonant(word, word.len() - 2) {
        replace(word, 1, b"i");
    }
    derivation(word);
    first_of(word, &STEP_3);
    ending(word);
    last_e(word);
    if word.ends_with(b"ll") && measure(&word[..word.len() - 1]) > 1 {
        word.pop();
    }
}

/// Step 1a: `sses`, `ies`, `ss`, `s`.
fn plural(word: &mut Vec<u8>) {
    if word.ends_with(b"ies") {
        let cut = if word.len() == 4 { 1 } else { 2 };
        word.truncate(word.len() - cut);
    } else if word.ends_with(b"sses") {
        word.truncate(word.len() - 2);
    } else if word.ends_with(b"s") && !word.ends_with(b"ss") {
        word.pop();
    }
}

/// Step 1b: `ied`, `eed`, `ed`, `ing`.
fn past(word: &mut Vec<u8>) {
    if word.ends_with(b"ied") {
        let cut = if word.len() == 4 { 1 } else { 2 };
        word.truncate(word.len() - cut);
        return;
    }
    if word.ends_with(b"eed") {
        if measure(&word[..word.len() - 3]) > 0 {
            word.pop();
        }
        return;
    }
    let Some(stem) = word.strip_suffix(b"ed").or_else(|| word.strip_suffix(b"ing")).filter(|stem| has_vowel(stem)).map(<[u8]>::len) else {
        return;
    };
    word.truncate(stem);
    if [b"at", b"bl", b"iz"].iter().any(|end| word.ends_with(*end)) {
        word.push(b'e');
    } else if ends_in_double_consonant(word) {
        if !matches!(word.last(), Some(b'l' | b's' | b'z')) {
            word.pop();
        }
    } else if measure(word) == 1 && ends_in_short_syllable(word) {
        word.push(b'e');
    }
}

/// Step 2, where `alli` goes first and lets the rules see what it leaves.
fn derivation(word: &mut Vec<u8>) {
    if word.ends_with(b"alli") && measure(&word[..word.len() - 4]) > 0 {
        word.truncate(word.len() - 2);
    }
    if first_of(word, &STEP_2) {
        return;
    }
    // The `l` counts to the stem, so that `geology` and `theology` have one.
    if word.ends_with(b"logi") && measure(&word[..word.len() - 3]) > 0 {
        word.pop();
    }
}

/// Step 4.
fn ending(word: &mut Vec<u8>) {
    let Some(suffix) = STEP_4.iter().find(|suffix| word.ends_with(suffix)) else { return };
    let stem = &word[..word.len() - suffix.len()];
    let fits = *suffix != b"ion" || matches!(stem.last(), Some(b's' | b't'));
    if fits && measure(stem) > 1 {
        word.truncate(word.len() - suffix.len());
    }
}

/// Step 5a.
fn last_e(word: &mut Vec<u8>) {
    let Some(stem) = word.strip_suffix(b"e") else { return };
    let measure = measure(stem);
    if measure > 1 || (measure == 1 && !ends_in_short_syllable(stem)) {
        word.pop();
    }
}

/// Applies the first rule whose suffix fits, if the stem's measure is above 0; tells whether a suffix did fit.
fn first_of(word: &mut Vec<u8>, rules: &[Rule]) -> bool {
    let Some((suffix, replacement)) = rules.iter().find(|(suffix, _)| word.ends_with(suffix)) else { return false };
    if measure(&word[..word.len() - suffix.len()]) > 0 {
        replace(word, suffix.len(), replacement);
    }
    true
}

fn replace(word: &mut Vec<u8>, suffix: usize, replacement: &[u8]) {
    word.truncate(word.len() - suffix);
    word.extend_from_slice(replacement);
}

/// Whether each letter is a consonant: none of `aeiou`, and `y` only where no consonant precedes it.
fn consonants(word: &[u8]) -> impl Iterator<Item = bool> {
    word.iter().scan(false, |before, &letter| {
        *before = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*before,
            _ => true,
        };
        Some(*before)
    })
}

fn is_consonant(word: &[u8], at: usize) -> bool {
    consonants(word).nth(at).unwrap_or(false)
}

fn has_vowel(word: &[u8]) -> bool {
    consonants(word).any(|consonant| !consonant)
}

/// How often a consonant follows a vowel: `m` in the paper.
fn measure(word: &[u8]) -> usize {
    let mut after_vowel = false;
    let follows = consonants(word).filter(|&consonant| {
        let counts = consonant && after_vowel;
        after_vowel = !consonant;
        counts
    });
    follows.count()
}

/// `*d` in the paper.
fn ends_in_double_consonant(word: &[u8]) -> bool {
    matches!(word, [.., a, b] if a == b) && is_consonant(word, word.len() - 1)
}

/// `*o` in the paper: consonant, vowel, consonant other than `w`, `x`, `y`; or just vowel and consonant.
fn ends_in_short_syllable(word: &[u8]) -> bool {
    let mut last = [None; 3];
    for consonant in consonants(word) {
        last = [last[1], last[2], Some(consonant)];
    }
    match last {
        [None, Some(false), Some(true)] => true,
        [Some(true), Some(false), Some(true)] => !matches!(word.last(), Some(b'w' | b'x' | b'y')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stemmed(word: &str) -> String {
        let mut stemmed = word.as_bytes().to_vec();
        stem(&mut stemmed);
        String::from_utf8(stemmed).expect("ASCII")
    }

    #[test]
    fn stems_are_those_of_the_reference_stemmer() {
        let stems: Vec<(String, String)> = serde_json::from_str(include_str!("../tests/reference/stems.json")).expect("words and stems");
        assert!(stems.len() >= 3000);
        for (word, stem) in stems {
            assert_eq!(stemmed(&word), stem, "{word}");
        }
    }

    #[test]
    fn words_have_the_stems_of_the_paper() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("ties", "tie"),
            ("plastered", "plaster"),
            ("sing", "sing"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("enjoy", "enjoy"),
            ("relational", "relat"),
            ("radically", "radic"),
            ("hopefulness", "hope"),
            ("adoption", "adopt"),
            ("controlling", "control"),
            ("geology", "geolog"),
            ("dying", "die"),
            ("succeed", "succeed"),
        ] {
            assert_eq!(stemmed(word), expected, "{word}");
        }
    }
}
