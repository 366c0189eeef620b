//! The real serial driver against emulated modems: what a person with two radios would see.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and its helpers pass over events that are not theirs"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use honeylink::carrier::serial::{
    DownReason, Event, ModemState, Outgoing, Radio, SendError, SerialConfig, SerialEvents, SerialRadio,
};
use honeylink::radio::modem::{Heard, SetupError};
use honeylink::radio::rnode::{Firmware, ModemError};
use honeylink::radio::scheduler::Fate;
use honeylink::radio::{Band, CodingRate, Lora, Pace, Priority, Region, Tuning};
use honeylink::testing::modem::{Air, AirConfig, Fault, Kind, Modem, Modulation};

/// Longer than anything here should take, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);
const FREQUENCY_HZ: u32 = 868_300_000;

fn tuning(sf: u8, bandwidth_hz: u32, region: &Region) -> Tuning {
    let lora = Lora::new(sf, bandwidth_hz, CodingRate::Cr45).unwrap();
    Tuning::new(region, FREQUENCY_HZ, lora, 14, 215).unwrap()
}

/// Fast and without a duty cycle: 20 bytes take 18 ms.
fn fast() -> Radio {
    Radio::Rnode(tuning(7, 500_000, &Region::UNRESTRICTED))
}

/// 200 bytes take half a second: long enough that two at once surely overlap.
fn slow() -> Radio {
    Radio::Rnode(tuning(8, 125_000, &Region::UNRESTRICTED))
}

/// A radio and its events.
struct Host {
    radio: SerialRadio,
    events: SerialEvents,
}

impl Host {
    async fn open(config: SerialConfig) -> Self {
        let (radio, events) = SerialRadio::open(config).await.unwrap();
        Self { radio, events }
    }

    async fn up(modem: &Modem, radio: Radio) -> Self {
        let mut host = Self::open(SerialConfig::new(modem.path(), radio)).await;
        host.wait(|event| matches!(event, Event::Up(_)).then_some(())).await;
        host
    }

