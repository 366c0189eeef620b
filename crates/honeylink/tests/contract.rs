//! What every carrier promises to the application, told once and run on each backend: the memory carrier, real QUIC on
//! loopback, and both again on a simulated network that is slow and loses packets. The lists at the end say which
//! promise is shown where; a backend that a list leaves out cannot do what its tests ask for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use honeylink::discovery::Event;
use honeylink::link::{CloseCode, CloseError, DatagramError, SendError};
use honeylink::node::ConnectError;
use honeylink::testing::{NatKind, Network, Stack};
use honeylink::{Class, Link, Listener, MemoryNetwork, Node, Reach, State, testing};
use honeylink_core::limits::ACCEPT_QUEUE_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

honeylink::virtual_time!();

const PROTOCOL: &str = "contract/1";
/// Where devices of the tests on loopback discover each other, apart from all others on this machine.
const DISCOVERY_PORT: u16 = 53_917;
/// No wait in these tests is longer; a test that hits it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// Where a pair of nodes lives.
#[derive(Clone)]
enum Backend {
    Memory(MemoryNetwork),
    Loopback,
    Simulated(Network),
}

impl Backend {
    async fn node(&self, name: &str) -> Node {
        let builder = Node::builder().name(name).reach(Reach::Loopback);
        match self {
            Self::Memory(network) => builder.memory(network).build().await.unwrap(),
            Self::Loopback => builder.discovery_port(DISCOVERY_PORT).build().await.unwrap(),
            Self::Simulated(network) => network.node(name).await.unwrap(),
        }
    }

    /// Takes two nodes out of each other's reach.
    fn part(&self, a: &Node, b: &Node) {
        match self {
            Self::Memory(network) => network.part(a.id(), b.id()),
            Self::Simulated(network) => network.partition(&[&[a], &[b]]),
            Self::Loopback => panic!("nobody can cut the loopback interface for two processes only"),
        }
    }

    /// Ends what `part` did.
    fn heal(&self, a: &Node, b: &Node) {
        match self {
            Self::Memory(network) => network.rejoin(a.id(), b.id()),
            Self::Simulated(network) => network.heal(),
            Self::Loopback => panic!("nothing was parted"),
        }
    }

    /// The network, for what only a simulated one can do.
    fn network(&self) -> &Network {
        match self {
            Self::Simulated(network) => network,
            Self::Memory(_) | Self::Loopback => panic!("a real network does not do what it is told"),
        }
    }

    async fn pair(&self) -> (Node, Node) {
        let (a, b) = (self.node("a").await, self.node("b").await);
        testing::introduce(&a, &b).unwrap();
        (a, b)
    }
}

async fn linked(a: &Node, b: &Node, listener: &mut Listener) -> (Link, Link) {
    let ours = soon("connect", a.connect(b.id(), PROTOCOL)).await.unwrap();
    let theirs = soon("accept", listener.accept()).await.unwrap();
    (ours, theirs)
}

async fn messages_arrive_in_order_both_ways(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    assert_eq!((ours.peer(), theirs.peer()), (b.id(), a.id()));
    let sending = tokio::spawn({
        let ours = ours.clone();
        async move {
            for n in 0..20_000_u32 {
                ours.send(n.to_be_bytes().to_vec()).await.unwrap();
            }
        }
    });
    for n in 0..20_000_u32 {
        assert_eq!(soon("recv", theirs.recv()).await.unwrap(), n.to_be_bytes()[..]);
    }
    sending.await.unwrap();
    theirs.send("thanks").await.unwrap();
    assert_eq!(soon("recv", ours.recv()).await.unwrap(), "thanks");
    assert_eq!(theirs.stats().messages_received, 20_000);
    soon("close", ours.close("done")).await.unwrap();
    assert!(soon("recv", theirs.recv()).await.unwrap_err().is_clean());
}

async fn everything_before_a_close_is_delivered(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    for n in 0..1000_u32 {
        ours.send(n.to_be_bytes().to_vec()).await.unwrap();
    }
    soon("close", ours.close("bye")).await.unwrap();
    let mut count = 0;
    let end = loop {
        match soon("recv", theirs.recv()).await {
            Ok(_) => count += 1,
            Err(end) => break end,
        }
    };
    assert_eq!(count, 1000);
    assert_eq!(end.0.text, "bye");
}

async fn what_is_said_and_closed_at_once_reaches_the_application(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    for n in 0..100_u32 {
        let ours = soon("connect", a.connect(b.id(), PROTOCOL)).await.unwrap();
        ours.send(n.to_be_bytes().to_vec()).await.unwrap();
        soon("close", ours.close("bye")).await.unwrap();
        let theirs = soon("accept", listener.accept()).await.unwrap();
        assert_eq!(soon("recv", theirs.recv()).await.unwrap(), n.to_be_bytes()[..]);
    }
}

