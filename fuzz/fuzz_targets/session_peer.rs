//! A peer that says anything at all, to the machine behind a link: the bytes of one session stream.
#![no_main]

use honeylink_core::session::{Config, Input, Role, Session};
use honeylink_core::time::Time;
use honeylink_core::wire::link::FrameDecoder;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let config = Config { message_max: 1024, ..Config::default() };
    let mut decoder = FrameDecoder::new(config.message_max);
    let mut session = Session::new(Time::ZERO, Role::Responder, config);
    session.handle(Time::ZERO, Input::CarrierUp);
    decoder.feed(bytes);
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => session.handle(Time::ZERO, Input::Frame(frame)),
            Ok(None) => break,
            Err(invalid) => {
                session.handle(Time::ZERO, Input::Malformed(invalid));
                break;
            }
        }
        while session.poll_output().is_some() {}
    }
});
