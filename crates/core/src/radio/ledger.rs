//! What a transmitter has used of each sub-band's duty cycle in the last hour, across restarts.
//!
//! Airtime is charged before a frame goes to the modem and stays charged for an hour after its end. Nothing else is
//! trusted: not the modem's counter, not a clock that may have been wrong. Where something is unknown (how long the
//! program was down, whether the frame in the modem was sent, what a damaged file said), the ledger takes the answer
//! that allows less.
//!
//! # A restart
//!
//! [`Ledger::save`] writes what counts, and in addition a *reserve*: airtime that may be used before the next save. After
//! a restart the reserve counts as used at that moment. So one write to disk covers several frames, and no crash forgets
//! one. What the ledger does not know is the time that passed; it subtracts it only if both wall clocks are given.
//!
//! Bytes (version 1; docs/wire/radio.md, RA-L1): `version u8 = 1 | saved u64 (ms since 1970, 0 unknown) | reserve u64 |
//! reserve of announces u64 | announces | count u8 | count x (low u32, high u32, rows)`, where `announces` and `rows` are
//! `open u64 | count u16 | count x (leaves u64, airtime u64)`, all in microseconds, `leaves` from the moment of saving.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use core::time::Duration;

use super::band::Band;
use super::window::{Held, Window};
use crate::limits::{RADIO_LEDGER_BANDS_MAX, RADIO_WINDOW_ENTRIES_MAX};
use crate::planted::{self, Bug};
use crate::time::Time;
use crate::wire::{Invalid, Reader};

/// The stretch of time a duty cycle is counted over (EN 300 220-1, 5.4).
pub const DUTY_SPAN: Duration = Duration::from_secs(3600);

const VERSION: u8 = 1;
/// No stored entry may claim to leave later than this: longer than any span plus any lag.
const LEAVES_US_MAX: u64 = 400 * 24 * 3_600 * 1_000_000;

/// Airtime used, per sub-band and by announces.
///
/// At most one frame is open (charged, end unknown) at a time: a port has one modem, and a modem one transmitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// By edges, not by number: a corrected table must not charge another band's frames.
    bands: BTreeMap<(u32, u32), Window>,
    announces: Window,
}

/// A frame that is charged and whose end is not known yet. Give it back to [`Ledger::settle`] or [`Ledger::refund`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a charge that is never settled counts for ever"]
pub struct Charge {
    band: (u32, u32),
    airtime_us: u64,
    announce: bool,
}

/// Airtime that was written down as used before it is, so that not every frame needs a write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// In whichever band, microseconds.
    pub airtime_us: u64,
    /// Of it, for announces at most, microseconds.
    pub announces_us: u64,
}

impl Charge {
    /// The airtime that is charged, microseconds.
    #[must_use]
    pub const fn airtime_us(&self) -> u64 {
        self.airtime_us
    }
}

impl Ledger {
    /// Nothing used. Only for a transmitter that really was silent for an hour; else [`Ledger::restore`] or
    /// [`Ledger::spent`]. `announce_span` is the time over which announces keep to their share.
    #[must_use]
    pub const fn fresh(announce_span: Duration) -> Self {
        Self { bands: BTreeMap::new(), announces: Window::new(announce_span) }
    }

    /// Everything used at `now`: what to assume if the saved state of a transmitter is lost or damaged.
    #[must_use]
    pub fn spent(now: Time, bands: &[Band], announce_span: Duration) -> Self {
        let mut ledger = Self::fresh(announce_span);
        for band in bands.iter().filter(|band| !band.is_unlimited()) {
            let all = Held { leaves_at: now + DUTY_SPAN, airtime_us: band.budget_us() };
            ledger.window(*band).hold(now, all);
        }
        ledger
    }

    /// Airtime used in `band` in the hour before `now`, microseconds, with what is being sent.
    #[must_use]
    pub fn used_us(&self, now: Time, band: Band) -> u64 {
        self.bands.get(&key(band)).map_or(0, |window| window.used_us(now))
    }

    /// Airtime that announces used in their span before `now`, microseconds.
    #[must_use]
    pub fn announced_us(&self, now: Time) -> u64 {
        self.announces.used_us(now)
    }

    /// The time over which announces are counted.
    #[must_use]
    pub const fn announce_span(&self) -> Duration {
        self.announces.span()
    }

