//! Devices that cannot reach each other, and a third that carries their packets: on the simulated network, with real QUIC in
//! virtual time.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use honeylink::store::grants::GrantChange;
use honeylink::testing::{BoxError, NatKind, Network, NetworkBuilder, Stack};
use honeylink::{Link, Node, Rung};

honeylink::virtual_time!();

const PROTOCOL: &str = "ferried/1";
/// In virtual time.
const PATIENCE: Duration = Duration::from_secs(300);

fn network() -> NetworkBuilder {
    Network::builder().stack(Stack::Quic).loss(0.0)
}

/// Waits, in virtual time, until something is so.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            // tidy: sleep because it is virtual time, and what is waited for tells nobody
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

async fn grant(ferry: &Node, guest: &Node, yes: bool) {
    ferry.change_grants(guest.id(), vec![GrantChange::Relay(yes)]).await.unwrap();
}

/// A device that has `ferry` carry for it.
async fn guest(network: &Network, name: &str, behind: &[NatKind]) -> Result<Node, BoxError> {
    let spot = network.node(name).behind(behind);
    Ok(spot.configure(|builder| builder.relay_peers(["ferry"])).await?)
}

/// Two devices `a` and `b` behind the same kind of box, and one that both can reach, all paired.
async fn three(network: &Network, behind: &[NatKind]) -> Result<[Node; 3], BoxError> {
    let nodes = [
        guest(network, "a", behind).await?,
        guest(network, "b", behind).await?,
        network.node("ferry").await?,
    ];
    let [a, b, ferry] = &nodes;
    for (one, other) in [(a, b), (a, ferry), (b, ferry)] {
        network.pair(one, other)?;
    }
    Ok(nodes)
}

async fn aboard(guests: [&Node; 2]) {
    for guest in guests {
        until("a guest is connected", || guest.relay_peers()[0].connected).await;
    }
}

async fn linked(a: &Node, b: &Node) -> Result<(Link, Link), BoxError> {
    let mut listener = b.listen(PROTOCOL)?;
    let ours = a.connect(b.id(), PROTOCOL).await?;
    Ok((ours, listener.accept().await.ok_or("stopped")?))
}

async fn talk(ours: &Link, theirs: &Link, numbers: std::ops::Range<u32>) -> Result<(), BoxError> {
    for number in numbers {
        ours.send(number.to_be_bytes().to_vec()).await?;
        assert_eq!(theirs.recv().await?[..], number.to_be_bytes());
        theirs.send(number.to_be_bytes().to_vec()).await?;
        assert_eq!(ours.recv().await?[..], number.to_be_bytes());
    }
    Ok(())
}

#[test]
fn two_devices_behind_hard_nats_are_linked_through_a_third_and_the_way_says_so() {
    let run = network().check(1..4, |network| async move {
        let [a, b, ferry] = three(&network, &[NatKind::Corporate]).await?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        aboard([&a, &b]).await;
        let (ours, theirs) = linked(&a, &b).await?;
        talk(&ours, &theirs, 0..50).await?;
        for (here, there) in [(&a, &b), (&b, &a)] {
            let used = here.ways(&there.id()).used.ok_or("no way")?;
            assert_eq!((used.rung, &used.remote[..]), (Rung::Relayed, "by ferry"));
            assert_eq!(here.relay_peers()[0].crossings, 1);
        }
        let report = ferry.ferry();
        assert_eq!((report.guests, report.crossings), (2, 1));
        assert!(report.packets > 100 && report.dropped_rate == 0, "{report:?}");
        // It carries their packets and is no party to their connection.
        assert!(ferry.connected().is_empty(), "{:?}", ferry.connected());
        Ok(())
    });
    run.unwrap();
}

#[test]
fn a_guest_notices_soon_that_nothing_is_heard_of_its_ferry_and_comes_aboard_anew() {
    let run = network().check(1..6, |network| async move {
        let [a, b, ferry] = three(&network, &[NatKind::Corporate]).await?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        aboard([&a, &b]).await;
        let cut = tokio::time::Instant::now();
        network.cut(&a, &ferry);
        until("it is noticed", || !a.relay_peers()[0].connected).await;
        // QUIC's own time-out is six seconds.
        assert!(cut.elapsed() < Duration::from_secs(3), "after {:?}", cut.elapsed());
        assert!(b.relay_peers()[0].connected, "the other one is not concerned");
        network.mend(&a, &ferry);
        aboard([&a, &b]).await;
        let (ours, theirs) = linked(&a, &b).await?;
        talk(&ours, &theirs, 0..5).await
    });
    run.unwrap();
}

#[test]
fn devices_that_have_just_been_switched_on_do_not_wait_for_a_refusal() {
    let run = network().check(1..6, |network| async move {
        let [a, b, ferry] = three(&network, &[NatKind::Corporate]).await?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        // Neither is aboard yet, and what is told of the other leads nowhere.
        let began = tokio::time::Instant::now();
        let (ours, theirs) = linked(&a, &b).await?;
        talk(&ours, &theirs, 0..1).await?;
        let took = began.elapsed();
        assert!(took < Duration::from_millis(2500), "{took:?}");
        Ok(())
    });
    run.unwrap();
}

