//! The mesh's promises, told as stories in the small network of [`super::net`].

use super::frame::Frame;
use super::net::{Net, RADIO};
use super::*;
use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[test]
fn a_neighbour_gets_a_message_and_its_sender_the_receipt() {
    let mut net = Net::row(2, 1);
    net.send(0, 1, 7);
    net.run(minutes(1));
    assert_eq!(net.delivered(1, 7), 1);
    assert!(net.has(0, 7, Step::Delivered), "{:?}", net.nodes[0].steps);
}

#[test]
fn a_receipt_whose_way_went_down_while_the_disk_wrote_goes_another() {
    let mut net = Net::new(2, 1);
    net.line(0, 1);
    net.run(minutes(1));
    net.send(0, 1, 7);
    for _ in 0..10_000 {
        if net.delivered(1, 7) == 1 {
            break;
        }
        net.run(Duration::from_millis(1));
    }
    assert!(!net.has(0, 7, Step::Delivered), "its receipt waits for the disk");
    net.line(0, 1);
    net.cut(0);
    net.run(Duration::from_secs(20));
    assert!(net.has(0, 7, Step::Delivered), "{:?}", net.nodes[0].steps);
    assert_eq!(net.delivered(1, 7), 1);
}

#[test]
fn a_message_crosses_many_hops_and_its_receipt_comes_back() {
    let mut net = Net::row(12, 1);
    net.send(0, 11, 7);
    net.run(minutes(2));
    assert_eq!(net.delivered(11, 7), 1);
    assert!(net.has(0, 7, Step::Delivered), "{:?}", net.nodes[0].steps);
    let first = net.transmissions;
    net.send(0, 11, 8);
    net.run(minutes(2));
    assert!(net.has(0, 8, Step::Delivered));
    let second = net.transmissions - first;
    assert!(second <= 2 * 11 + 2, "a known way costs its hops and those of the receipt: {second}");
}

#[test]
fn the_way_back_needs_no_search() {
    let mut net = Net::row(6, 1);
    net.send(0, 5, 7);
    net.run(minutes(2));
    net.log.clear();
    net.send(5, 0, 8);
    net.run(minutes(2));
    assert!(net.has(5, 8, Step::Delivered));
    assert!(!net.log.iter().any(|(_, bytes)| matches!(bytes[0] >> 4, 6 | 7 | 13)), "no question was asked");
}

#[test]
fn messages_get_through_a_network_that_loses_every_fourth_frame() {
    for seed in 1..6 {
        let mut net = Net::row(8, seed);
        net.loss_percent = 25;
        for id in 0..5 {
            net.send(0, 7, id);
        }
        net.run(minutes(60));
        for id in 0..5 {
            assert_eq!(net.delivered(7, id), 1, "seed {seed} message {id}");
            assert!(net.has(0, id, Step::Delivered), "seed {seed} message {id} {:?}", net.nodes[0].steps);
        }
    }
}

#[test]
fn another_way_is_taken_when_one_breaks() {
    // 0 - 1 - 3 and 0 - 2 - 3.
    let mut net = Net::new(4, 3);
    for (a, b) in [(0, 1), (1, 3), (0, 2), (2, 3)] {
        net.hear(a, b);
    }
    net.send(0, 3, 1);
    net.run(minutes(1));
    assert!(net.has(0, 1, Step::Delivered));
    for broken in [1, 2] {
        net.nodes[broken].up = false;
        net.send(0, 3, 10 + broken as u64);
        net.run(minutes(3));
        assert!(net.has(0, 10 + broken as u64, Step::Delivered), "without {broken}");
        net.nodes[broken].up = true;
    }
}

#[test]
fn a_neighbour_that_takes_everything_and_passes_nothing_on_is_passed_by() {
    let mut net = Net::new(4, 31);
    for (a, b) in [(0, 1), (1, 3)] {
        net.hear(a, b);
    }
    net.send(0, 3, 1);
    net.run(minutes(5));
    assert!(net.has(0, 1, Step::Delivered), "the way through it is known, and the best");
    net.hear(0, 2);
    net.hear(2, 3);
    // From now on it says that it has each frame, and does no more.
    net.nodes[1].up = false;
    net.send(0, 3, 2);
    let (liar, mut read) = (hint::Near::from(&net.id(1)), net.log.len());
    let own = hint::Near::from(&net.id(0));
    for _ in 0..3600 {
        net.run(Duration::from_secs(1));
        let said = net.log[read..].to_vec();
        read = net.log.len();
        for (from, bytes) in said {
            let Ok(Frame::Data(data)) = Frame::decode(&bytes, frame::PortKind::Broadcast) else { continue };
            if from == 0 && data.next == liar {
                let [a, b, c, d, ..] = frame::identity(&bytes).unwrap();
                let ack = frame::HopAck { next: own, prev: liar, frame: [a, b, c, d] };
                let bytes = Frame::HopAck(ack).to_bytes().freeze();
                net.input(0, Input::Frame { port: RADIO, bytes, quality: None });
            }
        }
    }
    assert!(net.has(0, 2, Step::Delivered), "{:?}", net.nodes[0].steps);
    assert_eq!(net.delivered(3, 2), 1);
}

