//! What a guest says to its ferry, and a ferry to its guest: any bytes. What was understood is said the same way.
#![no_main]

use bytes::Bytes;
use honeylink_core::ferry::talk::{HANDLE_BYTES, Handle, Talk};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Talk::is_other_version(bytes);
    if let Some(field) = bytes.first() {
        let _ = Talk::body_len(*field);
    }
    match Handle::split(Bytes::copy_from_slice(bytes)) {
        Some((handle, packet)) => assert_eq!(handle.before(&packet), bytes),
        None => assert!(bytes.len() < HANDLE_BYTES),
    }
    if let Ok(talk) = Talk::from_body(bytes) {
        assert_eq!(&talk.to_bytes()[1..], bytes);
    }
});
