//! Multicast DNS service discovery (RFC 6762, RFC 6763) of one service, `_honeylink._udp.local.`, without a cache.
//!
//! # The protocol, as spoken here
//!
//! ```text
//!  on every interface:   announce ×3 (now, +1 s, +3 s)          query (now, +1 s, +4 s, +13 s, then every 30 s)
//!  hears a query:        answers after 20-120 ms, at most every 250 ms, unless the asker knows us already
//!  hears an answer:      PTR, SRV, TXT and addresses of one device in one packet -> Output::Seen
//!  says goodbye:         the same records with time to live 0                    -> Output::Gone
//! ```
//!
//! **Why no cache.** A general querier must keep every record it might later join with another, and records are free for
//! a stranger to invent. Our announcement is complete in one packet, so a packet either names a device or is dropped, and
//! what is remembered is only the bounded table of [`crate::nearby`]. A flood costs time, never memory.
//!
//! **Why no probing.** RFC 6762 section 8.1 probes for the uniqueness of names that people choose. Our instance and host
//! names contain 64 bits of the device's key; a collision is an attacker, and giving way to one would be the fault.
//!
//! Known departures, all on the quiet side: unicast-response questions are answered by multicast, queries from ports
//! other than 5353 are not treated apart, and queries carry no known answers (an answer refreshes every listener).

mod dns;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use core::time::Duration;

use crate::identity::DeviceId;
use crate::nearby::{InvalidTxt, Observation, TxtRecord, displayable};
use crate::rng::Rng;
use crate::time::{Deadline, Time};
use crate::wire::Invalid;

use self::dns::{Data, LABEL_BYTES_MAX, Message, Name, Writer, kind, txt_pairs};

/// The service type, as browsers of other programs write it.
pub const SERVICE: &str = "_honeylink._udp.local.";
/// The UDP port of multicast DNS (RFC 6762 section 3).
pub const PORT: u16 = 5353;
/// The IPv4 group.
pub const GROUP_V4: std::net::Ipv4Addr = std::net::Ipv4Addr::new(224, 0, 0, 251);
/// The IPv6 group.
pub const GROUP_V6: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// Largest packet that is read, in bytes (RFC 6762 section 17).
pub const PACKET_BYTES_MAX: usize = 9000;

/// How long others believe our records. RFC 6762 section 10 recommends this for records with a host name in them.
const TTL: Duration = Duration::from_secs(120);
/// Gaps between the announcements on an interface: two are required (RFC 6762 section 8.3), the third is for lossy radio.
const ANNOUNCE_GAPS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// First gap between queries; each next is three times longer (RFC 6762 section 5.2 asks for at least twice).
const QUERY_GAP_MIN: Duration = Duration::from_secs(1);
/// Longest gap between queries: four chances before [`TTL`] ends.
const QUERY_GAP_MAX: Duration = Duration::from_secs(30);
/// A random wait before the first packet on an interface and before answers, so that devices do not all speak at once
/// (RFC 6762 sections 5.2 and 6).
const DELAY_MIN: Duration = Duration::from_millis(20);
const DELAY_SPREAD: Duration = Duration::from_millis(100);
/// Shortest time between two multicasts of our records. RFC 6762 section 6 asks for a second, and for this much when
/// someone probes; with the full second, a device that starts right after another would wait that long to find it.
const RESPONSE_GAP: Duration = Duration::from_millis(250);
/// Interfaces served; the rest is ignored.
const INTERFACES_MAX: usize = 64;
/// Addresses put into an announcement and taken from one.
const ADDRESSES_MAX: usize = 8;
/// Devices taken from one packet: ours name one, aggregating responders may name a few.
const DEVICES_PER_PACKET_MAX: usize = 8;

/// A network interface to discover on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's index, also the scope of link-local IPv6 addresses.
    pub index: u32,
    /// The system's name.
    pub name: String,
    /// Whether it is the loopback interface: only there are loopback addresses believed.
    pub loopback: bool,
    /// Our addresses on it, which are announced there.
    pub addresses: Vec<IpAddr>,
}

