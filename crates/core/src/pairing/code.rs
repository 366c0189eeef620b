//! Short codes: what one person reads out and the other types.
//!
//! Two forms, both 20 bits of secret: six digits (`042817`), or a public number and two words (`7-guitar-zebra`). The
//! number says which open code is meant and may be announced; only the words are secret. Typing is forgiving: case,
//! spaces, hyphens, full-width digits and words cut after four letters all mean the same code.

use core::fmt;

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::words;
use super::{Hint, Secret};
use crate::limits::PAIRING_CODE_TEXT_BYTES_MAX;
use crate::rng::Rng;

/// The largest public number of a code of words that is found nearby only.
pub const NEARBY_NAMEPLATE_MAX: u16 = 999;
/// The largest public number of any code of words. Those above [`NEARBY_NAMEPLATE_MAX`] are found across the internet
/// too, where so many more codes are open at a time.
pub const NAMEPLATE_MAX: u16 = u16::MAX;
/// Digits in a code of digits.
const DIGITS: usize = 6;

/// A pairing code. Wiped on drop; shown only through [`Code::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    nameplate: Option<u16>,
    /// The six digits, or the two words with a hyphen between: exactly what enters the exchange.
    secret: Zeroizing<String>,
}

/// Which form of code to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A number and two words: easiest to say.
    #[default]
    Words,
    /// Six digits: easiest on a number pad and in any language.
    Digits,
}

/// Why some text is not a code. Quotes the text its reader just typed; show it, do not log it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCode {
    /// Nothing was typed.
    #[error("a code is six digits, or a number and two words such as 7-guitar-zebra")]
    Empty,
    /// Far longer than any code.
    #[error("this is too long to be a code (an invite starts with HONEYLINK:P/)")]
    TooLong,
    /// Digits, but not six.
    #[error("a code of digits has six digits; this has {0}")]
    DigitCount(usize),
    /// Words without the number in front.
    #[error("the number at the start of the code is missing, as the 7 in 7-guitar-zebra")]
    NoNumber,
    /// The number is not 1 to 65535.
    #[error("the number at the start of a code is 1 to {NAMEPLATE_MAX}")]
    NumberRange,
    /// Not two words.
    #[error("after its number a code has two words; this has {0}")]
    WordCount(usize),
    /// A word that is not on the list.
    #[error("no word starts with '{typed}'{}", suggestion.map(|w| format!("; did you mean {w}?")).unwrap_or_default())]
    UnknownWord {
        /// What was typed, in lower case.
        typed: String,
        /// The word it resembles most, if any does.
        suggestion: Option<&'static str>,
    },
    /// A character no code holds.
    #[error("a code has only letters, digits, spaces and hyphens, not '{0}'")]
    Character(char),
}

impl fmt::Debug for InvalidCode {
    /// The kind only: a mistyped word is most of a secret, and `Debug` ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::TooLong => "TooLong",
            Self::DigitCount(_) => "DigitCount(..)",
            Self::NoNumber => "NoNumber",
            Self::NumberRange => "NumberRange",
            Self::WordCount(_) => "WordCount(..)",
            Self::UnknownWord { .. } => "UnknownWord(..)",
            Self::Character(_) => "Character(..)",
        })
    }
}

