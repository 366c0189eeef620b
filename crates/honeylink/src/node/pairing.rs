//! Pairing at the node: which code is open, who knocks, and what a finished ceremony changes in the trust store.
//!
//! The ceremonies themselves are [`crate::pairing`]; this file gives them connections, people and consequences.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::PAIRING_CODE_LIFETIME;
use honeylink_core::rng::Rng;
use tokio::sync::mpsc;

use super::{Inner, Node};
use crate::carrier::{ALPN_PAIR, Conn, ConnLost, RecvStream, SendStream, code};
use crate::clock::unix_ms;
use crate::discovery::{Device, Event, PairingHint};
use crate::pairing::{
    ChannelBinding, Compare, DeviceCard, Errand, Form, Here, Hint, InvalidName, Method, OpenError, Order,
    Paired, PairingDesk, PairingError, Purpose, SasPrompt, Source, TicketId, guest, host,
};
use crate::store::{NewPeer, PairError, PairingMethod, PeerRecord};

/// A stranger's ceremony stream must be opened within this time.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Events an opening keeps for a slow screen.
const EVENT_QUEUE: usize = 16;
/// How long a guest looks for the device that shows the code.
const SEARCH_MAX: Duration = Duration::from_secs(15);
/// How long the host waits for the guest to close the connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// What happens while a code is open here.
#[derive(Debug)]
pub enum PairingEvent {
    /// A device knocks; its key is proved, its right is not.
    Knock(DeviceId),
    /// A person here should compare short strings.
    Compare(SasPrompt),
    /// An attempt failed; the code may still be open.
    Failed(PairingError),
    /// The code was used, and the devices are paired.
    Paired(Box<PeerRecord>),
    /// The code was used, but the device could not be recorded.
    NotRecorded(PairError),
    /// The code was opened for a one-time transfer and used: the bytes go over this.
    Fetch(Box<FetchStream>),
}

/// An authenticated stream to a device that is not paired, for one transfer.
#[derive(Debug)]
pub struct FetchStream {
    /// The device at the other end.
    pub peer: DeviceId,
    /// Its name, authenticated by the code.
    pub name: String,
    /// Our bytes.
    pub send: SendStream,
    /// Its bytes.
    pub recv: RecvStream,
    conn: Conn,
}

impl FetchStream {
    /// The path in use.
    #[must_use]
    pub fn path(&self) -> Option<crate::PathReport> {
        self.conn.paths().into_iter().next()
    }

    /// The two directions of the stream, and what is left of it.
    pub(crate) fn split(self) -> (FetchEnd, SendStream, RecvStream) {
        (FetchEnd { conn: self.conn }, self.send, self.recv)
    }

    /// Ends the connection after the transfer. The side that received the last byte calls it.
    pub fn close(&self) {
        self.conn.close(code::DONE, "done");
    }

    /// Waits until the other side ended the connection, or a moment.
    pub async fn closed(&self) {
        // Whoever does not close in time loses nothing: the transfer was confirmed before.
        let _ = tokio::time::timeout(FAREWELL, self.conn.closed()).await;
    }
}

/// The connection of a [`FetchStream`] whose directions were taken.
#[derive(Debug)]
pub(crate) struct FetchEnd {
    conn: Conn,
}

impl FetchEnd {
    pub(crate) fn path(&self) -> Option<crate::PathReport> {
        self.conn.paths().into_iter().next()
    }

    pub(crate) fn close(&self) {
        self.conn.close(code::DONE, "done");
    }

    pub(crate) async fn closed(&self) {
        // Whoever does not close in time loses nothing: the transfer was confirmed before.
        let _ = tokio::time::timeout(FAREWELL, self.conn.closed()).await;
    }
}

/// A code that is open on this node. Dropping it closes the code.
#[derive(Debug)]
pub struct PairingOpening {
    /// To say or type.
    pub code: String,
    /// To scan: the text of the QR code.
    pub invite: String,
    /// The same as a link, with the secret in its fragment.
    pub link: String,
    /// How long it works.
    pub lifetime: Duration,
    ticket: TicketId,
    events: mpsc::Receiver<PairingEvent>,
    hub: Arc<PairingHub>,
}

