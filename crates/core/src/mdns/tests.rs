//! Devices on a simulated wire: every packet one sends reaches all others at once.

use super::*;
use crate::identity::{DeviceType, SecretKey};
use crate::nearby::{Capabilities, PairingHint};
use crate::rng::Rng;
use data_encoding::HEXLOWER;
use proptest::prelude::*;

fn txt(seed: u64, name: &str) -> TxtRecord {
    TxtRecord {
        id: SecretKey::from_u64(seed).id(),
        name: name.to_owned(),
        device_type: DeviceType::Laptop,
        version: "0.1.0".to_owned(),
        caps: Capabilities::FILES,
        pairing: PairingHint::Closed,
    }
}

fn interface(seed: u64) -> Interface {
    Interface {
        index: 3,
        name: "eth0".to_owned(),
        loopback: false,
        addresses: vec![IpAddr::from([192, 0, 2, seed as u8]), "fe80::1".parse().unwrap()],
    }
}

fn device(seed: u64, name: &str) -> Mdns {
    let txt = txt(seed, name);
    let mut mdns = Mdns::new(txt.id, Rng::from_u64(seed));
    mdns.handle(Time::ZERO, Input::Announce(Some(Announcement { txt, port: 7843 })));
    mdns
}

/// A wire with these devices on it. Returns what each reported, in order, until `until`.
fn run(devices: &mut [Mdns], from: Time, until: Time) -> Vec<(Time, usize, Output)> {
    let mut heard = Vec::new();
    let mut now = from;
    loop {
        loop {
            let mut packets = Vec::new();
            for (at, device) in devices.iter_mut().enumerate() {
                while let Some(output) = device.poll_output() {
                    match output {
                        Output::Send { bytes, .. } => packets.push((at, bytes)),
                        Output::Seen(_) | Output::Gone(_) | Output::InterfaceGone(_) | Output::Ignored(_) => {
                            heard.push((now, at, output));
                        }
                    }
                }
            }
            if packets.is_empty() {
                break;
            }
            for (from, bytes) in packets {
                assert!(bytes.len() < 1400, "an announcement fits a frame");
                for (_, device) in devices.iter_mut().enumerate().filter(|(at, _)| *at != from) {
                    device.handle(now, Input::Packet { interface: 3, bytes: &bytes });
                }
            }
        }
        let Some(next) = devices.iter().filter_map(Mdns::poll_timeout).map(|d| d.at).min() else {
            return heard;
        };
        if next > until {
            return heard;
        }
        now = next;
        for device in devices.iter_mut() {
            device.handle(now, Input::Timeout);
        }
    }
}

fn seen_by(heard: &[(Time, usize, Output)], who: usize) -> Vec<(Time, &Observation)> {
    let seen = heard.iter().filter(|(_, at, _)| *at == who);
    seen.filter_map(|(t, _, o)| if let Output::Seen(o) = o { Some((*t, o)) } else { None }).collect()
}

#[test]
fn two_devices_find_each_other_within_a_second_whoever_came_first() {
    let mut devices = [device(1, "studio"), device(2, "tablet")];
    devices[0].handle(Time::ZERO, Input::Interface(interface(1)));
    run(&mut devices[..1], Time::ZERO, Time::from_millis(60_000));
    let start = Time::from_millis(60_000);
    devices[1].handle(start, Input::Interface(interface(2)));
    let heard = run(&mut devices, start, start + Duration::from_secs(1));
    for who in 0..2 {
        let (when, observation) = seen_by(&heard, who)[0];
        assert!(when < start + Duration::from_millis(250), "{when}");
        assert_eq!(observation.name, ["tablet", "studio"][who]);
        let expected =
            [SocketAddr::from(([192, 0, 2, [2, 1][who]], 7843)), "[fe80::1%3]:7843".parse().unwrap()];
        assert_eq!(observation.addresses, expected);
    }
}

