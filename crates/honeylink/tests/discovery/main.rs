//! Discovery between processes: on a bridge of network namespaces, on loopback, with another implementation of multicast
//! DNS, and under a flood.
//!
//! The tests start this same binary again in a namespace; [`roles`] is what it does there. Tests of a LAN need root and
//! `ip netns`; where that is missing they say so and pass.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod lan;
mod roles;

use std::time::{Duration, Instant};

use lan::{Lan, Process};

const PATIENCE: Duration = Duration::from_secs(10);

/// The second life of this binary: see [`Process::start`].
#[test]
fn role() {
    if let Ok(role) = std::env::var(lan::ROLE) {
        roles::play(&role);
    }
}

#[test]
fn two_machines_on_a_bridge_find_each_other_within_two_seconds_and_hear_the_goodbye() {
    const RUNS: u64 = 20;
    let Some(lan) = Lan::build(2) else { return };
    let resident = Process::start(Some(lan.host(0)), "node lan 1");
    resident.line("started", PATIENCE);
    let (mut newcomer_finds, mut resident_finds) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let seed = 100 + run;
        let newcomer = Process::start(Some(lan.host(1)), &format!("node lan {seed}"));
        newcomer.line("started", PATIENCE);
        let started = Instant::now();
        resident.line(&format!("found {seed}"), PATIENCE);
        resident_finds.push(started.elapsed());
        newcomer_finds.push(millis(&newcomer.line("found 1", PATIENCE)));
        drop(newcomer.finish());
        resident.line(&format!("lost {seed}"), Duration::from_secs(2));
    }
    for (who, mut times) in
        [("newcomer finds resident", newcomer_finds), ("resident finds newcomer", resident_finds)]
    {
        times.sort();
        let (p50, p95) = (times[times.len() / 2], times[times.len() * 95 / 100]);
        println!("discovery, {who}, {RUNS} runs: p50 {p50:?}, p95 {p95:?}");
        assert!(p95 <= Duration::from_secs(2), "{who}: {times:?}");
    }
}

#[test]
fn a_link_that_comes_back_and_an_address_that_changes_need_no_restart() {
    let Some(lan) = Lan::build(2) else { return };
    // A default route elsewhere, as a VPN makes one, must not hide the LAN.
    lan.ip(0, "link add vpn0 type veth peer name vpn1");
    lan.ip(0, "link set vpn1 up");
    lan.ip(0, "addr add 198.51.100.1/24 dev vpn0");
    lan.ip(0, "link set vpn0 up");
    lan.ip(0, "route add default via 198.51.100.2");
    let nodes =
        [Process::start(Some(lan.host(0)), "node lan 1"), Process::start(Some(lan.host(1)), "node lan 2")];
    nodes[0].line("found 2", PATIENCE);
    nodes[1].line("found 1", PATIENCE);

    lan.ip(0, "link set eth0 down");
    nodes[0].line("lost 2", PATIENCE);
    lan.ip(0, "link set eth0 up");
    let up = Instant::now();
    nodes[0].line("found 2", Duration::from_secs(5));
    println!("found again {:?} after the link came up", up.elapsed());

    lan.ip(0, "addr add 10.77.0.99/24 dev eth0");
    let changed =
        nodes[1].line_where(PATIENCE, |line| line.starts_with("changed 1") && line.contains("10.77.0.99:"));
    println!("{changed}");
    lan.ip(0, "addr del 10.77.0.99/24 dev eth0");
    nodes[1].line_where(PATIENCE, |line| line.starts_with("changed 1") && !line.contains("10.77.0.99:"));
}

#[test]
fn a_machine_with_loopback_alone_is_enough_and_loopback_scope_joins_nothing_else() {
    let Some(lan) = Lan::build(1) else { return };
    let inside = [
        Process::start(Some(lan.host(0)), "node loopback 1"),
        Process::start(Some(lan.host(0)), "node loopback 2"),
    ];
    inside[0].line("found 2", PATIENCE);
    inside[1].line("found 1", PATIENCE);
    let groups = inside[0].multicast_groups();
    // 224.0.0.251 as the kernel prints it.
    assert!(groups.contains(&("lo".to_owned(), "FB0000E0".to_owned())), "{groups:?}");
    assert!(!groups.contains(&("eth0".to_owned(), "FB0000E0".to_owned())), "{groups:?}");
    drop(inside);

    lan.ip(0, "link del eth0");
    for scope in ["loopback", "lan"] {
        let alone = [
            Process::start(Some(lan.host(0)), &format!("node {scope} 1")),
            Process::start(Some(lan.host(0)), &format!("node {scope} 2")),
        ];
        alone[0].line("found 2", PATIENCE);
        alone[1].line("found 1", PATIENCE);
    }
}

#[test]
fn another_implementation_finds_us_and_is_found() {
    let Some(lan) = Lan::build(2) else { return };
    let other = Process::start(Some(lan.host(1)), "mdns-sd 2");
    let ours = Process::start(Some(lan.host(0)), "node lan 1");
    other.line("found 1", PATIENCE);
    ours.line("found 2", PATIENCE);
    drop(other.finish());
    ours.line("lost 2", PATIENCE);
}

#[test]
fn a_flood_of_hostile_records_leaves_memory_flat_and_known_devices_in_place() {
    let flood = Process::start(None, "flood");
    println!("{}", flood.line("survived", Duration::from_secs(180)));
}

/// Not a promise but a figure: `cargo test -p honeylink --test discovery -- --ignored --nocapture`.
#[test]
#[ignore = "takes a minute of doing nothing"]
fn measure_what_an_idle_pair_costs() {
    const WATCHED: Duration = Duration::from_secs(60);
    let Some(lan) = Lan::build(2) else { return };
    let nodes =
        [Process::start(Some(lan.host(0)), "node lan 1"), Process::start(Some(lan.host(1)), "node lan 2")];
    nodes[0].line("found 2", PATIENCE);
    let before = nodes[0].cpu_time();
    // tidy: sleep because doing nothing for this long is what is measured
    std::thread::sleep(WATCHED);
    let used = nodes[0].cpu_time() - before;
    println!("idle: {:.3} % of a core over {WATCHED:?}", 100.0 * used.as_secs_f64() / WATCHED.as_secs_f64());
}

/// The last word of a line, as milliseconds.
fn millis(line: &str) -> Duration {
    let word = line.rsplit(' ').next().and_then(|word| word.parse().ok());
    Duration::from_millis(word.unwrap_or_else(|| panic!("no milliseconds in {line:?}")))
}
