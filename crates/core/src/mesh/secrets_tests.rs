//! What ratchets promise, in the small network of [`super::net`]: messages get forward secrecy, and none is lost for it.

use super::frame::{Data, Frame, Hop, Kind, PortKind, Priority};
use super::hint::{Far, Near};
use super::keys::{Root, Starts};
use super::net::{Net, RADIO};
use super::records::Table;
use super::*;
use bytes::Bytes;
use core::time::Duration;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Two neighbours that hear each other by radio and have a line, too, unless it is cut.
fn pair(seed: u64) -> Net {
    let mut net = Net::with(2, seed, Config { exchange_after: 4, ..Config::default() });
    net.hear(0, 1);
    net
}

/// A session of nodes 0 and 1: both learn a root and each other's next number.
fn meet(net: &mut Net, root: u8) {
    let numbers = [0, 1].map(|node| net.nodes[node].mesh.next_number());
    for (node, other) in [(0, 1), (1, 0)] {
        let starts = Starts { ours: numbers[node], theirs: numbers[other] };
        let root = Root::from_session([root; 32]);
        net.input(node, Input::Root { peer: net.id(other), root, starts });
    }
}

/// Of the data that a node sent as its origin: how many were sealed with a ratchet, and how many were not.
fn sealed(net: &Net, node: usize) -> (usize, usize) {
    let mut seen = std::collections::BTreeMap::new();
    for (_, bytes) in net.log.iter().filter(|(from, _)| *from == node) {
        if let Ok(Frame::Data(data)) = Frame::decode(bytes, PortKind::PointToPoint)
            && data.src == Far::from(&net.id(node))
        {
            seen.insert(data.seq, data.ratcheted);
        }
    }
    let with = seen.values().filter(|ratcheted| **ratcheted).count();
    (with, seen.len() - with)
}

fn sent(net: &Net, kind: Kind) -> usize {
    net.log.iter().filter(|(_, bytes)| Kind::of(bytes[0]) == Some(kind)).count()
}

#[test]
fn after_a_meeting_messages_over_radio_have_forward_secrecy() {
    let mut net = pair(1);
    net.line(0, 1);
    meet(&mut net, 7);
    net.run(seconds(30));
    net.cut(0);
    net.log.clear();
    for id in 0..3 {
        net.send(0, 1, id);
        net.send(1, 0, 10 + id);
        net.run(seconds(60));
    }
    assert_eq!((sealed(&net, 0), sealed(&net, 1)), ((3, 0), (3, 0)));
    assert!((0..3).all(|id| net.delivered(1, id) == 1 && net.delivered(0, 10 + id) == 1));
}

#[test]
fn a_meeting_that_only_one_end_remembers_costs_no_message() {
    let mut net = Net::with(2, 1, Config { exchange_after: 100, ..Config::default() });
    net.hear(0, 1);
    let starts = Starts { ours: 0, theirs: 0 };
    let root = Root::from_session([7; 32]);
    net.input(0, Input::Root { peer: net.id(1), root, starts });
    for id in 0..3 {
        net.send(0, 1, id);
        net.send(1, 0, 10 + id);
        net.run(seconds(60));
    }
    assert!((0..3).all(|id| net.has(0, id, Step::Delivered) && net.has(1, 10 + id, Step::Delivered)));
    assert_eq!(sealed(&net, 0).0, 0, "nothing is sealed with what the other does not have");
}

#[test]
fn no_crash_of_either_end_at_any_moment_loses_a_message() {
    for at in 0..40 {
        for victim in [0, 1] {
            let mut net = pair(at);
            net.line(0, 1);
            net.send(0, 1, 1);
            meet(&mut net, 7);
            net.run(Duration::from_millis(3 * at));
            net.restart(victim);
            net.run(seconds(5));
            meet(&mut net, 8);
            net.run(Duration::from_millis(2 * at));
            net.restart(1 - victim);
            for id in 2..5 {
                net.send(0, 1, id);
                net.send(1, 0, 10 + id);
                net.run(seconds(120));
            }
            for id in 2..5 {
                assert_eq!(net.delivered(1, id), 1, "{at} {victim} {id}: {:?}", net.nodes[0].steps);
                assert_eq!(net.delivered(0, 10 + id), 1, "{at} {victim} {id}: {:?}", net.nodes[1].steps);
            }
        }
    }
}

#[test]
fn messages_of_many_blocks_keep_their_ratchet_across_restarts_of_both_ends() {
    let mut net = pair(3);
    net.line(0, 1);
    meet(&mut net, 7);
    net.run(seconds(30));
    net.log.clear();
    for id in 0..200 {
        net.send(0, 1, id);
        net.run(seconds(5));
        if id % 60 == 59 {
            net.restart(usize::from(id % 120 == 59));
            net.run(seconds(90));
        }
    }
    net.run(seconds(600));
    assert!((0..200).all(|id| net.delivered(1, id) == 1));
    let (with, without) = sealed(&net, 0);
    assert!(with >= 198 && without <= 2, "{with} with, {without} without");
}

