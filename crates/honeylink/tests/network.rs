//! The simulated network itself: what it promises to those who test on it.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use honeylink::discovery::Event;
use honeylink::node::ConnectError;
use honeylink::testing::{
    BoxError, Failure, FailureReason, Jitter, NatKind, Network, NetworkBuilder, Stack, check,
};
use honeylink::{Link, Node};

honeylink::virtual_time!();

const PROTOCOL: &str = "test/1";
const STACKS: [Stack; 2] = [Stack::Memory, Stack::Quic];

/// Real QUIC needs a clock that only Linux lets a test put in place.
fn runs_here(stack: Stack) -> bool {
    stack == Stack::Memory || cfg!(target_os = "linux")
}

/// Runs a test on each stack that this system has.
fn on_each_stack(test: impl Fn(NetworkBuilder)) {
    STACKS
        .into_iter()
        .filter(|stack| runs_here(*stack))
        .for_each(|stack| test(Network::builder().stack(stack)));
}

async fn linked(a: &Node, b: &Node) -> Result<(Link, Link), BoxError> {
    let mut listener = b.listen(PROTOCOL)?;
    let ours = a.connect(b.id(), PROTOCOL).await?;
    Ok((ours, listener.accept().await.ok_or("stopped")?))
}

/// Lets virtual time pass.
async fn pass(seconds: u64) {
    // tidy: sleep because it is virtual time, and passing is what it is for
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Five nodes that talk, a partition and a crash: something of everything.
async fn busy(network: &Network) -> Result<(), BoxError> {
    let peers = network.connected_peers(5).await?;
    for round in 0..20_u32 {
        for from in 0..5 {
            for to in (0..5).filter(|to| *to != from) {
                peers[(from, to)].send(vec![7; 1 + usize::try_from(network.draw(2_000))?]).await?;
                let got = peers[(to, from)].recv().await?;
                assert!(!got.is_empty(), "{round}");
            }
        }
        pass(20).await;
    }
    let [a, b, c, d, e] = &peers.nodes[..] else { panic!() };
    network.partition(&[&[a, b], &[c, d]]);
    pass(60).await;
    network.heal();
    pass(60).await;
    network.crash(e)?;
    pass(30).await;
    network.restart("peer-4").await?;
    pass(60).await;
    Ok(())
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_not() -> Result<(), Box<Failure>> {
    let mut prints = Vec::new();
    for seed in [1, 1, 2] {
        prints.push(Network::builder().stack(Stack::Memory).seed(seed).run(|network| async move {
            busy(&network).await?;
            Ok(network.fingerprint())
        })?);
    }
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[0], prints[2]);
    Ok(())
}

/// Not a test of its own: what the test below runs in processes of their own.
#[test]
#[ignore = "run by the test below"]
fn one_run_in_a_process_of_its_own() {
    let print = Network::builder().stack(Stack::Memory).seed(3).run(|network| async move {
        busy(&network).await?;
        Ok(network.fingerprint())
    });
    println!("fingerprint {}", print.unwrap());
}

#[test]
fn the_same_seed_is_the_same_run_in_two_processes() {
    let run = || {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_run_in_a_process_of_its_own", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        said.lines().find(|line| line.contains("fingerprint ")).unwrap().to_owned()
    };
    assert_eq!(run(), run());
}

#[test]
fn ten_minutes_of_five_nodes_take_seconds() -> Result<(), Box<Failure>> {
    for stack in STACKS.into_iter().filter(|stack| runs_here(*stack)) {
        let started = Instant::now();
        let (passed, print) = Network::builder().stack(stack).seed(5).run(|network| async move {
            busy(&network).await?;
            Ok((network.elapsed(), network.fingerprint()))
        })?;
        eprintln!("{stack:?}: {} s of virtual time in {:?}, {print}", passed.as_secs(), started.elapsed());
        assert!(passed > Duration::from_secs(600));
    }
    Ok(())
}

#[test]
fn messages_survive_loss_disorder_and_a_partition_longer_than_a_connection() {
    on_each_stack(|builder| {
        let builder = builder.loss(0.1).jitter(Jitter::Exponential(30_000)).reordering(0.3).duplication(0.1);
        builder
            .check(1..4, |network| async move {
                let [a, b] = network.paired(["a", "b"]).await?;
                let (ours, theirs) = linked(&a, &b).await?;
                for n in 0..200_u32 {
                    if n == 100 {
                        network.partition(&[&[&a], &[&b]]);
                        pass(60).await;
                        network.heal();
                    }
                    ours.send(n.to_be_bytes().to_vec()).await?;
                }
                for n in 0..200_u32 {
                    assert_eq!(theirs.recv().await?, n.to_be_bytes()[..]);
                }
                assert!(network.elapsed() > Duration::from_secs(60));
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn latency_is_what_was_asked_for() {
    on_each_stack(|builder| {
        let rtts = builder.loss(0.0).latency(Duration::from_millis(200)).seed(1).run(|network| async move {
            let [a, b] = network.paired(["a", "b"]).await?;
            let (ours, _theirs) = linked(&a, &b).await?;
            let slow = ours.ping(Duration::from_secs(5)).await?;
            network.link(&a, &b, |lane| lane.latency_us = 5_000);
            pass(5).await;
            Ok((slow, ours.ping(Duration::from_secs(5)).await?))
        });
        let (slow, quick) = rtts.unwrap();
        assert!((400..460).contains(&slow.as_millis()), "{slow:?}");
        assert!((10..40).contains(&quick.as_millis()), "{quick:?}");
    });
}

#[test]
fn healing_restores_what_was_there_before() {
    on_each_stack(|builder| {
        builder
            .check(1..2, |network| async move {
                let [a, b, c] = network.paired(["a", "b", "c"]).await?;
                network.cut(&a, &c);
                network.partition(&[&[&a], &[&b, &c]]);
                assert!(matches!(a.connect("b", PROTOCOL).await, Err(ConnectError::Unreachable { .. })));
                network.heal();
                let (ours, theirs) = linked(&a, &b).await?;
                ours.send("again").await?;
                assert_eq!(theirs.recv().await?, "again");
                assert!(matches!(a.connect("c", PROTOCOL).await, Err(ConnectError::Unreachable { .. })));
                network.mend(&a, &c);
                linked(&a, &c).await?;
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn a_crashed_node_comes_back_as_itself_with_what_it_had_synced() {
    on_each_stack(|builder| {
        builder
            .check(1..4, |network| async move {
                let [a, b] = network.paired(["a", "b"]).await?;
                let (ours, theirs) = linked(&a, &b).await?;
                ours.send("hi").await?;
                theirs.recv().await?;
                let id = b.id();
                network.crash(&b)?;
                assert!(theirs.recv().await.is_err());
                let again = network.restart("b").await?;
                assert_eq!(again.id(), id);
                // The pairing was synced; the link was not.
                let (fresh, far) = linked(&a, &again).await?;
                fresh.send("still paired").await?;
                assert_eq!(far.recv().await?, "still paired");
                assert!(ours.recv().await.is_err());
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn nat_kinds_decide_who_reaches_whom() {
    use NatKind::{Cgnat, Corporate, Home, Open, Public};
    on_each_stack(|builder| {
        let pairs =
            [(Public, Corporate, true), (Home, Home, true), (Cgnat, Open, true), (Corporate, Home, false)];
        for (a, b, reached) in pairs {
            let outcome = builder.clone().seed(1).run(|network| async move {
                let a = network.node("a").behind(&[a]).await?;
                let b = network.node("b").behind(&[b]).await?;
                network.pair(&a, &b)?;
                let Ok((ours, theirs)) = linked(&a, &b).await else { return Ok(false) };
                // The mapping may go while the link is up: it finds another way.
                network.rebind(&a);
                ours.send("behind a new port").await?;
                Ok(theirs.recv().await? == "behind a new port")
            });
            assert_eq!(outcome.unwrap(), reached, "{a:?} {b:?}");
        }
    });
}

#[test]
fn devices_notice_each_other_after_the_delay_and_lose_each_other_in_a_partition() {
    on_each_stack(|builder| {
        builder
            .discovery_delay(Duration::from_secs(3))
            .check(1..2, |network| async move {
                let a = network.node("a").await?;
                let mut events = a.nearby().ok_or("no discovery")?;
                let b = network.node("b").await?;
                let found = async {
                    loop {
                        match events.next().await {
                            Some(Event::Found(device)) => return device.id,
                            Some(_) => {}
                            None => panic!("discovery ended"),
                        }
                    }
                };
                assert_eq!(found.await, b.id());
                assert!(network.elapsed() >= Duration::from_secs(3));
                network.partition(&[&[&a], &[&b]]);
                loop {
                    if let Some(Event::Lost(id)) = events.next().await {
                        assert_eq!(id, b.id());
                        break;
                    }
                }
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn a_failure_names_its_seed_and_shows_the_end_of_the_trace() {
    let failure = check(0..100, |network| async move {
        network.note("before the roll");
        assert!(network.draw(10) != 3, "rolled a three");
        Ok(())
    });
    let failure = failure.unwrap_err();
    assert!(matches!(&failure.reason, FailureReason::Panicked(words) if words.contains("rolled a three")));
    let text = failure.to_string();
    assert!(text.contains(&format!("HONEYLINK_SEED={}", failure.seed)), "{text}");
    assert!(text.contains("before the roll"), "{text}");
    // What failed fails again.
    let again = Network::builder().seed(failure.seed).run(|network| async move { Ok(network.draw(10)) });
    assert_eq!(again.unwrap(), 3);
}

#[test]
fn a_test_that_hangs_ends_at_its_limit() {
    let limit = Duration::from_secs(30);
    let hung = Network::builder().time_limit(limit).run(|_| std::future::pending::<Result<(), BoxError>>());
    assert!(matches!(hung.unwrap_err().reason, FailureReason::TooLong(after) if after == limit));
}

#[test]
fn a_close_is_answered_though_the_answer_waits_behind_all_that_a_slow_link_holds() {
    on_each_stack(|network| {
        let network = network.seed(3).bandwidth(2_000_000);
        let outcome = network.run(|network| async move {
            let (a, b) = (network.node("a").await?, network.node("b").await?);
            network.pair(&a, &b)?;
            let (ours, theirs) = linked(&a, &b).await?;
            ours.send("the only one").await?;
            // What waits before the answer takes half a minute of this link and more.
            let message = vec![7; 64 << 10];
            while tokio::time::timeout(Duration::from_secs(1), theirs.send(message.clone())).await.is_ok() {}
            ours.close("bye").await?;
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("{failure}");
        }
    });
}
