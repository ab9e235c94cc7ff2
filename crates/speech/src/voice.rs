//! The variants of a voice: higher, deeper, whispering.

use crate::nearest::{beginning, nearest};

/// What `espeak-ng --voices=variant` lists.
#[derive(Clone, Debug)]
pub(crate) struct Voices(Vec<String>);

impl Voices {
    /// Reads the file column, `!v/f3`. Those with other than ASCII letters, digits, `-` and `_` in their names are left out.
    pub(crate) fn parse(listing: &str) -> Voices {
        Voices(listing.lines().filter_map(parse_line).map(str::to_owned).collect())
    }

    /// The voice of this very name; the error is words for the user.
    pub(crate) fn find(&self, wanted: &str) -> Result<&str, String> {
        self.0.iter().find(|known| *known == wanted).map(String::as_str).ok_or_else(|| {
            let wanted = beginning(wanted);
            let (nearest, others) = nearest(&wanted, self.0.iter().map(|known| (known.clone(), vec![known.clone()])));
            format!("unknown voice {wanted:?}; most like it are {}, and there are {others} others", nearest.join(", "))
        })
    }
}

fn parse_line(line: &str) -> Option<&str> {
    let mut columns = line.split_whitespace().skip_while(|column| !column.starts_with("!v/"));
    let name = columns.next()?.strip_prefix("!v/")?;
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    // A file of two words would have its second one here.
    let whole = columns.next().is_none_or(|other| other.starts_with('('));
    (plain && whole).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
Pty Language       Age/Gender VoiceName          File                 Other Languages
 5  variant         --/F      female1            !v/f1
 5  variant         --/F      f3                 !v/f3
 5  variant         --/M      Mr_serious         !v/Mr serious
 5  variant         --/M      bad                !v/../../x
";

    #[test]
    fn a_voice_goes_by_the_name_of_its_file() {
        assert_eq!(Voices::parse(LISTING).find("f3"), Ok("f3"));
    }

    #[test]
    fn no_other_name_passes() {
        for wanted in ["", "F3", "f3 ", "female1", "Mr", "Mr serious", "../../x", "../../etc/passwd", "f3+f1", "-w"] {
            let words = Voices::parse(LISTING).find(wanted).unwrap_err();
            assert!(words.starts_with("unknown voice \"") && words.contains("f1"), "{words}");
        }
    }
}
