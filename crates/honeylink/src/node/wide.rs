//! When a node leaves notes in the DHT, and when it looks for those of others.
//!
//! A note for each paired device says where this one is reached. It is stored anew every hour, because the DHT forgets
//! after two, and whenever it says something else. A device that this node wants a link to, and that nobody saw nearby, is
//! looked for there while what is known of it is tried. What notes are: [`honeylink_core::wide`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::wide::{NoteRefused, Pair, Place, Whereabouts, day_of};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::builder::BuildError;
use super::{Carriers, Inner, Node, Reach};
use crate::carrier::{ALPN_LINK, Conn, ConnLost};
use crate::clock::unix_ms;
use crate::wide::{Dht, DhtError, DhtOptions, DhtState, Item};

/// How often it is looked whether there is something new to tell.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Notes are stored anew after this long. The DHT keeps them for about two hours (BEP 44).
const REFRESH: Duration = Duration::from_secs(3600);
/// After a note could not be stored, it is tried again after this long; then after twice that, and so on.
const RETRY_MIN: Duration = Duration::from_secs(10);
/// The longest pause between two tries.
const RETRY_MAX: Duration = Duration::from_secs(600);
/// Devices for which notes are stored, those that were connected last first: each costs some fifty packets an hour.
const TOLD_MAX: usize = 64;
/// Notes that are stored at a time.
const STORED_AT_ONCE: usize = 4;
/// A device is not looked for again before this long; after every further failure, twice that.
const SEEK_PAUSE_MIN: Duration = Duration::from_secs(10);
/// The longest of those pauses.
const SEEK_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Devices whose notes are remembered. When there are more, the one looked for longest ago makes room.
const SOUGHT_MAX: usize = 256;

