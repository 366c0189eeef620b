//! The bytes of a serial line with a KISS modem on it: any bytes, and a frame behind them that must be found.
#![no_main]

use honeylink_core::radio::kiss::{Decoder, encode};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new(64);
    for byte in bytes {
        if let Some(frame) = decoder.push(*byte) {
            assert!(frame.payload.len() < 64);
        }
    }
    let mut known = Default::default();
    encode(7, b"known", &mut known);
    let found = known.iter().filter_map(|byte| decoder.push(*byte)).last();
    assert!(found.is_some_and(|frame| frame.command == 7 && frame.payload[..] == *b"known"));
});
