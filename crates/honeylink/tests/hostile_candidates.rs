//! A paired device that names addresses of somebody else without end, to have its victim send there: QUIC's hole punching
//! tries each of them by itself. It is disconnected, what the third host got is little, and nobody else notices.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacker;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attacker::{Answer, Attacker, Listening, PATIENCE, PROTOCOL, node, soon};
use honeylink::Node;
use honeylink::carrier::code;
use honeylink::testing;
use honeylink_core::limits::{CANDIDATES_BURST_MAX, CANDIDATES_PER_S_MAX};
use iroh::Endpoint;
use iroh::endpoint::{ConnectionError, VarInt};
use tokio::net::UdpSocket;

/// Times that one address is tried in a round (noq 1.4, `MAX_NAT_PROBE_ATTEMPTS`).
const TRIES: u64 = 9;
/// More of an attacker's addresses do not count in a round (iroh 1.4, `MAX_QNT_ADDRESSES`).
const ROUND_MAX: u64 = 32;
/// Rounds that may pass until the next look at what was named, on a machine that is busy with much else.
const UNSEEN_MAX: u64 = 16;

/// A host that has nothing to do with it, at every address of the loopback network, and the packets it got.
struct Third {
    port: u16,
    got: Arc<AtomicU64>,
    _task: tokio::task::JoinHandle<()>,
}

impl Third {
    async fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let got = Arc::new(AtomicU64::new(0));
        let counter = got.clone();
        let task = tokio::spawn(async move {
            let mut packet = [0; 2048];
            while socket.recv_from(&mut packet).await.is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { port, got, _task: task }
    }

    /// One of its addresses, another one each time.
    fn addr(&self, nth: u32) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + nth), self.port))
    }

    fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }
}

/// Names one address of the third host after the other, the last few of them at a time, for as long as it is let.
async fn name_without_end(endpoint: &Endpoint, third: &Third) {
    const AT_A_TIME: u32 = 6;
    for nth in 0.. {
        endpoint.add_external_addr(third.addr(nth)).await;
        if let Some(old) = nth.checked_sub(AT_A_TIME) {
            endpoint.remove_external_addr(&third.addr(old)).await;
        }
    }
}

/// What comes of a flood at most: what the allowance lets pass, and what was named until the next look.
fn packets_max(took: Duration) -> u64 {
    let allowed = u64::from(CANDIDATES_BURST_MAX) + u64::from(CANDIDATES_PER_S_MAX) * took.as_secs();
    (allowed + ROUND_MAX * UNSEEN_MAX) * TRIES
}

/// Waits until nothing more comes to the third host for longer than the pause between two tries (2 s at most).
async fn quiet(third: &Third) -> u64 {
    loop {
        let before = third.got();
        // tidy: sleep because what is shown is that nothing comes
        tokio::time::sleep(Duration::from_secs(3)).await;
        if third.got() == before {
            return before;
        }
    }
}

async fn honest_pair(victim: &Node) -> (Node, honeylink::Link, honeylink::Link) {
    let honest = node("honest").await;
    testing::introduce(&honest, victim).unwrap();
    let mut listener = victim.listen("honest/1").unwrap();
    let link = soon("honest connect", honest.connect(victim.id(), "honest/1")).await.unwrap();
    let other = soon("honest accept", listener.accept()).await.unwrap();
    (honest, link, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_dials_and_names_addresses_without_end_is_disconnected() {
    let victim = node("victim").await;
    let (_honest, link, _other) = honest_pair(&victim).await;
    let third = Third::new().await;
    let attacker = Attacker::paired(70, &victim).await;
    for nth in 1..=3 {
        let (began, before) = (Instant::now(), third.got());
        let conn = attacker.connect(&victim).await;
        let end = tokio::select! {
            end = soon("the victim closes the connection", conn.closed()) => end,
            () = name_without_end(&attacker.0, &third) => unreachable!("it never ends"),
        };
        let ConnectionError::ApplicationClosed(close) = end else { panic!("it ended otherwise: {end}") };
        assert_eq!(close.error_code, VarInt::from_u32(code::VIOLATION));
        assert_eq!(&close.reason[..], b"too many addresses to try");
        assert_eq!(victim.stats().candidates_refused, nth);
        let got = quiet(&third).await - before;
        assert!(got <= packets_max(began.elapsed()), "attempt {nth}: {got} packets to the third host");
    }
    // Nobody else notices, and the honest one, which names its addresses too, stays connected.
    link.ping(PATIENCE).await.unwrap();
    assert_eq!(link.stats().resumes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_one_that_was_dialled() {
    let victim = node("victim").await;
    let (_honest, link, _other) = honest_pair(&victim).await;
    let third = Third::new().await;
    let listening = Listening::paired(71, &victim, Answer::Silence).await;
    let began = Instant::now();
    let _link = soon("connect", victim.connect(listening.id, PROTOCOL)).await.unwrap();
    let refused = async {
        while victim.stats().candidates_refused == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = soon("the victim closes the connection", refused) => {}
        () = name_without_end(&listening.endpoint, &third) => unreachable!("it never ends"),
    }
    let got = quiet(&third).await;
    assert!(got <= packets_max(began.elapsed()), "{got} packets to the third host");
    link.ping(PATIENCE).await.unwrap();
    assert_eq!(link.stats().resumes, 0);
}
