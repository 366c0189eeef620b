//! Names of peers: which are allowed, how they compare, and how what a user typed becomes one device.
//!
//! A name is a label the user reads, not proof of anything. Names that could pass for something else (control and
//! bidirectional characters, a whole device id, an option, a path) are refused when the user chooses them and cleaned when
//! a device announces them.

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::NAME_BYTES_MAX;
use unicode_normalization::UnicodeNormalization as _;

use super::limits::{CANDIDATES_MAX, ID_PREFIX_DIGITS_MIN};
use super::peer::{PeerRecord, Trust};

/// Why a name can not be given to a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing but space.
    #[error("a device's name can not be empty")]
    Empty,
    /// Too long.
    #[error("a device's name can have {NAME_BYTES_MAX} bytes at most; this has {bytes}")]
    TooLong {
        /// Its length in bytes of UTF-8.
        bytes: usize,
    },
    /// A character that is invisible, changes the reading direction, or means something in commands.
    #[error("a device's name can not contain {character:?}")]
    Character {
        /// The character.
        character: char,
    },
    /// Starts with `-`, so commands would take it for an option.
    #[error("a device's name can not start with `-`")]
    Option,
    /// Could be taken for the id of a device.
    #[error("a device's name can not look like a device id")]
    LooksLikeId,
}

/// Brings a name the user chose into the form that is stored: Unicode NFC, no space around it.
///
/// # Errors
/// [`InvalidName`] says what to change.
pub fn check_name(name: &str) -> Result<String, InvalidName> {
    let name: String = name.trim().nfc().collect();
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > NAME_BYTES_MAX && !is_id(&name) {
        return Err(InvalidName::TooLong { bytes: name.len() });
    }
    if let Some(character) = name.chars().find(|c| is_deceptive(*c)) {
        return Err(InvalidName::Character { character });
    }
    if name.starts_with('-') {
        return Err(InvalidName::Option);
    }
    if is_id(&name) {
        return Err(InvalidName::LooksLikeId);
    }
    Ok(name)
}

/// Makes a name out of what a device announced: cleaned and cut rather than refused. Falls back to the short id.
#[must_use]
pub fn tame_name(announced: &str, id: &DeviceId) -> String {
    // The cut comes first: an announced name has no length limit that we could trust.
    let mut name = String::with_capacity(NAME_BYTES_MAX);
    for c in announced.chars().take(4 * NAME_BYTES_MAX).nfc().filter(|c| !is_deceptive(*c)) {
        if (name.is_empty() && (c == '-' || c.is_whitespace())) || name.len() + c.len_utf8() > NAME_BYTES_MAX
        {
            if name.is_empty() {
                continue;
            }
            break;
        }
        name.push(c);
    }
    name.truncate(name.trim_end().len());
    if name.is_empty() { id.short() } else { name }
}

/// The form in which two names are compared: NFC and lower case.
pub(super) fn fold(name: &str) -> String {
    name.trim().nfc().flat_map(char::to_lowercase).collect()
}

/// `name`, or `name-2`, `name-3`... whichever is the first not `taken`.
pub(super) fn disambiguate(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut n = 2_u64;
    let mut candidate = name.to_owned();
    while taken(&candidate) {
        let suffix = format!("-{n}");
        let mut room = NAME_BYTES_MAX.saturating_sub(suffix.len()).min(name.len());
        while !name.is_char_boundary(room) {
            room -= 1;
        }
        candidate = format!("{}{suffix}", &name[..room]);
        n += 1;
    }
    candidate
}

fn is_id(name: &str) -> bool {
    name.len() == 2 * DeviceId::LEN && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Control characters, invisible and direction-changing ones (Unicode TR36 section 3), and `/`, which separates a device
/// from its tunnel in `DEVICE/TUNNEL`.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || c == '/'
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A device a user may have meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: DeviceId,
    /// Its name.
    pub name: String,
    /// How far it is trusted.
    pub trust: Trust,
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.id.short(), self.trust)
    }
}

