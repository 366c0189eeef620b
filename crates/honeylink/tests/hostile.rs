//! Hostile peers: whatever a stranger or a paired device sends on the link and pairing protocols ends in a clear error
//! or a counted drop. Honest peers go on meanwhile, and memory stays where it was.
//!
//! The attackers are plain iroh endpoints that speak no HoneyLink but their own bytes. Floods of discovery records are in
//! `tests/discovery`; wrong codes from several sources in `pairing` and in the unit tests of the ceremony.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use honeylink::carrier::{ALPN_LINK, ALPN_MESH, ALPN_PAIR};
use honeylink::mesh::{Dropped, MeshOptions};
use honeylink::node::{PairingEvent, PairingOptions};
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::{Class, DeviceType, Node, Reach, testing};
use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::rng::Rng;
use honeylink_core::wire::link::{CloseCode, Frame, FrameDecoder, SessionId, StreamHeader, StreamKind};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};

const PROTOCOL: &str = "victim/1";
const PATIENCE: Duration = Duration::from_secs(30);
/// What a flood may add to the process, attackers and test harness included.
const GROWTH_MAX_BYTES: u64 = 48 << 20;

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

async fn victim() -> Node {
    Node::builder().name("victim").reach(Reach::Loopback).discovery(false).build().await.unwrap()
}

async fn mesh_victim() -> Node {
    let builder = Node::builder().name("victim").reach(Reach::Loopback).discovery(false);
    builder.mesh(MeshOptions::default()).build().await.unwrap()
}

/// An endpoint that can say anything.
struct Attacker {
    endpoint: Endpoint,
    id: DeviceId,
}

impl Attacker {
    async fn new(seed: u64) -> Self {
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
        Self { endpoint, id: key.id() }
    }

    /// One that the victim has paired with.
    async fn paired(seed: u64, victim: &Node) -> Self {
        let attacker = Self::new(seed).await;
        let peer = NewPeer {
            id: attacker.id,
            name: None,
            announced_name: format!("attacker {seed}"),
            device_type: DeviceType::Desktop,
            method: PairingMethod::Code,
        };
        victim.store().trust().pair(&peer, OnNameTaken::Refuse, 0).unwrap();
        attacker
    }

    async fn connect(&self, victim: &Node, alpn: &[u8]) -> Connection {
        let id = EndpointId::from_bytes(victim.id().as_bytes()).unwrap();
        let v4 = victim.bound_addrs().into_iter().find(std::net::SocketAddr::is_ipv4).unwrap();
        let target = EndpointAddr::new(id).with_ip_addr(v4);
        soon("attacker connects", self.endpoint.connect(target, alpn)).await.unwrap()
    }
}

fn header(session: u8) -> Vec<u8> {
    header_of(StreamKind::Session, session)
}

fn header_of(kind: StreamKind, session: u8) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    StreamHeader {
        kind,
        session: SessionId([session; 16]),
        priority: Class::Interactive.into(),
        protocol: PROTOCOL.into(),
    }
    .encode(&mut out);
    out.to_vec()
}

fn frames(frames: &[Frame]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut out));
    out.to_vec()
}

fn hello() -> Frame {
    Frame::Hello { version_min: 1, version_max: 1, message_max: 1 << 20, next: 0 }
}

/// Opens a stream and says this; the answer is whatever comes until the victim ends the stream.
async fn say(conn: &Connection, bytes: &[u8]) -> Vec<u8> {
    let (mut send, mut recv): (SendStream, RecvStream) = conn.open_bi().await.unwrap();
    // The victim may stop the stream while the attacker still writes.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    soon("the victim ends the stream", recv.read_to_end(1 << 20)).await.unwrap_or_default()
}

/// Proves that the victim still serves an honest peer.
async fn still_serves(victim: &Node) {
    let honest =
        Node::builder().name("honest").reach(Reach::Loopback).discovery(false).build().await.unwrap();
    testing::introduce(&honest, victim).unwrap();
    let protocol = format!("honest/{}", honest.id().short());
    let mut listener = victim.listen(&protocol).unwrap();
    let link = soon("honest connect", honest.connect(victim.id(), &protocol)).await.unwrap();
    link.send("are you well?").await.unwrap();
    let other = soon("honest accept", listener.accept()).await.unwrap();
    assert_eq!(soon("honest recv", other.recv()).await.unwrap(), "are you well?");
    honest.shutdown().await;
}

