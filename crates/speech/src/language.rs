//! The languages that the program speaks.

use std::fmt;

use crate::nearest::{beginning, nearest};

/// A language, or a region's way of speaking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language {
    /// As espeak-ng has it, such as `om` or `en-us`.
    pub code: String,
    /// In English, such as `Oromo` or `English (America)`.
    pub name: String,
    /// What espeak-ng is to be given, such as `gmw/en`: not every code is taken, and some only without a variant of the voice.
    pub(crate) file: String,
}

/// No language has this code or name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLanguage {
    /// The beginning of what was given.
    pub wanted: String,
    /// The known ones that are most like it.
    pub nearest: Vec<Language>,
    /// How many others are known.
    pub others: usize,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.code)
    }
}

impl fmt::Display for UnknownLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nearest: Vec<String> = self.nearest.iter().map(Language::to_string).collect();
        write!(f, "unknown language {:?}; most like it are {}, and there are {} others", self.wanted, nearest.join(", "), self.others)
    }
}

impl std::error::Error for UnknownLanguage {}

/// What `espeak-ng --voices` lists, in its order.
#[derive(Clone, Debug)]
pub(crate) struct Languages(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    language: Language,
    /// The codes it goes by, its own first, each with espeak-ng's preference: among languages of one code the lowest wins.
    codes: Vec<(String, u32)>,
}

