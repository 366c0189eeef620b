//! Devices that can reach each other through relays only.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use honeylink::nat::NatReport;
use honeylink::relay::{Access, Certificate, RelayOptions, RelayServer};
use honeylink::{Link, Node, Reach, RelayAddr, RelayState, Rung, testing};
use honeylink_core::identity::SecretKey;

const PROTOCOL: &str = "relayed/1";
const PATIENCE: Duration = Duration::from_secs(60);

fn relay(seed: u64, access: Access) -> (RelayServer, RelayAddr) {
    relay_for(seed, access, 100)
}

/// A relay that takes so many connections from one address.
fn relay_for(seed: u64, access: Access, guests_per_source_max: usize) -> (RelayServer, RelayAddr) {
    let certificate = Certificate::own(&SecretKey::from_u64(seed), "127.0.0.1");
    let pin = certificate.pin().unwrap();
    let options = RelayOptions {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        discovery: vec!["127.0.0.1:0".parse().unwrap()],
        observer: Some("127.0.0.1:0".parse().unwrap()),
        certificate,
        access,
        guests_max: 100,
        guests_per_source_max,
        rate_bytes_per_s: None,
    };
    let server = RelayServer::start(options).unwrap();
    let (tcp, udp) = (server.listening()[0].port(), server.discovering()[0].port());
    let addr = RelayAddr::new("127.0.0.1", tcp, udp, pin).unwrap();
    (server, addr)
}

async fn node(name: &str, relays: &[RelayAddr]) -> Node {
    let relays = relays.iter().cloned();
    Node::builder().name(name).reach(Reach::Wide).relays(relays).relay_only(true).build().await.unwrap()
}

