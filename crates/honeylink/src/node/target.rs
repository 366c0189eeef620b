//! How an application says which device it means, and what can go wrong on the way there.

use std::net::SocketAddr;
use std::str::FromStr;

use bytes::{BufMut as _, BytesMut};
use data_encoding::BASE32_NOPAD;
use honeylink_core::identity::DeviceId;
use honeylink_core::session::Closer;
use honeylink_core::wire::Reader;
use honeylink_core::wire::link::CloseCode;
use honeylink_core::wire::relay::RelayAddr;

use super::Inner;
use crate::link::shared::LinkShared;
use crate::store::ResolveError;

/// Most addresses in a ticket.
const TICKET_ADDRS_MAX: usize = 8;
/// Most relays in a ticket.
const TICKET_RELAYS_MAX: usize = honeylink_core::limits::RELAYS_PER_DEVICE_MAX;
/// What stands before a relay, where an address has its family.
const TICKET_RELAY: u8 = 7;
/// What a ticket's text starts with.
const TICKET_PREFIX: &str = "HONEYLINK:T/";
/// Longest text after that, in bytes: eight IPv6 addresses and four relays with the longest names.
const TICKET_BODY_BYTES_MAX: usize = 2304;
/// The first byte of a ticket.
const TICKET_VERSION: u8 = 1;

/// A device, as an application names it.
#[derive(Clone, Debug)]
pub enum Target {
    /// By its key.
    Id(DeviceId),
    /// By name, id or unambiguous id prefix.
    Name(String),
    /// By ticket.
    Ticket(Ticket),
}

impl From<DeviceId> for Target {
    fn from(id: DeviceId) -> Self {
        Self::Id(id)
    }
}

impl From<Ticket> for Target {
    fn from(ticket: Ticket) -> Self {
        Self::Ticket(ticket)
    }
}

impl From<&str> for Target {
    /// A ticket if it looks like one, or else a name.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Ticket)
    }
}

/// A device's id and addresses as one piece of text: `HONEYLINK:T/` and upper-case base32. It grants nothing; whoever
/// has it can knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The device.
    pub id: DeviceId,
    /// Where it may be reached; at most eight are written.
    pub addrs: Vec<SocketAddr>,
    /// The relays through which it is reached; at most four are written.
    pub relays: Vec<RelayAddr>,
}

/// The text is no ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ticket: {0}; a ticket starts with {TICKET_PREFIX}")]
pub struct InvalidTicket(String);

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = BytesMut::new();
        bytes.put_u8(TICKET_VERSION);
        bytes.put_slice(self.id.as_bytes());
        for addr in self.addrs.iter().take(TICKET_ADDRS_MAX) {
            match addr {
                SocketAddr::V4(v4) => {
                    bytes.put_u8(4);
                    bytes.put_slice(&v4.ip().octets());
                }
                SocketAddr::V6(v6) => {
                    bytes.put_u8(6);
                    bytes.put_slice(&v6.ip().octets());
                }
            }
            bytes.put_u16(addr.port());
        }
        for relay in self.relays.iter().take(TICKET_RELAYS_MAX) {
            bytes.put_u8(TICKET_RELAY);
            relay.encode(&mut bytes);
        }
        write!(f, "{TICKET_PREFIX}{}", BASE32_NOPAD.encode(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = InvalidTicket;

    fn from_str(text: &str) -> Result<Self, InvalidTicket> {
        let invalid = |why: &str| InvalidTicket(why.to_owned());
        let upper = text.trim().to_ascii_uppercase();
        let body = upper.strip_prefix(TICKET_PREFIX).ok_or_else(|| invalid("wrong prefix"))?;
        if body.len() > TICKET_BODY_BYTES_MAX {
            return Err(invalid("too long"));
        }
        let bytes = BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| invalid("not base32"))?;
        let wire = |e: honeylink_core::wire::Invalid| InvalidTicket(e.to_string());
        let mut r = Reader::new(&bytes);
        if r.u8("ticket version").map_err(wire)? != TICKET_VERSION {
            return Err(invalid("a version this build does not know"));
        }
        let id = DeviceId::from_bytes(r.array("ticket id").map_err(wire)?)
            .map_err(|e| InvalidTicket(e.to_string()))?;
        let (mut addrs, mut relays) = (Vec::new(), Vec::new());
        while r.remaining() > 0 {
            let ip: std::net::IpAddr = match r.u8("address family").map_err(wire)? {
                4 => r.array::<4>("address").map_err(wire)?.into(),
                6 => r.array::<16>("address").map_err(wire)?.into(),
                TICKET_RELAY if relays.len() < TICKET_RELAYS_MAX => {
                    relays.push(RelayAddr::decode(&mut r).map_err(wire)?);
                    continue;
                }
                TICKET_RELAY => return Err(invalid("too many relays")),
                _ => return Err(invalid("an unknown address family")),
            };
            if addrs.len() == TICKET_ADDRS_MAX {
                return Err(invalid("too many addresses"));
            }
            addrs.push(SocketAddr::new(ip, r.u16("port").map_err(wire)?));
        }
        Ok(Self { id, addrs, relays })
    }
}

