//! Ceremonies between two ends of an in-memory stream, honest and otherwise. Time is paused: nothing here sleeps.

use std::time::Duration;

use honeylink_core::identity::SecretKey;
use honeylink_core::limits::{PAIRING_CODE_LIFETIME, PAIRING_STEP_MAX};
use honeylink_core::pairing::frame::{Frame, HEADER_BYTES, Hello, Versions};
use honeylink_core::rng::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::{Instant, advance};

use super::*;

const GUEST: u64 = 1;
const HOST: u64 = 2;
const MALLORY: u64 = 66;

fn id(seed: u64) -> DeviceId {
    SecretKey::from_u64(seed).id()
}

fn here(local: u64, peer: u64) -> Here {
    Here {
        local: id(local),
        card: DeviceCard::new(&format!("device {local}"), DeviceType::Laptop).unwrap(),
        peer: id(peer),
        binding: ChannelBinding([3; 32]),
        compare: Compare::Unable,
    }
}

fn desk() -> PairingDesk {
    PairingDesk::new(Rng::from_u64(9))
}

fn order(host: u64, purpose: Purpose) -> Order {
    Order {
        wide: false,
        form: Form::Words,
        purpose,
        lifetime: PAIRING_CODE_LIFETIME,
        host: id(host),
        addresses: vec!["192.0.2.7:7843".parse().unwrap()],
        relay: None,
    }
}

fn source(name: &str) -> Source {
    Source::named(name.as_bytes())
}

fn pair_with(code: &Code) -> Errand {
    Errand::Code(code.clone(), Purpose::Pair)
}

/// The same number with other words.
fn wrong(code: &Code) -> Errand {
    let words = if code.reveal().ends_with("zoo-zoo") { "zero-zero" } else { "zoo-zoo" };
    pair_with(&Code::parse(&format!("{}-{words}", code.nameplate().unwrap())).unwrap())
}

type Outcome = Result<Paired, PairingError>;

/// Guest and host on one stream, each with what it believes; the guest's outcome first.
async fn meet(desk: &PairingDesk, g: &Here, h: &Here, errand: &Errand, from: &str) -> (Outcome, Outcome) {
    let (mut left, mut right) = duplex(4096);
    let mut rng = Rng::from_u64(5);
    // Each side drops its end when it is done, as a node closes a stream.
    tokio::join!(
        async {
            let out = guest(&mut left, g, errand, &mut rng).await;
            drop(left);
            out
        },
        async {
            let out = host(&mut right, h, source(from), desk).await;
            drop(right);
            out
        },
    )
}

async fn meet_honestly(desk: &PairingDesk, errand: &Errand) -> (Outcome, Outcome) {
    meet(desk, &here(GUEST, HOST), &here(HOST, GUEST), errand, "a").await
}

#[tokio::test(start_paused = true)]
async fn one_ceremony_with_a_code_pairs_both_sides() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let typed = Code::parse(&open.code.reveal().to_uppercase()).unwrap();
    let (guest, host) = meet_honestly(&desk, &pair_with(&typed)).await;
    let (guest, host) = (guest.unwrap(), host.unwrap());
    assert_eq!((guest.peer, guest.name.as_str()), (id(HOST), "device 2"));
    assert_eq!((host.peer, host.name.as_str()), (id(GUEST), "device 1"));
    assert_eq!((guest.method, host.method), (Method::Code, Method::Code));
    assert_eq!((guest.verified, host.verified), (false, false));
    assert_eq!(host.ticket, Some(open.ticket));
    assert_eq!(guest.session_key.unwrap().as_bytes(), host.session_key.unwrap().as_bytes());
    assert!(!desk.is_open());
}

#[tokio::test(start_paused = true)]
async fn an_invite_pairs_both_sides_and_uses_up_the_code() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let scanned = Invite::parse(&open.invite.to_qr_text()).unwrap();
    let (guest, host) = meet_honestly(&desk, &Errand::Invite(scanned)).await;
    assert_eq!((guest.unwrap().method, host.unwrap().method), (Method::Qr, Method::Qr));
    let (guest, host) = meet_honestly(&desk, &pair_with(&open.code)).await;
    assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::Used));
    assert_eq!(host.unwrap_err(), PairingError::TurnedAway(Refusal::Used));
}

