//! NAT boxes in the words of RFC 4787: how they map, whom they let in, when they forget.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::clock::Moment;

/// A kind of box, by the names that scenario files and the kernel lab share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NatKind {
    /// None: a public address.
    Public,
    /// Endpoint-independent mapping and filtering: who was ever sent from can be reached by all.
    Open,
    /// A home router: endpoint-independent mapping, address-and-port-dependent filtering.
    Home,
    /// A provider's box that many share: maps and filters like a home router, forgets sooner.
    Cgnat,
    /// An office or a mobile network: another port for every destination, and only that destination may answer.
    Corporate,
}

impl NatKind {
    /// Every kind, with the name in scenario files.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Public, "Public"),
        (Self::Open, "Open"),
        (Self::Home, "Home"),
        (Self::Cgnat, "Cgnat"),
        (Self::Corporate, "Corporate"),
    ];

    /// What boxes of this kind do; `None` where there is no box.
    #[must_use]
    pub const fn rules(self) -> Option<Rules> {
        let (mapping, filtering, timeout_s) = match self {
            Self::Public => return None,
            Self::Open => (Mapping::EndpointIndependent, Filtering::EndpointIndependent, 300),
            Self::Home => (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, 120),
            // RFC 4787 REQ-5 asks for two minutes; crowded boxes keep less.
            Self::Cgnat => (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, 40),
            Self::Corporate => (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent, 60),
        };
        Some(Rules { mapping, filtering, timeout_us: timeout_s * 1_000_000 })
    }
}

/// Whether one inside port keeps one outside port (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// For all destinations.
    EndpointIndependent,
    /// For each address.
    AddressDependent,
    /// For each address and port.
    AddressAndPortDependent,
}

/// Who may send to a mapped port (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    /// Anybody.
    EndpointIndependent,
    /// Addresses that were sent to.
    AddressDependent,
    /// Addresses and ports that were sent to.
    AddressAndPortDependent,
}

/// What a box does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How it maps.
    pub mapping: Mapping,
    /// Whom it lets in.
    pub filtering: Filtering,
    /// How long it remembers after the last frame from inside, in microseconds. Frames from outside do not refresh
    /// (RFC 4787, REQ-6).
    pub timeout_us: u64,
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address: unique in the world, whichever realm it is in.
    pub host: u32,
    /// The port.
    pub port: u16,
}

/// Mappings a box keeps at most; the one unused longest makes room.
const MAPPINGS_MAX: usize = 64;

struct Entry {
    inside: Endpoint,
    /// What the mapping depends on: nothing, an address, or an address with port.
    toward: (Option<u32>, Option<u16>),
    outside_port: u16,
    expires: Moment,
    /// Whom the inside has sent to, and until when that counts.
    permitted: Vec<(Endpoint, Moment)>,
}

/// A box at work.
pub struct NatBox {
    rules: Rules,
    /// Its address on the outside.
    host: u32,
    entries: Vec<Entry>,
    chance: Chance,
}

impl NatBox {
    /// A box with the outside address `host`.
    #[must_use]
    pub const fn new(rules: Rules, host: u32, chance: Chance) -> Self {
        Self { rules, host, entries: Vec::new(), chance }
    }

    /// Its address on the outside.
    #[must_use]
    pub const fn host(&self) -> u32 {
        self.host
    }

    /// A frame goes out: returns what its source looks like outside.
    pub fn outbound(&mut self, now: Moment, from: Endpoint, to: Endpoint) -> Endpoint {
        self.forget(now);
        let toward = match self.rules.mapping {
            Mapping::EndpointIndependent => (None, None),
            Mapping::AddressDependent => (Some(to.host), None),
            Mapping::AddressAndPortDependent => (Some(to.host), Some(to.port)),
        };
        let expires = now.plus_us(self.rules.timeout_us);
        let at = match self.entries.iter().position(|e| e.inside == from && e.toward == toward) {
            Some(at) => at,
            None => self.map(from, toward, expires),
        };
        let entry = &mut self.entries[at];
        entry.expires = expires;
        match entry.permitted.iter_mut().find(|(whom, _)| *whom == to) {
            Some((_, until)) => *until = expires,
            None => entry.permitted.push((to, expires)),
        }
        Endpoint { host: self.host, port: entry.outside_port }
    }

