//! Whatever a damaged disk says of ratchets and numbers, the mesh starts, and says no message twice.
#![no_main]

use honeylink_core::identity::SecretKey;
use honeylink_core::mesh::records::{Key, Record, Saved, Table};
use honeylink_core::mesh::secrets::check_record;
use honeylink_core::mesh::{Config, Input, Mesh};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;

libfuzzer_sys::fuzz_target!(|records: Vec<(u8, Vec<u8>, Vec<u8>)>| {
    let record = |(table, id, value): (u8, Vec<u8>, Vec<u8>)| {
        let _ = check_record(&value);
        let table = Table::ALL[usize::from(table) % Table::ALL.len()];
        // Mostly as the mesh itself would name it.
        let id = if table == Table::Sequence && id.is_empty() { b"announce".to_vec() } else { id };
        Record { key: Key::new(table, &id), value: value.into() }
    };
    let saved: Saved = records.into_iter().map(record).collect();
    let key = SecretKey::from_u64(1);
    let mut mesh = Mesh::new(Config::default(), key, Rng::from_u64(1), saved, Time::ZERO);
    mesh.handle(Time::ZERO, Input::Timeout);
    while mesh.poll_output().is_some() {}
});
