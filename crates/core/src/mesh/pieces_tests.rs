//! Messages longer than a frame, told as stories in the small network of [`super::net`].

use super::net::Net;
use super::*;
use bytes::Bytes;
use core::time::Duration;

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

fn long(id: u8, len: usize) -> Bytes {
    (0..len).map(|at| (at * 7 + usize::from(id)) as u8).collect::<Vec<u8>>().into()
}

fn send(net: &mut Net, from: usize, to: usize, id: u8, len: usize) {
    let out = Outgoing {
        id: id.into(),
        to: net.id(to),
        payload: long(id, len),
        priority: frame::Priority::Normal,
        lifetime: Duration::from_secs(24 * 3600),
        receipt: true,
    };
    net.input(from, Input::Send(out));
}

fn got(net: &Net, node: usize, id: u8, len: usize) -> usize {
    net.nodes[node].got.iter().filter(|(_, payload)| *payload == long(id, len)).count()
}

#[test]
fn a_long_message_crosses_hops_of_radio_and_lines_whole_and_once() {
    // 0 ~radio~ 1 ~radio~ 2 --line-- 3
    let mut net = Net::row(3, 1);
    let last = net.add();
    net.line(2, last);
    for (id, len) in [(1, 198), (2, 500), (3, 5000), (4, 32 << 10)] {
        send(&mut net, 0, last, id, len);
    }
    net.run(minutes(60));
    for (id, len) in [(1, 198), (2, 500), (3, 5000), (4, 32 << 10)] {
        assert_eq!(got(&net, last, id, len), 1, "{len} bytes");
        assert!(net.has(0, id.into(), Step::Delivered), "{len} bytes: {:?}", net.nodes[0].steps);
    }
    let largest = net.log.iter().map(|(_, bytes)| bytes.len()).max();
    assert!(largest <= Some(222), "a frame of {largest:?} bytes");
}

#[test]
fn only_what_was_lost_is_sent_again() {
    let mut net = Net::row(3, 2);
    net.send(0, 2, 50);
    net.run(minutes(5));
    net.log.clear();
    net.loss_percent = 10;
    send(&mut net, 0, 2, 1, 8000);
    net.run(minutes(60));
    assert_eq!(got(&net, 2, 1, 8000), 1);
    assert!(net.has(0, 1, Step::Delivered), "{:?}", net.nodes[0].steps);
    let pieces = 8000_usize.div_ceil(194);
    let sent = net.log.iter().filter(|(from, bytes)| *from == 0 && bytes[0] >> 4 == 4).count();
    assert!(sent <= pieces * 2, "{sent} transmissions of {pieces} pieces by their source");
}

#[test]
fn a_sender_that_restarts_in_the_middle_goes_on_with_the_pieces_it_had() {
    let mut net = Net::row(2, 3);
    send(&mut net, 0, 1, 1, 8000);
    net.run(Duration::from_secs(20));
    assert_eq!(net.nodes[1].got.len(), 0, "it is in the middle");
    net.restart(0);
    net.run(minutes(20));
    assert_eq!(got(&net, 1, 1, 8000), 1);
    assert!(net.has(0, 1, Step::Delivered), "{:?}", net.nodes[0].steps);
}

#[test]
fn a_target_that_restarts_in_the_middle_gets_it_whole_and_once() {
    let mut net = Net::row(2, 4);
    send(&mut net, 0, 1, 1, 8000);
    net.run(Duration::from_secs(20));
    net.restart(1);
    net.run(minutes(60));
    assert_eq!(got(&net, 1, 1, 8000), 1);
    assert!(net.has(0, 1, Step::Delivered), "{:?}", net.nodes[0].steps);
}

#[test]
fn a_relay_that_goes_in_the_middle_and_comes_back_costs_time_and_nothing_else() {
    let mut net = Net::row(3, 8);
    send(&mut net, 0, 2, 1, 6000);
    net.run(Duration::from_secs(25));
    net.nodes[1].up = false;
    net.run(minutes(5));
    assert_eq!(net.nodes[2].got.len(), 0, "it was in the middle");
    net.nodes[1].up = true;
    net.run(minutes(90));
    assert_eq!(got(&net, 2, 1, 6000), 1);
    assert!(net.has(0, 1, Step::Delivered), "{:?}", net.nodes[0].steps);
}

#[test]
fn a_peer_that_never_finishes_costs_only_its_part() {
    let mut net = Net::new(3, 5);
    net.line(0, 1);
    net.line(2, 1);
    net.send(0, 1, 50);
    net.run(minutes(1));
    // 0 begins messages without end: of each it lets all pieces but the last through.
    let before = net.nodes[1].mesh.state_bytes();
    for id in 1..40 {
        send(&mut net, 0, 1, id, 30_000);
        net.run(Duration::from_millis(40));
        net.input(0, Input::Cancel(id.into()));
    }
    let held = net.nodes[1].mesh.state_bytes() - before;
    assert!(held < 100 << 10, "{held} bytes");
    send(&mut net, 2, 1, 100, 30_000);
    net.run(minutes(2));
    assert_eq!(got(&net, 1, 100, 30_000), 1, "somebody else is served all the same");
}

#[test]
fn a_message_of_few_pieces_is_kept_for_a_target_that_is_away() {
    let mut net = Net::row(3, 6);
    net.stores(1);
    net.nodes[2].up = false;
    send(&mut net, 0, 2, 1, 1500);
    net.run(minutes(45));
    assert!(net.has(0, 1, Step::Stored), "{:?}", net.nodes[0].steps);
    net.nodes[0].up = false;
    net.nodes[2].up = true;
    net.send(2, 1, 50);
    net.run(minutes(30));
    assert_eq!(got(&net, 2, 1, 1500), 1);
    assert_eq!(net.nodes[1].mesh.snapshot(net.now).kept, 0);
}

#[test]
fn pieces_of_a_message_that_was_delivered_bring_its_receipt_and_nothing_else() {
    let mut net = Net::row(2, 7);
    send(&mut net, 0, 1, 1, 1000);
    net.run(minutes(5));
    assert_eq!(got(&net, 1, 1, 1000), 1);
    let pieces: Vec<Bytes> =
        net.log.iter().filter(|(_, bytes)| bytes[0] >> 4 == 4).map(|(_, bytes)| bytes.clone()).collect();
    net.log.clear();
    for bytes in pieces {
        net.input(1, Input::Frame { port: net::RADIO, bytes, quality: None });
        net.run(Duration::from_secs(10));
    }
    assert_eq!(got(&net, 1, 1, 1000), 1);
    let answers = net.log.iter().filter(|(from, _)| *from == 1);
    let kinds: std::collections::BTreeSet<u8> = answers.map(|(_, bytes)| bytes[0] >> 4).collect();
    assert!(kinds.iter().all(|kind| [5, 12].contains(kind)), "receipts and hop acks only: {kinds:?}");
}
