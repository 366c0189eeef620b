//! What two devices tell each other before an attempt, on a stream of its own of the link that they have by a relay.
//!
//! ```text
//! frame   = length u16 | version 1 | kind u8 | body
//! offer   = 1 | attempt [8] | view           from the controlling side
//! answer  = 2 | view                         the attempt begins
//! refusal = 3 | why u8                       it does not
//! view    = mapping u8 | filtering u8 | allocation u8 | step u16 | last u16 | count u8 | count * ticket
//! ticket  = observer [32] | salt [16] | address [19] | time u64 | signature [64]
//! ```

use bytes::{BufMut as _, BytesMut};

use super::behavior::{Allocation, Behavior, Filtering, Mapping};
use super::wire::{Attempt, Doubt, Stamp, Ticket, put_addr, take_addr};
use crate::identity::DeviceId;
use crate::limits::{NAT_OBSERVERS_MAX, NAT_TALK_BYTES_MAX};
use crate::wire::{Invalid, Reader};
use core::net::SocketAddr;

/// The version of this module's format.
pub const TALK_VERSION: u8 = 1;
/// Addresses in tickets are protected by the link already.
const UNMASKED: [u8; 16] = [0; 16];

/// How a device's box behaves, and where it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// How the box before it behaves, as it says itself.
    pub behavior: Behavior,
    /// Where it was seen, each by another observer; at most [`NAT_OBSERVERS_MAX`].
    pub tickets: Vec<Ticket>,
}

/// Why a view names no address to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nowhere {
    /// It has no ticket.
    #[error("it was seen by no observer")]
    Unseen,
    /// None of its tickets is good; what is wrong with the last.
    #[error("{0}")]
    Doubtful(#[from] Doubt),
}

impl View {
    /// Where `peer`, whose view this is, was reached, by the word of one of our `observers`.
    ///
    /// # Errors
    /// [`Nowhere`].
    pub fn target(&self, peer: &DeviceId, observers: &[DeviceId], now_s: u64) -> Result<SocketAddr, Nowhere> {
        let mut nowhere = Nowhere::Unseen;
        for ticket in &self.tickets {
            match ticket.check(peer, observers, now_s) {
                Ok(addr) => return Ok(addr),
                Err(doubt) => nowhere = doubt.into(),
            }
        }
        Err(nowhere)
    }
}

/// Why a device takes no part in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Its settings say so.
    Off,
    /// It is busy with others, or was asked too often.
    Busy,
    /// It knows no observer, or none answers.
    NoObserver,
    /// None of the tickets is of an observer that it trusts.
    NoTrust,
    /// From how both boxes behave, guessing is no use.
    NoPlan,
    /// It does not speak this version.
    Version,
    /// A reason of a later version.
    Other(u8),
}

impl Refusal {
    const fn as_u8(self) -> u8 {
        match self {
            Self::Off => 1,
            Self::Busy => 2,
            Self::NoObserver => 3,
            Self::NoTrust => 4,
            Self::NoPlan => 5,
            Self::Version => 6,
            Self::Other(code) => code,
        }
    }

    const fn from_u8(code: u8) -> Self {
        match code {
            1 => Self::Off,
            2 => Self::Busy,
            3 => Self::NoObserver,
            4 => Self::NoTrust,
            5 => Self::NoPlan,
            6 => Self::Version,
            other => Self::Other(other),
        }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Off => "hole punching is turned off there (nat.punch)",
            Self::Busy => "it is busy with other attempts",
            Self::NoObserver => "no observer answers there",
            Self::NoTrust => {
                "the two devices have no observer in common (a relay in node.relays, or nat.observers)"
            }
            Self::NoPlan => "from how both NATs behave, guessing ports is no use",
            Self::Version => "it speaks another version",
            Self::Other(code) => return write!(f, "it refused for a reason of a later version ({code})"),
        })
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Shall we try?
    Offer {
        /// Names the attempt.
        attempt: Attempt,
        /// The opener's.
        view: View,
    },
    /// We begin.
    Answer {
        /// The other side's.
        view: View,
    },
    /// We do not.
    Refusal(Refusal),
}

