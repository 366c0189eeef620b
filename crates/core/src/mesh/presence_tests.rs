//! What announces promise, in the small network of [`super::net`].

use super::frame::{AnnounceKey, Beacon, Caps, Frame, Kind, Seq20};
use super::hint::{Address, Far};
use super::net::{Net, RADIO, lora};
use super::*;
use crate::identity::SecretKey;
use core::time::Duration;

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

fn net(n: usize, caps: Caps) -> Net {
    Net::with(n, 1, Config { caps, ..Config::default() })
}

fn store() -> Caps {
    Caps::RELAY.and(Caps::STORE)
}

fn devices(net: &Net, node: usize, caps: Caps) -> Vec<Present> {
    net.nodes[node].mesh.devices(net.now, caps)
}

fn sent(net: &Net, kind: Kind) -> usize {
    net.log.iter().filter(|(_, bytes)| Kind::of(bytes[0]) == Some(kind)).count()
}

#[test]
fn a_device_that_comes_up_is_known_next_door_within_a_minute() {
    let mut net = net(2, Caps::RELAY);
    net.hear(0, 1);
    net.run(minutes(2));
    for (node, other) in [(0, 1), (1, 0)] {
        let known = devices(&net, node, Caps::NONE);
        assert_eq!(known.iter().map(|present| present.device).collect::<Vec<_>>(), [net.id(other)]);
        assert!(net.nodes[node].events.contains(&Event::Heard { device: net.id(other), caps: Caps::RELAY }));
        assert!(!net.nodes[node].mesh.trace(net.now, Address::of(&net.id(other))).ways.is_empty());
    }
}

#[test]
fn on_a_radio_stores_are_known_two_hops_away_and_others_next_door() {
    for (caps, known) in [(store(), 2), (Caps::RELAY, 1)] {
        let mut net = net(5, caps);
        for n in 1..5 {
            net.hear(n - 1, n);
        }
        net.run(minutes(30));
        let offers = devices(&net, 0, caps);
        assert_eq!(offers.len(), known, "{caps:?}");
        assert_eq!(offers[0].device, net.id(1), "the nearest first");
    }
}

#[test]
fn over_connections_everybody_within_eight_hops_is_known_and_reached_without_asking() {
    let mut net = net(11, Caps::RELAY);
    for n in 1..11 {
        net.line(n - 1, n);
    }
    net.run(minutes(15));
    assert_eq!(devices(&net, 0, Caps::NONE).len(), 9, "8 hops taken is one device further");
    net.log.clear();
    net.send(0, 6, 1);
    net.run(minutes(1));
    assert!(net.has(0, 1, Step::Delivered));
    assert_eq!(sent(&net, Kind::RouteRequest) + sent(&net, Kind::RoutedRequest), 0);
}

#[test]
fn beacons_keep_a_device_known_for_a_third_of_the_bytes() {
    let mut net = net(2, store());
    net.hear(0, 1);
    net.run(minutes(60 * 24));
    let (keys, anchors, beacons) =
        (sent(&net, Kind::AnnounceKey), sent(&net, Kind::AnnounceAnchor), sent(&net, Kind::Beacon));
    assert!(beacons > 3 * (keys + anchors) / 2, "{keys} {anchors} {beacons}");
    assert_eq!(devices(&net, 0, Caps::STORE).len(), 1);
    assert_eq!(net.nodes[0].mesh.stats().dropped(Dropped::Forged), 0);
}

#[test]
fn a_restart_goes_on_with_newer_numbers_and_is_believed() {
    let mut net = net(2, store());
    net.hear(0, 1);
    net.run(minutes(10));
    for _ in 0..3 {
        net.restart(1);
        net.run(minutes(5));
    }
    let heard = devices(&net, 0, Caps::STORE)[0].heard_at;
    assert!(net.now.saturating_since(heard) < minutes(5), "the announce after the restart counted");
    assert_eq!(net.nodes[0].mesh.stats().dropped(Dropped::Stale), 0);
}

#[test]
fn who_asks_to_be_announced_is_heard_at_once() {
    let mut net = net(2, Caps::RELAY);
    net.hear(0, 1);
    net.run(minutes(10));
    let before = sent(&net, Kind::AnnounceKey);
    net.input(0, Input::AnnounceNow);
    net.run(Duration::from_secs(5));
    assert_eq!(sent(&net, Kind::AnnounceKey), before + 1);
}

#[test]
fn a_flood_of_announces_under_new_keys_costs_bounded_memory_and_air() {
    let mut net = net(2, Caps::RELAY);
    net.hear(0, 1);
    net.run(minutes(2));
    let before = net.nodes[0].mesh.state_bytes();
    net.log.clear();
    for n in 0..3000 {
        let key = SecretKey::from_u64(50_000 + n);
        let announce = AnnounceKey::new(&key, Seq20::new(1), store());
        let bytes = Frame::AnnounceKey(announce).to_bytes().freeze();
        net.input(0, Input::Frame { port: RADIO, bytes, quality: None });
        net.run(Duration::from_millis(200));
    }
    assert!(net.nodes[0].mesh.state_bytes() < before + 128 * 1024, "{}", net.nodes[0].mesh.state_bytes());
    let air = lora().airtime(103) * u32::try_from(sent(&net, Kind::AnnounceKey)).unwrap();
    assert!(air < minutes(10) / 100, "{air:?} in ten minutes");
    assert!(devices(&net, 0, Caps::NONE).iter().any(|present| present.device == net.id(1)), "pushed out");
}

#[test]
fn checks_on_one_port_are_bounded_however_fast_announces_come() {
    let mut net = net(1, Caps::RELAY);
    for n in 0..1000 {
        let key = SecretKey::from_u64(50_000 + n);
        let announce = AnnounceKey::new(&key, Seq20::new(1), store());
        let bytes = Frame::AnnounceKey(announce).to_bytes().freeze();
        net.input(0, Input::Frame { port: RADIO, bytes, quality: None });
    }
    assert!(net.nodes[0].mesh.stats().dropped(Dropped::Throttled) > 900);
}

#[test]
fn what_is_forged_or_bent_is_dropped_and_teaches_nothing() {
    let mut net = net(1, Caps::RELAY);
    let key = SecretKey::from_u64(9);
    let good = AnnounceKey::new(&key, Seq20::new(1), store());
    let forged = AnnounceKey { caps: Caps::GATEWAY, ..good.clone() };
    // As if it came straight from the device, and from somebody else.
    let bent = AnnounceKey { prev: hint::Near(7), ..good };
    let beacon = Beacon {
        hops: 0,
        prev: Address::of(&key.id()).near(),
        cost: frame::Cost::FREE,
        tag: Address::of(&key.id()).tag(),
        seq: Seq20::new(1),
        caps: store(),
        index: 1,
        value: [7; 16],
    };
    for frame in [Frame::AnnounceKey(forged), Frame::AnnounceKey(bent), Frame::Beacon(beacon)] {
        let bytes = frame.to_bytes().freeze();
        net.input(0, Input::Frame { port: RADIO, bytes, quality: None });
    }
    assert!(devices(&net, 0, Caps::NONE).is_empty());
    let mesh = &net.nodes[0].mesh;
    assert_eq!((mesh.stats().dropped(Dropped::Forged), mesh.stats().dropped(Dropped::Stranger)), (2, 1));
    assert!(mesh.snapshot(net.now).routes.iter().all(|(far, _)| *far != Far::from(&key.id())));
}
