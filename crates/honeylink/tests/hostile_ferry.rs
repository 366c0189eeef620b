//! A device that relays and lies, and a guest that floods: plain iroh endpoints that speak their own bytes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use honeylink::carrier::ALPN_FERRY;
use honeylink::node::FerriedCounts;
use honeylink::store::grants::GrantChange;
use honeylink::{DeviceId, Node, Reach, SecretKey, testing};
use honeylink_core::ferry::talk::{Handle, Refusal, Talk};
use honeylink_core::ferry::{NO_AFTER, PACKET_BYTES_MIN};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};

const PROTOCOL: &str = "ferried/1";
const PATIENCE: Duration = Duration::from_secs(120);
/// By what number the lying ferry lets its guests know each other.
const NUMBER: Handle = Handle(7);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            // tidy: sleep because what is waited for tells nobody
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, waiting).await;
}

async fn endpoint(key: &SecretKey) -> Endpoint {
    let builder = Endpoint::builder(presets::Empty)
        .crypto_provider(honeylink::crypto::provider().unwrap())
        .secret_key(iroh::SecretKey::from_bytes(&key.to_bytes()))
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![ALPN_FERRY.to_vec()])
        .clear_ip_transports();
    builder.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap()
}

/// A node that has the device of this id and address carry for it.
async fn guest(name: &str, ferry: DeviceId, at: SocketAddr) -> Node {
    let builder = Node::builder().name(name).reach(Reach::Wide).discovery(false);
    let node = builder.relay_peers([ferry.to_string()]).build().await.unwrap();
    testing::know(&node, ferry).unwrap();
    node.add_address(ferry, at);
    node
}

async fn hear(recv: &mut RecvStream) -> Option<Talk> {
    let mut length = [0];
    recv.read_exact(&mut length).await.ok()?;
    let mut body = vec![0; usize::from(length[0])];
    recv.read_exact(&mut body).await.ok()?;
    Talk::from_body(&body).ok()
}

async fn say(send: &mut SendStream, talk: Talk) {
    let _ = send.write_all(&talk.to_bytes()).await;
    let _ = send.finish();
}

