//! Radio: how long a frame is on the air, what the law allows, and how to talk to the modem.
//!
//! | module | what it is |
//! |---|---|
//! | [`airtime`] | time on air of LoRa packets and other frames, exact to the microsecond |
//! | [`class`] | what a port can carry at all |
//! | [`band`] | sub-bands with duty cycle and power; channels that keep to them |
//! | [`ledger`] | airtime used in the last hour, across restarts |
//! | [`scheduler`] | which frame goes next: by priority, within the duty cycle, never silently dropped |
//! | [`kiss`], [`rnode`] | frames and commands on the serial line to a modem |
//! | [`modem`] | the modem at its other end: set up, checked, sending one frame at a time |
//!
//! Sits below the mesh. Clause ids (RA-..) are those of docs/wire/radio.md.

pub mod airtime;
pub mod band;
pub mod class;
pub mod kiss;
pub mod ledger;
pub mod modem;
mod queue;
pub mod rnode;
pub mod scheduler;
mod window;

#[cfg(test)]
mod modem_tests;
#[cfg(test)]
mod scheduler_tests;

pub use self::airtime::{CodingRate, Header, Lora, LowDataRate, Pace};
pub use self::band::{Band, Channel, Region};
pub use self::class::{Class, Sealing, Traffic};
pub use self::ledger::Ledger;
pub use self::modem::{Dialect, Modem, Tuning};
pub use self::queue::{Frame, Priority};
pub use self::scheduler::Scheduler;

/// A setting that no radio has or no rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RadioError {
    /// Not a spreading factor we can time.
    #[error("spreading factor {given}: choose 7 to 12")]
    SpreadingFactor {
        /// What was asked for.
        given: u8,
    },
    /// Not a bandwidth of LoRa modems.
    #[error(
        "bandwidth {given_hz} Hz: choose one of 7800, 10400, 15600, 20800, 31250, 41700, 62500, 125000, 250000, 500000"
    )]
    Bandwidth {
        /// What was asked for, Hz.
        given_hz: u32,
    },
    /// Not a coding rate.
    #[error("coding rate 4/{given}: choose 5 to 8")]
    CodingRate {
        /// The denominator that was asked for.
        given: u8,
    },
    /// Too short for a receiver to find.
    #[error("a preamble of {given} symbols: choose at least {}", airtime::PREAMBLE_SYMBOLS_MIN)]
    Preamble {
        /// What was asked for, symbols.
        given: u16,
    },
    /// The frequency is in no band of the region.
    #[error("{centre_hz} Hz is in no band of {region}: nothing may be sent there")]
    BetweenBands {
        /// The centre, Hz.
        centre_hz: u32,
        /// The region's name.
        region: &'static str,
    },
    /// The channel sticks out of its band.
    #[error(
        "a channel from {low_hz} to {high_hz} Hz crosses the edge of a band of {region} at {edge_hz} Hz: \
         move the frequency or choose a smaller bandwidth"
    )]
    CrossesEdge {
        /// Lower side of the channel, Hz.
        low_hz: u64,
        /// Upper side of the channel, Hz.
        high_hz: u64,
        /// The edge it crosses, Hz.
        edge_hz: u32,
        /// The region's name.
        region: &'static str,
    },
    /// More power than the band allows.
    #[error(
        "{given_dbm} dBm is too much: the band allows {erp_max_dbm} dBm radiated, {max_dbm} dBm with this antenna"
    )]
    TooStrong {
        /// What was asked for, dBm.
        given_dbm: i8,
        /// The most that is allowed at the transmitter, dBm.
        max_dbm: i8,
        /// What the band allows, dBm effective radiated power.
        erp_max_dbm: i8,
    },
    /// A region of the user's own that makes no sense.
    #[error(
        "the bands of a region must be 1 to 16, not empty, apart, and have a duty cycle over 0 and up to 100 %"
    )]
    Bands,
}
