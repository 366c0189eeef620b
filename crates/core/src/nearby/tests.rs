//! The table's promises, one test each.

use super::*;
use crate::identity::SecretKey;
use crate::limits::{ADDRESSES_PER_DEVICE_MAX, NAME_BYTES_MAX};
use proptest::prelude::*;

const TTL: Duration = Duration::from_secs(120);

fn id(seed: u64) -> DeviceId {
    SecretKey::from_u64(seed).id()
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1000)
}

fn observed(seed: u64, name: &str) -> Observation {
    Observation {
        id: id(seed),
        name: name.to_owned(),
        device_type: DeviceType::Laptop,
        version: "0.1.0".to_owned(),
        caps: Capabilities::FILES,
        pairing: PairingHint::Closed,
        addresses: vec![SocketAddr::from(([192, 0, 2, (seed % 250) as u8], 7843))],
        interface: Some("eth0".to_owned()),
        rssi: None,
        ttl: TTL,
    }
}

fn seen(finder: Finder, observation: Observation) -> Input {
    Input::Seen { finder, observation }
}

fn known(devices: &[(u64, &str)]) -> Input {
    Input::Known(devices.iter().map(|(seed, name)| (id(*seed), (*name).to_owned())).collect())
}

fn table() -> Nearby {
    Nearby::new(id(0), Policy::All)
}

/// Feeds one input and returns the events.
fn feed(table: &mut Nearby, now: Time, input: Input) -> Vec<Event> {
    table.handle(now, input);
    core::iter::from_fn(|| table.poll_output()).collect()
}

#[test]
fn one_device_seen_by_two_finders_is_one_entry() {
    let mut t = table();
    assert!(matches!(&feed(&mut t, at(1), seen(Finder::Mdns, observed(1, "studio")))[..], [Event::Found(_)]));
    let mut ble = observed(1, "");
    ble.addresses.clear();
    ble.rssi = Some(-60);
    assert!(matches!(&feed(&mut t, at(2), seen(Finder::Ble, ble))[..], [Event::Changed(_)]));
    let [device] = &t.snapshot()[..] else { panic!("one device") };
    assert_eq!(device.name, "studio", "a finder without names does not blank it");
    assert_eq!(device.seen_by.keys().copied().collect::<Vec<_>>(), [Finder::Mdns, Finder::Ble]);
    assert_eq!((device.seen_by[&Finder::Mdns].last_seen, device.last_seen()), (at(1), at(2)));
    assert_eq!(device.rssi(), Some(-60));
}

#[test]
fn seeing_the_same_again_is_not_news_but_keeps_it_alive() {
    let mut t = table();
    feed(&mut t, at(0), seen(Finder::Mdns, observed(1, "studio")));
    assert_eq!(feed(&mut t, at(100), seen(Finder::Mdns, observed(1, "studio"))), []);
    assert_eq!(feed(&mut t, at(150), Input::Timeout), []);
    assert_eq!(t.device(&id(1)).unwrap().last_seen(), at(100));
    assert_eq!(t.poll_timeout().unwrap().at, at(220));
    assert_eq!(feed(&mut t, at(220), Input::Timeout), [Event::Lost(id(1))]);
    assert_eq!(t.poll_timeout(), None);
}

#[test]
fn a_device_is_lost_only_when_the_last_finder_loses_it() {
    let mut t = table();
    feed(&mut t, at(0), seen(Finder::Mdns, observed(1, "studio")));
    feed(&mut t, at(0), seen(Finder::Ble, observed(1, "studio")));
    assert!(matches!(
        feed(&mut t, at(1), Input::Gone { finder: Finder::Mdns, id: id(1) })[..],
        [Event::Changed(_)]
    ));
    assert_eq!(feed(&mut t, at(2), Input::Gone { finder: Finder::Ble, id: id(1) }), [Event::Lost(id(1))]);
    assert_eq!(feed(&mut t, at(3), Input::Gone { finder: Finder::Ble, id: id(1) }), []);
}

