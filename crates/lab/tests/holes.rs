//! Holes through NAT boxes of the kernel: real nodes, each in a network namespace behind a box of its own.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "says why it is skipped")]

#[path = "../src/holes/punch.rs"]
mod punch;
#[path = "../src/holes/world.rs"]
mod world;

use std::time::Duration;

use honeylink::Rung;
use honeylink::nat::{Mapping, NatReport, NotPunched};

use punch::Pair;
use world::{Kind, World};

type Trouble = Box<dyn std::error::Error + Send + Sync>;

const PATIENCE: Duration = Duration::from_secs(90);

/// Whether there are NAT boxes here; says so if not.
fn boxes() -> bool {
    match world::possible() {
        Ok(()) => true,
        Err(why) => {
            eprintln!("skipped: {why}");
            false
        }
    }
}

/// Waits until what the first device reports of NATs is as `wanted`. A link is seen on its new path before the attempt that made
/// it is over and counted, so reports are waited for, not looked at.
fn until_nat(world: &World, pair: &Pair, wanted: fn(&NatReport) -> bool) -> Result<NatReport, Trouble> {
    let node = pair.here.clone();
    let waiting = async move {
        loop {
            if let Some(nat) = node.nat().filter(wanted) {
                return nat;
            }
            // tidy: sleep because a report is a state that is looked at, not an event.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    Ok(world.run(0, async move { tokio::time::timeout(PATIENCE, waiting).await })??)
}

#[test]
fn a_link_moves_off_the_relay_through_a_box_with_random_ports_and_outlives_the_relay() {
    if !boxes() {
        return;
    }
    let world = World::new([Kind::Random, Kind::Home]).unwrap();
    let pair = Pair::link(&world).unwrap();
    pair.until(&world, Rung::Punched, PATIENCE).unwrap().unwrap();
    let nat = pair.here.nat().unwrap();
    assert!(nat.behavior.mapping.is_dependent(), "{}", nat.behavior);
    assert_eq!(pair.there.nat().unwrap().behavior.mapping, Mapping::EndpointIndependent);
    assert!(pair.probes() <= 2 * 2048);
    world.set_passing(false);
    assert!(pair.echo(&world, 50).unwrap());
    let reason = pair.here.ways(&pair.there.id()).reason.unwrap();
    assert!(reason.contains("chosen over relayed"), "{reason}");
    pair.end(&world).unwrap();
}

#[test]
fn a_hole_that_a_restarted_box_forgot_is_made_again_and_no_message_is_lost() {
    if !boxes() {
        return;
    }
    let world = World::new([Kind::Random, Kind::Home]).unwrap();
    let pair = Pair::link(&world).unwrap();
    pair.until(&world, Rung::Punched, PATIENCE).unwrap().unwrap();
    // What leaves now has another port, which the other box does not let in.
    world.restart_box().unwrap();
    assert!(pair.echo(&world, 50).unwrap());
    pair.until(&world, Rung::Relayed, PATIENCE).unwrap().unwrap();
    pair.until(&world, Rung::Punched, PATIENCE).unwrap().unwrap();
    until_nat(&world, &pair, |nat| nat.attempts >= 2).unwrap();
    world.set_passing(false);
    assert!(pair.echo(&world, 50).unwrap());
    pair.end(&world).unwrap();
}

#[test]
fn two_boxes_with_random_ports_stay_on_the_relay_and_the_link_says_why() {
    if !boxes() {
        return;
    }
    let world = World::new([Kind::Random, Kind::Random]).unwrap();
    let pair = Pair::link(&world).unwrap();
    pair.until(&world, Rung::Relayed, PATIENCE).unwrap().unwrap();
    let peer = pair.there.id();
    // On a busy machine an attempt may end before it comes to a plan; another follows.
    let planless = |nat: &NatReport| {
        nat.latest.first().is_some_and(|latest| matches!(latest.result, Err(NotPunched::NoPlan(_))))
    };
    let latest = until_nat(&world, &pair, planless).unwrap().latest.remove(0);
    let reason = pair.here.ways(&peer).reason.unwrap();
    assert!(reason.contains("random ports"), "{reason}");
    assert_eq!(latest.probes, 0, "nothing was sent in vain");
    assert!(pair.echo(&world, 20).unwrap());
    assert_eq!(latest.peer, peer);
    pair.end(&world).unwrap();
}
