//! Sealing, proving, stepping on: what opens, what does not, and the golden bytes.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::mesh::frame::{
    Cost, Fragment, FragmentSet, Frame, Hop, PortKind, Priority, Rewrite, Ring, rewrite,
};
use crate::mesh::hint::{Far, Near};
use crate::rng::Rng;

fn alice() -> SecretKey {
    SecretKey::from_bytes(&[0xa1; 32])
}

fn bob() -> SecretKey {
    SecretKey::from_bytes(&[0xb0; 32])
}

fn pair() -> (Pairwise, Pairwise) {
    (Pairwise::new(&alice(), &bob().id()).unwrap(), Pairwise::new(&bob(), &alice().id()).unwrap())
}

/// A message from Alice to Bob, not sealed yet.
fn message(seq: u32, text: &'static [u8]) -> Data {
    Data {
        hop: Hop::first(Priority::Normal),
        next: Near::ANYBODY,
        prev: Near::from(&alice().id()),
        dst: Far::from(&bob().id()),
        src: Far::from(&alice().id()),
        seq,
        receipt: true,
        ratcheted: false,
        fragment: None,
        keep: None,
        payload: Bytes::from_static(text),
        mac: [0; 8],
    }
}

fn receipt(seq: u32) -> Receipt {
    Receipt {
        hop: Hop::first(Priority::Normal),
        next: Near::ANYBODY,
        prev: Near::from(&bob().id()),
        dst: Far::from(&alice().id()),
        src: Far::from(&bob().id()),
        seq,
        mac: [0; 8],
    }
}

/// Ratchets of Alice and Bob after an exchange over the mesh.
fn ratchets(alice_seq: u32, bob_seq: u32) -> (Ratchet, Ratchet) {
    let (mut rng_a, mut rng_b) = (Rng::from_u64(1), Rng::from_u64(2));
    let offer = Offer::new(&mut rng_a, alice_seq);
    let starts = Starts { ours: bob_seq, theirs: alice_seq };
    let (answer, of_bob) = offer.exchange().answer(&mut rng_b, &bob(), &alice().id(), starts).unwrap();
    let of_alice = offer.finish(&alice(), &bob().id(), &answer, bob_seq).unwrap();
    (of_alice, of_bob)
}

#[test]
fn a_sealed_message_opens_at_its_target_only() {
    let (a, b) = pair();
    let mut data = message(7, b"twenty bytes of text");
    a.seal(&mut data);
    assert_ne!(&data.payload[..], b"twenty bytes of text");
    assert_eq!(b.open(&data), Ok(Bytes::from_static(b"twenty bytes of text")));
    assert_eq!(a.open(&data), Err(Refused::Forged), "played back to its sender");
    let carol = Pairwise::new(&SecretKey::from_u64(3), &alice().id()).unwrap();
    assert_eq!(carol.open(&data), Err(Refused::Forged));
}

#[test]
fn a_number_used_twice_gives_nothing_away_but_that_two_messages_are_the_same() {
    let (a, _) = pair();
    let sealed = |text| {
        let mut data = message(7, text);
        a.seal(&mut data);
        data.payload
    };
    let (one, two) = (sealed(b"meet me at noon"), sealed(b"stay where you "));
    let xor = |x: &[u8], y: &[u8]| -> Vec<u8> { x.iter().zip(y).map(|(x, y)| x ^ y).collect() };
    assert_ne!(
        xor(&one, &two),
        xor(b"meet me at noon", b"stay where you "),
        "one keystream for two messages"
    );
    assert_eq!(one, sealed(b"meet me at noon"));
}

#[test]
fn twenty_bytes_delivered_and_acknowledged_take_68_on_air() {
    let (a, b) = pair();
    let mut data = message(7, b"twenty bytes of text");
    a.seal(&mut data);
    let mut answer = receipt(7);
    b.attest(&mut answer);
    assert_eq!(a.check(&answer), Ok(()));
    let (there, back) = (Frame::Data(data).to_bytes().len(), Frame::Receipt(answer).to_bytes().len());
    assert_eq!((there, back, there + back), (44, 24, 68));
}

/// Checked against an independent computation: X25519, HKDF, HMAC and ChaCha20 written out in another language.
#[test]
fn golden_sealed_message_and_receipt() {
    let (a, b) = pair();
    let mut data = message(7, b"hey");
    data.fragment = Some(Fragment { index: 0, count: 2, message: 1 });
    a.seal(&mut data);
    assert_eq!(
        HEXLOWER.encode(&Frame::Data(data).to_bytes()),
        "4540ffff730a334dba730a5e00000007000201802bb1d3840008d69b08d6"
    );
    let mut answer = receipt(7);
    b.attest(&mut answer);
    assert_eq!(
        HEXLOWER.encode(&Frame::Receipt(answer).to_bytes()),
        "5040ffff334d730a5e334dba00000007b80fbd5b5f1cbd88"
    );
}