#[test]
fn two_that_never_met_exchange_keys_when_a_conversation_bears_it() {
    for radio_only in [false, true] {
        let mut net = pair(5);
        if !radio_only {
            net.line(0, 1);
            net.run(seconds(5));
        }
        for id in 0..10 {
            net.send(0, 1, id);
            net.run(seconds(60));
        }
        let (with, without) = sealed(&net, 0);
        let plain = if radio_only { 4 } else { 1 };
        assert_eq!((with, without), (10 - plain, plain), "radio only: {radio_only}");
        assert_eq!(sent(&net, Kind::Signed), 2, "an offer and an answer");
        assert!((0..10).all(|id| net.delivered(1, id) == 1));
        net.log.clear();
        net.send(1, 0, 99);
        net.run(seconds(60));
        assert_eq!(sealed(&net, 1), (1, 0), "the other way, too");
    }
}

#[test]
fn an_offer_crosses_relays_and_survives_loss() {
    let mut net = Net::with(4, 9, Config { exchange_after: 2, announces: false, ..Config::default() });
    for n in 1..4 {
        net.hear(n - 1, n);
    }
    net.loss_percent = 15;
    for id in 0..12 {
        net.send(0, 3, id);
        net.run(seconds(900));
    }
    assert!((0..12).all(|id| net.delivered(3, id) == 1));
    assert!(sealed(&net, 0).0 > 0, "{:?}", sealed(&net, 0));
}

#[test]
fn when_both_offer_at_once_one_offer_stands_and_both_ends_agree() {
    let mut net = pair(5);
    net.line(0, 1);
    net.run(seconds(5));
    net.send(0, 1, 0);
    net.send(1, 0, 1);
    net.run(seconds(60));
    net.log.clear();
    for id in 2..6 {
        net.send(0, 1, id);
        net.send(1, 0, 10 + id);
        net.run(seconds(60));
    }
    assert!((2..6).all(|id| net.delivered(1, id) == 1 && net.delivered(0, 10 + id) == 1));
    // Who answered seals with the new ratchet once something came that was sealed with it.
    let plain = sealed(&net, 0).1 + sealed(&net, 1).1;
    assert!(plain <= 1, "{plain} without a ratchet");
}

#[test]
fn a_device_that_lost_its_disk_gets_its_messages_all_the_same() {
    let mut net = pair(1);
    net.line(0, 1);
    meet(&mut net, 7);
    net.run(seconds(30));
    net.send(0, 1, 1);
    net.run(seconds(30));
    assert_eq!(sealed(&net, 0), (1, 0));
    net.wipe(1);
    net.run(seconds(90));
    for id in 2..5 {
        net.send(0, 1, id);
        net.run(seconds(300));
        assert_eq!(net.delivered(1, id), 1, "{id} {:?}", net.nodes[0].steps);
        assert!(net.has(0, id, Step::Delivered));
    }
}

#[test]
fn noise_with_the_mark_of_a_ratchet_makes_nobody_do_without_one() {
    let mut net = pair(1);
    net.line(0, 1);
    meet(&mut net, 7);
    net.run(seconds(30));
    net.log.clear();
    let number = net.nodes[0].mesh.next_number();
    for seq in number..number + 20 {
        let noise = Data {
            hop: Hop::first(Priority::Normal),
            next: Near::from(&net.id(1)),
            prev: Near::from(&net.id(0)),
            dst: Far::from(&net.id(1)),
            src: Far::from(&net.id(0)),
            seq,
            receipt: true,
            ratcheted: true,
            fragment: None,
            keep: None,
            payload: Bytes::from_static(b"noise"),
            mac: [9; 8],
        };
        let bytes = Frame::Data(noise).to_bytes().freeze();
        net.input(1, Input::Frame { port: RADIO, bytes, quality: None });
    }
    net.run(seconds(30));
    assert_eq!(sent(&net, Kind::Signed), 0, "nothing was said to be lost");
    net.send(0, 1, 1);
    net.run(seconds(60));
    assert_eq!((net.delivered(1, 1), sealed(&net, 0)), (1, (1, 0)));
}

#[test]
fn a_device_that_is_forgotten_is_a_stranger_and_its_ratchets_are_erased() {
    let mut net = pair(1);
    net.line(0, 1);
    meet(&mut net, 7);
    net.run(seconds(30));
    assert_eq!(net.saved(0, Table::Ratchet), 1);
    net.nodes[1].up = false;
    net.send(0, 1, 1);
    net.run(seconds(10));
    net.input(0, Input::Forget(net.id(1)));
    assert!(net.has(0, 1, Step::Failed(Failure::Forgotten)));
    net.run(seconds(1));
    net.input(0, Input::AnnounceNow);
    net.run(seconds(1));
    assert_eq!(net.saved(0, Table::Ratchet), 0);
    net.nodes[1].up = true;
    let before = net.nodes[0].mesh.stats().dropped(Dropped::Stranger);
    net.send(1, 0, 2);
    net.run(seconds(60));
    assert_eq!(net.delivered(0, 2), 0);
    assert!(net.nodes[0].mesh.stats().dropped(Dropped::Stranger) > before);
    // Paired again: static keys, until they meet; what was said before is not taken twice.
    net.input(0, Input::Know(net.id(1)));
    meet(&mut net, 9);
    net.run(seconds(600));
    net.send(1, 0, 3);
    net.run(seconds(1800));
    assert_eq!((net.delivered(0, 2), net.delivered(0, 3)), (1, 1), "{:?}", net.nodes[1].steps);
}