/// Waits until one of the node's relays is as wished.
async fn until(node: &Node, fits: impl Fn(&RelayState) -> bool) -> RelayState {
    let waiting = async {
        loop {
            if let Some(state) = node.relays().into_iter().find(&fits) {
                return state;
            }
            // A refusal before any relay was chosen is told by nobody.
            let _ = tokio::time::timeout(Duration::from_millis(50), node.relays_changed()).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(state) => state,
        Err(_) => panic!("{:?}", node.relays()),
    }
}

/// Two devices that know each other and a relay, and nothing else of each other.
async fn pair(relays: &[RelayAddr]) -> (Node, Node) {
    let (a, b) = (node("a", relays).await, node("b", relays).await);
    testing::introduce(&a, &b).unwrap();
    until(&a, |relay| relay.connected).await;
    until(&b, |relay| relay.connected).await;
    (a, b)
}

async fn connect(a: &Node, b: &Node) -> (Link, Link) {
    let mut listener = b.listen(PROTOCOL).unwrap();
    let there = tokio::spawn(async move { listener.accept().await.unwrap() });
    let here = tokio::time::timeout(PATIENCE, a.connect(b.id(), PROTOCOL)).await.unwrap().unwrap();
    (here, there.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_that_know_one_relay_find_each_other_and_the_way_says_so() {
    let (server, addr) = relay(1, Access::Everybody);
    let (a, b) = pair(std::slice::from_ref(&addr)).await;
    assert_eq!(a.ticket().relays, std::slice::from_ref(&addr));
    assert!(a.bound_addrs().is_empty() && a.ticket().addrs.is_empty());
    let (here, there) = connect(&a, &b).await;
    here.send(&b"through the relay"[..]).await.unwrap();
    assert_eq!(there.recv().await.unwrap(), "through the relay");
    let used = a.ways(&b.id()).used.unwrap();
    assert_eq!((used.rung, used.remote), (Rung::Relayed, addr.authority()));
    let stats = server.stats();
    assert_eq!(stats.guests, 2);
    assert!(stats.passed > 0 && stats.passed_bytes > 0);
    // Each has told the other where it is reached, for the time when only one of them still has the setting.
    let known = async {
        while a.store().trust().find(&b.id()).is_none_or(|record| record.relays.is_empty()) {
            // tidy: sleep because the store tells nobody
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap();
    assert_eq!(a.store().trust().find(&b.id()).unwrap().relays, [addr]);
    a.shutdown().await;
    b.shutdown().await;
    server.shutdown().await;
}

/// Waits until a relay has so many guests.
async fn until_guests(server: &RelayServer, guests: usize) {
    let coming = async {
        while server.stats().guests < guests {
            // tidy: sleep because a relay tells nobody who came
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, coming).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_relay_of_a_link_dies_it_goes_on_through_another_and_nothing_is_lost() {
    const MESSAGES: u32 = 200;
    let (first, first_addr) = relay(1, Access::Everybody);
    let (second, second_addr) = relay(2, Access::Everybody);
    let (a, b) = pair(&[first_addr.clone(), second_addr.clone()]).await;
    for server in [&first, &second] {
        until_guests(server, 2).await;
    }
    let (here, there) = connect(&a, &b).await;
    let echoing = tokio::spawn(async move {
        while let Ok(message) = there.recv().await {
            there.send(message).await.unwrap();
        }
    });
    let used = a.ways(&b.id()).used.unwrap().remote;
    let (mut dying, left) = if used == first_addr.authority() {
        (Some(first), (second, second_addr))
    } else {
        (Some(second), (first, first_addr))
    };
    let going = async {
        for number in 0..MESSAGES {
            if number == MESSAGES / 4 {
                // At once and without a word to the devices' connection.
                dying.take().unwrap().shutdown().await;
                // It goes down with the connection, and out again on the next.
                here.ping(PATIENCE).await.unwrap();
            }
            here.send(number.to_be_bytes().to_vec()).await.unwrap();
            assert_eq!(&here.recv().await.unwrap()[..], number.to_be_bytes());
        }
    };
    tokio::time::timeout(PATIENCE, going).await.unwrap();
    assert_eq!(a.ways(&b.id()).used.unwrap().remote, left.1.authority());
    here.close("done").await.unwrap();
    tokio::time::timeout(PATIENCE, echoing).await.unwrap().unwrap();
    a.shutdown().await;
    b.shutdown().await;
    left.0.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_does_not_wait_for_answers_goes_on_through_another_relay_too() {
    const MESSAGES: u32 = 1500;
    let (servers, relays): (Vec<_>, Vec<_>) =
        [1, 2].map(|seed| relay(seed, Access::Everybody)).into_iter().unzip();
    let (a, b) = pair(&relays).await;
    for server in &servers {
        until_guests(server, 2).await;
    }
    let (here, there) = connect(&a, &b).await;
    let used = a.ways(&b.id()).used.unwrap().remote;
    let (mut dying, mut living): (Vec<_>, Vec<_>) =
        servers.into_iter().zip(&relays).partition(|(_, addr)| addr.authority() == used);
    let sending = async {
        for number in 0..MESSAGES {
            if number == MESSAGES / 4 {
                dying.pop().unwrap().0.shutdown().await;
            }
            here.send(number.to_be_bytes().to_vec()).await.unwrap();
            // tidy: sleep because each message shall be a packet of its own
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let hearing = async {
        for number in 0..MESSAGES {
            assert_eq!(&there.recv().await.unwrap()[..], number.to_be_bytes());
        }
    };
    let all = async { tokio::join!(sending, hearing) };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert_ne!(a.ways(&b.id()).used.unwrap().remote, used);
    a.shutdown().await;
    b.shutdown().await;
    living.pop().unwrap().0.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_key_is_refused_and_told() {
    let (server, addr) = relay(1, Access::Everybody);
    let other = Certificate::own(&SecretKey::from_u64(2), "127.0.0.1").pin().unwrap();
    let wrong = RelayAddr::new(addr.host(), addr.port(), addr.udp().unwrap(), other).unwrap();
    let a = node("a", &[wrong]).await;
    let state = until(&a, |relay| relay.problem.is_some()).await;
    let problem = state.problem.unwrap();
    assert!(problem.contains("another key"), "{problem}");
    assert!(problem.contains(&addr.pin().unwrap().to_string()), "{problem}");
    assert_eq!(server.stats().accepted, 0);
    a.shutdown().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_a_list_takes_nobody_else_and_says_so() {
    let (server, addr) = relay(1, Access::Listed(Default::default()));
    let a = node("a", std::slice::from_ref(&addr)).await;
    let state = until(&a, |relay| relay.problem.is_some()).await;
    let problem = state.problem.unwrap();
    assert!(problem.contains("not on the relay's list"), "{problem}");
    server.set_access(Access::Listed([a.id()].into()));
    until(&a, |relay| relay.connected).await;
    assert!(server.stats().refused_access > 0);
    // Taken off the list, it is not only kept from coming again.
    server.set_access(Access::Listed(Default::default()));
    let told = |problem: &String| problem.contains("not on the relay's list");
    until(&a, |relay| !relay.connected && relay.problem.as_ref().is_some_and(told)).await;
    a.shutdown().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_takes_one_connection_from_an_address_takes_one_guest_from_there() {
    let (server, addr) = relay_for(1, Access::Everybody, 1);
    let a = node("a", std::slice::from_ref(&addr)).await;
    until(&a, |relay| relay.connected).await;
    assert_eq!(server.stats().guests, 1);
    a.shutdown().await;
    server.shutdown().await;
}

/// Waits until a node's relays said who observes there, and those did.
async fn seen(node: &Node) -> NatReport {
    let seeing = async {
        loop {
            match node.nat() {
                Some(nat) if nat.answered > 0 => return nat,
                // tidy: sleep because a report tells nobody
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, seeing).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_asks_the_observers_of_its_relays_without_being_told() {
    let (servers, relays): (Vec<_>, Vec<_>) =
        [1, 2].map(|seed| relay(seed, Access::Everybody)).into_iter().unzip();
    let a = Node::builder().reach(Reach::Wide).relays(relays.clone()).discovery(false);
    let a = a.build().await.unwrap();
    let nat = seen(&a).await;
    assert_eq!((nat.observers, nat.answered), (2, 2));
    assert!(nat.seen.unwrap().ip().is_loopback());
    assert!(servers.iter().all(|server| server.stats().observed > 0));
    // Who speaks through relays only has nothing that could be seen.
    let b = node("b", &relays).await;
    until(&b, |relay| relay.connected).await;
    assert_eq!(b.nat().unwrap().observers, 0);
    a.shutdown().await;
    b.shutdown().await;
    for server in servers {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn relays_need_a_wide_reach() {
    let (server, addr) = relay(1, Access::Everybody);
    let lan = Node::builder().reach(Reach::Loopback).relays([addr.clone()]).discovery(false);
    let a = lan.build().await.unwrap();
    assert!(a.relays().is_empty() && a.ticket().relays.is_empty());
    assert_eq!((server.stats().accepted, server.stats().discoveries, server.stats().observed), (0, 0, 0));
    let refused = Node::builder().relays([addr]).relay_only(true).build().await.unwrap_err().to_string();
    assert!(refused.contains("relay_only"), "{refused}");
    a.shutdown().await;
    server.shutdown().await;
}
