//! A message from radio to QUIC and its receipt back: real nodes, the real serial driver, emulated modems.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use honeylink::carrier::serial::{Radio, SerialConfig};
use honeylink::mesh::{Leads, MeshEvent, MeshHandle, MeshOptions, SendOptions, Topic};
use honeylink::radio::{CodingRate, Lora, Region, Tuning};
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::testing::modem::{Air, AirConfig, Kind, Modem};
use honeylink::{Node, Reach, testing};

const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// The radio everybody here has: SF7 at 500 kHz, so that a frame takes milliseconds.
fn tuning(region: &Region) -> Tuning {
    let lora = Lora::new(7, 500_000, CodingRate::Cr45).unwrap();
    Tuning::new(region, 868_300_000, lora, 14, 215).unwrap()
}

fn radio(modem: &Modem) -> SerialConfig {
    SerialConfig::new(modem.path(), Radio::Rnode(tuning(&Region::UNRESTRICTED)))
}

async fn node(name: &str, options: MeshOptions) -> Node {
    let builder = Node::builder().name(name).reach(Reach::Loopback).discovery(false);
    builder.mesh(options).build().await.unwrap()
}

/// Two devices that trust each other, neither of which knows an address of the other.
fn acquaint(a: &Node, b: &Node) {
    for (here, there) in [(a, b), (b, a)] {
        let peer = NewPeer {
            id: there.id(),
            name: None,
            announced_name: there.name(),
            device_type: there.device_type(),
            method: PairingMethod::Code,
        };
        here.store().trust().pair(&peer, OnNameTaken::Refuse, 0).unwrap();
    }
}

fn mesh(node: &Node) -> MeshHandle {
    node.mesh().unwrap()
}

/// Waits until a node has that many ports, radios included.
async fn ports(node: &Node, count: usize) {
    let mesh = mesh(node);
    let mut events = mesh.events();
    soon("ports", async {
        while mesh.snapshot().await.unwrap().ports.len() != count {
            events.recv().await.unwrap();
        }
    })
    .await;
}

/// A has a radio; B a radio and a connection to C.
async fn valley(air: &Air, folder: &Path) -> ([Node; 3], [Modem; 2]) {
    let modems = ["a", "b"].map(|name| Modem::plugged(air, folder, name, Kind::rnode()).unwrap());
    let a = node("a", MeshOptions::default().radio(radio(&modems[0]))).await;
    let b = node("b", MeshOptions::default().radio(radio(&modems[1]))).await;
    let c = node("c", MeshOptions::default()).await;
    acquaint(&a, &b);
    acquaint(&a, &c);
    testing::introduce(&b, &c).unwrap();
    ports(&a, 1).await;
    ports(&b, 2).await;
    ([a, b, c], modems)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_from_radio_to_quic_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let air = Air::new(AirConfig::default());
    let ([a, b, c], _modems) = valley(&air, folder.path()).await;
    let (mut at_a, mut at_c) =
        (mesh(&a).messages(Topic::APPLICATION).unwrap(), mesh(&c).messages(Topic::APPLICATION).unwrap());
    let mut sending =
        soon("send", mesh(&a).send("c", "from the valley", SendOptions::default())).await.unwrap();
    let message = soon("message", at_c.next()).await.unwrap();
    assert_eq!((message.from, &message.payload[..], message.hops), (a.id(), &b"from the valley"[..], 2));
    soon("receipt", sending.delivered()).await.unwrap();
    let mut answer = soon("send", mesh(&c).send("a", "to the valley", SendOptions::default())).await.unwrap();
    assert_eq!(soon("answer", at_a.next()).await.unwrap().payload, "to the valley");
    soon("receipt", answer.delivered()).await.unwrap();
    let neighbours = mesh(&a).snapshot().await.unwrap().mesh.neighbours;
    assert!(neighbours.iter().any(|seen| seen.snr_quarter_db.is_some()), "{neighbours:?}");
    for node in [a, b, c] {
        assert_eq!(node.shutdown().await.stuck_tasks, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modem_pulled_and_plugged_in_again_costs_time_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let air = Air::new(AirConfig::default());
    let ([a, b, c], modems) = valley(&air, folder.path()).await;
    let mut at_c = mesh(&c).messages(Topic::APPLICATION).unwrap();
    let mut events = mesh(&a).events();
    modems[0].unplug().await;
    soon("down", async { while !matches!(events.recv().await.unwrap(), MeshEvent::PortDown(_)) {} }).await;
    assert!(mesh(&a).snapshot().await.unwrap().radios[0].port.is_none());
    let mut sending = soon("send", mesh(&a).send("c", "still here", SendOptions::default())).await.unwrap();
    modems[0].plug_in().await;
    soon("up", async {
        while !matches!(events.recv().await.unwrap(), MeshEvent::PortUp(port) if port.leads == Leads::Air { radio: 0 }) {}
    })
    .await;
    assert_eq!(soon("message", at_c.next()).await.unwrap().payload, "still here");
    soon("receipt", sending.delivered()).await.unwrap();
    assert_eq!(mesh(&c).snapshot().await.unwrap().mesh.stats.delivered, 1);
    for node in [a, b, c] {
        assert_eq!(node.shutdown().await.stuck_tasks, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_radio_with_a_duty_cycle_keeps_its_ledger_in_the_home() {
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let air = Air::new(AirConfig::default());
    let modem = Modem::plugged(&air, folder.path(), "a", Kind::rnode()).unwrap();
    let lora = Lora::new(8, 125_000, CodingRate::Cr45).unwrap();
    let tuning = Tuning::new(&Region::EU868, 868_300_000, lora, 14, 215).unwrap();
    let config = SerialConfig::new(modem.path(), Radio::Rnode(tuning));
    let builder = Node::builder().name("a").reach(Reach::Loopback).discovery(false);
    let options = MeshOptions::default().radio(config);
    let a = builder.home(home.path().join("a")).mesh(options).build().await.unwrap();
    ports(&a, 1).await;
    let ledger = a.home().unwrap().radio_ledger(modem.path());
    a.shutdown().await;
    assert!(ledger.exists(), "{}", ledger.display());
}
