//! Forward secrecy with each paired device: which ratchet seals, which ones still open, and what the disk must hold before.
//!
//! ```text
//!   meeting, exchange ──▶ fresh ──on disk──▶ said to be held ──peer proved that it holds it──▶ current ──▶ former
//! ```
//!
//! A message sealed with keys that the other end has lost is lost as well, so nothing is sealed with a ratchet before both
//! ends have it on disk. A side proves that it does by a signed frame ([`Body::Held`](super::signed::Body::Held)), by the
//! answer to an offer, or by a message sealed with it. Until then the older one seals, or the static keys do; opening is
//! tried with all of them. What is left behind opens until three newer ones are proved: messages are on their way for
//! hours, but not for ever.
//!
//! A number whose block no ratchet here covers any more can never be opened here. Only that is told to its sender
//! ([`Body::Lost`](super::signed::Body::Lost)), who then seals that one message with static keys: nobody who merely
//! makes noise can bring a device to do without forward secrecy.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut as _, Bytes};
use subtle::ConstantTimeEq as _;

use super::frame::Data;
use super::hint::Address;
use super::keys::{Ratchet, Refused, Starts};
use super::records::{Journal, Key, Mark, Saved, Table, open, versioned};
use crate::limits::{MESH_RATCHET_FORMER_MAX, MESH_RATCHET_PEERS_MAX};
use crate::wire::{Invalid, Reader};

const VERSION: u8 = 1;
/// Messages remembered because the peer cannot open them.
const LOST_MAX: usize = 16;

/// A ratchet and the numbers from which it seals: those before are of the keys before, also within a block.
#[derive(Debug)]
struct Kept {
    ratchet: Ratchet,
    starts: Starts,
}

/// A ratchet whose other end has not proved that it has it.
#[derive(Debug)]
struct Fresh {
    kept: Kept,
    /// What each end of a session says to prove that it has it.
    proof: Option<Proof>,
    /// The mark that has it on disk; `None` once it is there.
    waits: Option<Mark>,
}

/// What proves to the other end that a ratchet is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) ours: [u8; 16],
    pub(super) theirs: [u8; 16],
}

/// All ratchets with one peer.
#[derive(Debug, Default)]
struct Held {
    fresh: Option<Fresh>,
    current: Option<Kept>,
    /// Newest first.
    former: VecDeque<Kept>,
    /// What is to be said to prove that the newest is on this disk.
    owes: Option<[u8; 16]>,
    /// A block of `current` on its way to the disk; nothing of it is sealed before.
    moving: Option<Mark>,
    /// Numbers of messages that the peer cannot open, newest first.
    lost: VecDeque<u32>,
}

/// What opened a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Its plaintext.
    Message(Bytes),
    /// No keys that fit.
    Forged,
    /// Its keys do not exist here any more, or never did.
    Lost,
}

/// Whether a message with a number can be sealed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// With a ratchet.
    Ratchet,
    /// With static keys: there is no ratchet for it.
    Static,
    /// When the disk has everything up to this mark.
    Wait(Mark),
}

/// The ratchets with all peers.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    table: BTreeMap<Address, Held>,
}

impl Secrets {
    /// As the disk has them, and the peers whose record is damaged: with those the static keys remain, until the two
    /// meet again.
    pub(super) fn restore(saved: &mut Saved, journal: &mut Journal) -> (Self, Vec<Address>) {
        let (mut table, mut damaged) = (BTreeMap::new(), Vec::new());
        for (id, value) in saved.take(Table::Ratchet) {
            let address = <[u8; 16]>::try_from(&id[..]).map(Address);
            match (address, Held::decode(&value)) {
                (Ok(address), Ok(held)) => {
                    table.insert(address, held);
                }
                (Ok(address), Err(_)) => {
                    journal.erase(Key { table: Table::Ratchet, id });
                    damaged.push(address);
                }
                (Err(_), _) => journal.erase(Key { table: Table::Ratchet, id }),
            }
        }
        (Self { table }, damaged)
    }

    /// A ratchet that both ends can have: this one keeps it, and says so when the disk has it. False if there is no room.
    pub(super) fn agree(
        &mut self,
        peer: Address,
        (ratchet, starts, proof): (Ratchet, Starts, Option<Proof>),
        journal: &mut Journal,
    ) -> Option<Mark> {
        if !self.table.contains_key(&peer) && self.table.len() >= MESH_RATCHET_PEERS_MAX {
            return None;
        }
        let held = self.table.entry(peer).or_default();
        if let Some(unproved) = held.fresh.take() {
            // Its other end may have taken our word that we hold it, and use it.
            held.keep(unproved.kept);
        }
        held.fresh = Some(Fresh { kept: Kept { ratchet, starts }, proof, waits: None });
        held.owes = proof.map(|proof| proof.ours);
        let mark = held.save(&peer, journal);
        if let Some(fresh) = &mut held.fresh {
            fresh.waits = Some(mark);
        }
        Some(mark)
    }

