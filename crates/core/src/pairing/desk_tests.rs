//! The desk: one use, five minutes, three guesses between everybody, and nothing at all while it is closed.

use super::*;
use crate::identity::{DeviceType, SecretKey};
use crate::pairing::ChannelBinding;
use crate::pairing::card::DeviceCard;
use crate::pairing::pake::{Context, Guest};

fn at(s: u64) -> Time {
    Time::from_millis(s * 1000)
}

fn order(form: Form) -> Order {
    Order {
        wide: false,
        form,
        purpose: Purpose::Pair,
        lifetime: PAIRING_CODE_LIFETIME,
        host: SecretKey::from_u64(2).id(),
        addresses: Vec::new(),
        relay: None,
    }
}

fn source(name: &str) -> Source {
    Source::named(name.as_bytes())
}

/// A guest with `secret` comes to the desk and goes through the whole exchange.
fn attempt(desk: &mut Desk, now: Time, from: Source, secret: &Secret) -> Result<Agreed, Refusal> {
    let context = Context {
        purpose: Purpose::Pair,
        guest: SecretKey::from_u64(1).id(),
        host: SecretKey::from_u64(2).id(),
        binding: ChannelBinding([3; 32]),
        greeting: [4; 32],
    };
    let Claim::Code(ticket, held) = desk.claim(now, &from, Purpose::Pair, secret.hint())? else {
        panic!("claimed with a code");
    };
    let card = |name| DeviceCard::new(name, DeviceType::Phone).unwrap();
    let (guest, hello) = Guest::start(context, secret, card("guest"), &mut Rng::from_u64(1)).unwrap();
    let (host, reply) = Host::answer(context, &held, card("host"), &hello, &mut Rng::from_u64(2)).unwrap();
    let (guest, proof) = guest.host_replied(&reply).unwrap();
    let (_, proof) = desk.judge(now, from, (ticket, secret.hint()), host, &proof)?;
    Ok(guest.host_confirmed(&proof).unwrap())
}

/// The same code with other words.
fn wrong(code: &Code) -> Secret {
    let other = if code.reveal().ends_with("zoo-zoo") { "zero-zero" } else { "zoo-zoo" };
    Code::parse(&format!("{}-{other}", code.nameplate().unwrap())).unwrap().secret()
}

#[test]
fn a_code_or_its_invite_works_once() {
    let mut rng = Rng::from_u64(1);
    for by_invite in [false, true] {
        let mut desk = Desk::default();
        let open = desk.open(at(0), &mut rng, &order(Form::Words)).unwrap();
        let secret = if by_invite { open.invite.secret() } else { open.code.secret() };
        assert!(attempt(&mut desk, at(1), source("a"), &secret).is_ok());
        assert!(!desk.is_open(at(1)), "pairing mode ends with its last code");
        for used in [open.code.secret(), open.invite.secret()] {
            assert_eq!(attempt(&mut desk, at(2), source("a"), &used).unwrap_err(), Refusal::Used);
        }
    }
}

#[test]
fn a_code_expires_after_five_minutes_whatever_was_asked() {
    let mut desk = Desk::default();
    let mut asked = order(Form::Digits);
    asked.lifetime = Duration::from_secs(86_400);
    let open = desk.open(at(0), &mut Rng::from_u64(1), &asked).unwrap();
    assert_eq!(desk.poll_timeout().map(|d| d.at), Some(at(300)));
    assert!(desk.is_open(at(299)));
    assert_eq!(attempt(&mut desk, at(300), source("a"), &open.code.secret()).unwrap_err(), Refusal::Expired);
    assert!(!desk.is_open(at(300)));
}

#[test]
fn three_wrong_codes_from_two_sources_lock_the_desk_for_all() {
    let mut desk = Desk::default();
    let open = desk.open(at(0), &mut Rng::from_u64(1), &order(Form::Words)).unwrap();
    for from in ["a", "b", "a"] {
        let refusal = attempt(&mut desk, at(1), source(from), &wrong(&open.code)).unwrap_err();
        assert_eq!(refusal, Refusal::WrongCode);
    }
    let locked = Refusal::TooManyTries { retry_after: Duration::from_secs(590) };
    // The right code comes too late, even from a third place, and no new code can be opened.
    assert_eq!(attempt(&mut desk, at(11), source("c"), &open.code.secret()).unwrap_err(), locked);
    assert!(matches!(
        desk.open(at(11), &mut Rng::from_u64(2), &order(Form::Words)),
        Err(OpenError::Locked(Locked { retry_after })) if retry_after == Duration::from_secs(590)
    ));
    let again = desk.open(at(601), &mut Rng::from_u64(2), &order(Form::Words)).unwrap();
    assert!(attempt(&mut desk, at(602), source("a"), &again.code.secret()).is_ok());
}

#[test]
fn a_typing_error_leaves_the_code_usable() {
    let mut desk = Desk::default();
    let open = desk.open(at(0), &mut Rng::from_u64(1), &order(Form::Words)).unwrap();
    assert_eq!(attempt(&mut desk, at(1), source("a"), &wrong(&open.code)).unwrap_err(), Refusal::WrongCode);
    assert!(attempt(&mut desk, at(2), source("a"), &open.code.secret()).is_ok());
}

