//! A frame of the pairing ceremony, after its length field: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let _ = honeylink_core::pairing::frame::Frame::decode(body);
});