    /// When `airtime_us` more is within `budget_us` of the band's hour: `now`, or later. `None` if never, or not before
    /// the open frame has ended.
    #[must_use]
    pub fn fits_at(&self, now: Time, band: Band, airtime_us: u64, budget_us: u64) -> Option<Time> {
        match self.bands.get(&key(band)) {
            Some(window) => window.fits_at(now, airtime_us, budget_us),
            None => (airtime_us <= budget_us).then_some(now),
        }
    }

    /// As [`Ledger::fits_at`], for announces and their own budget.
    #[must_use]
    pub fn announce_fits_at(&self, now: Time, airtime_us: u64, budget_us: u64) -> Option<Time> {
        self.announces.fits_at(now, airtime_us, budget_us)
    }

    /// Charges a frame that is about to be sent.
    pub fn charge(&mut self, band: Band, airtime_us: u64, announce: bool) -> Charge {
        let airtime_us = if planted::is(Bug::DutyHalved) { airtime_us / 2 } else { airtime_us };
        self.window(band).open(airtime_us);
        if announce {
            self.announces.open(airtime_us);
        }
        Charge { band: key(band), airtime_us, announce }
    }

    /// The frame was sent, or may have been; its transmission ended no later than `end`.
    #[expect(clippy::needless_pass_by_value, reason = "a charge is settled once")]
    pub fn settle(&mut self, now: Time, charge: Charge, end: Time) {
        if let Some(window) = self.bands.get_mut(&charge.band) {
            window.settle(now, charge.airtime_us, end);
        }
        if charge.announce {
            self.announces.settle(now, charge.airtime_us, end);
        }
    }

    /// The frame was certainly not sent.
    #[expect(clippy::needless_pass_by_value, reason = "a charge is given back once")]
    pub fn refund(&mut self, charge: Charge) {
        if let Some(window) = self.bands.get_mut(&charge.band) {
            window.refund(charge.airtime_us);
        }
        if charge.announce {
            self.announces.refund(charge.airtime_us);
        }
    }

    /// The state as bytes. `wall_ms` is the wall clock, milliseconds since 1970, if it is known to be right; `reserve` is
    /// what may be charged before the next save.
    #[must_use]
    pub fn save(&self, now: Time, wall_ms: Option<u64>, reserve: Reserve) -> Bytes {
        let live: Vec<_> = self.bands.iter().filter(|(_, window)| window.used_us(now) > 0).collect();
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64(wall_ms.unwrap_or(0));
        out.put_u64(reserve.airtime_us);
        out.put_u64(reserve.announces_us);
        put_window(&mut out, now, &self.announces);
        // Only somebody who changes region all the time gets near the maximum. Above it the state cannot be read back,
        // which counts as used up: too much, but never too little.
        out.put_u8(u8::try_from(live.len()).unwrap_or(u8::MAX));
        for ((low_hz, high_hz), window) in live {
            out.put_u32(*low_hz);
            out.put_u32(*high_hz);
            put_window(&mut out, now, window);
        }
        out.freeze()
    }

    /// The state that [`Ledger::save`] wrote, as it is at `now`, which is after a restart.
    ///
    /// If both wall clocks are known and this one is not earlier, the time between them has passed; else none has. What
    /// was open, and the reserve in every one of `bands`, counts as sent with an end `lag` after `now`: a modem that was
    /// not restarted may still be sending.
    ///
    /// # Errors
    /// [`Invalid`] for bytes that `save` did not write. Go on with [`Ledger::spent`] then.
    pub fn restore(
        bytes: &[u8],
        now: Time,
        wall_ms: Option<u64>,
        lag: Duration,
        bands: &[Band],
        announce_span: Duration,
    ) -> Result<Self, Invalid> {
        let mut r = Reader::new(bytes);
        if r.u8("ledger version")? != VERSION {
            return Err(Invalid::Value { what: "ledger version" });
        }
        let saved_ms = Some(read_u64(&mut r, "ledger wall clock")?).filter(|ms| *ms != 0);
        let reserve = Reserve {
            airtime_us: read_u64(&mut r, "ledger reserve")?,
            announces_us: read_u64(&mut r, "ledger reserve")?,
        };
        let passed_us = match (saved_ms, wall_ms) {
            (Some(then), Some(today)) => today.saturating_sub(then).saturating_mul(1000),
            (Some(_) | None, Some(_) | None) => 0,
        };
        let ends = now + lag;
        let mut ledger = Self::fresh(announce_span);
        read_window(&mut r, &mut ledger.announces, now, passed_us, ends)?;
        let count = r.u8("ledger bands")?;
        if usize::from(count) > RADIO_LEDGER_BANDS_MAX {
            let (size, max) = (u64::from(count), RADIO_LEDGER_BANDS_MAX as u64);
            return Err(Invalid::TooLarge { what: "ledger bands", size, max });
        }
        for _ in 0..count {
            let edges = (r.u32("ledger band")?, r.u32("ledger band")?);
            let window = ledger.bands.entry(edges).or_insert(Window::new(DUTY_SPAN));
            read_window(&mut r, window, now, passed_us, ends)?;
        }
        r.finish("ledger")?;
        for band in bands.iter().filter(|band| !band.is_unlimited()) {
            let held = Held { leaves_at: ends + DUTY_SPAN, airtime_us: reserve.airtime_us };
            ledger.window(*band).hold(now, held);
        }
        let held = Held { leaves_at: ends + announce_span, airtime_us: reserve.announces_us };
        ledger.announces.hold(now, held);
        Ok(ledger)
    }

