//! A device's name as it announces it: any text must become something fit to show and to compare.
#![no_main]

use honeylink_core::nearby::{displayable, look_alike};

libfuzzer_sys::fuzz_target!(|raw: &str| {
    let shown = displayable(raw);
    assert_eq!(displayable(&shown), shown, "what is fit to show stays as it is");
    let _ = look_alike(&shown);
});
