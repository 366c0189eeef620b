//! A packet from the LAN, to the machine that discovers and is discovered: any bytes.
#![no_main]

use std::sync::LazyLock;

use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::mdns::{Input, Interface, Mdns};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;

// Made once: deriving a key takes longer than reading a packet.
static OWN: LazyLock<DeviceId> = LazyLock::new(|| SecretKey::from_u64(1).id());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let lan =
        Interface { index: 1, name: "lan".into(), loopback: false, addresses: vec![[192, 0, 2, 1].into()] };
    let mut mdns = Mdns::new(*OWN, Rng::from_u64(1));
    mdns.handle(Time::ZERO, Input::Interface(lan));
    mdns.handle(Time::ZERO, Input::Packet { interface: 1, bytes });
    while mdns.poll_output().is_some() {}
});