#[test]
fn what_mdns_says_is_preferred_over_ble_unless_policy_says_otherwise() {
    let mut t = table();
    feed(&mut t, at(0), seen(Finder::Ble, observed(1, "by ble")));
    feed(&mut t, at(0), seen(Finder::Mdns, observed(1, "by mdns")));
    assert_eq!(t.snapshot()[0].name, "by mdns");
    feed(&mut t, at(1), Input::Policy(Policy::Prefer(Finder::Ble)));
    assert_eq!(t.snapshot()[0].name, "by ble");
    feed(&mut t, at(2), Input::Policy(Policy::Only(Finder::Mdns)));
    assert_eq!(t.snapshot()[0].seen_by.len(), 1);
    assert_eq!(feed(&mut t, at(3), seen(Finder::Ble, observed(2, "other"))), []);
    assert_eq!(t.snapshot().len(), 1);
}

#[test]
fn an_announcement_replaces_the_addresses_of_its_interface_only() {
    let mut t = table();
    let on = |interface: &str, last: u8| Observation {
        addresses: vec![SocketAddr::from(([192, 0, 2, last], 1))],
        interface: Some(interface.to_owned()),
        ..observed(1, "studio")
    };
    feed(&mut t, at(0), seen(Finder::Mdns, on("eth0", 10)));
    feed(&mut t, at(1), seen(Finder::Mdns, on("wlan0", 20)));
    feed(&mut t, at(2), seen(Finder::Mdns, on("eth0", 11)));
    let hosts = |t: &Nearby| -> Vec<String> {
        let mut hosts: Vec<_> = t.snapshot()[0].addresses.iter().map(|a| a.ip().to_string()).collect();
        hosts.sort();
        hosts
    };
    assert_eq!(hosts(&t), ["192.0.2.11", "192.0.2.20"]);
    feed(&mut t, at(3), Input::InterfaceGone { name: "wlan0".to_owned() });
    assert_eq!(hosts(&t), ["192.0.2.11"]);
    assert_eq!(feed(&mut t, at(4), Input::InterfaceGone { name: "eth0".to_owned() }), [Event::Lost(id(1))]);
}

#[test]
fn addresses_per_device_are_bounded_and_usable() {
    let mut t = table();
    let mut many = observed(1, "studio");
    many.addresses = (0..2000).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
    many.addresses.insert(0, SocketAddr::from(([0, 0, 0, 0], 5)));
    many.addresses.insert(0, SocketAddr::from(([224, 0, 0, 251], 5)));
    feed(&mut t, at(0), seen(Finder::Mdns, many));
    let device = &t.snapshot()[0];
    assert_eq!(device.addresses.len(), ADDRESSES_PER_DEVICE_MAX);
    assert!(
        device.addresses.iter().all(|a| a.port() != 0 && !a.ip().is_unspecified() && !a.ip().is_multicast())
    );
}

#[test]
fn strangers_never_push_out_a_known_device() {
    let mut t = table();
    feed(&mut t, at(0), known(&[(1, "studio"), (2, "tablet")]));
    feed(&mut t, at(1), seen(Finder::Mdns, observed(1, "studio")));
    for seed in 10..10 + 2 * NEARBY_DEVICES_MAX as u64 {
        feed(&mut t, at(2) + Duration::from_micros(seed), seen(Finder::Mdns, observed(seed, "stranger")));
        assert!(t.snapshot().len() <= NEARBY_DEVICES_MAX);
    }
    assert!(t.device(&id(1)).is_some(), "the known device stays");
    assert!(t.device(&id(10)).is_none(), "the oldest stranger went");
    let events = feed(&mut t, at(3), seen(Finder::Mdns, observed(2, "tablet")));
    assert!(matches!(events[..], [Event::Lost(_), Event::Found(_), ..]), "a known newcomer gets a place");
}

