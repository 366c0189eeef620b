//! Finding devices where multicast is dropped: one broadcast to the subnet, and where nobody answers that either, a question
//! to each address of a small one.
//!
//! # The protocol
//!
//! ```text
//!  on every interface:   ask all (now, +1 s, +3 s, +9 s, +27 s, then every 60 s)   to the subnet's broadcast address
//!                        ask one                                                   each address remembered, each time
//!  nobody was heard for 5 s, by whatever finder:
//!                        ask one, 100 addresses a second, at most 1,022            then again after 5, 10, 20, .. 60 min
//!  hears a question:     tells after 10-110 ms, to the asker alone
//!  says goodbye:         bye
//! ```
//!
//! A question says who asks, so one exchange makes both known. Where a device can be reached is the address its packet came
//! from and the port it names: it can name no other machine. An address that answered is remembered and asked again, alone,
//! because where broadcasts are dropped it would be forgotten otherwise.
//!
//! **Bounds.** Questions and answers have the same length, so nobody is flooded through us. At most
//! [`ANSWERS_PER_S_MAX`] questions a second are answered on an interface. A subnet of more than 1,024 addresses is never
//! scanned, nor one whose addresses belong to the internet, nor one that costs by the byte.
//!
//! IPv4 only: IPv6 has no broadcast, and its subnets cannot be walked through.
//!
//! Driven as every machine of this crate: `handle`, then `poll_output` to `None`, then `poll_timeout`.

mod packet;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use core::time::Duration;

use crate::identity::DeviceId;
use crate::mdns::Announcement;
use crate::nearby::{Finder, Observation};
use crate::rng::Rng;
use crate::time::{Deadline, Time};

pub use self::packet::{Ignored, Kind, PACKET_BYTES, PACKET_BYTES_MAX, Packet};

/// The UDP port on which devices ask and are asked.
pub const PORT: u16 = 7842;
/// Questions answered a second on one interface.
pub const ANSWERS_PER_S_MAX: u32 = 50;
/// The longest prefix that is too large to be scanned has one bit less: 1,024 addresses.
pub const SCAN_PREFIX_MIN: u8 = 22;

/// Addresses of one scan of one interface.
const SCAN_HOSTS_MAX: usize = 1022;
/// First gap between questions to all; each next is three times longer.
const ASK_GAP_MIN: Duration = Duration::from_secs(1);
/// Longest gap: three chances before [`LIFE`] ends.
const ASK_GAP_MAX: Duration = Duration::from_secs(60);
/// How long what a device said is believed.
const LIFE: Duration = Duration::from_secs(200);
/// An answer waits at random, so that not everybody speaks at once.
const DELAY_MIN: Duration = Duration::from_millis(10);
const DELAY_SPREAD_US: u64 = 100_000;
/// How long nobody must be heard before addresses are walked through.
const SCAN_AFTER: Duration = Duration::from_secs(5);
/// First gap between two scans; each next is twice as long.
const SCAN_GAP_MIN: Duration = Duration::from_secs(300);
const SCAN_GAP_MAX: Duration = Duration::from_secs(3600);
/// So many addresses in a step, and a step so often: 100 a second.
const SCAN_STEP: u32 = 10;
const SCAN_STEP_EVERY: Duration = Duration::from_millis(100);
/// Addresses asked alone on one interface, and how often one may stay silent.
const FRIENDS_MAX: usize = 64;
const SILENCES_MAX: u8 = 3;
/// Interfaces served, and subnets of one; the rest is ignored.
const INTERFACES_MAX: usize = 64;
const NETS_MAX: usize = 4;
/// Answers that wait on one interface.
const ANSWERS_WAITING_MAX: usize = 32;

/// An address of ours with its subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// Our address.
    pub own: Ipv4Addr,
    /// Bits of the prefix, 1 to 32.
    pub prefix: u8,
}

impl Net {
    const fn mask(self) -> u32 {
        if self.prefix == 0 { 0 } else { u32::MAX << (32 - if self.prefix > 32 { 32 } else { self.prefix }) }
    }

    /// Whether the address is one of the subnet.
    #[must_use]
    pub const fn contains(self, ip: Ipv4Addr) -> bool {
        (self.own.to_bits() ^ ip.to_bits()) & self.mask() == 0
    }

