//! Who is asked where this device is seen, and whose word about others is believed: the observers of the settings, and
//! those that this node's relays run.
//!
//! A relay says on a page of its own (`/observer`, NAT-R1) which key its observer signs with and on which port it answers.
//! The page comes over the TLS by which the relay is recognised, so the observer is trusted as far as the relay is, and
//! the relay's line need not be longer for it. Relays of peers are not asked: a peer that names an observer could have it
//! sign any address, and so aim this device's probes at somebody else.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::NAT_OBSERVERS_MAX;
use honeylink_core::wire::relay::RelayAddr;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::ObserverAt;

/// A relay must have answered by then; an attempt that waits for it has little more (`TALK_TIMEOUT` of both sides).
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// A relay that named no observer, or whose observer was silent, is asked again after this time at the earliest.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// What a relay said is asked anew after this time: it may have another key or port since.
const BELIEVED: Duration = Duration::from_secs(3600);
/// Bytes of a relay's answer, its head included.
const PAGE_BYTES_MAX: u64 = 4096;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Observers {
    given: Vec<ObserverAt>,
    relays: Vec<RelayAddr>,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// What relays said, in the order of `relays`.
    said: Mutex<BTreeMap<usize, Said>>,
}

/// What one relay said.
#[derive(Clone, Debug)]
struct Said {
    at: Instant,
    observer: Option<ObserverAt>,
    /// Its observer did not answer the last time it was asked.
    silent: bool,
}

impl Said {
    fn is_due(&self, now: Instant) -> bool {
        let age = now - self.at;
        age >= BELIEVED || (age >= AGAIN_AFTER && (self.silent || self.observer.is_none()))
    }
}