    /// The first event that `wanted` takes; others are passed over.
    async fn wait<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the radio was closed");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("it never happened")
    }

    async fn heard(&mut self) -> Heard {
        self.wait(|event| match event {
            Event::Heard(heard) => Some(heard.clone()),
            _ => None,
        })
        .await
    }

    async fn sent(&mut self) -> (u64, Fate) {
        self.wait(|event| match event {
            Event::Sent { token, fate } => Some((*token, *fate)),
            _ => None,
        })
        .await
    }

    async fn down(&mut self) -> DownReason {
        self.wait(|event| match event {
            Event::Down(reason) => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    fn send(&self, token: u64, bytes: impl Into<Bytes>) {
        let (bytes, lifetime) = (bytes.into(), Duration::from_secs(3600));
        let frame = Outgoing { token, bytes, priority: Priority::Normal, announce: false, lifetime };
        self.radio.send(frame).unwrap();
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn rnode(air: &Air, folder: &Path, name: &str) -> Modem {
    Modem::plugged(air, folder, name, Kind::rnode()).unwrap()
}

#[tokio::test]
async fn two_drivers_exchange_frames_with_strength_and_exact_airtime() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let (modem_a, modem_b) = (rnode(&air, folder.path(), "a"), rnode(&air, folder.path(), "b"));
    let mut a = Host::up(&modem_a, fast()).await;
    let mut b = Host::up(&modem_b, fast()).await;
    // Every byte value, so that every escape is passed both ways; 300 bytes are two packets.
    let long: Vec<u8> = (0..300_u16).map(|byte| byte as u8).collect();
    a.send(1, long.clone());
    a.send(2, &b"second"[..]);
    let heard = b.heard().await;
    assert_eq!(heard.bytes, long);
    assert_eq!((heard.rssi_dbm, heard.snr_quarter_db), (Some(-80), Some(127)));
    assert_eq!(b.heard().await.bytes, &b"second"[..]);
    b.send(7, &b"back"[..]);
    assert_eq!(a.sent().await, (1, Fate::Aired));
    assert_eq!(a.sent().await, (2, Fate::Aired));
    assert_eq!(a.heard().await.bytes, &b"back"[..]);
    let from_a = |air: &Air| -> u64 {
        let log = air.log();
        log.iter().filter(|t| t.from == modem_a.number()).map(|t| t.end_us - t.start_us).sum()
    };
    assert_eq!(a.radio.status().borrow().frames.charged_us, from_a(&air), "charged what was on the air");
    a.radio.shutdown().await;
    b.radio.shutdown().await;
}

#[tokio::test]
async fn plain_modems_carry_frames_without_any_set_up() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let modulation = Modulation {
        frequency_hz: FREQUENCY_HZ,
        bandwidth_hz: 500_000,
        spreading_factor: 7,
        coding_rate: 5,
        preamble_symbols: 8,
    };
    let plain = |name| Modem::plugged(&air, folder.path(), name, Kind::Plain(modulation)).unwrap();
    let radio = || {
        let lora = Lora::new(7, 500_000, CodingRate::Cr45).unwrap();
        Radio::Plain { pace: Pace::Lora(lora), band: Region::UNRESTRICTED.bands()[0], frame_bytes_max: 255 }
    };
    let (modem_a, modem_b) = (plain("a"), plain("b"));
    let mut a = Host::up(&modem_a, radio()).await;
    let mut b = Host::up(&modem_b, radio()).await;
    a.send(1, vec![0xc0, 0xdb]);
    let heard = b.heard().await;
    assert_eq!((&heard.bytes[..], heard.rssi_dbm), (&[0xc0, 0xdb][..], None));
    assert_eq!(a.sent().await, (1, Fate::Assumed));
}

#[tokio::test]
async fn who_sends_does_not_hear() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let (modem_a, modem_b) = (rnode(&air, folder.path(), "a"), rnode(&air, folder.path(), "b"));
    // A does not notice B's carrier and sends into it.
    air.set_rssi(&modem_b, &modem_a, None);
    let mut a = Host::up(&modem_a, slow()).await;
    let mut b = Host::up(&modem_b, slow()).await;
    b.send(1, vec![1; 200]);
    air.on_air(&modem_b).await;
    a.send(2, vec![2; 20]);
    assert_eq!(a.sent().await, (2, Fate::Aired));
    assert_eq!(b.sent().await, (1, Fate::Aired));
    let counters = air.counters();
    assert_eq!((counters.half_duplex, counters.delivered), (1, 0), "{counters:?}");
}

#[tokio::test]
async fn hidden_senders_collide_and_the_stronger_is_captured() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let modems = ["a", "b", "middle"].map(|name| rnode(&air, folder.path(), name));
    let [modem_a, modem_b, modem_middle] = &modems;
    air.set_rssi(modem_a, modem_b, None);
    air.set_rssi(modem_b, modem_a, None);
    let mut a = Host::up(modem_a, slow()).await;
    let mut b = Host::up(modem_b, slow()).await;
    let mut middle = Host::up(modem_middle, slow()).await;
    a.send(1, vec![1; 200]);
    b.send(2, vec![2; 200]);
    assert_eq!((a.sent().await, b.sent().await), ((1, Fate::Aired), (2, Fate::Aired)));
    assert_eq!((air.counters().collided, air.counters().delivered), (2, 0), "neither survives");
    air.set_rssi(modem_a, modem_middle, Some(-60));
    a.send(3, vec![3; 200]);
    b.send(4, vec![4; 200]);
    assert_eq!(middle.heard().await.bytes, vec![3; 200]);
    assert_eq!(b.sent().await, (4, Fate::Aired));
    assert_eq!((air.counters().collided, air.counters().delivered), (3, 1));
}

#[tokio::test]
async fn carrier_sense_shares_a_channel_between_two_full_queues() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let (modem_a, modem_b) = (rnode(&air, folder.path(), "a"), rnode(&air, folder.path(), "b"));
    let mut a = Host::up(&modem_a, fast()).await;
    let mut b = Host::up(&modem_b, fast()).await;
    for token in 0..20 {
        a.send(token, vec![1; 60]);
        b.send(token, vec![2; 60]);
    }
    for _ in 0..20 {
        assert_eq!((a.sent().await.1, b.sent().await.1), (Fate::Aired, Fate::Aired));
    }
    let counters = air.counters();
    assert_eq!(counters.delivered + counters.half_duplex, 40, "{counters:?}");
    assert!(counters.delivered >= 20, "most get through: {counters:?}");
}