/// Answers one guest's questions about the other, and passes its packets on: with a changed copy before each, one in three
/// again after it, and one in forty not at all. Of a handshake the changed copy comes after: QUIC takes what comes first for
/// the beginning of a connection, and gives that up if it is not authentic, so whoever is on the way can stop a handshake by
/// this as well as by dropping it.
async fn lie(from: Connection, to: Connection, done: Arc<AtomicU64>) {
    let device = DeviceId::from_bytes(*from.remote_id().as_bytes()).unwrap();
    let questions = async {
        while let Ok((mut send, mut recv)) = from.accept_bi().await {
            let Some(Talk::Ask { .. }) = hear(&mut recv).await else { continue };
            let (mut calling, mut called) = to.open_bi().await.unwrap();
            say(&mut calling, Talk::Call { device, handle: NUMBER }).await;
            assert_eq!(hear(&mut called).await, Some(Talk::Here));
            say(&mut send, Talk::Yes { handle: NUMBER }).await;
        }
    };
    let packets = async {
        while let Ok(datagram) = from.read_datagram().await {
            let number = done.fetch_add(1, Ordering::Relaxed);
            let (_, packet) = Handle::split(datagram).unwrap();
            let mut changed = packet.to_vec();
            let at = usize::try_from(number * 31).unwrap() % changed.len();
            changed[at] ^= 1 << (number % 8);
            // RFC 9000, section 17: long headers are those of handshakes.
            let handshake = packet[0] & 0x80 != 0;
            let mut copies = [
                (true, Bytes::from(changed)),
                (number % 40 != 39, packet.clone()),
                (number.is_multiple_of(3), packet),
            ];
            if handshake {
                copies.rotate_left(1);
            }
            for (_, copy) in copies.into_iter().filter(|(sent, _)| *sent) {
                let _ = to.send_datagram(NUMBER.before(&copy));
            }
        }
    };
    tokio::join!(questions, packets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_relays_and_changes_repeats_and_drops_packets_changes_no_message() {
    let key = SecretKey::from_u64(66);
    let liar = endpoint(&key).await;
    let at = liar.bound_sockets()[0];
    let (a, b) = (guest("a", key.id(), at).await, guest("b", key.id(), at).await);
    testing::introduce_by_id(&a, &b).unwrap();
    let mut guests = Vec::new();
    for _ in 0..2 {
        let incoming = soon("a guest", liar.accept()).await.unwrap();
        guests.push(soon("its handshake", incoming.accept().unwrap()).await.unwrap());
    }
    let done = Arc::new(AtomicU64::new(0));
    for (from, to) in [(0, 1), (1, 0)] {
        tokio::spawn(lie(guests[from].clone(), guests[to].clone(), done.clone()));
    }
    for node in [&a, &b] {
        until("a guest is connected", || node.relay_peers()[0].connected).await;
    }
    let mut listener = b.listen(PROTOCOL).unwrap();
    let ours = soon("a link", a.connect(b.id(), PROTOCOL)).await.unwrap();
    let theirs = soon("its other end", listener.accept()).await.unwrap();
    for number in 0..200_u32 {
        let message = number.to_be_bytes().repeat(1 + number as usize);
        ours.send(message.clone()).await.unwrap();
        assert_eq!(soon("a message", theirs.recv()).await.unwrap(), message);
    }
    assert!(done.load(Ordering::Relaxed) > 0, "nothing went by the liar");
    a.shutdown().await;
    b.shutdown().await;
    liar.close().await;
}

async fn ask(conn: &Connection, device: DeviceId) -> Option<Talk> {
    let (mut send, mut recv) = conn.open_bi().await.unwrap();
    say(&mut send, Talk::Ask { device }).await;
    soon("an answer", hear(&mut recv)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_floods_and_asks_for_others_reaches_nobody_and_learns_nothing() {
    let ferry = Node::builder().name("ferry").reach(Reach::Wide).discovery(false).build().await.unwrap();
    let port = ferry.bound_addrs().iter().find(|addr| addr.is_ipv4()).unwrap().port();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let b = guest("b", ferry.id(), at).await;
    let key = SecretKey::from_u64(67);
    testing::know(&ferry, b.id()).unwrap();
    testing::know(&ferry, key.id()).unwrap();
    for guest in [b.id(), key.id()] {
        ferry.change_grants(guest, vec![GrantChange::Relay(true)]).await.unwrap();
    }
    until("b is connected", || b.relay_peers()[0].connected).await;
    let attacker = endpoint(&key).await;
    let id = EndpointId::from_bytes(ferry.id().as_bytes()).unwrap();
    let target = EndpointAddr::new(id).with_ip_addr(at);
    let conn = soon("the attacker connects", attacker.connect(target, ALPN_FERRY)).await.unwrap();
    until("it is a guest", || ferry.ferry().guests == 2).await;
    // One that is there and does not want, and one that nobody knows: the same word, not sooner than said.
    for device in [b.id(), SecretKey::from_u64(99).id()] {
        let asked = Instant::now();
        assert_eq!(ask(&conn, device).await, Some(Talk::No(Refusal::NotHere)));
        assert!(asked.elapsed() >= NO_AFTER - Duration::from_millis(1));
    }
    for number in 0..u16::MAX {
        let _ = conn.send_datagram(Handle(number).before(&[7; PACKET_BYTES_MIN]));
        if number % 64 == 0 {
            let (mut send, mut recv) = soon("a stream", conn.open_bi()).await.unwrap();
            let _ = send.write_all(&number.to_be_bytes()).await;
            let _ = send.finish();
            let _ = recv.stop(0_u32.into());
        }
    }
    until("the flood is counted", || ferry.ferry().dropped_nowhere > 100).await;
    let report = ferry.ferry();
    assert_eq!((report.packets, report.agreed, report.crossings), (0, 0, 0));
    assert_eq!(b.ferry().ferried, FerriedCounts::default());
    // The other guest is served as before.
    assert!(b.relay_peers()[0].connected);
    ferry.shutdown().await;
    b.shutdown().await;
    attacker.close().await;
}
