//! The exchange: it agrees when everything agrees, and in no other case.

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::identity::{DeviceType, SecretKey};
use crate::pairing::code::Code;
use crate::rng::Rng;

/// Everything one side of a run believes.
#[derive(Clone)]
struct Belief {
    context: Context,
    secret: Secret,
}

fn belief() -> Belief {
    Belief {
        context: Context {
            purpose: Purpose::Pair,
            guest: SecretKey::from_u64(1).id(),
            host: SecretKey::from_u64(2).id(),
            binding: ChannelBinding([3; 32]),
            greeting: [4; 32],
        },
        secret: Code::parse("7-guitar-zebra").unwrap().secret(),
    }
}

fn card(name: &str) -> DeviceCard {
    DeviceCard::new(name, DeviceType::Laptop).unwrap()
}

fn guest(belief: &Belief) -> (Guest, PakeMessage) {
    Guest::start(belief.context, &belief.secret, card("guest"), &mut Rng::from_u64(10)).unwrap()
}

fn host(belief: &Belief, message: &PakeMessage) -> Result<(Host, PakeMessage), PakeError> {
    Host::answer(belief.context, &belief.secret, card("host"), message, &mut Rng::from_u64(20))
}

/// Runs both sides; the error is the first one either meets.
fn run(guest_belief: &Belief, host_belief: &Belief) -> Result<(Agreed, Agreed), PakeError> {
    let (g, hello) = guest(guest_belief);
    let (h, reply) = host(host_belief, &hello)?;
    let (g, proof) = g.host_replied(&reply)?;
    let (host_agreed, proof) = h.guest_confirmed(&proof)?;
    Ok((g.host_confirmed(&proof)?, host_agreed))
}

#[test]
fn equal_beliefs_agree_on_a_key_and_on_each_others_cards() {
    let (guest, host) = run(&belief(), &belief()).unwrap();
    assert_eq!(guest.session_key.as_bytes(), host.session_key.as_bytes());
    assert_eq!(guest.peer_card.name(), "host");
    assert_eq!(host.peer_card.name(), "guest");
}

/// Makes one side believe something else; the id is a third device's.
type Change = fn(&mut Belief, DeviceId);

#[test]
fn any_differing_belief_fails_at_the_host() {
    let other = SecretKey::from_u64(3).id();
    let changes: [(&str, Change); 8] = [
        ("purpose", |b, _| b.context.purpose = Purpose::Fetch),
        ("guest id", |b, id| b.context.guest = id),
        ("host id", |b, id| b.context.host = id),
        ("binding", |b, _| b.context.binding.0[31] ^= 1),
        ("greeting", |b, _| b.context.greeting[0] ^= 1),
        ("word", |b, _| {
            b.secret = Code::parse("7-guitar-zoo").unwrap().secret();
        }),
        ("nameplate", |b, _| b.secret = Code::parse("8-guitar-zebra").unwrap().secret()),
        ("roles", |b, _| core::mem::swap(&mut b.context.guest, &mut b.context.host)),
    ];
    for (what, change) in changes {
        let mut changed = belief();
        change(&mut changed, other);
        assert_eq!(run(&changed, &belief()).unwrap_err(), PakeError::Mismatch, "guest's {what}");
        assert_eq!(run(&belief(), &changed).unwrap_err(), PakeError::Mismatch, "host's {what}");
    }
}

#[test]
fn the_same_secret_bytes_under_another_kind_of_code_fail() {
    let mut digits = belief();
    digits.secret = Secret::new(crate::pairing::Hint::Digits, b"guitar-zebra");
    assert_eq!(run(&digits, &belief()).unwrap_err(), PakeError::Mismatch);
}

#[test]
fn every_changed_byte_of_every_message_is_noticed() {
    let belief = belief();
    for at in 0..32 {
        let (g, mut hello) = guest(&belief);
        hello.0[at] ^= 1;
        // Half of all changed strings are no points; the others lead to other keys.
        if let Ok((h, reply)) = host(&belief, &hello) {
            let (_, proof) = g.host_replied(&reply).unwrap();
            assert_eq!(h.guest_confirmed(&proof).unwrap_err(), PakeError::Mismatch);
        }

        let (g, hello) = guest(&belief);
        let (h, mut reply) = host(&belief, &hello).unwrap();
        reply.0[at] ^= 1;
        if let Ok((_, proof)) = g.host_replied(&reply) {
            assert_eq!(h.guest_confirmed(&proof).unwrap_err(), PakeError::Mismatch);
        }

        let (g, hello) = guest(&belief);
        let (h, reply) = host(&belief, &hello).unwrap();
        let (g, proof) = g.host_replied(&reply).unwrap();
        let mut forged = proof.clone();
        forged.mac[at] ^= 1;
        let (h2, _) = host(&belief, &hello).unwrap();
        assert_eq!(h2.guest_confirmed(&forged).unwrap_err(), PakeError::Mismatch);
        let (_, mut proof) = h.guest_confirmed(&proof).unwrap();
        proof.mac[at] ^= 1;
        assert_eq!(g.host_confirmed(&proof).unwrap_err(), PakeError::Mismatch);
    }
}

