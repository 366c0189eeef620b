//! A packet from the subnet, to the machine that asks and answers where multicast is dropped: any bytes.
#![no_main]

use std::net::SocketAddrV4;
use std::sync::LazyLock;

use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::knock::{Input, Interface, Knock, Net};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;

// Made once: deriving a key takes longer than reading a packet.
static OWN: LazyLock<DeviceId> = LazyLock::new(|| SecretKey::from_u64(1).id());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let nets = vec![Net { own: [10, 0, 0, 1].into(), prefix: 24 }];
    let mut knock = Knock::new(*OWN, Rng::from_u64(1));
    knock.handle(Time::ZERO, Input::Interface(Interface { index: 1, name: "lan".into(), nets, scan: true }));
    let from = SocketAddrV4::new([10, 0, 0, 2].into(), 7842);
    knock.handle(Time::ZERO, Input::Packet { interface: 1, from, bytes });
    knock.handle(Time::from_millis(200), Input::Timeout);
    while knock.poll_output().is_some() {}
});