impl Languages {
    /// Reads `Pty Language Age/Gender VoiceName File Other Languages`, columns between spaces.
    ///
    /// Of several with one code only the first can be asked for. Voices of MBROLA are left out, as they need another program.
    pub(crate) fn parse(listing: &str) -> Languages {
        let mut entries: Vec<Entry> = Vec::new();
        for entry in listing.lines().skip(1).filter_map(Entry::parse) {
            if !entry.language.file.starts_with("mb/") && entries.iter().all(|known| known.codes[0] != entry.codes[0]) {
                entries.push(entry);
            }
        }
        Languages(entries)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Language> {
        self.0.iter().map(|entry| &entry.language)
    }

    /// The language of a code or name in whatever case, with spaces, `_` or `-`.
    ///
    /// A name may lack what is in brackets, and a code the region: then it is what espeak-ng prefers. A region that is not
    /// known is passed over as in RFC 4647, section 3.4: `om-ET` is `om`.
    pub(crate) fn find(&self, wanted: &str) -> Result<&Language, UnknownLanguage> {
        let key = key(wanted);
        let found = self.of_code(&key).or_else(|| self.named(&key)).or_else(|| {
            let (code, _) = key.split_once('-').filter(|(code, _)| matches!(code.len(), 2 | 3))?;
            self.of_code(code)
        });
        found.ok_or_else(|| self.unknown(wanted))
    }

    fn of_code(&self, code: &str) -> Option<&Language> {
        let known = self.0.iter().filter_map(|entry| Some((entry.preference(code)?, &entry.language)));
        known.min_by_key(|(preference, _)| *preference).map(|(_, language)| language)
    }

    fn named(&self, name: &str) -> Option<&Language> {
        if let Some(entry) = self.0.iter().find(|entry| entry.names()[0] == name) {
            return Some(&entry.language);
        }
        let regional = self.0.iter().find(|entry| entry.names()[1] == name)?;
        let (code, _) = regional.codes[0].0.split_once('-').unwrap_or((&regional.codes[0].0, ""));
        self.of_code(code).or(Some(&regional.language))
    }

    fn unknown(&self, wanted: &str) -> UnknownLanguage {
        let wanted = beginning(wanted);
        let spellings = |language: &Language| {
            let parts = language.name.split(['(', ')']).map(|part| part.trim().to_owned());
            parts.chain([language.code.clone(), language.name.clone()]).collect()
        };
        let known = self.iter().map(|language| (language.clone(), spellings(language)));
        let (nearest, others) = nearest(&wanted, known);
        UnknownLanguage { wanted, nearest, others }
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Entry> {
        let mut columns = line.split_whitespace();
        let (preference, code) = (columns.next()?.parse().ok()?, columns.next()?);
        let (name, file) = (columns.nth(1)?.replace('_', " "), columns.next()?);
        let language = Language { code: code.to_owned(), name: name.trim().to_owned(), file: file.to_owned() };
        let mut codes = vec![(key(code), preference)];
        // `(pt-pt 5)(pt 6)`
        let others = line.split('(').filter_map(|other| other.split_once(')')?.0.split_once(' '));
        codes.extend(others.filter_map(|(code, preference)| Some((key(code), preference.parse().ok()?))));
        Some(Entry { language, codes })
    }

    fn preference(&self, code: &str) -> Option<u32> {
        self.codes.iter().find(|(known, _)| known == code).map(|(_, preference)| *preference)
    }

    /// The whole name, and without what is in brackets.
    fn names(&self) -> [String; 2] {
        let bare = self.language.name.split('(').next().unwrap_or_default();
        [key(&self.language.name), key(bare)]
    }
}

/// One spelling for what is meant to be the same.
fn key(text: &str) -> String {
    text.trim().to_lowercase().replace(['_', ' '], "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  en-029          --/M      English_(Caribbean) gmw/en-029           (en 10)
 2  en-gb           --/M      English_(Great_Britain) gmw/en               (en 2)
 3  en-us           --/M      English_(America)  gmw/en-US            (en 5)
 5  en-us           --/F      us-mbrola-1        mb/mb-us1            (en 8)
 5  fr-be           --/M      French_(Belgium)   roa/fr-BE            (fr 8)
 5  fr-fr           --/M      French_(France)    roa/fr               (fr 5)
 5  my              --/M      Myanmar_(Burmese)  sit/my
 5  om              --/M      Oromo              cus/om
 5  pt              --/M      Portuguese_(Portugal) roa/pt               (pt-pt 5)
 5  pt-br           --/M      Portuguese_(Brazil) roa/pt-BR            (pt 6)
 5  ro              --/M      Romanian           roa/ro
 5  ru              --/M      Russian            zle/ru
 2  ru-lv           --/M      Russian_(Latvia)   zle/ru-LV
 5  yue             --/M      Chinese_(Cantonese) sit/yue              (zh-yue 5)(zh 8)
 5  yue             --/M      Chinese_(Cantonese,_latin_as_Jyutping) sit/yue-Latn-jyutping (zh-yue 5)(zh 8)
 nonsense
";

    fn code(wanted: &str) -> String {
        Languages::parse(LISTING).find(wanted).unwrap().code.clone()
    }

    #[test]
    fn a_language_goes_by_its_codes_and_its_name() {
        for wanted in ["om", "OM", "oromo", "Oromo", " OROMO\n", "om-ET", "om_ET"] {
            assert_eq!(code(wanted), "om", "{wanted}");
        }
        assert_eq!(code("pt-PT"), "pt");
        assert_eq!(code("pt_BR"), "pt-br");
        assert_eq!(code("english (america)"), "en-us");
        assert_eq!(code("English_(America)"), "en-us");
    }

    #[test]
    fn without_a_region_it_is_the_preferred_one() {
        assert_eq!(code("en"), "en-gb");
        assert_eq!(code("English"), "en-gb");
        assert_eq!(code("pt"), "pt");
        assert_eq!(code("portuguese"), "pt");
        assert_eq!(code("French"), "fr-fr");
        assert_eq!(code("russian"), "ru");
        assert_eq!(code("Chinese"), "yue");
    }

    #[test]
    fn an_unknown_language_is_answered_with_those_most_like_it() {
        let languages = Languages::parse(LISTING);
        for wanted in ["oromoo", "", "-", "mb-us1", "us-mbrola-1", "klingon", "../../etc/passwd", "(en", "e", "english-"] {
            assert!(languages.find(wanted).is_err(), "{wanted}");
        }
        let unknown = languages.find("oromoo").unwrap_err();
        assert_eq!(unknown.nearest[0].code, "om");
        assert_eq!((unknown.nearest.len(), unknown.others), (5, 8));
        assert_eq!(languages.find("burmish").unwrap_err().nearest[0].code, "my");
        assert!(unknown.to_string().starts_with("unknown language \"oromoo\"; most like it are Oromo (om), "), "{unknown}");
        assert!(languages.find(&"long".repeat(1 << 20)).unwrap_err().to_string().len() < 400);
    }
}
