//! What streams, flows of datagrams and policies promise, over the memory carrier and over QUIC on loopback. Who is served
//! first under pressure is the scheduler's, and its tests' (`honeylink_core::qos`); how it feels on a real cable is measured
//! by the suite `qos` of the lab.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use honeylink::link::{DatagramError, QosEvent, StreamError};
use honeylink::services::pipe::PipeError;
use honeylink::services::{Pipes, PolicyChoice};
use honeylink::{
    Class, FecChoice, Link, Listener, MemoryNetwork, Node, Policy, Preset, Priority, Reach, StreamOptions,
    Weight, testing,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

const PROTOCOL: &str = "qos/1";
/// No wait in these tests is longer; a test that hits it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// Two devices and a link between them.
struct Pair {
    ours: Link,
    theirs: Link,
    /// They live as long as the test.
    _nodes: [Node; 2],
    _listener: Listener,
}

impl Pair {
    async fn new(network: Option<MemoryNetwork>) -> Self {
        let node = async |name: &str| {
            let builder = Node::builder().name(name).reach(Reach::Loopback).discovery(false);
            let builder = match &network {
                Some(network) => builder.memory(network),
                None => builder,
            };
            builder.build().await.unwrap()
        };
        let (a, b) = (node("a").await, node("b").await);
        testing::introduce(&a, &b).unwrap();
        let mut listener = b.listen(PROTOCOL).unwrap();
        let ours = soon("connect", a.connect(b.id(), PROTOCOL)).await.unwrap();
        let theirs = soon("accept", listener.accept()).await.unwrap();
        Self { ours, theirs, _nodes: [a, b], _listener: listener }
    }
}

async fn a_stream_asks_and_tells_what_it_went_through(Pair { ours, theirs, .. }: &Pair) {
    let options =
        StreamOptions { weight: Weight::new(9).unwrap(), ..StreamOptions::from(Priority::new(6).unwrap()) };
    let mut stream = soon("open", ours.open_stream(options)).await.unwrap();
    let mut other = soon("accept", theirs.accept_stream()).await.unwrap();
    assert_eq!((stream.class, other.class), (Class::Realtime, Class::Realtime));
    stream.send.write_all(&[7; 50_000]).await.unwrap();
    stream.send.finish().await.unwrap();
    let mut got = Vec::new();
    soon("read", other.recv.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), 50_000);
    let stats = stream.send.stats();
    // Its header passed the gate too.
    assert!((50_000..50_100).contains(&stats.bytes_sent), "{stats:?}");
    assert!(stats.wait_p99.is_some() && stats.queued_bytes == 0, "{stats:?}");
    let traffic = ours.traffic().unwrap();
    assert!(traffic.streams.iter().any(|stream| stream.options == options), "{traffic:?}");
    drop(stream);
    let traffic = ours.traffic().unwrap();
    assert!(!traffic.streams.iter().any(|stream| stream.options == options), "its place was given back");
}

async fn a_cap_is_kept_and_can_be_lifted(Pair { ours, theirs, .. }: &Pair) {
    let capped = StreamOptions { rate_max: Some(200_000), ..Class::Bulk.into() };
    let mut stream = soon("open", ours.open_stream(capped)).await.unwrap();
    let mut other = soon("accept", theirs.accept_stream()).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        other.recv.read_to_end(&mut got).await.map(|_| got.len())
    });
    let started = Instant::now();
    soon("write", stream.send.write_all(&[7; 100_000])).await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300), "100 kB at 200 kB/s took {took:?}");
    stream.send.retune(Class::Bulk.into()).unwrap();
    let started = Instant::now();
    soon("write", stream.send.write_all(&[7; 1_000_000])).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(4), "the cap was lifted");
    stream.send.finish().await.unwrap();
    assert_eq!(soon("read", reading).await.unwrap().unwrap(), 1_100_000);
}

async fn options_that_contradict_themselves_open_nothing(Pair { ours, .. }: &Pair) {
    let crossed = StreamOptions { rate_min: Some(9), rate_max: Some(8), ..Class::Bulk.into() };
    let refused = soon("open", ours.open_stream(crossed)).await.unwrap_err();
    assert!(matches!(refused, StreamError::Options(_)), "{refused}");
    let unknown = soon("open", ours.open_stream_under("nobody")).await.unwrap_err();
    assert!(matches!(&unknown, StreamError::UnknownPolicy(name) if name == "nobody"), "{unknown}");
}