async fn a_close_is_answered_though_neither_side_takes_its_messages(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    ours.send("the only one").await.unwrap();
    let message = Bytes::from(vec![7; 64 << 10]);
    while tokio::time::timeout(Duration::from_secs(1), theirs.send(message.clone())).await.is_ok() {}
    soon("close", ours.close("bye")).await.unwrap();
}

async fn a_forgotten_peers_links_end_at_once_on_both_sides(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    b.forget_peer(a.id()).await.unwrap();
    assert_eq!(soon("recv", theirs.recv()).await.unwrap_err().0.code, CloseCode::NotAllowed);
    assert_eq!(soon("recv", ours.recv()).await.unwrap_err().0.code, CloseCode::NotAllowed);
}

async fn a_full_accept_queue_refuses_with_the_reason(backend: Backend) {
    let (a, b) = backend.pair().await;
    let _listener = b.listen(PROTOCOL).unwrap();
    let c = backend.node("c").await;
    testing::introduce(&c, &b).unwrap();
    let mut links = Vec::new();
    for _ in 0..ACCEPT_QUEUE_MAX {
        links.push(soon("connect", a.connect(b.id(), PROTOCOL)).await.unwrap());
    }
    // The session is agreed before the queue is asked, so the refusal may come during the connect or after it.
    let code = match soon("connect", c.connect(b.id(), PROTOCOL)).await {
        Ok(late) => soon("recv", late.recv()).await.unwrap_err().0.code,
        Err(ConnectError::Refused { code, .. }) => code,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(code, CloseCode::TooMany);
}

async fn a_shutdown_reports_what_was_not_taken(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, _theirs) = linked(&a, &b, &mut listener).await;
    let message = Bytes::from(vec![7; 64 << 10]);
    while tokio::time::timeout(Duration::from_secs(1), ours.send(message.clone())).await.is_ok() {}
    let report = soon("shutdown", a.shutdown()).await;
    assert_eq!((report.undelivered.len(), report.stuck_tasks), (1, 0), "{report:?}");
}

async fn a_message_over_either_limit_is_refused_before_it_is_sent(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    let max = 1 << 20;
    ours.send(vec![1; max]).await.unwrap();
    let refused = ours.send(vec![1; max + 1]).await.unwrap_err();
    assert_eq!(refused, SendError::TooLarge { size: max + 1, max });
    ours.send("still here").await.unwrap();
    assert_eq!(soon("recv", theirs.recv()).await.unwrap().len(), max);
    assert_eq!(soon("recv", theirs.recv()).await.unwrap(), "still here");
}

async fn a_slow_reader_holds_the_sender_up_and_loses_nothing(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    let message = Bytes::from(vec![7; 64 << 10]);
    let mut sent = 0_u32;
    // Without a reader the queues fill up: sending has to stop by itself, at a bounded number of bytes.
    while let Ok(done) = tokio::time::timeout(Duration::from_secs(1), ours.send(message.clone())).await {
        done.unwrap();
        sent += 1;
        assert!(sent < 1000, "no back-pressure after {sent} messages");
    }
    for _ in 0..sent {
        assert_eq!(soon("recv", theirs.recv()).await.unwrap(), message);
    }
}

async fn a_task_that_waits_for_a_message_and_does_not_look_holds_nobody_up(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    let mut waiting = pin!(theirs.recv());
    assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
    ours.send("for later").await.unwrap();
    // The answer comes through the stream whose message nobody takes.
    soon("ping", ours.ping(PATIENCE)).await.unwrap();
    assert_eq!(soon("recv", waiting).await.unwrap(), "for later");
}

async fn streams_carry_bytes_and_half_close(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    let mut stream = soon("open", ours.open_stream(Class::Bulk)).await.unwrap();
    let data = vec![3; 3 << 20];
    let writing = tokio::spawn({
        let data = data.clone();
        async move {
            stream.send.write_all(&data).await.unwrap();
            stream.send.finish().await.unwrap();
            let mut answer = String::new();
            stream.recv.read_to_string(&mut answer).await.unwrap();
            answer
        }
    });
    let mut other = soon("accept", theirs.accept_stream()).await.unwrap();
    assert_eq!(other.class, Class::Bulk);
    let mut got = Vec::new();
    soon("read", other.recv.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, data);
    other.send.write_all(b"got it").await.unwrap();
    other.send.finish().await.unwrap();
    assert_eq!(soon("answer", writing).await.unwrap(), "got it");
}

