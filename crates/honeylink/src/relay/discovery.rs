//! Tells devices by QUIC which address they are seen at (draft-seemann-quic-address-discovery, ALPN `/iroh-qad/0`): what iroh
//! needs to make holes. A guest opens a connection, is told, and keeps it open to be told again when that changes.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use honeylink_core::pairing::limiter::Source;
use noq::crypto::rustls::QuicServerConfig;
use noq::crypto::{CryptoError, HandshakeTokenKey, HmacKey};
use noq::{
    Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, ValidationTokenConfig,
    VarInt,
};
use subtle::ConstantTimeEq as _;
use tokio_util::task::TaskTracker;

use super::guests::count;
use super::{House, StartError};

const ALPN: &[u8] = b"/iroh-qad/0";
/// The code with which both sides say that they are done.
const DONE: VarInt = VarInt::from_u32(1);

/// Binds the socket's endpoint.
pub(super) fn bind(socket: UdpSocket, mut tls: rustls::ServerConfig) -> Result<Endpoint, StartError> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // QUIC knows no other.
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| StartError::Tls(error.to_string()))?;
    let mut config = ServerConfig::new(Arc::new(crypto), Arc::new(NoTokens));
    // See `NoTokens`.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config.validation_token_config(tokens);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .send_observed_address_reports(true);
    config.transport_config(Arc::new(transport));
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| StartError::Tls(error.to_string()))?;
    let endpoint = EndpointConfig::new(Arc::new(ResetKey(key)));
    Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))
        .map_err(|error: io::Error| StartError::Tls(error.to_string()))
}

/// Answers until the relay stops.
pub(super) async fn run(house: Arc<House>, endpoint: Endpoint, tasks: TaskTracker) {
    while let Some(incoming) = endpoint.accept().await {
        let source = Source::of(incoming.remote_address().ip().to_canonical());
        let Some(admission) = house.discoverers.admit(source) else {
            incoming.ignore();
            continue;
        };
        let house = house.clone();
        tasks.spawn(async move {
            house.stop.clone().run_until_cancelled(tell(&house, incoming)).await;
            drop(admission);
        });
    }
}

async fn tell(house: &House, incoming: Incoming) {
    if let Ok(connection) = incoming.await {
        count(&house.guests.counts.discoveries);
        connection.closed().await;
    }
}

/// Ends every connection.
pub(super) fn close(endpoint: &Endpoint) {
    endpoint.close(DONE, b"the relay ends");
}

/// Tokens save a round trip to clients that come again; these come once. None is issued and none is accepted.
#[derive(Debug)]
struct NoTokens;

impl HandshakeTokenKey for NoTokens {
    fn seal(&self, _nonce: u128, _data: &mut Vec<u8>) -> Result<(), CryptoError> {
        Err(CryptoError)
    }

    fn open<'a>(&self, _nonce: u128, _data: &'a mut [u8]) -> Result<&'a [u8], CryptoError> {
        Err(CryptoError)
    }
}

/// Makes the tokens by which a restarted relay resets connections it does not know any more.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let right = blake3::keyed_hash(&self.0, data);
        if bool::from(signature.ct_eq(right.as_bytes())) { Ok(()) } else { Err(CryptoError) }
    }
}
