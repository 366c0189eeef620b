//! Guests that are honest, and guests that are not.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::identity::SecretKey;

// Made once: deriving a key takes longer than everything else here.
static IDS: LazyLock<Vec<DeviceId>> =
    LazyLock::new(|| (0..=FERRY_GUESTS_MAX as u64).map(|n| SecretKey::from_u64(n).id()).collect());

fn id(n: usize) -> DeviceId {
    IDS[n]
}

fn desk(guests: &[usize]) -> Desk {
    let mut desk = Desk::new(Rates::default());
    for guest in guests {
        desk.welcome(id(*guest)).unwrap();
    }
    desk
}

/// A crossing from 1 to 2: their numbers for each other.
fn crossed(desk: &mut Desk, now: Time) -> (Handle, Handle) {
    let Ok(Asked::Call(theirs)) = desk.ask(now, &id(1), &id(2)) else { panic!("no call") };
    (desk.answered(now, &id(2), theirs, true).unwrap(), theirs)
}

#[test]
fn packets_go_between_two_guests_that_agreed_and_by_each_ones_own_number() {
    let (mut desk, now) = (desk(&[1, 2, 3]), Time::ZERO);
    let _ = desk.ask(now, &id(3), &id(2));
    let (ours, theirs) = crossed(&mut desk, now);
    assert_ne!(ours, theirs);
    assert_eq!(desk.carry(now, &id(1), ours, 1200), Ok((id(2), theirs)));
    assert_eq!(desk.carry(now, &id(2), theirs, 1200), Ok((id(1), ours)));
    assert_eq!((desk.counts().packets, desk.counts().bytes), (2, 2400));
}

#[test]
fn nothing_is_carried_before_the_one_that_was_called_agrees() {
    let (mut desk, now) = (desk(&[1, 2]), Time::ZERO);
    let Ok(Asked::Call(theirs)) = desk.ask(now, &id(1), &id(2)) else { panic!("no call") };
    for number in 0..100 {
        assert_eq!(desk.carry(now, &id(1), Handle(number), 1), Err(Dropped::Nowhere));
        assert_eq!(desk.carry(now, &id(2), Handle(number), 1), Err(Dropped::Nowhere));
    }
    // Asking again does not help.
    assert_eq!(desk.ask(now, &id(1), &id(2)), Ok(Asked::Call(theirs)));
    assert_eq!(desk.carry(now, &id(1), Handle(0), 1), Err(Dropped::Nowhere));
    assert_eq!(desk.answered(now, &id(2), theirs, false), Err(Refusal::NotHere));
    assert_eq!((desk.crossings(), desk.counts().nowhere), (0, 201));
}

#[test]
fn asking_for_somebody_tells_nothing_about_them() {
    let mut desk = desk(&[1, 2]);
    let now = Time::ZERO;
    // Not a guest; itself; a guest that does not want; a guest that has no room.
    assert_eq!(desk.ask(now, &id(1), &id(9)), Err(Refusal::NotHere));
    assert_eq!(desk.ask(now, &id(1), &id(1)), Err(Refusal::NotHere));
    let Ok(Asked::Call(theirs)) = desk.ask(now, &id(1), &id(2)) else { panic!("no call") };
    assert_eq!(desk.answered(now, &id(2), theirs, false), Err(Refusal::NotHere));
    for n in 10..10 + FERRY_CROSSINGS_MAX {
        desk.welcome(id(n)).unwrap();
        assert!(desk.ask(now, &id(n), &id(2)).is_ok());
    }
    assert_eq!(desk.ask(now, &id(1), &id(2)), Err(Refusal::NotHere));
}

#[test]
fn who_is_no_guest_gets_nothing() {
    let mut desk = desk(&[1, 2]);
    let (ours, _) = crossed(&mut desk, Time::ZERO);
    assert_eq!(desk.ask(Time::ZERO, &id(9), &id(2)), Err(Refusal::NotGranted));
    assert_eq!(desk.carry(Time::ZERO, &id(9), ours, 1), Err(Dropped::Nowhere));
    desk.leave(&id(1));
    assert_eq!(desk.carry(Time::ZERO, &id(1), ours, 1), Err(Dropped::Nowhere));
}

#[test]
fn two_that_ask_for_each_other_at_once_are_carried() {
    let (mut desk, now) = (desk(&[1, 2]), Time::ZERO);
    let Ok(Asked::Call(called)) = desk.ask(now, &id(1), &id(2)) else { panic!("no call") };
    assert_eq!(desk.ask(now, &id(2), &id(1)), Ok(Asked::Open(called)));
    // What is still said to the call changes nothing.
    let ours = desk.answered(now, &id(2), called, false).unwrap();
    assert_eq!(desk.carry(now, &id(1), ours, 1), Ok((id(2), called)));
    assert_eq!(desk.crossings(), 1);
}