    /// The address that reaches everybody; `None` where there is nobody else.
    #[must_use]
    pub const fn broadcast(self) -> Option<Ipv4Addr> {
        if self.prefix >= 31 { None } else { Some(Ipv4Addr::from_bits(self.own.to_bits() | !self.mask())) }
    }

    /// The addresses that a scan asks, without the first, the last and our own.
    fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let small = self.own.is_private() && (SCAN_PREFIX_MIN..31).contains(&self.prefix);
        let first = self.own.to_bits() & self.mask();
        let count = if small { !self.mask() - 1 } else { 0 };
        (1..=count).map(move |nth| Ipv4Addr::from_bits(first + nth)).filter(move |ip| *ip != self.own)
    }
}

/// A network interface to find devices on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's index.
    pub index: u32,
    /// The system's name.
    pub name: String,
    /// Our addresses on it.
    pub nets: Vec<Net>,
    /// Whether its subnets may be scanned, if they are small and private.
    pub scan: bool,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// An interface came up or changed.
    Interface(Interface),
    /// An interface went away.
    InterfaceGone(u32),
    /// Say this about ourselves from now on; `None` goes silent, with a goodbye.
    Announce(Option<Announcement>),
    /// Devices were at these addresses once: they are asked wherever they are on the link.
    Remembered(Vec<IpAddr>),
    /// Another finder sees somebody on the interface of this name: there is no need to scan.
    SeenElsewhere(&'a str),
    /// A packet arrived. The caller has checked that it comes from the link.
    Packet {
        /// On which interface.
        interface: u32,
        /// From where.
        from: SocketAddrV4,
        /// The UDP payload.
        bytes: &'a [u8],
    },
    /// The deadline of [`Knock::poll_timeout`] has come.
    Timeout,
}

/// What should happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send from the port of this protocol, on this interface.
    Send {
        /// On which interface.
        interface: u32,
        /// To whom.
        to: SocketAddrV4,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// A device said who it is.
    Seen {
        /// How it was found.
        finder: Finder,
        /// What it said.
        observation: Observation,
    },
    /// A device said goodbye.
    Gone(DeviceId),
    /// An interface went away; what was seen only there is gone.
    InterfaceGone(String),
    /// A packet was not used.
    Ignored(Ignored),
}

/// Where a scan of an interface is.
#[derive(Debug)]
struct Scan {
    /// When the next step or the next scan begins.
    at: Time,
    gap: Duration,
    left: VecDeque<Ipv4Addr>,
}

/// Timers of one interface.
#[derive(Debug)]
struct Port {
    interface: Interface,
    ask_at: Time,
    ask_gap: Duration,
    scan: Scan,
    /// Somebody was heard here.
    heard: bool,
    /// Addresses that answered when they were asked alone, and how often they have not since.
    friends: BTreeMap<Ipv4Addr, u8>,
    answers: VecDeque<(Time, SocketAddrV4, Kind)>,
    /// Answers promised in the second that began then.
    second: (Time, u32),
}

impl Port {
    fn new(interface: Interface, first: Time) -> Self {
        Self {
            interface,
            ask_at: first,
            ask_gap: ASK_GAP_MIN,
            scan: Scan { at: first + SCAN_AFTER, gap: SCAN_GAP_MIN, left: VecDeque::new() },
            heard: false,
            friends: BTreeMap::new(),
            answers: VecDeque::new(),
            second: (first, 0),
        }
    }

    fn on_link(&self, ip: Ipv4Addr) -> bool {
        self.interface.nets.iter().any(|net| net.contains(ip) && net.own != ip)
    }

    /// Whether one more question may be answered now.
    fn may_answer(&mut self, now: Time) -> bool {
        if now.saturating_since(self.second.0) >= Duration::from_secs(1) {
            self.second = (now, 0);
        }
        self.second.1 += 1;
        self.second.1 <= ANSWERS_PER_S_MAX && self.answers.len() < ANSWERS_WAITING_MAX
    }

