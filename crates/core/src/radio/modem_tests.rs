//! What the modem machine promises, against a modem that is played by hand.

use bytes::{Bytes, BytesMut};
use core::time::Duration;
use proptest::prelude::*;

use super::kiss::{self, Decoder};
use super::modem::{Dialect, Heard, Identity, Input, Modem, Output, SetupError, Tuning};
use super::rnode::{Firmware, ModemError, code};
use super::scheduler::Outcome;
use super::{CodingRate, Lora, RadioError, Region};
use crate::time::Time;

const BOOTED: Time = Time::from_millis(2000);

fn lora() -> Lora {
    Lora::new(8, 125_000, CodingRate::Cr45).unwrap()
}

fn tuning() -> Tuning {
    Tuning::new(&Region::EU868, 868_100_000, lora(), 14, 215).unwrap()
}

fn drain(modem: &mut Modem) -> Vec<Output> {
    std::iter::from_fn(|| modem.poll_output()).collect()
}

/// The commands that the host wrote, decoded.
fn written(outputs: &[Output]) -> Vec<(u8, Vec<u8>)> {
    let mut decoder = Decoder::new(600);
    let bytes = outputs.iter().flat_map(|output| match output {
        Output::Write(bytes) => bytes.to_vec(),
        Output::Up(_)
        | Output::Down
        | Output::Failed(_)
        | Output::Done { .. }
        | Output::Heard(_)
        | Output::Trouble(_) => Vec::new(),
    });
    bytes.filter_map(|byte| decoder.push(byte)).map(|frame| (frame.command, frame.payload.to_vec())).collect()
}

fn say(modem: &mut Modem, now: Time, reports: &[(u8, &[u8])]) -> Vec<Output> {
    let mut bytes = BytesMut::new();
    for (command, payload) in reports {
        kiss::encode(*command, payload, &mut bytes);
    }
    modem.handle(now, Input::Bytes(&bytes));
    drain(modem)
}

/// A modem that was attached, has booted and was asked what it is.
fn asked() -> (Modem, Vec<Output>) {
    let mut modem = Modem::new(Dialect::Rnode(tuning()));
    modem.handle(Time::ZERO, Input::Attached);
    assert_eq!(drain(&mut modem), [], "it is left alone while it boots");
    assert_eq!(modem.poll_timeout().unwrap().at, BOOTED);
    modem.handle(BOOTED, Input::Timeout);
    let outputs = drain(&mut modem);
    (modem, outputs)
}

/// A modem that was told its settings.
fn told() -> (Modem, Vec<(u8, Vec<u8>)>) {
    let (mut modem, _) = asked();
    let outputs = say(&mut modem, BOOTED, &[(code::DETECT, &[0x46]), (code::FIRMWARE, &[1, 52])]);
    (modem, written(&outputs))
}

fn running() -> Modem {
    let (mut modem, settings) = told();
    let echoes: Vec<(u8, &[u8])> =
        settings.iter().map(|(command, payload)| (*command, &payload[..])).collect();
    let up =
        Output::Up(Identity { firmware: Some(Firmware { major: 1, minor: 52 }), platform: None, mcu: None });
    assert_eq!(say(&mut modem, BOOTED, &echoes), [up]);
    modem
}

#[test]
fn a_modem_is_asked_told_and_checked_in_golden_order() {
    let (_, outputs) = asked();
    assert_eq!(written(&outputs), [(0x08, vec![0x73]), (0x50, vec![0]), (0x48, vec![0]), (0x49, vec![0])]);
    let (_, settings) = told();
    let expected = [
        (0x01, vec![0x33, 0xbe, 0x27, 0xa0]),
        (0x02, vec![0x00, 0x01, 0xe8, 0x48]),
        (0x03, vec![14]),
        (0x04, vec![8]),
        (0x05, vec![5]),
        (0x0b, vec![0, 0]),
        (0x0c, vec![0, 0]),
        (0x06, vec![1]),
    ];
    assert_eq!(settings, expected);
    assert!(running().is_running());
}