#[test]
fn when_one_goes_the_other_sends_nowhere_and_no_number_comes_back() {
    let (mut desk, now) = (desk(&[1, 2, 3]), Time::ZERO);
    let (ours, theirs) = crossed(&mut desk, now);
    desk.welcome(id(2)).unwrap();
    assert_eq!(desk.carry(now, &id(1), ours, 1), Err(Dropped::Nowhere));
    let Ok(Asked::Call(_)) = desk.ask(now, &id(1), &id(3)) else { panic!("no call") };
    let (again, _) = crossed(&mut desk, now);
    assert!(again > ours);
    assert_eq!(theirs, Handle(0), "a new connection counts anew");
    assert_eq!(desk.carry(now, &id(1), ours, 1), Err(Dropped::Nowhere));
}

#[test]
fn a_device_that_is_called_in_vain_without_end_is_reached_by_those_it_agrees_to_hear() {
    let (mut desk, mut now) = (desk(&[1, 2, 3, 4]), Time::ZERO);
    let (ours, theirs) = crossed(&mut desk, now);
    for _ in 0..=u32::from(u16::MAX) {
        now += ASK_EVERY;
        let Ok(Asked::Call(called)) = desk.ask(now, &id(3), &id(2)) else { panic!("no call") };
        assert_ne!(called, theirs, "it is in use");
        assert_eq!(desk.answered(now, &id(2), called, false), Err(Refusal::NotHere));
        assert_eq!(desk.carry(now, &id(1), ours, 1), Ok((id(2), theirs)));
    }
    let Ok(Asked::Call(called)) = desk.ask(now, &id(4), &id(2)) else { panic!("no call") };
    let number = desk.answered(now, &id(2), called, true).unwrap();
    assert_eq!(desk.carry(now, &id(4), number, 1), Ok((id(2), called)));
}

#[test]
fn a_guest_that_sends_without_end_gets_its_share_and_others_theirs() {
    let rates = Rates { guest: 100_000, all: 1_000_000 };
    let mut desk = Desk::new(rates);
    for n in 1..=3 {
        desk.welcome(id(n)).unwrap();
    }
    let (ours, theirs) = crossed(&mut desk, Time::ZERO);
    let mut carried = [0_u64; 2];
    for ms in 0..2_000 {
        let now = Time::from_millis(ms);
        for _ in 0..10 {
            carried[0] += u64::from(desk.carry(now, &id(1), ours, 1000).is_ok());
        }
        if ms % 20 == 0 {
            carried[1] += u64::from(desk.carry(now, &id(2), theirs, 1000).is_ok());
        }
    }
    // Two seconds and a burst.
    assert!((200..=226).contains(&carried[0]), "{carried:?}");
    assert_eq!(carried[1], 100);
    assert_eq!(desk.counts().over_guest, 20_000 - carried[0]);
    // A new connection is no way to another allowance.
    desk.welcome(id(1)).unwrap();
    let now = Time::from_millis(2_000);
    let (ours, _) = crossed(&mut desk, now);
    let more = (0..100).filter(|_| desk.carry(now, &id(1), ours, 1000).is_ok()).count();
    assert!(more <= 1, "{more}");
}

#[test]
fn all_together_send_no_more_than_the_ferry_carries() {
    let mut desk = Desk::new(Rates { guest: 1_000_000, all: 100_000 });
    for n in 1..=4 {
        desk.welcome(id(n)).unwrap();
    }
    let mut numbers = Vec::new();
    for (from, to) in [(1, 2), (3, 4)] {
        let Ok(Asked::Call(theirs)) = desk.ask(Time::ZERO, &id(from), &id(to)) else { panic!("no call") };
        numbers.push((from, desk.answered(Time::ZERO, &id(to), theirs, true).unwrap()));
    }
    let mut carried = 0_u64;
    for ms in 0..2_000 {
        for (from, handle) in &numbers {
            carried += u64::from(desk.carry(Time::from_millis(ms), &id(*from), *handle, 1000).is_ok());
        }
    }
    assert!((200..=226).contains(&carried), "{carried}");
    assert!(desk.counts().over_all > 3_000);
}

#[test]
fn a_guest_that_asks_without_end_is_refused_and_others_are_not() {
    let mut desk = desk(&[1, 2, 3]);
    let answers: Vec<_> = (0..1000).map(|_| desk.ask(Time::ZERO, &id(1), &id(9))).collect();
    let refused = answers.iter().filter(|answer| **answer == Err(Refusal::TooOften)).count();
    assert_eq!(refused, 1000 - ASKS_BURST as usize);
    assert!(desk.ask(Time::ZERO, &id(2), &id(3)).is_ok());
    assert_eq!(desk.ask(Time::from_millis(250), &id(1), &id(9)), Err(Refusal::NotHere));
}

