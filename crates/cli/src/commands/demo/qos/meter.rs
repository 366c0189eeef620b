//! What arrives, by class: how long it was under way and how much it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The three kinds of streams, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Input,
    Film,
    File,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Input, Self::Film, Self::File];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Film => "film",
            Self::File => "files",
        }
    }
}

/// What one class did in some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    under_way_us: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) lasted: Duration,
    /// Datagrams that were sent and did not come.
    pub(super) lost: u64,
    pub(super) sent: u64,
}

impl Tally {
    /// The time below which `per_mille` of what was sent came; what never came took for ever.
    pub(super) fn quantile(&self, per_mille: usize) -> Option<Duration> {
        let lost = usize::try_from(self.lost).unwrap_or(usize::MAX);
        let all = self.under_way_us.len() + lost;
        let mut sorted = self.under_way_us.clone();
        sorted.sort_unstable();
        let rank = (all * per_mille).div_ceil(1000).max(1);
        sorted.get(rank - 1).map(|us| Duration::from_micros(*us))
    }

    pub(super) fn bytes_per_s(&self) -> u64 {
        let millis = self.lasted.as_millis().max(1);
        u64::try_from(u128::from(self.bytes) * 1000 / millis).unwrap_or(u64::MAX)
    }
}

/// The classes' tallies, of the running window and the running phase.
#[derive(Debug)]
pub(super) struct Meters {
    epoch: Instant,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    window: [Tally; 3],
    phase: [Tally; 3],
    window_began: Instant,
    phase_began: Instant,
    /// Chunks that arrived of each file.
    chunks: BTreeMap<u16, u64>,
}

impl Meters {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let inside = Inside {
            window: Default::default(),
            phase: Default::default(),
            window_began: now,
            phase_began: now,
            chunks: BTreeMap::new(),
        };
        Self { epoch: now, inside: Mutex::new(inside) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time to write into what is sent now.
    pub(super) fn stamp(&self) -> [u8; 8] {
        u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX).to_be_bytes()
    }

    /// Something of `bytes` bytes came that carried this stamp.
    pub(super) fn arrived(&self, kind: Kind, stamp: [u8; 8], bytes: usize) {
        let now = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let under_way = now.saturating_sub(u64::from_be_bytes(stamp));
        let mut inside = self.inside();
        let Inside { window, phase, .. } = &mut *inside;
        for tally in [&mut window[kind as usize], &mut phase[kind as usize]] {
            tally.under_way_us.push(under_way);
            tally.bytes += bytes as u64;
        }
    }

    /// A piece of this file came.
    pub(super) fn went_on(&self, file: u16) {
        *self.inside().chunks.entry(file).or_default() += 1;
    }

    /// Something was sent that may get lost.
    pub(super) fn sent(&self, kind: Kind) {
        self.inside().phase[kind as usize].sent += 1;
    }

    /// What came since the last look.
    pub(super) fn end_window(&self) -> [Tally; 3] {
        let mut inside = self.inside();
        let lasted = inside.window_began.elapsed();
        inside.window_began = Instant::now();
        let mut window = std::mem::take(&mut inside.window);
        window.iter_mut().for_each(|tally| tally.lasted = lasted);
        window
    }

    /// What came since the last phase, and of how many files. What was sent in the last moments of a phase counts as lost only
    /// in the next one, so of those still under way some are forgiven.
    pub(super) fn end_phase(&self) -> Phase {
        let mut inside = self.inside();
        let lasted = inside.phase_began.elapsed();
        inside.phase_began = Instant::now();
        let mut tallies = std::mem::take(&mut inside.phase);
        for tally in &mut tallies {
            tally.lasted = lasted;
            tally.lost = tally.sent.saturating_sub(tally.under_way_us.len() as u64 + UNDER_WAY);
        }
        Phase { tallies, files_moved: std::mem::take(&mut inside.chunks).len() }
    }
}

/// Inputs that may be on their way when a phase ends: those of a tenth of a second.
const UNDER_WAY: u64 = 13;

/// What a phase came to.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) tallies: [Tally; 3],
    /// Files of which something came.
    pub(super) files_moved: usize,
}

impl Phase {
    pub(super) fn of(&self, kind: Kind) -> &Tally {
        &self.tallies[kind as usize]
    }
}

/// How late this machine is when something is due: a busy one wakes everybody late, which is nothing that a link can help.
#[derive(Debug)]
pub(super) struct Lateness {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    late_us: Mutex<Vec<u64>>,
}

impl Lateness {
    /// Between two looks.
    const EVERY: Duration = Duration::from_millis(5);

    /// Watches from a thread of its own until it is dropped. Without one the machine counts as never late.
    pub(super) fn watch() -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let watching = move || {
            while !theirs.ended.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(Self::EVERY);
                let late = before.elapsed().saturating_sub(Self::EVERY);
                let mut samples = theirs.late_us.lock().unwrap_or_else(PoisonError::into_inner);
                samples.push(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
            }
        };
        // It ends by itself within milliseconds of the flag.
        let _ = std::thread::Builder::new().name("lateness".into()).spawn(watching);
        Self { shared }
    }

    /// Only what follows counts.
    pub(super) fn begin(&self) {
        self.shared.late_us.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn p99(&self) -> Duration {
        let mut samples = self.shared.late_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
        samples.sort_unstable();
        let rank = samples.len() * 99 / 100;
        Duration::from_micros(samples.get(rank).copied().unwrap_or_default())
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_came_takes_for_ever() {
        let tally =
            |came: u64, lost: u64| Tally { under_way_us: (1..=came).collect(), lost, ..Tally::default() };
        assert_eq!(tally(100, 0).quantile(990), Some(Duration::from_micros(99)));
        assert_eq!(tally(99, 1).quantile(990), Some(Duration::from_micros(99)));
        assert_eq!(tally(98, 2).quantile(990), None);
        assert_eq!(tally(0, 0).quantile(500), None);
    }
}