    /// The peer proved that it has the newest ratchet.
    pub(super) fn proved(&mut self, peer: &Address, journal: &mut Journal) {
        let Some(held) = self.table.get_mut(peer) else { return };
        if held.promote() {
            held.moving = Some(held.save(peer, journal));
        }
    }

    /// The peer says that it has a ratchet on its disk. False if that proves nothing.
    pub(super) fn says_held(&mut self, peer: &Address, said: &[u8; 16], journal: &mut Journal) -> bool {
        let fresh = self.table.get(peer).and_then(|held| held.fresh.as_ref());
        let proof = fresh.and_then(|fresh| fresh.proof);
        let proves = proof.is_some_and(|proof| bool::from(proof.theirs.ct_eq(said)));
        if proves {
            self.proved(peer, journal);
        }
        proves
    }

    /// Peers that are to be told that their ratchet is on this disk, and what proves it.
    pub(super) fn owed(&self) -> Vec<(Address, [u8; 16])> {
        let safe = |held: &Held| held.fresh.as_ref().is_none_or(|fresh| fresh.waits.is_none());
        let owed = |held: &Held| held.owes.filter(|_| safe(held));
        self.table.iter().filter_map(|(peer, held)| Some((*peer, owed(held)?))).collect()
    }

    /// It was told.
    pub(super) fn told(&mut self, peer: &Address) {
        if let Some(held) = self.table.get_mut(peer) {
            held.owes = None;
        }
    }

    /// The disk has what it was given.
    pub(super) fn synced(&mut self, mark: Mark) {
        for held in self.table.values_mut() {
            held.moving.take_if(|waits| *waits <= mark);
            if let Some(fresh) = &mut held.fresh {
                fresh.waits.take_if(|waits| *waits <= mark);
            }
        }
    }

    /// Whether a message with this number can be sealed now. Steps on if it is of a new block: the disk forgets the one
    /// before first.
    pub(super) fn prepare(&mut self, peer: &Address, seq: u32, journal: &mut Journal) -> Readiness {
        let Some(held) = self.table.get_mut(peer) else { return Readiness::Static };
        if held.lost.contains(&seq) {
            return Readiness::Static;
        }
        if let Some(mark) = held.moving {
            return Readiness::Wait(mark);
        }
        let Some(current) = &mut held.current else { return Readiness::Static };
        match current.prepare(seq) {
            Ok(false) => Readiness::Ratchet,
            Ok(true) => {
                let mark = held.save(peer, journal);
                held.moving = Some(mark);
                Readiness::Wait(mark)
            }
            Err(_) => Readiness::Static,
        }
    }

    /// Seals a message with the ratchet proved last, if there is one that can. Ask [`Secrets::prepare`] first.
    pub(super) fn seal(&mut self, peer: &Address, data: &mut Data, journal: &mut Journal) -> bool {
        let Some(held) = self.table.get_mut(peer) else { return false };
        let Some(current) = &mut held.current else { return false };
        let before = current.ratchet.sending_block();
        let sealed = current.ratchet.seal(data).is_ok();
        if current.ratchet.sending_block() != before {
            held.save(peer, journal);
        }
        sealed
    }

    /// Opens a message that is marked as sealed with a ratchet.
    pub(super) fn open(&mut self, peer: &Address, data: &Data, journal: &mut Journal) -> Opened {
        let Some(held) = self.table.get_mut(peer) else { return Opened::Lost };
        let mut lost = true;
        if let Some(fresh) = &mut held.fresh {
            match fresh.kept.open(data) {
                Ok(payload) => {
                    // Who seals with it has it on disk.
                    held.promote();
                    held.save(peer, journal);
                    return Opened::Message(payload);
                }
                Err(why) => lost &= why == Refused::Erased,
            }
        }
        for kept in held.current.iter_mut().chain(&mut held.former) {
            let before = kept.ratchet.receiving_block();
            match kept.open(data) {
                Ok(payload) => {
                    if kept.ratchet.receiving_block() != before {
                        held.save(peer, journal);
                    }
                    return Opened::Message(payload);
                }
                Err(why) => lost &= why == Refused::Erased,
            }
        }
        if lost { Opened::Lost } else { Opened::Forged }
    }