impl PairingOpening {
    /// What happens next; `None` once the node stops.
    pub async fn next(&mut self) -> Option<PairingEvent> {
        self.events.recv().await
    }

    /// Whether the code can still be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.hub.desk.is_ticket_open(self.ticket)
    }
}

impl Drop for PairingOpening {
    fn drop(&mut self) {
        self.hub.desk.close(self.ticket);
        self.hub.openings().remove(&self.ticket);
        if self.hub.openings().is_empty() {
            self.hub.desk.close_all();
        }
    }
}

/// The node's desk and who watches which code.
#[derive(Debug)]
pub(super) struct PairingHub {
    desk: PairingDesk,
    openings: Mutex<BTreeMap<TicketId, Watcher>>,
}

#[derive(Clone, Debug)]
struct Watcher {
    events: mpsc::Sender<PairingEvent>,
    options: PairingOptions,
}

impl PairingHub {
    pub(super) fn new(rng: Rng) -> Self {
        Self { desk: PairingDesk::new(rng), openings: Mutex::new(BTreeMap::new()) }
    }

    fn openings(&self) -> MutexGuard<'_, BTreeMap<TicketId, Watcher>> {
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest opening: what happens before a ceremony says which code it is about goes there.
    fn newest(&self) -> Option<Watcher> {
        self.openings().values().next_back().cloned()
    }

    fn watcher(&self, ticket: Option<TicketId>) -> Option<Watcher> {
        ticket.and_then(|t| self.openings().get(&t).cloned()).or_else(|| self.newest())
    }
}

/// How to pair.
#[derive(Clone, Debug, Default)]
pub struct PairingOptions {
    /// Ask both people to compare short strings, which raises the trust to verified.
    pub verify: bool,
    /// Call the peer this, instead of what it calls itself.
    pub name: Option<String>,
    /// Six digits instead of a number and two words.
    pub digits: bool,
}

