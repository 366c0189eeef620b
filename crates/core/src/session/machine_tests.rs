//! The session's promises, told as stories between two sessions and a line that can be cut.

use super::*;
use crate::wire::link::FrameDecoder;
use bytes::BytesMut;
use proptest::prelude::*;

/// Two sessions and the line between them; frames cross it as bytes.
struct Pair {
    now: Time,
    a: Session,
    b: Session,
    got_a: Vec<Bytes>,
    got_b: Vec<Bytes>,
    up: bool,
}

impl Pair {
    fn new() -> Self {
        Self::with(Config::default(), Config::default())
    }

    fn with(a: Config, b: Config) -> Self {
        Self {
            now: Time::ZERO,
            a: Session::new(Time::ZERO, Role::Initiator, a),
            b: Session::new(Time::ZERO, Role::Responder, b),
            got_a: vec![],
            got_b: vec![],
            up: false,
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new();
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        self.up = true;
        self.b.handle(self.now, Input::CarrierUp);
        self.a.handle(self.now, Input::CarrierUp);
        self.run();
    }

    /// Cuts the line after `frames` more frames from each side got through; the rest is lost.
    fn cut_after(&mut self, frames: usize) {
        self.drain(frames);
        self.up = false;
        self.a.handle(self.now, Input::CarrierLost);
        self.b.handle(self.now, Input::CarrierLost);
        self.drain(0);
    }

    fn run(&mut self) {
        while self.drain(usize::MAX) {}
    }

    /// Moves outputs once each way; true if anything crossed.
    fn drain(&mut self, limit: usize) -> bool {
        let mut crossed = false;
        for from_a in [true, false] {
            let (from, to, got) = if from_a {
                (&mut self.a, &mut self.b, &mut self.got_a)
            } else {
                (&mut self.b, &mut self.a, &mut self.got_b)
            };
            let mut bytes = BytesMut::new();
            let mut count = 0;
            while let Some(output) = from.poll_output() {
                match output {
                    Output::Transmit(frame) if self.up && count < limit => {
                        count += 1;
                        frame.encode(&mut bytes);
                    }
                    Output::Deliver(payload) => got.push(payload),
                    Output::Transmit(_)
                    | Output::Entered(_)
                    | Output::Pong { .. }
                    | Output::Acknowledged
                    | Output::SendRefused
                    | Output::StopCarrier => {}
                }
            }
            let mut decoder = FrameDecoder::new(1 << 20);
            decoder.feed(&bytes);
            while let Some(frame) = decoder.next_frame().unwrap() {
                crossed = true;
                to.handle(self.now, Input::Frame(frame));
            }
        }
        crossed
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.a.handle(self.now, Input::Timeout);
        self.b.handle(self.now, Input::Timeout);
        self.run();
    }
}

fn text(n: usize) -> Bytes {
    Bytes::from(format!("message {n}"))
}

fn close(session: &mut Session, now: Time) {
    session.handle(now, Input::Close { code: CloseCode::Normal, text: "bye".into() });
}

#[test]
fn hello_and_welcome_make_both_sides_active() {
    let pair = Pair::connected();
    assert_eq!((pair.a.state(), pair.b.state()), (State::Active, State::Active));
    assert_eq!(pair.a.peer_message_max(), MESSAGE_BYTES_MAX as u64);
}

#[test]
fn messages_sent_before_the_connection_arrive_once_it_is_up() {
    let mut pair = Pair::new();
    pair.a.handle(pair.now, Input::Send(text(0)));
    pair.connect();
    assert_eq!(pair.got_b, [text(0)]);
}

#[test]
fn an_ack_comes_by_itself_and_empties_the_window() {
    let mut pair = Pair::connected();
    pair.a.handle(pair.now, Input::Send(text(0)));
    pair.run();
    let deadline = pair.b.poll_timeout().unwrap();
    assert_eq!(deadline.why, "acknowledgement due");
    pair.wait(ACK_DELAY);
    close(&mut pair.a, pair.now);
    pair.run();
    assert_eq!(pair.a.closed().unwrap().first_undelivered, None);
}

#[test]
fn a_clean_close_delivers_everything_before_it() {
    let mut pair = Pair::connected();
    for n in 0..10 {
        pair.a.handle(pair.now, Input::Send(text(n)));
    }
    close(&mut pair.a, pair.now);
    pair.run();
    assert_eq!(pair.got_b.len(), 10);
    assert_eq!(pair.b.closed().unwrap().by, Closer::Peer);
    assert_eq!(pair.b.closed().unwrap().text, "bye");
    let ours = pair.a.closed().unwrap();
    assert_eq!((ours.by, ours.first_undelivered), (Closer::Us, None));
}

#[test]
fn both_sides_closing_at_once_lose_nothing() {
    let mut pair = Pair::connected();
    pair.a.handle(pair.now, Input::Send(text(0)));
    pair.b.handle(pair.now, Input::Send(text(1)));
    close(&mut pair.a, pair.now);
    close(&mut pair.b, pair.now);
    pair.run();
    assert_eq!((pair.got_a.len(), pair.got_b.len()), (1, 1));
    for side in [&pair.a, &pair.b] {
        assert_eq!(side.closed().unwrap().first_undelivered, None);
    }
}

#[test]
fn a_new_stream_before_the_old_ones_death_counts_as_a_resume() {
    let mut pair = Pair::connected();
    pair.b.handle(pair.now, Input::CarrierUp);
    assert_eq!(pair.b.state(), State::Suspended);
    pair.a.handle(pair.now, Input::CarrierLost);
    pair.a.handle(pair.now, Input::CarrierUp);
    pair.run();
    assert_eq!((pair.b.state(), pair.b.stats().resumes), (State::Active, 1));
}

#[test]
fn a_suspended_session_that_stays_so_names_the_first_undelivered_message() {
    let mut pair = Pair::connected();
    pair.a.handle(pair.now, Input::Send(text(0)));
    pair.run();
    pair.wait(ACK_DELAY);
    pair.cut_after(0);
    pair.a.handle(pair.now, Input::Send(text(1)));
    assert_eq!(pair.a.state(), State::Suspended);
    pair.wait(SESSION_SUSPENDED_MAX);
    let reason = pair.a.closed().unwrap();
    assert_eq!((reason.by, reason.first_undelivered), (Closer::Timeout, Some(1)));
}

#[test]
fn a_session_that_never_connects_is_given_up() {
    let mut pair = Pair::new();
    pair.wait(SESSION_PENDING_MAX);
    assert_eq!(pair.a.closed().unwrap().by, Closer::Timeout);
}

#[test]
fn versions_without_overlap_are_refused_and_say_what_is_spoken() {
    let mut b = Session::new(Time::ZERO, Role::Responder, Config::default());
    b.handle(Time::ZERO, Input::CarrierUp);
    let hello = Frame::Hello { version_min: 9, version_max: 12, message_max: 1, next: 0 };
    b.handle(Time::ZERO, Input::Frame(hello));
    assert_eq!(b.closed().unwrap().code, CloseCode::Version);
    let refused = core::iter::from_fn(|| b.poll_output())
        .any(|o| matches!(o, Output::Transmit(Frame::Refuse { code: CloseCode::Version, .. })));
    assert!(refused);
}

#[test]
fn a_lying_ack_or_gap_or_early_frame_closes_with_a_violation() {
    for frame in [
        Frame::Ack { next: 5 },
        Frame::Message { seq: 3, payload: Bytes::new() },
        Frame::Close { code: CloseCode::Normal, next: 9, reason: String::new() },
        Frame::Hello { version_min: 1, version_max: 1, message_max: 1, next: 0 },
    ] {
        let mut pair = Pair::connected();
        pair.a.handle(pair.now, Input::Frame(frame.clone()));
        assert_eq!(pair.a.closed().unwrap().code, CloseCode::ProtocolViolation, "{frame:?}");
    }
    let mut fresh = Session::new(Time::ZERO, Role::Initiator, Config::default());
    fresh.handle(Time::ZERO, Input::Frame(Frame::Ping { nonce: 1 }));
    assert_eq!(fresh.state(), State::Closed);
}

#[test]
fn a_peer_that_forgot_what_it_acknowledged_cannot_resume() {
    let mut pair = Pair::connected();
    pair.a.handle(pair.now, Input::Send(text(0)));
    pair.run();
    pair.wait(ACK_DELAY);
    pair.cut_after(0);
    pair.a.handle(pair.now, Input::CarrierUp);
    pair.a.handle(pair.now, Input::Frame(Frame::Welcome { version: 1, message_max: 1, next: 0 }));
    assert_eq!(pair.a.closed().unwrap().code, CloseCode::ProtocolViolation);
}

#[test]
fn nothing_is_accepted_after_close() {
    let mut pair = Pair::connected();
    close(&mut pair.a, pair.now);
    assert!(!pair.a.can_send());
    pair.a.handle(pair.now, Input::Send(text(0)));
    assert!(core::iter::from_fn(|| pair.a.poll_output()).any(|o| o == Output::SendRefused));
}

#[test]
fn the_smaller_limit_of_the_peer_is_kept_by_the_sender() {
    let small = Config { message_max: 10, ..Config::default() };
    let mut pair = Pair::with(Config::default(), small);
    pair.connect();
    pair.a.handle(pair.now, Input::Send(Bytes::from(vec![0; 11])));
    assert!(core::iter::from_fn(|| pair.a.poll_output()).any(|o| o == Output::SendRefused));
    assert_eq!(pair.a.state(), State::Active);
}

#[test]
fn a_close_said_again_after_a_resume_is_not_waited_for_for_ever() {
    let mut pair = Pair::connected();
    close(&mut pair.a, pair.now);
    pair.cut_after(0);
    pair.b.handle(pair.now, Input::CarrierUp);
    pair.a.handle(pair.now, Input::CarrierUp);
    pair.a.handle(pair.now, Input::Frame(Frame::Welcome { version: 1, message_max: 1, next: 0 }));
    assert_eq!(pair.a.state(), State::Active);
    pair.now += CLOSE_WAIT;
    pair.a.handle(pair.now, Input::Timeout);
    assert_eq!(pair.a.closed().unwrap().by, Closer::Us);
}

#[test]
fn a_close_waits_as_long_as_the_peer_still_takes_messages() {
    let mut pair = Pair::connected();
    for n in 0..3 {
        pair.a.handle(pair.now, Input::Send(text(n)));
    }
    close(&mut pair.a, pair.now);
    for next in 1..=3 {
        pair.now += CLOSE_WAIT - Duration::from_secs(1);
        pair.a.handle(pair.now, Input::Timeout);
        assert_eq!(pair.a.state(), State::Active, "gave up although message {next} was on its way");
        pair.a.handle(pair.now, Input::Frame(Frame::Ack { next }));
    }
    pair.a.handle(pair.now, Input::Frame(Frame::Closed));
    assert_eq!(pair.a.closed().unwrap().first_undelivered, None);
}

/// A closing session whose peer says `count` messages, each just before patience ends, and does not answer.
fn trickled(count: u64) -> Pair {
    let mut pair = Pair::connected();
    pair.a.handle(pair.now, Input::Send(text(0)));
    close(&mut pair.a, pair.now);
    for seq in 0..count {
        pair.now += CLOSE_WAIT - Duration::from_secs(1);
        pair.a.handle(pair.now, Input::Timeout);
        pair.a.handle(pair.now, Input::Frame(Frame::Message { seq, payload: text(1) }));
    }
    pair
}

#[test]
fn a_close_waits_while_what_the_peer_said_before_it_still_arrives() {
    let mut pair = trickled(5);
    assert_eq!(pair.a.state(), State::Active);
    pair.a.handle(pair.now, Input::Frame(Frame::Ack { next: 1 }));
    pair.a.handle(pair.now, Input::Frame(Frame::Closed));
    assert_eq!(pair.a.closed().unwrap().first_undelivered, None);
}

#[test]
fn a_peer_that_trickles_messages_holds_a_close_only_so_long() {
    let steps = CLOSE_WAIT_TOTAL.as_secs() / (CLOSE_WAIT.as_secs() - 1) + 1;
    let pair = trickled(steps);
    let reason = pair.a.closed().unwrap();
    assert_eq!((reason.by, reason.first_undelivered), (Closer::Timeout, Some(0)));
    assert!(reason.text.contains("did not answer"), "{}", reason.text);
}

#[test]
fn a_close_while_suspended_reaches_the_peer_once_the_line_is_back() {
    let mut pair = Pair::connected();
    pair.cut_after(0);
    close(&mut pair.a, pair.now);
    pair.connect();
    assert_eq!(pair.b.closed().unwrap().by, Closer::Peer);
    assert_eq!(pair.b.closed().unwrap().text, "bye");
    assert_eq!(pair.a.closed().unwrap().by, Closer::Us);
}

#[test]
fn a_close_while_suspended_with_nothing_to_deliver_ends_soon_and_cleanly() {
    let mut pair = Pair::connected();
    pair.cut_after(0);
    close(&mut pair.a, pair.now);
    pair.wait(CLOSE_WAIT_SUSPENDED);
    let reason = pair.a.closed().unwrap();
    assert_eq!((reason.by, reason.first_undelivered), (Closer::Us, None));
}

#[test]
fn a_session_given_up_before_its_welcome_does_not_leave_the_peer_waiting() {
    let mut pair = Pair::new();
    pair.up = true;
    pair.b.handle(pair.now, Input::CarrierUp);
    pair.a.handle(pair.now, Input::CarrierUp);
    close(&mut pair.a, pair.now);
    pair.run();
    assert_eq!(pair.b.closed().unwrap().by, Closer::Peer);
}

#[test]
fn a_peer_that_gives_up_is_quoted_and_not_accused() {
    let why = "message of 9 bytes, the limit is 4";
    for state in [State::Active, State::Suspended, State::Pending] {
        let mut pair = if state == State::Pending { Pair::new() } else { Pair::connected() };
        if state == State::Suspended {
            pair.cut_after(0);
        }
        let close = Frame::Close { code: CloseCode::TooLarge, next: 7, reason: why.into() };
        pair.a.handle(pair.now, Input::Frame(close));
        let reason = pair.a.closed().unwrap();
        assert_eq!((reason.by, reason.code, reason.text.as_str()), (Closer::Peer, CloseCode::TooLarge, why));
    }
}

#[test]
fn a_peer_that_forgot_a_session_we_were_closing_makes_the_close_no_less_clean() {
    let mut pair = Pair::connected();
    close(&mut pair.a, pair.now);
    pair.cut_after(0);
    pair.a.handle(pair.now, Input::CarrierUp);
    let refuse = Frame::Refuse { code: CloseCode::UnknownSession, reason: "unknown".into() };
    pair.a.handle(pair.now, Input::Frame(refuse));
    let reason = pair.a.closed().unwrap();
    assert_eq!((reason.by, reason.code, reason.first_undelivered), (Closer::Us, CloseCode::Normal, None));
}

#[derive(Debug, Clone)]
enum Step {
    SendA,
    SendB,
    Cut(usize),
    Heal,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::SendA),
        4 => Just(Step::SendB),
        1 => (0_usize..4).prop_map(Step::Cut),
        2 => Just(Step::Heal),
        1 => (0_u64..200).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever is sent, lost and healed, once the line is up again each side has every message of the other once and
    /// in order: safety first, then liveness.
    #[test]
    fn every_message_arrives_once_and_in_order_across_any_cuts(steps in steps()) {
        let mut pair = Pair::connected();
        let (mut sent_a, mut sent_b) = (vec![], vec![]);
        for step in steps {
            match step {
                Step::SendA => {
                    sent_a.push(text(sent_a.len()));
                    pair.a.handle(pair.now, Input::Send(text(sent_a.len() - 1)));
                }
                Step::SendB => {
                    sent_b.push(text(sent_b.len()));
                    pair.b.handle(pair.now, Input::Send(text(sent_b.len() - 1)));
                }
                Step::Cut(frames) => pair.cut_after(frames),
                Step::Heal if !pair.up => pair.connect(),
                Step::Heal => pair.run(),
                Step::Wait(ms) => pair.wait(Duration::from_millis(ms)),
            }
            prop_assert!(sent_a.starts_with(&pair.got_b) && sent_b.starts_with(&pair.got_a));
        }
        if !pair.up {
            pair.connect();
        }
        pair.run();
        prop_assert_eq!(&pair.got_b, &sent_a);
        prop_assert_eq!(&pair.got_a, &sent_b);
        close(&mut pair.a, pair.now);
        pair.run();
        prop_assert_eq!(pair.a.closed().unwrap().first_undelivered, None);
    }
}
