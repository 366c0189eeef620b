//! A QUIC handshake and protected packets between our provider and ring's, for every suite and in both directions.
//!
//! This drives `rustls::quic` by hand instead of an endpoint, because only here can the suite be chosen and seen.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, cipher::AeadKey},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    quic::{
        ClientConnection, Connection, DirectionalKeys, HeaderProtectionKey, KeyChange, Keys, PacketKey,
        Secrets, ServerConnection, Version,
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

fn ours() -> CryptoProvider {
    (*honeylink::crypto::provider().unwrap()).clone()
}

fn rings() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn only(mut provider: CryptoProvider, suite: CipherSuite) -> Arc<CryptoProvider> {
    provider.cipher_suites.retain(|candidate| candidate.suite() == suite);
    Arc::new(provider)
}

/// Believes everyone: who the server is, is not the question here.
#[derive(Debug)]
struct Gullible(Vec<SignatureScheme>);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC is TLS 1.3".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

fn client(provider: Arc<CryptoProvider>) -> Connection {
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(schemes)))
        .with_no_client_auth();
    let name = ServerName::try_from("peer.example").unwrap();
    ClientConnection::new(Arc::new(config), Version::V1, name, b"client parameters".to_vec()).unwrap().into()
}

fn server(provider: Arc<CryptoProvider>) -> Connection {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.as_ref().to_vec()).into();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let identity = CertifiedKey::new(vec![CertificateDer::from(b"nobody looks at this".to_vec())], key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    ServerConnection::new(Arc::new(config), Version::V1, b"server parameters".to_vec()).unwrap().into()
}

/// What a handshake leaves at one end.
#[derive(Default)]
struct End {
    handshake: Option<Keys>,
    one_rtt: Option<(Keys, Secrets)>,
}

impl End {
    /// Hands everything that `from` has to say to `to`, level by level, and keeps the keys that appear.
    fn flush(&mut self, from: &mut Connection, to: &mut Connection) {
        loop {
            let mut flight = Vec::new();
            let change = from.write_hs(&mut flight);
            if !flight.is_empty() {
                to.read_hs(&flight).unwrap();
            }
            match change {
                Some(KeyChange::Handshake { keys }) => self.handshake = Some(keys),
                Some(KeyChange::OneRtt { keys, next }) => self.one_rtt = Some((keys, next)),
                None if flight.is_empty() => return,
                None => {}
            }
        }
    }
}

