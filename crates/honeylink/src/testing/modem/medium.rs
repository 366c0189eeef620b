//! The channel: who is on the air, who hears it, and what it does to others.
//!
//! A receiver gets a frame if it listens on the same settings, hears the sender, was not sending itself at any moment of
//! it (half-duplex), heard no other frame at the same time that was nearly as strong (collision, capture), and if the
//! dice do not lose it. All times are the channel's own, in microseconds.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::AirConfig;
use super::phy::Modulation;

/// How strongly everybody hears everybody at first, dBm.
const RSSI_DBM: i16 = -80;
/// What there is without a signal, dBm.
const NOISE_DBM: i16 = -118;
/// How long after its end a frame is remembered: longer than any frame that could overlap it.
const MEMORY_US: u64 = 60_000_000;
/// Transmissions kept in the log.
const LOG_MAX: usize = 100_000;

/// One frame on the air.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// The sender's [`Modem::number`](super::Modem::number).
    pub from: usize,
    /// Its start, microseconds of the channel's time.
    pub start_us: u64,
    /// Its end.
    pub end_us: u64,
    /// Its bytes, without what the modem added.
    pub bytes: Vec<u8>,
}

/// What became of frames, per receiver that could hear them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Received.
    pub delivered: u64,
    /// Missed because the receiver was sending.
    pub half_duplex: u64,
    /// Destroyed by another frame.
    pub collided: u64,
    /// Lost by the dice.
    pub lost: u64,
    /// Received, but its modem had no room.
    pub overrun: u64,
}

/// A frame as a modem hears it.
#[derive(Debug)]
pub(super) struct Reception {
    pub(super) bytes: Vec<u8>,
    pub(super) rssi_dbm: i16,
    pub(super) snr_db: i16,
}

#[derive(Debug)]
struct Flight {
    id: u64,
    modulation: Modulation,
    transmission: Transmission,
}

impl Flight {
    fn overlaps(&self, other: &Self) -> bool {
        self.transmission.start_us < other.transmission.end_us
            && other.transmission.start_us < self.transmission.end_us
    }
}

#[derive(Debug)]
struct Listener {
    /// Its settings while its radio is on.
    tuned: Option<Modulation>,
    inbox: mpsc::Sender<Reception>,
}

/// The channel.
#[derive(Debug)]
pub(super) struct Medium {
    config: AirConfig,
    random: u64,
    rssi: BTreeMap<(usize, usize), Option<i16>>,
    listeners: Vec<Listener>,
    flights: Vec<Flight>,
    next: u64,
    counters: Counters,
    log: Vec<Transmission>,
}

impl Medium {
    pub(super) fn new(config: AirConfig) -> Self {
        Self {
            config,
            random: config.seed,
            rssi: BTreeMap::new(),
            listeners: Vec::new(),
            flights: Vec::new(),
            next: 0,
            counters: Counters::default(),
            log: Vec::new(),
        }
    }

    pub(super) fn join(&mut self, inbox: mpsc::Sender<Reception>) -> usize {
        self.listeners.push(Listener { tuned: None, inbox });
        self.listeners.len() - 1
    }

    pub(super) fn set_rssi(&mut self, from: usize, to: usize, dbm: Option<i16>) {
        self.rssi.insert((from, to), dbm);
    }

    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    pub(super) fn log(&self) -> &[Transmission] {
        &self.log
    }

    pub(super) fn tune(&mut self, who: usize, tuned: Option<Modulation>) {
        self.listeners[who].tuned = tuned;
    }

    /// A number in `0..bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Whether `who` notices somebody on the air.
    pub(super) fn is_busy(&self, who: usize, now_us: u64) -> bool {
        let Some(tuned) = self.listeners[who].tuned else { return false };
        self.flights.iter().any(|flight| {
            let Transmission { from, start_us, end_us, .. } = flight.transmission;
            let noticed = start_us + flight.modulation.notice_us() <= now_us && now_us < end_us;
            noticed && from != who && flight.modulation.matches(&tuned) && self.heard(from, who).is_some()
        })
    }

    /// Whether `who` is on the air itself.
    pub(super) fn is_sending(&self, who: usize, now_us: u64) -> bool {
        let mut own = self.flights.iter().map(|flight| &flight.transmission).filter(|own| own.from == who);
        own.any(|own| own.start_us <= now_us && now_us < own.end_us)
    }

    /// Puts a frame on the air; the number to end it with.
    pub(super) fn begin(&mut self, modulation: Modulation, transmission: Transmission) -> u64 {
        let forgotten = transmission.start_us.saturating_sub(MEMORY_US);
        self.flights.retain(|flight| flight.transmission.end_us >= forgotten);
        if self.log.len() < LOG_MAX {
            self.log.push(transmission.clone());
        }
        self.next += 1;
        self.flights.push(Flight { id: self.next, modulation, transmission });
        self.next
    }

