//! Datagrams of a flow with repair: any bytes, in any order.
#![no_main]

use bytes::Bytes;
use honeylink_core::qos::fec::{Decoder, PAYLOAD_BYTES_MAX};

libfuzzer_sys::fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let mut decoder = Decoder::default();
    for datagram in datagrams {
        for repaired in decoder.accept(&Bytes::from(datagram)).unwrap_or_default() {
            assert!(repaired.payload.len() <= PAYLOAD_BYTES_MAX);
        }
    }
});
