//! An invite as a QR reader or a clipboard hands it over: any text.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = honeylink_core::pairing::invite::Invite::parse(text);
});
