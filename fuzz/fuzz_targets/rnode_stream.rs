//! An RNode-compatible modem that says anything, at any time, while frames are sent through it.
#![no_main]

use core::time::Duration;

use honeylink_core::radio::modem::{Dialect, Input, Modem, Output, Tuning};
use honeylink_core::radio::{CodingRate, Lora, Region};
use honeylink_core::time::Time;

libfuzzer_sys::fuzz_target!(|chunks: Vec<(u16, &[u8])>| {
    let Ok(lora) = Lora::new(8, 125_000, CodingRate::Cr45) else { return };
    let Ok(tuning) = Tuning::new(&Region::EU868, 868_100_000, lora, 14, 215) else { return };
    let mut modem = Modem::new(Dialect::Rnode(tuning));
    let (mut now, mut sent, mut done) = (Time::ZERO, 0, 0);
    modem.handle(now, Input::Attached);
    for (pause_ms, bytes) in chunks {
        now += Duration::from_millis(u64::from(pause_ms));
        modem.handle(now, Input::Timeout);
        modem.handle(now, Input::Bytes(bytes));
        modem.handle(now, Input::Send { token: sent, bytes, airtime_us: 50_000 });
        sent += 1;
        while let Some(output) = modem.poll_output() {
            done += u64::from(matches!(output, Output::Done { .. }));
        }
    }
    modem.handle(now, Input::Detached);
    while let Some(output) = modem.poll_output() {
        done += u64::from(matches!(output, Output::Done { .. }));
    }
    assert_eq!(sent, done, "a frame was lost silently");
});