#[tokio::test]
async fn a_modem_unplugged_in_the_middle_goes_on_where_it_was_plugged_in_again() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let (modem_a, modem_b) = (rnode(&air, folder.path(), "a"), rnode(&air, folder.path(), "b"));
    let mut a = Host::up(&modem_a, slow()).await;
    let mut b = Host::up(&modem_b, slow()).await;
    for token in 0..3 {
        a.send(token, vec![token as u8; 100]);
    }
    assert_eq!(b.heard().await.bytes[0], 0);
    modem_a.unplug().await;
    // Whatever was in the modem is in doubt; what was not waits.
    let mut fates = BTreeMap::new();
    let mut reason = None;
    while reason.is_none() {
        match a.wait(|event| Some(event.clone())).await {
            Event::Sent { token, fate } => assert_eq!(fates.insert(token, fate), None),
            Event::Down(why) => reason = Some(why),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(reason, Some(DownReason::Unplugged(_))), "{reason:?}");
    assert!(matches!(a.down().await, DownReason::NotThere(_)));
    assert!(matches!(a.radio.status().borrow().modem, ModemState::Down(DownReason::NotThere(_))));
    modem_a.plug_in().await;
    while fates.len() < 3 {
        match a.wait(|event| Some(event.clone())).await {
            Event::Sent { token, fate } => assert_eq!(fates.insert(token, fate), None),
            Event::Up(_) | Event::Down(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fates[&2], Fate::Aired, "{fates:?}");
    loop {
        if b.heard().await.bytes[0] == 2 {
            break;
        }
    }
}

/// A band in which a frame of 20 bytes at SF7 (66 ms with its header and preamble) may go five times an hour.
fn scarce() -> Region {
    let band = Band { low_hz: 868_000_000, high_hz: 868_600_000, duty_ppm: 100, erp_max_dbm: 14 };
    Region::custom(vec![band]).unwrap()
}

#[tokio::test]
async fn the_duty_cycle_is_kept_also_across_a_restart() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let modem = rnode(&air, folder.path(), "a");
    let ledger = folder.path().join("a.ledger");
    let config = || {
        let radio = Radio::Rnode(tuning(7, 125_000, &scarce()));
        SerialConfig::new(modem.path(), radio).ledger(&ledger)
    };
    let mut a = Host::open(config()).await;
    for token in 0..10 {
        a.send(token, vec![7; 20]);
    }
    for token in 0..5 {
        assert_eq!(a.sent().await, (token, Fate::Aired));
    }
    let load = a.radio.status().wait_for(|status| status.load.frees_in > Duration::ZERO).await.unwrap().load;
    assert_eq!(load.queued_frames, [0, 5, 0, 0]);
    assert!(load.used_us <= load.budget_us && load.frees_in > Duration::from_secs(3000), "{load:?}");
    let Host { radio, mut events } = a;
    radio.shutdown().await;
    let mut cancelled = 0;
    while let Some(event) = events.recv().await {
        cancelled += u32::from(matches!(event, Event::Sent { fate: Fate::Cancelled, .. }));
    }
    assert_eq!(cancelled, 5, "what still waited is told");

    let mut again = Host::open(config()).await;
    again.wait(|event| matches!(event, Event::Up(_)).then_some(())).await;
    again.send(20, vec![7; 20]);
    let load = again.radio.status().wait_for(|status| status.load.queued_bytes > 0).await.unwrap().load;
    assert!(load.frees_in > Duration::from_secs(3000), "it remembers: {load:?}");
    assert_eq!(air.log().len(), 5);
    drop(again);

    std::fs::write(&ledger, b"damaged").unwrap();
    let mut damaged = Host::open(config()).await;
    damaged.wait(|event| matches!(event, Event::LedgerDamaged(_)).then_some(())).await;
    assert_eq!(damaged.radio.status().borrow().load.used_us, 360_000, "nothing is sent for an hour");
}

#[tokio::test]
async fn a_limited_band_without_a_ledger_is_not_opened() {
    let config = SerialConfig::new("/dev/null", Radio::Rnode(tuning(7, 125_000, &Region::EU868)));
    let error = SerialRadio::open(config).await.unwrap_err();
    assert!(error.to_string().contains("name a ledger file"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_remembered_is_not_sent() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let modem = rnode(&air, folder.path(), "a");
    let nowhere = folder.path().join("later");
    let radio = Radio::Rnode(tuning(7, 125_000, &scarce()));
    let mut a = Host::open(SerialConfig::new(modem.path(), radio).ledger(nowhere.join("a.ledger"))).await;
    a.send(1, vec![7; 20]);
    a.wait(|event| matches!(event, Event::LedgerFailed(_)).then_some(())).await;
    assert!(air.log().is_empty());
    std::fs::create_dir(&nowhere).unwrap();
    assert_eq!(a.sent().await, (1, Fate::Aired), "and goes once it can be");
}

#[tokio::test]
async fn old_firmware_is_named_and_not_used() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let old = Kind::Rnode { firmware: (1, 50) };
    let modem = Modem::plugged(&air, folder.path(), "a", old).unwrap();
    let mut a = Host::open(SerialConfig::new(modem.path(), fast())).await;
    a.send(1, &b"never"[..]);
    let found = Firmware { major: 1, minor: 50 };
    assert_eq!(a.down().await, DownReason::Setup(SetupError::TooOld { found }));
    assert!(air.log().is_empty());
}

#[tokio::test]
async fn a_port_that_is_not_there_is_waited_for() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let mut a = Host::open(SerialConfig::new(folder.path().join("a"), fast())).await;
    assert!(matches!(a.down().await, DownReason::NotThere(_)));
    let _modem = rnode(&air, folder.path(), "a");
    a.wait(|event| matches!(event, Event::Up(_)).then_some(())).await;
}

#[tokio::test]
async fn errors_of_the_modem_are_told_and_a_full_queue_is_tried_again() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let modem = rnode(&air, folder.path(), "a");
    let mut a = Host::up(&modem, fast()).await;
    let trouble = |event: &Event| match event {
        Event::Trouble(error) => Some(*error),
        _ => None,
    };
    modem.inject(Fault::RefuseNext(4)).await;
    a.send(1, &b"one"[..]);
    assert_eq!(a.wait(trouble).await, ModemError::QueueFull);
    assert_eq!(a.sent().await, (1, Fate::Aired), "the second try");
    modem.inject(Fault::RefuseNext(2)).await;
    a.send(2, &b"two"[..]);
    assert_eq!(a.wait(trouble).await, ModemError::Transmit);
    assert_eq!(a.sent().await, (2, Fate::Lost), "nobody knows, so it stays charged");
    modem.inject(Fault::Error(5)).await;
    assert_eq!(a.wait(trouble).await, ModemError::Memory);
}

