//! The cryptography under QUIC and TLS, without a C compiler.
//!
//! iroh asks for a [`rustls::crypto::CryptoProvider`] whose TLS 1.3 suites know how to protect QUIC packets. The
//! pure-Rust provider of graviola has the suites but leaves their QUIC part empty, so this module fills it in:
//!
//! ```text
//! provider()          what a node hands to iroh; refuses a CPU that graviola would panic on
//!   cpu               which CPU features graviola needs, asked before it is touched
//!   suites            graviola's TLS 1.3 suites with the QUIC part added, AES-128-GCM first
//!     packet          payload protection: graviola's AEADs, per path (RFC 9001 section 5.3)
//!     header          header protection: RustCrypto's AES and ChaCha20 (RFC 9001 section 5.4)
//! ```
//!
//! With the feature `ring` none of this is compiled and [`provider`] is rustls's ring provider: for CPUs that
//! graviola does not serve, at the price of a C compiler. Both builds interoperate.
//!
//! What noq, iroh's QUIC, asks of a provider: a suite TLS13_AES_128_GCM_SHA256 that has a QUIC part (Initial packets
//! use no other), the `_for_path` methods (it calls them for every packet, also on path 0), and an AEAD in the *first*
//! TLS 1.3 suite that accepts a 32-byte key (iroh seals its address-validation tokens with it). 0-RTT needs nothing
//! more: its keys come from the same suite.

#[cfg(not(any(feature = "ring", target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "honeylink's pure-Rust cryptography (graviola) supports x86_64 and aarch64 only: \
     build with --features ring (needs a C compiler)"
);

mod cpu;
#[cfg(not(feature = "ring"))]
mod header;
#[cfg(not(feature = "ring"))]
mod packet;
#[cfg(not(feature = "ring"))]
mod suites;
#[cfg(test)]
#[cfg(not(feature = "ring"))]
mod tests;

use std::sync::Arc;

pub use cpu::CpuUnsupported;
use rustls::crypto::CryptoProvider;

/// The provider to hand to iroh's endpoint builder and to every other TLS configuration of a node.
///
/// Its suites are, in order of preference: AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305 for TLS 1.3 and QUIC, then
/// those of TLS 1.2, which only a relay behind an old HTTPS front would ever use. AES-128 goes first because it is the
/// fastest here and its margin is the one QUIC itself relies on.
///
/// Building it is cheap, but not free: make one for a node and share it.
///
/// # Errors
/// [`CpuUnsupported`] if this CPU lacks an instruction set that the pure-Rust implementation is written in.
#[cfg(not(feature = "ring"))]
pub fn provider() -> Result<Arc<CryptoProvider>, CpuUnsupported> {
    cpu::check()?;
    Ok(Arc::new(suites::provider()))
}

/// The provider to hand to iroh's endpoint builder and to every other TLS configuration of a node: rustls's own over
/// ring, in its own order of preference. AES-128 must not be moved to the front here: iroh seals tokens with a 32-byte
/// key under the first suite, and ring's AES-128 panics on that length.
///
/// # Errors
/// None: ring picks an implementation for any CPU. The signature is the one of the default build.
#[cfg(feature = "ring")]
pub fn provider() -> Result<Arc<CryptoProvider>, CpuUnsupported> {
    Ok(Arc::new(rustls::crypto::ring::default_provider()))
}
