//! Tells devices by QUIC which address they are seen at (draft-seemann-quic-address-discovery, ALPN `/iroh-qad/0`): what iroh
//! needs to make holes. A guest opens a connection, is told, and keeps it open to be told again when that changes.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::pairing::limiter::Source;
use noq::crypto::rustls::QuicServerConfig;
use noq::crypto::{CryptoError, HandshakeTokenKey, HmacKey};
use noq::{
    Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, ValidationTokenConfig,
    VarInt,
};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::guests::count;
use super::{House, StartError};
use crate::carrier::slots::{self, Slot, Slots};

const ALPN: &[u8] = b"/iroh-qad/0";
/// The code with which both sides say that they are done.
const DONE: VarInt = VarInt::from_u32(1);
/// A handshake must be finished within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at a time: a first packet costs memory until then, whoever's address it shows. From a quarter of this on an
/// address must show that it can be answered.
const HANDSHAKES_MAX: usize = 128;
/// Those of one source.
const HANDSHAKES_PER_SOURCE_MAX: usize = 16;
/// Connections for each guest that there may be. It has one or two; devices that are guests elsewhere measure the way to here.
const PER_GUEST_MAX: usize = 4;

/// Binds the socket's endpoint.
pub(super) fn bind(socket: UdpSocket, mut tls: rustls::ServerConfig) -> Result<Endpoint, StartError> {
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // QUIC knows no other.
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| StartError::Tls(error.to_string()))?;
    let random = || {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| StartError::Tls(error.to_string()))?;
        Ok::<_, StartError>(key)
    };
    let mut config = ServerConfig::new(Arc::new(crypto), Arc::new(TokenKey(random()?)));
    // Those save a round trip to clients that come again; these come once.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config.validation_token_config(tokens);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .send_observed_address_reports(true);
    config.transport_config(Arc::new(transport));
    let endpoint = EndpointConfig::new(Arc::new(ResetKey(random()?)));
    Endpoint::new(endpoint, Some(config), socket, Arc::new(TokioRuntime))
        .map_err(|error: io::Error| StartError::Tls(error.to_string()))
}

/// Answers until the relay stops.
pub(super) async fn run(house: Arc<House>, endpoint: Endpoint, tasks: TaskTracker) {
    let handshakes = Slots::new(HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE_MAX);
    let room = house.guests_max.saturating_mul(PER_GUEST_MAX).min(Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(room));
    while let Some(incoming) = endpoint.accept().await {
        if handshakes.is_crowded() && !incoming.remote_address_validated() {
            // It fails for those only who have shown already that they can be answered.
            let _ = incoming.retry();
            continue;
        }
        let from = incoming.remote_address().ip();
        let slot = handshakes.take(slots::Source::network(from));
        let admission = house.discoverers.admit(Source::of(from.to_canonical()));
        let (Some(slot), Some(admission), Ok(permit)) = (slot, admission, room.clone().try_acquire_owned())
        else {
            // An honest guest sends its first packet again, and finds a place then.
            incoming.ignore();
            continue;
        };
        let house = house.clone();
        tasks.spawn(async move {
            house.stop.clone().run_until_cancelled(tell(&house, incoming, slot)).await;
            drop((admission, permit));
        });
    }
}

async fn tell(house: &House, incoming: Incoming, slot: Slot) {
    if let Ok(Ok(connection)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, incoming).await {
        drop(slot);
        count(&house.guests.counts.discoveries);
        connection.closed().await;
    }
}

/// Ends every connection.
pub(super) fn close(endpoint: &Endpoint) {
    endpoint.close(DONE, b"the relay ends");
}

/// Makes the tokens by which an address shows that it can be answered. They are no secret, but nobody else can make one
/// (RFC 9000 section 8.1.4).
struct TokenKey([u8; 32]);

impl TokenKey {
    fn tag(&self, nonce: u128, content: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.0).update(&nonce.to_le_bytes()).update(content).finalize()
    }
}

impl HandshakeTokenKey for TokenKey {
    fn seal(&self, nonce: u128, data: &mut Vec<u8>) -> Result<(), CryptoError> {
        let tag = self.tag(nonce, data);
        data.extend_from_slice(tag.as_bytes());
        Ok(())
    }