#[test]
fn a_modem_that_never_answers_is_named_so_after_five_tries() {
    let (mut modem, _) = asked();
    let mut tries = 1;
    let failure = loop {
        let at = modem.poll_timeout().unwrap().at;
        modem.handle(at, Input::Timeout);
        match &drain(&mut modem)[..] {
            [Output::Write(_)] => tries += 1,
            [Output::Failed(error)] => break *error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((tries, failure), (5, SetupError::NoAnswer));
}

#[test]
fn old_firmware_is_refused_with_both_versions() {
    let (mut modem, _) = asked();
    let outputs = say(&mut modem, BOOTED, &[(code::DETECT, &[0x46]), (code::FIRMWARE, &[1, 51])]);
    let [Output::Failed(error)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(error.to_string(), "the modem's firmware is 1.51; 1.52 or newer is needed: update it");
    assert!(modem.poll_timeout().is_none());
}

#[test]
fn a_value_that_was_not_taken_is_refused_and_a_step_of_frequency_is_not() {
    let (mut modem, _) = told();
    let near = 868_100_061_u32.to_be_bytes();
    assert_eq!(say(&mut modem, BOOTED, &[(code::FREQUENCY, &near)]), []);
    let error = SetupError::Mismatch { what: "power", told: 14, took: 10 };
    assert_eq!(say(&mut modem, BOOTED, &[(code::TX_POWER, &[10])]), [Output::Failed(error)]);
}

#[test]
fn a_setting_without_an_echo_is_named() {
    let (mut modem, settings) = told();
    for (command, payload) in settings.iter().filter(|(command, _)| *command != code::CODING_RATE) {
        say(&mut modem, BOOTED, &[(*command, payload)]);
    }
    modem.handle(modem.poll_timeout().unwrap().at, Input::Timeout);
    assert_eq!(drain(&mut modem), [Output::Failed(SetupError::Silent { what: "coding rate" })]);
}

#[test]
fn errors_during_set_up_keep_their_names() {
    let (mut modem, _) = told();
    let outputs = say(&mut modem, BOOTED, &[(code::ERROR, &[1])]);
    assert_eq!(outputs, [Output::Failed(SetupError::Modem(ModemError::Init))]);
}

fn send(modem: &mut Modem, now: Time) {
    modem.handle(now, Input::Send { token: 7, bytes: &[1, 2], airtime_us: 100_000 });
    assert_eq!(written(&drain(modem)), [(code::DATA, vec![1, 2])]);
}

#[test]
fn a_frame_is_done_when_the_modem_says_so_but_not_before_its_airtime() {
    let mut modem = running();
    send(&mut modem, BOOTED);
    assert_eq!(say(&mut modem, BOOTED, &[(code::READY, &[])]), [], "it only took the frame");
    let at = modem.poll_timeout().unwrap().at;
    assert_eq!(at, BOOTED + Duration::from_millis(100));
    modem.handle(at, Input::Timeout);
    assert_eq!(drain(&mut modem), [Output::Done { token: 7, outcome: Outcome::Aired }]);
    send(&mut modem, at);
    let late = at + Duration::from_secs(3);
    assert_eq!(
        say(&mut modem, late, &[(code::READY, &[])]),
        [Output::Done { token: 7, outcome: Outcome::Aired }],
        "it waited for a free channel"
    );
}

#[test]
fn a_modem_that_does_not_report_is_waited_for_once() {
    let mut modem = running();
    send(&mut modem, BOOTED);
    let first = modem.poll_timeout().unwrap().at;
    assert_eq!(first, BOOTED + Duration::from_millis(10_100));
    modem.handle(first, Input::Timeout);
    assert_eq!(drain(&mut modem), [Output::Done { token: 7, outcome: Outcome::Assumed }]);
    send(&mut modem, first);
    assert_eq!(modem.poll_timeout().unwrap().at, first + Duration::from_millis(400));
}

#[test]
fn a_full_queue_gives_the_frame_back_and_other_troubles_leave_it_in_doubt() {
    for (number, error, outcome) in [
        (4, ModemError::QueueFull, Outcome::NotAired),
        (2, ModemError::Transmit, Outcome::Unknown),
        (6, ModemError::Timeout, Outcome::Unknown),
        (99, ModemError::Other(99), Outcome::Unknown),
    ] {
        let mut modem = running();
        send(&mut modem, BOOTED);
        let outputs = say(&mut modem, BOOTED, &[(code::ERROR, &[number])]);
        assert_eq!(outputs, [Output::Trouble(error), Output::Done { token: 7, outcome }]);
        assert!(modem.is_running());
    }
}

#[test]
fn a_second_frame_is_given_back_at_once() {
    let mut modem = running();
    send(&mut modem, BOOTED);
    modem.handle(BOOTED, Input::Send { token: 8, bytes: &[3], airtime_us: 1 });
    assert_eq!(drain(&mut modem), [Output::Done { token: 8, outcome: Outcome::NotAired }]);
}

#[test]
fn strength_and_noise_belong_to_the_frame_that_follows_only() {
    let mut modem = running();
    let reports: &[(u8, &[u8])] =
        &[(code::RSSI, &[57]), (code::SNR, &[0xf6]), (code::DATA, &[1]), (code::DATA, &[2])];
    let heard = |byte, rssi_dbm, snr_quarter_db| {
        Output::Heard(Heard { bytes: Bytes::from(vec![byte]), rssi_dbm, snr_quarter_db })
    };
    assert_eq!(say(&mut modem, BOOTED, reports), [heard(1, Some(-100), Some(-10)), heard(2, None, None)]);
}

#[test]
fn a_modem_that_restarts_by_itself_is_set_up_again() {
    let restarts: [(u8, &[u8]); 2] = [(code::RESET, &[0xf8]), (code::RADIO_STATE, &[0])];
    for report in restarts {
        let mut modem = running();
        send(&mut modem, BOOTED);
        let outputs = say(&mut modem, BOOTED, &[report]);
        assert_eq!(outputs, [Output::Down, Output::Done { token: 7, outcome: Outcome::Unknown }]);
        assert_eq!(modem.poll_timeout().unwrap().at, BOOTED + Duration::from_secs(2));
        assert_eq!(modem.stats().restarts, 1);
    }
}

#[test]
fn a_modem_that_is_unplugged_leaves_its_frame_in_doubt() {
    let mut modem = running();
    send(&mut modem, BOOTED);
    modem.handle(BOOTED, Input::Detached);
    assert_eq!(drain(&mut modem), [Output::Down, Output::Done { token: 7, outcome: Outcome::Unknown }]);
    assert!(modem.poll_timeout().is_none());
}

#[test]
fn leaving_turns_the_radio_off() {
    let mut modem = running();
    modem.handle(BOOTED, Input::Leave);
    assert_eq!(written(&drain(&mut modem)), [(code::RADIO_STATE, vec![0]), (code::LEAVE, vec![0xff])]);
}

#[test]
fn a_plain_modem_runs_at_once_and_never_hears_a_command() {
    let mut modem = Modem::new(Dialect::Plain);
    modem.handle(Time::ZERO, Input::Attached);
    assert_eq!(drain(&mut modem), [Output::Up(Identity::default())]);
    send(&mut modem, Time::ZERO);
    let at = modem.poll_timeout().unwrap().at;
    assert_eq!(at, Time::from_millis(400));
    modem.handle(at, Input::Timeout);
    assert_eq!(drain(&mut modem), [Output::Done { token: 7, outcome: Outcome::Assumed }]);
    let outputs = say(&mut modem, at, &[(0x10, &[9]), (code::ERROR & 0x0f | 1, &[1])]);
    let heard = Heard { bytes: Bytes::from_static(&[9]), rssi_dbm: None, snr_quarter_db: None };
    assert_eq!(outputs, [Output::Heard(heard)], "any port, and data only");
}

#[test]
fn a_tuning_that_the_region_forbids_does_not_exist() {
    let over = Tuning::new(&Region::EU868, 868_100_000, lora(), 20, 215);
    assert!(matches!(over, Err(RadioError::TooStrong { max_dbm: 14, .. })));
    let gap = Tuning::new(&Region::EU868, 868_650_000, lora(), 14, 215);
    assert!(matches!(gap, Err(RadioError::BetweenBands { .. })));
}

proptest! {
    #[test]
    fn no_line_makes_the_modem_panic_or_lose_a_frame(
        chunks in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..80), 0_u64..3000), 0..20),
        plain: bool,
    ) {
        let dialect = if plain { Dialect::Plain } else { Dialect::Rnode(tuning()) };
        let mut modem = if plain { Modem::new(dialect) } else { running() };
        let mut now = BOOTED;
        if plain {
            modem.handle(now, Input::Attached);
        }
        let (mut given, mut done) = (0, 0);
        for (chunk, pause_ms) in chunks {
            modem.handle(now, Input::Send { token: given, bytes: &chunk, airtime_us: 1000 });
            given += 1;
            modem.handle(now, Input::Bytes(&chunk));
            now += Duration::from_millis(pause_ms);
            modem.handle(now, Input::Timeout);
            done += drain(&mut modem).iter().filter(|output| matches!(output, Output::Done { .. })).count() as u64;
        }
        modem.handle(now, Input::Detached);
        done += drain(&mut modem).iter().filter(|output| matches!(output, Output::Done { .. })).count() as u64;
        prop_assert_eq!(given, done);
    }
}
