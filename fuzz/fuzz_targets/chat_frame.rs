//! What a peer says on `honeylink/chat/1`: any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = honeylink_core::wire::chat::ChatFrame::decode(bytes);
});