    fn window(&mut self, band: Band) -> &mut Window {
        self.bands.entry(key(band)).or_insert(Window::new(DUTY_SPAN))
    }
}

const fn key(band: Band) -> (u32, u32) {
    (band.low_hz, band.high_hz)
}

fn put_window(out: &mut BytesMut, now: Time, window: &Window) {
    out.put_u64(window.open_us());
    // A window never holds more than this, which fits.
    let count = window.held(now).take(RADIO_WINDOW_ENTRIES_MAX).count();
    out.put_u16(count as u16);
    for held in window.held(now).take(count) {
        out.put_u64(micros(held.leaves_at.saturating_since(now)));
        out.put_u64(held.airtime_us);
    }
}

fn read_window(
    r: &mut Reader<'_>,
    window: &mut Window,
    now: Time,
    passed_us: u64,
    ends: Time,
) -> Result<(), Invalid> {
    let open_us = read_u64(r, "ledger open frame")?;
    let count = usize::from(r.u16("ledger entries")?);
    if count > RADIO_WINDOW_ENTRIES_MAX {
        let (size, max) = (count as u64, RADIO_WINDOW_ENTRIES_MAX as u64);
        return Err(Invalid::TooLarge { what: "ledger entries", size, max });
    }
    for _ in 0..count {
        let leaves_us = read_u64(r, "ledger entry")?;
        let airtime_us = read_u64(r, "ledger entry")?;
        if leaves_us > LEAVES_US_MAX {
            return Err(Invalid::TooLarge { what: "ledger entry", size: leaves_us, max: LEAVES_US_MAX });
        }
        let leaves_at = now + Duration::from_micros(leaves_us.saturating_sub(passed_us));
        window.hold(now, Held { leaves_at, airtime_us });
    }
    window.hold(now, Held { leaves_at: ends + window.span(), airtime_us: open_us });
    Ok(())
}