/// Why a link could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name fits no device, or several.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A protocol name has 1 to 64 printable ASCII characters without spaces.
    #[error("`{0}` cannot name a protocol: use 1 to 64 printable ASCII characters without spaces")]
    InvalidProtocol(String),
    /// The target is this device.
    #[error("that is this device itself")]
    Myself,
    /// The devices are not paired.
    #[error("not paired with {}: run `honeylink pair` on both devices first", .0.short())]
    NotPaired(DeviceId),
    /// The device was revoked here.
    #[error("{} was revoked on this device", .0.short())]
    Revoked(DeviceId),
    /// Nothing answered in time.
    #[error("{} could not be reached: {reason}", peer.short())]
    Unreachable {
        /// The device.
        peer: DeviceId,
        /// The last failure.
        reason: String,
    },
    /// The peer answered and refused.
    #[error("the other device refused: {reason}")]
    Refused {
        /// Why, as a code.
        code: CloseCode,
        /// Why, for people.
        reason: String,
    },
    /// This node has too many links to the peer.
    #[error("too many links to this peer are open; close one first")]
    TooManyLinks,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Stopped,
}

impl ConnectError {
    /// The error for a link that closed before it was ever active.
    pub(super) fn from_closed(shared: &LinkShared) -> Self {
        let reason = shared.why_closed().0;
        let peer = shared.peer();
        match (reason.by, reason.code) {
            (Closer::Timeout, _) => {
                let reason = shared.last_failure().unwrap_or_else(|| "it did not answer in time".into());
                Self::Unreachable { peer, reason }
            }
            (Closer::Us, CloseCode::Shutdown) => Self::Stopped,
            (Closer::Us, CloseCode::NotAllowed) => Self::NotPaired(peer),
            (_, code) => {
                let text = if reason.text.is_empty() { code.to_string() } else { reason.text };
                Self::Refused { code, reason: text }
            }
        }
    }
}

/// Why a protocol cannot be listened for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// As in [`ConnectError::InvalidProtocol`].
    #[error("`{0}` cannot name a protocol: use 1 to 64 printable ASCII characters without spaces")]
    InvalidProtocol(String),
    /// One listener per protocol.
    #[error("somebody listens for `{0}` already")]
    AlreadyListening(String),
}

impl Inner {
    /// The device that is meant, checked to be paired.
    pub(super) fn resolve(&self, target: Target) -> Result<DeviceId, ConnectError> {
        let id = match target {
            Target::Id(id) => id,
            Target::Name(name) => self.store.trust().resolve(&name)?,
            Target::Ticket(ticket) => {
                self.add_addresses(ticket.id, &ticket.addrs);
                self.add_relays(ticket.id, &ticket.relays);
                ticket.id
            }
        };
        if id == self.id {
            return Err(ConnectError::Myself);
        }
        match self.store.trust().trust(&id) {
            Some(trust) if trust.is_trusted() => Ok(id),
            Some(crate::store::Trust::Revoked) => Err(ConnectError::Revoked(id)),
            Some(_) | None => Err(ConnectError::NotPaired(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;

    #[test]
    fn tickets_round_trip_in_either_case() {
        let ticket = Ticket {
            id: SecretKey::from_u64(1).id(),
            addrs: vec!["192.0.2.7:7843".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()],
            relays: vec!["https://r.org#00112233445566778899aabbccddeeff".parse().unwrap()],
        };
        let text = ticket.to_string();
        assert_eq!(text.parse(), Ok(ticket.clone()));
        assert_eq!(text.to_lowercase().parse(), Ok(ticket));
    }

    #[test]
    fn what_is_no_ticket_says_so() {
        for text in ["", "HONEYLINK:T/", "HONEYLINK:T/!!", "studio", "HONEYLINK:T/AAAA"] {
            assert!(text.parse::<Ticket>().is_err(), "{text}");
        }
    }
}
