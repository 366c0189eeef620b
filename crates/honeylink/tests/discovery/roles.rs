//! What this binary does when a test starts it again: a node, another implementation's node, or the victim of a flood.
//!
//! Roles print one line per event for the test to wait for, and end when their standard input does.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use honeylink::discovery::{
    Announcement, Capabilities, Config, Device, Discovery, Event, PairingHint, Scope, TxtRecord,
};
use honeylink_core::identity::{DeviceId, DeviceType, SecretKey};
use honeylink_core::limits::NEARBY_DEVICES_MAX;
use honeylink_core::mdns::{GROUP_V4, Input, Interface, Mdns, Output, SERVICE};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;

pub(crate) fn play(role: &str) {
    // The harness has begun a line of its own.
    println!();
    let words: Vec<_> = role.split(' ').collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match words[..] {
        ["node", scope, seed] => {
            let scope = if scope == "lan" { Scope::Lan } else { Scope::Loopback };
            runtime.block_on(node(scope, seed.parse().unwrap()));
        }
        ["mdns-sd", seed] => other_implementation(seed.parse().unwrap()),
        ["flood"] => runtime.block_on(flood()),
        _ => panic!("no such role: {role}"),
    }
    // The test waits only for lines; the harness must not add its own after a role is over.
    std::process::exit(0);
}

fn announcement(seed: u64, name: &str) -> Announcement {
    let txt = TxtRecord {
        id: SecretKey::from_u64(seed).id(),
        name: name.to_owned(),
        device_type: DeviceType::Laptop,
        version: "0.1.0".to_owned(),
        caps: Capabilities::FILES,
        pairing: PairingHint::Closed,
    };
    Announcement { txt, port: 7843 }
}

/// Ends with standard input.
async fn input_ends() {
    let wait = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = wait.await;
}

/// A device is named by the seed of its key: the name is `node SEED`.
fn seed_of(device: &Device) -> &str {
    device.name.strip_prefix("node ").unwrap_or(&device.name)
}

async fn node(scope: Scope, seed: u64) {
    let config = Config::new(announcement(seed, &format!("node {seed}"))).scope(scope);
    let started = Instant::now();
    let discovery = Discovery::start(config).unwrap();
    let mut events = discovery.events();
    println!("started");
    let mut names = std::collections::BTreeMap::<DeviceId, String>::new();
    let ended = input_ends();
    tokio::pin!(ended);
    loop {
        let event = tokio::select! {
            () = &mut ended => break,
            event = events.next() => event.unwrap(),
        };
        match event {
            Event::Found(device) => {
                names.insert(device.id, seed_of(&device).to_owned());
                println!(
                    "found {} {:?} {}",
                    seed_of(&device),
                    device.addresses,
                    started.elapsed().as_millis()
                );
            }
            Event::Changed(device) => println!("changed {} {:?}", seed_of(&device), device.addresses),
            Event::Lost(id) => println!("lost {}", names.remove(&id).unwrap_or_default()),
            Event::FinderDown { reason, .. } => println!("down {reason}"),
            Event::Snapshot(_) | Event::Conflict { .. } | Event::FinderUp(_) => {}
        }
    }
    discovery.shutdown().await;
}

fn other_implementation(seed: u64) {
    let daemon = mdns_sd::ServiceDaemon::new().unwrap();
    let properties = announcement(seed, &format!("node {seed}")).txt.encode();
    let properties: Vec<_> = properties.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let service =
        mdns_sd::ServiceInfo::new(SERVICE, "other", "other.local.", "", 7843, &properties[..]).unwrap();
    daemon.register(service.enable_addr_auto()).unwrap();
    let events = daemon.browse(SERVICE).unwrap();
    std::thread::spawn(move || {
        for event in &events {
            if let mdns_sd::ServiceEvent::ServiceResolved(service) = event {
                let name = service.get_property_val_str("name").unwrap_or_default();
                println!("found {}", name.strip_prefix("node ").unwrap_or(name));
            }
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let ended = daemon.shutdown().unwrap();
    let _ = ended.recv_timeout(Duration::from_secs(2));
}

/// A device's announcement on loopback, as its own machine writes it.
fn announcement_packet(seed: u64, name: &str) -> Vec<u8> {
    let announcement = announcement(seed, name);
    let mut machine = Mdns::new(announcement.txt.id, Rng::from_u64(seed));
    machine.handle(Time::ZERO, Input::Announce(Some(announcement)));
    let addresses = vec![Ipv4Addr::LOCALHOST.into()];
    machine.handle(
        Time::ZERO,
        Input::Interface(Interface { index: 1, name: "lo".to_owned(), loopback: true, addresses }),
    );
    machine.handle(Time::from_millis(200), Input::Timeout);
    let sent = std::iter::from_fn(|| machine.poll_output());
    sent.filter_map(|o| if let Output::Send { bytes, .. } = o { Some(bytes) } else { None }).last().unwrap()
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// Ten thousand devices that all call themselves as a paired one does, each followed by a damaged packet of up to 60 kB
/// (names of 64 KiB do not fit a datagram), while a real device arrives.
async fn flood() {
    const FLOOD: u64 = 10_000;
    const GROWTH_BYTES_MAX: usize = 8 << 20;
    const PORT: u16 = 45_304;
    let start = |seed: u64, name: &str| {
        Discovery::start(Config::new(announcement(seed, name)).scope(Scope::Loopback).mdns_port(PORT))
            .unwrap()
    };
    let (node, friend) = (start(1, "studio"), start(2, "friend"));
    let friend_id = SecretKey::from_u64(2).id();
    node.mark_known([(friend_id, "friend".to_owned())]);
    appears(&node, friend_id).await;

    let attacker = socket2::Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
    attacker.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let to = SocketAddr::from((GROUP_V4, PORT)).into();
    let before = resident_bytes();
    for seed in 10..10 + FLOOD {
        let mut packet = announcement_packet(seed, "friend");
        attacker.send_to(&packet, &to).unwrap();
        let damaged = usize::try_from(seed).unwrap() % packet.len();
        packet[damaged] ^= 0xff;
        packet.resize(if seed % 2 == 0 { 8_900 } else { 60_000 }, b'n');
        let _ = attacker.send_to(&packet, &to);
        if seed % 64 == 0 {
            assert!(node.snapshot().len() <= NEARBY_DEVICES_MAX);
            tokio::task::yield_now().await;
        }
    }
    let late = start(3, "late");
    appears(&node, SecretKey::from_u64(3).id()).await;
    let devices = node.snapshot();
    assert!(devices.len() > NEARBY_DEVICES_MAX / 2, "the flood arrived: {}", devices.len());
    assert!(devices.iter().any(|d| d.id == friend_id && d.known), "the paired device stayed");
    assert!(devices.iter().all(|d| !d.known || d.id == friend_id), "a record grants nothing");
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    for node in [node, friend, late] {
        node.shutdown().await;
    }
    println!("survived {FLOOD} hostile devices; resident memory grew by {} KiB", growth / 1024);
}

async fn appears(node: &Discovery, id: DeviceId) {
    let mut events = node.events();
    let there = async {
        while node.device(&id).is_none() {
            events.next().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), there).await.unwrap();
}
