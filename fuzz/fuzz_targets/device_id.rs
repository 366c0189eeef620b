//! A device id as a person or a record may write it: any text.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = text.parse::<honeylink_core::identity::DeviceId>();
});
