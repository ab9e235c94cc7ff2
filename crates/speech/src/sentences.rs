//! Cutting a text into parts that sound right when they are spoken one by one.

use unicode_segmentation::GraphemeCursor;

/// How good a place for a cut is, best first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    /// The end of a sentence or paragraph.
    Sentence,
    /// The end of a line.
    Line,
    /// After a comma or its like.
    Clause,
    /// Between words.
    Word,
}

/// The parts of a text, each of 1 to `max` bytes, which must be at least 64: as many sentences as fit, or what fits of a longer
/// one. Together they are the text.
pub fn parts(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (part, after) = rest.split_at(length_of_part(rest, max));
        rest = after;
        Some(part)
    })
}

fn length_of_part(text: &str, max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    let end = text.floor_char_boundary(max);
    let mut last = [None; 4];
    let mut before = Before::default();
    for (at, next) in text[..end].char_indices().chain(text[end..].chars().next().map(|next| (end, next))) {
        if let Some(rank) = before.cut(next)
            && between_graphemes(text, at)
        {
            last[rank as usize] = Some(at);
        }
        before.pass(next);
    }
    last.into_iter().flatten().next().unwrap_or_else(|| last_grapheme(text, end))
}

fn between_graphemes(text: &str, at: usize) -> bool {
    GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0) == Ok(true)
}

/// Where the last grapheme that fits before `end` ends; `end` itself where none does.
fn last_grapheme(text: &str, end: usize) -> usize {
    if between_graphemes(text, end) {
        return end;
    }
    let before = GraphemeCursor::new(end, text.len(), true).prev_boundary(text, 0);
    before.ok().flatten().filter(|&at| at > 0).unwrap_or(end)
}

/// What has been passed on the way through a text, as far as it matters for the next place.
#[derive(Default)]
struct Before {
    /// The last mark, but for what may stand between it and the end of the sentence: quotes, brackets and space.
    mark: Option<Mark>,
    space: bool,
    lines: u32,
}

#[derive(Clone, Copy)]
struct Mark {
    rank: Rank,
    spacing: Spacing,
}

/// Whether a mark ends anything by itself, or only with a space behind it: `3.14` goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spacing {
    Needed,
    Needless,
}

impl Before {
    /// How good it would be to cut just before `next`, if it may be cut there. Space stays with what it follows.
    fn cut(&self, next: char) -> Option<Rank> {
        if next.is_whitespace() {
            return None;
        }
        if !self.space {
            let mark = self.mark.filter(|mark| mark.spacing == Spacing::Needless && Mark::of(next).is_none() && !closes(next))?;
            return Some(mark.rank);
        }
        match (self.mark, self.lines) {
            (_, 2..) | (Some(Mark { rank: Rank::Sentence, .. }), _) => Some(Rank::Sentence),
            (_, 1) => Some(Rank::Line),
            (Some(mark), _) => Some(mark.rank),
            (None, _) => Some(Rank::Word),
        }
    }

    fn pass(&mut self, next: char) {
        if next.is_whitespace() {
            self.space = true;
            self.lines += u32::from(matches!(next, '\n' | '\u{85}' | '\u{2028}')) + 2 * u32::from(next == '\u{2029}');
            return;
        }
        if self.space || !closes(next) {
            self.mark = Mark::of(next);
        }
        (self.space, self.lines) = (false, 0);
    }
}

impl Mark {
    fn of(character: char) -> Option<Mark> {
        let (rank, spacing) = match character {
            '.' | '!' | '?' | '…' | '‼' | '⁇' | '⁈' | '⁉' => (Rank::Sentence, Spacing::Needed),
            // Chinese and Japanese; Arabic and Urdu; Devanagari and its neighbours; Armenian, Ethiopic, Burmese, Khmer,
            // Tibetan, Mongolian, N'Ko.
            '。' | '．' | '！' | '？' | '｡' | '؟' | '۔' | '।' | '॥' | '։' | '።' | '፧' | '፨' | '၊' | '။' | '។' | '៕' | '།' | '᠃' | '᠉'
            | '߹' => (Rank::Sentence, Spacing::Needless),
            ',' | ';' | ':' => (Rank::Clause, Spacing::Needed),
            '、' | '，' | '；' | '：' | '､' | '،' | '؛' | '፣' | '፤' | '፥' | '߸' => (Rank::Clause, Spacing::Needless),
            _ => return None,
        };
        Some(Mark { rank, spacing })
    }
}