/// Why pairing with another device failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No device nearby shows that code.
    #[error(
        "no device nearby shows this code; is `honeylink pair` still open there, and are both on the same network?"
    )]
    NobodyShowsIt,
    /// Several devices could be meant.
    #[error("several devices nearby are pairing ({0}); use a code of words, or name the device")]
    Ambiguous(String),
    /// The device could not be reached.
    #[error("the device was found but could not be reached: {0}")]
    Unreachable(ConnLost),
    /// The ceremony failed.
    #[error(transparent)]
    Ceremony(#[from] PairingError),
    /// The ceremony succeeded, but the device could not be recorded.
    #[error(transparent)]
    Record(#[from] PairError),
    /// This device's own name cannot be sent.
    #[error("this device's name cannot be used: {0}")]
    OwnName(#[from] InvalidName),
    /// The code is for another purpose.
    #[error("{0}")]
    Purpose(&'static str),
}

impl Node {
    /// Opens pairing mode: a code for a person and an invite for a camera, both good for one ceremony within five
    /// minutes.
    ///
    /// # Errors
    /// [`OpenError`] says why not, for example after too many wrong codes.
    pub fn open_pairing(&self, options: PairingOptions) -> Result<PairingOpening, OpenError> {
        self.inner.open_code(Purpose::Pair, options)
    }

    /// Opens a code for one transfer to a device that is not paired.
    ///
    /// # Errors
    /// As [`Node::open_pairing`].
    pub fn open_fetch(&self, options: PairingOptions) -> Result<PairingOpening, OpenError> {
        self.inner.open_code(Purpose::Fetch, options)
    }

    /// Pairs with the device that shows a code or invite, or, without one, by comparing short strings with `device`.
    /// Questions to the person here go to `prompts`.
    ///
    /// # Errors
    /// [`JoinError`] names the step that failed.
    pub async fn join_pairing(
        &self,
        errand: Errand,
        device: Option<DeviceId>,
        options: PairingOptions,
        prompts: mpsc::Sender<SasPrompt>,
    ) -> Result<PeerRecord, JoinError> {
        let inner = &self.inner;
        let compare = if options.verify { Compare::Always(prompts) } else { Compare::IfAsked(prompts) };
        let (paired, stream) = inner.present(&errand, device, compare).await?;
        let FetchStream { conn, .. } = stream;
        conn.close(code::DONE, "paired");
        if paired.purpose != Purpose::Pair {
            return Err(JoinError::Purpose("this code is for receiving a file: use `honeylink receive`"));
        }
        Ok(inner.record(&paired, options.name).await?)
    }

    /// Presents a code that was opened for a transfer and gives the stream to receive it on.
    ///
    /// # Errors
    /// [`JoinError`] names the step that failed.
    pub async fn join_fetch(&self, errand: Errand) -> Result<FetchStream, JoinError> {
        let (paired, stream) = self.inner.present(&errand, None, Compare::Unable).await?;
        if paired.purpose != Purpose::Fetch {
            return Err(JoinError::Purpose("this code is for pairing: use `honeylink pair`"));
        }
        Ok(stream)
    }
}

impl Inner {
    fn open_code(
        self: &Arc<Self>,
        purpose: Purpose,
        options: PairingOptions,
    ) -> Result<PairingOpening, OpenError> {
        let order = Order {
            form: if options.digits { Form::Digits } else { Form::Words },
            purpose,
            lifetime: PAIRING_CODE_LIFETIME,
            host: self.id,
            addresses: self.own_addrs(),
        };
        let opened = self.pairing.desk.open(&order)?;
        if purpose == Purpose::Pair {
            self.pairing.desk.open_walk_ins(PAIRING_CODE_LIFETIME);
        }
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        self.pairing.openings().insert(opened.ticket, Watcher { events: sender, options });
        Ok(PairingOpening {
            code: opened.code.reveal().to_string(),
            invite: opened.invite.to_qr_text().to_string(),
            link: opened.invite.to_link().to_string(),
            lifetime: opened.lifetime,
            ticket: opened.ticket,
            events,
            hub: self.pairing.clone(),
        })
    }

    /// A connection for pairing arrived.
    pub(super) fn pairing_arrived(self: &Arc<Self>, conn: Conn) {
        if !self.pairing.desk.is_open() {
            conn.close(code::NOT_PAIRING, "this device is not in pairing mode");
            return;
        }
        let Ok(permit) = self.strangers.clone().try_acquire_owned() else {
            conn.close(code::TOO_MANY, "too many devices are trying to pair");
            return;
        };
        let inner = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = inner.receive_guest(&conn) => {}
                () = inner.stop.cancelled() => conn.close(code::SHUTDOWN, "shutting down"),
            }
            drop(permit);
        });
    }

    async fn receive_guest(self: &Arc<Self>, conn: &Conn) {
        let peer = conn.peer();
        let Ok(Ok((send, recv))) = tokio::time::timeout(STREAM_TIMEOUT, conn.accept()).await else {
            conn.close(code::VIOLATION, "no ceremony was begun");
            return;
        };
        let watcher = self.pairing.newest();
        if let Some(watcher) = &watcher {
            tell(watcher, PairingEvent::Knock(peer)).await;
        }
        let compare = self.compare_here(watcher.as_ref());
        let here = match self.here(conn, compare) {
            Ok(here) => here,
            Err(error) => {
                tracing::warn!(%error, "cannot take part in pairing");
                return;
            }
        };
        let source =
            conn.remote_addr().map_or_else(|| Source::named(peer.as_bytes()), |a| Source::of(a.ip()));
        let mut stream = tokio::io::join(recv, send);
        let outcome = host(&mut stream, &here, source, &self.pairing.desk).await;
        let (recv, send) = stream.into_inner();
        let ticket = outcome.as_ref().ok().and_then(|paired| paired.ticket);
        let watcher = self.pairing.watcher(ticket);
        let event = match outcome {
            Err(error) => {
                self.audit_pairing_failed(peer, &error);
                PairingEvent::Failed(error)
            }
            Ok(paired) if paired.purpose == Purpose::Fetch => {
                let conn = conn.clone();
                PairingEvent::Fetch(Box::new(FetchStream { peer, name: paired.name, send, recv, conn }))
            }
            Ok(paired) => {
                let name = watcher.as_ref().and_then(|w| w.options.name.clone());
                let recorded = self.record(&paired, name).await;
                // The guest got the last frame and closes.
                let _ = tokio::time::timeout(FAREWELL, conn.closed()).await;
                match recorded {
                    Ok(record) => PairingEvent::Paired(Box::new(record)),
                    Err(error) => PairingEvent::NotRecorded(error),
                }
            }
        };
        match (watcher, event) {
            (Some(watcher), event) => tell(&watcher, event).await,
            (None, PairingEvent::Failed(error)) => {
                tracing::info!(peer = %peer.short(), %error, "pairing failed");
            }
            (None, _) => {}
        }
    }

    /// Forwards questions to whoever watches the opening.
    fn compare_here(self: &Arc<Self>, watcher: Option<&Watcher>) -> Compare {
        let Some(watcher) = watcher.cloned() else {
            return Compare::Unable;
        };
        let verify = watcher.options.verify;
        let (prompts, mut asked) = mpsc::channel::<SasPrompt>(1);
        self.tasks.spawn(async move {
            while let Some(prompt) = asked.recv().await {
                tell(&watcher, PairingEvent::Compare(prompt)).await;
            }
        });
        if verify { Compare::Always(prompts) } else { Compare::IfAsked(prompts) }
    }

    fn here(&self, conn: &Conn, compare: Compare) -> Result<Here, JoinError> {
        let binding = conn.channel_binding().map_err(JoinError::Unreachable)?;
        Ok(Here {
            local: self.id,
            card: DeviceCard::new(&self.own_name(), self.device_type)?,
            peer: conn.peer(),
            binding: ChannelBinding(binding),
            compare,
        })
    }

    /// Plays the guest: finds the device, connects, runs the ceremony.
    async fn present(
        &self,
        errand: &Errand,
        device: Option<DeviceId>,
        compare: Compare,
    ) -> Result<(Paired, FetchStream), JoinError> {
        let peer = self.find_host(errand, device).await?;
        if peer == self.id {
            return Err(PairingError::SelfPairing.into());
        }
        let conn = self.dial_alpn(peer, ALPN_PAIR).await.map_err(JoinError::Unreachable)?;
        let outcome = self.present_on(&conn, errand, compare).await;
        if let Err(error) = &outcome {
            conn.close(code::DONE, "the ceremony failed");
            if let JoinError::Ceremony(error) = error {
                self.audit_pairing_failed(peer, error);
            }
        }
        outcome
    }

    async fn present_on(
        &self,
        conn: &Conn,
        errand: &Errand,
        compare: Compare,
    ) -> Result<(Paired, FetchStream), JoinError> {
        let here = self.here(conn, compare)?;
        let (send, recv) = conn.open().await.map_err(JoinError::Unreachable)?;
        let mut stream = tokio::io::join(recv, send);
        let mut rng = Rng::from_seed(self.random());
        let paired = match guest(&mut stream, &here, errand, &mut rng).await {
            Ok(paired) => paired,
            // A closed connection says more than the stream that died with it.
            Err(error) => match conn.lost() {
                Some(lost @ ConnLost::ByPeer { .. }) => return Err(JoinError::Unreachable(lost)),
                Some(_) | None => return Err(error.into()),
            },
        };
        let (recv, send) = stream.into_inner();
        let stream =
            FetchStream { peer: paired.peer, name: paired.name.clone(), send, recv, conn: conn.clone() };
        Ok((paired, stream))
    }

    /// The device that shows what the person holds.
    async fn find_host(&self, errand: &Errand, device: Option<DeviceId>) -> Result<DeviceId, JoinError> {
        if let Errand::Invite(invite) = errand {
            self.add_addresses(invite.host(), invite.addresses());
            return Ok(invite.host());
        }
        if let Some(device) = device {
            self.await_addresses(&device).await;
            return Ok(device);
        }
        let hint = match errand {
            Errand::Code(code, _) => code.hint(),
            Errand::Invite(_) | Errand::Compare => Hint::Sas,
        };
        let Some(discovery) = &self.discovery else {
            return Err(JoinError::NobodyShowsIt);
        };
        let mut events = discovery.events();
        let search = async {
            loop {
                match matching(&discovery.snapshot(), hint).as_slice() {
                    [] => {}
                    [one] => return Ok(one.id),
                    several => {
                        let names: Vec<_> = several.iter().map(|d| d.name.as_str()).collect();
                        return Err(JoinError::Ambiguous(names.join(", ")));
                    }
                }
                if events.next().await.is_none() {
                    return Err(JoinError::NobodyShowsIt);
                }
            }
        };
        tokio::time::timeout(SEARCH_MAX, search).await.unwrap_or(Err(JoinError::NobodyShowsIt))
    }

    /// Waits until discovery knows where a device is, or until it should have: dialling says then what is missing.
    async fn await_addresses(&self, device: &DeviceId) {
        let Some(discovery) = &self.discovery else {
            return;
        };
        let mut events = discovery.events();
        let known = async { while self.addresses(device).is_empty() && events.next().await.is_some() {} };
        let _ = tokio::time::timeout(SEARCH_MAX, known).await;
    }

    /// Writes a finished ceremony into the trust store.
    async fn record(&self, paired: &Paired, name: Option<String>) -> Result<PeerRecord, PairError> {
        let new = NewPeer {
            id: paired.peer,
            name,
            announced_name: paired.name.clone(),
            device_type: paired.device_type,
            method: match paired.method {
                Method::Code => PairingMethod::Code,
                Method::Qr => PairingMethod::Qr,
                Method::Sas => PairingMethod::Sas,
            },
        };
        let record = self.record_new(new, paired.verified).await?;
        self.mark_known();
        Ok(record)
    }

    /// Announces nearby what the desk shows, until the node stops.
    pub(super) async fn announce_desk(self: Arc<Self>) {
        let mut watch = self.pairing.desk.watch();
        loop {
            let state = tokio::select! {
                state = watch.changed() => state,
                () = self.stop.cancelled() => return,
            };
            let hint = match (state.open, state.nameplates.last()) {
                (false, _) => PairingHint::Closed,
                (true, Some(number)) => PairingHint::Nameplate(*number),
                (true, None) => PairingHint::Open,
            };
            if let Some(discovery) = &self.discovery {
                discovery.announce(|announcement| announcement.txt.pairing = hint);
            }
        }
    }

    /// Notes in the store whom discovery sees, and warns of impostors, until the node stops.
    pub(super) async fn watch_nearby(self: Arc<Self>) {
        let Some(discovery) = &self.discovery else {
            return;
        };
        let mut events = discovery.events();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.stop.cancelled() => return,
            };
            match event {
                None => return,
                Some(Event::Snapshot(devices)) => devices.iter().for_each(|d| self.sighted(d)),
                Some(Event::Found(device) | Event::Changed(device)) => self.sighted(&device),
                Some(Event::Conflict { known, impostor, name, .. }) => {
                    self.audit_impostor(known, impostor, &name);
                }
                Some(Event::FinderDown { finder, reason }) => {
                    tracing::warn!(?finder, %reason, "a way to find devices does not work now");
                }
                Some(Event::FinderUp(finder)) => tracing::info!(?finder, "works again"),
                Some(Event::Lost(_)) => {}
            }
        }
    }

    fn sighted(&self, device: &Device) {
        let sighting =
            crate::store::Sighting { name: Some(&device.name), device_type: Some(device.device_type) };
        self.store.trust().touch(&device.id, &sighting, unix_ms());
    }

    /// Tells discovery which devices are ours, so that it keeps them and reports impostors.
    pub(super) fn mark_known(&self) {
        if let Some(discovery) = &self.discovery {
            let peers = self.store.trust().list();
            let known = peers.into_iter().filter(|p| p.trust.is_trusted()).map(|p| (p.id, p.name));
            discovery.mark_known(known);
        }
    }
}

/// Gives an event to the screen; a screen that is gone does not hold up the ceremony.
async fn tell(watcher: &Watcher, event: PairingEvent) {
    let _ = watcher.events.send(event).await;
}

/// The devices whose announcement fits what the person holds.
fn matching(devices: &[Device], hint: Hint) -> Vec<&Device> {
    let fits = |device: &&Device| match hint {
        Hint::Words(number) => device.pairing == PairingHint::Nameplate(number),
        Hint::Digits | Hint::Sas | Hint::Invite(_) => device.pairing != PairingHint::Closed,
    };
    devices.iter().filter(fits).collect()
}