    /// A frame is over: everybody who could hear it gets it, or not.
    pub(super) fn end(&mut self, id: u64) {
        let Some(at) = self.flights.iter().position(|flight| flight.id == id) else { return };
        let from = self.flights[at].transmission.from;
        for to in (0..self.listeners.len()).filter(|to| *to != from) {
            let flight = &self.flights[at];
            let tuned = self.listeners[to].tuned.is_some_and(|tuned| tuned.matches(&flight.modulation));
            let Some(rssi_dbm) = self.heard(from, to).filter(|_| tuned) else { continue };
            let others = || self.flights.iter().filter(|other| other.id != id && other.overlaps(flight));
            let deaf = others().any(|other| other.transmission.from == to);
            let strongest = others().filter_map(|other| self.interferes(other, flight, to)).max();
            let bytes = flight.transmission.bytes.clone();
            if deaf {
                self.counters.half_duplex += 1;
            } else if strongest.is_some_and(|other| rssi_dbm - other < self.config.capture_db) {
                self.counters.collided += 1;
            } else if self.below(1_000_000) < u64::from(self.config.loss_ppm) {
                self.counters.lost += 1;
            } else {
                let reception = Reception { bytes, rssi_dbm, snr_db: rssi_dbm - NOISE_DBM };
                match self.listeners[to].inbox.try_send(reception) {
                    Ok(()) => self.counters.delivered += 1,
                    Err(_) => self.counters.overrun += 1,
                }
            }
        }
    }

    /// How strongly `other` disturbs `flight` at `to`, if it does.
    fn interferes(&self, other: &Flight, flight: &Flight, to: usize) -> Option<i16> {
        let same = other.modulation.frequency_hz == flight.modulation.frequency_hz;
        self.heard(other.transmission.from, to).filter(|_| same && other.transmission.from != to)
    }

    fn heard(&self, from: usize, to: usize) -> Option<i16> {
        self.rssi.get(&(from, to)).copied().unwrap_or(Some(RSSI_DBM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULATION: Modulation = Modulation {
        frequency_hz: 868_100_000,
        bandwidth_hz: 125_000,
        spreading_factor: 7,
        coding_rate: 5,
        preamble_symbols: 18,
    };

    fn medium(modems: usize) -> (Medium, Vec<mpsc::Receiver<Reception>>) {
        let mut medium = Medium::new(AirConfig::default());
        let inboxes = (0..modems).map(|_| {
            let (sender, inbox) = mpsc::channel(8);
            let number = medium.join(sender);
            medium.tune(number, Some(MODULATION));
            inbox
        });
        let inboxes = inboxes.collect();
        (medium, inboxes)
    }

    fn frame(from: usize, start_us: u64) -> Transmission {
        Transmission { from, start_us, end_us: start_us + 50_000, bytes: vec![from as u8] }
    }

    #[test]
    fn two_equal_frames_at_once_are_both_lost_and_a_stronger_one_survives() {
        let (mut medium, mut inboxes) = medium(3);
        let both = [medium.begin(MODULATION, frame(0, 0)), medium.begin(MODULATION, frame(1, 10_000))];
        both.into_iter().for_each(|id| medium.end(id));
        assert_eq!(medium.counters().collided, 2);
        assert_eq!(medium.counters().half_duplex, 2, "the senders did not hear each other");
        medium.set_rssi(0, 2, Some(-60));
        let both = [medium.begin(MODULATION, frame(0, 100_000)), medium.begin(MODULATION, frame(1, 110_000))];
        both.into_iter().for_each(|id| medium.end(id));
        assert_eq!(inboxes[2].try_recv().unwrap().bytes, [0]);
        assert!(inboxes[2].try_recv().is_err());
    }

    #[test]
    fn a_carrier_is_noticed_after_two_symbols_and_only_where_it_is_heard() {
        let (mut medium, _inboxes) = medium(3);
        medium.set_rssi(0, 2, None);
        medium.begin(MODULATION, frame(0, 0));
        assert!(!medium.is_busy(1, 1_000));
        assert!(medium.is_busy(1, 3_000));
        assert!(!medium.is_busy(0, 3_000), "not its own");
        assert!(!medium.is_busy(2, 3_000));
        assert!(!medium.is_busy(1, 50_000));
    }

    #[test]
    fn another_frequency_neither_hears_nor_disturbs() {
        let (mut medium, mut inboxes) = medium(3);
        let elsewhere = Modulation { frequency_hz: 868_300_000, ..MODULATION };
        let here = medium.begin(MODULATION, frame(0, 0));
        let there = medium.begin(elsewhere, frame(1, 0));
        medium.end(here);
        medium.end(there);
        assert_eq!(inboxes[2].try_recv().unwrap().bytes, [0]);
        assert_eq!(medium.counters(), Counters { delivered: 1, half_duplex: 1, ..Counters::default() });
    }
}
