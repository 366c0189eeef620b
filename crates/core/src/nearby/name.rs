//! Device names as strangers write them, made fit for a screen and for comparison.
//!
//! A name is decoration: it never selects a key by itself and never grants anything. What it must not do is lie with
//! invisible characters, break a terminal, or look like the name of a paired device without being noticed.

use unicode_normalization::UnicodeNormalization as _;

use crate::limits::NAME_BYTES_MAX;

/// Characters of a foreign name that are looked at; the rest is ignored, so that a 64 KiB name costs no more than this.
const CHARS_READ_MAX: usize = 4 * NAME_BYTES_MAX;

/// `raw` as it may be shown: NFC, without control, bidirectional and invisible characters, runs of white space as one
/// space, at most [`NAME_BYTES_MAX`] bytes, never cut inside a character. Empty if nothing visible is left.
#[must_use]
pub fn displayable(raw: &str) -> String {
    let mut out = String::with_capacity(NAME_BYTES_MAX);
    let mut space = false;
    // Hidden characters go before composition: one between a letter and its accent would otherwise keep them apart.
    let visible = raw.chars().take(CHARS_READ_MAX).filter(|c| c.is_whitespace() || !is_hidden(*c));
    for c in visible.nfc() {
        if c.is_whitespace() {
            space = !out.is_empty();
            continue;
        }
        let gap = usize::from(space);
        if out.len() + gap + c.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        if space {
            out.push(' ');
            space = false;
        }
        out.push(c);
    }
    out
}

/// A form in which names that look alike at a glance are equal: compatibility-decomposed, lower case, letters and digits
/// only. Used to notice that a stranger carries a paired device's name, never to identify a device.
#[must_use]
pub fn look_alike(name: &str) -> String {
    name.chars()
        .take(CHARS_READ_MAX)
        .nfkd()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric())
        .collect()
}

/// Control characters, bidirectional controls (the "Trojan Source" set), zero-width and other characters without a
/// shape of their own, private use and noncharacters.
const fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn invisible_and_bidirectional_characters_are_gone() {
        assert_eq!(displayable("stu\u{202e}dio\u{200b}\u{1b}[31m"), "studio[31m");
        assert_eq!(displayable(" \t Anna's \n\n  laptop \r\n"), "Anna's laptop");
        assert_eq!(displayable("\u{feff}\u{200d}"), "");
        assert_eq!(displayable("Büro 東京"), "Büro 東京");
        assert_eq!(displayable("e\u{200b}\u{301}"), "é");
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let shown = displayable(&"東".repeat(30_000));
        assert_eq!(shown, "東".repeat(21));
    }

    #[test]
    fn names_that_differ_only_in_dress_look_alike() {
        for other in ["STUDIO", "s t u d i o", "studio.", "ｓｔｕｄｉｏ", "stúdio"] {
            assert_eq!(look_alike(other).replace('\u{301}', ""), look_alike("studio"), "{other}");
        }
        assert_ne!(look_alike("studio 2"), look_alike("studio"));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_bounded_and_stable(raw in "\\PC{0,200}|.{0,200}") {
            let once = displayable(&raw);
            prop_assert!(once.len() <= NAME_BYTES_MAX);
            prop_assert!(!once.chars().any(is_hidden));
            prop_assert_eq!(displayable(&once), once);
        }
    }
}
