//! Who is around: observations of many finders in, one stream of found, changed and lost devices out.
//!
//! ```text
//!  mDNS ──┐
//!  BLE  ──┼── Input::Seen ──▶ [ Nearby ] ──▶ Event::{Found, Changed, Lost, Conflict}
//!  scan ──┘                      │
//!                           snapshot()
//! ```
//!
//! Everything that comes in was said by strangers. So the table
//!
//! - knows a device only by its [`DeviceId`]; a finder that sees the same id again adds to the same entry;
//! - holds at most [`NEARBY_DEVICES_MAX`] entries, and a stranger never pushes a known (paired) device out;
//! - forgets an observation when its time to live is over, and a device with its last observation;
//! - **grants nothing**: `known` is copied from the trust store by whoever feeds [`Input::Known`], never derived here;
//! - warns when a known device's name or address turns up under another key ([`Event::Conflict`]). It is a warning, not
//!   proof: whether the right device answers is decided by the handshake.
//!
//! Driven as every machine of this crate: `handle`, then `poll_output` to `None`, then `poll_timeout`.

mod name;
mod table;
mod txt;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use core::time::Duration;

use crate::identity::{DeviceId, DeviceType};
use crate::limits::{CONFLICT_QUIET, NEARBY_DEVICES_MAX};
use crate::time::{Deadline, Time};

pub use self::name::{displayable, look_alike};
pub use self::txt::{Capabilities, InvalidTxt, PairingHint, TxtRecord};

use self::table::Entry;

/// A way to notice devices. The order is the order of preference: what is said over a finder further up is shown, and
/// its addresses are tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finder {
    /// Multicast DNS on the LAN.
    Mdns,
    /// An address given by hand, a ticket or a QR code.
    Manual,
    /// An address remembered from an earlier link.
    Remembered,
    /// LocalSend's multicast announcement.
    LocalSend,
    /// Our limited broadcast, for networks that drop multicast.
    Broadcast,
    /// A bounded scan of the subnet.
    Scan,
    /// Bluetooth Low Energy advertising.
    Ble,
}

impl Finder {
    /// Every finder, most preferred first.
    pub const ALL: [Self; 7] =
        [Self::Mdns, Self::Manual, Self::Remembered, Self::LocalSend, Self::Broadcast, Self::Scan, Self::Ble];

    /// The word used in configuration and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mdns => "mdns",
            Self::Manual => "manual",
            Self::Remembered => "remembered",
            Self::LocalSend => "localsend",
            Self::Broadcast => "broadcast",
            Self::Scan => "scan",
            Self::Ble => "ble",
        }
    }
}

/// Which finders count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// All of them, in their usual order.
    #[default]
    All,
    /// All of them, this one before the others.
    Prefer(Finder),
    /// Only this one; what others see is kept out of the table.
    Only(Finder),
}

impl Policy {
    fn admits(self, finder: Finder) -> bool {
        match self {
            Self::All | Self::Prefer(_) => true,
            Self::Only(only) => only == finder,
        }
    }

    /// Sorts finders: smaller is better.
    fn rank(self, finder: Finder) -> (bool, Finder) {
        (self != Self::Prefer(finder), finder)
    }
}

/// One device as one finder saw it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The identity it claims.
    pub id: DeviceId,
    /// The name it gave itself; cleaned by the table.
    pub name: String,
    /// What kind of machine it says it is.
    pub device_type: DeviceType,
    /// The program version it says it runs.
    pub version: String,
    /// What it says it offers.
    pub caps: Capabilities,
    /// Whether it says it waits for pairing.
    pub pairing: PairingHint,
    /// Where it says it can be reached. Replaces what the same finder said on the same interface before.
    pub addresses: Vec<SocketAddr>,
    /// Our interface it was seen on.
    pub interface: Option<String>,
    /// Signal strength in dBm, where the finder has one.
    pub rssi: Option<i8>,
    /// How long to believe this without hearing it again.
    pub ttl: Duration,
}

/// What can happen to the table.
#[derive(Clone, Debug)]
pub enum Input {
    /// A finder saw a device.
    Seen {
        /// Which finder.
        finder: Finder,
        /// What it saw.
        observation: Observation,
    },
    /// A finder heard a device say goodbye, or knows it is gone.
    Gone {
        /// Which finder.
        finder: Finder,
        /// Who is gone.
        id: DeviceId,
    },
    /// One of our interfaces went away, and with it everything that was seen only there.
    InterfaceGone {
        /// The interface's name, as in [`Observation::interface`].
        name: String,
    },
    /// The devices of the trust store with the names we know them by. Replaces the previous set.
    Known(BTreeMap<DeviceId, String>),
    /// Which finders count from now on.
    Policy(Policy),
    /// The deadline of [`Nearby::poll_timeout`] has come.
    Timeout,
}

