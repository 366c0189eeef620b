//! Relays, seen from a node: which ones it is reached at, by what key each is recognised, and what went wrong with one.
//!
//! iroh speaks to relays over HTTPS and asks them over QUIC what address they see. Both check certificates with the
//! verifier made here: a relay with a pin must show the key of the pin and nothing else, one without a pin must have a
//! certificate of a public authority. A relay is never trusted with more than ciphertext and with knowing who speaks to
//! whom; the pin keeps others from knowing that too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use honeylink_core::wire::relay::{KeyPin, RelayAddr};
use iroh::tls::CaTlsConfig;
use iroh::{RelayConfig, RelayMap, RelayUrl};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::quic::BindError;

/// Hosts of other devices' relays whose keys are remembered; when there are more, one of them makes room.
const LEARNED_HOSTS_MAX: usize = 256;
/// Keys believed for one host: relays on several of its ports, or one whose key was changed.
const PINS_PER_HOST_MAX: usize = 4;

/// A relay this node is reached at, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayState {
    /// Which.
    pub relay: RelayAddr,
    /// Whether it is the one through which this node is reached first: the one that answers soonest.
    pub home: bool,
    /// Whether it is connected. Others than the home are connected while they are needed.
    pub connected: bool,
    /// What went wrong last, for people.
    pub problem: Option<String>,
}

/// The relays of a node.
#[derive(Clone, Debug)]
pub(crate) struct Relays {
    own: Arc<[RelayAddr]>,
    book: Arc<Book>,
}

/// What is known of relays' keys.
#[derive(Debug, Default)]
struct Book {
    /// Of the relays in the settings. Nobody else can add a key to one of their hosts.
    own: BTreeMap<String, Vec<Option<KeyPin>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the relays that other devices named.
    learned: BTreeMap<String, Vec<KeyPin>>,
    /// Why a host's certificate was refused, until one is accepted.
    refused: BTreeMap<String, String>,
}

impl Book {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relays {
    pub(crate) fn new(own: &[RelayAddr]) -> Self {
        let mut book = Book::default();
        for relay in own {
            book.own.entry(relay.host().to_owned()).or_default().push(relay.pin());
        }
        Self { own: own.into(), book: Arc::new(book) }
    }

    /// Those of the settings.
    pub(crate) fn own(&self) -> &[RelayAddr] {
        &self.own
    }

    /// The URL under which iroh knows a relay, whose key is believed from now on.
    pub(crate) fn url(&self, relay: &RelayAddr) -> Option<RelayUrl> {
        if let Some(pin) = relay.pin()
            && !self.book.own.contains_key(relay.host())
        {
            self.learn(relay.host(), pin);
        }
        url(relay)
    }

    fn learn(&self, host: &str, pin: KeyPin) {
        let mut state = self.book.state();
        if !state.learned.contains_key(host) && state.learned.len() >= LEARNED_HOSTS_MAX {
            state.learned.pop_first();
        }
        let pins = state.learned.entry(host.to_owned()).or_default();
        if !pins.contains(&pin) {
            pins.insert(0, pin);
            pins.truncate(PINS_PER_HOST_MAX);
        }
    }

    /// The relays of the settings, as iroh wants them.
    pub(crate) fn map(&self) -> RelayMap {
        let quic = |relay: &RelayAddr| relay.udp().map(iroh_relay::RelayQuicConfig::new);
        let configs = self.own.iter().filter_map(|relay| Some(RelayConfig::new(url(relay)?, quic(relay))));
        configs.collect()
    }

    /// How the certificates of relays are checked.
    pub(crate) fn tls(&self) -> CaTlsConfig {
        let book = self.book.clone();
        CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            Ok(Arc::new(PinnedOrPublic::new(book.clone(), provider)?))
        }))
    }

    /// How the node itself speaks to a relay's pages.
    pub(crate) fn https(&self) -> Result<Arc<rustls::ClientConfig>, BindError> {
        let provider = crate::crypto::provider()?;
        let wrong = |error: &dyn std::fmt::Display| BindError::Tls(error.to_string());
        let verifier = PinnedOrPublic::new(self.book.clone(), provider.clone()).map_err(|e| wrong(&e))?;
        let config = rustls::ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().map_err(|e| wrong(&e))?;
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// How each relay of the settings does, given what iroh says of the home relays.
    pub(crate) fn states(&self, homes: &[iroh::endpoint::RelayStatus]) -> Vec<RelayState> {
        let refused = &self.book.state().refused;
        let state = |relay: &RelayAddr| {
            let url = url(relay);
            let home = homes.iter().find(|home| Some(home.url()) == url.as_ref());
            let connected = home.is_some_and(iroh::endpoint::RelayStatus::is_connected);
            let said = home.and_then(|home| match home.auth_denied_reason() {
                Some(reason) => Some(format!("it does not take this device: {reason}")),
                None => home.last_error().map(|error| format!("{error:#}")),
            });
            let problem = refused.get(relay.host()).cloned().or(said).filter(|_| !connected);
            RelayState { relay: relay.clone(), home: home.is_some(), connected, problem }
        };
        self.own.iter().map(state).collect()
    }

    /// Why the certificate of one of these relays was refused last, if it was.
    pub(crate) fn refusal(&self, relays: &[RelayAddr]) -> Option<String> {
        let state = self.book.state();
        relays.iter().find_map(|relay| state.refused.get(relay.host()).cloned())
    }
}

fn url(relay: &RelayAddr) -> Option<RelayUrl> {
    format!("https://{}", relay.authority()).parse().ok()
}