    /// A frame comes in from `from` to the outside `port`: returns whom inside it is for, if it may pass.
    pub fn inbound(&mut self, now: Moment, from: Endpoint, port: u16) -> Option<Endpoint> {
        self.forget(now);
        let entry = self.entries.iter().find(|e| e.outside_port == port)?;
        let passes = match self.rules.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => entry.permitted.iter().any(|(whom, _)| whom.host == from.host),
            Filtering::AddressAndPortDependent => entry.permitted.iter().any(|(whom, _)| *whom == from),
        };
        passes.then_some(entry.inside)
    }

    /// The box restarts: every mapping is gone, and the next ports are others.
    pub fn rebind(&mut self) {
        self.entries.clear();
    }

    fn map(&mut self, inside: Endpoint, toward: (Option<u32>, Option<u16>), expires: Moment) -> usize {
        if self.entries.len() >= MAPPINGS_MAX
            && let Some(oldest) = (0..self.entries.len()).min_by_key(|at| self.entries[*at].expires)
        {
            self.entries.swap_remove(oldest);
        }
        let outside_port = loop {
            let port = 1_024 + u16::try_from(self.chance.below(64_000)).unwrap_or(0);
            // At most MAPPINGS_MAX of 64,000 ports are taken.
            if self.entries.iter().all(|e| e.outside_port != port) {
                break port;
            }
        };
        self.entries.push(Entry { inside, toward, outside_port, expires, permitted: Vec::new() });
        self.entries.len() - 1
    }

    fn forget(&mut self, now: Moment) {
        self.entries.retain(|entry| entry.expires > now);
        for entry in &mut self.entries {
            entry.permitted.retain(|(_, until)| *until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Purpose;

    const INSIDE: Endpoint = Endpoint { host: 1, port: 7 };
    const A: Endpoint = Endpoint { host: 50, port: 1 };
    const A2: Endpoint = Endpoint { host: 50, port: 2 };
    const B: Endpoint = Endpoint { host: 60, port: 1 };

    fn of(kind: NatKind) -> NatBox {
        NatBox::new(kind.rules().unwrap(), 9, Chance::new(1, Purpose::Nats, 0))
    }

    #[test]
    fn each_kind_maps_and_filters_as_its_name_says() {
        for (kind, one_port, from_b, from_a2) in [
            (NatKind::Open, true, true, true),
            (NatKind::Home, true, false, false),
            (NatKind::Cgnat, true, false, false),
            (NatKind::Corporate, false, false, false),
        ] {
            let mut nat = of(kind);
            let seen_by_a = nat.outbound(Moment::START, INSIDE, A);
            assert_eq!(nat.inbound(Moment::START, A, seen_by_a.port), Some(INSIDE), "{kind:?}");
            assert_eq!(nat.inbound(Moment::START, B, seen_by_a.port).is_some(), from_b, "{kind:?}");
            assert_eq!(nat.inbound(Moment::START, A2, seen_by_a.port).is_some(), from_a2, "{kind:?}");
            assert_eq!(nat.outbound(Moment::START, INSIDE, B) == seen_by_a, one_port, "{kind:?}");
        }
    }

    #[test]
    fn only_the_inside_keeps_a_mapping_alive() {
        let mut nat = of(NatKind::Home);
        let outside = nat.outbound(Moment::START, INSIDE, A);
        assert!(nat.inbound(Moment::from_secs(119), A, outside.port).is_some());
        assert!(nat.inbound(Moment::from_secs(120), A, outside.port).is_none());
        nat.outbound(Moment::from_secs(130), INSIDE, A);
        nat.rebind();
        assert!(nat.inbound(Moment::from_secs(131), A, outside.port).is_none());
    }
}
