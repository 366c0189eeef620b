//! A ratchet from a damaged disk, then frames that nobody sealed: nothing opens, and nothing moves.
#![no_main]

use honeylink_core::mesh::frame::{Frame, PortKind};
use honeylink_core::mesh::keys::Ratchet;

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8])| {
    let (saved, frame) = input;
    let Ok(mut ratchet) = Ratchet::load(saved) else { return };
    assert_eq!(&ratchet.save()[..], saved);
    if let Ok(Frame::Data(mut data)) = Frame::decode(&frame.to_vec().into(), PortKind::Broadcast) {
        if ratchet.open(&data).is_err() {
            assert_eq!(&ratchet.save()[..], saved);
        }
        let sending = ratchet.sending_block();
        assert!(ratchet.seal(&mut data).is_err() || ratchet.sending_block() >= sending);
    }
});
