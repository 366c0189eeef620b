//! Store and forward, told as stories in the small network of [`super::net`].

use super::frame::{CustodyAccepted, Frame};
use super::hint::Near;
use super::net::{Net, RADIO};
use super::*;
use core::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// A row in which the last is away, and a message for it from the first on which nobody but `keeper` answers.
fn kept_at(keeper: usize, n: usize, seed: u64) -> Net {
    let mut net = Net::row(n, seed);
    net.stores(keeper);
    net.nodes[n - 1].up = false;
    net.send_for(0, n - 1, 7, 24 * HOUR);
    net.run(minutes(30));
    assert!(net.has(0, 7, Step::Stored), "{:?}", net.nodes[0].steps);
    net
}

#[test]
fn a_message_for_a_device_that_is_away_is_kept_and_handed_over_while_its_sender_is_away() {
    let mut net = kept_at(1, 3, 1);
    assert_eq!(net.nodes[1].mesh.snapshot(net.now).kept, 1);
    net.nodes[0].up = false;
    net.run(HOUR);
    net.nodes[2].up = true;
    net.send(2, 1, 50);
    net.run(minutes(2));
    assert_eq!(net.delivered(2, 7), 1, "the one who keeps it has heard of its target");
    assert_eq!(net.nodes[1].mesh.snapshot(net.now).kept, 0, "and lets go of it after the receipt");
    net.nodes[0].up = true;
    net.run(2 * HOUR);
    assert!(net.has(0, 7, Step::Delivered), "the sender asks, and gets the target's own receipt");
    assert_eq!(net.delivered(2, 7), 1);
}

#[test]
fn a_message_after_one_that_is_kept_is_kept_too_without_another_search() {
    let mut net = kept_at(1, 3, 10);
    net.send_for(0, 2, 8, 24 * HOUR);
    net.run(minutes(1));
    assert!(net.has(0, 8, Step::Stored), "{:?}", net.nodes[0].steps);
    let keeper = Some(net.id(1));
    assert_eq!((net.nodes[0].mesh.keeper(7), net.nodes[0].mesh.keeper(8)), (keeper, keeper));
    let to = hint::Address::of(&net.id(2));
    assert_eq!(net.nodes[0].mesh.trace(net.now, to).keepers, [net.id(1)]);
}

#[test]
fn many_messages_to_a_device_that_left_are_kept_one_after_the_other() {
    let mut net = Net::new(3, 12);
    net.stores(1);
    net.line(0, 1);
    net.line(1, 2);
    net.send(0, 2, 1);
    net.run(minutes(1));
    assert!(net.has(0, 1, Step::Delivered), "a way is known");
    net.cut(1);
    net.nodes[2].up = false;
    for id in 2..8 {
        net.send_for(0, 2, id, 24 * HOUR);
        net.run(Duration::from_secs(if id == 2 { 600 } else { 10 }));
        assert!(net.has(0, id, Step::Stored), "{id}: {:?}", net.nodes[0].steps);
    }
}

#[test]
fn what_was_accepted_survives_the_power_cut_of_whoever_keeps_it() {
    let mut net = kept_at(1, 3, 2);
    net.nodes[0].up = false;
    net.restart(1);
    assert_eq!(net.nodes[1].mesh.snapshot(net.now).kept, 1);
    net.nodes[2].up = true;
    net.send(2, 1, 50);
    net.run(minutes(2));
    assert_eq!(net.delivered(2, 7), 1);
}

#[test]
fn a_target_that_says_nothing_is_found_now_and_then() {
    let mut net = kept_at(1, 3, 3);
    net.nodes[0].up = false;
    net.nodes[2].up = true;
    net.run(3 * HOUR);
    assert_eq!(net.delivered(2, 7), 1);
    assert!(net.transmissions < 80, "{} transmissions", net.transmissions);
}

#[test]
fn a_relay_on_the_way_keeps_what_cannot_go_on_and_the_sender_hears_of_it() {
    let mut net = Net::row(5, 4);
    net.stores(2);
    net.send(0, 4, 1);
    net.run(minutes(2));
    assert!(net.has(0, 1, Step::Delivered));
    net.nodes[4].up = false;
    net.send_for(0, 4, 7, 24 * HOUR);
    net.run(minutes(60));
    assert!(net.has(0, 7, Step::Stored), "{:?}", net.nodes[0].steps);
    net.nodes[4].up = true;
    net.send(4, 3, 50);
    net.run(3 * HOUR);
    assert_eq!(net.delivered(4, 7), 1);
    assert!(net.has(0, 7, Step::Delivered), "{:?}", net.nodes[0].steps);
}

#[test]
fn a_store_two_hops_away_is_found_by_whoever_heard_it_announce_itself() {
    let mut net = Net::with(4, 8, Config::default());
    for index in 1..4 {
        net.hear(index - 1, index);
    }
    net.stores(2);
    net.nodes[3].up = false;
    // Long enough that ways learned from announces are forgotten.
    net.run(HOUR);
    net.send_for(0, 3, 7, 24 * HOUR);
    net.run(minutes(30));
    assert!(net.has(0, 7, Step::Stored), "{:?}", net.nodes[0].steps);
    assert_eq!(net.nodes[1].mesh.snapshot(net.now).kept, 0, "its neighbour does not store");
    assert_eq!(net.nodes[2].mesh.snapshot(net.now).kept, 1);
    net.nodes[0].up = false;
    net.nodes[3].up = true;
    net.run(2 * HOUR);
    assert_eq!(net.delivered(3, 7), 1);
}

