//! The ferry's decisions: who is carried to whom, and how much.
//!
//! The shell tells who is there ([`Desk::welcome`], [`Desk::leave`]) and passes on what guests ask and send; it has asked the
//! trust store before it welcomes anybody, and takes everybody out of here who loses the right. Nothing here is kept for a
//! device that is not a guest.

use core::time::Duration;
use std::collections::BTreeMap;

use super::talk::{Handle, Refusal};
use crate::identity::DeviceId;
use crate::limits::{
    FERRY_BYTES_PER_S, FERRY_CROSSINGS_MAX, FERRY_GUEST_BYTES_PER_S, FERRY_GUESTS_MAX, FERRY_IDLE_MAX,
};
use crate::time::Time;

/// Questions a guest may ask at once, and how soon one more is allowed: it may look for each of its own friends whenever its
/// links try again.
const ASKS_BURST: u32 = 32;
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How much of its rate a guest may send at once.
const BURST: Duration = Duration::from_millis(250);

/// What is carried at most, in bytes a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of what one guest sends.
    pub guest: u64,
    /// Of all together.
    pub all: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { guest: FERRY_GUEST_BYTES_PER_S, all: FERRY_BYTES_PER_S }
    }
}

/// Why a packet was not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// The number leads nowhere; its sender is to be told.
    Nowhere,
    /// The guest sends more than its share.
    Guest,
    /// All together send more than the ferry carries.
    Full,
}

/// What follows from a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The other device is to be called, and knows the asker by this number if it agrees.
    Call(Handle),
    /// It has agreed already: this is its number.
    Open(Handle),
}

/// There is no room for another guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it relays for {FERRY_GUESTS_MAX} devices already")]
pub struct Full;

/// What a ferry did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions.
    pub asked: u64,
    /// Those answered with yes.
    pub agreed: u64,
    /// Packets carried.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets for a number that leads nowhere.
    pub nowhere: u64,
    /// Packets beyond a guest's share.
    pub over_guest: u64,
    /// Packets beyond what all may send.
    pub over_all: u64,
}

/// When an allowance is full again (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
struct Allowance(Time);

impl Allowance {
    /// What taking `cost` makes of it; `None` if that is more than `burst` allows.
    fn after(self, now: Time, cost: Duration, burst: Duration) -> Option<Self> {
        let full_at = self.0.max(now) + cost;
        (full_at <= now + burst).then_some(Self(full_at))
    }
}

/// How long so many bytes take, rounded up.
fn cost(bytes: usize, per_s: u64) -> Duration {
    Duration::from_micros((bytes as u64).saturating_mul(1_000_000).div_ceil(per_s.max(1)))
}

/// One guest's end of a crossing.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Who is at the other.
    peer: DeviceId,
    /// The number of this guest there.
    theirs: Handle,
    /// This guest asked for it, or was asked and agreed.
    agreed: bool,
    /// When something was carried from here last.
    used: Time,
}

#[derive(Debug, Default)]
struct Guest {
    ends: BTreeMap<Handle, End>,
    /// The next number, unless it is in use. They begin again when all were used: whoever is given one that it knew before
    /// forgets what it stood for.
    next: u16,
    asks: Allowance,
    bytes: Allowance,
}

impl Guest {
    fn end_to(&self, peer: &DeviceId) -> Option<(Handle, End)> {
        self.ends.iter().find(|(_, end)| end.peer == *peer).map(|(handle, end)| (*handle, *end))
    }

    /// A number for one more crossing. Calls in vain use them up too, and whoever makes those must not keep others from
    /// this guest.
    fn number(&self) -> Option<Handle> {
        if self.ends.len() >= FERRY_CROSSINGS_MAX {
            return None;
        }
        let mut from_here = (0..=u16::MAX).map(|further| Handle(self.next.wrapping_add(further)));
        from_here.find(|handle| !self.ends.contains_key(handle))
    }