#[test]
fn a_message_waits_for_a_partition_to_heal() {
    let mut net = Net::row(4, 2);
    net.unhear(1, 2);
    net.send(0, 3, 1);
    net.run(minutes(10));
    assert_eq!(net.delivered(3, 1), 0);
    net.hear(1, 2);
    net.run(minutes(45));
    assert_eq!(net.delivered(3, 1), 1);
    assert!(net.has(0, 1, Step::Delivered));
}

#[test]
fn a_message_that_nobody_takes_expires_and_says_so() {
    let mut net = Net::row(2, 2);
    net.unhear(0, 1);
    net.send_for(0, 1, 1, minutes(5));
    net.run(minutes(6));
    assert!(net.has(0, 1, Step::Failed(Failure::Expired)));
    assert!(net.transmissions < 20, "{} transmissions for nobody", net.transmissions);
}

#[test]
fn lines_and_radio_are_one_network() {
    // 0 ~radio~ 1 --line-- 2 ~radio~ 3 --line-- 4
    let mut net = Net::new(5, 4);
    net.hear(0, 1);
    net.line(1, 2);
    net.hear(2, 3);
    net.line(3, 4);
    net.send(0, 4, 1);
    net.send(4, 0, 2);
    net.run(minutes(3));
    assert!(net.has(0, 1, Step::Delivered), "{:?}", net.nodes[0].steps);
    assert!(net.has(4, 2, Step::Delivered));
    net.cut(0);
    net.line(1, 2);
    net.send(0, 4, 3);
    net.run(minutes(5));
    assert!(net.has(0, 3, Step::Delivered), "over a line that came up again");
}

#[test]
fn two_ports_to_one_neighbour_deliver_once() {
    let mut net = Net::new(2, 5);
    net.hear(0, 1);
    net.line(0, 1);
    for id in 0..10 {
        net.send(0, 1, id);
    }
    net.run(minutes(2));
    for id in 0..10 {
        assert_eq!(net.delivered(1, id), 1);
        assert!(net.has(0, id, Step::Delivered));
    }
}

#[test]
fn a_receiver_that_restarts_delivers_nothing_it_receipted_again() {
    let mut net = Net::row(3, 6);
    net.send(0, 2, 1);
    net.run(minutes(2));
    assert!(net.has(0, 1, Step::Delivered));
    let data: Vec<(usize, Bytes)> = net.log.iter().filter(|(_, bytes)| bytes[0] >> 4 == 4).cloned().collect();
    net.restart(2);
    for (_, bytes) in data {
        net.input(2, Input::Frame { port: RADIO, bytes, quality: None });
    }
    net.run(minutes(1));
    assert_eq!(net.delivered(2, 1), 1);
}

#[test]
fn a_sender_that_restarts_uses_no_number_twice() {
    let mut net = Net::row(2, 6);
    net.send(0, 1, 1);
    net.run(minutes(1));
    net.restart(0);
    net.send(0, 1, 2);
    net.run(minutes(2));
    assert!(net.has(0, 2, Step::Delivered));
    let mut numbers: Vec<u32> = Vec::new();
    for (from, bytes) in &net.log {
        if let (0, Ok(Frame::Data(data))) = (from, Frame::decode(bytes, frame::PortKind::Broadcast)) {
            numbers.push(data.seq);
        }
    }
    numbers.dedup();
    assert_eq!(numbers.len(), 2);
}

#[test]
fn a_receipt_or_answer_that_the_target_did_not_make_is_refused() {
    let mut net = Net::row(3, 8);
    net.nodes[2].up = false;
    net.send(0, 2, 1);
    net.run(minutes(2));
    let hop = frame::Hop::first(frame::Priority::Control);
    let (dst, src) = (hint::Far::from(&net.id(0)), hint::Far::from(&net.id(2)));
    let (next, prev) = (hint::Near::from(&net.id(0)), hint::Near::from(&net.id(1)));
    for seq in 0..3 {
        let forged = Frame::Receipt(frame::Receipt { hop, next, prev, dst, src, seq, mac: [7; 8] });
        net.input(0, Input::Frame { port: RADIO, bytes: forged.to_bytes().freeze(), quality: None });
    }
    for id in 0..u16::MAX {
        if net.nodes[0].mesh.requests.is_open(src, id) {
            let (cost, class, mac) = (frame::Cost::FREE, 0, [7; 8]);
            let forged = Frame::RouteReply(frame::RouteReply {
                hop,
                next,
                prev,
                cost,
                class,
                origin: dst,
                target: src,
                id,
                mac,
            });
            net.input(0, Input::Frame { port: RADIO, bytes: forged.to_bytes().freeze(), quality: None });
        }
    }
    assert!(!net.has(0, 1, Step::Delivered));
    assert_eq!(net.nodes[0].mesh.stats().dropped(Dropped::Forged), 3);
}

