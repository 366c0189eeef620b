//! A chat message as it comes over the mesh.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = honeylink_core::wire::chat::MeshSay::decode(bytes);
});