#[test]
fn a_table_full_of_known_devices_turns_strangers_away() {
    let mut t = table();
    let seeds = 1..=NEARBY_DEVICES_MAX as u64;
    feed(&mut t, at(0), Input::Known(seeds.clone().map(|s| (id(s), format!("device {s}"))).collect()));
    for seed in seeds {
        feed(&mut t, at(1), seen(Finder::Mdns, observed(seed, "x")));
    }
    assert_eq!(feed(&mut t, at(2), seen(Finder::Mdns, observed(9999, "stranger"))), []);
    assert_eq!(t.refused(), 1);
}

#[test]
fn being_seen_never_makes_a_device_known() {
    let mut t = table();
    feed(&mut t, at(0), known(&[(1, "studio")]));
    feed(&mut t, at(1), seen(Finder::Manual, observed(2, "studio")));
    assert!(!t.device(&id(2)).unwrap().known);
}

#[test]
fn a_known_name_under_another_key_is_reported_once() {
    let mut t = table();
    feed(&mut t, at(0), known(&[(1, "Studio")]));
    let events = feed(&mut t, at(1), seen(Finder::Mdns, observed(2, "s\u{200b}tudio")));
    let conflict =
        Event::Conflict { known: id(1), impostor: id(2), name: "studio".to_owned(), shared: Shared::Name };
    assert!(events.contains(&conflict), "{events:?}");
    assert_eq!(t.device(&id(2)).unwrap().impersonates, Some(id(1)));
    assert_eq!(feed(&mut t, at(60), seen(Finder::Mdns, observed(2, "studio"))), []);
}

#[test]
fn a_known_address_under_another_key_is_reported_whoever_came_first() {
    for order in [[1, 2], [2, 1]] {
        let mut t = table();
        feed(&mut t, at(0), known(&[(1, "studio")]));
        let mut events = Vec::new();
        for seed in order {
            let mut observation = observed(seed, &format!("name {seed}"));
            observation.addresses = vec![SocketAddr::from(([192, 0, 2, 1], 7843))];
            events.extend(feed(&mut t, at(1), seen(Finder::Mdns, observation)));
        }
        let conflicts: Vec<_> = events.iter().filter(|e| matches!(e, Event::Conflict { .. })).collect();
        assert!(
            matches!(conflicts[..], [Event::Conflict { known, impostor, shared: Shared::Address(_), .. }]
                if (*known, *impostor) == (id(1), id(2))),
            "{events:?}"
        );
    }
}

#[test]
fn a_flood_of_impostors_is_one_warning_and_every_one_is_marked() {
    let mut t = table();
    feed(&mut t, at(0), known(&[(1, "studio")]));
    let mut warnings = 0;
    for seed in 2..200 {
        let events = feed(&mut t, at(1), seen(Finder::Mdns, observed(seed, "studio")));
        warnings += events.iter().filter(|e| matches!(e, Event::Conflict { .. })).count();
    }
    assert_eq!(warnings, 1);
    assert!(t.snapshot().iter().all(|d| d.impersonates == Some(id(1))));
}

#[test]
fn pairing_with_a_stranger_ends_the_suspicion_and_forgetting_a_device_does_too() {
    let mut t = table();
    feed(&mut t, at(0), known(&[(1, "studio")]));
    feed(&mut t, at(1), seen(Finder::Mdns, observed(2, "studio")));
    feed(&mut t, at(2), known(&[(1, "studio"), (2, "studio")]));
    let device = t.device(&id(2)).unwrap();
    assert!(device.known && device.impersonates.is_none());
}

#[test]
fn signal_strength_is_news_when_it_moves_not_when_it_trembles() {
    let mut t = table();
    let with = |rssi| seen(Finder::Ble, Observation { rssi: Some(rssi), ..observed(1, "studio") });
    feed(&mut t, at(0), with(-60));
    assert_eq!(feed(&mut t, at(1), with(-63)), []);
    assert!(matches!(feed(&mut t, at(2), with(-67))[..], [Event::Changed(_)]), "a slow drift is noticed too");
}

