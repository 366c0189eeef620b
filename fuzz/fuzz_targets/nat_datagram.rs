//! What anybody sends to an observer, or to a socket that probes: any bytes. What was understood is said the same way.
#![no_main]

use honeylink_core::nat::wire::{Ask, Echo, ProbeKeys, Seen};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(ask) = Ask::from_bytes(bytes) {
        assert_eq!(&ask.to_bytes()[..], bytes);
    }
    if let Ok(seen) = Seen::from_bytes(bytes) {
        assert_eq!(&seen.to_bytes()[..], bytes);
    }
    if let Ok(echo) = Echo::from_bytes(bytes) {
        assert_eq!(&echo.to_bytes()[..], bytes);
    }
    assert_eq!(ProbeKeys::new(&[7; 32], [1; 8], true).open(bytes), None);
});
