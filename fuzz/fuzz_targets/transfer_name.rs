//! A path as a sender offers it: any text. What is accepted stays inside and is not changed a second time.
#![no_main]

use honeylink_core::transfer::names::clean;

libfuzzer_sys::fuzz_target!(|path: &str| {
    if let Ok(first) = clean(path) {
        assert!(first.path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        assert_eq!(clean(&first.path).map(|again| again.path), Ok(first.path));
    }
});