#[test]
fn a_name_finds_every_device_that_shows_it() {
    let mut t = table();
    feed(&mut t, at(0), known(&[(3, "studio")]));
    for (seed, name) in [(1, "Studio"), (2, "tablet"), (3, "studio")] {
        feed(&mut t, at(1), seen(Finder::Mdns, observed(seed, name)));
    }
    let ids: Vec<_> = t.named(" STUDIO ").into_iter().map(|d| d.id).collect();
    assert_eq!(ids, [id(3), id(1)], "the known one first");
}

#[test]
fn our_own_announcement_is_not_a_device() {
    let mut t = table();
    assert_eq!(feed(&mut t, at(0), seen(Finder::Mdns, observed(0, "me"))), []);
    assert_eq!(t.snapshot(), []);
}

/// Any history, replayed by a listener who knows only the events, ends in the table's own snapshot.
#[derive(Clone, Debug)]
enum Step {
    Seen(usize, u64, u8, u64),
    Gone(usize, u64),
    Interface(u8),
    Known(u64),
    Policy(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..7_usize, 0..8_u64, 0..3_u8, 0..200_u64).prop_map(|(f, d, i, ttl)| Step::Seen(f, d, i, ttl)),
        2 => (0..7_usize, 0..8_u64).prop_map(|(f, d)| Step::Gone(f, d)),
        1 => (0..3_u8).prop_map(Step::Interface),
        1 => (0..8_u64).prop_map(Step::Known),
        1 => (0..9_usize).prop_map(Step::Policy),
        2 => (0..100_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn a_listener_of_events_knows_the_table(steps in steps()) {
        let mut t = table();
        let mut now = at(0);
        let mut heard: BTreeMap<DeviceId, Device> = BTreeMap::new();
        for step in steps {
            let input = match step {
                Step::Seen(f, d, i, ttl) => seen(Finder::ALL[f], Observation {
                    interface: Some(format!("if{i}")),
                    addresses: vec![SocketAddr::from(([192, 0, 2, i], 1 + d as u16))],
                    ttl: Duration::from_secs(ttl),
                    ..observed(d, &format!("name {}", d % 3))
                }),
                Step::Gone(f, d) => Input::Gone { finder: Finder::ALL[f], id: id(d) },
                Step::Interface(i) => Input::InterfaceGone { name: format!("if{i}") },
                Step::Known(d) => known(&[(d, "name 1")]),
                Step::Policy(p) => Input::Policy(match p {
                    0..7 => Policy::Only(Finder::ALL[p]),
                    7 => Policy::Prefer(Finder::Ble),
                    _ => Policy::All,
                }),
                Step::Wait(s) => { now += Duration::from_secs(s); Input::Timeout }
            };
            for event in feed(&mut t, now, input) {
                match event {
                    Event::Found(d) => prop_assert!(heard.insert(d.id, *d).is_none(), "found twice"),
                    Event::Changed(d) => prop_assert!(heard.insert(d.id, *d).is_some(), "changed before found"),
                    Event::Lost(d) => prop_assert!(heard.remove(&d).is_some(), "lost before found"),
                    Event::Conflict { known, impostor, .. } => prop_assert_ne!(known, impostor),
                }
            }
            prop_assert!(t.poll_timeout().is_none_or(|d| d.at > now), "nothing expired is kept");
        }
        let table: Vec<_> = t.snapshot().into_iter().map(|d| (d.id, d.name, d.known, d.impersonates)).collect();
        let listener: Vec<_> = heard.into_values().map(|d| (d.id, d.name, d.known, d.impersonates)).collect();
        prop_assert_eq!(table, listener);
    }

    #[test]
    fn shown_names_are_bounded_and_never_empty(name in ".{0,300}") {
        let mut t = table();
        feed(&mut t, at(0), seen(Finder::Mdns, observed(1, &name)));
        let shown = t.snapshot()[0].name.clone();
        prop_assert!(!shown.is_empty() && shown.len() <= NAME_BYTES_MAX);
    }
}
