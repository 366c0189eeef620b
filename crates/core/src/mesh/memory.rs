//! What was heard lately: frames by identity, so that none is passed on twice, and messages by source and number, so that
//! a receipt finds its way back and a repeated message finds its receipt.

use core::time::Duration;

use bytes::Bytes;

use super::frame::FrameId;
use super::hint::{Far, Near};
use super::port::PortId;
use super::seen::Recent;
use crate::limits::{MESH_CRUMBS_MAX, MESH_REPEATS_MAX, MESH_SIGHTINGS_MAX};
use crate::time::Time;

/// How long a frame is remembered at least.
const WINDOW: Duration = Duration::from_secs(600);
/// A frame that comes again sooner is a hop's second try; later, the source's.
const REPEAT_MIN: Duration = Duration::from_secs(5);

/// What is remembered of a frame.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    at: Time,
    /// The fewest hops it came with.
    hops: u8,
    repeats: u8,
    /// Somebody took it on from here.
    moved: bool,
}

/// What a frame that comes again is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It never came.
    New,
    /// The neighbour did not hear us.
    Retry,
    /// The source sends it again: as good as new.
    Repeat,
    /// It comes from further along its own way.
    Circle,
    /// It came as often as frames may.
    Worn,
}

/// What is remembered of a message that was passed on.
#[derive(Clone, Debug)]
pub(super) struct Crumb {
    pub(super) data: FrameId,
    /// Who sent it here.
    pub(super) from: (PortId, Near),
    /// Its receipt, once that was heard.
    pub(super) receipt: Option<Bytes>,
    /// When somebody further along said last that it could not pass it on.
    pub(super) broken_at: Option<Time>,
    /// When this device said last that it could not.
    pub(super) said_at: Option<Time>,
    /// Whether word went back that somebody keeps it, since it came last.
    pub(super) kept: bool,
}

/// What was heard lately.
#[derive(Debug)]
pub(super) struct Memory {
    frames: Recent<FrameId, Sighting>,
    crumbs: Recent<(Far, u32), Crumb>,
}

impl Memory {
    /// Bytes of an entry, on average.
    pub(super) const ENTRY_BYTES: usize = 32;

    pub(super) const fn new() -> Self {
        Self { frames: Recent::new(WINDOW, MESH_SIGHTINGS_MAX), crumbs: Recent::new(WINDOW, MESH_CRUMBS_MAX) }
    }

    /// Remembers a frame; true if it is new.
    pub(super) fn first(&mut self, now: Time, id: FrameId, hops: u8) -> bool {
        self.frames.insert(now, id, Sighting { at: now, hops, repeats: 0, moved: false })
    }

    /// Somebody took a frame on from here.
    pub(super) fn moved(&mut self, now: Time, id: &FrameId) {
        if let Some(known) = self.frames.find_mut(now, id) {
            known.moved = true;
        }
    }

    /// Whether somebody did.
    pub(super) fn has_moved(&mut self, now: Time, id: &FrameId) -> bool {
        self.frames.find(now, id).is_some_and(|known| known.moved)
    }

    pub(super) fn knows(&mut self, now: Time, id: &FrameId) -> bool {
        self.frames.find(now, id).is_some()
    }

    /// What a frame is that came with so many hops, and remembers it.
    ///
    /// A circle brings a frame back with at least two hops more than it left with; a source that repeats it brings it with
    /// about as many as before. So nothing circles, and a repeated frame passes.
    pub(super) fn judge(&mut self, now: Time, id: FrameId, hops: u8) -> Again {
        let Some(known) = self.frames.find_mut(now, &id) else {
            self.first(now, id, hops);
            return Again::New;
        };
        if hops > known.hops.saturating_add(1) {
            return Again::Circle;
        }
        if now.saturating_since(known.at) < REPEAT_MIN {
            return Again::Retry;
        }
        if known.repeats >= MESH_REPEATS_MAX {
            return Again::Worn;
        }
        known.repeats += 1;
        known.moved = false;
        known.at = now;
        known.hops = known.hops.min(hops);
        Again::Repeat
    }

    /// Remembers which way a message came; the newest way counts.
    pub(super) fn drop_crumb(
        &mut self,
        now: Time,
        source: Far,
        seq: u32,
        data: FrameId,
        from: (PortId, Near),
    ) {
        if let Some(known) = self.crumbs.find_mut(now, &(source, seq)) {
            (known.data, known.from, known.kept) = (data, from, false);
        } else {
            self.crumbs.insert(
                now,
                (source, seq),
                Crumb { data, from, receipt: None, broken_at: None, said_at: None, kept: false },
            );
        }
    }

    pub(super) fn crumb(&mut self, now: Time, source: Far, seq: u32) -> Option<&mut Crumb> {
        self.crumbs.find_mut(now, &(source, seq))
    }

    /// Of which message a frame is, and who sent it here.
    pub(super) fn way_back(&self, data: &FrameId) -> Option<((Far, u32), (PortId, Near))> {
        let (message, crumb) = self.crumbs.iter().find(|(_, crumb)| crumb.data == *data)?;
        Some((*message, crumb.from))
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len() + self.crumbs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FrameId = [1; 8];

    fn at(seconds: u64) -> Time {
        Time::from_millis(1000 * seconds)
    }

    #[test]
    fn a_circle_is_told_from_a_retry_and_from_a_repeat() {
        let mut memory = Memory::new();
        assert_eq!(memory.judge(at(0), ID, 3), Again::New);
        assert_eq!(memory.judge(at(1), ID, 3), Again::Retry);
        assert_eq!(memory.judge(at(2), ID, 5), Again::Circle);
        assert_eq!(memory.judge(at(30), ID, 4), Again::Repeat);
        assert_eq!(memory.judge(at(31), ID, 4), Again::Retry);
    }

    #[test]
    fn no_frame_is_repeated_for_ever() {
        let mut memory = Memory::new();
        let passed =
            (0..100).filter(|n| matches!(memory.judge(at(6 * n), ID, 1), Again::New | Again::Repeat)).count();
        assert_eq!(passed, 1 + usize::from(MESH_REPEATS_MAX));
    }
}
