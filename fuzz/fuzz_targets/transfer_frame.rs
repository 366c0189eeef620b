//! A frame of a transfer, header and body: any bytes.
#![no_main]

use honeylink_core::transfer::frame::{Header, Message, split_whole};

libfuzzer_sys::fuzz_target!(|frame: ([u8; 4], &[u8])| {
    if let Ok(header) = Header::decode(frame.0) {
        let _ = Message::decode(header.kind, frame.1);
        let _ = split_whole(frame.1);
    }
});
