//! A paired device that misuses streams, policies and datagrams: limits hold, and other links of the node keep their
//! latency. As in `hostile`, the attacker is a plain iroh endpoint that speaks its own bytes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::BytesMut;
use honeylink::carrier::ALPN_LINK;
use honeylink::link::ApplyError;
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::{Class, DeviceType, Node, Policy, Preset, Reach, testing};
use honeylink_core::identity::SecretKey;
use honeylink_core::limits::{DATAGRAM_FLOWS_MAX, POLICIES_MAX, STREAMS_PER_PEER_MAX};
use honeylink_core::qos::policy::PolicyFrame;
use honeylink_core::wire::link::{Frame, SessionId, StreamHeader, StreamKind};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use tokio::io::AsyncWriteExt as _;

const PROTOCOL: &str = "victim/1";
const PATIENCE: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

async fn node(name: &str) -> Node {
    Node::builder().name(name).reach(Reach::Loopback).discovery(false).build().await.unwrap()
}

/// An endpoint that can say anything, paired with the victim.
struct Attacker(Endpoint);

impl Attacker {
    async fn paired(seed: u64, victim: &Node) -> Self {
        let key = SecretKey::from_u64(seed);
        let endpoint = Endpoint::builder(presets::Empty)
            .crypto_provider(honeylink::crypto::provider().unwrap())
            .secret_key(iroh::SecretKey::from_bytes(&key.to_bytes()))
            .relay_mode(RelayMode::Disabled)
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")
            .unwrap()
            .bind()
            .await
            .unwrap();
        let peer = NewPeer {
            id: key.id(),
            name: None,
            announced_name: format!("attacker {seed}"),
            device_type: DeviceType::Desktop,
            method: PairingMethod::Code,
        };
        victim.store().trust().pair(&peer, OnNameTaken::Refuse, 0).unwrap();
        Self(endpoint)
    }

    async fn connect(&self, victim: &Node) -> Connection {
        let id = EndpointId::from_bytes(victim.id().as_bytes()).unwrap();
        let v4 = victim.bound_addrs().into_iter().find(std::net::SocketAddr::is_ipv4).unwrap();
        let target = EndpointAddr::new(id).with_ip_addr(v4);
        soon("attacker connects", self.0.connect(target, ALPN_LINK)).await.unwrap()
    }
}

fn header_of(kind: StreamKind) -> Vec<u8> {
    let mut out = BytesMut::new();
    StreamHeader {
        kind,
        session: SessionId([SESSION; 16]),
        priority: Class::Interactive.into(),
        protocol: PROTOCOL.into(),
    }
    .encode(&mut out);
    out.to_vec()
}

/// An attacker with a session on the victim, and the victim's end of it.
struct Session {
    _attacker: Attacker,
    conn: Connection,
    link: honeylink::Link,
    _held: (SendStream, RecvStream),
    _listener: honeylink::Listener,
}

const SESSION: u8 = 7;

impl Session {
    async fn new(seed: u64, victim: &Node) -> Self {
        let mut listener = victim.listen(PROTOCOL).unwrap();
        let attacker = Attacker::paired(seed, victim).await;
        let conn = attacker.connect(victim).await;
        let (mut send, recv) = conn.open_bi().await.unwrap();
        let mut opening = BytesMut::from(&header_of(StreamKind::Session)[..]);
        Frame::Hello { version_min: 1, version_max: 1, message_max: 1 << 20, next: 0 }.encode(&mut opening);
        send.write_all(&opening).await.unwrap();
        let link = soon("accept", listener.accept()).await.unwrap();
        Self { _attacker: attacker, conn, link, _held: (send, recv), _listener: listener }
    }

    /// Opens a stream of this kind, says this, and reads what comes until the victim ends the stream.
    async fn say(&self, kind: StreamKind, bytes: &[u8]) -> Vec<u8> {
        let (mut send, mut recv) = soon("a stream", self.conn.open_bi()).await.unwrap();
        let _ = send.write_all(&[&header_of(kind)[..], bytes].concat()).await;
        let _ = send.finish();
        soon("the victim ends the stream", recv.read_to_end(1 << 20)).await.unwrap_or_default()
    }
}

fn apply(name: &str, revision: u64) -> Vec<u8> {
    let policy = Policy { name: name.into(), ..Preset::File.policy() };
    let mut out = BytesMut::new();
    PolicyFrame::Apply { revision, policy }.encode(&mut out);
    out.to_vec()
}

