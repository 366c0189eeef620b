//! Makes foreign text harmless on a terminal.
//!
//! Names, messages and file names come from other devices. A terminal obeys escape sequences in them, and a reader is
//! fooled by characters that reverse or hide text (CVE-2021-42574). So each such character is replaced by `�`, visibly.

/// Whether a character may act on a terminal or on the order or visibility of its neighbours.
const fn acts(c: char) -> bool {
    matches!(c,
        // Controls, C0 and C1, and DEL: escape sequences begin with one of them.
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Zero-width characters, directional marks, embeddings, overrides and isolates, word joiner, byte-order mark.
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}'
        // Line and paragraph separators, interlinear annotation, tags (invisible).
        | '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line, with every acting character shown as `�`, cut after `chars_max` characters.
pub(crate) fn clean(text: &str, chars_max: usize) -> String {
    let mut out: String =
        text.chars().take(chars_max).map(|c| if acts(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        out.push('…');
    }
    out
}

/// A device's name, for a table or a sentence.
pub(crate) fn name(text: &str) -> String {
    clean(text, 63)
}

/// A message or an error of another node: longer, and it may have lines.
pub(crate) fn paragraph(text: &str) -> String {
    text.lines().map(|line| clean(line, 4_000)).collect::<Vec<_>>().join("\n")
}

/// The first ten digits of a device id, as people see it.
pub(crate) fn short(id: &str) -> String {
    clean(id, usize::MAX).chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_cannot_reach_the_terminal() {
        let shown = clean("\u{1b}]0;owned\u{7}\u{9b}31mred", 99);
        assert!(!shown.chars().any(char::is_control));
        assert_eq!(shown, "�]0;owned��31mred");
    }

    #[test]
    fn text_cannot_be_reversed_or_hidden() {
        assert_eq!(clean("photo\u{202e}gpj.exe", 99), "photo�gpj.exe");
        assert_eq!(clean("a\u{200b}b\u{feff}\u{e0041}", 99), "a�b��");
    }

    #[test]
    fn long_text_is_cut_visibly_and_other_languages_stay() {
        assert_eq!(clean("日本語のノート", 3), "日本語…");
        assert_eq!(name("Grüße"), "Grüße");
    }
}
