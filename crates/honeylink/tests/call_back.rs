//! Being called back, over real sockets on loopback: an honest device learns whether packets get in and what time it is
//! elsewhere; a hostile one can aim nothing at a third.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacker;

use std::time::Duration;

use attacker::{Attacker, header_of, node, soon};
use honeylink::node::{CallBackCounts, CallBackError, Outcome, Refusal};
use honeylink::{MemoryNetwork, Node, testing};
use honeylink_core::wire::callback::{Ask, Told};
use honeylink_core::wire::link::StreamKind;
use iroh::endpoint::Connection;
use tokio::net::UdpSocket;

const PROTOCOL: &str = "reached/1";

#[tokio::test]
async fn a_paired_device_tells_whether_it_gets_in_and_what_time_it_is_there() {
    let (ann, bob) = (node("ann").await, node("bob").await);
    testing::introduce(&ann, &bob).unwrap();
    assert_eq!(ann.call_back(&bob.id()).await, Err(CallBackError::NotConnected(bob.id())));

    let _listener = bob.listen(PROTOCOL).unwrap();
    let _link = soon("connect", ann.connect(bob.id(), PROTOCOL)).await.unwrap();
    let told = soon("a call", ann.call_back(&bob.id())).await.unwrap();
    assert_eq!(told.refusal, None);
    assert!(told.clock_ahead_ms.abs() < 60_000, "{told:?}");
    assert!(!told.called.is_empty());
    for called in &told.called {
        assert!(ann.bound_addrs().iter().any(|own| own.port() == called.addr.port()), "{called:?}");
        assert!(
            matches!(called.outcome, Outcome::Answered(after) if after < Duration::from_secs(2)),
            "{called:?}"
        );
    }

    // It cannot be made to do so without end, and says the time all the same.
    let again = soon("an answer", ann.call_back(&bob.id())).await.unwrap();
    assert_eq!((again.refusal, again.called.len()), (Some(Refusal::Busy), 0));
    assert!(again.clock_ahead_ms.abs() < 60_000);
    let counts = bob.call_back_counts();
    assert_eq!((counts.served, counts.refused, counts.malformed), (1, 1, 0));
    for node in [ann, bob] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_device_without_sockets_of_its_own_calls_nobody() {
    let network = MemoryNetwork::new();
    let node = |name: &str| Node::builder().name(name).memory(&network).build();
    let (ann, bob) = (node("ann").await.unwrap(), node("bob").await.unwrap());
    testing::introduce(&ann, &bob).unwrap();
    let _listener = bob.listen(PROTOCOL).unwrap();
    let _link = soon("connect", ann.connect(bob.id(), PROTOCOL)).await.unwrap();
    let told = soon("an answer", ann.call_back(&bob.id())).await.unwrap();
    assert_eq!((told.refusal, told.called.len()), (Some(Refusal::Off), 0));
    for node in [ann, bob] {
        node.shutdown().await;
    }
}

/// Says this on a stream of its own; what the victim answers.
async fn say(conn: &Connection, bytes: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = soon("a stream", conn.open_bi()).await.unwrap();
    let _ = send.write_all(&[&header_of(StreamKind::CallBack)[..], bytes].concat()).await;
    let _ = send.finish();
    soon("the victim ends the stream", recv.read_to_end(1 << 16)).await.unwrap_or_default()
}

#[tokio::test]
async fn whoever_wants_calls_to_a_third_gets_none_and_a_flood_gets_one() {
    const FLOOD: u64 = 200;
    let victim = node("victim").await;
    let attacker = Attacker::paired(1, &victim).await;
    let conn = attacker.connect(&victim).await;
    let third = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = third.local_addr().unwrap().port().to_be_bytes();

    // The address of a third behind the request, before it, in its place; and what is no request at all.
    let ask = Ask { nonce: [7; 16] }.to_bytes();
    let address = [&[4, 127, 0, 0, 1][..], &port].concat();
    let wrong = [
        [&ask[..], &address].concat(),
        [&[1][..], &address, &[0; 64]].concat(),
        [&[2][..], &ask[1..]].concat(),
        Vec::new(),
        vec![0xff; 4096],
    ];
    for bytes in &wrong {
        assert_eq!(say(&conn, bytes).await, Vec::<u8>::new());
    }
    let malformed = CallBackCounts { malformed: wrong.len() as u64, ..CallBackCounts::default() };
    assert_eq!(victim.call_back_counts(), malformed);

    for _ in 0..FLOOD {
        let told = Told::from_bytes(&say(&conn, &ask).await).unwrap();
        for called in told.called {
            let own = attacker.0.bound_sockets().iter().any(|own| own.port() == called.addr.port());
            assert!(own, "called is the asker and nobody else: {called:?}");
        }
    }
    let counts = victim.call_back_counts();
    assert_eq!(counts.served + counts.refused, FLOOD);
    // One in five seconds, three packets each: how long the flood took is not for this test to say.
    assert!(counts.refused > FLOOD / 2, "{counts:?}");
    assert!(counts.packets <= 3 * counts.served, "{counts:?}");
    let mut buffer = [0; 2048];
    assert!(third.try_recv(&mut buffer).is_err(), "the third heard something");
    victim.shutdown().await;
}