/// Why a device was not found in the DHT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum SeekError {
    #[error(transparent)]
    Dht(#[from] DhtError),
    #[error("the DHT has no note of it; is it online, with node.dht on?")]
    NoNote,
    #[error("the DHT has a note that is not believed: {0}")]
    Refused(#[from] NoteRefused),
}

/// A node's part in the DHT.
#[derive(Debug)]
pub(super) struct WideDesk {
    desk: Option<Desk>,
}

#[derive(Debug)]
pub(super) struct Desk {
    dht: Dht,
    key: SecretKey,
    /// Somebody was paired or forgotten.
    changed: Notify,
    state: watch::Sender<DhtState>,
    sought: Mutex<BTreeMap<DeviceId, Sought>>,
}

/// What is known of a device that was looked for.
#[derive(Clone, Debug)]
struct Sought {
    at: Whereabouts,
    /// The number of the newest note that was believed: none below it is, any more.
    seq: u64,
    asked: Instant,
    /// Failures since it was found.
    misses: u32,
    outcome: Result<(), SeekError>,
}

/// What was told to a device.
struct Told {
    at: Whereabouts,
    day: u64,
    /// When it was stored, or tried.
    when: Instant,
    failures: u32,
}

impl WideDesk {
    pub(super) fn new(
        options: Option<&DhtOptions>,
        reach: Reach,
        relay_only: bool,
        key: &SecretKey,
    ) -> Result<Self, BuildError> {
        let invalid = |reason: &str| BuildError::InvalidSetting { setting: "dht", reason: reason.to_owned() };
        let Some(options) = options.filter(|_| reach != Reach::Lan) else { return Ok(Self { desk: None }) };
        if relay_only {
            return Err(invalid(
                "strangers in the DHT see this device's address, which relay_only is to hide",
            ));
        }
        let dht = Dht::new(options, reach).map_err(invalid)?;
        let state = DhtState { entries: dht.entries(), ..DhtState::default() };
        let desk = Desk {
            dht,
            key: key.clone(),
            changed: Notify::new(),
            state: watch::Sender::new(state),
            sought: Mutex::default(),
        };
        Ok(Self { desk: Some(desk) })
    }

    /// The desk, if this node takes part in the DHT.
    pub(super) const fn desk(&self) -> Option<&Desk> {
        self.desk.as_ref()
    }

    /// Whether this node takes part in the DHT.
    pub(super) const fn is_on(&self) -> bool {
        self.desk.is_some()
    }

    /// Who is paired changed.
    pub(super) fn look(&self) {
        if let Some(desk) = &self.desk {
            desk.changed.notify_one();
        }
    }

    /// Where a device is by the newest note it left, as far as one was looked for.
    pub(super) fn found(&self, peer: &DeviceId) -> Whereabouts {
        self.desk.as_ref().and_then(|desk| Some(desk.sought().get(peer)?.at.clone())).unwrap_or_default()
    }

    /// Ends what runs for the DHT.
    pub(super) async fn close(&self) {
        if let Some(desk) = &self.desk {
            desk.dht.close().await;
        }
    }
}

impl Node {
    /// How this node does in the DHT; `None` if it takes no part.
    #[must_use]
    pub fn dht(&self) -> Option<DhtState> {
        self.inner.wide.desk.as_ref().map(|desk| desk.state.borrow().clone())
    }

    /// Follows [`Node::dht`].
    #[must_use]
    pub fn watch_dht(&self) -> Option<watch::Receiver<DhtState>> {
        self.inner.wide.desk.as_ref().map(|desk| desk.state.subscribe())
    }
}

impl Desk {
    /// The DHT itself.
    pub(super) const fn dht(&self) -> &Dht {
        &self.dht
    }

    fn sought(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Sought>> {
        self.sought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a device, unless that was done a moment ago. Whether its note names anything at all.
    async fn seek(&self, peer: &DeviceId) -> Result<(), SeekError> {
        let before = self.sought().get(peer).cloned();
        if let Some(before) = &before {
            let pause = SEEK_PAUSE_MIN.saturating_mul(1 << before.misses.min(8)).min(SEEK_PAUSE_MAX);
            if before.asked.elapsed() < pause {
                return before.outcome.clone();
            }
        }
        let newest = before.as_ref().map_or(0, |before| before.seq);
        let outcome = self.read_note(peer, newest).await;
        let mut after = before.unwrap_or_else(|| Sought {
            at: Whereabouts::default(),
            seq: 0,
            asked: Instant::now(),
            misses: 0,
            outcome: Ok(()),
        });
        after.asked = Instant::now();
        match outcome {
            Ok((seq, at)) => {
                (after.at, after.seq, after.misses, after.outcome) = (at, seq, 0, Ok(()));
            }
            Err(why) => {
                tracing::debug!(peer = %peer.short(), %why, "not found in the DHT");
                (after.misses, after.outcome) = (after.misses.saturating_add(1), Err(why));
            }
        }
        let outcome = after.outcome.clone();
        self.note_problem(outcome.as_ref().err());
        let mut sought = self.sought();
        sought.insert(*peer, after);
        if sought.len() > SOUGHT_MAX
            && let Some(oldest) = sought.iter().min_by_key(|(_, one)| one.asked).map(|(id, _)| *id)
        {
            sought.remove(&oldest);
        }
        outcome
    }

    /// The newest note of a device: of today, or of the day before or after, as clocks differ and days end.
    async fn read_note(&self, peer: &DeviceId, newest: u64) -> Result<(u64, Whereabouts), SeekError> {
        let Some(pair) = Pair::new(&self.key, peer) else { return Err(SeekError::NoNote) };
        let today = day_of(unix_ms());
        let mut why = SeekError::NoNote;
        for days in [&[today][..], &[today.saturating_sub(1), today + 1][..]] {
            let lookups = days.iter().map(|day| {
                let place = pair.from_peer(*day);
                async move {
                    let items = self.dht.get(&place.key()).await?;
                    believe(&place, items.first().ok_or(SeekError::NoNote)?, newest)
                }
            });
            let mut found = None;
            for outcome in futures_util::future::join_all(lookups).await {
                match outcome {
                    Ok((seq, at)) => found = found.max_by_seq(seq, at),
                    // What says more than that there is nothing is told.
                    Err(SeekError::NoNote) => {}
                    Err(error) => why = error,
                }
            }
            if let Some(found) = found {
                return Ok(found);
            }
            if matches!(why, SeekError::Dht(_)) {
                break;
            }
        }
        Err(why)
    }

    /// Stores a note for a device.
    async fn tell(&self, peer: &DeviceId, at: &Whereabouts) -> Result<(), DhtError> {
        let Some(pair) = Pair::new(&self.key, peer) else { return Ok(()) };
        let place = pair.to_peer(day_of(unix_ms()));
        self.store(&place, |seq| at.seal(&place, seq)).await
    }

    /// Stores a note under the next number of its place, which is the time unless something newer is there.
    pub(super) async fn store(&self, place: &Place, sealed: impl Fn(u64) -> Vec<u8>) -> Result<(), DhtError> {
        let now = unix_ms();
        let stored = self.dht.put(place.seed(), now, &sealed(now)).await;
        if stored != Err(DhtError::Behind) {
            return stored;
        }
        // The clock was set back since: counting goes on above what is there.
        let seq = self.dht.get(&place.key()).await?.first().map_or(now, |item| item.seq.saturating_add(1));
        self.dht.put(place.seed(), seq, &sealed(seq)).await
    }

    /// What went wrong with the DHT itself is shown until it works again.
    fn note_problem(&self, error: Option<&SeekError>) {
        let problem = match error {
            Some(SeekError::Dht(error)) => Some(error.to_string()),
            Some(SeekError::NoNote | SeekError::Refused(_)) | None => None,
        };
        self.state.send_if_modified(|state| {
            let new = state.problem != problem;
            state.problem = problem;
            new
        });
    }
}

/// What an item of the DHT says, if it is a note and not older than one that was read before.
fn believe(place: &Place, item: &Item, newest: u64) -> Result<(u64, Whereabouts), SeekError> {
    if item.seq < newest {
        return Err(NoteRefused::Old.into());
    }
    Ok((item.seq, Whereabouts::open(place, item.seq, &item.value)?))
}

/// The newer of two notes.
trait MaxBySeq {
    fn max_by_seq(self, seq: u64, at: Whereabouts) -> Self;
}

impl MaxBySeq for Option<(u64, Whereabouts)> {
    fn max_by_seq(self, seq: u64, at: Whereabouts) -> Self {
        match self {
            Some(found) if found.0 >= seq => Some(found),
            Some(_) | None => Some((seq, at)),
        }
    }
}

impl Told {
    /// Whether the device is to be told again.
    fn is_due(&self, at: &Whereabouts, day: u64) -> bool {
        if self.failures > 0 {
            let pause = RETRY_MIN.saturating_mul(1 << (self.failures - 1).min(8)).min(RETRY_MAX);
            return self.when.elapsed() >= pause;
        }
        self.at != *at || self.day != day || self.when.elapsed() >= REFRESH
    }
}

impl Inner {
    /// Keeps a note for each paired device until the node stops.
    pub(super) async fn keep_notes(self: Arc<Self>) {
        let Some(desk) = &self.wide.desk else { return };
        let mut told: BTreeMap<DeviceId, Told> = BTreeMap::new();
        let keeping = async {
            loop {
                self.tell_all(desk, &mut told).await;
                // Either way it is looked again.
                let _ = tokio::time::timeout(LOOK_EVERY, desk.changed.notified()).await;
            }
        };
        self.stop.run_until_cancelled(keeping).await;
    }

    async fn tell_all(&self, desk: &Desk, told: &mut BTreeMap<DeviceId, Told>) {
        let mut peers = self.store.trust().list();
        peers.retain(|peer| peer.trust.is_trusted());
        peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_seen));
        peers.truncate(TOLD_MAX);
        told.retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        let (at, day) = (self.whereabouts(desk).await, day_of(unix_ms()));
        let due = |id: &DeviceId| told.get(id).is_none_or(|before| before.is_due(&at, day));
        let due: Vec<DeviceId> = peers.iter().map(|peer| peer.id).filter(due).collect();
        if due.is_empty() || (at.addrs.is_empty() && at.relays.is_empty()) {
            desk.count(told);
            return;
        }
        let telling = due.into_iter().map(|id| {
            let at = &at;
            async move { (id, desk.tell(&id, at).await) }
        });
        let mut telling = futures_util::stream::iter(telling).buffer_unordered(STORED_AT_ONCE);
        while let Some((id, stored)) = telling.next().await {
            let before = told.remove(&id);
            let failures = match &stored {
                Ok(()) => 0,
                Err(_) => before.map_or(0, |before| before.failures).saturating_add(1),
            };
            told.insert(id, Told { at: at.clone(), day, when: Instant::now(), failures });
            if stored.is_ok() {
                desk.state.send_modify(|state| state.stored_unix_ms = Some(unix_ms()));
            }
            desk.note_problem(stored.err().map(SeekError::Dht).as_ref());
        }
        drop(telling);
        desk.count(told);
    }

    /// Where this node is reached, the best first.
    pub(super) async fn whereabouts(&self, desk: &Desk) -> Whereabouts {
        let Carriers::Quic(quic) = &self.carriers else { return Whereabouts::default() };
        let mut addrs = quic.known_addrs();
        addrs.extend(self.own_addrs());
        let port = quic.bound().first().map_or(0, SocketAddr::port);
        // Right where a router passes the port on, or the machine has that address in all but name.
        addrs.extend(desk.dht.seen_at().await.map(|ip| SocketAddr::new(ip.into(), port)));
        addrs.retain(|addr| addr.port() != 0 && is_told(addr.ip(), self.reach));
        addrs.sort_by_key(|addr| (!is_public(addr.ip()), addr.is_ipv6(), *addr));
        addrs.dedup();
        let first = self.invite_relay();
        let others = self.own_relays().iter().filter(|relay| Some(*relay) != first.as_ref());
        let relays: Vec<_> = first.iter().chain(others).cloned().collect();
        Whereabouts { addrs, relays }.fitted()
    }

    /// Dials a device for a link: where it is known to be, and where its note in the DHT says.
    pub(super) async fn dial_wide(&self, peer: DeviceId) -> Result<Conn, ConnLost> {
        let nearby = self.discovery.as_ref().is_some_and(|d| !d.addresses_of(&peer).is_empty());
        let Some(desk) = self.wide.desk.as_ref().filter(|_| !nearby) else {
            return self.dial_alpn(peer, ALPN_LINK).await;
        };
        let known = (self.addresses(&peer), self.relays_of(&peer));
        let by_note = async {
            desk.seek(&peer).await.map_err(|why| ConnLost::Transport(why.to_string()))?;
            if (self.addresses(&peer), self.relays_of(&peer)) == known {
                return Err(ConnLost::Transport("its note in the DHT says nothing else".into()));
            }
            self.dial_alpn(peer, ALPN_LINK).await
        };
        // On the heap: three ways to dial are too much for a stack.
        let (mut by_note, mut at_once) = (Box::pin(by_note), Box::pin(self.dial_alpn(peer, ALPN_LINK)));
        tokio::select! {
            biased;
            conn = &mut at_once => match conn {
                // It was reached, and what it said is final.
                Ok(_) | Err(ConnLost::ByPeer { .. }) => conn,
                Err(lost) => by_note.await.map_err(|other| both(lost, other)),
            },
            conn = &mut by_note => match conn {
                Ok(_) | Err(ConnLost::ByPeer { .. }) => conn,
                Err(other) => at_once.await.map_err(|lost| both(lost, other)),
            },
        }
    }
}

/// Why neither what was known of a device nor its note led there.
fn both(known: ConnLost, noted: ConnLost) -> ConnLost {
    let by_peer = |lost: &ConnLost| matches!(lost, ConnLost::ByPeer { .. });
    if by_peer(&known) {
        return known;
    }
    if by_peer(&noted) {
        return noted;
    }
    let words = |lost: ConnLost| match lost {
        ConnLost::Transport(why) => why,
        ConnLost::ByPeer { .. } | ConnLost::ByUs | ConnLost::TimedOut => lost.to_string(),
    };
    ConnLost::Transport(format!("{}; {}", words(known), words(noted)))
}

impl Desk {
    fn count(&self, told: &BTreeMap<DeviceId, Told>) {
        let now = told.values().filter(|told| told.failures == 0).count();
        self.state.send_if_modified(|state| std::mem::replace(&mut state.told, now) != now);
    }
}

/// Whether others can make anything of an address.
fn is_told(ip: IpAddr, reach: Reach) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !link_local && !ip.is_unspecified() && (reach == Reach::Loopback) == ip.is_loopback()
}

