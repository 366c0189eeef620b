//! The packets: what a device says about itself in the strings of a TXT record, filled up so that no answer is longer than
//! its question.

use crate::identity::DeviceId;
use crate::mdns::Announcement;
use crate::nearby::{InvalidTxt, TxtRecord};
use crate::wire::{Invalid, Reader};

/// Every packet is this long, in bytes. An answer as long as its question cannot be used to flood a third party.
pub const PACKET_BYTES: usize = 256;
/// Longer packets are of a later version that says more; what is longer than this is nobody's.
pub const PACKET_BYTES_MAX: usize = 1200;

const MAGIC: [u8; 4] = *b"HLkn";
/// Strings of a packet that are looked at; ours has six.
const PAIRS_MAX: usize = 32;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whoever is here, say so. Sent to everybody.
    AskAll,
    /// Are you one of us? Sent to one address.
    AskOne,
    /// This is who I am: an answer to everybody's question, or news.
    Tell,
    /// This is who I am: an answer to a question to this address alone.
    TellOne,
    /// I am going.
    Bye,
}

impl Kind {
    const ALL: [Self; 5] = [Self::AskAll, Self::AskOne, Self::Tell, Self::TellOne, Self::Bye];

    const fn as_u8(self) -> u8 {
        match self {
            Self::AskAll => 1,
            Self::AskOne => 2,
            Self::Tell => 3,
            Self::TellOne => 4,
            Self::Bye => 5,
        }
    }
}

/// A packet that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is for.
    pub kind: Kind,
    /// Who sent it; `None` if it does not say, because it takes no links.
    pub sender: Option<Announcement>,
}

/// Why a packet was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Not one of ours, or cut.
    #[error("not a packet of this protocol: {0}")]
    Packet(#[from] Invalid),
    /// It names no device.
    #[error("{0}")]
    Txt(#[from] InvalidTxt),
    /// A question shorter than an answer: somebody may want the difference sent to a third party.
    #[error("a question shorter than its answer")]
    Short,
    /// More questions at once than are answered.
    #[error("more questions than are answered")]
    TooMany,
}

impl Packet {
    /// The bytes of a packet.
    #[must_use]
    pub fn encode(kind: Kind, sender: Option<&Announcement>) -> Vec<u8> {
        let mut out = Vec::with_capacity(PACKET_BYTES);
        out.extend_from_slice(&MAGIC);
        out.push(kind.as_u8());
        out.extend_from_slice(&sender.map_or(0, |sender| sender.port).to_be_bytes());
        for (key, value) in sender.map(|sender| sender.txt.encode()).unwrap_or_default() {
            // Every pair of a TXT record is shorter than 255 bytes, and all of them fit.
            let Ok(len) = u8::try_from(key.len() + 1 + value.len()) else { continue };
            if out.len() + 1 + usize::from(len) <= PACKET_BYTES {
                out.push(len);
                out.extend_from_slice(key.as_bytes());
                out.push(b'=');
                out.extend_from_slice(value.as_bytes());
            }
        }
        out.resize(PACKET_BYTES, 0);
        out
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// [`Ignored`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Ignored> {
        if bytes.len() > PACKET_BYTES_MAX {
            let (size, max) = (bytes.len() as u64, PACKET_BYTES_MAX as u64);
            return Err(Invalid::TooLarge { what: "knock", size, max }.into());
        }
        let mut reader = Reader::new(bytes);
        if reader.array("knock")? != MAGIC {
            return Err(Invalid::Value { what: "knock" }.into());
        }
        let kind = reader.u8("knock")?;
        let kind = Kind::ALL.into_iter().find(|known| known.as_u8() == kind);
        let kind = kind.ok_or(Invalid::Value { what: "knock" })?;
        if matches!(kind, Kind::AskAll | Kind::AskOne) && bytes.len() < PACKET_BYTES {
            return Err(Ignored::Short);
        }
        let port = reader.u16("knock")?;
        let mut pairs = Vec::new();
        while pairs.len() < PAIRS_MAX {
            let string = reader.u8("knock").and_then(|len| reader.take(usize::from(len), "knock"));
            let Some(string) = string.ok().filter(|string| !string.is_empty()) else { break };
            let at = string.iter().position(|b| *b == b'=').unwrap_or(string.len());
            if let Ok(key) = core::str::from_utf8(&string[..at]) {
                pairs.push((key, string.get(at + 1..).unwrap_or_default()));
            }
        }
        if pairs.is_empty() || (port == 0 && kind != Kind::Bye) {
            return Ok(Self { kind, sender: None });
        }
        Ok(Self { kind, sender: Some(Announcement { txt: TxtRecord::parse(&pairs)?, port }) })
    }

    /// Whether `id` sent it.
    #[must_use]
    pub fn is_of(&self, id: &DeviceId) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.txt.id == *id)
    }
}