    /// Whom to ask at the next question to all, each alone: those who answered, and those remembered.
    fn asked_alone(&mut self, remembered: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Addr> {
        self.friends.retain(|_, silences| {
            *silences += 1;
            *silences <= SILENCES_MAX
        });
        let remembered: Vec<_> = remembered.iter().copied().filter(|ip| self.on_link(*ip)).collect();
        self.friends.keys().copied().chain(remembered).take(FRIENDS_MAX).collect()
    }
}

/// Who asks and answers. See the [module](self).
#[derive(Debug)]
pub struct Knock {
    own: DeviceId,
    announcement: Option<Announcement>,
    remembered: BTreeSet<Ipv4Addr>,
    ports: BTreeMap<u32, Port>,
    rng: Rng,
    /// Drained after every `handle`; one input produces at most a step of a scan and the friends per interface.
    output: VecDeque<Output>,
}

impl Knock {
    /// One that says nothing about itself yet and knows no interface. `rng` only spreads timers.
    #[must_use]
    pub const fn new(own: DeviceId, rng: Rng) -> Self {
        Self {
            own,
            announcement: None,
            remembered: BTreeSet::new(),
            ports: BTreeMap::new(),
            rng,
            output: VecDeque::new(),
        }
    }

    /// Takes one input. Never fails.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Interface(interface) => self.on_interface(now, interface),
            Input::InterfaceGone(index) => {
                if let Some(port) = self.ports.remove(&index) {
                    self.output.push_back(Output::InterfaceGone(port.interface.name));
                }
            }
            Input::Announce(announcement) => self.on_announce(announcement),
            Input::Remembered(addresses) => {
                let v4 = addresses.into_iter().filter_map(|ip| match ip.to_canonical() {
                    IpAddr::V4(v4) => Some(v4),
                    IpAddr::V6(_) => None,
                });
                self.remembered = v4.take(FRIENDS_MAX).collect();
            }
            Input::SeenElsewhere(name) => {
                for port in self.ports.values_mut().filter(|port| port.interface.name == name) {
                    port.heard = true;
                }
            }
            Input::Packet { interface, from, bytes } => self.on_packet(now, interface, from, bytes),
            Input::Timeout => self.on_timeout(now),
        }
    }

    /// The next thing to do, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// When to call `handle` with [`Input::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.ports.values().fold(None, |earliest, port| {
            let ask = Some(Deadline { at: port.ask_at, why: "ask who is on the subnet" });
            let scan =
                port.interface.scan.then_some(Deadline { at: port.scan.at, why: "ask the next addresses" });
            let answer =
                port.answers.front().map(|(at, ..)| Deadline { at: *at, why: "answer who is on the subnet" });
            [ask, scan, answer].into_iter().fold(earliest, Deadline::earliest)
        })
    }

    fn on_interface(&mut self, now: Time, mut interface: Interface) {
        let index = interface.index;
        interface.nets.truncate(NETS_MAX);
        match self.ports.get(&index) {
            Some(port) if port.interface == interface => return,
            None if self.ports.len() >= INTERFACES_MAX => return,
            Some(_) | None => {}
        }
        let first = now + self.delay();
        self.ports.insert(index, Port::new(interface, first));
    }

    fn on_announce(&mut self, announcement: Option<Announcement>) {
        let announcement = announcement.filter(|announcement| announcement.port != 0);
        if announcement == self.announcement {
            return;
        }
        let kind = if announcement.is_some() { Kind::Tell } else { Kind::Bye };
        let said = announcement.as_ref().or(self.announcement.as_ref());
        let bytes = Packet::encode(kind, said);
        let places: Vec<_> = self.ports.values().flat_map(Self::everybody).collect();
        for (interface, to) in places {
            self.output.push_back(Output::Send { interface, to, bytes: bytes.clone() });
        }
        self.announcement = announcement;
    }

    /// Whoever may hear of us on an interface: all at once, and each that answers alone.
    fn everybody(port: &Port) -> impl Iterator<Item = (u32, SocketAddrV4)> + '_ {
        let all = port.interface.nets.iter().filter_map(|net| net.broadcast());
        let index = port.interface.index;
        all.chain(port.friends.keys().copied()).map(move |ip| (index, SocketAddrV4::new(ip, PORT)))
    }

    fn on_timeout(&mut self, now: Time) {
        let mut sends = Vec::new();
        for (index, port) in &mut self.ports {
            while let Some((_, to, kind)) = port.answers.front().copied().filter(|(at, ..)| *at <= now) {
                port.answers.pop_front();
                sends.push((*index, to, kind));
            }
            if port.ask_at <= now {
                let all = port.interface.nets.iter().filter_map(|net| net.broadcast());
                sends.extend(all.map(|ip| (*index, SocketAddrV4::new(ip, PORT), Kind::AskAll)));
                let alone = port.asked_alone(&self.remembered);
                sends.extend(alone.into_iter().map(|ip| (*index, SocketAddrV4::new(ip, PORT), Kind::AskOne)));
                port.ask_at = now + port.ask_gap;
                port.ask_gap = (port.ask_gap * 3).min(ASK_GAP_MAX);
            }
            if port.interface.scan && port.scan.at <= now {
                let step = scan_step(port, now);
                sends.extend(step.into_iter().map(|ip| (*index, SocketAddrV4::new(ip, PORT), Kind::AskOne)));
            }
        }
        for (interface, to, kind) in sends {
            let bytes = Packet::encode(kind, self.announcement.as_ref());
            self.output.push_back(Output::Send { interface, to, bytes });
        }
    }

    fn on_packet(&mut self, now: Time, interface: u32, from: SocketAddrV4, bytes: &[u8]) {
        let delay = self.delay();
        let Some(port) = self.ports.get_mut(&interface).filter(|port| port.on_link(*from.ip())) else {
            return;
        };
        let packet = match Packet::parse(bytes) {
            Ok(packet) if packet.is_of(&self.own) => return,
            Ok(packet) => packet,
            Err(why) => return self.output.push_back(Output::Ignored(why)),
        };
        let answer = match packet.kind {
            Kind::AskAll => Some(Kind::Tell),
            Kind::AskOne => Some(Kind::TellOne),
            Kind::Tell | Kind::TellOne | Kind::Bye => None,
        };
        // Whoever takes no links has nothing to answer.
        if let Some(kind) = answer.filter(|_| self.announcement.is_some()) {
            if port.may_answer(now) {
                port.answers.push_back((now + delay, from, kind));
            } else {
                self.output.push_back(Output::Ignored(Ignored::TooMany));
            }
        }
        let Some(sender) = packet.sender else { return };
        if packet.kind == Kind::Bye {
            port.friends.remove(from.ip());
            self.output.push_back(Output::Gone(sender.txt.id));
            return;
        }
        port.heard = true;
        // Heard by a question or an answer to one address: where broadcasts are dropped, only such questions reach it.
        let alone = matches!(packet.kind, Kind::AskOne | Kind::TellOne);
        if alone && (port.friends.len() < FRIENDS_MAX || port.friends.contains_key(from.ip())) {
            port.friends.insert(*from.ip(), 0);
        }
        let finder = match alone {
            false => Finder::Broadcast,
            true if self.remembered.contains(from.ip()) => Finder::Remembered,
            true => Finder::Scan,
        };
        let observation = observe(&port.interface, from, sender);
        self.output.push_back(Output::Seen { finder, observation });
    }

    fn delay(&mut self) -> Duration {
        DELAY_MIN + Duration::from_micros(self.rng.below(DELAY_SPREAD_US))
    }
}

