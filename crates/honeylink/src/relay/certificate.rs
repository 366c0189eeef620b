//! A relay's key and the certificate around it.
//!
//! Guests recognise a relay by its key, so its own certificate is only the envelope TLS wants: it names the host, is signed
//! by itself, never ends, and is made anew from the key at each start. A certificate of a public authority works as well.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use honeylink_core::identity::SecretKey;
use honeylink_core::wire::relay::KeyPin;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use zeroize::Zeroizing;

use super::StartError;

/// What comes before the 32 bytes of the seed in an Ed25519 key in PKCS #8 (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// The algorithm Ed25519 (RFC 8410 section 3): of the key and of the signature.
const ED25519: [u8; 7] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
/// From 2020 on for ever (RFC 5280 section 4.1.2.5): a clock that is wrong changes nothing.
const VALIDITY: &[u8] = b"\x30\x20\x17\x0d200101000000Z\x18\x0f99991231235959Z";
/// The common name, an attribute of issuer and subject: `CN=honeylink relay`.
const COMMON_NAME: &[u8] = b"honeylink relay";

/// Certificate and key for TLS.
#[derive(Debug)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    own: bool,
}

impl Certificate {
    /// A certificate of the relay's own for `host`, a name or an address.
    #[must_use]
    pub fn own(key: &SecretKey, host: &str) -> Self {
        let seed = key.to_bytes();
        let pkcs8 = Zeroizing::new([&PKCS8_PREFIX[..], &seed[..]].concat());
        let der = self_signed(key, host);
        let key = PrivatePkcs8KeyDer::from(pkcs8.to_vec());
        Self { chain: vec![der.into()], key: key.into(), own: true }
    }

    /// One that a public authority signed, with the certificates that lead there.
    #[must_use]
    pub const fn public(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key, own: false }
    }

    /// As [`Certificate::public`], from two files in PEM.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn from_pem(chain: &Path, key: &Path) -> Result<Self, (PathBuf, String)> {
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |error: rustls::pki_types::pem::Error| (path, error.to_string())
        };
        let certificates = CertificateDer::pem_file_iter(chain).map_err(wrong(chain))?;
        let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(wrong(chain))?;
        if certificates.is_empty() {
            return Err((chain.to_owned(), "there is no certificate in it".into()));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
        Ok(Self::public(certificates, key))
    }

    /// As [`Certificate::own`], with the key that [`Certificate::new_key`] made.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn own_from_pem(pem: &str, host: &str) -> Result<Self, String> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
        let seed = key.secret_pkcs8_der().strip_prefix(&PKCS8_PREFIX).and_then(|seed| seed.try_into().ok());
        let seed: &[u8; 32] = seed.ok_or("it is not an Ed25519 key as this program makes it")?;
        Ok(Self::own(&SecretKey::from_bytes(seed), host))
    }

    /// A new key, in PEM (PKCS #8, RFC 8410): for a file that nobody else may read.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn new_key() -> Result<Zeroizing<String>, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut seed[..])?;
        let der = Zeroizing::new([&PKCS8_PREFIX[..], &seed[..]].concat());
        let body = Zeroizing::new(BASE64.encode(&der));
        Ok(Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *body)))
    }

    /// By what guests have to recognise it; `None` if a public authority vouches for it.
    ///
    /// # Errors
    /// [`StartError::Tls`] if the certificate cannot be read.
    pub fn pin(&self) -> Result<Option<KeyPin>, StartError> {
        if !self.own {
            return Ok(None);
        }
        let unreadable = |why: String| StartError::Tls(format!("the certificate cannot be read: {why}"));
        let first = self.chain.first().ok_or_else(|| unreadable("it is empty".into()))?;
        let parsed = ParsedCertificate::try_from(first).map_err(|error| unreadable(error.to_string()))?;
        Ok(Some(KeyPin::of(&parsed.subject_public_key_info())))
    }

    /// The key that the relay's observer signs with: another one than TLS uses, made of it, so that it lasts as long and
    /// needs no file.
    pub(super) fn observer_key(&self) -> SecretKey {
        let secret =
            Zeroizing::new(blake3::derive_key("honeylink/relay/1 observer key", self.key.secret_der()));
        SecretKey::from_bytes(&secret)
    }

    /// The certificates, the relay's own first: for clients that want to be given one.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn config(&self) -> Result<rustls::ServerConfig, StartError> {
        let wrong = |error: rustls::Error| StartError::Tls(error.to_string());
        rustls::ServerConfig::builder_with_provider(Arc::clone(&crate::crypto::provider()?))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(wrong)
    }
}

