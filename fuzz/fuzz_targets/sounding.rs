//! What an end says of the queues between two: any bytes, at any time, also backwards.
#![no_main]

use honeylink_core::qos::{Sounding, Soundings};
use honeylink_core::time::Time;

libfuzzer_sys::fuzz_target!(|heard: Vec<(u64, Vec<u8>)>| {
    let mut end = Soundings::default();
    for (now_us, datagram) in heard {
        let labelled = [&[0; 16][..], &datagram].concat();
        for datagram in [&datagram, &labelled] {
            let Some(Ok(word)) = Sounding::from_bytes(datagram) else { continue };
            assert_eq!(word.to_bytes(), datagram);
            let now = Time::from_micros(now_us);
            end.set_busy(now);
            end.hear(now, word);
            if end.due(now).is_some_and(|due| due <= now) {
                let said = end.say(now, word.received);
                assert_eq!(Sounding::from_bytes(&said.to_bytes()).map(|read| read.is_ok()), Some(true));
            }
        }
    }
});
