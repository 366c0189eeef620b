//! graviola's TLS 1.3 suites with the QUIC part they lack.

use std::marker::PhantomData;

use aes::{Aes128, Aes256};
use rustls::{
    SupportedCipherSuite, Tls13CipherSuite,
    crypto::{
        CipherSuiteCommon, CryptoProvider,
        cipher::{AeadKey, Iv},
    },
    quic::{Algorithm, HeaderProtectionKey, PacketKey},
};
use rustls_graviola::suites as graviola;
use zeroize::Zeroizing;

use super::{
    header::{ChaChaMask, HeaderProtection, Mask},
    packet::{Aead, ChaChaPoly, Gcm, PacketProtection},
};

pub(super) static AES_128: Tls13CipherSuite =
    with_quic(&graviola::TLS13_AES_128_GCM_SHA256, &QuicPart::<Gcm<16>, Aes128>(PhantomData));

pub(super) static AES_256: Tls13CipherSuite =
    with_quic(&graviola::TLS13_AES_256_GCM_SHA384, &QuicPart::<Gcm<32>, Aes256>(PhantomData));

pub(super) static CHACHA: Tls13CipherSuite =
    with_quic(&graviola::TLS13_CHACHA20_POLY1305_SHA256, &QuicPart::<ChaChaPoly, ChaChaMask>(PhantomData));

/// graviola's provider with our TLS 1.3 suites in front; its TLS 1.2 suites follow unchanged.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = rustls_graviola::default_provider();
    let tls12 = provider.cipher_suites.into_iter().filter(|suite| suite.tls13().is_none());
    let tls13 = [&AES_128, &AES_256, &CHACHA].map(SupportedCipherSuite::Tls13);
    provider.cipher_suites = tls13.into_iter().chain(tls12).collect();
    provider
}

#[expect(clippy::panic, reason = "evaluated by the compiler: a wrong suite is a build error, not a crash")]
const fn with_quic(suite: &SupportedCipherSuite, quic: &'static dyn Algorithm) -> Tls13CipherSuite {
    let SupportedCipherSuite::Tls13(suite) = suite else { panic!("a TLS 1.2 suite has no QUIC part") };
    Tls13CipherSuite {
        common: CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: suite.common.confidentiality_limit,
        },
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: Some(quic),
    }
}

/// The key factory of a suite: payload by `A`, headers by `M`.
struct QuicPart<A, M>(PhantomData<fn() -> (A, M)>);

impl<A: Aead, M: Mask> Algorithm for QuicPart<A, M> {
    fn packet_key(&self, key: AeadKey, iv: Iv) -> Box<dyn PacketKey> {
        Box::new(PacketProtection::<A>::new(&key, iv))
    }

    fn header_protection_key(&self, key: AeadKey) -> Box<dyn HeaderProtectionKey> {
        Box::new(HeaderProtection::<M>::new(&key))
    }

    fn aead_key_len(&self) -> usize {
        A::KEY_LEN
    }
}

/// The bytes of a key, wiped after use.
///
/// # Panics
/// If rustls broke its contract to derive exactly [`Algorithm::aead_key_len`] bytes. The traits have no way to report
/// it, and going on with a padded or cut key would be worse.
pub(super) fn key_bytes<const LEN: usize>(key: &AeadKey) -> Zeroizing<[u8; LEN]> {
    let mut bytes = Zeroizing::new([0; LEN]);
    bytes.copy_from_slice(key.as_ref());
    bytes
}
