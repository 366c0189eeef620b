//! How the NAT box before this device behaves, told from what observers saw; in the words of RFC 4787.
//!
//! One observer shows that there is a box, and from its two ports whether that maps by port, as hard ones do. Two at
//! different places show whether it keeps one port for all destinations. Several ports in a row show how it picks them. Whom it lets in shows when an observer answers from elsewhere.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use crate::limits::NAT_SIGHTINGS_MAX;
use crate::time::Time;

/// A box may be restarted or replaced; what was seen longer ago says nothing any more.
const BELIEVED: Duration = Duration::from_secs(600);
/// Steps between ports up to this size count as a sequence. Boxes count by one or two, and others take ports meanwhile.
const STEP_MAX: u16 = 32;

/// Whether one inside port keeps one outside port (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// Too little was seen.
    #[default]
    Unknown,
    /// There is no box: the address seen is one of our own.
    None,
    /// One port for all destinations.
    EndpointIndependent,
    /// One port for each address.
    AddressDependent,
    /// One port for each address and port.
    AddressAndPortDependent,
    /// One of the last two; observers at one address and two ports would tell which.
    EndpointDependent,
    /// One of the two before those: two ports of one observer saw the same port. Observers at two addresses would tell
    /// which; boxes that map by address alone are rare, so this is taken for endpoint-independent until an attempt fails.
    NotPortDependent,
}

impl Mapping {
    /// Whether what an observer saw is where others can send to.
    #[must_use]
    pub const fn is_stable(self) -> bool {
        matches!(self, Self::None | Self::EndpointIndependent | Self::NotPortDependent)
    }

    /// Whether every destination sees another port.
    #[must_use]
    pub const fn is_dependent(self) -> bool {
        matches!(self, Self::AddressDependent | Self::AddressAndPortDependent | Self::EndpointDependent)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown mapping",
            Self::None => "no NAT",
            Self::EndpointIndependent => "endpoint-independent mapping",
            Self::AddressDependent => "address-dependent mapping",
            Self::AddressAndPortDependent => "address- and port-dependent mapping",
            Self::EndpointDependent => "endpoint-dependent mapping",
            Self::NotPortDependent => "port-independent mapping",
        })
    }
}

/// Who may send to a mapped port (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// Nobody tried.
    #[default]
    Unknown,
    /// Anybody, or any port of an address that was sent to: a second port of an observer got through.
    NotPortDependent,
    /// Only the addresses and ports that were sent to.
    AddressAndPortDependent,
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown filtering",
            Self::NotPortDependent => "port-independent filtering",
            Self::AddressAndPortDependent => "address- and port-dependent filtering",
        })
    }
}

/// How a box picks the port of a new mapping (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allocation {
    /// Too little was seen.
    #[default]
    Unknown,
    /// The inside port, where it is free.
    Preserving,
    /// The last one and a little more.
    Sequential {
        /// How much more: the median of what was seen.
        step: u16,
        /// The last port seen.
        last: u16,
    },
    /// No pattern that we can see.
    Random,
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown ports"),
            Self::Preserving => f.write_str("ports kept"),
            Self::Sequential { step, .. } => write!(f, "ports in steps of {step}"),
            Self::Random => f.write_str("random ports"),
        }
    }
}

/// What is known of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behavior {
    /// How it maps.
    pub mapping: Mapping,
    /// Whom it lets in.
    pub filtering: Filtering,
    /// How it picks ports.
    pub allocation: Allocation,
}

impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mapping == Mapping::None {
            return self.mapping.fmt(f);
        }
        write!(f, "{}, {}, {}", self.mapping, self.filtering, self.allocation)
    }
}

/// One observer's view of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The socket's own address; its port is what counts, the address may be unspecified.
    pub local: SocketAddr,
    /// Who saw it.
    pub observer: SocketAddr,
    /// Where it appeared to be.
    pub seen: SocketAddr,
}

/// Collects sightings and tells the behavior behind them. One for each address family.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    /// In the order in which they were made.
    sightings: Vec<(Time, Sighting)>,
    /// Whether an observer's other port got through, the last time it was tried.
    second_port: Option<(Time, bool)>,
}

impl Detector {
    /// An observer answered.
    pub fn seen(&mut self, now: Time, sighting: Sighting) {
        self.forget(now);
        self.sightings.retain(|(_, old)| {
            old.local.port() != sighting.local.port() || old.observer != sighting.observer
        });
        if self.sightings.len() >= NAT_SIGHTINGS_MAX {
            self.sightings.remove(0);
        }
        self.sightings.push((now, sighting));
    }

    /// An observer answered also from its second port, or its answer from there did not come although that from the
    /// first did.
    pub fn second_port(&mut self, now: Time, heard: bool) {
        self.second_port = Some((now, heard));
    }