/// When and where one finder last saw a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The last time.
    pub last_seen: Time,
    /// Our interfaces it was seen on, oldest first.
    pub interfaces: Vec<String>,
    /// The last signal strength in dBm, if the finder has one.
    pub rssi: Option<i8>,
}

/// A device as the table knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The identity it claims; proved only by a handshake.
    pub id: DeviceId,
    /// Its name, fit to be shown, never empty: a device without a name is shown by its short id.
    pub name: String,
    /// What kind of machine it says it is.
    pub device_type: DeviceType,
    /// The program version it says it runs; may be empty.
    pub version: String,
    /// What it says it offers.
    pub caps: Capabilities,
    /// Whether it says it waits for pairing.
    pub pairing: PairingHint,
    /// Whether the trust store holds this id.
    pub known: bool,
    /// The known device whose name or address this one carries too.
    pub impersonates: Option<DeviceId>,
    /// Who sees it.
    pub seen_by: BTreeMap<Finder, Sighting>,
    /// Where it may be reached, best finder first, at most
    /// [`ADDRESSES_PER_DEVICE_MAX`](crate::limits::ADDRESSES_PER_DEVICE_MAX).
    pub addresses: Vec<SocketAddr>,
}

impl Device {
    /// The most recent sighting by any finder.
    #[must_use]
    pub fn last_seen(&self) -> Time {
        self.seen_by.values().map(|s| s.last_seen).max().unwrap_or(Time::ZERO)
    }

    /// The strongest signal any finder reports, in dBm.
    #[must_use]
    pub fn rssi(&self) -> Option<i8> {
        self.seen_by.values().filter_map(|s| s.rssi).max()
    }
}

/// What a known device has in common with one that holds another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// A name that looks the same.
    Name,
    /// The same address and port at the same time.
    Address(SocketAddr),
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A device that was not there before.
    Found(Box<Device>),
    /// Something a person would notice changed: not the time of the last sighting alone.
    Changed(Box<Device>),
    /// No finder sees it any more, or it made room.
    Lost(DeviceId),
    /// A known device's name or address under another key. Said once per impostor, and at most once per known device in
    /// [`CONFLICT_QUIET`]; [`Device::impersonates`] marks every one of them.
    Conflict {
        /// The device of the trust store.
        known: DeviceId,
        /// The key that is not it.
        impostor: DeviceId,
        /// The name the impostor shows.
        name: String,
        /// What the two have in common.
        shared: Shared,
    },
}

/// The table. See the [module](self).
#[derive(Debug)]
pub struct Nearby {
    own: DeviceId,
    policy: Policy,
    entries: BTreeMap<DeviceId, Entry>,
    /// Devices of the trust store, with the look-alike form of their names.
    known: BTreeMap<DeviceId, String>,
    /// When a conflict over this known device was last reported. Keys are a subset of `known`.
    warned: BTreeMap<DeviceId, Time>,
    /// Strangers turned away because known devices fill the table.
    refused: u64,
    /// Drained after every `handle`; a single input produces at most a few events per entry.
    output: VecDeque<Event>,
}

impl Nearby {
    /// An empty table for the device `own`, which never appears in it.
    #[must_use]
    pub const fn new(own: DeviceId, policy: Policy) -> Self {
        Self {
            own,
            policy,
            entries: BTreeMap::new(),
            known: BTreeMap::new(),
            warned: BTreeMap::new(),
            refused: 0,
            output: VecDeque::new(),
        }
    }