    /// The peer cannot open the message with this number: it is sealed with static keys from now on, and so is everything
    /// else until there is a newer ratchet.
    pub(super) fn gave_up(&mut self, peer: &Address, number: u32, journal: &mut Journal) {
        let Some(held) = self.table.get_mut(peer) else { return };
        held.lost.push_front(number);
        held.lost.truncate(LOST_MAX);
        if let Some(old) = held.current.take() {
            held.keep(old);
            held.save(peer, journal);
        }
    }

    /// Whether there is a ratchet that seals.
    pub(super) fn is_sealing(&self, peer: &Address) -> bool {
        self.table.get(peer).is_some_and(|held| held.current.is_some())
    }

    /// Whether there is a ratchet that seals, or soon will.
    pub(super) fn has(&self, peer: &Address) -> bool {
        self.table.get(peer).is_some_and(|held| held.current.is_some() || held.fresh.is_some())
    }

    /// Everything shared with this peer is forgotten, on disk too.
    pub(super) fn forget(&mut self, peer: &Address, journal: &mut Journal) {
        if self.table.remove(peer).is_some() {
            journal.erase(Key::new(Table::Ratchet, &peer.0));
            journal.sync();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.values().map(|held| size_of::<(Address, Held)>() + 100 * held.former.len()).sum()
    }
}

impl Held {
    /// The fresh one becomes the current one; false if there is none.
    fn promote(&mut self) -> bool {
        let Some(fresh) = self.fresh.take() else { return false };
        if let Some(old) = self.current.replace(fresh.kept) {
            self.keep(old);
        }
        true
    }

    fn keep(&mut self, kept: Kept) {
        self.former.push_front(kept);
        self.former.truncate(MESH_RATCHET_FORMER_MAX);
    }

    fn save(&self, peer: &Address, journal: &mut Journal) -> Mark {
        let mut out = versioned(VERSION);
        put(&mut out, self.fresh.as_ref().map(|fresh| &fresh.kept));
        let proof = self.fresh.as_ref().and_then(|fresh| fresh.proof);
        out.put_u8(proof.is_some().into());
        for half in proof.iter().flat_map(|proof| [proof.ours, proof.theirs]) {
            out.put_slice(&half);
        }
        put(&mut out, self.current.as_ref());
        for kept in &self.former {
            put(&mut out, Some(kept));
        }
        journal.save(Key::new(Table::Ratchet, &peer.0), out.freeze());
        journal.sync()
    }

    /// Reads what [`Held::save`] wrote.
    pub(super) fn decode(value: &[u8]) -> Result<Self, Invalid> {
        const WHAT: &str = "saved ratchets";
        let mut reader = open(value, VERSION, WHAT)?;
        let fresh = take(&mut reader)?;
        let proof = match reader.u8(WHAT)? {
            0 => None,
            1 => Some(Proof { ours: reader.array(WHAT)?, theirs: reader.array(WHAT)? }),
            _ => return Err(Invalid::Value { what: WHAT }),
        };
        let fresh = fresh.map(|kept| Fresh { kept, proof, waits: None });
        let current = take(&mut reader)?;
        let mut former = VecDeque::new();
        while reader.remaining() > 0 {
            let kept = take(&mut reader)?.ok_or(Invalid::Value { what: WHAT })?;
            if former.len() == MESH_RATCHET_FORMER_MAX {
                return Err(Invalid::Value { what: WHAT });
            }
            former.push_back(kept);
        }
        let owes = proof.map(|proof| proof.ours);
        Ok(Self { fresh, current, former, owes, ..Self::default() })
    }
}

impl Kept {
    fn open(&mut self, data: &Data) -> Result<Bytes, Refused> {
        if data.seq < self.starts.theirs { Err(Refused::Erased) } else { self.ratchet.open(data) }
    }

