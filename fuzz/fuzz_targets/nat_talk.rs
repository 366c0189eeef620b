//! What a peer says on the stream on which a hole is agreed: any bytes. What was understood is said the same way.
#![no_main]

use std::sync::LazyLock;

use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::nat::talk::Talk;

// Made once: deriving a key takes longer than reading a frame.
static PEER: LazyLock<DeviceId> = LazyLock::new(|| SecretKey::from_u64(1).id());

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Talk::is_other_version(bytes);
    if let Some(field) = bytes.first_chunk() {
        let _ = Talk::body_len(*field);
    }
    let Ok(talk) = Talk::from_body(bytes) else { return };
    // Nobody signed this, so it names no address to send to.
    if let Talk::Offer { view, .. } | Talk::Answer { view } = &talk {
        assert!(view.target(&PEER, &[*PEER], 0).is_err());
    }
    assert_eq!(Talk::from_body(&talk.to_bytes()[2..]), Ok(talk));
});