    /// The network changed: everything known is of another box.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// What is known now. `own` are the addresses of this device's interfaces.
    pub fn behavior(&mut self, now: Time, own: &[core::net::IpAddr]) -> Behavior {
        self.forget(now);
        Behavior { mapping: self.mapping(own), filtering: self.filtering(), allocation: self.allocation() }
    }

    /// Where the socket with this port can be reached, if the box maps it the same way for everybody.
    #[must_use]
    pub fn stable_endpoint(&self, local_port: u16) -> Option<SocketAddr> {
        let mut seen = self.of_port(local_port).map(|sighting| sighting.seen);
        let first = seen.next()?;
        seen.all(|other| other == first).then_some(first)
    }

    fn of_port(&self, port: u16) -> impl Iterator<Item = &Sighting> {
        self.sightings.iter().map(|(_, sighting)| sighting).filter(move |s| s.local.port() == port)
    }

    fn forget(&mut self, now: Time) {
        self.sightings.retain(|(at, _)| now.saturating_since(*at) < BELIEVED);
        self.second_port = self.second_port.filter(|(at, _)| now.saturating_since(*at) < BELIEVED);
    }

    fn mapping(&self, own: &[core::net::IpAddr]) -> Mapping {
        let sightings = || self.sightings.iter().map(|(_, sighting)| sighting);
        if self.sightings.is_empty() {
            return Mapping::Unknown;
        }
        let unmapped = |s: &Sighting| own.contains(&s.seen.ip()) && s.seen.port() == s.local.port();
        if sightings().all(unmapped) {
            return Mapping::None;
        }
        // Pairs of sightings of one socket by two observers.
        let (mut same, mut by_address, mut by_port) = (false, false, false);
        for (at, one) in sightings().enumerate() {
            for other in sightings().skip(at + 1).filter(|other| other.local.port() == one.local.port()) {
                match (one.seen == other.seen, one.observer.ip() == other.observer.ip()) {
                    (true, false) => same = true,
                    (false, false) => by_address = true,
                    (false, true) => by_port = true,
                    (true, true) => {}
                }
            }
        }
        let one_address_kept = || {
            sightings().enumerate().any(|(at, one)| {
                sightings().skip(at + 1).any(|other| {
                    other.local.port() == one.local.port()
                        && other.observer.ip() == one.observer.ip()
                        && other.seen == one.seen
                })
            })
        };
        match (same, by_address, by_port) {
            (_, _, true) => Mapping::AddressAndPortDependent,
            (_, true, false) if one_address_kept() => Mapping::AddressDependent,
            (_, true, false) => Mapping::EndpointDependent,
            (true, false, false) => Mapping::EndpointIndependent,
            (false, false, false) if one_address_kept() => Mapping::NotPortDependent,
            (false, false, false) => Mapping::Unknown,
        }
    }

    fn filtering(&self) -> Filtering {
        match self.second_port {
            None => Filtering::Unknown,
            Some((_, true)) => Filtering::NotPortDependent,
            Some((_, false)) => Filtering::AddressAndPortDependent,
        }
    }

