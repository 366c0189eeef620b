//! The frames of a session stream, cut in two wherever the network likes: any bytes.
#![no_main]

use honeylink_core::wire::link::FrameDecoder;

libfuzzer_sys::fuzz_target!(|chunks: (&[u8], &[u8])| {
    let mut decoder = FrameDecoder::new(64 * 1024);
    for chunk in [chunks.0, chunks.1] {
        decoder.feed(chunk);
        while let Ok(Some(_)) = decoder.next_frame() {}
    }
});
