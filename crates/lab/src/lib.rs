//! What the lab's tests and programs share: things that behave like hardware. Linux only, never published.
//!
//! | module | what it is |
//! |---|---|
//! | [`modem`] | radio modems on pseudo-terminals, with one half-duplex channel between them |
#![cfg(target_os = "linux")]

pub mod modem;