#[test]
fn a_goodbye_is_heard_and_a_rename_is_not_a_goodbye_for_long() {
    let mut devices = [device(1, "studio"), device(2, "tablet")];
    for (at, d) in devices.iter_mut().enumerate() {
        d.handle(Time::ZERO, Input::Interface(interface(at as u64)));
    }
    run(&mut devices, Time::ZERO, Time::from_millis(10_000));
    let t = Time::from_millis(10_000);
    devices[0].handle(t, Input::Announce(Some(Announcement { txt: txt(1, "atelier"), port: 1 })));
    let heard = run(&mut devices, t, t);
    let seen = seen_by(&heard, 1);
    assert_eq!((seen[0].1.name.as_str(), seen[0].1.addresses[0].port()), ("atelier", 1));
    devices[0].handle(t, Input::Announce(None));
    let heard = run(&mut devices, t, t);
    assert!(heard.contains(&(t, 1, Output::Gone(SecretKey::from_u64(1).id()))), "{heard:?}");
}

#[test]
fn a_change_of_address_is_announced_at_once() {
    let mut devices = [device(1, "studio"), device(2, "tablet")];
    for (at, d) in devices.iter_mut().enumerate() {
        d.handle(Time::ZERO, Input::Interface(interface(at as u64)));
    }
    let t = Time::from_millis(100_000);
    run(&mut devices, Time::ZERO, t);
    devices[0].handle(t, Input::Interface(interface(77)));
    let heard = run(&mut devices, t, t + Duration::from_millis(200));
    assert_eq!(seen_by(&heard, 1)[0].1.addresses[0].ip(), IpAddr::from([192, 0, 2, 77]));
    devices[0].handle(t, Input::InterfaceGone(3));
    assert_eq!(devices[0].poll_output(), Some(Output::InterfaceGone("eth0".to_owned())));
    assert_eq!(devices[0].poll_timeout(), None);
}

#[test]
fn a_quiet_network_carries_few_packets() {
    let mut devices: Vec<_> = (1..=5).map(|seed| device(seed, "x")).collect();
    for (at, d) in devices.iter_mut().enumerate() {
        d.handle(Time::ZERO, Input::Interface(interface(at as u64)));
    }
    run(&mut devices, Time::ZERO, Time::from_millis(60_000));
    let heard = run(&mut devices, Time::from_millis(60_000), Time::from_millis(120_000));
    // Each of five devices asks twice a minute and each question is answered by the four others.
    assert!(seen_by(&heard, 0).len() <= 2 * 5 * 4, "{}", seen_by(&heard, 0).len());
    assert!(seen_by(&heard, 0).len() >= 4, "records are refreshed before they end");
}

#[test]
fn an_asker_that_knows_us_hears_nothing() {
    let mut mdns = device(1, "studio");
    mdns.handle(Time::ZERO, Input::Interface(interface(1)));
    run(core::slice::from_mut(&mut mdns), Time::ZERO, Time::from_millis(20_000));
    let ask = |ttl_s| {
        let mut query = Writer::query();
        query.question(&service(), kind::PTR);
        let mut bytes = query.finish();
        let mut answer = Writer::response();
        answer.ptr(&service(), ttl_s, &service().child(&instance_label(&txt(1, "studio"))));
        bytes.extend_from_slice(&answer.finish()[12..]);
        bytes[7] = 1;
        bytes
    };
    let before = mdns.poll_timeout();
    mdns.handle(Time::from_millis(20_000), Input::Packet { interface: 3, bytes: &ask(100) });
    assert_eq!(mdns.poll_timeout(), before);
    mdns.handle(Time::from_millis(20_000), Input::Packet { interface: 3, bytes: &ask(10) });
    assert_eq!(mdns.poll_timeout().unwrap().why, "answer a question about this device");
}

#[test]
fn addresses_a_neighbour_cannot_have_are_not_believed() {
    let believed = |loopback, ip: &str| {
        reachable(&Interface { loopback, ..interface(1) }, ip.parse().unwrap(), 1).is_some()
    };
    for ip in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.251",
        "127.0.0.1",
        "::1",
        "::",
        "ff02::fb",
        "::ffff:192.0.2.1",
    ] {
        assert!(!believed(false, ip), "{ip}");
    }
    for ip in ["192.0.2.1", "fe80::2", "2001:db8::1"] {
        assert!(believed(false, ip), "{ip}");
    }
    assert!(believed(true, "127.0.0.1"));
}