fn read_u64(r: &mut Reader<'_>, what: &'static str) -> Result<u64, Invalid> {
    Ok(u64::from_be_bytes(r.array(what)?))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::Region;
    use proptest::prelude::*;

    const LAG: Duration = Duration::from_secs(10);

    fn band() -> Band {
        Region::EU868.bands()[2]
    }

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn reserve(airtime_us: u64) -> Reserve {
        Reserve { airtime_us, announces_us: airtime_us / 2 }
    }

    fn used() -> Ledger {
        let mut ledger = Ledger::fresh(DUTY_SPAN);
        let charge = ledger.charge(band(), 5_000_000, true);
        ledger.settle(at(10), charge, at(10));
        let charge = ledger.charge(band(), 7_000_000, false);
        ledger.settle(at(1810), charge, at(1810));
        ledger
    }

    fn restored(bytes: &[u8], wall_ms: Option<u64>) -> Ledger {
        Ledger::restore(bytes, Time::ZERO, wall_ms, LAG, Region::EU868.bands(), DUTY_SPAN).unwrap()
    }

    #[test]
    fn each_band_has_its_own_budget() {
        let ledger = used();
        assert_eq!(ledger.used_us(at(1810), band()), 12_000_000);
        assert_eq!(ledger.used_us(at(1810), Region::EU868.bands()[1]), 0);
        assert_eq!(ledger.announced_us(at(1810)), 5_000_000);
        assert_eq!(ledger.fits_at(at(1810), band(), 24_000_000, 36_000_000), Some(at(1810)));
        assert_eq!(ledger.fits_at(at(1810), band(), 24_000_001, 36_000_000), Some(at(3610)));
    }

    #[test]
    fn the_ledger_has_the_bytes_of_version_1() {
        let mut ledger = Ledger::fresh(DUTY_SPAN);
        let charge = ledger.charge(band(), 0x10, true);
        ledger.settle(at(0), charge, at(0));
        let _open = ledger.charge(band(), 0x20, false);
        let expected = [
            "01",
            "00000000000003e8",
            "0000000000000030",
            "0000000000000018", // version, 1000 ms, reserves
            "0000000000000000",
            "0001",
            "00000000d693a400",
            "0000000000000010", // announces: one entry
            "01",
            "33bca100",
            "33c5c8c0", // one band: 868.0 to 868.6 MHz
            "0000000000000020",
            "0001",
            "00000000d693a400",
            "0000000000000010",
        ]
        .concat();
        let bytes = ledger.save(at(0), Some(1000), reserve(0x30));
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes), expected);
    }

    #[test]
    fn a_restart_frees_nothing_by_itself() {
        let bytes = used().save(at(1810), Some(1_000_000), Reserve::default());
        for unknown in [restored(&bytes, None), restored(&bytes, Some(999_999))] {
            assert_eq!(
                unknown.used_us(Time::ZERO, band()),
                12_000_000,
                "a clock that jumped back says nothing"
            );
            assert_eq!(unknown.used_us(at(1799), band()), 12_000_000);
            assert_eq!(unknown.used_us(at(1800), band()), 7_000_000);
        }
        let clockless = used().save(at(1810), None, Reserve::default());
        assert_eq!(restored(&clockless, Some(u64::MAX)).used_us(Time::ZERO, band()), 12_000_000);
    }

    #[test]
    fn time_that_surely_passed_while_the_program_was_down_counts() {
        let bytes = used().save(at(1810), Some(1_000_000), Reserve::default());
        let later = restored(&bytes, Some(1_000_000 + 1_800_000));
        assert_eq!(later.used_us(Time::ZERO, band()), 7_000_000);
        assert_eq!(later.announced_us(Time::ZERO), 0);
    }

    #[test]
    fn the_reserve_and_the_open_frame_count_after_a_restart_whatever_the_clock_says() {
        let mut ledger = Ledger::fresh(DUTY_SPAN);
        let _open = ledger.charge(band(), 3_000_000, false);
        let later = restored(&ledger.save(at(5), Some(1), reserve(2_000_000)), Some(u64::MAX));
        assert_eq!(later.used_us(Time::ZERO, band()), 5_000_000);
        assert_eq!(later.announced_us(Time::ZERO), 1_000_000);
        assert_eq!(later.used_us(at(3609), band()), 5_000_000);
        assert_eq!(later.used_us(at(3610), band()), 0, "an hour after the lag");
    }

    #[test]
    fn a_lost_ledger_counts_as_used_up() {
        let ledger = Ledger::spent(at(1), Region::EU868.bands(), DUTY_SPAN);
        assert_eq!(ledger.used_us(at(1), band()), 36_000_000);
        assert_eq!(ledger.fits_at(at(1), band(), 1, 36_000_000), Some(at(3601)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_ledger_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), wall: Option<u64>) {
            let bands = Region::EU868.bands();
            if let Ok(ledger) = Ledger::restore(&bytes, Time::ZERO, wall, LAG, bands, DUTY_SPAN) {
                let _ = ledger.used_us(Time::ZERO, band());
            }
        }

        #[test]
        fn saved_and_restored_at_once_it_counts_the_same(
            frames in proptest::collection::vec((0_u64..400, 1_u64..2_000_000), 0..60), later in 0_u64..4000,
        ) {
            let (mut ledger, mut now) = (Ledger::fresh(DUTY_SPAN), Time::ZERO);
            for (pause_s, airtime_us) in frames {
                now += Duration::from_secs(pause_s);
                let charge = ledger.charge(band(), airtime_us, false);
                ledger.settle(now, charge, now);
            }
            let again = restored(&ledger.save(now, None, Reserve::default()), None);
            let later = Duration::from_secs(later);
            prop_assert_eq!(again.used_us(Time::ZERO + later, band()), ledger.used_us(now + later, band()));
        }
    }
}
