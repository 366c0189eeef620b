//! Which paths a receiver accepts, and what becomes of odd ones.
//!
//! Two kinds of trouble are told apart. A path that tries to leave the folder it is meant for (`..`, an absolute path, a
//! drive letter, a backslash, NUL) is no accident and is **refused**. A name that is merely unwelcome on some system
//! (control or bidirectional-override characters, `<>:"|?*`, a trailing dot, `CON`) is **repaired**, and visibly so: the
//! offending character becomes `_`. The rules of all systems are applied on every system, so that a folder that was
//! received can be passed on to anyone.
//!
//! A sender repairs its own names before it offers them and numbers those that fall together. A receiver therefore
//! repairs only what a foreign sender left, and marks each repaired name with a few digits of the original's hash, which
//! keeps two different names different without remembering any of them.

use core::fmt::Write as _;
use sha2::{Digest, Sha256};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::limits::{TRANSFER_DEPTH_MAX, TRANSFER_NAME_BYTES_MAX, TRANSFER_PATH_BYTES_MAX};

/// Why a foreign path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing between two slashes, or nothing at all.
    #[error("a part of the path is empty")]
    Empty,
    /// `/etc/passwd`, `C:\x` or `\\server\share`.
    #[error("the path is absolute")]
    Absolute,
    /// `.` or `..` as a part of the path.
    #[error("the path tries to leave its folder")]
    Escape,
    /// A backslash, which is a separator on some systems and a letter on others.
    #[error("the path contains a backslash")]
    Backslash,
    /// A zero byte, where C strings end.
    #[error("the path contains a zero byte")]
    Nul,
    /// Over [`TRANSFER_PATH_BYTES_MAX`].
    #[error("the path is longer than {TRANSFER_PATH_BYTES_MAX} bytes")]
    TooLong,
    /// Over [`TRANSFER_DEPTH_MAX`].
    #[error("the path is deeper than {TRANSFER_DEPTH_MAX} folders")]
    TooDeep,
}

/// A path that stays in its folder and that every common file system can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean {
    /// Relative, separated by `/`, every part repaired.
    pub path: String,
    /// Whether any part differs from what was sent.
    pub repaired: bool,
}

/// Judges a foreign relative path.
///
/// # Errors
/// [`Refused`] names the first rule that was broken.
pub fn clean(path: &str) -> Result<Clean, Refused> {
    if path.len() > TRANSFER_PATH_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    if path.contains('\0') {
        return Err(Refused::Nul);
    }
    if path.starts_with(['/', '\\']) || has_drive_letter(path) {
        return Err(Refused::Absolute);
    }
    if path.contains('\\') {
        return Err(Refused::Backslash);
    }
    let mut out = String::with_capacity(path.len());
    for (depth, part) in path.split('/').enumerate() {
        match part {
            "" => return Err(Refused::Empty),
            "." | ".." => return Err(Refused::Escape),
            _ if depth >= TRANSFER_DEPTH_MAX => return Err(Refused::TooDeep),
            _ => {}
        }
        if depth > 0 {
            out.push('/');
        }
        let repaired = repair(part);
        if repaired == part {
            out.push_str(part);
        } else {
            out.push_str(&marked(&repaired, part));
        }
    }
    // A mark lengthens a name; a path at the limit may pass it, and then no honest sender wrote it.
    if out.len() > TRANSFER_PATH_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    let repaired = out != path;
    Ok(Clean { path: out, repaired })
}

/// `C:` or `c:\x`: on Windows such a path ignores the folder it is joined to.
fn has_drive_letter(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Makes one name (a part of a path, without `/`) acceptable everywhere: Unicode NFC, every unwelcome character replaced
/// by `_`, reserved device names prefixed with `_`, at most [`TRANSFER_NAME_BYTES_MAX`] bytes. Repairing twice changes
/// nothing more.
#[must_use]
pub fn repair(name: &str) -> String {
    let mut out: String = if is_nfc(name) {
        name.chars().map(replacement).collect()
    } else {
        name.nfc().map(replacement).collect()
    };
    // Windows drops trailing dots and spaces silently, which would make two names one.
    let kept = out.trim_end_matches(['.', ' ']).len();
    if kept < out.len() || out.is_empty() {
        let lost = out.len() - kept;
        out.truncate(kept);
        out.extend(core::iter::repeat_n('_', lost.max(1)));
    }
    if is_reserved(&out) {
        out.insert(0, '_');
    }
    if out.len() > TRANSFER_NAME_BYTES_MAX { marked(&out, name) } else { out }
}

/// `_` for characters that deceive the eye or that some file system refuses; the character itself otherwise.
const fn replacement(c: char) -> char {
    match c {
        // Path separators and what Windows forbids.
        '/' | '\\' | '<' | '>' | ':' | '"' | '|' | '?' | '*' => '_',
        // C0, DEL, C1.
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => '_',
        // Bidirectional controls: `exe.gpj` shown as `jpg.exe`.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '_',
        // Invisible: two names that look the same. The joiners U+200C and U+200D stay, several scripts need them.
        '\u{ad}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{feff}' => '_',
        // Line and paragraph separators; interlinear annotations, object and replacement characters; tags.
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{ffff}' | '\u{e0000}'..='\u{e007f}' => '_',
        _ => c,
    }
}

/// Device names of Windows, with any extension and in any case. Source: Microsoft, "Naming Files, Paths, and Namespaces".
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let port = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    port.is_some_and(|n| {
        matches!(n, "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³")
    })
}