#[test]
fn guests_and_their_crossings_have_their_maxima() {
    let mut desk = Desk::new(Rates::default());
    for n in 0..FERRY_GUESTS_MAX {
        desk.welcome(id(n)).unwrap();
    }
    assert_eq!(desk.welcome(id(FERRY_GUESTS_MAX)), Err(Full));
    desk.welcome(id(0)).unwrap();
    let asks = (1..FERRY_GUESTS_MAX).map(|n| desk.ask(Time::from_millis(n as u64 * 250), &id(0), &id(n)));
    let refused = asks.filter(|answer| *answer == Err(Refusal::TooMany)).count();
    assert_eq!(refused, FERRY_GUESTS_MAX - 1 - FERRY_CROSSINGS_MAX);
}

#[test]
fn what_is_not_used_is_forgotten_and_what_is_used_one_way_is_not() {
    let mut desk = desk(&[1, 2, 3]);
    let (ours, theirs) = crossed(&mut desk, Time::ZERO);
    let late = Time::ZERO + FERRY_IDLE_MAX - Duration::from_secs(1);
    assert!(desk.carry(late, &id(2), theirs, 1).is_ok());
    let later = Time::ZERO + FERRY_IDLE_MAX + Duration::from_secs(1);
    let _ = desk.ask(later, &id(3), &id(9));
    assert!(desk.carry(later, &id(1), ours, 1).is_ok());
    let _ = desk.ask(later + FERRY_IDLE_MAX, &id(3), &id(9));
    assert_eq!(desk.crossings(), 0);
}

#[derive(Clone, Debug)]
enum Act {
    Welcome(usize),
    Leave(usize),
    Ask(usize, usize),
    Answer(usize, u16, bool),
    Carry(usize, u16),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let guest = 0_usize..5;
    prop_oneof![
        1 => guest.clone().prop_map(Act::Welcome),
        1 => guest.clone().prop_map(Act::Leave),
        4 => (guest.clone(), guest.clone()).prop_map(|(a, b)| Act::Ask(a, b)),
        4 => (guest.clone(), 0_u16..12, any::<bool>()).prop_map(|(a, h, yes)| Act::Answer(a, h, yes)),
        6 => (guest, 0_u16..12).prop_map(|(a, h)| Act::Carry(a, h)),
        1 => (0_u64..90_000).prop_map(Act::Wait),
    ]
}

proptest! {
    /// Whatever guests do: a packet goes to a guest that is there and said yes to its sender since both came.
    #[test]
    fn only_who_agreed_hears_of_anybody(acts in proptest::collection::vec(act(), 0..200)) {
        let mut desk = Desk::new(Rates::default());
        let mut now = Time::ZERO;
        // Who said yes to whom, and has not left since; neither has the other.
        let mut yes: std::collections::BTreeSet<(DeviceId, DeviceId)> = Default::default();
        for act in acts {
            match act {
                Act::Welcome(n) | Act::Leave(n) => {
                    yes.retain(|(a, b)| *a != id(n) && *b != id(n));
                    if matches!(act, Act::Welcome(_)) { desk.welcome(id(n)).unwrap(); } else { desk.leave(&id(n)); }
                }
                Act::Ask(a, b) => {
                    if desk.ask(now, &id(a), &id(b)).is_ok() { yes.insert((id(a), id(b))); }
                }
                Act::Answer(n, handle, agrees) => {
                    let from = desk.guests.get(&id(n)).and_then(|g| g.ends.get(&Handle(handle))).map(|e| e.peer);
                    let _ = desk.answered(now, &id(n), Handle(handle), agrees);
                    if let Some(from) = from && agrees { yes.insert((id(n), from)); }
                }
                Act::Carry(n, handle) => {
                    if let Ok((to, back)) = desk.carry(now, &id(n), Handle(handle), 100) {
                        prop_assert!(desk.has(&id(n)) && desk.has(&to) && to != id(n));
                        prop_assert!(yes.contains(&(id(n), to)) && yes.contains(&(to, id(n))));
                        prop_assert_eq!(desk.carry(now, &to, back, 100), Ok((id(n), Handle(handle))));
                    }
                }
                Act::Wait(ms) => now += Duration::from_millis(ms),
            }
            for (guest, state) in &desk.guests {
                prop_assert!(state.ends.len() <= FERRY_CROSSINGS_MAX);
                for (handle, end) in &state.ends {
                    let twin = desk.guests.get(&end.peer).and_then(|peer| peer.ends.get(&end.theirs));
                    prop_assert_eq!(twin.map(|twin| (twin.peer, twin.theirs)), Some((*guest, *handle)));
                }
            }
        }
    }
}