/// All attempts are let in before the first is judged: still three guesses.
#[test]
fn attempts_in_parallel_share_the_same_three_guesses() {
    let mut desk = Desk::default();
    let open = desk.open(at(0), &mut Rng::from_u64(1), &order(Form::Words)).unwrap();
    let context = Context {
        purpose: Purpose::Pair,
        guest: SecretKey::from_u64(1).id(),
        host: SecretKey::from_u64(2).id(),
        binding: ChannelBinding([3; 32]),
        greeting: [4; 32],
    };
    let card = DeviceCard::new("x", DeviceType::Phone).unwrap();
    let mut waiting = Vec::new();
    for n in 0..10 {
        let hint = open.code.hint();
        let claim = desk.claim(at(1), &source("a"), Purpose::Pair, hint).unwrap();
        let Claim::Code(ticket, held) = claim else { panic!("claimed with a code") };
        let guess = wrong(&open.code);
        let (guest, hello) = Guest::start(context, &guess, card.clone(), &mut Rng::from_u64(n)).unwrap();
        let (host, reply) =
            Host::answer(context, &held, card.clone(), &hello, &mut Rng::from_u64(n + 50)).unwrap();
        waiting.push((ticket, hint, host, guest.host_replied(&reply).unwrap().1));
    }
    let outcomes: Vec<Refusal> = waiting
        .into_iter()
        .map(|(ticket, hint, host, proof)| {
            desk.judge(at(2), source("a"), (ticket, hint), host, &proof).unwrap_err()
        })
        .collect();
    assert_eq!(outcomes.iter().filter(|r| **r == Refusal::WrongCode).count(), 3);
}

#[test]
fn a_closed_desk_turns_everybody_away() {
    let mut desk = Desk::default();
    for hint in [Hint::Digits, Hint::Words(7), Hint::Invite([1; 4]), Hint::Sas] {
        assert_eq!(desk.claim(at(0), &source("a"), Purpose::Pair, hint).unwrap_err(), Refusal::NotOpen);
    }
    let open = desk.open(at(0), &mut Rng::from_u64(1), &order(Form::Words)).unwrap();
    assert_eq!(
        desk.claim(at(0), &source("a"), Purpose::Fetch, open.code.hint()).unwrap_err(),
        Refusal::WrongPurpose
    );
    assert_eq!(
        desk.claim(at(0), &source("a"), Purpose::Pair, Hint::Digits).unwrap_err(),
        Refusal::NoSuchCode
    );
    assert_eq!(desk.claim(at(0), &source("a"), Purpose::Pair, Hint::Sas).unwrap_err(), Refusal::NotOpen);
    assert!(desk.close(open.ticket));
    assert!(!desk.close(open.ticket));
    let refusal = desk.claim(at(0), &source("a"), Purpose::Pair, open.code.hint()).unwrap_err();
    assert_eq!(refusal, Refusal::Withdrawn);
}

#[test]
fn open_codes_are_bounded_and_have_different_numbers() {
    let mut desk = Desk::default();
    let mut rng = Rng::from_u64(1);
    desk.open(at(0), &mut rng, &order(Form::Digits)).unwrap();
    assert_eq!(desk.open(at(0), &mut rng, &order(Form::Digits)).unwrap_err(), OpenError::DigitsInUse);
    for _ in 1..PAIRING_CODES_OPEN_MAX {
        desk.open(at(0), &mut rng, &order(Form::Words)).unwrap();
    }
    assert_eq!(desk.open(at(0), &mut rng, &order(Form::Words)).unwrap_err(), OpenError::TooMany);
    let mut numbers = desk.nameplates(at(0));
    numbers.dedup();
    assert_eq!(numbers.len(), PAIRING_CODES_OPEN_MAX - 1);
    for _ in 0..50 {
        desk.close_all();
        desk.open(at(0), &mut rng, &order(Form::Words)).unwrap();
    }
    assert!(desk.past.len() <= PAIRING_CODES_REMEMBERED_MAX);
}

#[test]
fn walk_ins_come_one_at_a_time_and_a_difference_counts_as_a_wrong_try() {
    let mut desk = Desk::default();
    let walk_in = |desk: &mut Desk, now| desk.claim(now, &source("a"), Purpose::Pair, Hint::Sas);
    desk.open_walk_ins(at(0), Duration::from_secs(60));
    assert!(matches!(walk_in(&mut desk, at(1)), Ok(Claim::WalkIn)));
    assert_eq!(walk_in(&mut desk, at(1)).unwrap_err(), Refusal::Busy);
    desk.walk_in_ended(at(2), source("a"), None);
    for _ in 0..3 {
        assert!(walk_in(&mut desk, at(3)).is_ok());
        desk.walk_in_ended(at(3), source("a"), Some(false));
    }
    assert!(matches!(walk_in(&mut desk, at(4)), Err(Refusal::TooManyTries { .. })));
    assert_eq!(walk_in(&mut desk, at(60)).unwrap_err(), Refusal::NotOpen);

    let mut desk = Desk::default();
    desk.open_walk_ins(at(0), Duration::from_secs(60));
    assert!(walk_in(&mut desk, at(1)).is_ok());
    desk.walk_in_ended(at(2), source("a"), Some(true));
    assert!(!desk.is_open(at(2)), "one agreement, then the desk closes");
}

#[test]
fn the_number_of_a_code_for_the_internet_is_a_large_one_and_others_are_small() {
    let (mut desk, mut rng) = (Desk::default(), Rng::from_u64(7));
    for wide in [false, true] {
        let order = Order { wide, ..order(Form::Words) };
        let code = desk.open(at(0), &mut rng, &order).unwrap().code;
        assert_eq!(code.nameplate().unwrap() > NEARBY_NAMEPLATE_MAX, wide);
        assert_eq!(Code::parse(&code.reveal()), Ok(code));
    }
}
