//! Finding devices across the internet by the Mainline DHT of BitTorrent, if the settings say so.
//!
//! What is stored there and why it tells strangers nothing is decided in [`honeylink_core::wide`]; when it is stored and
//! asked for, in `crate::node`. Here is who speaks to the DHT: the crate `mainline`, with the feature `dht`. Without that
//! feature, asking for the DHT is an error of the settings.

#[cfg_attr(not(feature = "dht"), path = "absent.rs")]
mod dht;

use std::fmt;
use std::str::FromStr;

pub(crate) use self::dht::Dht;

/// Entry points of the DHT that anybody may use, run by makers of BitTorrent programs.
const PUBLIC_ENTRIES: [&str; 3] =
    ["router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "dht.libtorrent.org:25401"];
/// Most entry points.
pub const DHT_ENTRIES_MAX: usize = 8;
/// Longest entry point, in bytes: the longest host name and a port.
const ENTRY_BYTES_MAX: usize = 260;

/// How the DHT is entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhtOptions {
    entries: Vec<DhtEntry>,
}

impl DhtOptions {
    /// Enters by these nodes of the DHT, at most [`DHT_ENTRIES_MAX`]. Default, and for none: those that the makers of
    /// BitTorrent programs run for everybody.
    #[must_use]
    pub fn entries(mut self, entries: impl IntoIterator<Item = DhtEntry>) -> Self {
        self.entries = entries.into_iter().take(DHT_ENTRIES_MAX).collect();
        self
    }

    /// The entry points that are used.
    pub(crate) fn effective(&self) -> Vec<DhtEntry> {
        if self.entries.is_empty() {
            return PUBLIC_ENTRIES.iter().filter_map(|entry| entry.parse().ok()).collect();
        }
        self.entries.clone()
    }
}

/// A node of the DHT by which it is entered: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhtEntry(String);

/// The text names no entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry point of the DHT is a host and a port, as in router.example.org:6881")]
pub struct InvalidDhtEntry;

impl FromStr for DhtEntry {
    type Err = InvalidDhtEntry;

    fn from_str(text: &str) -> Result<Self, InvalidDhtEntry> {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':').ok_or(InvalidDhtEntry)?;
        let port_is_one = port.parse::<u16>().is_ok_and(|port| port != 0);
        let host_is_one = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if text.len() > ENTRY_BYTES_MAX || !port_is_one || !host_is_one {
            return Err(InvalidDhtEntry);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DhtEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a node does in the DHT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DhtState {
    /// The entry points.
    pub entries: Vec<String>,
    /// Paired devices for which a note lies there now.
    pub told: usize,
    /// When notes were stored last, by the wall clock, in milliseconds since 1970.
    pub stored_unix_ms: Option<u64>,
    /// What went wrong last, for people; `None` once it works again.
    pub problem: Option<String>,
}

/// Why the DHT was of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DhtError {
    /// No entry point has an address.
    #[error("no entry point of the DHT has an IPv4 address ({0}); is this machine online?")]
    NoEntry(String),
    /// The system gave no socket.
    #[error("no UDP socket for the DHT: {0}")]
    Socket(String),
    /// Nobody answered.
    #[error("nobody in the DHT answers; does this network let UDP out, and is node.dht_entries right?")]
    Silent,
    /// Something newer is stored under the key.
    #[error("the DHT has something newer already; is the clock of this machine right?")]
    Behind,
    /// Its nodes answered, and did not store.
    #[error("the DHT did not store it: {0}")]
    Refused(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

/// What was found under a key; its signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) seq: u64,
    pub(crate) value: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_point_is_a_host_and_a_port() {
        for text in ["router.example.org:6881", " 127.0.0.1:1 ", "a:65535"] {
            assert_eq!(text.parse::<DhtEntry>().unwrap().to_string(), text.trim());
        }
        for text in
            ["", "router", "router:", ":6881", "router:0", "router:65536", "a b:1", "a/b:1", "[::1]:1"]
        {
            assert_eq!(text.parse::<DhtEntry>(), Err(InvalidDhtEntry), "{text}");
        }
    }

    #[test]
    fn without_entry_points_of_ones_own_those_for_everybody_are_used() {
        assert_eq!(DhtOptions::default().effective().len(), PUBLIC_ENTRIES.len());
        let own = "127.0.0.1:6881".parse::<DhtEntry>().unwrap();
        assert_eq!(DhtOptions::default().entries([own.clone()]).effective(), [own]);
    }
}