#[test]
fn a_megabyte_goes_through_a_third_device_whole() {
    let run = network().check(1..3, |network| async move {
        let [a, b, ferry] = three(&network, &[NatKind::Corporate]).await?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        aboard([&a, &b]).await;
        let (ours, theirs) = linked(&a, &b).await?;
        for size in [100_000, 1_000_000] {
            let message: Vec<u8> = (0..size).map(|at: u32| at.to_be_bytes()[3]).collect();
            let (sent, heard) = tokio::join!(ours.send(message.clone()), theirs.recv());
            sent?;
            assert_eq!(heard?, message);
        }
        Ok(())
    });
    run.unwrap();
}

#[test]
fn who_is_not_granted_relay_is_carried_nowhere_and_the_other_hears_nothing() {
    let run = network().check(1..3, |network| async move {
        let [a, b, ferry] = three(&network, &[NatKind::Corporate]).await?;
        grant(&ferry, &a, true).await;
        until("the ferry's word", || {
            b.relay_peers()[0].problem.as_ref().is_some_and(|problem| problem.contains("relay=yes"))
        })
        .await;
        until("a is connected", || a.relay_peers()[0].connected).await;
        assert!(a.connect(b.id(), PROTOCOL).await.is_err());
        let report = ferry.ferry();
        assert!(report.asked > 0 && report.agreed == 0 && report.packets == 0, "{report:?}");
        assert_eq!(b.ferry().ferried, honeylink::node::FerriedCounts::default());
        Ok(())
    });
    run.unwrap();
}

#[test]
fn a_grant_that_is_taken_back_ends_the_way_and_given_again_brings_it_back() {
    let run = network().check(1..3, |network| async move {
        let [a, b, ferry] = three(&network, &[NatKind::Corporate]).await?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        aboard([&a, &b]).await;
        let (ours, theirs) = linked(&a, &b).await?;
        talk(&ours, &theirs, 0..10).await?;
        grant(&ferry, &b, false).await;
        until("b is turned away", || !b.relay_peers()[0].connected).await;
        assert_eq!((ferry.ferry().guests, ferry.ferry().crossings), (1, 0));
        let carried = ferry.ferry().packets;
        ours.send("later").await?;
        until("a has no way", || a.ways(&b.id()).used.is_none()).await;
        assert_eq!(ferry.ferry().packets, carried);
        grant(&ferry, &b, true).await;
        assert_eq!(tokio::time::timeout(PATIENCE, theirs.recv()).await??, "later");
        Ok(())
    });
    run.unwrap();
}

#[test]
fn a_link_goes_on_when_the_device_that_carries_it_was_killed_and_started_again() {
    let run = network().check(1..3, |network| async move {
        let [a, b, ferry] = three(&network, &[NatKind::Corporate]).await?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        aboard([&a, &b]).await;
        let (ours, theirs) = linked(&a, &b).await?;
        talk(&ours, &theirs, 0..10).await?;
        network.crash(&ferry)?;
        ours.send("while it was away").await?;
        network.restart("ferry").await?;
        assert_eq!(tokio::time::timeout(PATIENCE, theirs.recv()).await??, "while it was away");
        talk(&ours, &theirs, 10..20).await?;
        Ok(())
    });
    run.unwrap();
}

#[test]
fn a_direct_way_is_used_where_there_is_one_and_a_third_device_when_it_breaks() {
    let run = network().check(1..3, |network| async move {
        let [a, b, ferry] = three(&network, &[]).await?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        aboard([&a, &b]).await;
        let (ours, theirs) = linked(&a, &b).await?;
        talk(&ours, &theirs, 0..10).await?;
        assert_eq!((ferry.ferry().asked, ferry.ferry().packets), (0, 0));
        network.cut(&a, &b);
        talk(&ours, &theirs, 10..20).await?;
        let used = a.ways(&b.id()).used.ok_or("no way")?;
        assert_eq!((used.rung, &used.remote[..]), (Rung::Relayed, "by ferry"));
        Ok(())
    });
    run.unwrap();
}

#[test]
fn a_device_that_is_not_paired_with_the_asker_is_not_reached_and_not_told_of() {
    let run = network().check(1..3, |network| async move {
        let a = guest(&network, "a", &[NatKind::Corporate]).await?;
        let b = guest(&network, "b", &[NatKind::Corporate]).await?;
        let ferry = network.node("ferry").await?;
        network.pair(&a, &ferry)?;
        network.pair(&b, &ferry)?;
        // Only a knows b: it may ask, and b does not want.
        honeylink::testing::know(&a, b.id())?;
        grant(&ferry, &a, true).await;
        grant(&ferry, &b, true).await;
        aboard([&a, &b]).await;
        assert!(a.connect(b.id(), PROTOCOL).await.is_err());
        let report = ferry.ferry();
        assert!(report.asked > 0 && report.agreed == 0 && report.packets == 0, "{report:?}");
        assert_eq!(b.ferry().ferried.received, 0);
        Ok(())
    });
    run.unwrap();
}