#[test]
fn a_changed_name_is_noticed_by_either_side() {
    let (g, hello) = guest(&belief());
    let (h, reply) = host(&belief(), &hello).unwrap();
    let (g, proof) = g.host_replied(&reply).unwrap();
    let (h2, _) = host(&belief(), &hello).unwrap();
    let renamed = Confirm { card: card("guesT"), ..proof.clone() };
    assert_eq!(h2.guest_confirmed(&renamed).unwrap_err(), PakeError::Mismatch);
    let (_, proof) = h.guest_confirmed(&proof).unwrap();
    assert_eq!(g.host_confirmed(&Confirm { card: card("hosT"), ..proof }).unwrap_err(), PakeError::Mismatch);
}

#[test]
fn reflection_and_self_pairing_are_refused() {
    let (g, hello) = guest(&belief());
    assert_eq!(g.host_replied(&hello).unwrap_err(), PakeError::Reflected);

    // A mirror that echoes the guest's proof as the host's gets nowhere either: the keys differ by role.
    let (g, hello) = guest(&belief());
    let (_, reply) = host(&belief(), &hello).unwrap();
    let (g, proof) = g.host_replied(&reply).unwrap();
    assert_eq!(g.host_confirmed(&proof).unwrap_err(), PakeError::Mismatch);

    let mut own = belief();
    own.context.host = own.context.guest;
    assert_eq!(
        Guest::start(own.context, &own.secret, card("me"), &mut Rng::from_u64(1)).unwrap_err(),
        PakeError::SelfPairing
    );
    assert_eq!(host(&own, &hello).unwrap_err(), PakeError::SelfPairing);
}

#[test]
fn messages_of_an_earlier_run_are_worthless() {
    let (g, hello) = guest(&belief());
    let (_, reply) = host(&belief(), &hello).unwrap();
    let (_, old_proof) = g.host_replied(&reply).unwrap();
    // The same hello and proof, replayed to a host that drew fresh randomness.
    let (fresh, _) =
        Host::answer(belief().context, &belief().secret, card("host"), &hello, &mut Rng::from_u64(21))
            .unwrap();
    assert_eq!(fresh.guest_confirmed(&old_proof).unwrap_err(), PakeError::Mismatch);
}

/// The man in the middle holds one connection to each side, so each side has its own binding and sees his key, or he
/// passes the frames on unchanged and the bindings differ.
#[test]
fn a_man_in_the_middle_fails_whatever_he_forwards() {
    let mallory = SecretKey::from_u64(66).id();
    let (mut at_guest, mut at_host) = (belief(), belief());
    at_guest.context.binding = ChannelBinding([0xaa; 32]);
    at_guest.context.host = mallory;
    at_host.context.binding = ChannelBinding([0xbb; 32]);
    at_host.context.guest = mallory;
    assert_eq!(run(&at_guest, &at_host).unwrap_err(), PakeError::Mismatch);

    // Even one who stole both device keys still has two connections.
    at_guest.context.host = belief().context.host;
    at_host.context.guest = belief().context.guest;
    assert_eq!(run(&at_guest, &at_host).unwrap_err(), PakeError::Mismatch);
}

/// Version 1, to the byte: another implementation that produces these strings interoperates. An independent one, written
/// from the module's description in another language, did.
#[test]
fn golden_run_of_version_one() {
    let (g, hello) = guest(&belief());
    let (h, reply) = host(&belief(), &hello).unwrap();
    let (g, guest_proof) = g.host_replied(&reply).unwrap();
    let (host_agreed, host_proof) = h.guest_confirmed(&guest_proof).unwrap();
    g.host_confirmed(&host_proof).unwrap();
    let produced = [
        ("guest message", HEXLOWER.encode(&hello.0)),
        ("host message", HEXLOWER.encode(&reply.0)),
        ("guest mac", HEXLOWER.encode(&guest_proof.mac)),
        ("host mac", HEXLOWER.encode(&host_proof.mac)),
        ("session key", HEXLOWER.encode(host_agreed.session_key.as_bytes())),
    ];
    assert_eq!(produced.each_ref().map(|(what, hex)| (*what, hex.as_str())), GOLDEN);
}

const GOLDEN: [(&str, &str); 5] = [
    ("guest message", "c9c51a40f2a9f0d7bae5ed89638e3f25d86101296c1b655e72195c72c4d3699b"),
    ("host message", "f942c89f90669618c6be65dd2b69df1861854cdd7de45fc01968ad86138b9e88"),
    ("guest mac", "fcf2a27c87201dd12e15cc2ffb295ad39591778f1570ae0c3bd17ee4ed4872de"),
    ("host mac", "cc2e336c8b509884ea7a791f218ee608add69d14964608acce690752c0f45057"),
    ("session key", "dc9602cb3b35dfcb6ea72dfcc45afdc390ea95cfd7c21bc464284e0469a2d0ed"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_half_makes_either_side_panic(bytes: [u8; 32], mac: [u8; 32]) {
        let proof = Confirm { mac, card: card("x") };
        let (g, _) = guest(&belief());
        if let Ok((g, _)) = g.host_replied(&PakeMessage(bytes)) {
            prop_assert!(g.host_confirmed(&proof).is_err());
        }
        if let Ok((h, _)) = host(&belief(), &PakeMessage(bytes)) {
            prop_assert!(h.guest_confirmed(&proof).is_err());
        }
    }
}
