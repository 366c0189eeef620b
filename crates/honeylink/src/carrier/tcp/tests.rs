//! TCP between devices and strangers, on loopback.

use std::io::ErrorKind;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::carrier::code;

const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

fn carrier(seed: u64) -> TcpCarrier {
    TcpCarrier::new(&SecretKey::from_u64(seed), Reach::Loopback).unwrap()
}

fn id(seed: u64) -> DeviceId {
    SecretKey::from_u64(seed).id()
}

/// A device that listens, as the node does, and hands over every connection that it drives.
struct Host {
    addr: SocketAddr,
    conns: tokio::sync::mpsc::Receiver<Result<TcpConn, ConnLost>>,
}

fn host(seed: u64) -> Host {
    let carrier = carrier(seed);
    let listener = listen(Reach::Loopback, 0).unwrap().remove(0);
    let addr = listener.local_addr().unwrap();
    let (sender, conns) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            let Some(slot) = carrier.admit(from) else { continue };
            let (carrier, sender) = (carrier.clone(), sender.clone());
            tokio::spawn(async move {
                let welcomed = carrier.welcome(stream, from).await;
                drop(slot);
                let _ = sender.send(welcomed.map(driven)).await;
            });
        }
    });
    Host { addr, conns }
}

fn driven((conn, driver): (TcpConn, Driver)) -> TcpConn {
    tokio::spawn(driver.run());
    conn
}

/// Passes bytes on to `to` until it is told to go deaf.
async fn middle(to: SocketAddr) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let deaf = CancellationToken::new();
    let cut = deaf.clone();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        cut.run_until_cancelled(tokio::io::copy_bidirectional(&mut near, &mut far)).await;
        // Both stay open, as when a NAT forgets them: no word to anybody.
        tokio::time::sleep(2 * PATIENCE).await; // tidy: sleep because it holds connections that nobody serves
        drop((near, far));
    });
    (addr, deaf)
}

#[tokio::test]
async fn two_devices_know_each_other_share_a_root_and_exchange_bytes() {
    let mut bert = host(2);
    let anna = driven(soon(carrier(1).connect(id(2), &[bert.addr])).await.unwrap());
    let bert = soon(bert.conns.recv()).await.unwrap().unwrap();
    assert_eq!((anna.peer(), bert.peer()), (id(2), id(1)));
    assert_eq!(anna.mesh_root(), bert.mesh_root());
    let (mut to_bert, _from_bert) = anna.stream().await.unwrap();
    let (_to_anna, mut from_anna) = bert.stream().await.unwrap();
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let chunk = Bytes::from(sent.clone());
    let writing = tokio::spawn(async move {
        to_bert.write_chunk(chunk).await.unwrap();
        to_bert
    });
    let mut got = vec![0; sent.len()];
    soon(from_anna.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, sent);
    let _to_bert = writing.await.unwrap();
    anna.close(code::NOT_PAIRED, "not any more");
    let lost = ConnLost::ByPeer { code: code::NOT_PAIRED.into(), reason: "not any more".into() };
    assert_eq!(soon(bert.closed()).await, lost);
    assert_eq!(anna.lost(), Some(ConnLost::ByUs));
    assert_eq!(soon(from_anna.read_u8()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn whoever_answers_in_the_place_of_a_device_is_found_out() {
    let mut imposter = host(3);
    let error = soon(carrier(1).connect(id(2), &[imposter.addr])).await.err().unwrap();
    assert!(matches!(error, ConnLost::Transport(_)), "{error}");
    assert!(soon(imposter.conns.recv()).await.unwrap().is_err());
}

#[tokio::test]
async fn noise_and_silence_end_and_keep_nobody_else_out() {
    let mut bert = host(2);
    let mut noisy = TcpStream::connect(bert.addr).await.unwrap();
    noisy.write_all(&[0xa5; 4096]).await.unwrap();
    assert!(soon(bert.conns.recv()).await.unwrap().is_err());
    // They say nothing, or one byte after the other, and take every place that their address has.
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_PER_SOURCE_MAX {
        silent.push(TcpStream::connect(bert.addr).await.unwrap());
    }
    let mut late = TcpStream::connect(bert.addr).await.unwrap();
    // The end, whichever way the system tells it.
    assert!(!matches!(soon(late.read(&mut [0; 16])).await, Ok(1..)), "no place is left");
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let other = other.connect(bert.addr).await.unwrap();
    let anna = carrier(1);
    let shaking = async {
        let tls = anna.identity.dial(id(2), other).await.unwrap();
        TcpConn::new(tls.into(), Side::Dialer, (bert.addr, Duration::ZERO), Arc::default()).unwrap()
    };
    let _anna = driven(soon(shaking).await);
    assert_eq!(soon(bert.conns.recv()).await.unwrap().unwrap().peer(), id(1), "from another address");
    let began = Instant::now();
    for _ in 0..HANDSHAKES_PER_SOURCE_MAX {
        let ended = soon(bert.conns.recv()).await.unwrap();
        assert_eq!(ended.err(), Some(ConnLost::TimedOut));
    }
    assert!(began.elapsed() < 3 * HANDSHAKE_MAX);
    driven(soon(carrier(1).connect(id(2), &[bert.addr])).await.unwrap());
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_any_more_is_lost_on_both_sides() {
    let mut bert = host(2);
    let (through, deaf) = middle(bert.addr).await;
    let anna = driven(soon(carrier(1).connect(id(2), &[through])).await.unwrap());
    let bert = soon(bert.conns.recv()).await.unwrap().unwrap();
    deaf.cancel();
    assert_eq!(soon(anna.closed()).await, ConnLost::TimedOut);
    assert_eq!(soon(bert.closed()).await, ConnLost::TimedOut);
}

#[tokio::test]
async fn a_chunk_too_long_ends_the_connection() {
    let mut bert = host(2);
    let stream = TcpStream::connect(bert.addr).await.unwrap();
    let mut tls = carrier(1).identity.dial(id(2), stream).await.unwrap();
    let bert = soon(bert.conns.recv()).await.unwrap().unwrap();
    tls.write_all(&[0x40, 0x01]).await.unwrap();
    tls.flush().await.unwrap();
    assert!(matches!(soon(bert.closed()).await, ConnLost::Transport(why) if why.contains("protocol")));
}

#[tokio::test]
async fn an_address_that_is_dead_is_followed_by_the_next() {
    let bert = host(2);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let anna = soon(carrier(1).connect(id(2), &[nobody, bert.addr])).await.unwrap().0;
    assert_eq!(anna.remote_addr(), bert.addr);
}