async fn a_stream_dropped_half_way_is_an_error_not_an_end(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    let mut stream = soon("open", ours.open_stream(Class::Bulk)).await.unwrap();
    stream.send.write_all(b"half of i").await.unwrap();
    let mut other = soon("accept", theirs.accept_stream()).await.unwrap();
    drop(stream);
    let mut got = Vec::new();
    assert!(soon("read", other.recv.read_to_end(&mut got)).await.is_err());
}

async fn datagrams_arrive_or_say_why_not(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    // One may be lost; ten in a row are not.
    let arrived = async {
        for _ in 0..10 {
            ours.send_datagram(b"quick").unwrap();
            if let Ok(datagram) = tokio::time::timeout(Duration::from_secs(1), theirs.recv_datagram()).await {
                return datagram.unwrap();
            }
        }
        panic!("no datagram arrives");
    };
    assert_eq!(soon("datagram", arrived).await, "quick");
    let refused = ours.send_datagram(&[0; 1 << 16]).unwrap_err();
    assert!(matches!(refused, DatagramError::TooLarge { size: 65_536, .. }));
}

async fn links_are_refused_with_the_reason(backend: Backend) {
    let (a, b) = backend.pair().await;
    let nobody = soon("connect", a.connect(b.id(), "unheard/1")).await.unwrap_err();
    assert!(
        matches!(&nobody, ConnectError::Refused { reason, .. } if reason.contains("unheard/1")),
        "{nobody}"
    );
    let stranger = testing::device_id(99);
    let unknown = soon("connect", a.connect(stranger, PROTOCOL)).await.unwrap_err();
    assert!(matches!(unknown, ConnectError::NotPaired(id) if id == stranger));
    assert!(matches!(soon("connect", a.connect(a.id(), PROTOCOL)).await, Err(ConnectError::Myself)));
}

async fn a_device_that_forgot_us_refuses_at_once(backend: Backend) {
    let (a, b) = backend.pair().await;
    let _listener = b.listen(PROTOCOL).unwrap();
    b.store().trust().forget(&a.id()).unwrap();
    let refused = soon("connect", a.connect(b.id(), PROTOCOL)).await.unwrap_err();
    assert!(
        matches!(&refused, ConnectError::Refused { reason, .. } if reason.contains("not paired")),
        "{refused}"
    );
}

async fn links_to_one_peer_share_a_connection(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let first = linked(&a, &b, &mut listener).await;
    let second = linked(&a, &b, &mut listener).await;
    assert_eq!((a.connected().len(), b.connected().len()), (1, 1));
    second.0.send("two").await.unwrap();
    first.0.send("one").await.unwrap();
    assert_eq!(soon("recv", first.1.recv()).await.unwrap(), "one");
    assert_eq!(soon("recv", second.1.recv()).await.unwrap(), "two");
}

async fn both_sides_connecting_at_once_both_get_their_link(backend: Backend) {
    let (a, b) = backend.pair().await;
    let (mut at_a, mut at_b) = (a.listen(PROTOCOL).unwrap(), b.listen(PROTOCOL).unwrap());
    let (ab, ba) =
        soon("connect", async { tokio::join!(a.connect(b.id(), PROTOCOL), b.connect(a.id(), PROTOCOL)) })
            .await;
    let (ab, ba) = (ab.unwrap(), ba.unwrap());
    let (from_b, from_a) = soon("accept", async { tokio::join!(at_a.accept(), at_b.accept()) }).await;
    ab.send("from a").await.unwrap();
    ba.send("from b").await.unwrap();
    assert_eq!(soon("recv", from_a.unwrap().recv()).await.unwrap(), "from a");
    assert_eq!(soon("recv", from_b.unwrap().recv()).await.unwrap(), "from b");
}

async fn a_ping_measures_and_a_path_explains(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, _theirs) = linked(&a, &b, &mut listener).await;
    assert!(soon("ping", ours.ping(PATIENCE)).await.unwrap() < PATIENCE);
    let path = ours.path().unwrap();
    assert!(path.selected && !path.remote.is_empty());
}

async fn a_shutdown_closes_links_and_ends_every_task(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    ours.send("last words").await.unwrap();
    let report = soon("shutdown", a.shutdown()).await;
    assert_eq!(report, honeylink::node::ShutdownReport::default());
    assert_eq!(soon("recv", theirs.recv()).await.unwrap(), "last words");
    assert!(soon("recv", theirs.recv()).await.unwrap_err().is_clean());
    assert!(matches!(a.connect(b.id(), PROTOCOL).await, Err(ConnectError::Stopped)));
    assert_eq!(soon("shutdown", b.shutdown()).await, honeylink::node::ShutdownReport::default());
}