    fn begin(&mut self, handle: Handle, end: End) {
        self.next = handle.0.wrapping_add(1);
        self.ends.insert(handle, end);
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Desk {
    rates: Rates,
    guests: BTreeMap<DeviceId, Guest>,
    bytes: Allowance,
    counts: Counts,
}

impl Desk {
    /// A ferry without guests.
    #[must_use]
    pub const fn new(rates: Rates) -> Self {
        let counts =
            Counts { asked: 0, agreed: 0, packets: 0, bytes: 0, nowhere: 0, over_guest: 0, over_all: 0 };
        Self { rates, guests: BTreeMap::new(), bytes: Allowance(Time::ZERO), counts }
    }

    /// Takes a device in that may have packets carried, on a new connection: crossings of an older one are over.
    ///
    /// # Errors
    /// [`Full`].
    pub fn welcome(&mut self, guest: DeviceId) -> Result<(), Full> {
        let mut fresh = Guest::default();
        if let Some(before) = self.part(&guest) {
            // Another connection is no way to another allowance.
            (fresh.asks, fresh.bytes) = (before.asks, before.bytes);
        }
        if self.guests.len() >= FERRY_GUESTS_MAX {
            return Err(Full);
        }
        self.guests.insert(guest, fresh);
        Ok(())
    }

    /// Lets a guest go, and ends its crossings.
    pub fn leave(&mut self, guest: &DeviceId) {
        self.part(guest);
    }

    fn part(&mut self, guest: &DeviceId) -> Option<Guest> {
        let gone = self.guests.remove(guest)?;
        for end in gone.ends.values() {
            self.forget(&end.peer, end.theirs);
        }
        Some(gone)
    }

    fn forget(&mut self, guest: &DeviceId, handle: Handle) {
        if let Some(guest) = self.guests.get_mut(guest) {
            guest.ends.remove(&handle);
        }
    }

    /// Whether a device is a guest.
    #[must_use]
    pub fn has(&self, guest: &DeviceId) -> bool {
        self.guests.contains_key(guest)
    }

    /// A guest wants packets carried between it and another device. What follows a call goes to [`Desk::answered`].
    ///
    /// # Errors
    /// [`Refusal`], which says the same of every device that the asker is not to know of.
    pub fn ask(&mut self, now: Time, from: &DeviceId, to: &DeviceId) -> Result<Asked, Refusal> {
        self.counts.asked += 1;
        self.forget_idle(now);
        let asker = self.guests.get_mut(from).ok_or(Refusal::NotGranted)?;
        asker.asks = asker.asks.after(now, ASK_EVERY, ASK_EVERY * ASKS_BURST).ok_or(Refusal::TooOften)?;
        if let Some((ours, end)) = asker.end_to(to) {
            // Whoever is asked for and asks back has agreed.
            return Ok(match self.agree(now, from, ours) {
                Some(()) => Asked::Open(ours),
                None => Asked::Call(end.theirs),
            });
        }
        let ours = asker.number().ok_or(Refusal::TooMany)?;
        let called = self.guests.get_mut(to).filter(|_| from != to).ok_or(Refusal::NotHere)?;
        let theirs = called.number().ok_or(Refusal::NotHere)?;
        called.begin(theirs, End { peer: *from, theirs: ours, agreed: false, used: now });
        if let Some(asker) = self.guests.get_mut(from) {
            asker.begin(ours, End { peer: *to, theirs, agreed: true, used: now });
        }
        Ok(Asked::Call(theirs))
    }

    /// What the device said that was called: `called` is the number by which it was told of the asker. Returns the number
    /// by which the asker sends to it.
    ///
    /// # Errors
    /// [`Refusal::NotHere`] if it does not want, or one of them is gone.
    pub fn answered(
        &mut self,
        now: Time,
        to: &DeviceId,
        called: Handle,
        agrees: bool,
    ) -> Result<Handle, Refusal> {
        let end = self.guests.get(to).and_then(|guest| guest.ends.get(&called)).ok_or(Refusal::NotHere)?;
        let (from, ours, agreed) = (end.peer, end.theirs, end.agreed);
        if agrees && self.agree(now, to, called).is_some() {
            return Ok(ours);
        }
        if !agreed {
            self.forget(to, called);
            self.forget(&from, ours);
        }
        if agreed { Ok(ours) } else { Err(Refusal::NotHere) }
    }

    /// A guest agrees to a crossing; `None` unless the other has as well.
    fn agree(&mut self, now: Time, guest: &DeviceId, handle: Handle) -> Option<()> {
        let end = self.guests.get_mut(guest)?.ends.get_mut(&handle)?;
        (end.agreed, end.used) = (true, now);
        let (peer, theirs) = (end.peer, end.theirs);
        self.guests.get(&peer)?.ends.get(&theirs).filter(|end| end.agreed)?;
        self.counts.agreed += 1;
        Some(())
    }

    /// A guest sent a packet: to whom it goes, and by what number its sender is known there.
    ///
    /// # Errors
    /// [`Dropped`].
    pub fn carry(
        &mut self,
        now: Time,
        from: &DeviceId,
        handle: Handle,
        bytes: usize,
    ) -> Result<(DeviceId, Handle), Dropped> {
        let carried = self.admit(now, from, handle, bytes);
        match carried {
            Ok(_) => {
                self.counts.packets += 1;
                self.counts.bytes += bytes as u64;
            }
            Err(Dropped::Nowhere) => self.counts.nowhere += 1,
            Err(Dropped::Guest) => self.counts.over_guest += 1,
            Err(Dropped::Full) => self.counts.over_all += 1,
        }
        carried
    }

    fn admit(
        &mut self,
        now: Time,
        from: &DeviceId,
        handle: Handle,
        bytes: usize,
    ) -> Result<(DeviceId, Handle), Dropped> {
        let guest = self.guests.get(from).ok_or(Dropped::Nowhere)?;
        let end = *guest.ends.get(&handle).filter(|end| end.agreed).ok_or(Dropped::Nowhere)?;
        let twin = self.guests.get(&end.peer).and_then(|peer| peer.ends.get(&end.theirs));
        if !twin.is_some_and(|twin| twin.agreed) {
            return Err(Dropped::Nowhere);
        }
        let mine = guest.bytes.after(now, cost(bytes, self.rates.guest), BURST).ok_or(Dropped::Guest)?;
        self.bytes = self.bytes.after(now, cost(bytes, self.rates.all), BURST).ok_or(Dropped::Full)?;
        if let Some(guest) = self.guests.get_mut(from) {
            guest.bytes = mine;
            if let Some(end) = guest.ends.get_mut(&handle) {
                end.used = now;
            }
        }
        Ok((end.peer, end.theirs))
    }

    /// Ends crossings over which nothing was carried for [`FERRY_IDLE_MAX`]. Asked for before each new one, so that they
    /// need no clock of their own.
    fn forget_idle(&mut self, now: Time) {
        let busy = |end: &End| now.saturating_since(end.used) < FERRY_IDLE_MAX;
        let idle: Vec<(DeviceId, Handle)> = self
            .guests
            .iter()
            .flat_map(|(guest, state)| state.ends.iter().map(move |(handle, end)| (*guest, *handle, *end)))
            .filter(|(_, _, end)| {
                let twin = self.guests.get(&end.peer).and_then(|peer| peer.ends.get(&end.theirs));
                !busy(end) && !twin.is_some_and(busy)
            })
            .map(|(guest, handle, _)| (guest, handle))
            .collect();
        for (guest, handle) in idle {
            self.forget(&guest, handle);
        }
    }

    /// Guests there are now.
    #[must_use]
    pub fn guests(&self) -> usize {
        self.guests.len()
    }

    /// Crossings there are now.
    #[must_use]
    pub fn crossings(&self) -> usize {
        self.guests.values().map(|guest| guest.ends.len()).sum::<usize>() / 2
    }

    /// What it did so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
