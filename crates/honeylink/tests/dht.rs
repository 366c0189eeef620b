//! Devices that find each other by the DHT, and by nothing else. The DHT is one of our own, on loopback: no packet leaves
//! this machine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::UdpSocket;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use honeylink::node::{ConnectError, JoinError, PairingEvent, PairingOptions};
use honeylink::pairing::{Code, Errand, Purpose};
use honeylink::{DeviceId, DhtOptions, DhtState, Node, Reach, testing};
use honeylink_core::identity::SecretKey;
use honeylink_core::wide::{Pair, Whereabouts, day_of};
use mainline::async_dht::AsyncDht;
use mainline::{MutableItem, SigningKey, Testnet};
use tokio::sync::mpsc;

const PROTOCOL: &str = "far/1";
/// Nobody waits as long as this; a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a connection is tried that will come about. On a busy machine the DHT may need several turns.
const TRYING: Duration = Duration::from_secs(80);
/// How long one is tried that will not: longer than a lookup may take.
const IN_VAIN: Duration = Duration::from_secs(14);
/// Nodes of the DHT.
const SIZE: usize = 6;

async fn dht() -> Testnet {
    tokio::task::spawn_blocking(|| Testnet::builder(SIZE).build().unwrap()).await.unwrap()
}

fn by(entries: &[String]) -> DhtOptions {
    DhtOptions::default().entries(entries.iter().map(|entry| entry.parse().unwrap()))
}

/// A node that finds others by the DHT and in no other way, and that tries a connection for so long.
async fn node(name: &str, key: u64, dht: &Testnet, trying: Duration) -> Node {
    let node =
        Node::builder().name(name).key(SecretKey::from_u64(key)).reach(Reach::Loopback).discovery(false);
    node.dht(by(&dht.bootstrap)).connect_timeout(trying).build().await.unwrap()
}

