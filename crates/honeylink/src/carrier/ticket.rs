//! A stream's place at the [`Gate`]: how its writer asks for its turn.

use std::sync::Arc;
use std::task::{Context, Poll};

use honeylink_core::limits::QOS_CHUNK_BYTES_MAX;
use honeylink_core::qos::{OptionsError, StreamId, StreamOptions, StreamStats};

use super::gate::{Gate, Owner, UNSENT, UNSENT_ALONE};

/// A stream's place at the gate; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    id: StreamId,
}

impl Ticket {
    pub(super) fn new(gate: Arc<Gate>, id: StreamId) -> Self {
        Self { gate, id }
    }

    /// How much of `want` bytes may be written now. Pending: the writer is woken when it is its turn.
    pub(super) fn poll_admit(&self, cx: &mut Context<'_>, want: usize) -> Poll<usize> {
        let want = want as u64;
        let gate = &*self.gate;
        let mut inside = gate.inside();
        let now = gate.now();
        if inside.last != Some(self.id) {
            inside.last = Some(self.id);
            inside.shared_at = now;
        }
        let mut granted = inside.writers.get(&self.id).map_or(0, |writer| writer.granted);
        if granted == 0 {
            let unsent = if inside.is_shared(now) { UNSENT } else { UNSENT_ALONE };
            let room = gate.room(unsent, inside.granted);
            let passing = want.min(room.max(QOS_CHUNK_BYTES_MAX));
            if room > 0 && inside.scheduler.pass(now, self.id, passing) {
                return Poll::Ready(usize::try_from(passing).unwrap_or(usize::MAX));
            }
            let queued = inside.scheduler.queued(self.id);
            if queued > want {
                inside.scheduler.forget(self.id);
            }
            let more = want - if queued > want { 0 } else { queued };
            let more = more.min(inside.scheduler.room(self.id));
            let taken = inside.scheduler.enqueue(now, self.id, more);
            if more > 0 {
                inside.warn(now, self.id, taken);
            }
            if let Some(writer) = inside.writers.get_mut(&self.id) {
                writer.waker = Some(cx.waker().clone());
            }
            gate.pump_inside(inside);
            granted = gate.inside().writers.get(&self.id).map_or(0, |writer| writer.granted);
        }
        if granted == 0 {
            return Poll::Pending;
        }
        Poll::Ready(usize::try_from(granted.min(want)).unwrap_or(usize::MAX))
    }

    /// `bytes` were written of what was admitted.
    pub(super) fn wrote(&self, bytes: usize) {
        if let Some(gauge) = &self.gate.gauge {
            gauge.admit(bytes as u64);
        }
        let mut inside = self.gate.inside();
        if let Some(writer) = inside.writers.get_mut(&self.id) {
            let used = writer.granted.min(bytes as u64);
            writer.granted -= used;
            inside.granted -= used;
        }
    }

    /// The carrier takes nothing of this stream now: others go on.
    pub(super) fn blocked(&self) {
        let mut inside = self.gate.inside();
        inside.withdraw(self.id);
        self.gate.pump_inside(inside);
    }

    /// Remembers whose the stream is.
    pub(crate) fn belongs(&self, owner: Owner) {
        self.gate.belongs(self.id, owner);
    }

    pub(crate) fn stats(&self) -> StreamStats {
        let inside = self.gate.inside();
        inside.scheduler.stats(self.gate.now(), self.id).unwrap_or_default()
    }

    pub(crate) fn retune(&self, options: StreamOptions) -> Result<(), OptionsError> {
        self.gate.retune(self.id, options)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.close(self.id);
    }
}