#[tokio::test(start_paused = true)]
async fn three_wrong_codes_from_two_sources_lock_pairing_for_ten_minutes() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let (g, h) = (here(GUEST, HOST), here(HOST, GUEST));
    for from in ["a", "b", "b"] {
        let (guest, host) = meet(&desk, &g, &h, &wrong(&open.code), from).await;
        assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::WrongCode));
        assert_eq!(host.unwrap_err(), PairingError::TurnedAway(Refusal::WrongCode));
    }
    let (guest, _) = meet(&desk, &g, &h, &pair_with(&open.code), "c").await;
    let error = guest.unwrap_err();
    assert!(matches!(error, PairingError::Refused(Refusal::TooManyTries { .. })), "{error}");
    assert_eq!(error.to_string(), "too many wrong codes; try again in 600 s");

    advance(Duration::from_secs(601)).await;
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let (guest, host) = meet(&desk, &g, &h, &pair_with(&open.code), "b").await;
    assert!(guest.is_ok() && host.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_expired_code_and_a_closed_desk_are_told_apart() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    assert_eq!(open.lifetime, PAIRING_CODE_LIFETIME);
    advance(PAIRING_CODE_LIFETIME).await;
    let (guest, _) = meet_honestly(&desk, &pair_with(&open.code)).await;
    assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::Expired));
    let unknown = Code::parse("042817").unwrap();
    let (guest, _) = meet_honestly(&desk, &pair_with(&unknown)).await;
    assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::NotOpen));
}

#[tokio::test(start_paused = true)]
async fn a_code_for_one_purpose_does_not_serve_the_other() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Fetch)).unwrap();
    let (guest, _) = meet_honestly(&desk, &pair_with(&open.code)).await;
    assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::WrongPurpose));
    let (guest, host) = meet_honestly(&desk, &Errand::Code(open.code, Purpose::Fetch)).await;
    assert_eq!((guest.unwrap().purpose, host.unwrap().purpose), (Purpose::Fetch, Purpose::Fetch));
}

#[tokio::test(start_paused = true)]
async fn two_guests_on_one_stream_are_told_that_one_must_show_the_code() {
    let (mut left, mut right) = duplex(4096);
    let errand = pair_with(&Code::parse("7-guitar-zebra").unwrap());
    let (here_a, here_b) = (here(1, 2), here(2, 1));
    let (mut rng_a, mut rng_b) = (Rng::from_u64(1), Rng::from_u64(2));
    let (a, b) = tokio::join!(
        guest(&mut left, &here_a, &errand, &mut rng_a),
        guest(&mut right, &here_b, &errand, &mut rng_b)
    );
    assert_eq!((a.unwrap_err(), b.unwrap_err()), (PairingError::BothEntering, PairingError::BothEntering));
}

