//! The body of an IP control frame: any bytes. A hello that was understood can be said again and means the same.
#![no_main]

use honeylink_core::mesh::control::Control;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Ok(Control::Hello(hello)) = Control::decode(&input.to_vec().into()) {
        let again = hello.encode().expect("what was accepted can be said");
        assert_eq!(Control::decode(&again.body), Ok(Control::Hello(hello)));
    }
});
