//! What a peer says on `honeylink/chat/1`.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = honeylink_core::wire::chat::ChatFrame::decode(bytes);
});
