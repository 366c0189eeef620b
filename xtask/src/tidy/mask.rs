//! A view of Rust source in which only code is left: comments become spaces, the insides of literals become `_`.
//!
//! Lines and columns stay where they were, so a finding in the view is a finding in the file. This is a lexer for
//! exactly the tokens that can hide code (comments, strings, characters), not a parser.

/// `source` with comments blanked and literals hollowed out.
pub(super) fn mask(source: &str) -> String {
    let mut mask = Mask { rest: source, out: String::with_capacity(source.len()) };
    while !mask.rest.is_empty() {
        mask.token();
    }
    mask.out
}

struct Mask<'a> {
    rest: &'a str,
    out: String,
}

impl Mask<'_> {
    fn token(&mut self) {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.emit(end, ' ');
        } else if self.rest.starts_with("/*") {
            let end = block_comment_end(self.rest);
            self.emit(end, ' ');
        } else if self.rest.starts_with('"') {
            let end = string_end(self.rest);
            self.literal(1, end);
        } else if let Some((start, end)) = raw_string(self.rest).filter(|_| !self.inside_word()) {
            self.literal(start, end);
        } else if let Some(end) = char_end(self.rest) {
            self.literal(1, end);
        } else {
            let width = self.rest.chars().next().map_or(1, char::len_utf8);
            self.copy(width);
        }
    }

    /// Whether the last thing copied was part of an identifier, so that an `r` here is not a raw string's prefix.
    fn inside_word(&self) -> bool {
        self.out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
    }

    fn literal(&mut self, start: usize, end: usize) {
        self.copy(start);
        self.emit(end - start, '_');
    }

    fn copy(&mut self, bytes: usize) {
        let (head, tail) = self.rest.split_at(bytes);
        self.out.push_str(head);
        self.rest = tail;
    }

    /// Replaces `bytes` of source by `fill`, keeping the line ends.
    fn emit(&mut self, bytes: usize, fill: char) {
        let (head, tail) = self.rest.split_at(bytes);
        self.out.extend(head.chars().map(|c| if c == '\n' { c } else { fill }));
        self.rest = tail;
    }
}

/// Block comments nest in Rust.
fn block_comment_end(text: &str) -> usize {
    let (mut depth, mut at) = (0_u32, 0);
    let bytes = text.as_bytes();
    while at + 1 < bytes.len() {
        match [bytes[at], bytes[at + 1]] {
            [b'/', b'*'] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/'] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Past the closing quote of the string that `text` starts with.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Where the inside of a raw string begins and where the string ends, if `text` starts with one.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let hashes = text[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let open = prefix.len() + hashes;
    if text.as_bytes().get(open) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let end = text[open + 1..].find(&close).map_or(text.len(), |at| open + 1 + at + close.len());
    Some((open + 1, end))
}

/// Past the closing quote of a character literal; `None` for a lifetime or anything else.
fn char_end(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        let after = inside.char_indices().nth(2)?.0;
        return inside[after..].find('\'').map(|at| 1 + after + at + 1);
    }
    let width = first.len_utf8();
    inside[width..].starts_with('\'').then_some(1 + width + 1)
}

/// The view without items marked `#[cfg(test)]`: what ships. Lines stay where they were.
pub(super) fn without_test_items(masked: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(masked.len());
    let mut rest = masked;
    while let Some(at) = rest.find(MARK) {
        let (head, tail) = rest.split_at(at);
        out.push_str(head);
        let end = item_end(tail);
        out.extend(tail[..end].chars().filter(|c| *c == '\n'));
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

/// Past the item that `text`, which begins with its attributes, starts with: its `;` or its closing brace.
fn item_end(text: &str) -> usize {
    let mut brackets = 0_i32;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 => return at + 1,
            '{' if brackets == 0 => return at + block_end(&text[at..]),
            _ => {}
        }
    }
    text.len()
}

/// Past the brace that closes the block which masked `text` starts with.
pub(super) fn block_end(text: &str) -> usize {
    let mut depth = 0_i32;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_vanish_and_nest() {
        assert_eq!(mask("a /* b /* c */ d */ e // f\ng"), "a                   e     \ng");
    }

    #[test]
    fn literals_keep_their_place_but_not_their_words() {
        assert_eq!(mask(r#"f("a//b\"c", x)"#), r#"f("________, x)"#);
        assert_eq!(mask("r#\"a\"b\"# c"), "r#\"_____ c");
        assert_eq!(mask("let r = var\"x\""), "let r = var\"__");
    }

    #[test]
    fn lifetimes_are_not_characters() {
        assert_eq!(mask("&'a str, '{', '\\'', '\\u{7f}', b'\"'"), "&'a str, '__, '___, '_______, b'__");
    }

    #[test]
    fn many_byte_characters_do_not_shift_lines() {
        assert_eq!(mask("\"\u{1f41d}\nü\" z"), "\"_\n__ z");
    }

    #[test]
    fn unfinished_source_is_masked_to_its_end() {
        for source in ["\"open", "r#\"open\"", "/* open", "'", "'\\", "b"] {
            assert!(!mask(source).is_empty());
        }
    }

    #[test]
    fn test_items_are_cut_out_and_lines_stay() {
        let source = "a\n#[cfg(test)]\nmod t {\n  fn x() {}\n}\nb\n#[cfg(test)]\n#[x(y)]\nuse c;\nd";
        assert_eq!(without_test_items(source), "a\n\n\n\n\nb\n\n\n\nd");
    }
}
