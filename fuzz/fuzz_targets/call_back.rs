//! What a peer says who asks to be called back, what one tells who called, and what comes back from a call: any bytes. What was
//! understood is written the same way.
#![no_main]

use honeylink_core::wire::callback::{Ask, Told, is_answer};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(ask) = Ask::from_bytes(bytes) {
        assert_eq!(&ask.to_bytes()[..], bytes);
    }
    if let Ok(told) = Told::from_bytes(bytes) {
        assert!(bytes.len() <= Told::BYTES_MAX);
        assert_eq!(&told.to_bytes()[..], bytes);
    }
    // The ids are of 16 bytes each, so nothing shorter is an answer.
    assert!(bytes.len() >= 39 || !is_answer(bytes, &[0; 16], &[0; 16]));
});