async fn large_data_arrives_whole(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    let data: Vec<u8> = (0..8_u32 << 20).map(|n| (n % 251) as u8).collect();
    let writing = tokio::spawn({
        let (ours, data) = (ours.clone(), data.clone());
        async move {
            let mut stream = ours.open_stream(Class::Bulk).await.unwrap();
            stream.send.write_all(&data).await.unwrap();
            stream.send.finish().await.unwrap();
            stream.send.finished().await.unwrap();
        }
    });
    let mut other = soon("accept", theirs.accept_stream()).await.unwrap();
    let mut got = Vec::new();
    soon("read", other.recv.read_to_end(&mut got)).await.unwrap();
    assert!(got == data, "{} bytes, and not those sent", got.len());
    soon("finished", writing).await.unwrap();
}

async fn a_partition_suspends_a_link_and_healing_resumes_it_exactly_once(backend: Backend) {
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    for n in 0..3_000_u32 {
        if n == 1_000 {
            backend.part(&a, &b);
            soon("suspension", ours.watch_state().wait_for(|state| *state == State::Suspended))
                .await
                .unwrap();
        }
        if n == 2_000 {
            backend.heal(&a, &b);
        }
        ours.send(n.to_be_bytes().to_vec()).await.unwrap();
    }
    for n in 0..3_000_u32 {
        assert_eq!(soon("recv", theirs.recv()).await.unwrap(), n.to_be_bytes()[..]);
    }
    assert!(ours.stats().resumes > 0);
    soon("resume", ours.watch_state().wait_for(|state| *state == State::Active)).await.unwrap();
    soon("close", ours.close("done")).await.unwrap();
    assert!(soon("recv", theirs.recv()).await.unwrap_err().is_clean());
}

async fn devices_discover_each_other_by_name(backend: Backend) {
    let a = backend.node("finder").await;
    let mut events = a.nearby().unwrap();
    let b = backend.node("found").await;
    let found = async {
        loop {
            let devices = match events.next().await.unwrap() {
                Event::Snapshot(devices) => devices,
                Event::Found(device) | Event::Changed(device) => vec![*device],
                Event::Lost(_) | Event::Conflict { .. } | Event::FinderDown { .. } | Event::FinderUp(_) => {
                    continue;
                }
            };
            if let Some(device) = devices.into_iter().find(|device| device.id == b.id()) {
                return device;
            }
        }
    };
    let device = soon("discovery", found).await;
    assert_eq!(device.name, "found");
    assert!(!device.addresses.is_empty());
}

async fn latencies_from_1_to_500_ms_only_cost_time(backend: Backend) {
    let network = backend.network();
    let (a, b) = backend.pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    for latency_ms in [1, 20, 100, 500] {
        network.link(&a, &b, |lane| lane.latency_us = latency_ms * 1_000);
        let (ours, theirs) = linked(&a, &b, &mut listener).await;
        for n in 0..500_u32 {
            ours.send(n.to_be_bytes().to_vec()).await.unwrap();
        }
        for n in 0..500_u32 {
            assert_eq!(soon("recv", theirs.recv()).await.unwrap(), n.to_be_bytes()[..]);
        }
        let rtt = soon("ping", ours.ping(PATIENCE)).await.unwrap();
        assert!(u128::from(2 * latency_ms) <= rtt.as_millis(), "{rtt:?} at {latency_ms} ms each way");
        soon("close", ours.close("done")).await.unwrap();
    }
}

async fn devices_behind_each_kind_of_nat_are_linked(backend: Backend) {
    let network = backend.network();
    let far = network.node("far").behind(&[NatKind::Home]).await.unwrap();
    let mut listener = far.listen(PROTOCOL).unwrap();
    for kind in [NatKind::Public, NatKind::Open, NatKind::Home, NatKind::Cgnat] {
        let near = network.node(format!("{kind:?}")).behind(&[kind]).await.unwrap();
        testing::introduce(&near, &far).unwrap();
        let (ours, theirs) = linked(&near, &far, &mut listener).await;
        ours.send("through").await.unwrap();
        assert_eq!(soon("recv", theirs.recv()).await.unwrap(), "through");
        soon("close", ours.close("done")).await.unwrap();
    }
    // Another port for every destination on one side, and only the known one let in on the other: no way without a relay.
    let office = network.node("office").behind(&[NatKind::Corporate]).await.unwrap();
    testing::introduce(&office, &far).unwrap();
    assert!(matches!(office.connect(far.id(), PROTOCOL).await, Err(ConnectError::Unreachable { .. })));
}