/// What this device says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Identity, name and so on.
    pub txt: TxtRecord,
    /// The UDP port it takes links on, for IPv4 and IPv6 alike.
    pub port: u16,
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
    /// A packet arrived. The caller has checked that it comes from the link (RFC 6762 section 11).
    Packet {
        /// On which interface.
        interface: u32,
        /// The UDP payload.
        bytes: &'a [u8],
    },
    /// The deadline of [`Mdns::poll_timeout`] has come.
    Timeout,
}

/// What should happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send to the group on this interface.
    Send {
        /// On which interface.
        interface: u32,
        /// The UDP payload.
        bytes: Vec<u8>,
    },
    /// A device announced itself.
    Seen(Observation),
    /// A device said goodbye.
    Gone(DeviceId),
    /// An interface went away; what was seen only there is gone.
    InterfaceGone(String),
    /// A packet or a record of our service could not be used.
    Ignored(Ignored),
}

/// Why something that arrived was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The packet is not a DNS message.
    #[error("not a DNS message: {0}")]
    Packet(#[from] Invalid),
    /// A record of our service names no device.
    #[error("a record of our service names no device: {0}")]
    Txt(#[from] InvalidTxt),
    /// The packet names a device but not where it listens.
    #[error("a device is named without a port or an address")]
    Incomplete,
}

/// Timers and addresses of one interface.
#[derive(Debug)]
struct Port {
    interface: Interface,
    query_at: Time,
    query_gap: Duration,
    /// The next announcement, and how many more follow it.
    announce_at: Option<Time>,
    announces_left: usize,
    /// A promised answer.
    respond_at: Option<Time>,
    last_response: Option<Time>,
}

/// The querier and responder. See the [module](self).
#[derive(Debug)]
pub struct Mdns {
    own: DeviceId,
    announcement: Option<Announcement>,
    ports: BTreeMap<u32, Port>,
    rng: Rng,
    /// Drained after every `handle`; one input produces at most a few per interface.
    output: VecDeque<Output>,
}

impl Mdns {
    /// A querier that announces nothing yet and knows no interface. `rng` only spreads timers.
    #[must_use]
    pub const fn new(own: DeviceId, rng: Rng) -> Self {
        Self { own, announcement: None, ports: BTreeMap::new(), rng, output: VecDeque::new() }
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
            Input::Announce(announcement) => self.on_announce(now, announcement),
            Input::Packet { interface, bytes } => self.on_packet(now, interface, bytes),
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
            let query = Some(Deadline { at: port.query_at, why: "ask who is on the LAN" });
            let announce = port.announce_at.map(|at| Deadline { at, why: "announce this device on the LAN" });
            let respond =
                port.respond_at.map(|at| Deadline { at, why: "answer a question about this device" });
            [query, announce, respond].into_iter().fold(earliest, Deadline::earliest)
        })
    }

    fn on_interface(&mut self, now: Time, interface: Interface) {
        let index = interface.index;
        match self.ports.get(&index) {
            Some(port) if port.interface == interface => return,
            None if self.ports.len() >= INTERFACES_MAX => return,
            Some(_) | None => {}
        }
        let first = now + self.delay();
        let announcing = self.announcement.is_some();
        let last_response = self.ports.remove(&index).and_then(|port| port.last_response);
        self.ports.insert(
            index,
            Port {
                interface,
                query_at: first,
                query_gap: QUERY_GAP_MIN,
                announce_at: announcing.then_some(first),
                announces_left: ANNOUNCE_GAPS.len(),
                respond_at: None,
                last_response,
            },
        );
    }

    fn on_announce(&mut self, now: Time, announcement: Option<Announcement>) {
        let announcement = announcement.filter(|a| a.port != 0);
        if announcement == self.announcement {
            return;
        }
        // A changed name means changed record names: the old ones must not linger at others for their whole life.
        let renamed = match (&self.announcement, &announcement) {
            (Some(old), Some(new)) => instance_label(&old.txt) != instance_label(&new.txt),
            (Some(_), None) => true,
            (None, _) => false,
        };
        if renamed {
            self.send_records(0, |_| true);
        }
        self.announcement = announcement;
        let announcing = self.announcement.is_some();
        for port in self.ports.values_mut() {
            port.announce_at = announcing.then_some(now);
            port.announces_left = ANNOUNCE_GAPS.len();
            port.respond_at = None;
        }
        self.on_timeout(now);
    }

    fn on_timeout(&mut self, now: Time) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let mut speaking = Vec::new();
        for (index, port) in &mut self.ports {
            if due(port.announce_at) || due(port.respond_at) {
                speaking.push(*index);
                port.last_response = Some(now);
                port.respond_at = None;
            }
            if due(port.announce_at) {
                let done = ANNOUNCE_GAPS.len().saturating_sub(port.announces_left);
                port.announce_at = ANNOUNCE_GAPS.get(done).map(|gap| now + *gap);
                port.announces_left = port.announces_left.saturating_sub(1);
            }
            if port.query_at <= now {
                let mut query = Writer::query();
                query.question(&service(), kind::PTR);
                self.output.push_back(Output::Send { interface: *index, bytes: query.finish() });
                port.query_at = now + port.query_gap;
                port.query_gap = (port.query_gap * 3).min(QUERY_GAP_MAX);
            }
        }
        self.send_records(TTL.as_secs() as u32, |index| speaking.contains(&index));
    }

    /// Sends our records on the chosen interfaces, each with the addresses of that interface; `ttl_s` 0 is a goodbye.
    fn send_records(&mut self, ttl_s: u32, chosen: impl Fn(u32) -> bool) {
        let Some(announcement) = &self.announcement else { return };
        let instance = service().child(&instance_label(&announcement.txt));
        let host = host_of(&announcement.txt.id);
        for port in self.ports.values().filter(|port| chosen(port.interface.index)) {
            let mut message = Writer::response();
            message.ptr(&service(), ttl_s, &instance);
            message.srv(&instance, ttl_s, announcement.port, &host);
            message.txt(&instance, ttl_s, &announcement.txt.encode());
            for address in port.interface.addresses.iter().take(ADDRESSES_MAX) {
                message.address(&host, ttl_s, *address);
            }
            self.output.push_back(Output::Send { interface: port.interface.index, bytes: message.finish() });
        }
    }

    fn on_packet(&mut self, now: Time, interface: u32, bytes: &[u8]) {
        if bytes.len() > PACKET_BYTES_MAX || !self.ports.contains_key(&interface) {
            return;
        }
        match Message::parse(bytes) {
            Err(why) => self.output.push_back(Output::Ignored(why.into())),
            Ok(message) if message.is_response => self.on_response(interface, &message),
            Ok(message) => self.on_query(now, interface, &message),
        }
    }

    fn on_query(&mut self, now: Time, interface: u32, message: &Message<'_>) {
        let Some(announcement) = &self.announcement else { return };
        let (service, host) = (service(), host_of(&announcement.txt.id));
        let instance = service.child(&instance_label(&announcement.txt));
        let asks_us = message.questions.iter().any(|q| {
            (q.name == service && matches!(q.kind, kind::PTR | kind::ANY))
                || (q.name == instance && matches!(q.kind, kind::SRV | kind::TXT | kind::ANY))
                || (q.name == host && matches!(q.kind, kind::A | kind::AAAA | kind::ANY))
        });
        // RFC 6762 section 7.1: an asker that lists us with more than half our time left does not need to hear it again.
        let knows_us = message.records.iter().any(|r| {
            matches!(&r.data, Data::Ptr(target) if r.name == service && *target == instance)
                && u64::from(r.ttl_s) * 2 > TTL.as_secs()
        });
        if !asks_us || knows_us {
            return;
        }
        let soon = now + self.delay();
        if let Some(port) = self.ports.get_mut(&interface) {
            let allowed = port.last_response.map_or(Time::ZERO, |last| last + RESPONSE_GAP);
            port.respond_at.get_or_insert(soon.max(allowed));
        }
    }

    fn on_response(&mut self, interface: u32, message: &Message<'_>) {
        let Some(port) = self.ports.get(&interface) else { return };
        let service = service();
        let txts = message.records.iter().filter_map(|record| match &record.data {
            Data::Txt(bytes) if record.name.is_child_of(&service) => Some((record, *bytes)),
            Data::Txt(_) | Data::Ptr(_) | Data::Srv { .. } | Data::Address(_) => None,
        });
        for (record, bytes) in txts.take(DEVICES_PER_PACKET_MAX) {
            let output = match TxtRecord::parse(&txt_pairs(bytes)) {
                Err(why) => Output::Ignored(why.into()),
                Ok(txt) if txt.id == self.own => continue,
                Ok(txt) if record.ttl_s == 0 => Output::Gone(txt.id),
                Ok(txt) => observe(&port.interface, message, &record.name, record.ttl_s, txt)
                    .map_or(Output::Ignored(Ignored::Incomplete), Output::Seen),
            };
            self.output.push_back(output);
        }
    }

    fn delay(&mut self) -> Duration {
        DELAY_MIN + Duration::from_micros(self.rng.below(DELAY_SPREAD.as_micros() as u64))
    }
}