/// The bytes of a value in DER: tag, length, content.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=0x7f => out.push(len as u8),
        len @ 0x80..=0xff => out.extend([0x81, len as u8]),
        // Nothing here is longer: a host name has 253 bytes.
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend(content);
    out
}

/// An X.509 certificate of version 3 (RFC 5280 section 4.1) that its own key signed.
fn self_signed(key: &SecretKey, host: &str) -> Vec<u8> {
    let public = key.id();
    // A serial number is positive, has at most 20 bytes, and differs from key to key.
    let serial = [&[1][..], &public.as_bytes()[..15]].concat();
    let name = der(0x30, &[&der(0x31, &[&der(0x30, &[&[6, 3, 0x55, 4, 3], &der(0x0c, &[COMMON_NAME])])])]);
    let spki = der(0x30, &[&ED25519, &der(3, &[&[0], public.as_bytes()])]);
    let alternative = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => der(0x87, &[&ip.octets()]),
        Ok(IpAddr::V6(ip)) => der(0x87, &[&ip.octets()]),
        Err(_) => der(0x82, &[host.as_bytes()]),
    };
    let names = der(0x30, &[&[6, 3, 0x55, 0x1d, 0x11], &der(4, &[&der(0x30, &[&alternative])])]);
    let extensions = der(0xa3, &[&der(0x30, &[&names])]);
    let body = der(
        0x30,
        &[&[0xa0, 3, 2, 1, 2], &der(2, &[&serial]), &ED25519, &name, VALIDITY, &name, &spki, &extensions],
    );
    let signature = key.sign(&body);
    der(0x30, &[&body, &ED25519, &der(3, &[&[0], &signature])])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};

    /// Checked as any client would that was given the certificate.
    #[test]
    fn the_relays_own_certificate_is_one_for_its_host_and_no_other() {
        let longest =
            ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(57), "org".into()].join(".");
        for host in ["relay.example.org", "192.0.2.7", "2001:db8::1", &longest] {
            let certificate = Certificate::own(&SecretKey::from_u64(1), host);
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificate.chain()[0].clone()).unwrap();
            let provider = crate::crypto::provider().unwrap();
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            let check = |name: &str| {
                let name = ServerName::try_from(name.to_owned()).unwrap();
                verifier.verify_server_cert(&certificate.chain()[0], &[], &name, &[], UnixTime::now())
            };
            check(host).unwrap();
            assert!(check("other.example.org").is_err());
            certificate.config().unwrap();
        }
    }

    #[test]
    fn a_key_that_was_written_down_gives_the_same_pin() {
        let pem = Certificate::new_key().unwrap();
        let pin = || Certificate::own_from_pem(&pem, "a.org").unwrap().pin().unwrap();
        assert_eq!(pin(), pin());
        assert!(Certificate::own_from_pem("-----BEGIN NOTHING-----", "a.org").is_err());
    }

    #[test]
    fn the_observers_key_lasts_as_long_as_the_relays_and_is_another() {
        let key = |seed, host| Certificate::own(&SecretKey::from_u64(seed), host).observer_key().id();
        assert_eq!(key(1, "a.org"), key(1, "b.org"));
        assert_ne!(key(1, "a.org"), key(2, "a.org"));
        assert_ne!(key(1, "a.org"), SecretKey::from_u64(1).id());
    }

    #[test]
    fn the_pin_is_that_of_the_key_whatever_the_host() {
        let pin = |seed, host| Certificate::own(&SecretKey::from_u64(seed), host).pin().unwrap().unwrap();
        assert_eq!(pin(1, "a.org"), pin(1, "192.0.2.7"));
        assert_ne!(pin(1, "a.org"), pin(2, "a.org"));
    }
}
