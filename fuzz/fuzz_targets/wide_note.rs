//! What somebody stored in the DHT where a note should lie: any bytes. Behind the seal too, which for a code anybody can make.
#![no_main]

use std::sync::LazyLock;

use honeylink_core::wide::{CodeNote, Place, Whereabouts, of_code};

// Made once: deriving keys takes longer than reading a note.
static PLACE: LazyLock<Place> = LazyLock::new(|| of_code(7));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(Whereabouts::open(&PLACE, 1, bytes).is_err());
    assert!(CodeNote::open(&PLACE, 1, bytes).is_err());
    if let Ok(said) = Whereabouts::from_body(bytes)
        && said.fitted() == said
    {
        assert_eq!(Whereabouts::open(&PLACE, 2, &said.seal(&PLACE, 2)), Ok(said));
    }
    if let Ok(said) = CodeNote::from_body(bytes)
        && !matches!(&said, CodeNote::Open(_, at) if at.fitted() != *at)
    {
        assert_eq!(CodeNote::open(&PLACE, 3, &said.seal(&PLACE, 3)), Ok(said));
    }
});
