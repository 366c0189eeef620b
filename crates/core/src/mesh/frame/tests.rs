//! Every frame: golden bytes of version 1, round trips, sizes, rewriting in place, refusals.

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER_PERMISSIVE;
use proptest::prelude::*;

use super::*;
use crate::wire::Invalid;

const HOP: Hop = Hop { hops: 3, priority: Priority::Normal };
const NEXT: Near = Near(0x1112);
const PREV: Near = Near(0x2122);
const DST: Far = Far([0xd1, 0xd2, 0xd3]);
const SRC: Far = Far([0x51, 0x52, 0x53]);
const MAC: Mac = [0xee; 8];

/// One of each kind, with its bytes. Spaces are for people.
fn golden() -> Vec<(Frame, String)> {
    let (a1, b4, c1, s64) = ("a1".repeat(16), "b4".repeat(32), "c1".repeat(16), "51".repeat(64));
    let seq = Seq20::new(0x1_2345);
    let caps = Caps::RELAY.and(Caps::STORE);
    let (cost, prev, hop, next, mac) = (Cost(0x2a), PREV, HOP, NEXT, MAC);
    let data = Data {
        hop,
        next,
        prev,
        dst: DST,
        src: SRC,
        seq: 0x0102_0304,
        receipt: true,
        ratcheted: false,
        fragment: None,
        keep: None,
        payload: Bytes::from_static(b"hey"),
        mac,
    };
    let fragment = Some(Fragment { index: 1, count: 3, message: 9 });
    let part = Data { fragment, ratcheted: true, receipt: false, ..data.clone() };
    vec![
        (
            Frame::AnnounceKey(AnnounceKey {
                hops: 2,
                prev,
                cost,
                key: [0xb4; 32],
                seq,
                caps,
                signature: [0x51; 64],
            }),
            format!("12 2122 2a {b4} 123453 {s64}"),
        ),
        (
            Frame::AnnounceAnchor(AnnounceAnchor {
                hops: 0,
                prev,
                cost,
                address: Address([0xa1; 16]),
                anchor: [0xc1; 16],
                seq,
                caps,
                signature: [0x51; 64],
            }),
            format!("20 2122 2a {a1} {c1} 123453 {s64}"),
        ),
        (
            Frame::Beacon(Beacon {
                hops: 8,
                prev,
                cost,
                tag: Tag([0xa1; 8]),
                seq,
                caps,
                index: 7,
                value: [0xc1; 16],
            }),
            format!("38 2122 2a a1a1a1a1a1a1a1a1 123453 0007 {c1}"),
        ),
        (Frame::Data(data), "44 43 1112 2122 d1d2d3 515253 01020304 686579 eeeeeeeeeeeeeeee".into()),
        (Frame::Data(part), "43 43 1112 2122 d1d2d3 515253 01020304 010309 686579 eeeeeeeeeeeeeeee".into()),
        (
            Frame::Receipt(Receipt { hop, next, prev, dst: DST, src: SRC, seq: 5, mac }),
            "50 43 1112 2122 d1d2d3 515253 00000005 eeeeeeeeeeeeeeee".into(),
        ),
        (
            Frame::RouteRequest(RouteRequest {
                ring: Ring::new(2).unwrap(),
                hop,
                next: None,
                prev,
                cost,
                origin: SRC,
                target: DST,
                id: 0x0607,
                mac,
            }),
            "62 43 2122 2a 515253 d1d2d3 0607 eeeeeeeeeeeeeeee".into(),
        ),
        (
            Frame::RouteReply(RouteReply {
                hop,
                next,
                prev,
                cost,
                class: 2,
                origin: SRC,
                target: DST,
                id: 0x0607,
                mac,
            }),
            "70 43 1112 2122 2a 02 515253 d1d2d3 0607 eeeeeeeeeeeeeeee".into(),
        ),
        (
            Frame::FragmentStatus(FragmentStatus {
                hop,
                next,
                prev,
                dst: DST,
                src: SRC,
                seq: 5,
                arrived: [0, 1, 9].into_iter().collect(),
                mac,
            }),
            "80 43 1112 2122 d1d2d3 515253 00000005 0302 eeeeeeeeeeeeeeee".into(),
        ),
        (
            Frame::Signed(Signed {
                hop,
                next,
                prev,
                dst: Far::EVERYBODY,
                key: [0xb4; 32],
                seq: 6,
                kind: 4,
                body: Bytes::from_static(b"hey"),
                signature: [0x51; 64],
            }),
            format!("90 43 1112 2122 ffffff {b4} 00000006 04 686579 {s64}"),
        ),
        (
            Frame::RouteError(RouteError { hop, next, prev, dst: DST, src: SRC, seq: 5 }),
            "a0 43 1112 2122 d1d2d3 515253 00000005".into(),
        ),
        (
            Frame::CustodyAccepted(CustodyAccepted { next, prev, frame: [0xf1; 8], mac }),
            "b0 1112 2122 f1f1f1f1f1f1f1f1 eeeeeeeeeeeeeeee".into(),
        ),
        (Frame::HopAck(HopAck { next, prev, frame: [0xf1; 4] }), "c0 1112 2122 f1f1f1f1".into()),
        (Frame::IpControl(IpControl { body: Bytes::from_static(&[0xa0]) }), "f0 a0".into()),
    ]
}