impl Code {
    /// A number and two words, 20 bits of them secret.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> Self {
        let nameplate = u16::try_from(rng.below(u64::from(NEARBY_NAMEPLATE_MAX))).unwrap_or(0) + 1;
        Self::generate_with_nameplate(rng, nameplate)
    }

    /// Two words behind a given number, which is at least 1.
    #[must_use]
    pub fn generate_with_nameplate(rng: &mut Rng, nameplate: u16) -> Self {
        let mut draw = || {
            let at = usize::try_from(rng.below(words::WORDS.len() as u64)).unwrap_or(0);
            words::WORDS.get(at).copied().unwrap_or_default()
        };
        let secret = Zeroizing::new(format!("{}-{}", draw(), draw()));
        Self { nameplate: Some(nameplate.max(1)), secret }
    }

    /// Six digits.
    #[must_use]
    pub fn generate_digits(rng: &mut Rng) -> Self {
        Self { nameplate: None, secret: Zeroizing::new(format!("{:06}", rng.below(1_000_000))) }
    }

    /// Reads what a person typed.
    ///
    /// # Errors
    /// [`InvalidCode`] says what is wrong and, for a misspelt word, what was probably meant.
    pub fn parse(typed: &str) -> Result<Self, InvalidCode> {
        if typed.len() > PAIRING_CODE_TEXT_BYTES_MAX {
            return Err(InvalidCode::TooLong);
        }
        // NFKC turns full-width digits and letters, as East Asian keyboards send them, into the plain ones.
        let plain: Zeroizing<String> = Zeroizing::new(typed.nfkc().flat_map(char::to_lowercase).collect());
        let separates =
            |c: char| c.is_whitespace() || matches!(c, '-' | '_' | '.' | ',' | '\u{2010}'..='\u{2015}');
        if let Some(bad) = plain.chars().find(|c| !c.is_ascii_alphanumeric() && !separates(*c)) {
            return Err(InvalidCode::Character(bad));
        }
        let parts: Vec<&str> = plain.split(separates).filter(|part| !part.is_empty()).collect();
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        match parts.split_first() {
            None => Err(InvalidCode::Empty),
            Some(_) if parts.iter().all(|part| all_digits(part)) => Self::from_digits(&parts),
            Some((number, rest)) if all_digits(number) => Self::from_words(number, rest),
            Some(_) => Err(InvalidCode::NoNumber),
        }
    }

    fn from_digits(parts: &[&str]) -> Result<Self, InvalidCode> {
        let secret = Zeroizing::new(parts.concat());
        if secret.len() == DIGITS {
            Ok(Self { nameplate: None, secret })
        } else {
            Err(InvalidCode::DigitCount(secret.len()))
        }
    }

    fn from_words(number: &str, rest: &[&str]) -> Result<Self, InvalidCode> {
        let nameplate = number.parse::<u16>().ok().filter(|n| *n != 0).ok_or(InvalidCode::NumberRange)?;
        let [first, second] = rest else {
            return Err(InvalidCode::WordCount(rest.len()));
        };
        let secret = Zeroizing::new(format!("{}-{}", word(first)?, word(second)?));
        Ok(Self { nameplate: Some(nameplate), secret })
    }

    /// The public number of a code of words; `None` for digits.
    #[must_use]
    pub const fn nameplate(&self) -> Option<u16> {
        self.nameplate
    }

    /// Which of the host's open codes this is.
    #[must_use]
    pub const fn hint(&self) -> Hint {
        match self.nameplate {
            Some(nameplate) => Hint::Words(nameplate),
            None => Hint::Digits,
        }
    }

    /// What the code contributes to the exchange.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::new(self.hint(), self.secret.as_bytes())
    }

    /// The code as people see it: `7-guitar-zebra`, or six digits. Only for the screen of the device that opened it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(match self.nameplate {
            Some(nameplate) => format!("{nameplate}-{}", *self.secret),
            None => String::clone(&self.secret),
        })
    }
}

fn word(typed: &str) -> Result<&'static str, InvalidCode> {
    words::find(typed).ok_or_else(|| InvalidCode::UnknownWord {
        typed: typed.to_owned(),
        suggestion: words::nearest(typed),
    })
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({:?}, ..)", self.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use proptest::prelude::*;

    fn shown(typed: &str) -> String {
        Code::parse(typed).unwrap().reveal().to_string()
    }

    #[test]
    fn every_way_of_typing_a_code_means_the_same() {
        for typed in [
            "7-guitar-zebra",
            " 7 GUITAR zebra\n",
            "7.guit.zebr",
            "７－ｇｕｉｔａｒ zebra",
            "007_guitar--zebra",
        ] {
            assert_eq!(shown(typed), "7-guitar-zebra", "{typed}");
        }
        for typed in ["042817", "042 817", "0 4 2 8 1 7", "042-817", "０４２８１７"] {
            assert_eq!(shown(typed), "042817", "{typed}");
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let said = |typed: &str| Code::parse(typed).unwrap_err().to_string();
        assert_eq!(said("7-gitar-zebra"), "no word starts with 'gitar'; did you mean guitar?");
        assert_eq!(said("7-guitar-xqxqxq"), "no word starts with 'xqxqxq'");
        assert_eq!(said("12345"), "a code of digits has six digits; this has 5");
        assert_eq!(Code::parse(""), Err(InvalidCode::Empty));
        assert_eq!(Code::parse("guitar zebra"), Err(InvalidCode::NoNumber));
        assert_eq!(Code::parse("0-guitar-zebra"), Err(InvalidCode::NumberRange));
        assert_eq!(Code::parse("65536-guitar-zebra"), Err(InvalidCode::NumberRange));
        assert_eq!(shown("65535-guitar-zebra"), "65535-guitar-zebra");
        assert_eq!(Code::parse("7-guitar"), Err(InvalidCode::WordCount(1)));
        assert_eq!(Code::parse("7-guitar-zebra-zoo"), Err(InvalidCode::WordCount(3)));
        assert_eq!(Code::parse("7-guitar-zebra!"), Err(InvalidCode::Character('!')));
        assert_eq!(Code::parse(&"1".repeat(200)), Err(InvalidCode::TooLong));
    }

    #[test]
    fn generated_codes_can_be_typed_back() {
        let mut rng = Rng::from_u64(7);
        for _ in 0..200 {
            for code in [Code::generate(&mut rng), Code::generate_digits(&mut rng)] {
                assert_eq!(Code::parse(&code.reveal()), Ok(code));
            }
        }
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let code = Code::parse("7-guitar-zebra").unwrap();
        let shown = format!("{code:?} {:?} {:?}", code.secret(), Code::parse("7-gitar-zebra"));
        assert!(!shown.contains("tar") && !shown.contains("zebra"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = Code::parse(&text);
        }
    }
}