/// Carries one packet from `from` to `to` as QUIC does, and tells where it failed.
fn carry(from: &DirectionalKeys, to: &DirectionalKeys, path_id: u32, number: u64) {
    const HEADER: [u8; 9] = [0x43, 1, 2, 3, 4, 0, 0, 0, 0];
    let body: Vec<u8> = (0..1200u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut header = HEADER;
    let [.., a, b, c, d] = number.to_be_bytes();
    header[5..].copy_from_slice(&[a, b, c, d]);

    let mut sealed = body.clone();
    let tag = from.packet.encrypt_in_place_for_path(path_id, number, &header, &mut sealed).unwrap();
    sealed.extend_from_slice(tag.as_ref());
    let mut on_wire = header;
    let (first, rest) = on_wire.split_first_mut().unwrap();
    from.header.encrypt_in_place(&sealed[..16], first, &mut rest[4..]).unwrap();
    assert_ne!(on_wire, header);

    let (first, rest) = on_wire.split_first_mut().unwrap();
    to.header.decrypt_in_place(&sealed[..16], first, &mut rest[4..]).unwrap();
    assert_eq!(on_wire, header, "header of packet {number} on path {path_id}");
    open(to.packet.as_ref(), path_id, number, &header, &mut sealed, &body);
}

fn open(key: &dyn PacketKey, path_id: u32, number: u64, header: &[u8], sealed: &mut [u8], body: &[u8]) {
    match key.decrypt_in_place_for_path(path_id, number, header, sealed) {
        Ok(plain) => assert!(plain == body, "packet {number} on path {path_id} opened to something else"),
        Err(error) => panic!("packet {number} on path {path_id} did not open: {error}"),
    }
}

/// Packets both ways, on the first path and on later ones.
fn converse(client: &Keys, server: &Keys) {
    for path_id in [0, 1, u32::MAX] {
        for number in [0, 1, 0xffff_ffff] {
            carry(&client.local, &server.remote, path_id, number);
            carry(&server.local, &client.remote, path_id, number);
        }
    }
}

/// The payload keys after a key update, which keeps the header keys.
fn converse_after_update(client: &mut Secrets, server: &mut Secrets) {
    let (client, server) = (client.next_packet_keys(), server.next_packet_keys());
    for (from, to) in [(&client.local, &server.remote), (&server.local, &client.remote)] {
        let mut sealed = b"after the update".to_vec();
        let tag = from.encrypt_in_place_for_path(2, 9, b"head", &mut sealed).unwrap();
        sealed.extend_from_slice(tag.as_ref());
        open(to.as_ref(), 2, 9, b"head", &mut sealed, b"after the update");
    }
}

fn interoperate(client_provider: CryptoProvider, server_provider: CryptoProvider, suite: CipherSuite) {
    let mut client = client(only(client_provider, suite));
    let mut server = server(only(server_provider, suite));
    let (mut at_client, mut at_server) = (End::default(), End::default());
    for _ in 0..4 {
        at_client.flush(&mut client, &mut server);
        at_server.flush(&mut server, &mut client);
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.negotiated_cipher_suite().unwrap().suite(), suite);

    converse(&at_client.handshake.unwrap(), &at_server.handshake.unwrap());
    let (client_keys, mut client_next) = at_client.one_rtt.unwrap();
    let (server_keys, mut server_next) = at_server.one_rtt.unwrap();
    converse(&client_keys, &server_keys);
    for _ in 0..3 {
        converse_after_update(&mut client_next, &mut server_next);
    }
}

#[test]
fn our_client_and_rings_server_understand_each_other_in_every_suite() {
    for suite in SUITES {
        interoperate(ours(), rings(), suite);
    }
}

#[test]
fn rings_client_and_our_server_understand_each_other_in_every_suite() {
    for suite in SUITES {
        interoperate(rings(), ours(), suite);
    }
}

/// Initial packets are protected before any suite is agreed on, so both must derive the same keys from the id alone.
#[test]
fn initial_packets_are_the_same_for_both() {
    let initial = |provider: CryptoProvider, side| {
        let suite = provider.cipher_suites.iter().find(|candidate| candidate.suite() == SUITES[0]).unwrap();
        let suite = suite.tls13().unwrap();
        Keys::initial(Version::V1, suite, suite.quic.unwrap(), b"connection id", side)
    };
    converse(&initial(ours(), rustls::Side::Client), &initial(rings(), rustls::Side::Server));
    converse(&initial(rings(), rustls::Side::Client), &initial(ours(), rustls::Side::Server));
}

/// The corners matter: ChaCha20 reads a block number out of the sample, and ff ff ff ff names its last block.
#[test]
fn both_hide_a_header_the_same_way_whatever_the_sample() {
    for suite in [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256] {
        let key = |provider: CryptoProvider| {
            let suite = only(provider, suite).cipher_suites[0].tls13().unwrap();
            suite.quic.unwrap().header_protection_key(AeadKey::from([0xa5; 32]))
        };
        let (ours, rings) = (key(ours()), key(rings()));
        for sample in (0..=u8::MAX).map(|byte| [byte; 16]) {
            for header in [[0x40, 1, 2, 3, 4], [0x43, 1, 2, 3, 4], [0xc1, 1, 2, 3, 4]] {
                let hide = |key: &dyn HeaderProtectionKey| {
                    let mut hidden = header;
                    let (first, number) = hidden.split_first_mut().unwrap();
                    key.encrypt_in_place(&sample, first, number).unwrap();
                    hidden
                };
                assert_eq!(hide(ours.as_ref()), hide(rings.as_ref()), "{suite:?} {sample:?}");
            }
        }
    }
}

#[test]
fn both_state_the_same_limits() {
    for suite in SUITES {
        let limits = |provider: CryptoProvider| {
            let suite = only(provider, suite).cipher_suites[0].tls13().unwrap();
            let keys = Keys::initial(Version::V1, suite, suite.quic.unwrap(), b"id", rustls::Side::Client);
            (keys.local.packet.confidentiality_limit(), keys.local.packet.integrity_limit())
        };
        assert_eq!(limits(ours()), limits(rings()), "{suite:?}");
    }
}