#[test]
fn forged_route_errors_demote_a_way_and_never_remove_it() {
    let mut net = Net::row(3, 8);
    net.send(0, 2, 1);
    net.run(minutes(1));
    let hop = frame::Hop::first(frame::Priority::Control);
    let (dst, src) = (hint::Far::from(&net.id(2)), hint::Far::from(&net.id(0)));
    let (next, prev) = (hint::Near::from(&net.id(0)), hint::Near::from(&net.id(1)));
    for seq in 0..1000 {
        let error = Frame::RouteError(frame::RouteError { hop, next, prev, dst, src, seq });
        net.input(0, Input::Frame { port: RADIO, bytes: error.to_bytes().freeze(), quality: None });
    }
    assert!(!net.nodes[0].mesh.trace(net.now, hint::Address::of(&net.id(2))).ways.is_empty());
    net.send(0, 2, 2);
    net.run(minutes(2));
    assert!(net.has(0, 2, Step::Delivered));
}

#[test]
fn an_idle_node_that_keeps_for_others_is_small() {
    let mut net = Net::row(12, 1);
    net.stores(5);
    for id in 0..20 {
        net.send(id as usize % 12, (id as usize * 5 + 3) % 12, id);
    }
    net.run(minutes(240));
    for node in 0..12 {
        let bytes = net.nodes[node].mesh.state_bytes();
        assert!(bytes <= 20 << 10, "node {node} holds {bytes} bytes");
    }
}

/// Frames that other nodes might say, true ones changed at random places.
fn hostile(log: &[(usize, Bytes)], rng: &mut crate::rng::Rng) -> Bytes {
    let pick = |rng: &mut crate::rng::Rng, n: usize| usize::try_from(rng.below(n as u64)).unwrap();
    let mut bytes = log.get(pick(rng, log.len().max(1))).map_or(vec![0x44; 40], |(_, bytes)| bytes.to_vec());
    for _ in 0..rng.below(6) {
        let at = pick(rng, bytes.len());
        bytes[at] = rng.bytes::<1>()[0];
    }
    if rng.below(8) == 0 {
        bytes.truncate(pick(rng, bytes.len()));
    }
    bytes.into()
}

#[test]
fn a_flood_of_hostile_frames_neither_panics_nor_grows_memory() {
    let mut net = Net::row(4, 9);
    net.send(0, 3, 1);
    net.run(minutes(1));
    let log = net.log.clone();
    let mut rng = crate::rng::Rng::from_u64(5);
    let mut most = 0;
    for round in 0..4_000_u64 {
        let bytes = hostile(&log, &mut rng);
        net.input(1, Input::Frame { port: RADIO, bytes, quality: None });
        if round % 64 == 0 {
            net.run(Duration::from_millis(500));
        }
        most = most.max(net.nodes[1].mesh.state_bytes());
    }
    assert!(most < 200 << 10, "{most} bytes");
    net.run(minutes(10));
    net.send(0, 3, 2);
    net.run(minutes(20));
    assert!(net.has(0, 2, Step::Delivered), "and the honest are served again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Random networks, random loss, random messages: nothing circles, everything is bounded, nothing arrives twice.
    #[test]
    fn nothing_circles_and_nothing_arrives_twice(
        seed in 1_u64..10_000,
        n in 4_usize..14,
        links in proptest::collection::vec((0_usize..14, 0_usize..14), 6..40),
        loss in 0_u64..50,
        messages in 1_u64..8,
    ) {
        let mut net = Net::new(n, seed);
        for (a, b) in links {
            let (a, b) = (a % n, b % n);
            if a != b {
                net.hear(a, b);
            }
        }
        net.loss_percent = loss;
        for id in 0..messages {
            let (from, to) = (id as usize % n, (id as usize * 5 + 1) % n);
            if from != to {
                net.send_for(from, to, id, minutes(10));
            }
        }
        net.run(minutes(15));
        for (_, bytes) in &net.log {
            if let Ok(Frame::Data(data)) = Frame::decode(bytes, frame::PortKind::Broadcast) {
                prop_assert!(data.hop.hops <= crate::limits::MESH_HOPS_MAX);
            }
        }
        for node in 0..n {
            for id in 0..messages {
                prop_assert!(net.delivered(node, id) <= 1);
            }
        }
        let bound = (messages as usize) * n * 60;
        prop_assert!(net.transmissions <= bound, "{} transmissions, {bound} allowed", net.transmissions);
        let before = net.transmissions;
        net.run(minutes(60));
        prop_assert!(net.transmissions - before <= n, "it ends: {} more", net.transmissions - before);
    }
}