fn decode(bytes: &[u8]) -> Result<Frame, Invalid> {
    Frame::decode(&Bytes::copy_from_slice(bytes), PortKind::PointToPoint)
}

#[test]
fn golden_mesh_frames_have_the_bytes_of_version_1() {
    for (frame, hex) in golden() {
        let bytes = HEXLOWER_PERMISSIVE.decode(hex.replace(' ', "").as_bytes()).unwrap();
        assert_eq!(HEXLOWER_PERMISSIVE.encode(&frame.to_bytes()), hex.replace(' ', ""));
        assert_eq!(decode(&bytes), Ok(frame));
    }
}

/// The identities of those frames: first eight bytes of SHA-256 over first byte (hops masked) and fixed part.
#[test]
fn golden_identities_are_hashes_of_what_the_origin_fixed() {
    use sha2::{Digest as _, Sha256};
    let announce = &golden()[0].0.to_bytes();
    let expected = Sha256::new().chain_update([0x10]).chain_update(&announce[4..]).finalize();
    assert_eq!(identity(announce).unwrap(), expected[..8]);
    let data = &golden()[3].0.to_bytes();
    let expected = Sha256::new().chain_update([0x44]).chain_update(&data[6..]).finalize();
    assert_eq!(identity(data).unwrap(), expected[..8]);
}

#[test]
fn frames_are_as_small_as_promised() {
    let size = |n: usize| golden()[n].0.to_bytes().len();
    assert_eq!(size(0), 103, "announce with key");
    assert_eq!(size(1), 103, "announce with anchor");
    assert!(size(2) <= 36, "beacon");
    assert_eq!(size(3), 24 + 3, "data");
    assert_eq!(size(5), 24, "receipt");
    assert_eq!(size(6), 21, "request");
    assert_eq!(size(7), 24, "reply");
    assert_eq!(size(10), 16, "route error");
    assert_eq!(size(11), 21, "custody accepted");
    assert_eq!(size(12), 9, "hop ack");
    let Frame::Data(data) = &golden()[3].0 else { unreachable!() };
    let twenty = Data { payload: Bytes::from_static(&[0; 20]), ..data.clone() };
    let there = Frame::Data(twenty).to_bytes().len();
    assert_eq!(there, 44);
    assert!(there + size(5) <= 73, "a 20-byte message, delivered and acknowledged");
}

#[test]
fn every_shorter_and_longer_form_is_refused() {
    for (frame, _) in golden() {
        let bytes = frame.to_bytes();
        // These end where the bytes end: a cut one is another frame, which its MAC or signature refuses.
        let open_ended = matches!(
            frame,
            Frame::Data(_) | Frame::FragmentStatus(_) | Frame::Signed(_) | Frame::IpControl(_)
        );
        for cut in 0..bytes.len() {
            if let Ok(other) = decode(&bytes[..cut]) {
                assert!(open_ended && other != frame, "{frame:?} cut to {cut}");
            }
        }
        if !open_ended {
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode(&longer), Err(Invalid::Trailing { what: "mesh frame", left: 1 }));
        }
    }
}

