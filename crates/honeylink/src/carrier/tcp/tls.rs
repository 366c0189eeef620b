//! TLS 1.3 between two device keys: each end shows its Ed25519 key as a raw public key (RFC 7250) and proves that it holds
//! it, as iroh's endpoints do over QUIC. No names, no certificates, no resumption, no early data.

use std::io;
use std::sync::Arc;

use honeylink_core::identity::{DeviceId, SecretKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error,
    PeerIncompatible, ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::ALPN_MESH;
use crate::carrier::quic::BindError;

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// What stands before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// This device in a handshake.
#[derive(Debug)]
pub(super) struct Identity {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    acceptor: Arc<ServerConfig>,
}

impl Identity {
    pub(super) fn new(key: &SecretKey) -> Result<Self, BindError> {
        let provider = crate::crypto::provider()?;
        let shown = CertificateDer::from(spki(&key.id()));
        let key = Arc::new(CertifiedKey::new(vec![shown], Arc::new(DeviceKey(key.clone()))));
        let mut acceptor = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(VERSIONS)
            .map_err(|error| BindError::Tls(error.to_string()))?
            .with_client_cert_verifier(Arc::new(AnyDevice))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key.clone())));
        acceptor.alpn_protocols = vec![ALPN_MESH.to_vec()];
        acceptor.send_tls13_tickets = 0;
        Ok(Self { provider, key, acceptor: Arc::new(acceptor) })
    }

    pub(super) async fn dial(
        &self,
        peer: DeviceId,
        stream: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = ServerName::IpAddress(stream.peer_addr()?.ip().into());
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(VERSIONS)
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OneDevice(peer)))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![ALPN_MESH.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        TlsAcceptor::from(self.acceptor.clone()).accept(stream).await
    }
}

/// The key that the other end of a finished handshake has proved to hold.
pub(super) fn proven(session: &CommonState) -> Option<DeviceId> {
    match session.peer_certificates()? {
        [shown] => device(shown).ok(),
        _ => None,
    }
}

fn spki(id: &DeviceId) -> Vec<u8> {
    [&SPKI_PREFIX[..], id.as_bytes()].concat()
}

/// The device whose key is shown.
fn device(shown: &CertificateDer<'_>) -> Result<DeviceId, Error> {
    let key = shown.as_ref().strip_prefix(&SPKI_PREFIX).and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.and_then(|key| DeviceId::from_bytes(key).ok())
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn check(
    message: &[u8],
    shown: &CertificateDer<'_>,
    proof: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = Error::InvalidCertificate(CertificateError::BadSignature);
    let signature = <&[u8; 64]>::try_from(proof.signature()).map_err(|_| bad.clone())?;
    if proof.scheme == SignatureScheme::ED25519 && device(shown)?.verify(message, signature) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(bad)
    }
}

/// Signs handshakes with the device's key.
#[derive(Clone)]
struct DeviceKey(SecretKey);

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceKey").finish_non_exhaustive()
    }
}

impl SigningKey for DeviceKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(spki(&self.0.id())))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for DeviceKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// Takes one key and no other.
#[derive(Debug)]
struct OneDevice(DeviceId);

impl ServerCertVerifier for OneDevice {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if others.is_empty() && device(shown)? == self.0 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check(message, shown, proof)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Takes any key that is proved; what its holder may is decided when the handshake is over.
#[derive(Debug)]
struct AnyDevice;

impl ClientCertVerifier for AnyDevice {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        device(shown)?;
        if others.is_empty() {
            return Ok(ClientCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _shown: &CertificateDer<'_>,
        _proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check(message, shown, proof)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
