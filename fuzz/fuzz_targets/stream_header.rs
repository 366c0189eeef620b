//! The header that opens a stream on a link, after its length field: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let _ = honeylink_core::wire::link::StreamHeader::decode(body);
});
