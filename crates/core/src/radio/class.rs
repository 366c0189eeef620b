//! What a port can carry (requirement RA3): one word that decides how large a fragment is, how a frame is sealed, and
//! what is sent there at all.
//!
//! The class follows from what a port can move, not from what it is called: the time a packet of 100 bytes takes, and
//! the share of time the port may be on the air. So a fast radio with a small duty cycle counts as the slow radio it is.

use super::airtime::Pace;

/// The packet that a port is judged by, bytes: about one announce.
const PROBE_BYTES: usize = 100;
/// Sustained bits per second from which files may go.
const UNCONSTRAINED_BITS_PER_S: u64 = 1_000_000;
/// Sustained bits per second under which every byte counts.
const MEDIUM_BITS_PER_S: u64 = 16_000;
/// A packet of [`PROBE_BYTES`] that takes longer than this makes a port severe: a collision costs as much.
const SEVERE_PROBE_US: u64 = 1_000_000;
/// Sustained bits per second under which a port is severe, however fast its packets are.
const SEVERE_BITS_PER_S: u64 = 8;

/// What a port can carry, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A LAN or the internet: everything goes.
    Unconstrained,
    /// A short-range or serial link, from 16 kbit/s: messages and announces freely, no files.
    Medium,
    /// A radio on which 20 bytes matter.
    Constrained,
    /// A radio on which one packet takes a second or more.
    Severe,
}

/// How payload is protected on a port by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// A signature that anybody can check: 64 bytes.
    Signed,
    /// A code that only the two ends can check: 8 bytes. First contact is signed even so.
    Mac,
}

/// What a frame is for, as far as a port must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Routes, receipts, custody: what keeps the mesh together.
    Control,
    /// A beacon: a cheap refresh of an announce.
    Beacon,
    /// A signed announce.
    Announce,
    /// A message for a person or a program.
    Message,
    /// Key packages and service lists.
    Directory,
    /// Files and whatever else is large and can wait.
    Bulk,
}

impl Class {
    /// The byte used on the wire: 0 to 3, best first.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unconstrained => 0,
            Self::Medium => 1,
            Self::Constrained => 2,
            Self::Severe => 3,
        }
    }

    /// The class with this byte.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Unconstrained),
            1 => Some(Self::Medium),
            2 => Some(Self::Constrained),
            3 => Some(Self::Severe),
            _ => None,
        }
    }

    /// The class of a port with this pace that may be on the air `duty_ppm` millionths of the time.
    #[must_use]
    pub fn of(pace: &Pace, duty_ppm: u32) -> Self {
        let rate = pace.bits_per_second();
        let sustained = u128::from(rate) * u128::from(duty_ppm.min(1_000_000)) / 1_000_000;
        if pace.airtime_us(PROBE_BYTES) > SEVERE_PROBE_US || sustained < u128::from(SEVERE_BITS_PER_S) {
            Self::Severe
        } else if sustained < u128::from(MEDIUM_BITS_PER_S) {
            Self::Constrained
        } else if sustained < u128::from(UNCONSTRAINED_BITS_PER_S) {
            Self::Medium
        } else {
            Self::Unconstrained
        }
    }

    /// Largest frame put on such a port, bytes; a longer message is cut into fragments.
    ///
    /// On a severe port a lost fragment costs seconds, so fragments are small; but an announce (103 bytes) and a route
    /// reply must fit uncut.
    #[must_use]
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            Self::Unconstrained => 1200,
            Self::Medium => 480,
            Self::Constrained => 222,
            Self::Severe => 128,
        }
    }

    /// Largest message taken for such a port, bytes before it is cut.
    #[must_use]
    pub const fn message_bytes_max(self) -> usize {
        match self {
            Self::Unconstrained => 64 << 10,
            Self::Medium => 16 << 10,
            Self::Constrained => 4 << 10,
            Self::Severe => 512,
        }
    }

    /// How payload is protected there by default.
    #[must_use]
    pub const fn sealing(self) -> Sealing {
        match self {
            Self::Unconstrained | Self::Medium => Sealing::Signed,
            Self::Constrained | Self::Severe => Sealing::Mac,
        }
    }

    /// Whether announces keep to a share of the port's airtime.
    #[must_use]
    pub const fn rations_announces(self) -> bool {
        matches!(self, Self::Constrained | Self::Severe)
    }

    /// Whether such a port carries this at all.
    #[must_use]
    pub const fn carries(self, traffic: Traffic) -> bool {
        match traffic {
            Traffic::Control | Traffic::Beacon | Traffic::Announce | Traffic::Message => true,
            Traffic::Directory => !matches!(self, Self::Severe),
            Traffic::Bulk => matches!(self, Self::Unconstrained),
        }
    }

    /// The word used in configuration and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unconstrained => "unconstrained",
            Self::Medium => "medium",
            Self::Constrained => "constrained",
            Self::Severe => "severe",
        }
    }
}

impl core::fmt::Display for Class {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::{CodingRate, Lora};

    fn lora(sf: u8) -> Pace {
        Pace::Lora(Lora::new(sf, 125_000, CodingRate::Cr45).unwrap())
    }

    fn line(bits_per_s: u64) -> Pace {
        Pace::Rate { bits_per_s, latency_us: 0 }
    }

    #[test]
    fn ports_get_the_class_of_what_they_can_move() {
        assert_eq!(Class::of(&line(100_000_000), 1_000_000), Class::Unconstrained);
        assert_eq!(Class::of(&line(125_000), 1_000_000), Class::Medium);
        assert_eq!(Class::of(&line(9_600), 1_000_000), Class::Constrained);
        assert_eq!(Class::of(&line(600), 1_000_000), Class::Severe);
        for sf in 7..=9 {
            assert_eq!(Class::of(&lora(sf), 10_000), Class::Constrained, "SF{sf}");
        }
        for sf in 10..=12 {
            assert_eq!(Class::of(&lora(sf), 10_000), Class::Severe, "SF{sf}");
        }
        assert_eq!(Class::of(&lora(7), 1_000), Class::Severe, "0.1 % of a fast radio is a slow radio");
    }

    #[test]
    fn an_announce_fits_uncut_on_every_port() {
        for code in 0..4 {
            let class = Class::from_code(code).unwrap();
            assert_eq!(class.code(), code);
            assert!(class.frame_bytes_max() >= 103);
            assert!(class.carries(Traffic::Announce));
        }
        assert_eq!(Class::from_code(4), None);
    }
}
