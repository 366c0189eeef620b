//! What a paired peer may do. Nothing is granted to a device that is only seen, and nothing to a revoked one.
//!
//! On disk a grant set is a list of `tag, value` pairs. A tag that this version does not know is skipped: a right we do
//! not understand is a right not given.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bytes::BytesMut;
use honeylink_core::wire::{Invalid, Reader, put_bytes, put_varint};

use super::limits::{GRANTS_BYTES_MAX, TUNNEL_GRANTS_MAX, TUNNEL_NAME_BYTES_MAX};

/// What happens when the peer offers files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilesGrant {
    /// Offers are declined.
    #[default]
    No,
    /// The user is asked each time.
    Ask,
    /// Offers are accepted into the inbox.
    Auto,
}

impl FilesGrant {
    /// The word used on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Ask => "ask",
            Self::Auto => "auto",
        }
    }
}

/// The rights of one peer. The default grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Sending us files.
    pub files: FilesGrant,
    /// Sending us messages.
    pub chat: bool,
    /// Setting and reading our clipboard.
    pub clipboard: bool,
    /// Piping bytes to our standard output.
    pub pipe: bool,
    /// Having traffic relayed by us.
    pub relay: bool,
    tunnels: BTreeSet<String>,
}

impl Grants {
    /// Nothing at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What a peer may do right after pairing: message us, and offer files that we are asked about.
    #[must_use]
    pub fn after_pairing() -> Self {
        Self { files: FilesGrant::Ask, chat: true, ..Self::default() }
    }

    /// The tunnels the peer may connect to, in order.
    pub fn tunnels(&self) -> impl Iterator<Item = &str> {
        self.tunnels.iter().map(String::as_str)
    }

    /// Whether the peer may connect to the tunnel of this name.
    #[must_use]
    pub fn tunnel(&self, name: &str) -> bool {
        self.tunnels.contains(name)
    }

    /// Makes one change.
    ///
    /// # Errors
    /// [`GrantError::TooManyTunnels`] when one more tunnel would be one too many.
    pub fn apply(&mut self, change: &GrantChange) -> Result<(), GrantError> {
        match change {
            GrantChange::Files(grant) => self.files = *grant,
            GrantChange::Chat(yes) => self.chat = *yes,
            GrantChange::Clipboard(yes) => self.clipboard = *yes,
            GrantChange::Pipe(yes) => self.pipe = *yes,
            GrantChange::Relay(yes) => self.relay = *yes,
            GrantChange::Tunnel(name, true) => {
                if self.tunnels.len() >= TUNNEL_GRANTS_MAX && !self.tunnels.contains(name.as_str()) {
                    return Err(GrantError::TooManyTunnels);
                }
                self.tunnels.insert(name.as_str().to_owned());
            }
            GrantChange::Tunnel(name, false) => {
                self.tunnels.remove(name.as_str());
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        let mut entry = |tag: u64, value: &[u8]| {
            put_varint(&mut out, tag);
            put_bytes(&mut out, value);
        };
        entry(
            TAG_FILES,
            &[match self.files {
                FilesGrant::No => 0,
                FilesGrant::Ask => 1,
                FilesGrant::Auto => 2,
            }],
        );
        for (tag, yes) in [
            (TAG_CHAT, self.chat),
            (TAG_CLIPBOARD, self.clipboard),
            (TAG_PIPE, self.pipe),
            (TAG_RELAY, self.relay),
        ] {
            entry(tag, &[u8::from(yes)]);
        }
        for name in &self.tunnels {
            entry(TAG_TUNNEL, name.as_bytes());
        }
        let mut framed = BytesMut::with_capacity(out.len() + 2);
        put_bytes(&mut framed, &out);
        framed
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let mut rest = Reader::new(reader.bytes(GRANTS_BYTES_MAX, "grants")?);
        let mut grants = Self::none();
        while rest.remaining() > 0 {
            let tag = rest.varint("grant")?;
            let value = rest.bytes(GRANTS_BYTES_MAX, "grant value")?;
            match tag {
                TAG_FILES => {
                    grants.files = match value {
                        [0] => FilesGrant::No,
                        [1] => FilesGrant::Ask,
                        [2] => FilesGrant::Auto,
                        _ => return Err(Invalid::Value { what: "files grant" }),
                    }
                }
                TAG_CHAT => grants.chat = yes_or_no(value)?,
                TAG_CLIPBOARD => grants.clipboard = yes_or_no(value)?,
                TAG_PIPE => grants.pipe = yes_or_no(value)?,
                TAG_RELAY => grants.relay = yes_or_no(value)?,
                TAG_TUNNEL => {
                    let name = core::str::from_utf8(value)
                        .ok()
                        .and_then(|text| TunnelName::new(text).ok())
                        .ok_or(Invalid::Value { what: "tunnel grant" })?;
                    grants
                        .apply(&GrantChange::Tunnel(name, true))
                        .map_err(|_| Invalid::Value { what: "tunnel grants" })?;
                }
                _ => {}
            }
        }
        Ok(grants)
    }
}

const TAG_FILES: u64 = 1;
const TAG_CHAT: u64 = 2;
const TAG_CLIPBOARD: u64 = 3;
const TAG_PIPE: u64 = 4;
const TAG_RELAY: u64 = 5;
const TAG_TUNNEL: u64 = 6;

const fn yes_or_no(value: &[u8]) -> Result<bool, Invalid> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Invalid::Value { what: "grant" }),
    }
}

