//! Pairing at the node: which code is open, who knocks, and what a finished ceremony changes in the trust store.
//!
//! The ceremonies themselves are [`crate::pairing`]; this file gives them connections, people and consequences.

mod far;
mod fetch;
mod guest;
mod host;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::rng::Rng;
use tokio::sync::mpsc;

pub use self::fetch::FetchStream;
use super::{Inner, Node};
use crate::carrier::{Conn, ConnLost, code};
use crate::pairing::{
    ChannelBinding, Compare, DeskWatch, DeviceCard, Errand, Here, InvalidName, Method, OpenError, Paired,
    PairingDesk, PairingError, Purpose, SasPrompt, TicketId,
};
use crate::store::{NewPeer, PairError, PairingMethod, PeerRecord};

/// Events an opening keeps for a slow screen.
const EVENT_QUEUE: usize = 16;
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

    /// Follows what the desk shows, for discovery.
    pub(super) fn watch_desk(&self) -> DeskWatch {
        self.desk.watch()
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
        "no device nearby shows this code; is `honeylink pair` still open there, and are both on the same network? Where \
         that network drops multicast, give the text of the QR instead of the code"
    )]
    NobodyShowsIt,
    /// No device nearby shows that code, and it is not found in the DHT either.
    #[error(
        "no device nearby shows this code, and across the internet it is not found: {0}. Is `honeylink pair` or `honeylink send` \
         still open there, with node.dht on? Else give the text of the QR instead of the code"
    )]
    NobodyShowsItAnywhere(String),
    /// No device nearby shows that code, and this one does not look further, which the code's number asks for.
    #[error(
        "no device nearby shows this code. It can be found across the internet too, but this device does not look there: \
         `honeylink config set node.reach wide` and `honeylink config set node.dht true` let it, or give the text of the QR \
         instead of the code"
    )]
    OnlyFar,
    /// The device is there, but nobody opened pairing on it.
    #[error("the other device is there, but not in pairing mode; run `honeylink pair` there first")]
    NotOpen,
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
        self.keep_given_relays(&paired.peer);
        Ok(record)
    }
}

/// Gives an event to the screen; a screen that is gone does not hold up the ceremony.
async fn tell(watcher: &Watcher, event: PairingEvent) {
    let _ = watcher.events.send(event).await;
}