#[test]
fn unknown_kinds_and_flags_are_refused() {
    for first in [0x00, 0x0f, 0xe0] {
        assert_eq!(decode(&[first; 40]), Err(Invalid::Value { what: "mesh frame kind" }));
    }
    for (frame, _) in golden() {
        let max = [(1, 8), (2, 8), (3, 8), (4, 15), (6, 4)]
            .into_iter()
            .find_map(|(kind, max)| (frame.kind() as u8 == kind).then_some(max))
            .unwrap_or(0);
        for flags in max + 1..16 {
            let mut bytes = frame.to_bytes();
            bytes[0] = (bytes[0] & 0xf0) | flags;
            assert_eq!(decode(&bytes), Err(Invalid::Value { what: "mesh frame flags" }), "{frame:?}");
        }
    }
}

#[test]
fn values_outside_the_format_are_refused() {
    let with = |at: usize, bytes: &[u8], n: usize| {
        let mut frame = golden()[n].0.to_bytes();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        decode(&frame)
    };
    for index in [[0, 0], [4, 1]] {
        assert_eq!(with(15, &index, 2), Err(Invalid::Value { what: "chain index" }));
    }
    for header in [[0, 1, 0], [0, 0, 0], [3, 3, 0]] {
        assert_eq!(with(16, &header, 4), Err(Invalid::Value { what: "fragment header" }));
    }
    assert_eq!(with(7, &[4], 7), Err(Invalid::Value { what: "link class" }));
    assert_eq!(with(17, &[0], 8), Err(Invalid::Value { what: "fragment bitmap" }));
}

#[test]
fn control_is_refused_on_radio_and_sizes_are_those_of_the_port() {
    let control = golden().pop().unwrap().0.to_bytes().freeze();
    assert_eq!(
        Frame::decode(&control, PortKind::Broadcast),
        Err(Invalid::Value { what: "mesh frame flags" })
    );
    let mut large = golden()[3].0.to_bytes();
    large.resize(PortKind::Broadcast.frame_bytes_max() + 1, 0);
    let large = large.freeze();
    assert!(matches!(Frame::decode(&large, PortKind::Broadcast), Err(Invalid::TooLarge { .. })));
    assert!(Frame::decode(&large, PortKind::PointToPoint).is_ok());
}

#[test]
fn a_routed_request_is_the_same_question_two_bytes_longer() {
    let Frame::RouteRequest(request) = golden()[6].0.clone() else { unreachable!() };
    let routed = Frame::RouteRequest(RouteRequest { next: Some(Near(0x1112)), ..request.clone() });
    let bytes = routed.to_bytes();
    let golden = "d243111221222a515253d1d2d30607eeeeeeeeeeeeeeee";
    assert_eq!(HEXLOWER_PERMISSIVE.encode(&bytes), golden);
    assert_eq!(decode(&bytes), Ok(routed.clone()));
    assert_eq!(identity(&bytes), identity(&Frame::RouteRequest(request).to_bytes()));
    let mut onward = bytes;
    rewrite(&mut onward, &ONWARD).unwrap();
    assert_eq!(decode(&onward), Ok(changed(routed)));
}

#[test]
fn a_payload_is_a_slice_of_the_input() {
    let bytes = golden()[3].0.to_bytes().freeze();
    let Frame::Data(data) = Frame::decode(&bytes, PortKind::Broadcast).unwrap() else { unreachable!() };
    assert_eq!(data.payload.as_ptr(), bytes[16..].as_ptr());
}

const ONWARD: Rewrite = Rewrite { hops: 4, next: Near(0x7172), prev: Near(0x8182), cost: Cost(99), class: 3 };

#[test]
fn rewriting_in_place_is_decoding_changing_and_encoding() {
    for (frame, _) in golden() {
        let mut bytes = frame.to_bytes();
        let before = identity(&bytes);
        rewrite(&mut bytes, &ONWARD).unwrap();
        assert_eq!(identity(&bytes), before, "the identity survives a hop");
        let expected = changed(frame);
        assert_eq!(decode(&bytes), Ok(expected));
    }
}

#[test]
fn the_keeping_time_changes_on_the_way_and_what_the_origin_said_does_not() {
    use crate::mesh::raw::maced_part;
    let fixed = |bytes: &[u8]| maced_part(bytes).unwrap().parts().collect::<Vec<_>>().concat();
    for n in [3, 4] {
        let Frame::Data(plain) = golden()[n].0.clone() else { unreachable!() };
        let said = |keep| Frame::Data(Data { keep, ..plain.clone() });
        let mut bytes = said(Some(Keep(120))).to_bytes();
        let before = (identity(&bytes), fixed(&bytes));
        rewrite_keep(&mut bytes, Keep(70));
        assert_eq!(decode(&bytes), Ok(said(Some(Keep(70)))));
        assert_eq!((identity(&bytes), fixed(&bytes)), before);
        let unkept = said(None).to_bytes();
        assert_ne!(identity(&unkept), identity(&bytes), "the leave to keep it is the origin's");
        let mut same = unkept.clone();
        rewrite_keep(&mut same, Keep(70));
        assert_eq!(same, unkept);
    }
}