/// Joins the records of one device in one packet.
fn observe(
    on: &Interface,
    message: &Message<'_>,
    instance: &Name,
    ttl_s: u32,
    txt: TxtRecord,
) -> Option<Observation> {
    let (port, host) = message.records.iter().find_map(|record| match &record.data {
        Data::Srv { port, host } if record.name == *instance && *port != 0 => Some((*port, host)),
        Data::Srv { .. } | Data::Ptr(_) | Data::Txt(_) | Data::Address(_) => None,
    })?;
    let addresses: Vec<SocketAddr> = message
        .records
        .iter()
        .filter_map(|record| match record.data {
            Data::Address(ip) if record.name == *host => reachable(on, ip, port),
            Data::Address(_) | Data::Srv { .. } | Data::Ptr(_) | Data::Txt(_) => None,
        })
        .take(ADDRESSES_MAX)
        .collect();
    if addresses.is_empty() {
        return None;
    }
    Some(Observation {
        id: txt.id,
        name: txt.name,
        device_type: txt.device_type,
        version: txt.version,
        caps: txt.caps,
        pairing: txt.pairing,
        addresses,
        interface: Some(on.name.clone()),
        rssi: None,
        ttl: Duration::from_secs(u64::from(ttl_s)),
    })
}

/// The address as it can be used from here, or `None` if a device on this link cannot have it.
fn reachable(on: &Interface, ip: IpAddr, port: u16) -> Option<SocketAddr> {
    let usable = match ip {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none(),
    };
    if !usable || ip.is_unspecified() || ip.is_multicast() || (ip.is_loopback() && !on.loopback) {
        return None;
    }
    Some(match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, on.index).into(),
        IpAddr::V6(_) | IpAddr::V4(_) => SocketAddr::new(ip, port),
    })
}

fn service() -> Name {
    Name::new(&["_honeylink", "_udp", "local"])
}

/// The instance label: the name for people who look with other programs, then enough of the key to be unique.
fn instance_label(txt: &TxtRecord) -> String {
    let key = key_label(&txt.id);
    let mut name = displayable(&txt.name);
    while name.len() > LABEL_BYTES_MAX - key.len() - 1 {
        name.pop();
    }
    if name.is_empty() { key } else { format!("{name} {key}") }
}

fn host_of(id: &DeviceId) -> Name {
    Name::new(&[&key_label(id), "local"])
}

/// The first 16 hex digits of the id.
fn key_label(id: &DeviceId) -> String {
    let mut text = id.to_string();
    text.truncate(16);
    text
}
