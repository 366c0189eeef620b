//! Which CPU features the pure-Rust provider needs, asked before it is touched: graviola itself answers a missing
//! feature with a panic in the middle of a handshake.

use thiserror::Error;

/// This CPU lacks instruction sets that the pure-Rust cryptography is written in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "this {arch} CPU (or its hypervisor) does not offer {}, which the pure-Rust cryptography needs: \
     build with --features ring (needs a C compiler)",
    .missing.join(", ")
)]
pub struct CpuUnsupported {
    arch: &'static str,
    missing: Vec<&'static str>,
}

impl CpuUnsupported {
    /// The missing features, by the names that `/proc/cpuinfo` and rustc know them by. Never empty.
    pub fn missing(&self) -> &[&'static str] {
        &self.missing
    }
}

/// Refuses this CPU if one of the required features is absent.
#[cfg(not(feature = "ring"))]
pub(super) fn check() -> Result<(), CpuUnsupported> {
    judge(std::env::consts::ARCH, &required())
}

/// The verdict over a list of (feature, present): apart from [`check`] so that a test can play a lesser CPU.
#[cfg(any(test, not(feature = "ring")))]
fn judge(arch: &'static str, features: &[(&'static str, bool)]) -> Result<(), CpuUnsupported> {
    let missing: Vec<_> = features.iter().filter(|(_, present)| !present).map(|(name, _)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(CpuUnsupported { arch, missing }) }
}

/// What graviola 0.4 asserts at each entry, plus `bmi2`: it does not assert that one, but its curve arithmetic uses
/// the instruction MULX, so its absence would be SIGILL. SSSE3 and SSE4.1 are implied by AVX.
#[cfg(all(not(feature = "ring"), target_arch = "x86_64"))]
fn required() -> [(&'static str, bool); 7] {
    use std::arch::is_x86_feature_detected as has;
    [
        ("aes", has!("aes")),
        ("pclmulqdq", has!("pclmulqdq")),
        ("bmi1", has!("bmi1")),
        ("bmi2", has!("bmi2")),
        // Valgrind runs these instructions and does not say so (its bug 494162). graviola passes over it in a build with
        // this variable, which is only made to count instructions.
        ("adx", has!("adx") || option_env!("VALGRIND_BUG_494162").is_some()),
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
    ]
}

/// What graviola 0.4 asserts at each entry.
#[cfg(all(not(feature = "ring"), target_arch = "aarch64"))]
fn required() -> [(&'static str, bool); 4] {
    use std::arch::is_aarch64_feature_detected as has;
    [("neon", has!("neon")), ("aes", has!("aes")), ("pmull", has!("pmull")), ("sha2", has!("sha2"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_with_every_feature_is_accepted() {
        assert_eq!(judge("x86_64", &[("aes", true), ("avx2", true)]), Ok(()));
    }

    #[test]
    fn a_lesser_cpu_is_told_what_it_lacks_and_what_to_do() {
        let refusal = judge("x86_64", &[("aes", true), ("adx", false), ("avx2", false)]).unwrap_err();
        assert_eq!(refusal.missing(), ["adx", "avx2"]);
        let text = refusal.to_string();
        assert!(text.contains("x86_64") && text.contains("adx, avx2"), "{text}");
        assert!(text.contains("build with --features ring"), "{text}");
    }
}