#[tokio::test]
async fn a_modem_that_lost_power_is_set_up_again() {
    let (folder, air) = (folder(), Air::new(AirConfig::default()));
    let (modem_a, modem_b) = (rnode(&air, folder.path(), "a"), rnode(&air, folder.path(), "b"));
    let mut a = Host::up(&modem_a, fast()).await;
    let mut b = Host::up(&modem_b, fast()).await;
    modem_a.inject(Fault::Restart).await;
    assert_eq!(a.down().await, DownReason::Restarted);
    a.send(1, &b"after"[..]);
    assert_eq!(b.heard().await.bytes, &b"after"[..]);
}

#[tokio::test]
async fn frames_given_just_before_the_end_are_told_about() {
    let (radio, mut events) = SerialRadio::open(SerialConfig::new("/nowhere/at/all", fast())).await.unwrap();
    for token in 0..10 {
        let (bytes, lifetime) = (Bytes::from_static(b"x"), PATIENCE);
        let frame = Outgoing { token, bytes, priority: Priority::Bulk, announce: false, lifetime };
        radio.send(frame).unwrap();
    }
    radio.shutdown().await;
    let mut told = Vec::new();
    while let Some(event) = events.recv().await {
        if let Event::Sent { token, fate } = event {
            told.push((token, fate));
        }
    }
    assert_eq!(told, Vec::from_iter((0..10).map(|token| (token, Fate::Cancelled))));
}

#[tokio::test]
async fn more_orders_than_the_driver_can_hold_are_refused_and_not_lost() {
    let (folder, _air) = (folder(), Air::new(AirConfig::default()));
    // Nobody reads the events, so the driver stops taking orders at some point.
    let config = SerialConfig::new(folder.path().join("nothing"), fast());
    let (radio, _unread) = SerialRadio::open(config).await.unwrap();
    let frame = |token| Outgoing {
        token,
        bytes: Bytes::from_static(b"x"),
        priority: Priority::Bulk,
        announce: false,
        lifetime: Duration::from_secs(1),
    };
    let mut refused = None;
    for token in 0..10_000 {
        if let Err(error) = radio.send(frame(token)) {
            refused = Some(error);
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(refused, Some(SendError::Busy));
    tokio::time::timeout(PATIENCE, radio.shutdown()).await.expect("it closes even so");
}
