//! Announces heard and passed on: checked before they are believed, and believed before they are repeated (ME-A7 to
//! ME-A9).
//!
//! What a check costs is bounded for each port, so that a flood of new names costs a few signatures a second and no more.
//! What a device's announce teaches is a way to it, and what it offers.

use core::time::Duration;

use super::announcer::{Whose, is_wanted};
use super::bucket::{Party, Rate, Rates, Traffic};
use super::event::{Dropped, Event};
use super::frame::{AnnounceAnchor, AnnounceKey, Beacon, Caps, Cost, Kind, Priority};
use super::hint::{Address, Near};
use super::line::{Purpose, Turn};
use super::machine::Mesh;
use super::port::{PortId, PortInfo};
use super::receive::Heard;
use super::roll::{Present, Refused, Taken};
use super::routes::Way;
use super::spread::{Rumour, patience};
use crate::identity::DeviceId;
use crate::limits::MESH_ANNOUNCE_HOPS_MAX;
use crate::time::Time;

/// How long an announce may wait to be repeated.
const SPREAD_MAX: Duration = Duration::from_secs(60);
/// How far announces go where they are rationed: neighbours of neighbours know where a message can be stored.
const RATIONED_HOPS_MAX: u8 = 2;
/// Announces checked on one port: each costs a signature or up to 256 hashes, about a tenth of a millisecond.
const CHECKS: Rate = Rate { every: Duration::from_millis(100), burst: 64 };

/// What announces cost at most, by port and by the device they are of.
pub(super) const ALLOWANCES: (Rates, Rates) =
    (Rates { announces: CHECKS, ..Rates::NEIGHBOUR }, Rates::SOURCE);

/// An announce that was believed.
struct Believed {
    address: Address,
    prev: Near,
    hops: u8,
    cost: Cost,
    caps: Caps,
    kind: Kind,
    newcomer: bool,
}

impl Mesh {
    /// Devices that announced themselves lately and offer all of `caps`, the nearest first.
    #[must_use]
    pub fn devices(&self, now: Time, caps: Caps) -> Vec<Present> {
        self.roll.offering(now, caps)
    }

    /// Says of ourselves what is due.
    pub(super) fn advance_announces(&mut self, now: Time) {
        while self.config.announces
            && let Some(port) = self.announcer.due(now)
        {
            let Some(info) = self.ports.info(port).copied() else {
                self.announcer.down(port);
                continue;
            };
            let what = (self.peers.own(), self.config.caps, self.config.announce_every);
            let said = self.announcer.speak(now, (port, &info), what, &mut self.rng, &mut self.journal);
            if let Some(frame) = said {
                let (kind, bytes) = (frame.kind(), frame.to_bytes().freeze());
                let len = bytes.len();
                self.queue(now, Turn::new(port, Purpose::Once(bytes), kind, Priority::Bulk, len));
            }
        }
    }

    pub(super) fn announce_key(&mut self, heard: &Heard, announce: &AnnounceKey) {
        if announce.key == *self.peers.own().id().as_bytes() || self.is_copy(heard, announce.hops) {
            return;
        }
        if !self.may_check(heard) {
            return;
        }
        // The key names the device before the signature proves it: what is old is dropped unchecked.
        let named = DeviceId::from_bytes(announce.key).map_err(|_| Refused::Forged);
        let judged = named.and_then(|id| {
            self.roll.expects(&Address::of(&id), announce.seq, false)?;
            is_straight(&Address::of(&id), announce.hops, announce.prev)?;
            announce.verify().map_err(|_| Refused::Forged)
        });
        let id = match judged {
            Ok(id) => id,
            Err(why) => return self.not_believed(heard, why),
        };
        let address = Address::of(&id);
        let newcomer = !self.roll.knows(&address);
        let paired = self.peers.is_trusted(&address);
        let news = self.roll.take_key(heard.now, id, announce, paired);
        let &AnnounceKey { prev, hops, cost, caps, .. } = announce;
        let kind = Kind::AnnounceKey;
        self.believed(heard, &Believed { address, prev, hops, cost, caps, kind, newcomer }, (id, news));
    }

    pub(super) fn announce_anchor(&mut self, heard: &Heard, announce: &AnnounceAnchor) {
        if announce.address == self.me.address || self.is_copy(heard, announce.hops) {
            return;
        }
        if !self.may_check(heard) {
            return;
        }
        let address = announce.address;
        let known = self.roll.key_of(&address).or_else(|| self.peers.id(&address));
        let judged = self.roll.expects(&address, announce.seq, true).and_then(|()| {
            let id = known.ok_or(Refused::Stranger)?;
            is_straight(&address, announce.hops, announce.prev)?;
            Ok((id, announce.verify(&id).map_err(|_| Refused::Forged)?))
        });
        let (id, head) = match judged {
            Ok(proved) => proved,
            Err(why) => return self.not_believed(heard, why),
        };
        let newcomer = !self.roll.knows(&address);
        let paired = self.peers.is_trusted(&address);
        let news = self.roll.take_anchor(heard.now, id, (announce, head), paired);
        let &AnnounceAnchor { prev, hops, cost, caps, .. } = announce;
        let kind = Kind::AnnounceAnchor;
        self.believed(heard, &Believed { address, prev, hops, cost, caps, kind, newcomer }, (id, news));
    }

