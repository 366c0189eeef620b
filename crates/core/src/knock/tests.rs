//! Devices on a subnet that drops multicast, and worse.

use std::net::{Ipv4Addr, SocketAddrV4};

use core::time::Duration;
use proptest::prelude::{any, prop_assert, proptest};

use super::*;
use crate::identity::{DeviceType, SecretKey};
use crate::nearby::{Capabilities, PairingHint, TxtRecord};

fn id(seed: u64) -> DeviceId {
    SecretKey::from_u64(seed).id()
}

fn announcement(seed: u64) -> Announcement {
    let txt = TxtRecord {
        id: id(seed),
        name: format!("device {seed}"),
        device_type: DeviceType::Laptop,
        version: "0.1.0".into(),
        caps: Capabilities::NONE,
        pairing: PairingHint::Closed,
    };
    Announcement { txt, port: 7843 }
}

fn interface(own: Ipv4Addr, prefix: u8) -> Interface {
    Interface { index: 1, name: "eth0".into(), nets: vec![Net { own, prefix }], scan: true }
}

/// An address, who is there, and whom it sees.
type Device = (Ipv4Addr, Knock, Vec<(Finder, Observation)>);

/// Devices on one subnet, and what the subnet lets through.
struct Lan {
    now: Time,
    devices: Vec<Device>,
    broadcast: bool,
    everybody: Ipv4Addr,
    /// Who asked whom, when.
    sent: Vec<(Time, Ipv4Addr, Ipv4Addr)>,
}

impl Lan {
    fn new(addresses: &[[u8; 4]], prefix: u8, broadcast: bool) -> Self {
        let device = |(seed, address): (u64, &[u8; 4])| {
            let own = Ipv4Addr::from(*address);
            let mut knock = Knock::new(id(seed), Rng::from_u64(seed));
            knock.handle(Time::ZERO, Input::Announce(Some(announcement(seed))));
            knock.handle(Time::ZERO, Input::Interface(interface(own, prefix)));
            (own, knock, Vec::new())
        };
        let devices = (1..).zip(addresses).map(device).collect();
        let everybody = Net { own: addresses[0].into(), prefix }.broadcast().unwrap_or(Ipv4Addr::BROADCAST);
        Self { now: Time::ZERO, devices, broadcast, everybody, sent: Vec::new() }
    }