/// Whether an address is one of the internet's.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        // 100.64.0.0/10 is between a carrier and its customers (RFC 6598).
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && b & 0xc0 == 64))
        }
        IpAddr::V6(ip) => !(ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Whereabouts {
        Whereabouts { addrs: vec![([192, 0, 2, 7], port).into()], relays: Vec::new() }
    }

    #[test]
    fn a_note_that_is_older_than_one_that_was_read_before_is_not_believed() {
        let (ann, bob) = (SecretKey::from_u64(1), SecretKey::from_u64(2));
        let place = Pair::new(&ann, &bob.id()).unwrap().to_peer(20_000);
        let item = |seq| Item { seq, value: at(7).seal(&place, seq) };
        assert_eq!(believe(&place, &item(5), 5), Ok((5, at(7))), "the same once more");
        assert_eq!(believe(&place, &item(6), 5), Ok((6, at(7))));
        assert_eq!(believe(&place, &item(4), 5), Err(NoteRefused::Old.into()));
        let replayed = Item { seq: 9, ..item(4) };
        assert_eq!(
            believe(&place, &replayed, 5),
            Err(NoteRefused::Forged.into()),
            "its number is part of it"
        );
    }

    #[test]
    fn a_device_is_told_again_when_something_changed_and_after_failures_with_growing_pauses() {
        let told = Told { at: at(7), day: 1, when: Instant::now(), failures: 0 };
        assert!(!told.is_due(&at(7), 1));
        assert!(told.is_due(&at(8), 1) && told.is_due(&at(7), 2));
        let failed = Told { failures: 3, ..told };
        assert!(!failed.is_due(&at(8), 2), "not before its pause is over");
    }

    #[test]
    fn addresses_that_mean_something_elsewhere_are_told_those_of_the_internet_first() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for told in ["198.51.100.7", "192.168.1.7", "2001:db8::7", "fd00::7"] {
            assert!(is_told(ip(told), Reach::Wide), "{told}");
        }
        for kept in ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0"] {
            assert!(!is_told(ip(kept), Reach::Wide), "{kept}");
        }
        assert!(is_told(ip("127.0.0.1"), Reach::Loopback) && !is_told(ip("192.168.1.7"), Reach::Loopback));
        assert!(is_public(ip("198.51.100.7")) && is_public(ip("2001:db8::7")));
        assert!(!is_public(ip("100.64.0.1")) && !is_public(ip("10.0.0.1")) && !is_public(ip("fd00::1")));
    }
}