/// Why some text stands for no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Several devices fit.
    #[error("`{text}` could be any of these; use more digits of the id:{}", list(candidates))]
    Ambiguous {
        /// What was typed.
        text: String,
        /// The devices it could mean, at most [`CANDIDATES_MAX`].
        candidates: Vec<Candidate>,
    },
    /// No device fits.
    #[error("no known device is called `{text}`{}{}", if near.is_empty() { "" } else { "; did you mean:" }, list(near))]
    NotFound {
        /// What was typed.
        text: String,
        /// Devices with a similar name, the most similar first, at most [`CANDIDATES_MAX`].
        near: Vec<Candidate>,
    },
    /// 64 hex digits that are no usable key.
    #[error("`{text}` has the form of a device id, but {cause}")]
    NotAnId {
        /// What was typed.
        text: String,
        /// Why not.
        cause: honeylink_core::identity::InvalidId,
    },
}

fn list(candidates: &[Candidate]) -> String {
    candidates.iter().map(|c| format!("\n  {c}")).collect()
}

/// Finds the device that `text` means: a full id (known or not), a prefix of an id, or a name in any case.
///
/// A device the user paired with wins over one that is only seen or is revoked: otherwise anyone on the network could
/// take a name out of use by announcing it too.
pub(super) fn resolve<'a>(
    text: &str,
    peers: impl Iterator<Item = &'a PeerRecord> + Clone,
) -> Result<DeviceId, ResolveError> {
    let text = text.trim();
    if is_id(text) {
        return text.parse().map_err(|cause| ResolveError::NotAnId { text: text.to_owned(), cause });
    }
    let wanted = fold(text);
    let is_prefix = wanted.len() >= ID_PREFIX_DIGITS_MIN && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    let fits = |peer: &&PeerRecord| {
        fold(&peer.name) == wanted || (is_prefix && peer.id.to_string().starts_with(&wanted))
    };
    let all: Vec<_> = peers.clone().filter(fits).collect();
    let trusted: Vec<_> = all.iter().copied().filter(|peer| peer.trust.is_trusted()).collect();
    let fitting = if trusted.is_empty() { all } else { trusted };
    match fitting.as_slice() {
        [one] => Ok(one.id),
        [] => Err(ResolveError::NotFound { text: text.to_owned(), near: near_misses(&wanted, peers) }),
        several => Err(ResolveError::Ambiguous {
            text: text.to_owned(),
            candidates: several.iter().take(CANDIDATES_MAX).map(|peer| peer.candidate()).collect(),
        }),
    }
}

fn near_misses<'a>(wanted: &str, peers: impl Iterator<Item = &'a PeerRecord>) -> Vec<Candidate> {
    if wanted.len() > 2 * NAME_BYTES_MAX {
        return Vec::new();
    }
    let tolerance = 1 + wanted.chars().count() / 4;
    let mut near: Vec<_> = peers
        .filter_map(|peer| {
            let name = fold(&peer.name);
            let contained = !wanted.is_empty() && name.contains(wanted);
            let distance = if contained { 0 } else { edit_distance(wanted, &name) };
            (distance <= tolerance).then(|| (distance, !peer.trust.is_trusted(), peer))
        })
        .collect();
    near.sort_by_key(|(distance, stranger, peer)| (*distance, *stranger, peer.id));
    near.into_iter().take(CANDIDATES_MAX).map(|(_, _, peer)| peer.candidate()).collect()
}