    /// Carries what was said to where it goes, until nobody says anything more.
    fn settle(&mut self) {
        loop {
            let mut under_way = Vec::new();
            for (own, knock, seen) in &mut self.devices {
                while let Some(output) = knock.poll_output() {
                    match output {
                        Output::Send { to, bytes, .. } => under_way.push((*own, to, bytes)),
                        Output::Seen { finder, observation } => seen.push((finder, observation)),
                        Output::Gone(_) | Output::InterfaceGone(_) | Output::Ignored(_) => {}
                    }
                }
            }
            if under_way.is_empty() {
                return;
            }
            for (from, to, bytes) in under_way {
                assert_eq!(to.port(), PORT);
                self.sent.push((self.now, from, *to.ip()));
                let all = *to.ip() == self.everybody;
                for (own, knock, _) in &mut self.devices {
                    if *own == *to.ip() || (all && self.broadcast && *own != from) {
                        let from = SocketAddrV4::new(from, PORT);
                        knock.handle(self.now, Input::Packet { interface: 1, from, bytes: &bytes });
                    }
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let due =
                self.devices.iter().filter_map(|(_, knock, _)| knock.poll_timeout()).map(|d| d.at).min();
            let Some(at) = due.filter(|at| *at <= end) else { break };
            self.now = at.max(self.now);
            for (_, knock, _) in &mut self.devices {
                if knock.poll_timeout().is_some_and(|d| d.at <= self.now) {
                    knock.handle(self.now, Input::Timeout);
                }
            }
        }
        self.now = end;
    }

    /// How and where a device sees another one last.
    fn sees(&self, who: usize, whom: u64) -> Option<(Finder, SocketAddr)> {
        let seen = self.devices[who].2.iter().rev().find(|(_, seen)| seen.id == id(whom))?;
        Some((seen.0, seen.1.addresses[0]))
    }

    /// Addresses that a device asked, other than everybody's.
    fn asked(&self, who: usize) -> Vec<Ipv4Addr> {
        let own = self.devices[who].0;
        let by = self.sent.iter().filter(|(_, from, to)| *from == own && *to != self.everybody);
        by.map(|(_, _, to)| *to).collect()
    }
}

#[test]
fn without_multicast_one_broadcast_makes_everybody_known_where_they_are() {
    let mut lan = Lan::new(&[[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]], 24, true);
    lan.run(Duration::from_secs(1));
    for (who, whom) in [(0, 2), (0, 3), (1, 1), (2, 1)] {
        let address = SocketAddr::from(([10, 0, 0, u8::try_from(whom).unwrap()], 7843));
        assert_eq!(lan.sees(who, whom), Some((Finder::Broadcast, address)));
    }
    // They go on to hear each other before what was said is forgotten.
    lan.devices.iter_mut().for_each(|device| device.2.clear());
    lan.run(LIFE);
    assert!(lan.sees(0, 2).is_some() && lan.sees(2, 1).is_some());
    let limit = lan.devices.len() * (usize::from(u8::MAX));
    assert!(lan.sent.len() < limit, "{} packets in {LIFE:?}", lan.sent.len());
}

#[test]
fn without_broadcasts_a_small_subnet_is_walked_through_and_whoever_answered_is_asked_again() {
    let mut lan = Lan::new(&[[192, 168, 1, 9], [192, 168, 1, 200]], 24, false);
    lan.run(Duration::from_secs(10));
    assert_eq!(lan.sees(0, 2), Some((Finder::Scan, ([192, 168, 1, 200], 7843).into())));
    assert_eq!(lan.sees(1, 1).map(|seen| seen.1), Some(([192, 168, 1, 9], 7843).into()));
    lan.devices.iter_mut().for_each(|device| device.2.clear());
    lan.run(LIFE);
    assert!(lan.sees(0, 2).is_some() && lan.sees(1, 1).is_some(), "forgotten again");
    // One that is gone is not asked for ever.
    lan.devices.pop();
    lan.run(Duration::from_secs(1000));
    lan.sent.clear();
    lan.run(Duration::from_secs(100));
    assert_eq!(lan.asked(0).iter().filter(|ip| ip.octets()[3] == 200).count(), 0, "{:?}", lan.asked(0));
}

#[test]
fn a_scan_asks_each_address_once_and_no_more_than_a_hundred_a_second() {
    let mut lan = Lan::new(&[[10, 0, 0, 1]], 22, false);
    lan.run(Duration::from_secs(30));
    let mut asked = lan.asked(0);
    assert_eq!(asked.len(), 1021, "1,024 without the first, the last and our own");
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 1021);
    assert!(!asked.contains(&Ipv4Addr::new(10, 0, 0, 1)));
    for (at, ..) in &lan.sent {
        let within = |other: &&(Time, Ipv4Addr, Ipv4Addr)| {
            other.0 >= *at && other.0.saturating_since(*at) < Duration::from_secs(1)
        };
        assert!(lan.sent.iter().filter(within).count() <= 120);
    }
    lan.sent.clear();
    lan.run(SCAN_GAP_MIN - Duration::from_secs(40));
    assert!(lan.asked(0).is_empty(), "again at once");
}

#[test]
fn nothing_is_scanned_that_is_large_or_public_or_costs_or_where_somebody_is_heard() {
    let quiet = |net: ([u8; 4], u8), scan: bool, heard: bool| {
        let mut lan = Lan::new(&[net.0], net.1, false);
        let knock = &mut lan.devices[0].1;
        knock.handle(Time::ZERO, Input::Interface(Interface { scan, ..interface(net.0.into(), net.1) }));
        if heard {
            knock.handle(Time::ZERO, Input::SeenElsewhere("eth0"));
        }
        lan.run(Duration::from_secs(60));
        lan.asked(0).is_empty()
    };
    assert!(!quiet(([10, 0, 0, 1], 24), true, false), "the test can tell");
    for large in [21, 16, 8] {
        assert!(quiet(([10, 0, 0, 1], large), true, false), "/{large}");
    }
    for public in [[203, 0, 113, 9], [8, 8, 8, 8], [100, 64, 0, 1], [169, 254, 3, 3]] {
        assert!(quiet((public, 24), true, false), "{public:?}");
    }
    assert!(quiet(([10, 0, 0, 1], 24), false, false));
    assert!(quiet(([10, 0, 0, 1], 24), true, true));
    assert!(quiet(([10, 0, 0, 1], 31), true, false));
    assert!(quiet(([10, 0, 0, 1], 32), true, false));
}

#[test]
fn a_remembered_address_is_asked_first() {
    let mut lan = Lan::new(&[[10, 9, 0, 1], [10, 9, 7, 7]], 16, false);
    lan.devices[0].1.handle(Time::ZERO, Input::Remembered(vec![[10, 9, 7, 7].into(), [8, 8, 8, 8].into()]));
    lan.run(Duration::from_secs(1));
    assert_eq!(lan.sees(0, 2).map(|seen| seen.0), Some(Finder::Remembered));
    assert!(lan.sees(1, 1).is_some(), "who is asked knows who asks");
    assert!(!lan.asked(0).contains(&Ipv4Addr::new(8, 8, 8, 8)), "off the link");
}

/// One machine, ready to hear.
fn listener() -> Knock {
    let mut knock = Knock::new(id(1), Rng::from_u64(1));
    knock.handle(Time::ZERO, Input::Announce(Some(announcement(1))));
    knock.handle(Time::ZERO, Input::Interface(interface([10, 0, 0, 1].into(), 24)));
    while knock.poll_output().is_some() {}
    knock
}

fn hear(knock: &mut Knock, now: Time, from: [u8; 4], bytes: &[u8]) -> Vec<Output> {
    let from = SocketAddrV4::new(from.into(), 4000);
    knock.handle(now, Input::Packet { interface: 1, from, bytes });
    core::iter::from_fn(|| knock.poll_output()).collect()
}

#[test]
fn nobody_is_flooded_through_us() {
    let mut knock = listener();
    let ask = Packet::encode(Kind::AskAll, None);
    // Short questions and questions from off the link are not answered at all.
    let short = hear(&mut knock, Time::ZERO, [10, 0, 0, 9], &ask[..PACKET_BYTES - 1]);
    assert_eq!(short, [Output::Ignored(Ignored::Short)]);
    assert_eq!(hear(&mut knock, Time::ZERO, [10, 0, 1, 9], &ask), []);
    assert_eq!(hear(&mut knock, Time::ZERO, [10, 0, 0, 1], &ask), [], "our own address");
    // Of a thousand questions in a second as many are answered as promised, each as long as the question.
    let mut answers = 0;
    for nth in 0..1000 {
        let now = Time::from_millis(nth);
        hear(&mut knock, now, [10, 0, 0, 9], &ask);
        knock.handle(now, Input::Timeout);
        for output in core::iter::from_fn(|| knock.poll_output()) {
            if let Output::Send { to, bytes, .. } = output
                && to.port() == 4000
            {
                assert_eq!(bytes.len(), ask.len());
                answers += 1;
            }
        }
    }
    assert!((10..=ANSWERS_PER_S_MAX).contains(&answers), "{answers}");
}

#[test]
fn a_device_can_name_no_address_but_its_own_and_its_goodbye_is_heard() {
    let mut knock = listener();
    let heard =
        hear(&mut knock, Time::ZERO, [10, 0, 0, 9], &Packet::encode(Kind::Tell, Some(&announcement(2))));
    let [Output::Seen { finder: Finder::Broadcast, observation }] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(observation.addresses, [SocketAddr::from(([10, 0, 0, 9], 7843))]);
    assert_eq!(observation.interface.as_deref(), Some("eth0"));
    let gone =
        hear(&mut knock, Time::ZERO, [10, 0, 0, 9], &Packet::encode(Kind::Bye, Some(&announcement(2))));
    assert_eq!(gone, [Output::Gone(id(2))]);
    let ours = Packet::encode(Kind::Tell, Some(&announcement(1)));
    assert_eq!(hear(&mut knock, Time::ZERO, [10, 0, 0, 9], &ours), [], "our own words from elsewhere");
}

#[test]
fn addresses_that_answer_are_remembered_up_to_a_limit() {
    let mut knock = Knock::new(id(1), Rng::from_u64(1));
    knock.handle(Time::ZERO, Input::Interface(interface([10, 0, 0, 1].into(), 16)));
    let tell = Packet::encode(Kind::TellOne, Some(&announcement(2)));
    for nth in 0..1000_u16 {
        let [high, low] = (nth + 2).to_be_bytes();
        hear(&mut knock, Time::ZERO, [10, 0, high, low], &tell);
    }
    assert_eq!(knock.ports[&1].friends.len(), FRIENDS_MAX);
}

/// Version 1, byte by byte; a change here is a change of the protocol.
#[test]
fn golden_packets() {
    let packet = Packet::encode(Kind::AskOne, Some(&announcement(1)));
    assert_eq!(packet.len(), PACKET_BYTES);
    let id = id(1).to_string();
    let text = format!("\x43id={id}\x0dname=device 1\x0btype=laptop\x09ver=0.1.0");
    let mut expected = [&b"HLkn\x02\x1e\xa3"[..], text.as_bytes()].concat();
    expected.resize(PACKET_BYTES, 0);
    assert_eq!(packet, expected);
    assert_eq!(Packet::parse(&packet).unwrap(), Packet { kind: Kind::AskOne, sender: Some(announcement(1)) });
    let nameless = Packet::encode(Kind::AskAll, None);
    assert_eq!(nameless[..8], *b"HLkn\x01\0\0\0");
    assert_eq!(Packet::parse(&nameless).unwrap(), Packet { kind: Kind::AskAll, sender: None });
}

#[test]
fn the_longest_announcement_fits() {
    let txt = TxtRecord {
        name: "n".repeat(63),
        device_type: DeviceType::Embedded,
        version: "v".repeat(32),
        caps: Capabilities::from_bits(u32::MAX),
        pairing: PairingHint::Nameplate(u16::MAX),
        ..announcement(1).txt
    };
    let longest = Announcement { txt, port: u16::MAX };
    let read = Packet::parse(&Packet::encode(Kind::Tell, Some(&longest))).unwrap();
    assert_eq!(read.sender, Some(longest));
}

proptest! {
    #[test]
    fn no_packet_makes_the_machine_panic_or_hoard(
        packets in proptest::collection::vec((any::<[u8; 4]>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..50),
        valid: bool,
    ) {
        let mut knock = listener();
        for (from, mut bytes) in packets {
            if valid && bytes.len() > 6 {
                bytes[..4].copy_from_slice(b"HLkn");
                bytes[4] %= 6;
            }
            let outputs = hear(&mut knock, Time::ZERO, [10, 0, 0, from[3]], &bytes);
            prop_assert!(outputs.len() <= 2);
        }
        prop_assert!(knock.ports[&1].answers.len() <= ANSWERS_WAITING_MAX);
    }
}