/// Whether it may stand between the mark that ends a sentence and the space behind it.
fn closes(character: char) -> bool {
    matches!(character, '"' | '\'' | ')' | ']' | '}' | '”' | '’' | '»' | '›' | '」' | '』' | '）' | '】' | '〉' | '》')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_segmentation::UnicodeSegmentation;

    use super::*;
    use crate::espeak::MAX_PART;

    /// The first part of a text that begins with `sentence` and is then too long by `filling`, repeated.
    fn first(sentence: &str, filling: &str) -> String {
        let text = sentence.to_owned() + &filling.repeat(MAX_PART / filling.len() + 1);
        parts(&text, MAX_PART).next().expect("a text that is not empty").to_owned()
    }

    #[test]
    fn a_short_text_is_one_part() {
        assert_eq!(parts("", MAX_PART).count(), 0);
        assert_eq!(parts("One. Two.\n\nThree.", MAX_PART).collect::<Vec<_>>(), ["One. Two.\n\nThree."]);
    }

    #[test]
    fn a_text_is_cut_at_the_last_end_of_a_sentence_that_fits() {
        for sentence in [
            "It is so. ",
            "It is so! ",
            "Is it so?  \n",
            "He said \"it is so.\" ",
            "(It is so.) ",
            "No, it is 3.14, e.g. ",
            "Two\n\n",
            "是这样。",
            "「そうです。」",
            "没有！？",
            "هل هذا صحيح؟ ",
            "یہ ہے۔",
            "यह है। ",
            "ነው። ",
            "ဟုတ်တယ်။",
        ] {
            assert_eq!(first(sentence, "ab "), sentence, "{sentence}");
        }
    }

    #[test]
    fn as_many_sentences_as_fit_make_one_part() {
        let text = "So it is. ".repeat(1000);
        let lengths: Vec<usize> = parts(&text, MAX_PART).map(str::len).collect();
        assert_eq!(lengths[..4], [2040; 4]);
        assert!(parts(&text, MAX_PART).all(|part| part.ends_with(". ")));
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_line_or_comma_or_word() {
        assert_eq!(first("one, two 3.14\n", "ab "), "one, two 3.14\n");
        assert_eq!(first("one two 1,000, ", "ab "), "one two 1,000, ");
        assert_eq!(first("一二，", "三"), "一二，");
        assert_eq!(first("one two.three! ", "x"), "one two.three! ");
        assert_eq!(first("one two.three!", "x").len(), "one ".len());
        assert_eq!(first("", "abc ").len(), MAX_PART);
    }

    #[test]
    fn a_word_without_end_is_cut_between_its_characters() {
        assert_eq!(first("", "x").len(), MAX_PART);
        let family = "👩\u{200d}👩\u{200d}👧";
        assert!(first("", family).ends_with(family));
        assert_eq!(first("a", "\u{301}").len(), MAX_PART - 1);
    }

    fn text() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "a",
            "word",
            " ",
            " ",
            "\n",
            "\n\n",
            ". ",
            ".",
            ",",
            "!” ",
            "。",
            "、",
            "漢",
            "e\u{301}",
            "👩\u{200d}👧",
            "\u{600}",
            "\r\n",
            "\u{301}",
        ]);
        let run = (piece, prop_oneof![8 => 1..20_usize, 1 => 1..3000_usize]).prop_map(|(piece, count)| piece.repeat(count));
        prop_oneof![4 => prop::collection::vec(run, 0..60).prop_map(|runs| runs.concat()), 1 => any::<String>()]
    }

    proptest! {
        #[test]
        fn the_parts_are_the_text(text in text()) {
            prop_assert_eq!(parts(&text, MAX_PART).collect::<String>(), text);
        }

        #[test]
        fn no_part_is_empty_or_too_long(text in text()) {
            prop_assert!(parts(&text, MAX_PART).all(|part| (1..=MAX_PART).contains(&part.len())));
        }

        #[test]
        fn no_grapheme_that_fits_is_torn(text in text()) {
            prop_assume!(text.graphemes(true).all(|grapheme| grapheme.len() <= MAX_PART));
            let starts: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).collect();
            let mut at = 0;
            for part in parts(&text, MAX_PART) {
                prop_assert!(starts.binary_search(&at).is_ok(), "at {}", at);
                at += part.len();
            }
        }
    }
}
