//! Who gets a place for a handshake when many want one and never finish it.

use std::net::SocketAddr;

use super::*;
use crate::carrier::ALPN_LINK;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(60);

async fn carrier(seed: u64) -> QuicCarrier {
    let key = SecretKey::from_u64(seed);
    let alpns = vec![ALPN_LINK.to_vec()];
    let sockets = Sockets {
        reach: Reach::Loopback,
        port: 0,
        alpns,
        relays: &[],
        relay_only: false,
        power: Power::Mains,
    };
    QuicCarrier::bind(&key, sockets).await.unwrap()
}

fn v4(carrier: &QuicCarrier) -> SocketAddr {
    carrier.bound().into_iter().find(SocketAddr::is_ipv4).unwrap()
}

/// An address from which packets go on to `victim`, and to which answers come in vain. What it is sent comes from as many
/// connections as there are first packets.
async fn mute(source: &str, victim: SocketAddr, work: &mut JoinSet<()>) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let far = UdpSocket::bind((source, 0)).await.unwrap();
    let addr = near.local_addr().unwrap();
    work.spawn(async move {
        let mut packet = [0; 2048];
        while let Ok((len, _)) = near.recv_from(&mut packet).await {
            // A full buffer loses it, as any network may.
            let _ = far.send_to(&packet[..len], victim).await;
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_never_finish_a_handshake_keep_nobody_out() {
    let (victim, honest) = (carrier(1).await, carrier(2).await);
    let (id, at) = (SecretKey::from_u64(1).id(), v4(&victim));
    let mut work = JoinSet::new();
    for (seed, source) in [(3, "127.0.0.3"), (4, "127.0.0.4"), (5, "127.0.0.5")] {
        let (stranger, through) = (carrier(seed).await, mute(source, at, &mut work).await);
        for _ in 0..40 {
            let stranger = stranger.clone();
            work.spawn(async move {
                // As often as it is given up, until the test is over.
                while stranger.connect(id, &[through], &[], ALPN_LINK).await.is_err() {}
            });
        }
    }
    // Held as the node holds them while it waits for the strangers' next packets.
    let mut held = Vec::new();
    while held.len() < HANDSHAKES_MAX / 4 {
        held.push(tokio::time::timeout(PATIENCE, victim.accept()).await.unwrap().unwrap());
    }
    // From here on who wants a place shows an address that answers; the strangers cannot, and have no more to offer.
    let dialling = tokio::spawn(async move { honest.connect(id, &[at], &[], ALPN_LINK).await.map(|_| ()) });
    let next = tokio::time::timeout(PATIENCE, victim.accept()).await.unwrap().unwrap();
    let (conn, _) = tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();
    assert_eq!(conn.peer(), SecretKey::from_u64(2).id());
    assert_eq!(dialling.await.unwrap(), Ok(()));
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_source_gets_its_share_of_the_places_and_gets_them_back() {
    let victim = carrier(1).await;
    let (id, at) = (SecretKey::from_u64(1).id(), v4(&victim));
    let mut work = JoinSet::new();
    let through = mute("127.0.0.3", at, &mut work).await;
    let stranger = carrier(3).await;
    for _ in 0..2 * HANDSHAKES_PER_SOURCE_MAX {
        let stranger = stranger.clone();
        work.spawn(async move { while stranger.connect(id, &[through], &[], ALPN_LINK).await.is_err() {} });
    }
    let mut held = Vec::new();
    while held.len() < HANDSHAKES_PER_SOURCE_MAX {
        held.push(tokio::time::timeout(PATIENCE, victim.accept()).await.unwrap().unwrap());
    }
    // Everything that the next one is, is somebody else; and when a place is free, the stranger has it again.
    let honest = carrier(2).await;
    let dialling = tokio::spawn(async move { honest.connect(id, &[at], &[], ALPN_LINK).await.map(|_| ()) });
    let next = tokio::time::timeout(PATIENCE, victim.accept()).await.unwrap().unwrap();
    let (conn, _) = tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();
    assert_eq!(conn.peer(), SecretKey::from_u64(2).id());
    assert_eq!(dialling.await.unwrap(), Ok(()));
    held.pop();
    held.push(tokio::time::timeout(PATIENCE, victim.accept()).await.unwrap().unwrap());
}