    fn open<'a>(&self, nonce: u128, data: &'a mut [u8]) -> Result<&'a [u8], CryptoError> {
        let (content, tag) = data.split_at(data.len().checked_sub(blake3::OUT_LEN).ok_or(CryptoError)?);
        let right = self.tag(nonce, content);
        if bool::from(tag.ct_eq(right.as_bytes())) { Ok(content) } else { Err(CryptoError) }
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use honeylink_core::identity::SecretKey;
    use noq::crypto::rustls::QuicClientConfig;
    use tokio::task::JoinSet;

    use super::*;
    use crate::relay::{Access, Certificate, RelayOptions, RelayServer};

    const PATIENCE: Duration = Duration::from_secs(60);
    const HOST: &str = "127.0.0.1";

    fn certificate() -> Certificate {
        Certificate::own(&SecretKey::from_u64(1), HOST)
    }

    fn client() -> Endpoint {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate().chain()[0].clone()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(crate::crypto::provider().unwrap())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        let config = EndpointConfig::new(Arc::new(ResetKey([1; 32])));
        let endpoint = Endpoint::new(config, None, socket, Arc::new(TokioRuntime)).unwrap();
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        endpoint.set_default_client_config(noq::ClientConfig::new(Arc::new(crypto)));
        endpoint
    }

    /// An address from which packets go on to `victim`, and to which answers come in vain.
    async fn mute(source: &str, victim: SocketAddr, work: &mut JoinSet<()>) -> SocketAddr {
        let near = tokio::net::UdpSocket::bind((HOST, 0)).await.unwrap();
        let far = tokio::net::UdpSocket::bind((source, 0)).await.unwrap();
        let addr = near.local_addr().unwrap();
        work.spawn(async move {
            let mut packet = [0; 2048];
            while let Ok((len, _)) = near.recv_from(&mut packet).await {
                // A full buffer loses it, as any network may.
                let _ = far.send_to(&packet[..len], victim).await;
            }
        });
        addr
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn those_who_show_addresses_of_others_take_few_places_and_keep_nobody_out() {
        let server = RelayServer::start(RelayOptions {
            listen: vec![(std::net::Ipv4Addr::LOCALHOST, 0).into()],
            discovery: vec![(std::net::Ipv4Addr::LOCALHOST, 0).into()],
            observer: None,
            certificate: certificate(),
            access: Access::Everybody,
            guests_max: 1000,
            guests_per_source_max: 64,
            rate_bytes_per_s: None,
        })
        .unwrap();
        let (at, held) = (server.discovering()[0], || server.endpoints[0].open_connections());
        let (strangers, mut work) = (client(), JoinSet::new());
        for source in ["127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"] {
            let through = mute(source, at, &mut work).await;
            for _ in 0..4 * HANDSHAKES_PER_SOURCE_MAX {
                let dialling = strangers.connect(through, HOST).unwrap();
                work.spawn(async move { drop(dialling.await) });
            }
        }
        let crowded = async {
            while held() < HANDSHAKES_MAX / 4 {
                // tidy: sleep because a QUIC endpoint tells no event of this
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, crowded).await.unwrap();
        // Behind all of them comes one that can be answered.
        let honest = client();
        let told = tokio::time::timeout(PATIENCE, honest.connect(at, HOST).unwrap()).await.unwrap().unwrap();
        assert!(held() <= HANDSHAKES_MAX / 4 + 1, "{}", held());
        drop((told, work));
        server.shutdown().await;
    }

    #[test]
    fn a_token_is_good_as_it_was_made_and_not_otherwise() {
        let key = TokenKey([7; 32]);
        let mut sealed = b"an address".to_vec();
        key.seal(5, &mut sealed).unwrap();
        assert_eq!(key.open(5, &mut sealed.clone()).unwrap(), b"an address");
        assert!(key.open(6, &mut sealed.clone()).is_err());
        assert!(TokenKey([8; 32]).open(5, &mut sealed.clone()).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(5, &mut changed).is_err(), "{at}");
            assert!(key.open(5, &mut sealed[..at].to_vec()).is_err(), "{at}");
        }
    }
}