/// As the command line takes it back: `files=ask chat=yes clipboard=no pipe=no relay=no tunnel:web=yes`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "files={}", self.files.as_str())?;
        for (name, yes) in
            [("chat", self.chat), ("clipboard", self.clipboard), ("pipe", self.pipe), ("relay", self.relay)]
        {
            write!(f, " {name}={}", if yes { "yes" } else { "no" })?;
        }
        for name in &self.tunnels {
            write!(f, " tunnel:{name}=yes")?;
        }
        Ok(())
    }
}

/// A tunnel's name: 1 to 63 bytes of letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelName(String);

impl TunnelName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`GrantError::TunnelName`] if it is empty, too long or has other characters.
    pub fn new(name: &str) -> Result<Self, GrantError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > TUNNEL_NAME_BYTES_MAX || !name.chars().all(allowed) {
            return Err(GrantError::TunnelName { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One change to a set of grants, as typed: `files=auto`, `chat=no`, `tunnel:web=yes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantChange {
    /// What happens to offered files.
    Files(FilesGrant),
    /// Messages.
    Chat(bool),
    /// Clipboard.
    Clipboard(bool),
    /// Pipes.
    Pipe(bool),
    /// Relaying for the peer.
    Relay(bool),
    /// One tunnel.
    Tunnel(TunnelName, bool),
}

/// Why some text is no grant, or a grant can not be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// No `=`.
    #[error("`{text}` is not a grant; write it as RIGHT=VALUE, for example files=auto")]
    NoValue {
        /// What was typed.
        text: String,
    },
    /// A right that does not exist.
    #[error(
        "there is no right called `{right}` (there are files, chat, clipboard, pipe, relay and tunnel:NAME)"
    )]
    UnknownRight {
        /// What was typed.
        right: String,
    },
    /// A value the right does not take.
    #[error("`{value}` is not a value of {right} (it takes {allowed})")]
    UnknownValue {
        /// The right.
        right: String,
        /// What was typed.
        value: String,
        /// What it could have been.
        allowed: &'static str,
    },
    /// A name no tunnel can have.
    #[error(
        "`{name}` is not a tunnel's name (1 to {TUNNEL_NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`)"
    )]
    TunnelName {
        /// What was typed.
        name: String,
    },
    /// The peer already has as many tunnels as it may.
    #[error("a peer can be granted {TUNNEL_GRANTS_MAX} tunnels at most; take one back first")]
    TooManyTunnels,
}