/// As above, for block 0, block 1 and the answer of an exchange.
#[test]
fn golden_ratchet_from_a_root() {
    let root = Root::from_session([0x11; 32]);
    let starts = Starts { ours: 0, theirs: 0 };
    let mut ratchet = Ratchet::new(&root, &alice().id(), &bob().id(), starts);
    for (seq, expected) in [(63, "e046359206a9603ead0953"), (64, "02a9d4dc5cea7295d41d4f")] {
        let mut data = message(seq, b"hey");
        ratchet.seal(&mut data).unwrap();
        assert_eq!(HEXLOWER.encode(&[&data.payload[..], &data.mac].concat()), expected, "{seq}");
    }
}

/// As above: the first message after an exchange of ephemeral keys.
#[test]
fn golden_exchange() {
    let (mut of_alice, _) = ratchets(1000, 500);
    let mut data = message(1001, b"hey");
    of_alice.seal(&mut data).unwrap();
    assert_eq!(HEXLOWER.encode(&[&data.payload[..], &data.mac].concat()), "81ad4358b60f1aa20f6678");
}

#[test]
fn static_keys_are_small() {
    assert!(size_of::<Pairwise>() <= 300);
    let (mut a, mut b) = ratchets(0, 0);
    for seq in [0, 5000] {
        let mut data = message(seq, b"x");
        a.seal(&mut data).unwrap();
        b.open(&data).unwrap();
    }
    let (fresh, stepped) = (75, 75 + 8 * 36);
    assert_eq!(ratchets(0, 0).0.save().len(), fresh);
    assert_eq!((a.save().len(), b.save().len()), (stepped, stepped));
}

#[test]
fn every_kind_of_proof_has_a_key_of_its_own() {
    // A receipt's MAC on a frame whose covered bytes are the same must not pass: the first byte tells kinds apart, and so
    // do the keys, should two kinds ever look alike.
    let uses = [Receipt::USE, RouteRequest::USE, RouteReply::USE, FragmentStatus::USE, CustodyAccepted::USE];
    let labels: std::collections::BTreeSet<&[u8]> =
        uses.into_iter().chain([&b"data key"[..], b"data mac"]).collect();
    assert_eq!(labels.len(), 7);
}

#[test]
fn a_ratchet_opens_late_frames_and_then_never_again() {
    let (mut a, mut b) = ratchets(0, 0);
    let sealed: Vec<Data> = (0..12)
        .map(|block| {
            let mut data = message(block * 64, b"x");
            a.seal(&mut data).unwrap();
            data
        })
        .collect();
    assert!(b.open(&sealed[11]).is_ok());
    for (block, data) in sealed.iter().enumerate().take(11) {
        // Of the eleven blocks skipped, the last eight are kept.
        let expected = if block < 3 { Err(Refused::Erased) } else { Ok(Bytes::from_static(b"x")) };
        assert_eq!(b.open(data), expected, "block {block}");
    }
    b.erase_before(10 * 64);
    assert_eq!(b.open(&sealed[9]), Err(Refused::Erased));
    assert!(b.open(&sealed[10]).is_ok());
}

#[test]
fn a_ratchet_has_no_key_for_what_it_left_behind() {
    let (mut a, b) = ratchets(0, 0);
    let mut old = message(1, b"secret");
    a.seal(&mut old).unwrap();
    let mut new = message(64 * 20, b"x");
    a.seal(&mut new).unwrap();
    // Alice cannot even seal with the old block's key again.
    assert_eq!(a.seal(&mut message(2, b"y")), Err(Refused::Erased));
    // Bob with all he holds on disk, both identity keys besides, after he stepped on:
    let mut later = b;
    later.open(&new).unwrap();
    let mut seized = Ratchet::load(&later.save()).unwrap();
    assert_eq!(seized.open(&old), Err(Refused::Erased));
    let (_, as_bob) = pair();
    assert_eq!(as_bob.open(&old), Err(Refused::OtherKeys));
    let posing = Data { ratcheted: false, ..old };
    assert_eq!(as_bob.open(&posing), Err(Refused::Forged));
}

#[test]
fn a_forged_number_moves_nothing() {
    let (mut a, mut b) = ratchets(0, 0);
    let before = b.save();
    let mut data = message(64, b"x");
    a.seal(&mut data).unwrap();
    let far = Data { seq: 64 * 900, ..data.clone() };
    assert_eq!(b.open(&far), Err(Refused::Forged));
    let farther = Data { seq: u32::MAX, ..data.clone() };
    assert_eq!(b.open(&farther), Err(Refused::TooFarAhead));
    assert_eq!(b.save(), before);
    assert!(b.open(&data).is_ok());
}