/// Resident bytes of this process; none where the system does not say.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn assert_flat(before: Option<u64>, what: &str) {
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let grown = after.saturating_sub(before);
        assert!(grown < GROWTH_MAX_BYTES, "{what}: memory grew by {grown} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lies_on_a_session_stream_are_answered_with_a_close_that_names_them() {
    let victim = victim().await;
    let _listener = victim.listen(PROTOCOL).unwrap();
    let attacker = Attacker::paired(1, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let message = |seq| Frame::Message { seq, payload: bytes::Bytes::from_static(b"x") };
    let lies: Vec<(&str, Vec<Frame>)> = vec![
        ("a message before hello", vec![message(0)]),
        ("hello twice", vec![hello(), hello()]),
        ("a gap", vec![hello(), message(5)]),
        ("an ack for nothing", vec![hello(), Frame::Ack { next: 7 }]),
        (
            "a close that skips",
            vec![hello(), Frame::Close { code: CloseCode::Normal, next: 9, reason: String::new() }],
        ),
        (
            "a welcome from the wrong side",
            vec![hello(), Frame::Welcome { version: 1, message_max: 1, next: 0 }],
        ),
        (
            "a resume of nothing",
            vec![Frame::Hello { version_min: 1, version_max: 1, message_max: 1, next: 77 }],
        ),
        ("no common version", vec![Frame::Hello { version_min: 7, version_max: 9, message_max: 1, next: 0 }]),
    ];
    for (number, (what, lie)) in lies.iter().enumerate() {
        let mut bytes = header(u8::try_from(number).unwrap());
        bytes.extend(frames(lie));
        let answer = say(&conn, &bytes).await;
        assert!(!answer.is_empty(), "{what}: the victim said nothing");
    }
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_this_device_forgot_is_not_begun_again_with_its_old_messages() {
    let victim = victim().await;
    let mut listener = victim.listen(PROTOCOL).unwrap();
    let attacker = Attacker::paired(8, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let mut bytes = header_of(StreamKind::Resume, 1);
    bytes.extend(frames(&[hello(), Frame::Message { seq: 0, payload: bytes::Bytes::from_static(b"again") }]));
    let mut decoder = FrameDecoder::new(1);
    decoder.feed(&say(&conn, &bytes).await);
    let answer = decoder.next_frame().unwrap();
    assert!(matches!(answer, Some(Frame::Refuse { code: CloseCode::UnknownSession, .. })), "{answer:?}");
    let accepted = tokio::select! {
        biased;
        link = listener.accept() => Some(link),
        () = std::future::ready(()) => None,
    };
    assert!(accepted.is_none(), "the application was given a link");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_truncated_and_oversized_bytes_end_the_stream_and_nothing_else() {
    let victim = victim().await;
    let _listener = victim.listen(PROTOCOL).unwrap();
    let attacker = Attacker::paired(2, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let mut rng = Rng::from_u64(2);
    let before = resident_bytes();
    for round in 0..400_u64 {
        let mut bytes = match round % 4 {
            // Noise from the first byte.
            0 => vec![],
            // A header that is cut off.
            1 => header(9)[..usize::try_from(1 + rng.below(20)).unwrap()].to_vec(),
            // A good beginning, then noise.
            2 => [header(u8::try_from(round % 256).unwrap()), frames(&[hello()])].concat(),
            // A header that claims 64 KiB.
            _ => vec![0xff, 0xff],
        };
        let mut noise = vec![0; usize::try_from(rng.below(600)).unwrap()];
        rng.fill(&mut noise);
        bytes.extend(noise);
        say(&conn, &bytes).await;
    }
    assert_flat(before, "noise");
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claimed_size_is_refused_before_it_is_collected() {
    let victim = victim().await;
    let _listener = victim.listen(PROTOCOL).unwrap();
    let attacker = Attacker::paired(3, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let before = resident_bytes();
    for session in 0..32 {
        let mut bytes = [header(session), frames(&[hello()])].concat();
        // Type, sequence 0, length 2^30 - 1: nothing of it ever comes.
        bytes.extend([0x10, 0x00, 0xbf, 0xff, 0xff, 0xff]);
        let answer = say(&conn, &bytes).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("the limit is 1048576"), "{text}");
    }
    assert_flat(before, "claimed sizes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_from_a_peer_that_never_reads_are_bounded() {
    let victim = victim().await;
    let _listener = victim.listen(PROTOCOL).unwrap();
    let attacker = Attacker::paired(4, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let before = resident_bytes();
    let (mut send, _unread) = conn.open_bi().await.unwrap();
    send.write_all(&[header(1), frames(&[hello()])].concat()).await.unwrap();
    let pings = frames(&vec![Frame::Ping { nonce: (1 << 62) - 1 }; 8192]);
    // 64 MiB of pings, or as many as the victim takes before it stops reading.
    for _ in 0..900 {
        let written = tokio::time::timeout(Duration::from_secs(2), send.write_all(&pings)).await;
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    assert_flat(before, "pings");
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_without_headers_wait_outside_and_do_not_hold_up_others() {
    let victim = victim().await;
    let _listener = victim.listen(PROTOCOL).unwrap();
    let attacker = Attacker::paired(5, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let before = resident_bytes();
    let mut held = vec![];
    for _ in 0..1000 {
        // The limit of streams per peer makes later ones wait for ever: that is the point.
        match tokio::time::timeout(Duration::from_millis(200), conn.open_bi()).await {
            Ok(Ok((mut send, recv))) => {
                send.write_all(&[0]).await.unwrap();
                held.push((send, recv));
            }
            Ok(Err(_)) | Err(_) => break,
        }
    }
    assert!(held.len() > 64, "only {} streams were opened", held.len());
    assert_flat(before, "held streams");
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_beyond_the_limit_are_refused_with_the_reason() {
    let victim = victim().await;
    let _listener = victim.listen(PROTOCOL).unwrap();
    let attacker = Attacker::paired(6, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let mut held = vec![];
    for session in 0..honeylink_core::limits::LINKS_PER_PEER_MAX {
        let (mut send, mut recv) = conn.open_bi().await.unwrap();
        let opening = [header(u8::try_from(session).unwrap()), frames(&[hello()])].concat();
        send.write_all(&opening).await.unwrap();
        let mut first = [0];
        soon("welcome", recv.read_exact(&mut first)).await.unwrap();
        held.push((send, recv));
    }
    let answer = say(&conn, &[header(250), frames(&[hello()])].concat()).await;
    assert!(String::from_utf8_lossy(&answer).contains("too many links"), "{answer:?}");
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_paired_device_cannot_take_over_a_session() {
    let victim = victim().await;
    let mut listener = victim.listen(PROTOCOL).unwrap();
    let owner = Attacker::paired(7, &victim).await;
    let thief = Attacker::paired(8, &victim).await;
    let owned = owner.connect(&victim, ALPN_LINK).await;
    let (mut send, _recv) = owned.open_bi().await.unwrap();
    send.write_all(&[header(7), frames(&[hello()])].concat()).await.unwrap();
    let link = soon("accept", listener.accept()).await.unwrap();
    assert_eq!(link.peer(), owner.id);
    // The same session id under another key is another session.
    let stolen = thief.connect(&victim, ALPN_LINK).await;
    let (mut thief_send, _thief_recv) = stolen.open_bi().await.unwrap();
    thief_send.write_all(&[header(7), frames(&[hello()])].concat()).await.unwrap();
    let other = soon("accept", listener.accept()).await.unwrap();
    assert_eq!(other.peer(), thief.id);
    let word = Frame::Message { seq: 0, payload: bytes::Bytes::from_static(b"mine") };
    send.write_all(&frames(&[word])).await.unwrap();
    assert_eq!(soon("recv", link.recv()).await.unwrap(), "mine");
    assert_eq!(other.try_recv().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_a_code_that_says_what_is_missing() {
    let victim = victim().await;
    let _listener = victim.listen(PROTOCOL).unwrap();
    let before = resident_bytes();
    for seed in 100..140 {
        let stranger = Attacker::new(seed).await;
        for (alpn, code) in [(ALPN_LINK, 2_u32), (ALPN_PAIR, 4)] {
            let conn = stranger.connect(&victim, alpn).await;
            let end = soon("the victim closes", conn.closed()).await;
            let iroh::endpoint::ConnectionError::ApplicationClosed(close) = end else {
                panic!("{end}");
            };
            assert_eq!(close.error_code, code.into());
        }
        stranger.endpoint.close().await;
    }
    assert_flat(before, "strangers");
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_the_pairing_protocol_fails_the_attempt_and_leaves_the_code_open() {
    let victim = victim().await;
    let mut opening = victim.open_pairing(PairingOptions::default()).unwrap();
    let watching = tokio::spawn(async move {
        let mut failed = 0_u32;
        while let Some(event) = opening.next().await {
            failed += u32::from(matches!(event, PairingEvent::Failed(_)));
            if failed == 40 {
                break;
            }
        }
        (opening.is_open(), failed)
    });
    let mut rng = Rng::from_u64(9);
    let before = resident_bytes();
    let stranger = Attacker::new(9).await;
    for _ in 0..40 {
        let conn = stranger.connect(&victim, ALPN_PAIR).await;
        let mut noise = vec![0; usize::try_from(1 + rng.below(2000)).unwrap()];
        rng.fill(&mut noise);
        say(&conn, &noise).await;
        conn.close(0_u32.into(), b"done");
    }
    assert_eq!(soon("every attempt is told", watching).await.unwrap(), (true, 40));
    assert!(!victim.store().trust().is_trusted(&stranger.id));
    assert_flat(before, "pairing noise");
}

/// A hello of the least mesh device.
const MESH_HELLO: [u8; 14] = [0, 12, 0xf0, 0xa4, 0, 1, 1, 0x82, 1, 1, 2, 0, 6, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_the_mesh_protocol_is_dropped_and_counted() {
    let victim = mesh_victim().await;
    let mesh = victim.mesh().unwrap();
    let attacker = Attacker::paired(20, &victim).await;
    let mut rng = Rng::from_u64(20);
    let before = resident_bytes();
    let conn = attacker.connect(&victim, ALPN_MESH).await;
    let (mut send, _recv) = conn.open_bi().await.unwrap();
    send.write_all(&MESH_HELLO).await.unwrap();
    let mut sent = 0_u64;
    for _ in 0..3000 {
        let mut frame = vec![0; usize::try_from(1 + rng.below(1200)).unwrap()];
        rng.fill(&mut frame);
        // Half of them begin like a frame that exists.
        frame[0] = if rng.below(2) == 0 { frame[0] } else { [0x40, 0x60, 0x90, 0x10][sent as usize % 4] };
        let len = u16::try_from(frame.len()).unwrap().to_be_bytes();
        send.write_all(&[&len[..], &frame].concat()).await.unwrap();
        sent += 1;
    }
    let counted = async {
        loop {
            let stats = mesh.snapshot().await.unwrap().mesh.stats;
            let judged = stats.heard.iter().sum::<u64>() + stats.dropped(Dropped::Malformed);
            if judged >= sent {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    let stats = soon("every frame is judged", counted).await;
    assert!(stats.dropped(Dropped::Malformed) > 500 && stats.delivered == 0, "{stats:?}");
    assert_flat(before, "mesh noise");
    assert!(conn.close_reason().is_none(), "noise between the lengths costs nobody the connection");
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_breaks_the_mesh_protocol_loses_the_connection() {
    let victim = mesh_victim().await;
    let attacker = Attacker::paired(21, &victim).await;
    let before = resident_bytes();
    for (what, bytes) in [
        ("an empty frame", [&MESH_HELLO[..], &[0, 0]].concat()),
        ("a frame that is too large", [&MESH_HELLO[..], &[0x40, 0x01]].concat()),
        ("no hello", vec![0, 1, 0xf0]),
        ("another frame first", vec![0, 9, 0xc0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("another version", vec![0, 12, 0xf0, 0xa4, 0, 1, 1, 0x82, 7, 9, 2, 0, 6, 0]),
    ] {
        let conn = attacker.connect(&victim, ALPN_MESH).await;
        let (mut send, _recv) = conn.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        let end = soon(what, conn.closed()).await;
        let iroh::endpoint::ConnectionError::ApplicationClosed(close) = end else {
            panic!("{what}: {end}");
        };
        assert_eq!(close.error_code, 6_u32.into(), "{what}");
    }
    assert_flat(before, "broken mesh connections");
    still_serves(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_mesh_port() {
    let victim = mesh_victim().await;
    let stranger = Attacker::new(22).await;
    let conn = stranger.connect(&victim, ALPN_MESH).await;
    let end = soon("the victim closes", conn.closed()).await;
    let iroh::endpoint::ConnectionError::ApplicationClosed(close) = end else { panic!("{end}") };
    assert_eq!(close.error_code, 2_u32.into());
    assert!(victim.mesh().unwrap().snapshot().await.unwrap().ports.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_for_nobody_are_dropped() {
    let victim = victim().await;
    let attacker = Attacker::paired(10, &victim).await;
    let conn = attacker.connect(&victim, ALPN_LINK).await;
    let before = resident_bytes();
    for len in 0..1000_usize {
        // A full queue drops the attacker's own datagram, which is as good.
        let _ = conn.send_datagram(bytes::Bytes::from(vec![7; len]));
    }
    assert_flat(before, "datagrams");
    still_serves(&victim).await;
}