/// What [`rewrite`] with [`ONWARD`] does, field by field.
fn changed(mut frame: Frame) -> Frame {
    let Rewrite { hops, next: n, prev: p, cost: c, class: k } = ONWARD;
    match &mut frame {
        Frame::AnnounceKey(f) => (f.hops, f.prev, f.cost) = (hops, p, c),
        Frame::AnnounceAnchor(f) => (f.hops, f.prev, f.cost) = (hops, p, c),
        Frame::Beacon(f) => (f.hops, f.prev, f.cost) = (hops, p, c),
        Frame::Data(f) => (f.hop.hops, f.next, f.prev) = (hops, n, p),
        Frame::Receipt(f) => (f.hop.hops, f.next, f.prev) = (hops, n, p),
        Frame::RouteRequest(f) => {
            (f.hop.hops, f.prev, f.cost) = (hops, p, c);
            f.next = f.next.map(|_| n);
        }
        Frame::RouteReply(f) => (f.hop.hops, f.next, f.prev, f.cost, f.class) = (hops, n, p, c, k),
        Frame::FragmentStatus(f) => (f.hop.hops, f.next, f.prev) = (hops, n, p),
        Frame::Signed(f) => (f.hop.hops, f.next, f.prev) = (hops, n, p),
        Frame::RouteError(f) => (f.hop.hops, f.next, f.prev) = (hops, n, p),
        Frame::CustodyAccepted(f) => (f.next, f.prev) = (n, p),
        Frame::HopAck(f) => (f.next, f.prev) = (n, p),
        Frame::IpControl(_) => {}
    }
    frame
}

#[test]
fn a_frame_that_came_as_far_as_it_may_is_not_rewritten() {
    for (n, hops) in [(0, 9), (3, 64)] {
        let mut bytes = golden()[n].0.to_bytes();
        let before = bytes.clone();
        let result = rewrite(&mut bytes, &Rewrite { hops, ..ONWARD });
        assert!(matches!(result, Err(Invalid::TooLarge { what: "mesh hops", .. })));
        assert_eq!(bytes, before);
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_to_a_frame_with_exactly_those_bytes_or_to_an_error(
        first in 0x10_u8..0xd0,
        rest in proptest::collection::vec(any::<u8>(), 0..180),
    ) {
        let bytes: Bytes = [&[first][..], &rest].concat().into();
        for port in [PortKind::Broadcast, PortKind::PointToPoint] {
            if let Ok(frame) = Frame::decode(&bytes, port) {
                prop_assert_eq!(&frame.to_bytes()[..], &bytes[..]);
                prop_assert_eq!(Some(frame.identity()), identity(&bytes));
            }
        }
        let _ = identity(&bytes);
        let _ = rewrite(&mut BytesMut::from(&bytes[..]), &ONWARD);
    }

    /// Random bytes rarely have the right length; a changed good frame does.
    #[test]
    fn a_changed_frame_decodes_to_exactly_its_bytes_or_to_an_error(
        which in 0_usize..14,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = golden()[which].0.to_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(frame) = decode(&bytes) {
            prop_assert_eq!(frame.to_bytes(), bytes);
        }
    }

    #[test]
    fn data_round_trips(
        seq in any::<u32>(), flags in any::<[bool; 2]>(), keep in any::<Option<u8>>(), hop in any::<u8>(),
        count in 1_u8..=255, index in any::<u8>(), message in any::<u8>(),
        payload in proptest::collection::vec(any::<u8>(), 0..200), mac in any::<[u8; 8]>(),
    ) {
        let fragment = (count > 1).then(|| Fragment { index: index % count, count, message });
        let frame = Frame::Data(Data {
            hop: Hop::from_byte(hop), next: NEXT, prev: PREV, dst: DST, src: SRC, seq,
            receipt: flags[0], ratcheted: flags[1], fragment, keep: keep.map(Keep), payload: payload.into(), mac,
        });
        prop_assert_eq!(decode(&frame.to_bytes()), Ok(frame));
    }
}