/// The longest of some round trips of an honest link of the same node.
async fn worst_ping(victim: &Node, honest: &Node) -> Duration {
    let mut listener = victim.listen("honest/1").unwrap();
    let link = soon("honest connect", honest.connect(victim.id(), "honest/1")).await.unwrap();
    let other = soon("honest accept", listener.accept()).await.unwrap();
    let mut worst = Duration::ZERO;
    for _ in 0..50 {
        worst = worst.max(link.ping(Duration::from_secs(10)).await.unwrap());
    }
    drop(other);
    worst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_opens_streams_without_end_and_never_reads_holds_up_nobody() {
    let victim = node("victim").await;
    let session = Session::new(1, &victim).await;
    let link = session.link.clone();
    let writing = tokio::spawn(async move {
        while let Ok(mut stream) = link.accept_stream().await {
            // Each writer waits for ever in its own task: the attacker takes nothing.
            tokio::spawn(async move { while stream.send.write_all(&[7; 64 << 10]).await.is_ok() {} });
        }
    });
    let mut held = Vec::new();
    while let Ok(Ok((mut send, recv))) =
        tokio::time::timeout(Duration::from_millis(300), session.conn.open_bi()).await
    {
        send.write_all(&header_of(StreamKind::Bytes)).await.unwrap();
        held.push((send, recv));
        assert!(held.len() <= STREAMS_PER_PEER_MAX as usize, "the victim allows more streams than it says");
    }
    assert!(held.len() > 500, "only {} streams were opened", held.len());
    // What the victim holds for it is bounded by the connection's window, whatever the number of streams.
    let traffic = session.link.traffic().unwrap();
    assert!(traffic.streams.len() <= STREAMS_PER_PEER_MAX as usize + 1, "{}", traffic.streams.len());
    let honest = node("honest").await;
    testing::introduce(&honest, &victim).unwrap();
    let worst = worst_ping(&victim, &honest).await;
    assert!(worst < Duration::from_secs(1), "an honest link's ping took {worst:?}");
    writing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lies_about_policies_reaches_its_limit_and_changes_nothing_of_ours() {
    let victim = node("victim").await;
    let session = Session::new(2, &victim).await;
    // More policies than are kept.
    for nth in 0..=POLICIES_MAX as u64 {
        let answer = session.say(StreamKind::Policy, &apply(&format!("p{nth}"), nth)).await;
        let (_, body) = answer.split_at(PolicyFrame::LENGTH_BYTES);
        let refused = matches!(PolicyFrame::decode(body), Ok(PolicyFrame::Refuse { .. }));
        assert_eq!(refused, nth >= POLICIES_MAX as u64, "policy {nth}: {answer:?}");
    }
    assert!(session.link.peers_policy("p0").is_some());
    let traffic = session.link.traffic().unwrap();
    assert_eq!(traffic.reserved_bytes_per_s, 0, "what a peer says it steers by reserves nothing here");
    assert!(session.link.peers_policy(&format!("p{POLICIES_MAX}")).is_none());
    // Answers to nothing, a length beyond the limit, noise, a policy that contradicts itself.
    let mut ack = BytesMut::new();
    PolicyFrame::Ack { revision: 1 }.encode(&mut ack);
    for bytes in [&ack[..], &[0xff, 0xff], &[0, 3, 9, 9, 9], &[0, 1]] {
        assert_eq!(session.say(StreamKind::Policy, bytes).await, b"", "{bytes:?}");
    }
    let refused = session.say(StreamKind::Policy, &apply("two words", 1)).await;
    assert!(String::from_utf8_lossy(&refused).contains("no name for a policy"), "{refused:?}");
    assert_eq!(session.link.policy("p0"), None, "the peer's policies are not ours");
}

/// The middle of some round trips of a link.
async fn middle_ping(link: &honeylink::Link) -> Duration {
    let mut times = Vec::new();
    for _ in 0..100 {
        times.push(link.ping(PATIENCE).await.unwrap());
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_peer_opens_streams_lies_and_never_reads_another_link_keeps_its_latency() {
    let victim = node("victim").await;
    let honest = node("honest").await;
    testing::introduce(&honest, &victim).unwrap();
    let mut listener = victim.listen("honest/1").unwrap();
    let link = soon("honest connect", honest.connect(victim.id(), "honest/1")).await.unwrap();
    let _other = soon("honest accept", listener.accept()).await.unwrap();
    let before = middle_ping(&link).await;

    let session = std::sync::Arc::new(Session::new(5, &victim).await);
    let taken = session.link.clone();
    let mut busy = tokio::task::JoinSet::new();
    busy.spawn(async move {
        let mut writers = tokio::task::JoinSet::new();
        while let Ok(mut stream) = taken.accept_stream().await {
            writers.spawn(async move { while stream.send.write_all(&[7; 64 << 10]).await.is_ok() {} });
            // Those whose stream the attacker ended.
            while writers.try_join_next().is_some() {}
        }
    });
    // Streams without end, of which nothing is read; half of them end at once, so that there is always room for more.
    let flooding = session.clone();
    busy.spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut send, recv)) = flooding.conn.open_bi().await {
            let _ = send.write_all(&header_of(StreamKind::Bytes)).await;
            if held.len() < 100 {
                held.push((send, recv));
            }
        }
    });
    // Policies that promise and demand everything, one after the other, and noise in between.
    let lying = session.clone();
    busy.spawn(async move {
        for revision in 0.. {
            let mut policy = Preset::Media8k.policy();
            policy.options.rate_min = Some(u64::MAX >> 2);
            let mut said = BytesMut::new();
            PolicyFrame::Apply { revision, policy }.encode(&mut said);
            lying.say(StreamKind::Policy, &[&said[..], &[0, 9, 9]].concat()).await;
        }
    });
    let during = middle_ping(&link).await;
    // A machine that is busy with all of this is slower; a link that waits for the attacker would be slower by far.
    let most = before * 20 + Duration::from_millis(100);
    assert!(during <= most, "a ping took {before:?} before and {during:?} meanwhile");
    let traffic = session.link.traffic().unwrap();
    assert!(traffic.streams.len() <= STREAMS_PER_PEER_MAX as usize + 1, "{}", traffic.streams.len());
    assert_eq!(traffic.reserved_bytes_per_s, 0);
    busy.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_the_peer_never_acknowledges_is_taken_back_after_five_seconds() {
    let victim = node("victim").await;
    let session = Session::new(3, &victim).await;
    let started = tokio::time::Instant::now();
    let applying = tokio::spawn({
        let link = session.link.clone();
        async move { link.apply_policy(Preset::Iot.policy()).await }
    });
    let _silent = soon("the change", session.conn.accept_bi()).await.unwrap();
    // In force while nothing speaks against it.
    assert!(session.link.policy("iot").is_some());
    let taken_back = soon("taken back", applying).await.unwrap();
    assert!(matches!(taken_back, Err(ApplyError::RolledBack { .. })), "{taken_back:?}");
    let took = started.elapsed();
    assert!((4..8).contains(&took.as_secs()), "it took {took:?}");
    assert_eq!(session.link.policy("iot"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows_beyond_the_limit_and_datagrams_of_nobody_are_dropped() {
    let victim = node("victim").await;
    let session = Session::new(4, &victim).await;
    let mut held = Vec::new();
    for nth in 0..=u8::try_from(DATAGRAM_FLOWS_MAX).unwrap() {
        let (mut send, mut recv) = session.conn.open_bi().await.unwrap();
        let opening = [&header_of(StreamKind::Datagrams)[..], &[100 + nth; 16], &[1]].concat();
        send.write_all(&opening).await.unwrap();
        let mut answer = [0];
        let listening = soon("an answer", recv.read_exact(&mut answer)).await.is_ok();
        assert_eq!(listening, usize::from(nth) < DATAGRAM_FLOWS_MAX, "flow {nth}");
        held.push((send, recv));
    }
    let mut flow = soon("a flow", session.link.accept_datagrams()).await.unwrap();
    // Noise for the flow, for nobody, and too short to be for anybody; then one that is right.
    for datagram in [[&[100; 16][..], &[0xff; 40]].concat(), vec![0xee; 60], vec![1, 2, 3]] {
        session.conn.send_datagram(datagram.into()).unwrap();
    }
    let right = [&[100; 16][..], &[0, 0, 0, 1, 0, 0, 0], b"hello"].concat();
    session.conn.send_datagram(right.into()).unwrap();
    assert_eq!(soon("a datagram", flow.recv()).await.unwrap(), "hello");
    assert_eq!(flow.stats().dropped, 1);
}