/// `name` with `~` and 8 hex digits of the original's SHA-256 before its extension.
fn marked(name: &str, original: &str) -> String {
    let hash = Sha256::digest(original.as_bytes());
    let mut mark = String::from("~");
    for byte in hash.iter().take(4) {
        // Writing to a String cannot fail.
        let _ = write!(mark, "{byte:02x}");
    }
    insert_before_extension(name, &mark)
}

/// The `n`-th name to try when `name` is taken: `photo (2).jpg`.
#[must_use]
pub fn numbered(name: &str, n: u32) -> String {
    insert_before_extension(name, &format!(" ({n})"))
}

/// Puts `insert` between stem and extension and shortens the stem if the whole would be too long for a file system.
fn insert_before_extension(name: &str, insert: &str) -> String {
    /// What is longer is a sentence with a dot in it rather than an extension.
    const EXTENSION_BYTES_MAX: usize = 16;
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= EXTENSION_BYTES_MAX => name.split_at(at),
        Some(_) | None => (name, ""),
    };
    let room = TRANSFER_NAME_BYTES_MAX.saturating_sub(insert.len() + extension.len());
    let stem = &stem[..stem.floor_char_boundary(room)];
    format!("{stem}{insert}{extension}")
}

/// The order in which a transfer lists its entries: part by part, by bytes, a folder before what is in it.
#[must_use]
pub fn order(a: &str, b: &str) -> core::cmp::Ordering {
    a.split('/').cmp(b.split('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_leaves_its_folder_is_refused() {
        for (path, why) in [
            ("../x", Refused::Escape),
            ("a/../../x", Refused::Escape),
            ("./x", Refused::Escape),
            ("/etc/passwd", Refused::Absolute),
            ("C:\\x", Refused::Absolute),
            ("c:x", Refused::Absolute),
            ("\\\\server\\share", Refused::Absolute),
            ("a\\..\\x", Refused::Backslash),
            ("a\0b", Refused::Nul),
            ("", Refused::Empty),
            ("a//b", Refused::Empty),
            ("a/", Refused::Empty),
        ] {
            assert_eq!(clean(path), Err(why), "{path:?}");
        }
        assert_eq!(
            clean(&"a/".repeat(TRANSFER_DEPTH_MAX + 1)[..2 * TRANSFER_DEPTH_MAX + 1]),
            Err(Refused::TooDeep)
        );
        assert_eq!(clean(&"a".repeat(TRANSFER_PATH_BYTES_MAX + 1)), Err(Refused::TooLong));
    }

    #[test]
    fn an_odd_name_is_repaired_visibly() {
        for (name, repaired) in [
            ("what?.txt", "what_.txt"),
            ("photo\u{202e}gpj.exe", "photo_gpj.exe"),
            ("bell\u{7}", "bell_"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("com1", "_com1"),
            ("LPT9.tar.gz", "_LPT9.tar.gz"),
            ("ends.", "ends_"),
            ("ends ", "ends_"),
            ("..", "__"),
            ("e\u{301}.txt", "\u{e9}.txt"),
            ("", "_"),
        ] {
            assert_eq!(repair(name), repaired, "{name:?}");
        }
        for fine in
            ["console.log", "COM10", "a b.txt", ".hidden", "日本語.txt", "👨\u{200d}👩\u{200d}👧", "com"]
        {
            assert_eq!(repair(fine), fine);
        }
    }

    #[test]
    fn two_names_that_are_repaired_alike_stay_different() {
        let (a, b) = (clean("x/what?.txt").unwrap(), clean("x/what*.txt").unwrap());
        assert!(a.repaired && b.repaired);
        assert_ne!(a.path, b.path);
        assert!(a.path.starts_with("x/what_~") && a.path.ends_with(".txt"), "{}", a.path);
        assert_eq!(clean("x/what_.txt").unwrap(), Clean { path: "x/what_.txt".into(), repaired: false });
    }

    #[test]
    fn a_taken_name_is_numbered_before_its_extension() {
        assert_eq!(numbered("photo.jpg", 2), "photo (2).jpg");
        assert_eq!(numbered("folder", 3), "folder (3)");
        assert_eq!(numbered(".profile", 2), ".profile (2)");
        assert_eq!(numbered(&"é".repeat(127), 2).len(), 254);
    }

    #[test]
    fn a_folder_is_ordered_before_what_is_in_it_and_that_before_its_siblings() {
        let mut paths = vec!["a.txt", "a/b", "b", "a", "a/b/c", "a/a"];
        paths.sort_by(|a, b| order(a, b));
        assert_eq!(paths, ["a", "a/a", "a/b", "a/b/c", "a.txt", "b"]);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_inside_and_is_accepted_unchanged_again(
            path in "([a-zA-Z.:*\\\\ \u{202e}\u{301}e~/\0]|\\PC|[A-Z]{3}){0,40}",
        ) {
            if let Ok(clean_path) = clean(&path) {
                prop_assert!(clean_path.path.len() <= TRANSFER_PATH_BYTES_MAX);
                for part in clean_path.path.split('/') {
                    prop_assert!(!part.is_empty() && part != "." && part != "..");
                    prop_assert!(part.len() <= TRANSFER_NAME_BYTES_MAX);
                    prop_assert!(!part.contains(['\\', '\0', ':']) && !part.ends_with(['.', ' ']));
                }
                prop_assert_eq!(clean_path.repaired, clean_path.path != path);
                let again = clean(&clean_path.path).unwrap();
                prop_assert_eq!(again, Clean { path: clean_path.path, repaired: false });
            }
        }

        #[test]
        fn repairing_twice_changes_nothing_more(name in any::<String>()) {
            let once = repair(&name);
            prop_assert!(once.len() <= TRANSFER_NAME_BYTES_MAX);
            prop_assert_eq!(repair(&once), once);
        }
    }
}