/// Waits until a node's part in the DHT is as wished.
async fn until(node: &Node, fits: impl FnMut(&DhtState) -> bool) -> DhtState {
    let mut states = node.watch_dht().unwrap();
    let waiting = tokio::time::timeout(PATIENCE, states.wait_for(fits)).await;
    match waiting {
        Ok(state) => state.unwrap().clone(),
        Err(_) => panic!("{:?}", node.dht()),
    }
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Somebody who stores what he likes.
fn client(dht: &Testnet) -> AsyncDht {
    let mut client = mainline::Dht::builder();
    client.bootstrap(&dht.bootstrap).bind_address(std::net::Ipv4Addr::LOCALHOST);
    client.build().unwrap().as_async()
}

async fn store(client: &AsyncDht, item: MutableItem) {
    // On a busy machine its nodes may answer too late.
    let storing = async { while client.put_mutable(item.clone(), None).await.is_err() {} };
    tokio::time::timeout(PATIENCE, storing).await.unwrap();
}

/// Waits until a connection does not come about for this reason, and not because the DHT is too busy to answer.
async fn fails(from: &Node, to: &SecretKey, wanted: &str) {
    let failing = async {
        loop {
            match from.connect(to.id(), PROTOCOL).await {
                Err(ConnectError::Unreachable { reason, .. }) if reason.contains(wanted) => return,
                Err(ConnectError::Unreachable { reason, .. }) => println!("not `{wanted}` but: {reason}"),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, failing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_that_know_only_each_others_id_find_each_other() {
    let dht = dht().await;
    let (a, b) = (node("a", 1, &dht, TRYING).await, node("b", 2, &dht, TRYING).await);
    testing::introduce_by_id(&a, &b).unwrap();
    let told = until(&b, |state| state.told == 1).await;
    assert!(told.stored_unix_ms.is_some() && told.problem.is_none(), "{told:?}");
    let mut listener = b.listen(PROTOCOL).unwrap();
    let there = tokio::spawn(async move { listener.accept().await.unwrap() });
    let here = tokio::time::timeout(PATIENCE, a.connect(b.id(), PROTOCOL)).await.unwrap().unwrap();
    here.send(&b"by the DHT"[..]).await.unwrap();
    assert_eq!(there.await.unwrap().recv().await.unwrap(), "by the DHT");
    a.shutdown().await;
    b.shutdown().await;
}

/// What is stored under the key of a note without being one: by somebody who may sign there, so that the DHT takes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_note_and_an_oversized_one_are_refused_and_said_so() {
    let dht = dht().await;
    let (a, a_key) = (node("a", 1, &dht, IN_VAIN).await, SecretKey::from_u64(1));
    let [forger, glutton, nobody] = [2, 3, 4].map(SecretKey::from_u64);
    let client = client(&dht);
    for (key, value) in [(&forger, vec![7; 512]), (&glutton, vec![7; 1000])] {
        let place = Pair::new(key, &a_key.id()).unwrap().to_peer(day_of(now_ms()));
        let item = MutableItem::new(SigningKey::from_bytes(place.seed()), &value, 1, None);
        store(&client, item).await;
    }
    for peer in [&forger, &glutton, &nobody] {
        testing::know(&a, peer.id()).unwrap();
    }
    tokio::join!(
        fails(&a, &forger, "not from this device, or was changed"),
        fails(&a, &glutton, "a note has 512 bytes; this has 1000"),
        fails(&a, &nobody, "the DHT has no note of it"),
    );
    a.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_note_is_believed_and_leads_to_where_the_device_is_now() {
    let dht = dht().await;
    let (b_key, a) = (SecretKey::from_u64(2), node("a", 1, &dht, TRYING).await);
    // Yesterday it was elsewhere.
    let place = Pair::new(&b_key, &a.id()).unwrap().to_peer(day_of(now_ms()));
    let stale = Whereabouts { addrs: vec!["127.0.0.1:9".parse().unwrap()], relays: Vec::new() };
    let seq = now_ms() - 3_600_000;
    let client = client(&dht);
    let signed = i64::try_from(seq).unwrap();
    let item = MutableItem::new(SigningKey::from_bytes(place.seed()), &stale.seal(&place, seq), signed, None);
    store(&client, item).await;
    let b = node("b", 2, &dht, TRYING).await;
    testing::introduce_by_id(&a, &b).unwrap();
    until(&b, |state| state.told == 1).await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let there = tokio::spawn(async move { listener.accept().await.unwrap() });
    let here = tokio::time::timeout(PATIENCE, a.connect(b.id(), PROTOCOL)).await.unwrap().unwrap();
    here.close("done").await.unwrap();
    drop(there);
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dht_that_does_not_answer_costs_a_bounded_time_and_is_named_as_the_reason() {
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let entry = mute.local_addr().unwrap().to_string();
    let a = Node::builder().name("a").reach(Reach::Loopback).discovery(false).dht(by(&[entry]));
    let a = a.connect_timeout(IN_VAIN).build().await.unwrap();
    let peer = SecretKey::from_u64(9);
    testing::know(&a, peer.id()).unwrap();
    fails(&a, &peer, "nobody in the DHT answers").await;
    let state = until(&a, |state| state.problem.is_some()).await;
    assert_eq!((state.told, state.stored_unix_ms), (0, None));
    a.shutdown().await;
}

/// Types a code on a node; what came of it.
async fn type_code(guest: &Node, shown: &str) -> Result<DeviceId, JoinError> {
    let (prompts, _asked) = mpsc::channel(1);
    let errand = Errand::Code(Code::parse(shown).unwrap(), Purpose::Pair);
    let joining = guest.join_pairing(errand, None, PairingOptions::default(), prompts);
    Ok(tokio::time::timeout(PATIENCE, joining).await.unwrap()?.id)
}

/// The same, as often as the DHT is too busy to tell where the code is.
async fn type_code_until_found(guest: &Node, shown: &str) -> Result<DeviceId, JoinError> {
    let typing = async {
        loop {
            let joined = type_code(guest, shown).await;
            if !matches!(joined, Err(JoinError::NobodyShowsItAnywhere(_))) {
                return joined;
            }
        }
    };
    tokio::time::timeout(PATIENCE, typing).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_works_between_devices_that_only_the_dht_joins() {
    let dht = dht().await;
    let (host, guest) = (node("host", 1, &dht, TRYING).await, node("guest", 2, &dht, TRYING).await);
    let mut opening = host.open_pairing(PairingOptions::default()).unwrap();
    assert_eq!(type_code_until_found(&guest, &opening.code).await.unwrap(), host.id());
    loop {
        match tokio::time::timeout(PATIENCE, opening.next()).await.unwrap().unwrap() {
            PairingEvent::Paired(peer) => break assert_eq!(peer.id, guest.id()),
            PairingEvent::Knock(id) => assert_eq!(id, guest.id()),
            PairingEvent::Compare(_)
            | PairingEvent::Failed(_)
            | PairingEvent::NotRecorded(_)
            | PairingEvent::Fetch(_) => panic!("something else happened"),
        }
    }
    assert!(host.store().trust().is_trusted(&guest.id()) && guest.store().trust().is_trusted(&host.id()));
    host.shutdown().await;
    guest.shutdown().await;
}

/// A guess costs an attempt at the host, as on a local network: after three, the host is deaf.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_words_cost_a_try_at_the_host_and_three_lock_it() {
    let dht = dht().await;
    let (host, guest) = (node("host", 1, &dht, TRYING).await, node("guest", 2, &dht, TRYING).await);
    let opening = host.open_pairing(PairingOptions::default()).unwrap();
    let (number, words) = opening.code.split_once('-').unwrap();
    let wrong = if words == "guitar-zebra" { "zebra-guitar" } else { "guitar-zebra" };
    for guess in 0..4 {
        let error = type_code_until_found(&guest, &format!("{number}-{wrong}")).await.unwrap_err();
        assert!(matches!(error, JoinError::Ceremony(_)), "{guess}: {error}");
        let locked = error.to_string();
        assert_eq!(locked.contains("too many"), guess == 3, "{guess}: {locked}");
    }
    let locked = type_code_until_found(&guest, &opening.code).await.unwrap_err().to_string();
    assert!(locked.contains("too many"), "{locked}");
    host.shutdown().await;
    guest.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_was_closed_is_found_nowhere_and_what_helps_is_said() {
    let dht = dht().await;
    let (host, guest) = (node("host", 1, &dht, TRYING).await, node("guest", 2, &dht, TRYING).await);
    let opening = host.open_pairing(PairingOptions::default()).unwrap();
    let code = opening.code.clone();
    drop(opening);
    // Ends what the code left behind: the note is taken back, or was never stored.
    host.shutdown().await;
    let error = type_code(&guest, &code).await.unwrap_err();
    assert!(matches!(error, JoinError::NobodyShowsItAnywhere(_) | JoinError::Unreachable(_)), "{error:?}");
    guest.shutdown().await;
    // A device without the DHT sees by the number that it would need it.
    let near = Node::builder().name("near").reach(Reach::Loopback).discovery(false).build().await.unwrap();
    let error = type_code(&near, &code).await.unwrap_err();
    assert!(matches!(error, JoinError::OnlyFar) && error.to_string().contains("node.dht"), "{error}");
    near.shutdown().await;
}
