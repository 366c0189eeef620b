//! The TXT record of an announced device: any keys with any values.
#![no_main]

libfuzzer_sys::fuzz_target!(|pairs: Vec<(&str, &[u8])>| {
    let _ = honeylink_core::nearby::TxtRecord::parse(&pairs);
});