impl Talk {
    /// Its bytes, with the length before them.
    #[must_use]
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(NAT_TALK_BYTES_MAX);
        out.put_u16(0);
        out.put_u8(TALK_VERSION);
        match self {
            Self::Offer { attempt, view } => {
                out.put_u8(1);
                out.put_slice(attempt);
                put_view(&mut out, view);
            }
            Self::Answer { view } => {
                out.put_u8(2);
                put_view(&mut out, view);
            }
            Self::Refusal(why) => out.put_slice(&[3, why.as_u8()]),
        }
        let length = u16::try_from(out.len() - 2).unwrap_or(u16::MAX);
        out[..2].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// The body's length from the two bytes before it.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] over [`NAT_TALK_BYTES_MAX`].
    pub fn body_len(field: [u8; 2]) -> Result<usize, Invalid> {
        let size = usize::from(u16::from_be_bytes(field));
        if size > NAT_TALK_BYTES_MAX {
            let (size, max) = (size as u64, NAT_TALK_BYTES_MAX as u64);
            return Err(Invalid::TooLarge { what: "conversation", size, max });
        }
        Ok(size)
    }

    /// Reads a body, without the length. A later version is [`Refusal::Version`] in the error's place: see
    /// [`Talk::is_other_version`].
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn from_body(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body);
        if reader.u8("version")? != TALK_VERSION {
            return Err(Invalid::Value { what: "version" });
        }
        let talk = match reader.u8("kind")? {
            1 => {
                let attempt = reader.array("attempt")?;
                Self::Offer { attempt, view: take_view(&mut reader)? }
            }
            2 => Self::Answer { view: take_view(&mut reader)? },
            3 => Self::Refusal(Refusal::from_u8(reader.u8("why")?)),
            _ => return Err(Invalid::Value { what: "kind" }),
        };
        reader.finish("conversation")?;
        Ok(talk)
    }

    /// Whether a body is of a version that is not ours: to be answered with [`Refusal::Version`].
    #[must_use]
    pub fn is_other_version(body: &[u8]) -> bool {
        body.first().is_some_and(|version| *version != TALK_VERSION)
    }
}

fn put_view(out: &mut BytesMut, view: &View) {
    let Behavior { mapping, filtering, allocation } = view.behavior;
    out.put_u8(match mapping {
        Mapping::Unknown => 0,
        Mapping::None => 1,
        Mapping::EndpointIndependent => 2,
        Mapping::AddressDependent => 3,
        Mapping::AddressAndPortDependent => 4,
        Mapping::EndpointDependent => 5,
        Mapping::NotPortDependent => 6,
    });
    out.put_u8(match filtering {
        Filtering::Unknown => 0,
        Filtering::NotPortDependent => 1,
        Filtering::AddressAndPortDependent => 2,
    });
    let (kind, step, last) = match allocation {
        Allocation::Unknown => (0, 0, 0),
        Allocation::Preserving => (1, 0, 0),
        Allocation::Sequential { step, last } => (2, step, last),
        Allocation::Random => (3, 0, 0),
    };
    out.put_u8(kind);
    out.put_u16(step);
    out.put_u16(last);
    let tickets = view.tickets.iter().take(NAT_OBSERVERS_MAX);
    out.put_u8(u8::try_from(tickets.len()).unwrap_or(0));
    for ticket in tickets {
        out.put_slice(ticket.observer.as_bytes());
        out.put_slice(&ticket.salt);
        put_addr(out, ticket.stamp.addr, &UNMASKED);
        out.put_u64(ticket.stamp.at_s);
        out.put_slice(&ticket.stamp.signature);
    }
}

fn take_view(reader: &mut Reader<'_>) -> Result<View, Invalid> {
    let mapping = match reader.u8("mapping")? {
        0 => Mapping::Unknown,
        1 => Mapping::None,
        2 => Mapping::EndpointIndependent,
        3 => Mapping::AddressDependent,
        4 => Mapping::AddressAndPortDependent,
        5 => Mapping::EndpointDependent,
        6 => Mapping::NotPortDependent,
        _ => return Err(Invalid::Value { what: "mapping" }),
    };
    let filtering = match reader.u8("filtering")? {
        0 => Filtering::Unknown,
        1 => Filtering::NotPortDependent,
        2 => Filtering::AddressAndPortDependent,
        _ => return Err(Invalid::Value { what: "filtering" }),
    };
    let (kind, step, last) = (reader.u8("allocation")?, reader.u16("step")?, reader.u16("last")?);
    let allocation = match (kind, step, last) {
        (0, 0, 0) => Allocation::Unknown,
        (1, 0, 0) => Allocation::Preserving,
        (2, step, last) => Allocation::Sequential { step, last },
        (3, 0, 0) => Allocation::Random,
        _ => return Err(Invalid::Value { what: "allocation" }),
    };
    let count = usize::from(reader.u8("tickets")?);
    if count > NAT_OBSERVERS_MAX {
        return Err(Invalid::Value { what: "tickets" });
    }
    let tickets = (0..count).map(|_| take_ticket(reader)).collect::<Result<_, _>>()?;
    Ok(View { behavior: Behavior { mapping, filtering, allocation }, tickets })
}