async fn a_flow_of_datagrams_arrives_and_ends(Pair { ours, theirs, .. }: &Pair) {
    for fec in [FecChoice::Off, FecChoice::AtLeastLight] {
        let opening = ours.open_datagrams(Class::Realtime, fec);
        let (sender, receiver) = tokio::join!(opening, theirs.accept_datagrams());
        let (sender, mut receiver) = (sender.unwrap(), receiver.unwrap());
        assert_eq!(receiver.priority.class(), Class::Realtime);
        for n in 0..100_u32 {
            sender.send(n.to_be_bytes().to_vec()).unwrap();
        }
        for n in 0..100_u32 {
            assert_eq!(soon("datagram", receiver.recv()).await.unwrap(), n.to_be_bytes()[..]);
        }
        let too_large = vec![0; sender.bytes_max() + 1];
        assert!(matches!(sender.send(too_large), Err(DatagramError::TooLarge { .. })));
        assert!(sender.stats().sent.bytes_sent >= 400);
        if fec == FecChoice::AtLeastLight {
            assert!(sender.stats().repair >= 20, "{:?}", sender.stats());
            assert_eq!(receiver.stats().received, 100);
        }
        sender.finish().await.unwrap();
        assert_eq!(soon("end", receiver.recv()).await, None);
    }
}

async fn a_late_datagram_is_dropped_and_counted(Pair { ours, theirs, .. }: &Pair) {
    let options = StreamOptions {
        rate_max: Some(20_000),
        deadline: Some(Duration::from_millis(100)),
        ..Class::Realtime.into()
    };
    let (sender, receiver) =
        tokio::join!(ours.open_datagrams(options, FecChoice::Off), theirs.accept_datagrams());
    let (sender, mut receiver) = (sender.unwrap(), receiver.unwrap());
    // Ten seconds' worth at the cap, of which a tenth of one is worth anything.
    for _ in 0..200 {
        sender.send(vec![7; 1000]).unwrap();
    }
    soon("the first", receiver.recv()).await.unwrap();
    while soon("late", async { sender.stats().sent.queued_bytes }).await > 0 {
        tokio::task::yield_now().await;
    }
    let late = sender.stats().sent.datagrams_late;
    assert!((150..200).contains(&late), "{late} were late");
}

async fn a_full_queue_warns_and_then_refuses(Pair { ours, theirs, .. }: &Pair) {
    let options =
        StreamOptions { rate_max: Some(1000), queue_bytes_max: 10_000, ..Class::Interactive.into() };
    let (sender, _receiver) =
        tokio::join!(ours.open_datagrams(options, FecChoice::Off), theirs.accept_datagrams());
    let sender = sender.unwrap();
    let mut events = ours.qos_events().unwrap();
    let taken = (0..100).take_while(|_| sender.send(vec![7; 500]).is_ok()).count();
    assert!((15..40).contains(&taken), "{taken} of 500 bytes were taken into a queue of 10,000");
    let warned = soon("warning", events.recv()).await.unwrap();
    let QosEvent::QueueNearlyFull { options: whose, queued_bytes } = warned else { panic!("{warned:?}") };
    assert_eq!(whose, options);
    assert!(queued_bytes >= 9000, "{queued_bytes}");
}

async fn a_policy_is_agreed_and_followed_live(Pair { ours, theirs, .. }: &Pair) {
    let mut events = theirs.qos_events().unwrap();
    let policy = Preset::Iot.policy();
    soon("apply", ours.apply_policy(policy.clone())).await.unwrap();
    assert_eq!(ours.policy("iot"), Some(policy.clone()));
    assert_eq!(theirs.peers_policy("iot"), Some(policy.clone()));
    assert_eq!(soon("told", events.recv()).await.unwrap(), QosEvent::PeerPolicy { policy: policy.clone() });
    let _stream = soon("open", ours.open_stream_under("iot")).await.unwrap();
    let asked = |options: StreamOptions| ours.traffic().unwrap().streams.iter().any(|s| s.options == options);
    assert!(asked(policy.options));
    let mut changed = policy.clone();
    changed.options.weight = Weight::new(33).unwrap();
    soon("apply", ours.apply_policy(changed.clone())).await.unwrap();
    assert!(asked(changed.options) && !asked(policy.options), "the open stream followed");
}

async fn changes_at_the_same_time_are_agreed_one_after_the_other(Pair { ours, theirs, .. }: &Pair) {
    let policies = [Preset::Iot, Preset::File, Preset::GamingInput].map(Preset::policy);
    let [one, two, three] = policies.clone().map(|policy| ours.apply_policy(policy));
    let agreed = soon("apply", async { tokio::join!(one, two, three) }).await;
    assert_eq!(agreed, (Ok(()), Ok(()), Ok(())));
    for policy in policies {
        assert_eq!(theirs.peers_policy(&policy.name), Some(policy));
    }
}

