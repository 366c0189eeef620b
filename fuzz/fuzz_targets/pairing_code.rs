//! A pairing code as a person types it: any text.
#![no_main]

libfuzzer_sys::fuzz_target!(|typed: &str| {
    let _ = honeylink_core::pairing::code::Code::parse(typed);
});