fn take_ticket(reader: &mut Reader<'_>) -> Result<Ticket, Invalid> {
    let observer = DeviceId::from_bytes(reader.array("observer")?);
    let observer = observer.map_err(|_| Invalid::Value { what: "observer" })?;
    let salt = reader.array("salt")?;
    let addr = take_addr(reader, &UNMASKED)?;
    let at_s = u64::from_be_bytes(reader.array("time")?);
    let signature = reader.array("signature")?;
    Ok(Ticket { observer, salt, stamp: Stamp { addr, at_s, signature } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use crate::nat::wire::nonce;
    use proptest::prelude::*;

    fn ticket(observer: u64, who: u64) -> Ticket {
        let (key, salt) = (SecretKey::from_u64(observer), [5; 16]);
        let nonce = nonce(&SecretKey::from_u64(who).id(), &salt);
        let stamp = Stamp::sign(&key, &nonce, "203.0.113.9:7843".parse().unwrap(), 1_000);
        Ticket { observer: key.id(), salt, stamp }
    }

    fn view(tickets: u64) -> View {
        let behavior = Behavior {
            mapping: Mapping::AddressAndPortDependent,
            filtering: Filtering::AddressAndPortDependent,
            allocation: Allocation::Sequential { step: 2, last: 5_011 },
        };
        View { behavior, tickets: (0..tickets).map(|n| ticket(n + 1, 9)).collect() }
    }

    fn read(talk: &Talk) -> Result<Talk, Invalid> {
        let bytes = talk.to_bytes();
        let body = &bytes[2..];
        assert_eq!(Talk::body_len([bytes[0], bytes[1]]), Ok(body.len()));
        Talk::from_body(body)
    }

    #[test]
    fn every_frame_survives_the_wire_and_the_largest_fits() {
        let full = view(NAT_OBSERVERS_MAX as u64);
        let behavior = Behavior { mapping: Mapping::NotPortDependent, ..Behavior::default() };
        let port_independent = View { behavior, tickets: Vec::new() };
        for talk in [
            Talk::Offer { attempt: *b"attempt!", view: full.clone() },
            Talk::Answer { view: View::default() },
            Talk::Answer { view: port_independent },
            Talk::Answer { view: full },
            Talk::Refusal(Refusal::NoTrust),
            Talk::Refusal(Refusal::Other(77)),
        ] {
            assert_eq!(read(&talk), Ok(talk));
        }
    }

    #[test]
    fn a_later_version_is_told_apart_from_nonsense() {
        assert!(Talk::is_other_version(&[2, 9, 9]));
        assert!(!Talk::is_other_version(&[1, 9, 9]) && !Talk::is_other_version(&[]));
        assert!(Talk::from_body(&[2, 9, 9]).is_err());
    }

    #[test]
    fn a_view_names_an_address_only_by_the_word_of_an_observer_of_ours() {
        let (peer, ours) = (SecretKey::from_u64(9).id(), SecretKey::from_u64(3).id());
        let told = view(4);
        assert_eq!(told.target(&peer, &[ours], 1_050), Ok("203.0.113.9:7843".parse().unwrap()));
        let stranger = SecretKey::from_u64(77).id();
        assert!(matches!(told.target(&peer, &[stranger], 1_050), Err(Nowhere::Doubtful(Doubt::Observer(_)))));
        assert_eq!(
            told.target(&stranger, &[ours], 1_050),
            Err(Nowhere::Doubtful(Doubt::Observer(ticket(4, 9).observer)))
        );
        assert!(matches!(told.target(&peer, &[ours], 9_999), Err(Nowhere::Doubtful(_))));
        assert_eq!(View::default().target(&peer, &[ours], 0), Err(Nowhere::Unseen));
    }

    #[test]
    fn golden_nat_talk_has_the_bytes_of_version_1() {
        let hex = |talk: &Talk| data_encoding::HEXLOWER.encode(&talk.to_bytes());
        assert_eq!(hex(&Talk::Refusal(Refusal::Busy)), "0003010302");
        let view = View { tickets: Vec::new(), ..view(0) };
        assert_eq!(
            hex(&Talk::Offer { attempt: *b"attempt!", view: view.clone() }),
            "00120101617474656d7074210402020002139300"
        );
        assert_eq!(hex(&Talk::Answer { view }), "000a01020402020002139300");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            if let Ok(talk) = Talk::from_body(&bytes) {
                prop_assert_eq!(&talk.to_bytes()[2..], &bytes[..]);
            }
        }
    }
}