async fn everything_of_a_link_follows_a_policy(Pair { ours, theirs, .. }: &Pair) {
    let stream = soon("open", ours.open_stream(Class::Bulk)).await.unwrap();
    let (flow, _taken) =
        tokio::join!(ours.open_datagrams(Class::Realtime, FecChoice::Off), theirs.accept_datagrams());
    let following = |name: &str| {
        let streams = ours.traffic().unwrap().streams;
        let follow = streams.into_iter().filter(|stream| stream.policy.as_deref() == Some(name));
        let mut follow: Vec<_> = follow.map(|stream| (stream.messages, stream.options)).collect();
        follow.sort_by_key(|(messages, _)| *messages);
        follow
    };
    let policy = Preset::Iot.policy();
    soon("follow", ours.follow_policy(policy.clone())).await.unwrap();
    assert_eq!(
        following("iot"),
        [(false, policy.options), (true, policy.options)],
        "its stream and its messages"
    );
    assert_eq!(ours.followed_policy(), Some(policy.clone()));
    let mut changed = policy.clone();
    changed.options.weight = Weight::new(33).unwrap();
    soon("apply", ours.apply_policy(changed.clone())).await.unwrap();
    assert_eq!(following("iot"), [(false, changed.options), (true, changed.options)], "and when it changes");
    soon("follow", ours.follow_policy(Preset::File.policy())).await.unwrap();
    assert_eq!((following("iot").len(), following("file").len()), (0, 2), "and when another takes its place");
    ours.send("still in order").await.unwrap();
    assert_eq!(soon("a message", theirs.recv()).await.unwrap(), "still in order");
    drop((stream, flow));
}

/// A guarantee is refused when it does not fit what the path was seen to carry. Only QUIC's paths have a rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarantee_beyond_the_link_is_refused_once_the_link_is_known() {
    let Pair { ours, theirs, _nodes: [a, b], _listener } = Pair::new(None).await;
    let early = StreamOptions { rate_min: Some(1000), ..Class::Interactive.into() };
    let _early = soon("open", ours.open_stream(early)).await.unwrap();
    let mut stream = soon("open", ours.open_stream(Class::Bulk)).await.unwrap();
    let draining = tokio::spawn(async move {
        while let Ok(mut stream) = theirs.accept_stream().await {
            tokio::spawn(async move { tokio::io::copy(&mut stream.recv, &mut tokio::io::sink()).await });
        }
    });
    let filling = async {
        while ours.traffic().unwrap().carries_bytes_per_s.is_none() {
            stream.send.write_all(&[7; 64 << 10]).await.unwrap();
        }
    };
    soon("the link is known", filling).await;
    let greedy = StreamOptions { rate_min: Some(1 << 50), ..Class::Interactive.into() };
    let refused = soon("open", ours.open_stream(greedy)).await.err();
    assert!(matches!(refused, Some(StreamError::InsufficientBandwidth { .. })), "{refused:?}");
    // A service that insists on it sends nothing; one that only wishes for it goes on with what there is.
    let (at_a, at_b) = (Pipes::start(&a).unwrap(), Pipes::start(&b).unwrap());
    b.change_grants(a.id(), vec!["pipe=yes".parse().unwrap()]).await.unwrap();
    let mut taken = at_b.take().unwrap();
    let policy = Policy { name: "greedy".into(), options: greedy, fec: FecChoice::Off };
    let choice = |insist| Some(PolicyChoice { policy: policy.clone(), insist });
    let insisted = soon("a pipe", at_a.open_under(b.id(), choice(true))).await;
    assert!(matches!(insisted, Err(PipeError::Stream(StreamError::InsufficientBandwidth { .. }))));
    let wished = soon("a pipe", at_a.open_under(b.id(), choice(false))).await.unwrap();
    assert_eq!(wished.link.followed_policy(), Some(policy));
    soon("the other end", taken.recv()).await.unwrap();
    draining.abort();
}

macro_rules! on_every_carrier {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(&super::Pair::new(Some(super::MemoryNetwork::new())).await).await; })*
        }
        mod loopback {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { super::$test(&super::Pair::new(None).await).await; })*
        }
    };
}

on_every_carrier!(
    a_stream_asks_and_tells_what_it_went_through,
    a_cap_is_kept_and_can_be_lifted,
    options_that_contradict_themselves_open_nothing,
    a_flow_of_datagrams_arrives_and_ends,
    a_late_datagram_is_dropped_and_counted,
    a_full_queue_warns_and_then_refuses,
    a_policy_is_agreed_and_followed_live,
    changes_at_the_same_time_are_agreed_one_after_the_other,
    everything_of_a_link_follows_a_policy,
);