#[test]
fn what_cannot_be_used_is_said_and_forgotten() {
    let mut mdns = device(1, "studio");
    mdns.handle(Time::ZERO, Input::Interface(interface(1)));
    mdns.handle(Time::ZERO, Input::Packet { interface: 3, bytes: b"nonsense" });
    assert!(matches!(mdns.poll_output(), Some(Output::Ignored(Ignored::Packet(_)))));
    let mut lonely = Writer::response();
    lonely.txt(&service().child("x"), 120, &[("id", txt(2, "").id.to_string())]);
    mdns.handle(Time::ZERO, Input::Packet { interface: 3, bytes: &lonely.finish() });
    assert_eq!(mdns.poll_output(), Some(Output::Ignored(Ignored::Incomplete)));
    let mut anonymous = Writer::response();
    anonymous.txt(&service().child("x"), 120, &[("id", "0".repeat(64))]);
    mdns.handle(Time::ZERO, Input::Packet { interface: 3, bytes: &anonymous.finish() });
    assert!(matches!(mdns.poll_output(), Some(Output::Ignored(Ignored::Txt(_)))));
    assert_eq!(mdns.poll_output(), None);
}

/// The published bytes of an announcement: a change here is a change of what older versions see.
#[test]
fn golden_announcement() {
    let mut mdns = device(1, "studio");
    let mut on = interface(1);
    on.addresses.truncate(1);
    mdns.handle(Time::ZERO, Input::Interface(on));
    mdns.handle(Time::from_millis(200), Input::Timeout);
    let sent = core::iter::from_fn(|| mdns.poll_output());
    let sent: Vec<_> = sent
        .filter_map(|o| if let Output::Send { bytes, .. } = o { Some(HEXLOWER.encode(&bytes)) } else { None })
        .collect();
    assert_eq!(sent, GOLDEN);
}

const GOLDEN: [&str; 2] = [
    // A query: one question, PTR of the service.
    "0000000000010000000000000a5f686f6e65796c696e6b045f756470056c6f63616c00000c0001",
    concat!(
        // header: response, authoritative, four answers
        "000084000000000400000000",
        // PTR of the service, 120 s
        "0a5f686f6e65796c696e6b045f756470056c6f63616c00000c000100000078002f",
        // the instance
        "1773747564696f20636665323766663464353165623933370a5f686f6e65796c696e6b045f756470056c6f63616c00",
        // SRV of the instance, 120 s, cache flush
        "1773747564696f20636665323766663464353165623933370a5f686f6e65796c696e6b045f756470056c6f63616c0000",
        "21800100000078001e",
        // priority, weight, port 7843
        "000000001ea3",
        // the host
        "1063666532376666346435316562393337056c6f63616c00",
        // TXT of the instance, 120 s, cache flush
        "1773747564696f20636665323766663464353165623933370a5f686f6e65796c696e6b045f756470056c6f63616c0000",
        "10800100000078006d",
        // id, name, type, ver, caps
        "4369643d6366653237666634643531656239333739633636633238326562653936353461613361343965343637643733",
        "61656332663264376638386639363735663962340b6e616d653d73747564696f0b747970653d6c6170746f7009766572",
        "3d302e312e3006636170733d31",
        // A of the host, 120 s, cache flush
        "1063666532376666346435316562393337056c6f63616c00",
        // 192.0.2.1
        "00018001000000780004c0000201",
    ),
];

proptest! {
    #[test]
    fn labels_fit_whatever_the_name(name in ".{0,100}") {
        let record = TxtRecord { name, ..txt(1, "") };
        prop_assert!(instance_label(&record).len() <= LABEL_BYTES_MAX);
    }

    #[test]
    fn no_packet_makes_the_machine_panic_or_remember(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut mdns = device(1, "studio");
        mdns.handle(Time::ZERO, Input::Interface(interface(1)));
        mdns.handle(Time::ZERO, Input::Packet { interface: 3, bytes: &bytes });
        prop_assert!(core::iter::from_fn(|| mdns.poll_output()).count() <= DEVICES_PER_PACKET_MAX);
    }
}
