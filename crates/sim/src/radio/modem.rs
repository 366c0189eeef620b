//! A node's radio as the rest of its program sees it: the product's scheduler, which keeps the duty cycle, and behind it
//! a modem that takes one frame at a time and listens before it talks.

use std::collections::BTreeMap;

use bytes::Bytes;
use honeylink_core::radio::scheduler::{Config, Fate, Input, Outcome, Output, Past};
use honeylink_core::radio::{CodingRate, Frame, Lora, Pace, RadioError, Region, Scheduler};
use honeylink_core::time::{Deadline, Time};

use super::Settings;
use crate::chance::Chance;
use crate::clock::Moment;
use crate::device::Class;

/// Slots drawn from at the first attempt.
const WINDOW_MIN: u64 = 8;
/// Slots drawn from when the channel stays busy.
const WINDOW_MAX: u64 = 64;
/// Length of a slot in microseconds, at least; what modems of this kind use.
const SLOT_US_MIN: u64 = 24_000;

/// Stands in for the bytes of modelled frames.
static BLANK: [u8; 255] = [0; 255];

/// How the scheduler is set up: what the product's node would do for a radio like this.
///
/// # Errors
/// [`RadioError`] names the setting that no modem has or no rule allows.
pub fn scheduler_config(settings: &Settings, durable: bool) -> Result<Config, RadioError> {
    let coding = CodingRate::from_denominator(settings.coding)?;
    let lora =
        Lora::new(settings.spreading, settings.bandwidth_hz, coding)?.with_preamble(settings.preamble)?;
    let channel = Region::EU868.channel(settings.frequency_hz, settings.bandwidth_hz)?;
    let frame_bytes_max = honeylink_core::radio::airtime::PACKET_BYTES_MAX;
    Ok(Config { durable, ..Config::new(Pace::Lora(lora), channel.band(), frame_bytes_max) })
}

/// What a modem has in hand.
enum Hand {
    Nothing,
    /// A frame that waits for a free channel.
    Contending {
        token: u64,
        airtime_us: u64,
        until: Moment,
    },
    /// A frame on the air.
    Speaking {
        token: u64,
    },
}

/// What a modem tells its node.
pub enum Word {
    /// A frame ended.
    Sent {
        /// The device's number for it.
        token: u64,
        /// How.
        fate: Fate,
    },
    /// Write these bytes and confirm the number.
    Save {
        /// The number.
        number: u64,
        /// The scheduler's state.
        bytes: Bytes,
    },
    /// Call [`Modem::listen`] then.
    Listen(Moment),
}

/// What a modem does after listening.
pub enum Next {
    /// Nothing; it was not waiting for this.
    Nothing,
    /// The channel is busy; listen again then.
    At(Moment),
    /// Speaks now.
    Speak {
        /// The frame.
        bytes: Bytes,
        /// How long it takes, in microseconds.
        airtime_us: u64,
        /// What it is for.
        class: Class,
    },
}

/// A radio of a node.
pub struct Modem {
    scheduler: Scheduler,
    hand: Hand,
    slot_us: u64,
    window: u64,
    /// The frames under way and what they are for, by token.
    under_way: BTreeMap<u64, (Class, Bytes)>,
    chance: Chance,
}

impl Modem {
    /// A radio that starts at `now` on its node's clock.
    #[must_use]
    pub fn new(now: Time, settings: &Settings, config: Config, past: Past<'_>, chance: Chance) -> Self {
        let mut scheduler = Scheduler::new(now, config, past);
        scheduler.handle(now, Input::Up);
        let slot_us = SLOT_US_MIN.max(4 * settings.symbol_us());
        Self {
            scheduler,
            hand: Hand::Nothing,
            slot_us,
            window: WINDOW_MIN,
            under_way: BTreeMap::new(),
            chance,
        }
    }

    /// Takes a frame of the device. `length` is how many bytes it takes on the air, if not as many as it has.
    pub fn submit(&mut self, now: Time, mut frame: Frame, class: Class, length: Option<usize>) {
        self.under_way.insert(frame.token, (class, frame.bytes.clone()));
        if let Some(length) = length {
            // The scheduler and the air see as many bytes as the modelled format has; receivers see the frame itself.
            frame.bytes = Bytes::from_static(&BLANK).slice(..length.min(BLANK.len()));
        }
        self.scheduler.handle(now, Input::Submit(frame));
    }

    /// Takes a frame back if the modem does not have it yet; [`Word::Sent`] tells.
    pub fn withdraw(&mut self, now: Time, token: u64) {
        if let Hand::Contending { token: held, .. } = self.hand
            && held == token
        {
            // Modems cannot give a frame back, but this one has not begun: as with a driver that waits for its modem.
            self.hand = Hand::Nothing;
            self.scheduler.handle(now, Input::Done { token, outcome: Outcome::NotAired });
        }
        self.scheduler.handle(now, Input::Cancel(token));
    }

    /// What the scheduler asked to be saved is on disk.
    pub fn saved(&mut self, now: Time, number: u64) {
        self.scheduler.handle(now, Input::Saved(number));
    }

    /// The scheduler's deadline has come.
    pub fn timeout(&mut self, now: Time) {
        self.scheduler.handle(now, Input::Timeout);
    }

    /// The scheduler's deadline.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Deadline> {
        self.scheduler.poll_timeout()
    }

    /// The next thing to tell; `now` is the world's time.
    pub fn poll(&mut self, now: Moment) -> Option<Word> {
        match self.scheduler.poll_output()? {
            Output::Transmit { token, airtime_us, .. } => {
                let until = self.backoff(now);
                self.hand = Hand::Contending { token, airtime_us, until };
                Some(Word::Listen(until))
            }
            Output::Sent { token, fate } => {
                self.under_way.remove(&token);
                Some(Word::Sent { token, fate })
            }
            Output::Save { number, bytes } => Some(Word::Save { number, bytes }),
            Output::Damaged(_) => self.poll(now),
        }
    }

    /// The modem listens. `busy` is until when the channel seems taken.
    pub fn listen(&mut self, now: Moment, busy: Option<Moment>) -> Next {
        let Hand::Contending { until, .. } = self.hand else { return Next::Nothing };
        if now < until {
            return Next::Nothing;
        }
        if let Some(free) = busy {
            self.window = (2 * self.window).min(WINDOW_MAX);
            let again = self.backoff(free);
            if let Hand::Contending { until, .. } = &mut self.hand {
                *until = again;
            }
            return Next::At(again);
        }
        let Hand::Contending { token, airtime_us, .. } = self.hand else { return Next::Nothing };
        let Some((class, bytes)) = self.under_way.get(&token).cloned() else { return Next::Nothing };
        self.window = WINDOW_MIN;
        self.hand = Hand::Speaking { token };
        Next::Speak { bytes, airtime_us, class }
    }

    /// The frame on the air has ended.
    pub fn done(&mut self, now: Time) {
        if let Hand::Speaking { token } = std::mem::replace(&mut self.hand, Hand::Nothing) {
            self.scheduler.handle(now, Input::Done { token, outcome: Outcome::Aired });
        }
    }

    /// Frames that wait, in the queue or for a free channel.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.under_way.len()
    }

    fn backoff(&mut self, from: Moment) -> Moment {
        // The part of a slot on top keeps two that saw the same end of a frame from answering in step.
        from.plus_us(self.chance.below(self.window) * self.slot_us + self.chance.below(self.slot_us / 4))
    }
}
