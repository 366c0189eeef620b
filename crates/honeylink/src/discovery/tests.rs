//! Discovery between nodes of this machine. Everything stays on the loopback interface, each test on a port of its own.

use std::net::UdpSocket;

use honeylink_core::identity::SecretKey;
use honeylink_core::mdns::GROUP_V4;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn announcement(seed: u64, name: &str) -> Announcement {
    let txt = TxtRecord {
        id: SecretKey::from_u64(seed).id(),
        name: name.to_owned(),
        device_type: DeviceType::Laptop,
        version: "0.1.0".to_owned(),
        caps: Capabilities::FILES,
        pairing: PairingHint::Closed,
    };
    Announcement { txt, port: 7000 + u16::try_from(seed % 1000).unwrap() }
}

fn start(seed: u64, name: &str, port: u16) -> Discovery {
    Discovery::start(Config::new(announcement(seed, name)).scope(Scope::Loopback).mdns_port(port)).unwrap()
}

/// Waits for an event that `wanted` accepts.
async fn until<T>(events: &mut Subscription, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("discovery runs");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the awaited event comes")
}

/// Waits until `node` has the device in its table.
async fn found(node: &Discovery, id: DeviceId) -> Device {
    until(&mut node.events(), |event| match event {
        Event::Snapshot(devices) => devices.into_iter().find(|d| d.id == id),
        Event::Found(device) | Event::Changed(device) => Some(*device).filter(|d| d.id == id),
        Event::Lost(_) | Event::Conflict { .. } | Event::FinderDown { .. } | Event::FinderUp(_) => None,
    })
    .await
}

#[tokio::test]
async fn nodes_of_one_machine_find_each_other_and_say_goodbye() {
    let nodes: Vec<_> = (1..=3).map(|seed| start(seed, &format!("node {seed}"), 45_301)).collect();
    for node in &nodes {
        for seed in (1..=3).filter(|seed| announcement(*seed, "").txt.id != node.announcement.borrow().txt.id)
        {
            let device = found(node, announcement(seed, "").txt.id).await;
            assert_eq!(device.name, format!("node {seed}"));
            assert_eq!(
                node.addresses_of(&device.id),
                [SocketAddr::from(([127, 0, 0, 1], announcement(seed, "").port))]
            );
        }
        assert_eq!(node.snapshot().len(), 2, "itself is not a device");
    }
    let mut events = nodes[0].events();
    nodes[2].shutdown().await;
    until(&mut events, |event| (event == Event::Lost(announcement(3, "").txt.id)).then_some(())).await;
    for node in &nodes {
        node.shutdown().await;
    }
    assert_eq!(nodes[2].events().next().await, Some(Event::Snapshot(nodes[2].snapshot())));
    let mut ended = nodes[0].events();
    ended.next().await;
    assert_eq!(ended.next().await, None, "a subscription ends with discovery");
}

#[tokio::test]
async fn a_changed_announcement_is_heard_without_restart() {
    let (a, b) = (start(1, "studio", 45_302), start(2, "tablet", 45_302));
    let id = announcement(1, "").txt.id;
    let mut events = b.events();
    found(&b, id).await;
    a.announce(|announcement| {
        announcement.txt.name = "atelier".to_owned();
        announcement.txt.pairing = PairingHint::Nameplate(7);
        announcement.port = 9;
    });
    let seen = |device: &Device| {
        (device.name.clone(), device.pairing, device.addresses.first().map(SocketAddr::port))
    };
    let wanted = ("atelier".to_owned(), PairingHint::Nameplate(7), Some(9));
    until(&mut events, |event| match event {
        Event::Found(d) | Event::Changed(d) => (seen(&d) == wanted).then_some(()),
        Event::Snapshot(_)
        | Event::Lost(_)
        | Event::Conflict { .. }
        | Event::FinderDown { .. }
        | Event::FinderUp(_) => None,
    })
    .await;
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test]
async fn a_blocked_port_is_reported_and_used_as_soon_as_it_is_free() {
    let port = 45_303;
    let blocker = UdpSocket::bind((GROUP_V4, port)).unwrap();
    let node = start(1, "studio", port);
    let mut events = node.events();
    let reason =
        until(&mut events, |e| if let Event::FinderDown { reason, .. } = e { Some(reason) } else { None })
            .await;
    assert!(reason.contains("45303") && reason.contains("lo"), "{reason}");
    node.add_manual(announcement(2, "").txt.id, "by hand", vec!["127.0.0.1:1".parse().unwrap()]);
    found(&node, announcement(2, "").txt.id).await;
    drop(blocker);
    until(&mut events, |e| (e == Event::FinderUp(Finder::Mdns)).then_some(())).await;
    let other = start(3, "tablet", port);
    found(&node, announcement(3, "").txt.id).await;
    other.shutdown().await;
    node.shutdown().await;
    UdpSocket::bind((GROUP_V4, port)).expect("no socket outlives the shutdown");
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_gets_a_snapshot() {
    let config = Config::new(announcement(1, "studio")).mdns(false);
    let node = Discovery::start(config).unwrap();
    let mut events = node.events();
    assert_eq!(events.next().await, Some(Event::Snapshot(vec![])));
    for seed in 2..2 + EVENT_QUEUE_MAX as u64 / 2 {
        let id = announcement(seed, "").txt.id;
        for _ in 0..2 {
            node.add_manual(id, "x", vec!["192.0.2.1:1".parse().unwrap()]);
            node.forget(Finder::Manual, id);
        }
    }
    node.add_manual(announcement(2, "").txt.id, "last", vec!["192.0.2.1:1".parse().unwrap()]);
    assert_eq!(events.next().await, Some(Event::Snapshot(node.snapshot())));
    assert_eq!(node.snapshot()[0].name, "last");
    node.shutdown().await;
}