impl FromStr for GrantChange {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (right, value) =
            text.split_once('=').ok_or_else(|| GrantError::NoValue { text: text.to_owned() })?;
        let unknown =
            |allowed| GrantError::UnknownValue { right: right.to_owned(), value: value.to_owned(), allowed };
        let yes = || match value {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(unknown("yes or no")),
        };
        match right {
            "files" => [FilesGrant::No, FilesGrant::Ask, FilesGrant::Auto]
                .into_iter()
                .find(|grant| grant.as_str() == value)
                .map(Self::Files)
                .ok_or_else(|| unknown("ask, auto or no")),
            "chat" => yes().map(Self::Chat),
            "clipboard" => yes().map(Self::Clipboard),
            "pipe" => yes().map(Self::Pipe),
            "relay" => yes().map(Self::Relay),
            _ => match right.strip_prefix("tunnel:") {
                Some(name) => Ok(Self::Tunnel(TunnelName::new(name)?, yes()?)),
                None => Err(GrantError::UnknownRight { right: right.to_owned() }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Grants, Invalid> {
        let mut reader = Reader::new(bytes);
        let grants = Grants::decode(&mut reader)?;
        reader.finish("grants")?;
        Ok(grants)
    }

    #[test]
    fn pairing_grants_messages_and_asks_for_files_and_nothing_else() {
        assert_eq!(Grants::after_pairing().to_string(), "files=ask chat=yes clipboard=no pipe=no relay=no");
        assert_eq!(Grants::none().to_string(), "files=no chat=no clipboard=no pipe=no relay=no");
    }

    #[test]
    fn what_is_shown_can_be_typed_back() {
        let mut grants = Grants::none();
        for change in "files=auto clipboard=yes tunnel:web=yes tunnel:ssh=yes".split(' ') {
            grants.apply(&change.parse().unwrap()).unwrap();
        }
        let mut again = Grants::none();
        for change in grants.to_string().split(' ') {
            again.apply(&change.parse().unwrap()).unwrap();
        }
        assert_eq!(again, grants);
        grants.apply(&"tunnel:web=no".parse().unwrap()).unwrap();
        assert_eq!(grants.tunnels().collect::<Vec<_>>(), ["ssh"]);
    }

    #[test]
    fn a_wrong_grant_names_what_is_allowed() {
        let say = |text: &str| text.parse::<GrantChange>().unwrap_err().to_string();
        assert!(say("files=yes").contains("ask, auto or no"));
        assert!(say("chat=maybe").contains("yes or no"));
        assert!(say("root=yes").contains("tunnel:NAME"));
        assert!(say("files").contains("files=auto"));
        assert!(say("tunnel:a b=yes").contains("letters"));
    }

    #[test]
    fn tunnels_are_bounded() {
        let mut grants = Grants::none();
        for n in 0..TUNNEL_GRANTS_MAX {
            let name = TunnelName::new(&format!("{n:0>63}")).unwrap();
            grants.apply(&GrantChange::Tunnel(name, true)).unwrap();
        }
        let more = GrantChange::Tunnel(TunnelName::new("more").unwrap(), true);
        assert_eq!(grants.apply(&more), Err(GrantError::TooManyTunnels));
        assert!(grants.encode().len() <= GRANTS_BYTES_MAX, "a full set still fits its record");
        assert_eq!(decode(&grants.encode()), Ok(grants));
    }

    #[test]
    fn a_right_of_a_newer_version_is_not_given_and_not_an_error() {
        let mut inner = BytesMut::new();
        put_varint(&mut inner, 999);
        put_bytes(&mut inner, b"everything");
        put_varint(&mut inner, TAG_CHAT);
        put_bytes(&mut inner, &[1]);
        let mut framed = BytesMut::new();
        put_bytes(&mut framed, &inner);
        assert_eq!(decode(&framed), Ok(Grants { chat: true, ..Grants::none() }));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode(&bytes);
        }
    }
}