    fn allocation(&self) -> Allocation {
        let sightings: Vec<_> = self.sightings.iter().map(|(_, sighting)| sighting).collect();
        if sightings.len() < 2 {
            return Allocation::Unknown;
        }
        if sightings.iter().all(|s| s.seen.port() == s.local.port()) {
            return Allocation::Preserving;
        }
        let mut steps: Vec<u16> = sightings
            .windows(2)
            .filter_map(|pair| match pair {
                [one, two] if one.seen.port() != two.seen.port() => {
                    Some(two.seen.port().wrapping_sub(one.seen.port()))
                }
                _ => None,
            })
            .collect();
        if steps.len() < 2 {
            return Allocation::Unknown;
        }
        steps.sort_unstable();
        let near = steps.iter().filter(|step| **step <= STEP_MAX).count();
        // One step may be far off: somebody else's mapping, or the end of the range.
        match (steps.get(near.saturating_sub(1) / 2), sightings.last()) {
            (Some(step), Some(last)) if near + 1 >= steps.len() && near >= 2 => {
                Allocation::Sequential { step: *step, last: last.seen.port() }
            }
            _ => Allocation::Random,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Sightings `(local port, observer, seen)`, a second apart, told from `10.0.0.2`.
    fn told(sightings: &[(u16, &str, &str)]) -> Behavior {
        let mut detector = Detector::default();
        for (second, (port, observer, seen)) in (0..).zip(sightings) {
            let local = SocketAddr::from(([0, 0, 0, 0], *port));
            detector.seen(at(second), Sighting { local, observer: addr(observer), seen: addr(seen) });
        }
        detector.behavior(at(60), &["10.0.0.2".parse().unwrap()])
    }

    #[test]
    fn one_observer_tells_nothing_about_the_mapping_unless_there_is_no_box() {
        assert_eq!(told(&[(7, "1.1.1.1:1", "9.9.9.9:5000")]).mapping, Mapping::Unknown);
        assert_eq!(told(&[(7, "1.1.1.1:1", "10.0.0.2:7")]).mapping, Mapping::None);
        assert_eq!(told(&[]), Behavior::default());
    }

    #[test]
    fn two_observers_tell_a_box_that_keeps_its_port_from_one_that_does_not() {
        let keeps = told(&[(7, "1.1.1.1:1", "9.9.9.9:5000"), (7, "2.2.2.2:1", "9.9.9.9:5000")]);
        assert_eq!(keeps.mapping, Mapping::EndpointIndependent);
        let changes = told(&[(7, "1.1.1.1:1", "9.9.9.9:5000"), (7, "2.2.2.2:1", "9.9.9.9:6123")]);
        assert_eq!(changes.mapping, Mapping::EndpointDependent);
    }

    #[test]
    fn two_ports_of_one_observer_tell_on_what_the_mapping_depends() {
        let by_port = told(&[(7, "1.1.1.1:1", "9.9.9.9:5000"), (7, "1.1.1.1:2", "9.9.9.9:6123")]);
        assert_eq!(by_port.mapping, Mapping::AddressAndPortDependent);
        let by_address = told(&[
            (7, "1.1.1.1:1", "9.9.9.9:5000"),
            (7, "1.1.1.1:2", "9.9.9.9:5000"),
            (7, "2.2.2.2:1", "9.9.9.9:6123"),
        ]);
        assert_eq!(by_address.mapping, Mapping::AddressDependent);
    }

    #[test]
    fn one_observer_tells_a_hard_box_from_others_and_how_it_picks_ports() {
        let kept = told(&[
            (7, "1.1.1.1:1", "9.9.9.9:5000"),
            (7, "1.1.1.1:2", "9.9.9.9:5000"),
            (8, "1.1.1.1:1", "9.9.9.9:5007"),
        ]);
        assert_eq!(kept.mapping, Mapping::NotPortDependent);
        assert!(kept.mapping.is_stable());
        let hard = told(&[
            (7, "1.1.1.1:1", "9.9.9.9:5000"),
            (7, "1.1.1.1:2", "9.9.9.9:61002"),
            (8, "1.1.1.1:1", "9.9.9.9:33004"),
        ]);
        assert_eq!(hard.mapping, Mapping::AddressAndPortDependent);
        assert_eq!(hard.allocation, Allocation::Random);
    }

    #[test]
    fn ports_that_count_up_are_a_sequence_even_if_others_take_some() {
        let seen = told(&[
            (7, "1.1.1.1:1", "9.9.9.9:5000"),
            (7, "1.1.1.1:2", "9.9.9.9:5002"),
            (7, "2.2.2.2:1", "9.9.9.9:5004"),
            (8, "1.1.1.1:1", "9.9.9.9:5011"),
        ]);
        assert_eq!(seen.allocation, Allocation::Sequential { step: 2, last: 5011 });
    }

    #[test]
    fn ports_without_a_pattern_are_random_and_kept_ports_are_kept() {
        let random = told(&[
            (7, "1.1.1.1:1", "9.9.9.9:5000"),
            (7, "1.1.1.1:2", "9.9.9.9:61002"),
            (7, "2.2.2.2:1", "9.9.9.9:33004"),
        ]);
        assert_eq!(random.allocation, Allocation::Random);
        let kept = told(&[(7, "1.1.1.1:1", "9.9.9.9:7"), (8, "2.2.2.2:1", "9.9.9.9:8")]);
        assert_eq!(kept.allocation, Allocation::Preserving);
    }

    #[test]
    fn what_is_old_or_of_another_network_is_not_believed() {
        let mut detector = Detector::default();
        let sighting = |observer| Sighting {
            local: addr("0.0.0.0:7"),
            observer: addr(observer),
            seen: addr("9.9.9.9:5"),
        };
        detector.seen(at(0), sighting("1.1.1.1:1"));
        detector.seen(at(500), sighting("2.2.2.2:1"));
        detector.second_port(at(0), true);
        assert_eq!(detector.behavior(at(599), &[]).mapping, Mapping::EndpointIndependent);
        assert_eq!(detector.behavior(at(599), &[]).filtering, Filtering::NotPortDependent);
        assert_eq!(detector.behavior(at(600), &[]), Behavior::default());
        detector.reset();
        assert_eq!(detector.stable_endpoint(7), None);
    }

    #[test]
    fn sightings_without_end_do_not_grow_memory() {
        let mut detector = Detector::default();
        for port in 1..=u16::try_from(NAT_SIGHTINGS_MAX).unwrap() * 3 {
            let local = SocketAddr::from(([0, 0, 0, 0], port));
            detector.seen(at(1), Sighting { local, observer: addr("1.1.1.1:1"), seen: addr("9.9.9.9:5") });
        }
        assert_eq!(detector.sightings.len(), NAT_SIGHTINGS_MAX);
    }
}
