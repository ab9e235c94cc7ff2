//! The tokenizer `13a` of mteval-v13a, as sacrebleu applies it before BLEU.

use std::borrow::Cow;

use crate::tokens::{is_space, strip_end};

/// The text as the tokenizer's language-independent part leaves it: joined hyphenation and plain `&`, `<`, `>`, `"`.
pub(crate) fn prepared(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(strip_end(text));
    // One after the other: what one replacement brings together, a later one sees.
    for (from, to) in [("<skipped>", ""), ("-\n", ""), ("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        if text.contains(from) {
            text = Cow::Owned(text.replace(from, to));
        }
    }
    text
}

/// How the tokenizer's rules see a byte that begins a character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Part of a word.
    Word,
    Digit,
    /// `.` and `,`, which numbers keep.
    Point,
    /// `-`, which stands alone after a digit.
    Dash,
    /// ASCII punctuation that always stands alone.
    Alone,
    Space,
}

const CLASSES: [Class; 128] = {
    let mut classes = [Class::Word; 128];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] = match byte as u8 {
            b'0'..=b'9' => Class::Digit,
            b'.' | b',' => Class::Point,
            b'-' => Class::Dash,
            b'\t'..=b'\r' | 0x1c..=0x20 => Class::Space,
            b'{'..=b'~' | b'['..=b'`' | b'!'..=b'&' | b'('..=b'+' | b':'..=b'@' | b'/' => Class::Alone,
            _ => Class::Word,
        };
        byte += 1;
    }
    classes
};

/// Hands over the tokens of a [`prepared`] text in their order.
///
/// The definition is five substitutions by regular expressions, one after another; this is what they do together. Of
/// note: a `.` or `,` that follows a digit and precedes one stays, but a substitution consumes the character before a
/// point, so in `a..5` the second point has none left and stays with its `5`.
pub(crate) fn tokens<'a>(text: &'a str, mut token: impl FnMut(&'a str)) {
    let mut start = 0;
    // The class of the character before, or None where it is a point that a substitution consumed.
    let mut before = Some(Class::Space);
    let mut chars = text.char_indices().peekable();
    let mut consume_next = false;
    while let Some((at, c)) = chars.next() {
        let class = class(c);
        let end = at + c.len_utf8();
        let splits = match class {
            Class::Word | Class::Digit => false,
            Class::Dash => before == Some(Class::Digit),
            Class::Alone | Class::Space => true,
            Class::Point => {
                let next = chars.peek().map_or(Class::Space, |&(_, c)| self::class(c));
                if consume_next || before.is_some_and(|before| before != Class::Digit) {
                    consume_next = false;
                    before = None;
                    emit(text, start, at, &mut token);
                    token(&text[at..end]);
                    start = end;
                    continue;
                }
                consume_next = next == Class::Point;
                next != Class::Digit
            }
        };
        if splits {
            emit(text, start, at, &mut token);
            if class != Class::Space {
                token(&text[at..end]);
            }
            start = end;
        }
        before = Some(class);
    }
    emit(text, start, text.len(), &mut token);
}

fn class(c: char) -> Class {
    match CLASSES.get(c as usize) {
        Some(&class) => class,
        None if is_space(c) => Class::Space,
        None => Class::Word,
    }
}

fn emit<'a>(text: &'a str, start: usize, end: usize, token: &mut impl FnMut(&'a str)) {
    if start < end {
        token(&text[start..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenized(text: &str) -> Vec<String> {
        let text = prepared(text);
        let mut found = Vec::new();
        tokens(&text, |token| found.push(token.to_owned()));
        found
    }

    #[test]
    fn points_stay_in_numbers_only() {
        assert_eq!(tokenized("It cost 1,234.50, not 5."), ["It", "cost", "1,234.50", ",", "not", "5", "."]);
        assert_eq!(tokenized("a..5 1..5 .5 5.a"), ["a", ".", ".5", "1", ".", ".", "5", ".", "5", "5", ".", "a"]);
        assert_eq!(tokenized("1.,.5 wait..."), ["1", ".", ",", ".5", "wait", ".", ".", "."]);
    }

    #[test]
    fn dashes_split_after_digits_and_apostrophes_never() {
        assert_eq!(tokenized("it's 3-4 well-known 5--"), ["it's", "3", "-", "4", "well-known", "5", "-", "-"]);
    }

    #[test]
    fn entities_and_line_ends_are_undone_first() {
        assert_eq!(tokenized("&amp;lt; x<skipped>y-\nz-\n"), ["<", "xyz-"]);
        assert_eq!(tokenized("&amp;quot;"), ["&", "quot", ";"]);
        assert_eq!(tokenized("a\u{a0}b\u{1c}c 漢,字"), ["a", "b", "c", "漢", ",", "字"]);
    }
}