#[test]
fn a_ratchet_counts_from_the_numbers_of_its_exchange() {
    let (mut a, mut b) = ratchets(3_000_000, 4_000_000_000);
    let mut there = message(3_000_001, b"there");
    a.seal(&mut there).unwrap();
    assert_eq!(b.open(&there), Ok(Bytes::from_static(b"there")));
    let mut back = message(4_000_000_001, b"back");
    b.seal(&mut back).unwrap();
    assert_eq!(a.open(&back), Ok(Bytes::from_static(b"back")));
    assert_eq!(b.open(&message(1, b"x")), Err(Refused::OtherKeys));
}

#[test]
fn a_ratchet_from_the_disk_goes_on_where_it_was() {
    let (mut a, mut b) = ratchets(0, 0);
    for seq in [0, 200, 500] {
        let mut data = message(seq, b"x");
        a.seal(&mut data).unwrap();
        b = Ratchet::load(&b.save()).unwrap();
        a = Ratchet::load(&a.save()).unwrap();
        assert!(b.open(&data).is_ok());
    }
    let saved = b.save();
    for cut in 0..saved.len() {
        assert!(Ratchet::load(&saved[..cut]).is_err());
    }
    let mut disordered = saved.to_vec();
    disordered[74..78].copy_from_slice(&[0xff; 4]);
    assert!(Ratchet::load(&disordered).is_err());
}

#[test]
fn an_exchange_is_bound_to_its_offer_its_peers_and_proper_keys() {
    let (mut rng_a, mut rng_b) = (Rng::from_u64(1), Rng::from_u64(2));
    let offer = Offer::new(&mut rng_a, 10);
    let starts = Starts { ours: 20, theirs: 10 };
    let (answer, _) = offer.exchange().answer(&mut rng_b, &bob(), &alice().id(), starts).unwrap();
    assert_eq!(
        answer.answer(&mut rng_b, &bob(), &alice().id(), starts).err(),
        Some(ExchangeRefused::NotAnOffer)
    );
    let other = Offer::new(&mut rng_a, 10);
    let refused = other.finish(&alice(), &bob().id(), &answer, 20);
    assert_eq!(refused.err(), Some(ExchangeRefused::OtherOffer));
    let weak = KeyExchange { ephemeral: [0; 32], answers: None };
    let refused = weak.answer(&mut rng_b, &bob(), &alice().id(), starts);
    assert_eq!(refused.err(), Some(ExchangeRefused::WeakKey));
    // The answer replayed under another number gives keys that open nothing.
    let mut of_alice = offer.finish(&alice(), &bob().id(), &answer, 21).unwrap();
    let (_, mut of_bob) = ratchets(10, 20);
    let mut data = message(11, b"x");
    of_alice.seal(&mut data).unwrap();
    assert_eq!(of_bob.open(&data), Err(Refused::Forged));
}

/// One of each attested frame, proved by Bob for Alice.
fn proofs() -> Vec<Frame> {
    let (_, b) = pair();
    let (hop, next, prev, mac) = (Hop::first(Priority::Normal), Near(1), Near(2), [0; 8]);
    let (origin, target) = (Far([1; 3]), Far([2; 3]));
    let arrived: FragmentSet = [0, 20].into_iter().collect();
    let mut receipt = receipt(7);
    let mut request = RouteRequest {
        ring: Ring::default(),
        hop,
        next: None,
        prev,
        cost: Cost(9),
        origin,
        target,
        id: 3,
        mac,
    };
    let mut reply = RouteReply { hop, next, prev, cost: Cost(9), class: 1, origin, target, id: 3, mac };
    let mut status = FragmentStatus { hop, next, prev, dst: origin, src: target, seq: 9, arrived, mac };
    let mut custody = CustodyAccepted { next, prev, frame: [5; 8], mac };
    b.attest(&mut receipt);
    b.attest(&mut request);
    b.attest(&mut reply);
    b.attest(&mut status);
    b.attest(&mut custody);
    vec![
        Frame::Receipt(receipt),
        Frame::RouteRequest(request),
        Frame::RouteReply(reply),
        Frame::FragmentStatus(status),
        Frame::CustodyAccepted(custody),
    ]
}

