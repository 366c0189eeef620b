//! A frame from a radio or a connection: any bytes. What decodes has exactly those bytes, and rewriting it for the next
//! hop keeps it a frame with the same identity.
#![no_main]

use honeylink_core::mesh::frame::{Cost, Frame, PortKind, Rewrite, identity, rewrite};
use honeylink_core::mesh::hint::Near;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let onward = Rewrite { hops: 5, next: Near(1), prev: Near(2), cost: Cost(3), class: 1 };
    let bytes = input.to_vec().into();
    for port in [PortKind::Broadcast, PortKind::PointToPoint] {
        let Ok(frame) = Frame::decode(&bytes, port) else { continue };
        assert_eq!(&frame.to_bytes()[..], input);
        if let Frame::Signed(signed) = &frame {
            let _ = signed.body();
        }
        let mut next = input.to_vec();
        if rewrite(&mut next, &onward).is_ok() {
            assert_eq!(identity(&next), identity(input));
            assert!(Frame::decode(&next.into(), port).is_ok());
        }
    }
    let _ = rewrite(&mut input.to_vec(), &onward);
});