impl Observers {
    /// Those of the settings, and whichever the relays name.
    pub(crate) fn new(
        given: Vec<ObserverAt>,
        relays: &[RelayAddr],
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Self {
        let relays = if tls.is_some() { relays.to_vec() } else { Vec::new() };
        Self { given, relays, tls, said: Mutex::default() }
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<usize, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is nobody to ask, and never will be.
    pub(crate) const fn is_empty(&self) -> bool {
        self.given.is_empty() && self.relays.is_empty()
    }

    /// Asks the relays that have not said yet, or so long ago that it may be otherwise now, and waits for them. In `haste`
    /// nobody is waited for as long as anybody is known: one relay that is dead must not hold up an attempt.
    pub(crate) async fn learn(&self, haste: bool) {
        let Some(tls) = self.tls.clone().map(TlsConnector::from) else { return };
        if haste && !self.known().is_empty() {
            return;
        }
        let now = Instant::now();
        let due: Vec<_> = {
            let said = self.said();
            let is_due = |number: &usize| said.get(number).is_none_or(|said| said.is_due(now));
            self.relays.iter().enumerate().filter(|(number, _)| is_due(number)).collect()
        };
        let asked = join_all(due.iter().map(async |(number, relay)| {
            let page = tokio::time::timeout(FETCH_TIMEOUT, fetch(&tls, relay)).await;
            let page = page.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            (*number, page.inspect_err(|error| tracing::debug!(%relay, %error, "it names no observer")))
        }));
        for (number, page) in asked.await {
            let mut said = self.said();
            let before = said.get(&number).and_then(|said| said.observer.clone());
            // A relay that cannot be asked now is still believed what it said before.
            let observer = page.unwrap_or(before);
            said.insert(number, Said { at: now, observer, silent: false });
        }
    }

    /// Those known now, [`NAT_OBSERVERS_MAX`] at most.
    pub(crate) fn known(&self) -> Vec<ObserverAt> {
        let said = self.said();
        let mut known: Vec<ObserverAt> = Vec::new();
        for observer in self.given.iter().chain(said.values().filter_map(|said| said.observer.as_ref())) {
            if known.len() < NAT_OBSERVERS_MAX && !known.iter().any(|other| other.id == observer.id) {
                known.push(observer.clone());
            }
        }
        known
    }

    /// The keys of those known now.
    pub(crate) fn ids(&self) -> Vec<DeviceId> {
        self.known().into_iter().map(|observer| observer.id).collect()
    }

    /// Which of them answered, the last time all were asked.
    pub(crate) fn answered(&self, who: &[DeviceId]) {
        for said in self.said().values_mut() {
            said.silent = said.observer.as_ref().is_some_and(|observer| !who.contains(&observer.id));
        }
    }
}

/// The observer that a relay names; `None` if it says that it has none.
async fn fetch(tls: &TlsConnector, relay: &RelayAddr) -> io::Result<Option<ObserverAt>> {
    let stream = TcpStream::connect((relay.host(), relay.port())).await?;
    let name = ServerName::try_from(relay.host().to_owned()).map_err(io::Error::other)?;
    let mut stream = tls.connect(name, stream).await?;
    // Version 1.0, so that the answer comes in one piece and ends with the connection.
    let request = format!("GET /observer HTTP/1.0\r\nHost: {}\r\n\r\n", relay.authority());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    (&mut stream).take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    read_answer(relay, &answer)
}

fn read_answer(relay: &RelayAddr, answer: &[u8]) -> io::Result<Option<ObserverAt>> {
    let wrong = || io::Error::other("its page /observer is none");
    let text = str::from_utf8(answer).map_err(|_| wrong())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let status = head.split(' ').nth(1).ok_or_else(wrong)?;
    match status {
        "200" => {}
        "404" => return Ok(None),
        _ => return Err(wrong()),
    }
    let (id, port) = body.trim_end().split_once(' ').ok_or_else(wrong)?;
    let brackets = if relay.host().contains(':') { ("[", "]") } else { ("", "") };
    let observer = format!("{id}@{}{}{}:{port}", brackets.0, relay.host(), brackets.1);
    observer.parse().map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(text: &str) -> RelayAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_relay_names_its_observer_by_key_and_port_at_its_own_host() {
        let id = crate::testing::device_id(1);
        let page = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{id} 7844\n");
        for (at, there) in [("https://a.org", "a.org:7844"), ("https://[::1]:8443", "[::1]:7844")] {
            let observer = read_answer(&relay(at), page.as_bytes()).unwrap().unwrap();
            assert_eq!(observer, ObserverAt { id, at: there.to_owned() });
        }
    }

    #[test]
    fn what_is_no_such_page_names_nobody() {
        let (at, id) = (relay("https://a.org"), crate::testing::device_id(1));
        assert_eq!(read_answer(&at, b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap(), None);
        for body in
            [format!("{id}"), format!("{id} 0"), format!("{id} 65535"), "x 7844".into(), String::new()]
        {
            assert!(read_answer(&at, format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes()).is_err(), "{body}");
        }
        for answer in [&b""[..], b"\xff\xff\r\n\r\n", b"HTTP/1.1 301 Moved\r\n\r\n", b"\r\n\r\n"] {
            assert!(read_answer(&at, answer).is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_is_asked_again_when_it_named_nobody_or_its_observer_is_silent() {
        let observer = ObserverAt { id: crate::testing::device_id(1), at: "a.org:1".into() };
        let at = Instant::now();
        let named = Said { at, observer: Some(observer), silent: false };
        let (silent, nobody) =
            (Said { silent: true, ..named.clone() }, Said { observer: None, ..named.clone() });
        assert!([&named, &silent, &nobody].iter().all(|said| !said.is_due(at + AGAIN_AFTER / 2)));
        assert!(silent.is_due(at + AGAIN_AFTER) && nobody.is_due(at + AGAIN_AFTER));
        assert!(!named.is_due(at + AGAIN_AFTER) && named.is_due(at + BELIEVED));
    }

    #[test]
    fn no_more_are_asked_than_fit_an_offer_and_nobody_twice() {
        let one = |n| ObserverAt { id: crate::testing::device_id(n), at: "a.org:1".into() };
        let observers = Observers::new(vec![one(1), one(2), one(1)], &[], None);
        let said = |observer| Said { at: Instant::now(), observer: Some(observer), silent: false };
        *observers.said() = (0..4).map(|n| (n, said(one(2 + n as u64)))).collect();
        assert_eq!(observers.known(), [one(1), one(2), one(3), one(4)]);
    }
}