#[tokio::test(start_paused = true)]
async fn both_showing_and_both_typing_at_once_pairs_both_ways() {
    let (desk_a, desk_b) = (desk(), PairingDesk::new(Rng::from_u64(10)));
    let open_a = desk_a.open(&order(1, Purpose::Pair)).unwrap();
    let open_b = desk_b.open(&order(2, Purpose::Pair)).unwrap();
    let (a, b) = (here(1, 2), here(2, 1));
    let (to_a, to_b) = (pair_with(&open_a.code), pair_with(&open_b.code));
    let ((b_guest, a_host), (a_guest, b_host)) =
        tokio::join!(meet(&desk_a, &b, &a, &to_a, "b"), meet(&desk_b, &a, &b, &to_b, "a"));
    for outcome in [a_guest, a_host] {
        assert_eq!(outcome.unwrap().peer, id(2));
    }
    for outcome in [b_guest, b_host] {
        assert_eq!(outcome.unwrap().peer, id(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_cannot_pair_with_itself_nor_with_the_wrong_one() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let own = here(HOST, HOST);
    let (guest, host) = meet(&desk, &own, &own, &pair_with(&open.code), "a").await;
    assert_eq!(
        (guest.unwrap_err(), host.unwrap_err()),
        (PairingError::SelfPairing, PairingError::SelfPairing)
    );
    let (guest, host) =
        meet(&desk, &here(GUEST, 3), &here(3, GUEST), &Errand::Invite(open.invite), "a").await;
    assert_eq!(guest.unwrap_err(), PairingError::WrongDevice { expected: id(HOST), found: id(3) });
    assert!(host.is_err());
}

/// Copies every frame from one victim's connection to the other's. He terminates both, so each has its own binding.
async fn relay(mut left: DuplexStream, mut right: DuplexStream) {
    let _ = tokio::io::copy_bidirectional(&mut left, &mut right).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_terminates_both_sides_fails_and_is_counted() {
    // First with its own key on both connections, then as if it had stolen both victims' keys.
    for stolen in [false, true] {
        let desk = desk();
        let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
        let mut g = here(GUEST, if stolen { HOST } else { MALLORY });
        g.binding = ChannelBinding([0xaa; 32]);
        let mut h = here(HOST, if stolen { GUEST } else { MALLORY });
        h.binding = ChannelBinding([0xbb; 32]);
        let ((mut at_guest, near), (far, mut at_host)) = (duplex(4096), duplex(4096));
        let errand = pair_with(&open.code);
        let mut rng = Rng::from_u64(5);
        let (guest, host, ()) = tokio::join!(
            async {
                let out = guest(&mut at_guest, &g, &errand, &mut rng).await;
                drop(at_guest);
                out
            },
            async {
                let out = host(&mut at_host, &h, source("m"), &desk).await;
                drop(at_host);
                out
            },
            relay(near, far)
        );
        assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::WrongCode));
        assert_eq!(host.unwrap_err(), PairingError::TurnedAway(Refusal::WrongCode));
    }
}

/// A host that does not know the code cannot make the guest believe it does.
#[tokio::test(start_paused = true)]
async fn a_false_host_gets_one_guess_and_no_proof() {
    let (real, false_desk) = (desk(), PairingDesk::new(Rng::from_u64(77)));
    let open = real.open(&order(HOST, Purpose::Pair)).unwrap();
    // The false host opens codes until one has the number the person will type.
    let number = open.code.nameplate();
    let guess = loop {
        let guess = false_desk.open(&order(MALLORY, Purpose::Pair)).unwrap();
        if guess.code.nameplate() == number {
            break guess;
        }
        false_desk.close(guess.ticket);
    };
    assert_ne!(guess.code, open.code);
    let (guest, _) =
        meet(&false_desk, &here(GUEST, MALLORY), &here(MALLORY, GUEST), &pair_with(&open.code), "g").await;
    assert!(guest.is_err());
}

#[tokio::test(start_paused = true)]
async fn silence_and_hanging_up_end_in_named_errors() {
    let desk = desk();
    let (left, mut right) = duplex(4096);
    let began = Instant::now();
    let error = host(&mut right, &here(HOST, GUEST), source("a"), &desk).await.unwrap_err();
    assert_eq!(error, PairingError::TimedOut("hello"));
    assert!(began.elapsed() <= PAIRING_STEP_MAX + Duration::from_secs(2));
    drop(left);

    let (left, mut right) = duplex(4096);
    drop(left);
    let error = host(&mut right, &here(HOST, GUEST), source("a"), &desk).await.unwrap_err();
    assert_eq!(error, PairingError::Lost("hello"));
}

/// What a stranger's bytes make of the host, with the stranger hanging up afterwards.
async fn host_hears(desk: &PairingDesk, bytes: &[u8]) -> PairingError {
    let (mut left, mut right) = duplex(64 * 1024);
    left.write_all(bytes).await.unwrap();
    left.shutdown().await.unwrap();
    host(&mut right, &here(HOST, GUEST), source("a"), desk).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn hostile_bytes_end_in_an_error_and_leave_the_code_open() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let hello = Frame::Hello(Hello {
        versions: Versions::OURS,
        purpose: Purpose::Pair,
        hint: open.code.hint(),
        compare: false,
    });
    let done = Frame::Done.encode();
    let too_new = Frame::Hello(Hello {
        versions: Versions { min: 2, max: 9 },
        purpose: Purpose::Pair,
        hint: open.code.hint(),
        compare: false,
    });
    assert!(matches!(host_hears(&desk, &[0xff, 0xff, 1]).await, PairingError::Malformed(_)), "oversized");
    assert!(matches!(host_hears(&desk, &[0, 0]).await, PairingError::Malformed(_)), "empty");
    assert_eq!(host_hears(&desk, &hello.encode()[..5]).await, PairingError::Lost("hello"));
    assert_eq!(host_hears(&desk, &done).await, PairingError::OutOfTurn { expected: "hello", found: "done" });
    assert_eq!(
        host_hears(&desk, &too_new.encode()).await,
        PairingError::TurnedAway(Refusal::Version { min: 1, max: 1 })
    );
    let skips = [hello.encode(), done].concat();
    assert_eq!(host_hears(&desk, &skips).await, PairingError::OutOfTurn { expected: "pake", found: "done" });

    let mut rng = Rng::from_u64(3);
    for round in 0..300 {
        let mut noise = vec![0; usize::try_from(rng.below(600)).unwrap()];
        rng.fill(&mut noise);
        // Half the rounds begin with a good greeting, so that later states hear noise too.
        let bytes = if round % 2 == 0 { noise } else { [&hello.encode()[..], &noise].concat() };
        let _ = host_hears(&desk, &bytes).await;
    }
    let (guest, host) = meet_honestly(&desk, &pair_with(&open.code)).await;
    assert!(guest.is_ok() && host.is_ok(), "none of it used the code or counted as a wrong try");
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_the_last_frame_is_swallowed() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Fetch)).unwrap();
    let (mut left, mut right) = duplex(4096);
    let (g, h) = (here(GUEST, HOST), here(HOST, GUEST));
    let errand = Errand::Code(open.code, Purpose::Fetch);
    let mut rng = Rng::from_u64(5);
    let (received, ()) = tokio::join!(
        async {
            guest(&mut left, &g, &errand, &mut rng).await.unwrap();
            let mut next = [0; 4];
            left.read_exact(&mut next).await.unwrap();
            next
        },
        async {
            host(&mut right, &h, source("a"), &desk).await.unwrap();
            right.write_all(b"next").await.unwrap();
        }
    );
    assert_eq!(&received, b"next");
}

