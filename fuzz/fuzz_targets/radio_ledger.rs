//! What a disk gives back as the ledger of a radio: any bytes. What is read must be written the same way again.
#![no_main]

use core::time::Duration;

use honeylink_core::radio::ledger::{DUTY_SPAN, Reserve};
use honeylink_core::radio::{Ledger, Region};
use honeylink_core::time::Time;

libfuzzer_sys::fuzz_target!(|input: (Option<u64>, &[u8])| {
    let (wall_ms, bytes) = input;
    let bands = Region::EU868;
    let lag = Duration::from_secs(10);
    let read = |bytes: &[u8], wall_ms| {
        Ledger::restore(bytes, Time::ZERO, wall_ms, lag, bands.bands(), DUTY_SPAN)
    };
    if let Ok(ledger) = read(bytes, wall_ms) {
        let again = read(&ledger.save(Time::ZERO, wall_ms, Reserve::default()), wall_ms);
        for band in bands.bands() {
            let kept = again.as_ref().map(|again| again.used_us(Time::ZERO, *band));
            assert_eq!(kept, Ok(ledger.used_us(Time::ZERO, *band)));
        }
    }
});