    fn prepare(&mut self, seq: u32) -> Result<bool, Refused> {
        if seq < self.starts.ours { Err(Refused::Erased) } else { self.ratchet.prepare(seq) }
    }
}

/// `length u16 | our first number u32 | the peer's u32 | ratchet`; a length of zero for none.
fn put(out: &mut bytes::BytesMut, kept: Option<&Kept>) {
    let Some(Kept { ratchet, starts }) = kept else { return out.put_u16(0) };
    let saved = ratchet.save();
    out.put_u16(u16::try_from(saved.len()).unwrap_or(0));
    out.put_u32(starts.ours);
    out.put_u32(starts.theirs);
    out.put_slice(&saved);
}

fn take(reader: &mut Reader<'_>) -> Result<Option<Kept>, Invalid> {
    const WHAT: &str = "saved ratchets";
    let len = usize::from(u16::from_be_bytes(reader.array(WHAT)?));
    if len == 0 {
        return Ok(None);
    }
    let starts = Starts { ours: reader.u32(WHAT)?, theirs: reader.u32(WHAT)? };
    Ok(Some(Kept { ratchet: Ratchet::load(reader.take(len, WHAT)?)?, starts }))
}

/// Whether these bytes are ratchets on disk: for fuzzing.
///
/// # Errors
/// [`Invalid`] if not.
pub fn check_record(value: &[u8]) -> Result<(), Invalid> {
    Held::decode(value).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use crate::mesh::keys::Root;
    use proptest::prelude::*;

    const PEER: Address = Address([1; 16]);

    fn ratchet(n: u8) -> (Ratchet, Starts, Option<Proof>) {
        let [own, peer] = [1, 2].map(|n| SecretKey::from_u64(n).id());
        let starts = Starts { ours: 10, theirs: 20 };
        let proof = Proof { ours: [n; 16], theirs: [n + 1; 16] };
        (Ratchet::new(&Root::from_session([n; 32]), &own, &peer, starts), starts, Some(proof))
    }

    fn record(journal: &mut Journal) -> Bytes {
        let mut disk = Saved::default();
        while let Some(write) = journal.poll() {
            disk.apply(&write);
        }
        disk.find(&Key::new(Table::Ratchet, &PEER.0)).cloned().unwrap_or_default()
    }

    #[test]
    fn a_ratchet_is_owed_a_word_when_the_disk_has_it_and_seals_when_the_peer_gave_its_own() {
        let (mut secrets, mut journal) = (Secrets::default(), Journal::default());
        let mark = secrets.agree(PEER, ratchet(7), &mut journal).unwrap();
        assert_eq!(secrets.owed(), []);
        secrets.synced(mark);
        assert_eq!(secrets.owed(), [(PEER, [7; 16])]);
        assert_eq!(secrets.prepare(&PEER, 64, &mut journal), Readiness::Static);
        assert!(!secrets.says_held(&PEER, &[7; 16], &mut journal), "our own word");
        assert!(secrets.says_held(&PEER, &[8; 16], &mut journal));
        assert_eq!(secrets.owed(), [(PEER, [7; 16])], "the peer still waits for ours");
        secrets.told(&PEER);
        secrets.synced(Mark(u64::MAX));
        assert!(matches!(secrets.prepare(&PEER, 64, &mut journal), Readiness::Wait(_)), "a new block");
        secrets.synced(Mark(u64::MAX));
        assert_eq!(secrets.prepare(&PEER, 64, &mut journal), Readiness::Ratchet);
        assert_eq!(secrets.prepare(&PEER, 9, &mut journal), Readiness::Static, "before its beginning");
    }

    #[test]
    fn what_is_saved_is_read_back_and_former_ratchets_end() {
        let (mut secrets, mut journal) = (Secrets::default(), Journal::default());
        for n in 1..10 {
            secrets.agree(PEER, ratchet(n), &mut journal);
            secrets.proved(&PEER, &mut journal);
        }
        secrets.agree(PEER, ratchet(100), &mut journal);
        let value = record(&mut journal);
        let held = Held::decode(&value).unwrap();
        assert_eq!(held.former.len(), MESH_RATCHET_FORMER_MAX);
        assert!(held.fresh.is_some() && held.current.is_some());
        held.save(&PEER, &mut journal);
        assert_eq!(record(&mut journal), value);
        assert!(value.len() < crate::limits::MESH_RECORD_BYTES_MAX);
    }

    #[test]
    fn a_damaged_record_is_told_and_erased() {
        let key = Key::new(Table::Ratchet, &PEER.0);
        let record = super::super::records::Record { key, value: Bytes::from_static(b"\x01\x00") };
        let mut journal = Journal::default();
        let (secrets, damaged) = Secrets::restore(&mut [record].into_iter().collect(), &mut journal);
        assert_eq!((damaged, secrets.has(&PEER)), (vec![PEER], false));
        assert!(matches!(journal.poll(), Some(super::super::records::Write::Erase(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_ratchets_that_save_alike_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(held) = Held::decode(&bytes) {
                let mut journal = Journal::default();
                held.save(&PEER, &mut journal);
                prop_assert_eq!(&record(&mut journal)[..], &bytes[..]);
            }
        }
    }
}