/// Levenshtein distance in characters, one row at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let cost = (diagonal + usize::from(from != *to)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = cost;
            left = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;
    use proptest::prelude::*;

    fn peer(seed: u64, name: &str, trust: Trust) -> PeerRecord {
        let mut record = PeerRecord::seen(SecretKey::from_u64(seed).id(), 1);
        record.name = name.to_owned();
        record.trust = trust;
        record
    }

    #[test]
    fn names_that_deceive_are_refused_with_the_reason() {
        assert_eq!(check_name("  Büro  ").unwrap(), "Büro");
        assert_eq!(check_name("Bu\u{308}ro").unwrap(), "B\u{fc}ro");
        assert_eq!(check_name(" "), Err(InvalidName::Empty));
        assert_eq!(check_name("-rf"), Err(InvalidName::Option));
        assert_eq!(check_name("a\u{202e}b"), Err(InvalidName::Character { character: '\u{202e}' }));
        assert_eq!(check_name("a\nb"), Err(InvalidName::Character { character: '\n' }));
        assert_eq!(check_name(&"a".repeat(65)), Err(InvalidName::TooLong { bytes: 65 }));
        assert_eq!(check_name(&"ab".repeat(32)), Err(InvalidName::LooksLikeId));
    }

    #[test]
    fn edit_distance_counts_single_changes() {
        for (a, b, d) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("studio", "stduio", 2)] {
            assert_eq!(edit_distance(a, b), d, "{a} {b}");
            assert_eq!(edit_distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn a_name_an_id_or_a_prefix_resolve_to_the_device() {
        let peers = [peer(1, "Studio", Trust::Paired), peer(2, "Büro", Trust::Verified)];
        for text in ["studio", " STUDIO ", &peers[0].id.to_string(), &peers[0].id.to_string()[..4]] {
            assert_eq!(resolve(text, peers.iter()), Ok(peers[0].id), "{text}");
        }
        assert_eq!(resolve("BU\u{308}RO", peers.iter()), Ok(peers[1].id));
        let unknown = SecretKey::from_u64(9).id();
        assert_eq!(resolve(&unknown.to_string(), peers.iter()), Ok(unknown));
    }

    #[test]
    fn three_digits_are_too_few_to_stand_for_a_device() {
        let peers = [peer(1, "studio", Trust::Paired)];
        let error = resolve(&peers[0].id.to_string()[..3], peers.iter()).unwrap_err();
        assert!(matches!(error, ResolveError::NotFound { .. }));
    }

    #[test]
    fn an_ambiguous_name_lists_the_candidates() {
        let peers = [peer(1, "studio", Trust::Paired), peer(2, "Studio", Trust::Paired)];
        let error = resolve("studio", peers.iter()).unwrap_err();
        let shown = error.to_string();
        assert!(matches!(error, ResolveError::Ambiguous { candidates, .. } if candidates.len() == 2));
        assert!(peers.iter().all(|p| shown.contains(&p.id.short())), "{shown}");
    }

    #[test]
    fn a_stranger_can_not_take_a_paired_name_out_of_use() {
        let peers = [peer(1, "studio", Trust::Paired), peer(2, "studio", Trust::Seen)];
        assert_eq!(resolve("studio", peers.iter()), Ok(peers[0].id));
    }

    #[test]
    fn a_typing_error_is_answered_with_what_was_meant() {
        let peers = [peer(1, "studio", Trust::Paired), peer(2, "kitchen", Trust::Paired)];
        let Err(ResolveError::NotFound { near, .. }) = resolve("stduio", peers.iter()) else { panic!() };
        assert_eq!(near.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["studio"]);
    }

    #[test]
    fn disambiguated_names_stay_within_the_limit() {
        let long = "ü".repeat(31);
        let other = disambiguate(&long, |name| name == long);
        assert!(other.ends_with("-2") && other.len() <= NAME_BYTES_MAX);
        assert_eq!(disambiguate("a", |name| matches!(name, "a" | "a-2")), "a-3");
    }

    proptest! {
        #[test]
        fn whatever_is_announced_becomes_an_allowed_name(announced in any::<String>()) {
            let id = SecretKey::from_u64(1).id();
            let name = tame_name(&announced, &id);
            prop_assert_eq!(check_name(&name), Ok(name));
        }

        #[test]
        fn resolving_any_text_gives_an_answer(text in any::<String>()) {
            let peers = [peer(1, "studio", Trust::Paired)];
            let _ = resolve(&text, peers.iter());
        }
    }
}