fn checks(keys: &Pairwise, frame: &Frame) -> Result<(), Refused> {
    if let Frame::Receipt(frame) = frame {
        keys.check(frame)
    } else if let Frame::RouteRequest(frame) = frame {
        keys.check(frame)
    } else if let Frame::RouteReply(frame) = frame {
        keys.check(frame)
    } else if let Frame::FragmentStatus(frame) = frame {
        keys.check(frame)
    } else if let Frame::CustodyAccepted(frame) = frame {
        keys.check(frame)
    } else {
        panic!("{frame:?} is not attested")
    }
}

#[test]
fn proofs_hold_after_any_hop_for_whom_they_are_made_and_not_the_other_way() {
    let (a, b) = pair();
    for frame in proofs() {
        assert_eq!(checks(&a, &frame), Ok(()), "{frame:?}");
        assert_eq!(checks(&b, &frame), Err(Refused::Forged), "{frame:?}");
        let mut bytes = frame.to_bytes();
        let onward = Rewrite { hops: 9, next: Near(7), prev: Near(8), cost: Cost(77), class: 2 };
        rewrite(&mut bytes, &onward).unwrap();
        let frame = Frame::decode(&bytes.freeze(), PortKind::Broadcast).unwrap();
        assert_eq!(checks(&a, &frame), Ok(()), "{frame:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_open_after_any_hop(
        seq in any::<u32>(), hops in 0_u8..64, next in any::<u16>(), prev in any::<u16>(),
        payload in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let (a, b) = pair();
        let mut data = Data { payload: payload.clone().into(), ..message(seq, b"") };
        a.seal(&mut data);
        let mut bytes = Frame::Data(data).to_bytes();
        let onward = Rewrite { hops, next: Near(next), prev: Near(prev), cost: Cost(0), class: 0 };
        rewrite(&mut bytes, &onward).unwrap();
        let Ok(Frame::Data(data)) = Frame::decode(&bytes.freeze(), PortKind::Broadcast) else { unreachable!() };
        prop_assert_eq!(b.open(&data), Ok(Bytes::from(payload)));
    }

    #[test]
    fn a_message_with_one_bit_changed_is_refused(
        at in any::<prop::sample::Index>(), bit in 0_u8..8, ratcheted in any::<bool>(),
    ) {
        let (a, b) = pair();
        let (mut ra, mut rb) = ratchets(0, 0);
        let mut data = message(77, b"hey");
        if ratcheted { ra.seal(&mut data).unwrap() } else { a.seal(&mut data) }
        let mut bytes = Frame::Data(data).to_bytes();
        // Any byte but the five that each hop rewrites.
        let at = match at.index(bytes.len() - 5) { 0 => 0, n => n + 5 };
        bytes[at] ^= 1 << bit;
        if let Ok(Frame::Data(data)) = Frame::decode(&bytes.freeze(), PortKind::Broadcast) {
            prop_assert!(b.open(&data).is_err());
            prop_assert!(rb.open(&data).is_err());
        }
    }

    #[test]
    fn a_proof_with_one_bit_changed_is_refused(
        which in 0_usize..5, at in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let (a, _) = pair();
        let frame = &proofs()[which];
        let mut bytes = frame.to_bytes();
        let fixed = usize::from(frame.kind().layout().fixed);
        let at = match at.index(bytes.len() - fixed + 1) { 0 => 0, n => n + fixed - 1 };
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = Frame::decode(&bytes.freeze(), PortKind::Broadcast)
            && changed.kind() == frame.kind()
        {
            prop_assert!(checks(&a, &changed).is_err());
        }
    }

    #[test]
    fn in_whatever_order_messages_come_a_ratchet_opens_them_or_says_erased(
        order in proptest::collection::vec(0_u32..2000, 1..40),
    ) {
        let (mut a, mut b) = ratchets(0, 0);
        let mut numbers = order.clone();
        numbers.sort_unstable();
        numbers.dedup();
        let mut sealed = std::collections::BTreeMap::new();
        for seq in numbers {
            let mut data = message(seq, b"x");
            a.seal(&mut data).unwrap();
            sealed.insert(seq, data);
        }
        let mut newest = 0;
        for seq in order {
            let result = b.open(&sealed[&seq]);
            newest = newest.max(seq >> 6);
            let late = newest - (seq >> 6);
            prop_assert_eq!(result.is_ok(), late <= 8, "{} blocks late: {:?}", late, result);
        }
    }

    #[test]
    fn any_bytes_are_a_saved_ratchet_with_those_bytes_or_an_error(
        start in proptest::option::of(Just(1_u8)), rest in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes: Vec<u8> = start.into_iter().chain(rest).collect();
        if let Ok(ratchet) = Ratchet::load(&bytes) {
            prop_assert_eq!(&ratchet.save()[..], &bytes[..]);
        }
    }
}