/// How people are shown a relay that iroh names by its URL.
pub(super) fn shown(url: &RelayUrl) -> String {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    format!("{host}:{}", url.port_or_known_default().unwrap_or(honeylink_core::wire::relay::PORT))
}

/// Takes the keys of the book for the hosts that are in it, and public certificates for all others.
#[derive(Debug)]
struct PinnedOrPublic {
    book: Arc<Book>,
    public: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
}

/// What a host has to show.
enum Wanted {
    OneOf(Vec<KeyPin>),
    Public,
}

impl PinnedOrPublic {
    fn new(book: Arc<Book>, provider: Arc<CryptoProvider>) -> std::io::Result<Self> {
        let public: Arc<WebPkiServerVerifier> = {
            let roots = Arc::new(rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
            WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(std::io::Error::other)?
        };
        Ok(Self { book, public, provider })
    }

    fn wanted(&self, host: &str) -> Wanted {
        let pins: Vec<KeyPin> = match self.book.own.get(host) {
            // One without a pin beside one with: the host has a public certificate, and that is the weaker demand.
            Some(pins) if pins.contains(&None) => return Wanted::Public,
            Some(pins) => pins.iter().flatten().copied().collect(),
            None => self.book.state().learned.get(host).cloned().unwrap_or_default(),
        };
        if pins.is_empty() { Wanted::Public } else { Wanted::OneOf(pins) }
    }

    /// Whether the certificate shown has one of the keys; else why not, for people.
    fn judge(pins: &[KeyPin], shown: &CertificateDer<'_>) -> Result<(), String> {
        let shown =
            ParsedCertificate::try_from(shown).map_err(|e| format!("its certificate is unusable: {e}"))?;
        let pin = KeyPin::of(&shown.subject_public_key_info());
        if pins.contains(&pin) {
            return Ok(());
        }
        let wanted: Vec<_> = pins.iter().map(ToString::to_string).collect();
        Err(format!(
            "it shows another key ({pin}) than the one it is known by ({}): either it was set up anew, and its line has to \
             be copied again, or this is not the relay",
            wanted.join(" or ")
        ))
    }
}

impl ServerCertVerifier for PinnedOrPublic {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let host = name.to_str().trim_end_matches('.').to_ascii_lowercase();
        let host = host.parse::<IpAddr>().map_or(host, |ip| ip.to_string());
        let verdict = match self.wanted(&host) {
            Wanted::OneOf(pins) => Self::judge(&pins, shown).map_err(|why| {
                (why, Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }),
            Wanted::Public => {
                self.public.verify_server_cert(shown, others, name, ocsp, now).map(drop).map_err(|error| {
                    let why = format!(
                        "no public authority vouches for it ({error}): if it is your own, its line ends with # and its key"
                    );
                    (why, error)
                })
            }
        };
        let mut state = self.book.state();
        match verdict {
            Ok(()) => {
                state.refused.remove(&host);
                Ok(ServerCertVerified::assertion())
            }
            Err((why, error)) => {
                if state.refused.len() >= LEARNED_HOSTS_MAX {
                    state.refused.pop_first();
                }
                if state.refused.insert(host.clone(), why.clone()).as_ref() != Some(&why) {
                    tracing::warn!(relay = host, why, "a relay was refused");
                }
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, shown, proof, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, shown, proof, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(text: &str) -> RelayAddr {
        text.parse().unwrap()
    }

    fn verifier(relays: &Relays) -> PinnedOrPublic {
        PinnedOrPublic::new(relays.book.clone(), crate::crypto::provider().unwrap()).unwrap()
    }

    #[test]
    fn a_host_without_a_pin_needs_a_public_certificate() {
        let relays =
            Relays::new(&[relay("https://a.org"), relay("https://b.org#00112233445566778899aabbccddeeff")]);
        let verifier = verifier(&relays);
        assert!(matches!(verifier.wanted("a.org"), Wanted::Public));
        assert!(matches!(verifier.wanted("c.org"), Wanted::Public));
        assert!(matches!(verifier.wanted("b.org"), Wanted::OneOf(_)));
    }

    #[test]
    fn nobody_can_add_a_key_to_a_host_of_the_settings() {
        let relays =
            Relays::new(&[relay("https://a.org"), relay("https://b.org#00112233445566778899aabbccddeeff")]);
        for theirs in [
            "https://a.org#ffffffffffffffffffffffffffffffff",
            "https://b.org:8443#ffffffffffffffffffffffffffffffff",
        ] {
            assert!(relays.url(&relay(theirs)).is_some());
        }
        let verifier = verifier(&relays);
        assert!(matches!(verifier.wanted("a.org"), Wanted::Public));
        let Wanted::OneOf(pins) = verifier.wanted("b.org") else { panic!("pinned") };
        assert_eq!(pins.len(), 1);
    }

    #[test]
    fn the_keys_of_others_relays_have_their_maximum() {
        let relays = Relays::new(&[]);
        for number in 0..2 * LEARNED_HOSTS_MAX {
            for key in 0..2 * PINS_PER_HOST_MAX {
                let relay = RelayAddr::new(&format!("h{number}.org"), 1, 0, Some(KeyPin([key as u8; 16])));
                relays.url(&relay.unwrap());
            }
        }
        let state = relays.book.state();
        assert_eq!(state.learned.len(), LEARNED_HOSTS_MAX);
        assert!(state.learned.values().all(|pins| pins.len() == PINS_PER_HOST_MAX));
    }
}