/// Answers each prompt with what `decide` says of it; `None` walks away.
fn person(decide: impl Fn(&SasPrompt) -> Option<bool> + Send + 'static) -> mpsc::Sender<SasPrompt> {
    let (prompts, mut asked) = mpsc::channel::<SasPrompt>(1);
    tokio::spawn(async move {
        while let Some(prompt) = asked.recv().await {
            if let Some(answer) = decide(&prompt) {
                let _ = prompt.answer.send(answer);
            }
        }
    });
    prompts
}

/// A pairing by code in which the host wants a comparison, with these answers.
async fn compare(guest_says: Option<bool>, host_says: Option<bool>) -> (Outcome, Outcome) {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let (mut g, mut h) = (here(GUEST, HOST), here(HOST, GUEST));
    g.compare = Compare::IfAsked(person(move |_| guest_says));
    h.compare = Compare::Always(person(move |_| host_says));
    meet(&desk, &g, &h, &pair_with(&open.code), "a").await
}

#[tokio::test(start_paused = true)]
async fn comparing_verifies_only_if_both_people_agree() {
    let (guest, host) = compare(Some(true), Some(true)).await;
    assert!(guest.unwrap().verified && host.unwrap().verified);

    let (guest, host) = compare(Some(false), Some(true)).await;
    assert_eq!(guest.unwrap_err(), PairingError::SasMismatch);
    assert_eq!(host.unwrap_err(), PairingError::Refused(Refusal::SasMismatch));

    let (guest, host) = compare(Some(true), None).await;
    assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::Cancelled));
    assert_eq!(host.unwrap_err(), PairingError::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_side_without_a_person_says_so() {
    let desk = desk();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let mut h = here(HOST, GUEST);
    h.compare = Compare::Always(person(|_| Some(true)));
    let (guest, _) = meet(&desk, &here(GUEST, HOST), &h, &pair_with(&open.code), "a").await;
    assert_eq!(guest.unwrap_err(), PairingError::NobodyToCompare);
}

/// The two people note what they saw; the test looks at both notes.
fn noting(notes: &mpsc::UnboundedSender<Sas>) -> Compare {
    let notes = notes.clone();
    Compare::IfAsked(person(move |prompt| {
        let _ = notes.send(prompt.sas);
        Some(true)
    }))
}

#[tokio::test(start_paused = true)]
async fn without_a_code_comparing_pairs_and_verifies_once() {
    let desk = desk();
    desk.open_walk_ins(Duration::from_secs(60));
    let (notes, mut seen) = mpsc::unbounded_channel();
    let (mut g, mut h) = (here(GUEST, HOST), here(HOST, GUEST));
    g.compare = noting(&notes);
    h.compare = noting(&notes);
    let (guest, host) = meet(&desk, &g, &h, &Errand::Compare, "a").await;
    let (guest, host) = (guest.unwrap(), host.unwrap());
    assert_eq!((guest.method, guest.verified, guest.name.as_str()), (Method::Sas, true, "device 2"));
    assert_eq!((host.method, host.verified, host.name.as_str()), (Method::Sas, true, "device 1"));
    assert_eq!(seen.recv().await, seen.recv().await, "both saw the same string");

    let (guest, _) = meet(&desk, &g, &h, &Errand::Compare, "a").await;
    assert_eq!(guest.unwrap_err(), PairingError::Refused(Refusal::NotOpen));
    assert!(seen.is_empty(), "no prompt appears while the desk is closed");
}

#[tokio::test(start_paused = true)]
async fn a_man_in_the_middle_of_a_comparison_shows_different_strings() {
    let (notes, mut seen) = mpsc::unbounded_channel();
    let (silent, _unread) = mpsc::unbounded_channel();
    let (desk, his_desk) = (desk(), PairingDesk::new(Rng::from_u64(70)));
    desk.open_walk_ins(Duration::from_secs(60));
    his_desk.open_walk_ins(Duration::from_secs(60));
    let (mut g, mut h) = (here(GUEST, MALLORY), here(HOST, MALLORY));
    g.compare = noting(&notes);
    h.compare = noting(&notes);
    g.binding = ChannelBinding([0xaa; 32]);
    h.binding = ChannelBinding([0xbb; 32]);
    let (mut to_guest, mut to_host) = (here(MALLORY, GUEST), here(MALLORY, HOST));
    to_guest.compare = noting(&silent);
    to_host.compare = noting(&silent);
    to_guest.binding = g.binding;
    to_host.binding = h.binding;
    let _ = tokio::join!(
        meet(&his_desk, &g, &to_guest, &Errand::Compare, "g"),
        meet(&desk, &to_host, &h, &Errand::Compare, "m")
    );
    let (one, other) = (seen.recv().await.unwrap(), seen.recv().await.unwrap());
    assert_ne!(one, other);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_visit_frees_the_desk() {
    let desk = desk();
    desk.open_walk_ins(Duration::from_secs(60));
    let mut h = here(HOST, GUEST);
    h.compare = Compare::IfAsked(person(|_| Some(true)));
    let hello = Frame::Hello(Hello {
        versions: Versions::OURS,
        purpose: Purpose::Pair,
        hint: Hint::Sas,
        compare: true,
    });
    let (mut left, mut right) = duplex(4096);
    left.write_all(&hello.encode()).await.unwrap();
    let visit = tokio::time::timeout(Duration::from_secs(1), host(&mut right, &h, source("a"), &desk));
    assert!(visit.await.is_err(), "the visitor stays silent and the host is cancelled");
    let mut g = here(GUEST, HOST);
    g.compare = Compare::IfAsked(person(|_| Some(true)));
    let (guest, host) = meet(&desk, &g, &h, &Errand::Compare, "b").await;
    assert!(guest.is_ok() && host.is_ok());
}

#[tokio::test(start_paused = true)]
async fn watching_a_desk_shows_opening_and_expiry() {
    let desk = desk();
    let mut watch = desk.watch();
    let open = desk.open(&order(HOST, Purpose::Pair)).unwrap();
    let nameplates = vec![open.code.nameplate().unwrap()];
    assert_eq!(watch.changed().await, DeskState { open: true, nameplates });
    let began = Instant::now();
    assert_eq!(watch.changed().await, DeskState::default());
    assert_eq!(began.elapsed().as_secs(), PAIRING_CODE_LIFETIME.as_secs());
}

#[test]
fn the_smallest_frame_is_a_header_and_a_type() {
    assert_eq!(Frame::Done.encode().len(), HEADER_BYTES + 1);
}