#[test]
fn a_target_that_stores_is_not_the_store_to_turn_to_when_it_is_away() {
    let mut net = Net::with(3, 12, Config::default());
    net.hear(0, 1);
    net.hear(1, 2);
    net.stores(2);
    net.run(HOUR);
    net.nodes[2].up = false;
    net.transmissions = 0;
    net.send_for(0, 2, 7, 24 * HOUR);
    net.run(HOUR);
    assert!(net.transmissions < 400, "{} transmissions", net.transmissions);
    net.nodes[2].up = true;
    net.run(2 * HOUR);
    assert_eq!(net.delivered(2, 7), 1);
}

#[test]
fn a_store_is_reached_over_several_lines() {
    let mut net = Net::with(6, 9, Config::default());
    for index in 1..5 {
        net.line(index - 1, index);
    }
    net.stores(4);
    net.run(minutes(25));
    net.send_for(0, 5, 7, 24 * HOUR);
    net.run(minutes(30));
    assert!(net.has(0, 7, Step::Stored), "{:?}", net.nodes[0].steps);
    assert_eq!(net.nodes[4].mesh.snapshot(net.now).kept, 1);
    net.nodes[0].up = false;
    net.line(4, 5);
    net.run(minutes(2));
    assert_eq!(net.delivered(5, 7), 1);
}

#[test]
fn a_line_that_comes_up_brings_what_was_kept() {
    let mut net = Net::new(3, 5);
    net.stores(1);
    net.line(0, 1);
    net.send_for(0, 2, 7, 24 * HOUR);
    net.run(minutes(20));
    assert!(net.has(0, 7, Step::Stored), "{:?}", net.nodes[0].steps);
    net.nodes[0].up = false;
    net.line(1, 2);
    net.run(Duration::from_secs(30));
    assert_eq!(net.delivered(2, 7), 1);
}

#[test]
fn an_acceptance_that_nobody_proves_is_not_believed() {
    let mut net = Net::row(3, 6);
    net.nodes[2].up = false;
    net.send_for(0, 2, 7, 24 * HOUR);
    net.run(minutes(10));
    let frames: Vec<_> =
        net.log.iter().filter(|(from, bytes)| *from == 0 && bytes[0] >> 4 == 4).cloned().collect();
    assert!(!frames.is_empty(), "it was offered");
    let (next, prev) = (Near::from(&net.id(0)), Near::from(&net.id(1)));
    for (_, bytes) in frames {
        let frame = frame::identity(&bytes).unwrap();
        let forged = Frame::CustodyAccepted(CustodyAccepted { next, prev, frame, mac: [7; 8] });
        net.input(0, Input::Frame { port: RADIO, bytes: forged.to_bytes().freeze(), quality: None });
    }
    assert!(!net.has(0, 7, Step::Stored));
    assert!(net.nodes[0].mesh.stats().dropped(Dropped::Forged) > 0);
}

#[test]
fn a_keeper_that_throws_messages_away_delays_them_and_no_more() {
    let mut net = kept_at(1, 3, 11);
    net.wipe(1);
    net.nodes[2].up = true;
    net.run(3 * HOUR);
    assert_eq!(net.delivered(2, 7), 1, "nobody's word but the target's ends a message");
    assert!(net.has(0, 7, Step::Delivered));
}

#[test]
fn what_is_handed_on_may_be_kept_for_as_long_as_is_left_and_no_longer() {
    let mut net = kept_at(1, 3, 8);
    net.nodes[0].up = false;
    net.run(12 * HOUR);
    net.log.clear();
    net.run(2 * HOUR);
    let handed: Vec<_> = net
        .log
        .iter()
        .filter_map(|(from, bytes)| match Frame::decode(bytes, frame::PortKind::Broadcast) {
            Ok(Frame::Data(data)) if *from == 1 => Some(data.keep.unwrap().span()),
            _ => None,
        })
        .collect();
    assert!(!handed.is_empty());
    assert!(handed.iter().all(|span| (8 * HOUR..12 * HOUR).contains(span)), "{handed:?}");
    net.nodes[2].up = true;
    net.send(2, 1, 50);
    net.run(minutes(2));
    assert_eq!(net.delivered(2, 7), 1, "what it says of its time is not what its target checks");
}

#[test]
fn two_neighbours_with_two_links_do_not_pass_one_acceptance_to_and_fro() {
    let mut net = Net::row(2, 9);
    net.line(0, 1);
    // Each has the message from the other, by the other link.
    let (source, number, frame) = (hint::Far([1, 2, 3]), 7, [9; 8]);
    for (node, other, port) in [(0, 1, PortId(1)), (1, 0, RADIO)] {
        let from = (port, Near::from(&net.id(other)));
        let now = net.now;
        net.nodes[node].mesh.memory.drop_crumb(now, source, number, frame, from);
    }
    let (next, prev) = (Near::from(&net.id(0)), Near::from(&net.id(1)));
    let mut accepted = CustodyAccepted { next, prev, frame, mac: Default::default() };
    keys::Pairwise::new(&net.nodes[1].key, &net.id(0)).unwrap().attest(&mut accepted);
    let bytes = Frame::CustodyAccepted(accepted).to_bytes().freeze();
    net.log.clear();
    net.input(0, Input::Frame { port: RADIO, bytes, quality: None });
    net.run(minutes(10));
    let said = net.log.iter().filter(|(_, bytes)| bytes[0] >> 4 == frame::Kind::CustodyAccepted as u8);
    assert_eq!(said.count(), 2, "each says it once");
}

#[test]
fn a_short_message_is_given_to_nobody() {
    let mut net = Net::row(3, 7);
    net.stores(1);
    net.nodes[2].up = false;
    net.send_for(0, 2, 7, minutes(4));
    net.run(minutes(5));
    assert!(!net.has(0, 7, Step::Stored));
    assert!(net.has(0, 7, Step::Failed(Failure::Expired)));
}
