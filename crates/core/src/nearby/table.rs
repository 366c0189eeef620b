//! One row of the nearby table: what each finder said about one device, and the view that people get of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::identity::DeviceId;
use crate::limits::{
    ADDRESSES_PER_DEVICE_MAX, INTERFACES_PER_SIGHTING_MAX, NEARBY_TTL_MAX, NEARBY_TTL_MIN, VERSION_BYTES_MAX,
};
use crate::time::Time;

use super::{
    Capabilities, Device, Event, Finder, Observation, PairingHint, Policy, Sighting, displayable, look_alike,
};

/// A change of signal strength smaller than this is noise and no event, in dB.
const RSSI_STEP_DB: u8 = 6;

/// What one finder said last about a device.
#[derive(Debug)]
struct Seen {
    last_seen: Time,
    /// Name, kind and so on, as last said. Its addresses and interface moved to `places`.
    said: Observation,
    /// The addresses it gave on each of our interfaces, with the end of their life, oldest first.
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    interface: Option<String>,
    addresses: Vec<SocketAddr>,
    expires: Time,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Entry {
    /// What was last told to the world.
    pub(super) shown: Device,
    /// The shown name as it is compared with the names of known devices.
    pub(super) look_alike: String,
    pub(super) known: bool,
    pub(super) impersonates: Option<DeviceId>,
    /// The known device a warning about this one was given for.
    pub(super) warned_of: Option<DeviceId>,
    seen: BTreeMap<Finder, Seen>,
}

impl Entry {
    pub(super) fn new(id: DeviceId, known: bool) -> Self {
        let shown = Device {
            id,
            name: String::new(),
            device_type: <_>::default(),
            version: String::new(),
            caps: Capabilities::NONE,
            pairing: PairingHint::Closed,
            known,
            impersonates: None,
            seen_by: BTreeMap::new(),
            addresses: Vec::new(),
        };
        Self {
            shown,
            look_alike: String::new(),
            known,
            impersonates: None,
            warned_of: None,
            seen: BTreeMap::new(),
        }
    }

    /// Notes what `finder` says. The addresses replace those it gave on the same interface: an announcement is complete.
    pub(super) fn observe(&mut self, now: Time, finder: Finder, mut said: Observation, policy: Policy) {
        let mut place = Place {
            interface: said.interface.take(),
            addresses: core::mem::take(&mut said.addresses),
            expires: now + said.ttl.clamp(NEARBY_TTL_MIN, NEARBY_TTL_MAX),
        };
        place.addresses.retain(|a| a.port() != 0 && !a.ip().is_unspecified() && !a.ip().is_multicast());
        place.addresses.truncate(ADDRESSES_PER_DEVICE_MAX);
        place.addresses.shrink_to_fit();
        said.name = displayable(&said.name);
        said.version = said.version.chars().take(VERSION_BYTES_MAX).filter(char::is_ascii_graphic).collect();
        let seen = self.seen.entry(finder).or_insert_with(|| Seen {
            last_seen: now,
            said: said.clone(),
            places: Vec::new(),
        });
        seen.last_seen = now;
        seen.said = said;
        match seen.places.iter().position(|p| p.interface == place.interface) {
            Some(at) => seen.places[at] = place,
            None => {
                if seen.places.len() >= INTERFACES_PER_SIGHTING_MAX {
                    seen.places.remove(0);
                }
                seen.places.push(place);
            }
        }
        debug_assert!(policy.admits(finder), "the table asks the policy first");
    }

    pub(super) fn forget_finder(&mut self, finder: Finder) {
        self.seen.remove(&finder);
    }

    pub(super) fn forget_interface(&mut self, name: &str) {
        self.retain_places(|place| place.interface.as_deref() != Some(name));
    }

    pub(super) fn keep_finders(&mut self, keep: impl Fn(Finder) -> bool) {
        self.seen.retain(|finder, _| keep(*finder));
    }

    pub(super) fn expire(&mut self, now: Time) {
        self.retain_places(|place| place.expires > now);
    }

    /// When the first observation of this row ends.
    pub(super) fn expires(&self) -> Option<Time> {
        self.seen.values().flat_map(|seen| &seen.places).map(|place| place.expires).min()
    }

    fn retain_places(&mut self, keep: impl Fn(&Place) -> bool) {
        self.seen.retain(|_, seen| {
            seen.places.retain(&keep);
            !seen.places.is_empty()
        });
    }

    /// Brings the view up to date and says whether that is news.
    pub(super) fn show(&mut self, policy: Policy) -> Option<Event> {
        let mut ranked: Vec<_> = self.seen.iter().collect();
        ranked.sort_by_key(|(finder, _)| policy.rank(**finder));
        let Some((_, best)) = ranked.first() else {
            return Some(Event::Lost(self.shown.id));
        };
        // A finder without names (BLE) must not blank the name that another one gave.
        let named = ranked.iter().map(|(_, seen)| &seen.said.name).find(|name| !name.is_empty());
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in
            ranked.iter().flat_map(|(_, seen)| seen.places.iter().rev()).flat_map(|place| &place.addresses)
        {
            if addresses.len() < ADDRESSES_PER_DEVICE_MAX && !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        let view = Device {
            id: self.shown.id,
            name: named.map_or_else(|| self.shown.id.short(), Clone::clone),
            device_type: best.said.device_type,
            version: best.said.version.clone(),
            caps: best.said.caps,
            pairing: best.said.pairing,
            known: self.known,
            impersonates: self.impersonates,
            seen_by: self.seen.iter().map(|(finder, seen)| (*finder, seen.sighting())).collect(),
            addresses,
        };
        let news = is_news(&self.shown, &view);
        if news {
            if self.shown.name != view.name {
                self.look_alike = look_alike(&view.name);
            }
            self.shown = view;
            return Some(Event::Changed(Box::new(self.shown.clone())));
        }
        // Times move silently; the last announced signal strength stays, or a slow drift would never be news.
        for (finder, sighting) in view.seen_by {
            if let Some(shown) = self.shown.seen_by.get_mut(&finder) {
                shown.last_seen = sighting.last_seen;
                shown.interfaces = sighting.interfaces;
            }
        }
        self.shown.addresses = view.addresses;
        None
    }
}

impl Seen {
    fn sighting(&self) -> Sighting {
        Sighting {
            last_seen: self.last_seen,
            interfaces: self.places.iter().filter_map(|place| place.interface.clone()).collect(),
            rssi: self.said.rssi,
        }
    }
}

/// Whether a person would notice the difference.
fn is_news(old: &Device, new: &Device) -> bool {
    let mut old_addresses = old.addresses.clone();
    let mut new_addresses = new.addresses.clone();
    old_addresses.sort_unstable();
    new_addresses.sort_unstable();
    old_addresses != new_addresses
        || (&old.name, &old.version, old.device_type) != (&new.name, &new.version, new.device_type)
        || (old.caps, old.pairing) != (new.caps, new.pairing)
        || (old.known, old.impersonates) != (new.known, new.impersonates)
        || !old.seen_by.keys().eq(new.seen_by.keys())
        || new
            .seen_by
            .iter()
            .any(|(finder, s)| old.seen_by.get(finder).is_some_and(|o| moved(o.rssi, s.rssi)))
}

fn moved(old: Option<i8>, new: Option<i8>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.abs_diff(new) >= RSSI_STEP_DB,
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    }
}