    /// Takes one input. Never fails; what it means comes out of [`Nearby::poll_output`].
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Seen { finder, observation } => self.on_seen(now, finder, observation),
            Input::Gone { finder, id } => self.revise(id, |entry| entry.forget_finder(finder)),
            Input::InterfaceGone { name } => {
                self.revise_all(|entry| entry.forget_interface(&name));
            }
            Input::Known(devices) => self.on_known(now, devices),
            Input::Policy(policy) => {
                self.policy = policy;
                self.revise_all(|entry| entry.keep_finders(|finder| policy.admits(finder)));
            }
            Input::Timeout => {}
        }
        // Also after other inputs: a caller that is late with its timeout must not see what has expired.
        if self.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
            self.revise_all(|entry| entry.expire(now));
        }
    }

    /// The next event, until `None`.
    pub fn poll_output(&mut self) -> Option<Event> {
        self.output.pop_front()
    }

    /// When the next observation expires.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let at = self.entries.values().filter_map(Entry::expires).min()?;
        Some(Deadline { at, why: "a nearby device's observation expires" })
    }

    /// Every device in the table, in the order of their ids.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Device> {
        self.entries.values().map(|entry| entry.shown.clone()).collect()
    }

    /// One device.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.entries.get(id).map(|entry| &entry.shown)
    }

    /// Every device that shows this name, known devices first: more than one means the name is ambiguous. Compares as a
    /// person would, without regard to case.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<&Device> {
        let wanted = displayable(name).to_lowercase();
        let mut found: Vec<_> =
            self.entries.values().map(|e| &e.shown).filter(|d| d.name.to_lowercase() == wanted).collect();
        found.sort_by_key(|d| (!d.known, d.id));
        found
    }

    /// How many strangers were turned away because known devices fill the table.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn on_seen(&mut self, now: Time, finder: Finder, observation: Observation) {
        let id = observation.id;
        if id == self.own || !self.policy.admits(finder) {
            return;
        }
        let policy = self.policy;
        if self.entries.contains_key(&id) {
            self.revise(id, |entry| entry.observe(now, finder, observation, policy));
        } else {
            let known = self.known.contains_key(&id);
            if !self.make_room(known) {
                self.refused += 1;
                return;
            }
            let mut entry = Entry::new(id, known);
            entry.observe(now, finder, observation, policy);
            entry.show(policy);
            self.output.push_back(Event::Found(Box::new(entry.shown.clone())));
            self.entries.insert(id, entry);
        }
        self.check_conflicts(now, id);
    }

    /// Frees a place if the table is full. The stranger not seen for longest goes; a known device only for another one.
    fn make_room(&mut self, newcomer_known: bool) -> bool {
        if self.entries.len() < NEARBY_DEVICES_MAX {
            return true;
        }
        let oldest = self.entries.values().min_by_key(|e| (e.shown.known, e.shown.last_seen(), e.shown.id));
        let Some(victim) =
            oldest.map(|e| (e.shown.id, e.shown.known)).filter(|(_, known)| newcomer_known || !known)
        else {
            return false;
        };
        self.entries.remove(&victim.0);
        self.output.push_back(Event::Lost(victim.0));
        true
    }

    fn on_known(&mut self, now: Time, devices: BTreeMap<DeviceId, String>) {
        self.known = devices.into_iter().map(|(id, name)| (id, look_alike(&name))).collect();
        self.warned.retain(|id, _| self.known.contains_key(id));
        let known = &self.known;
        for entry in self.entries.values_mut() {
            entry.known = known.contains_key(&entry.shown.id);
            entry.impersonates = entry.impersonates.filter(|id| !entry.known && known.contains_key(id));
        }
        self.revise_all(|_| {});
        let ids: Vec<_> = self.entries.keys().copied().collect();
        for id in ids {
            self.check_conflicts(now, id);
        }
    }

    /// Warns if `id` and a known device are two keys with one name or one address. Either may have come last.
    fn check_conflicts(&mut self, now: Time, id: DeviceId) {
        let Some(entry) = self.entries.get(&id) else { return };
        if entry.known {
            let strangers: Vec<_> = self.entries.values().filter(|e| !e.known).map(|e| e.shown.id).collect();
            for stranger in strangers {
                if let Some(shared) = self.shared_between(id, stranger) {
                    self.report_conflict(now, id, stranger, shared);
                }
            }
            return;
        }
        let conflict = self.known.keys().find_map(|&known| Some((known, self.shared_between(known, id)?)));
        if let Some((known, shared)) = conflict {
            self.report_conflict(now, known, id, shared);
        }
    }

    fn shared_between(&self, known: DeviceId, stranger: DeviceId) -> Option<Shared> {
        let stranger = self.entries.get(&stranger)?;
        let name = self.known.get(&known)?;
        if !name.is_empty() && stranger.look_alike == *name {
            return Some(Shared::Name);
        }
        let known = &self.entries.get(&known)?.shown;
        stranger.shown.addresses.iter().find(|a| known.addresses.contains(a)).map(|a| Shared::Address(*a))
    }

    fn report_conflict(&mut self, now: Time, known: DeviceId, impostor: DeviceId, shared: Shared) {
        let Some(entry) = self.entries.get_mut(&impostor) else { return };
        let name = entry.shown.name.clone();
        if entry.impersonates != Some(known) {
            entry.impersonates = Some(known);
            self.revise(impostor, |_| {});
        }
        let Some(entry) = self.entries.get_mut(&impostor) else { return };
        let quiet = self.warned.get(&known).is_some_and(|&at| now.saturating_since(at) < CONFLICT_QUIET);
        if entry.warned_of == Some(known) || quiet {
            return;
        }
        entry.warned_of = Some(known);
        self.warned.insert(known, now);
        self.output.push_back(Event::Conflict { known, impostor, name, shared });
    }

    /// Changes one entry and says what a person would notice of it.
    fn revise(&mut self, id: DeviceId, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        change(entry);
        if let Some(event) = entry.show(self.policy) {
            if matches!(event, Event::Lost(_)) {
                self.entries.remove(&id);
            }
            self.output.push_back(event);
        }
    }

    fn revise_all(&mut self, mut change: impl FnMut(&mut Entry)) {
        let (policy, output) = (self.policy, &mut self.output);
        self.entries.retain(|_, entry| {
            change(entry);
            let event = entry.show(policy);
            let lost = matches!(event, Some(Event::Lost(_)));
            output.extend(event);
            !lost
        });
    }
}