/// Runs one promise on a simulated network: one with losses, but good enough for megabytes within our patience.
fn simulated<Fut: Future<Output = ()>>(stack: Stack, promise: impl FnOnce(Backend) -> Fut + Send) {
    let network = Network::builder().stack(stack).seed(1);
    let network = network.latency(Duration::from_millis(5)).loss(0.001).bandwidth(200_000_000);
    let outcome = network.run(|network| async move {
        promise(Backend::Simulated(network)).await;
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Promises, and the backends that each is shown on.
macro_rules! promises {
    ($($group:ident on $backends:tt $promises:tt)*) => {
        $(mod $group { promises! { @each $backends $promises } })*
    };
    (@each [$($backend:ident)*] $promises:tt) => { $(promises! { @on $backend $promises })* };
    (@on memory {$($promise:ident,)*}) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                crate::$promise(crate::Backend::Memory(crate::MemoryNetwork::new())).await;
            })*
        }
    };
    (@on loopback {$($promise:ident,)*}) => {
        mod loopback {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() { crate::$promise(crate::Backend::Loopback).await; })*
        }
    };
    (@on simulated {$($promise:ident,)*}) => {
        mod simulated_memory {
            $(#[test] fn $promise() { crate::simulated(crate::Stack::Memory, crate::$promise); })*
        }
        /// Where QUIC's clock can be the simulation's.
        #[cfg(target_os = "linux")]
        mod simulated_quic {
            $(#[test] fn $promise() { crate::simulated(crate::Stack::Quic, crate::$promise); })*
        }
    };
}

promises! {
    everywhere on [memory loopback simulated] {
        messages_arrive_in_order_both_ways,
        everything_before_a_close_is_delivered,
        what_is_said_and_closed_at_once_reaches_the_application,
        a_close_is_answered_though_neither_side_takes_its_messages,
        a_forgotten_peers_links_end_at_once_on_both_sides,
        a_full_accept_queue_refuses_with_the_reason,
        a_shutdown_reports_what_was_not_taken,
        a_message_over_either_limit_is_refused_before_it_is_sent,
        a_slow_reader_holds_the_sender_up_and_loses_nothing,
        a_task_that_waits_for_a_message_and_does_not_look_holds_nobody_up,
        streams_carry_bytes_and_half_close,
        a_stream_dropped_half_way_is_an_error_not_an_end,
        datagrams_arrive_or_say_why_not,
        links_are_refused_with_the_reason,
        a_device_that_forgot_us_refuses_at_once,
        links_to_one_peer_share_a_connection,
        both_sides_connecting_at_once_both_get_their_link,
        a_ping_measures_and_a_path_explains,
        a_shutdown_closes_links_and_ends_every_task,
        large_data_arrives_whole,
    }
    where_a_test_can_cut_links on [memory simulated] {
        a_partition_suspends_a_link_and_healing_resumes_it_exactly_once,
    }
    where_devices_are_announced on [loopback simulated] {
        devices_discover_each_other_by_name,
    }
    where_a_test_rules_the_network on [simulated] {
        latencies_from_1_to_500_ms_only_cost_time,
        devices_behind_each_kind_of_nat_are_linked,
    }
}

/// Only the memory carrier drops a connection and leaves the network as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_loses_and_doubles_no_message() {
    let network = MemoryNetwork::new();
    let (a, b) = Backend::Memory(network.clone()).pair().await;
    let mut listener = b.listen(PROTOCOL).unwrap();
    let (ours, theirs) = linked(&a, &b, &mut listener).await;
    let sending = tokio::spawn({
        let ours = ours.clone();
        async move {
            for n in 0..50_000_u32 {
                ours.send(n.to_be_bytes().to_vec()).await.unwrap();
            }
        }
    });
    for n in 0..50_000_u32 {
        if n % 10_000 == 5_000 {
            network.sever(a.id(), b.id());
        }
        assert_eq!(soon("recv", theirs.recv()).await.unwrap(), n.to_be_bytes()[..]);
    }
    sending.await.unwrap();
    assert!(ours.stats().resumes > 0);
    // The last cut may have come when everything had arrived already; then the session is still taking itself up again.
    soon("resume", ours.watch_state().wait_for(|state| *state == State::Active)).await.unwrap();
    let closed: Result<(), CloseError> = soon("close", ours.close("done")).await;
    closed.unwrap();
}