    pub(super) fn beacon(&mut self, heard: &Heard, beacon: &Beacon) {
        if beacon.tag == self.me.address.tag() || self.is_copy(heard, beacon.hops) || !self.may_check(heard) {
            return;
        }
        let straight = is_straight(&Address::beginning(beacon.tag), beacon.hops, beacon.prev);
        let judged = straight.and_then(|()| self.roll.take_beacon(heard.now, beacon));
        let (address, news) = match judged {
            Ok(taken) => taken,
            Err(why) => return self.not_believed(heard, why),
        };
        let Some(id) = self.roll.key_of(&address) else { return };
        let &Beacon { prev, hops, cost, caps, .. } = beacon;
        let believed = Believed { address, prev, hops, cost, caps, kind: Kind::Beacon, newcomer: false };
        self.believed(heard, &believed, (id, news));
    }

    /// A copy of what was believed: counted, so that enough of them silence ours.
    fn is_copy(&mut self, heard: &Heard, hops: u8) -> bool {
        let Heard { now, port, info, id, quality, .. } = *heard;
        if !self.memory.knows(now, &id) {
            return false;
        }
        self.out.dropped(Some(port), Dropped::Duplicate);
        let further = (hops.saturating_add(1), Cost::UNREACHABLE);
        if self.spread.heard(id, port, further, quality, &info) {
            self.out.stats.suppressed += 1;
            self.withdraw(&Purpose::Spread(id), Some(port));
        }
        true
    }

    /// Whether this port has not made us check too much lately.
    fn may_check(&mut self, heard: &Heard) -> bool {
        let party = Party::Neighbour { port: heard.port.0, near: Near::ANYBODY };
        let allowed = self.allowance.take(heard.now, party, Traffic::Announce, 1, true).is_ok();
        if !allowed {
            self.out.dropped(Some(heard.port), Dropped::Throttled);
        }
        allowed
    }

    fn not_believed(&mut self, heard: &Heard, why: Refused) {
        let why = match why {
            Refused::Copy => Dropped::Duplicate,
            Refused::Stale => Dropped::Stale,
            Refused::Forged => Dropped::Forged,
            Refused::Stranger => Dropped::Stranger,
        };
        self.out.dropped(Some(heard.port), why);
    }

    fn believed(&mut self, heard: &Heard, announce: &Believed, (device, news): (DeviceId, Taken)) {
        let Heard { now, port, info, id, .. } = *heard;
        let Believed { address, prev, hops, cost, caps, .. } = *announce;
        self.remember(now, id, hops);
        let link_ms = self.neighbours.link_cost_ms(port, prev, &info);
        let way = Way::new((port, prev), hops.saturating_add(1), cost, link_ms);
        // What is heard from its own device is a way to it. Of longer ways an announce knows only what relays say, and
        // where asking is the rule that is left to those who ask. New names take no place in the table of ways.
        let paired = self.peers.is_trusted(&address);
        let near = hops == 0 || !info.class.rations_announces();
        if near && (paired || !announce.newcomer) {
            self.learn(now, address.far(), way);
        }
        if news == Taken::News {
            self.out.event(Event::Heard { device, caps });
        }
        if self.relays() && hops < MESH_ANNOUNCE_HOPS_MAX {
            let party = Party::Source(address.far());
            if self.allowance.take(now, party, Traffic::Announce, 1, paired).is_err() {
                self.out.dropped(Some(port), Dropped::Throttled);
                return;
            }
            self.pass_announce(heard, announce, way.cost);
        }
    }

    /// Repeats an announce on every port where somebody can use it and there is room for it.
    fn pass_announce(&mut self, heard: &Heard, announce: &Believed, cost: Cost) {
        let Heard { now, id, quality, .. } = *heard;
        let hops = announce.hops + 1;
        let whose = if announce.newcomer { Whose::Newcomer } else { Whose::Known };
        let len = heard.bytes.len();
        let ports: Vec<(PortId, PortInfo)> = self.ports.iter().map(|(port, info)| (port, *info)).collect();
        for (port, info) in ports {
            let back = port == heard.port && !info.is_radio();
            let rationed = info.class.rations_announces();
            if back || (rationed && !(is_wanted(announce.caps) && hops < RATIONED_HOPS_MAX)) {
                continue;
            }
            if !self.announcer.lends(now, (port, &info), info.airtime(len), whose) {
                continue;
            }
            let rumour = Rumour::new(heard.bytes.clone(), announce.kind, hops, cost, now + SPREAD_MAX);
            // Never as if it were lonely: an announce that is lost is not said again.
            if !self.spread.begin(now, (id, port), usize::MAX, rumour) {
                continue;
            }
            let busy = self.ports.busy_percent(now, port);
            let quality = quality.filter(|_| port == heard.port);
            let wait = patience(quality, len, &info, busy, &mut self.rng);
            self.queue(now + wait, Turn::new(port, Purpose::Spread(id), announce.kind, Priority::Bulk, len));
        }
    }
}

/// Whether what says that it took no hop comes from its own device, as far as hints tell: somebody who repeats it as if it
/// were its neighbour is a liar.
fn is_straight(address: &Address, hops: u8, prev: Near) -> Result<(), Refused> {
    if hops > 0 || prev == address.near() { Ok(()) } else { Err(Refused::Forged) }
}