/// The next addresses of a scan, and when the ones after them follow.
fn scan_step(port: &mut Port, now: Time) -> Vec<Ipv4Addr> {
    let scan = &mut port.scan;
    if scan.left.is_empty() {
        // Somebody is heard without it: walking through all addresses would only be noise.
        if !port.heard {
            scan.left = port.interface.nets.iter().flat_map(|net| net.hosts()).take(SCAN_HOSTS_MAX).collect();
        }
        port.heard = false;
        if scan.left.is_empty() {
            scan.at = now + scan.gap;
            return Vec::new();
        }
    }
    let step: Vec<_> = (0..SCAN_STEP).map_while(|_| scan.left.pop_front()).collect();
    scan.at = now + SCAN_STEP_EVERY;
    if scan.left.is_empty() {
        scan.at = now + scan.gap;
        scan.gap = (scan.gap * 2).min(SCAN_GAP_MAX);
    }
    step
}

/// What a device said, reachable where its packet came from.
fn observe(on: &Interface, from: SocketAddrV4, sender: Announcement) -> Observation {
    let txt = sender.txt;
    Observation {
        id: txt.id,
        name: txt.name,
        device_type: txt.device_type,
        version: txt.version,
        caps: txt.caps,
        pairing: txt.pairing,
        addresses: vec![SocketAddr::new((*from.ip()).into(), sender.port)],
        interface: Some(on.name.clone()),
        rssi: None,
        ttl: LIFE,
    }
}
