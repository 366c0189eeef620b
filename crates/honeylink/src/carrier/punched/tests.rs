//! Real QUIC through real sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use honeylink_core::identity::SecretKey;
use iroh::{Endpoint, EndpointAddr, TransportAddr};
use tokio::net::UdpSocket;

use super::preference::Preference;
use super::{Full, Hole, HoleAddr, Holes};
use crate::carrier::quic::offline;

const ALPN: &[u8] = b"test";
const MEGABYTES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

struct End {
    endpoint: Endpoint,
    holes: Holes,
    key: SecretKey,
}

impl End {
    /// An endpoint with a hole transport, and an ordinary socket at `at`.
    async fn at(at: &str, seed: u64) -> Self {
        let (key, holes) = (SecretKey::from_u64(seed), Holes::default());
        let endpoint = offline(&key, vec![ALPN.to_vec()])
            .unwrap()
            .add_custom_transport(Arc::new(holes.clone()))
            .path_selector(Arc::new(Preference))
            .bind_addr(at.parse::<SocketAddr>().unwrap())
            .unwrap()
            .bind()
            .await
            .unwrap();
        Self { endpoint, holes, key }
    }

    /// A hole from this end to another's.
    fn hole(&self, socket: &Arc<UdpSocket>, to: &Self, remote: &UdpSocket) -> Result<(), Full> {
        let hole = Hole::new(socket.clone(), remote.local_addr().unwrap(), None).unwrap();
        self.holes.insert(HoleAddr::punched(to.key.id()), hole)
    }

    fn id(&self) -> iroh::EndpointId {
        self.endpoint.id()
    }
}

async fn socket() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap())
}

/// Two ends whose ordinary sockets cannot reach each other, and a hole between them.
async fn only_a_hole() -> (End, End, TransportAddr) {
    let (a, b) = (End::at("127.0.0.1:0", 1).await, End::at("[::1]:0", 2).await);
    let (here, there) = (socket().await, socket().await);
    a.hole(&here, &b, &there).unwrap();
    b.hole(&there, &a, &here).unwrap();
    let to = TransportAddr::Custom(HoleAddr::punched(b.key.id()).to_custom());
    (a, b, to)
}

/// Moves a hundred megabytes from `a` to `b`; how long that took.
async fn carry(a: &End, b: &End, to: TransportAddr) -> Duration {
    let taking = b.endpoint.clone();
    let taken = tokio::spawn(async move {
        let conn = taking.accept().await.unwrap().await.unwrap();
        let mut stream = conn.accept_bi().await.unwrap().1;
        let (mut count, mut buffer) = (0, vec![0; 256 << 10]);
        loop {
            let read = stream.read(&mut buffer).await.unwrap().unwrap_or(0);
            if read == 0 {
                break;
            }
            count += read;
        }
        conn.close(0_u32.into(), b"all there");
        count
    });
    let conn = a.endpoint.connect(EndpointAddr::from_parts(b.id(), [to]), ALPN).await.unwrap();
    let began = Instant::now();
    let (mut stream, _) = conn.open_bi().await.unwrap();
    let chunk = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..MEGABYTES {
        stream.write_chunk(chunk.clone()).await.unwrap();
    }
    stream.finish().unwrap();
    let count = tokio::time::timeout(PATIENCE, taken).await.unwrap().unwrap();
    assert_eq!(count, MEGABYTES << 20);
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_carries_a_hundred_megabytes_where_there_is_no_other_way() {
    let (a, b, to) = only_a_hole().await;
    carry(&a, &b, to).await;
    assert_eq!(a.holes.counts(), super::HoleCounts::default());
}

/// `cargo test -p honeylink --lib punched -- --ignored --nocapture`: the figure in `docs/manual/nat.md`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_hole_is_as_fast_as_an_ordinary_socket() {
    let (mut through_hole, mut by_socket) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        let (a, b, to) = only_a_hole().await;
        through_hole = through_hole.min(carry(&a, &b, to).await);
        let (a, b) = (End::at("127.0.0.1:0", 1).await, End::at("127.0.0.1:0", 2).await);
        let to = TransportAddr::Ip(b.endpoint.bound_sockets()[0]);
        by_socket = by_socket.min(carry(&a, &b, to).await);
    }
    let rate = |took: Duration| MEGABYTES as f64 * 1.048_576 / took.as_secs_f64();
    println!("hole {:.0} MB/s, ordinary socket {:.0} MB/s", rate(through_hole), rate(by_socket));
    assert!(rate(through_hole) > 0.6 * rate(by_socket));
}

#[tokio::test]
async fn only_the_far_endpoint_is_heard_through_a_hole() {
    let (a, b, to) = only_a_hole().await;
    let addr = HoleAddr::punched(a.key.id());
    // Where b's hole is, anybody can send to; nobody else than a gets in.
    let target = a.holes.remote(&HoleAddr::punched(b.key.id())).unwrap();
    let stranger = socket().await;
    for _ in 0..50 {
        stranger.send_to(&[0x40; 1200], target).await.unwrap();
    }
    carry(&a, &b, to).await;
    assert_eq!(b.holes.counts().foreign, 50);
    b.holes.remove(&addr);
    assert_eq!(b.holes.remote(&addr), None);
}

#[tokio::test]
async fn holes_without_end_are_refused() {
    let end = End::at("127.0.0.1:0", 1).await;
    let (here, there) = (socket().await, socket().await);
    let max = honeylink_core::limits::NAT_HOLES_MAX as u64;
    for n in 0..=max {
        let peer = SecretKey::from_u64(100 + n).id();
        let hole = Hole::new(here.clone(), there.local_addr().unwrap(), None).unwrap();
        let inserted = end.holes.insert(HoleAddr::punched(peer), hole);
        assert_eq!(inserted.is_ok(), n < max, "hole {n}");
    }
}

#[test]
fn a_hole_has_one_address_and_other_addresses_are_no_holes() {
    let addr = HoleAddr::punched(SecretKey::from_u64(5).id());
    assert_eq!(HoleAddr::from_custom(&addr.to_custom()), Some(addr));
    for (id, data) in [(super::TRANSPORT_ID, &b"\0short"[..]), (7, addr.to_custom().data())] {
        assert_eq!(HoleAddr::from_custom(&iroh_base::CustomAddr::from_parts(id, data)), None);
    }
}
