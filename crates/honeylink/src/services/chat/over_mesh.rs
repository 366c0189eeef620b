//! Chat where no link can be made: over the mesh, which confirms by itself.
//!
//! A message's id is random in its first half and zero in its second, so that 8 bytes of it are enough over the mesh, and
//! these 8 are also the message's name there: after a restart the log is found again from what the mesh says of it.

use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::MESH_LIFETIME_MAX;
use honeylink_core::mesh::Step;
use honeylink_core::wire::chat::MeshSay;
use tokio::sync::broadcast::error::RecvError;

use super::carry::Carried;
use super::{CONFIRM_MAX, ChatError, ChatEvent, Shared};
use crate::carrier::{PathReport, Rung};
use crate::mesh::{Leads, MeshEvent, MeshHandle, Message, NotDelivered, SendOptions, Topic};
use crate::store::chat::{ChatLogError, MessageState, NewMessage};

/// How long to wait for the target itself once another device keeps a message for it.
const STORED_MAX: Duration = Duration::from_secs(2);
/// How long to wait after the log could not be written.
const DISK_PAUSE: Duration = Duration::from_secs(5);

/// Takes what comes over the mesh, and follows what goes over it, until the node is over.
pub(super) fn start(shared: &Arc<Shared>) {
    let Some(mesh) = shared.node.mesh() else {
        return;
    };
    let mut events = mesh.events();
    let following = shared.clone();
    shared.node.spawn(async move {
        loop {
            match events.recv().await {
                Ok(MeshEvent::Progress { id, step }) => following.progress(id, step).await,
                // Whoever has a port to a device can most likely have a link to it.
                Ok(MeshEvent::PortUp(port)) => {
                    if let Leads::Neighbour { peer, .. } = port.leads {
                        following.approach(peer);
                    }
                }
                Ok(_) => {}
                // What was missed stays pending in the log until the mesh says more.
                Err(RecvError::Lagged(_)) => following.approach_all(),
                Err(RecvError::Closed) => return,
            }
        }
    });
    let taking = shared.clone();
    shared.node.spawn(async move {
        loop {
            let Ok(mut messages) = mesh.messages(Topic::CHAT) else {
                tracing::error!("somebody else takes the chat messages of the mesh");
                return;
            };
            loop {
                let Some(message) = messages.next().await else { return };
                if taking.take_from_mesh(message).await.is_err() {
                    break;
                }
            }
            // It was not dealt with, so it is handed over again.
            drop(messages);
            tokio::time::sleep(DISK_PAUSE).await;
        }
    });
}

impl Shared {
    /// An id for a new message.
    pub(super) fn new_id(&self) -> [u8; 16] {
        let mut id = self.node.random_id();
        if self.node.mesh().is_some() {
            id[8..].fill(0);
        }
        id
    }

    /// Gives a message to the mesh and waits a while for its receipt.
    pub(super) async fn carry_over_mesh(
        &self,
        mesh: &MeshHandle,
        peer: DeviceId,
        message: &NewMessage,
    ) -> Result<Carried, ChatError> {
        let [a, b, c, d, e, f, g, h, ..] = message.id;
        let id = [a, b, c, d, e, f, g, h];
        let say = MeshSay { id, text: message.text.clone() };
        let options = SendOptions::default().topic(Topic::CHAT).lifetime(MESH_LIFETIME_MAX);
        let mut sending = mesh.send_as(u64::from_be_bytes(id), peer, say.encode(), options).await?;
        let settled = async {
            match sending.stored_or_delivered().await? {
                // The target may be the keeper's neighbour.
                Step::Stored => match tokio::time::timeout(STORED_MAX, sending.delivered()).await {
                    Ok(delivered) => delivered.map(|()| true),
                    Err(_) => Ok(false),
                },
                Step::Accepted | Step::Sent | Step::Delivered | Step::Failed(_) => Ok(true),
            }
        };
        let confirmed = match tokio::time::timeout(CONFIRM_MAX, settled).await {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err(NotDelivered::Failed(why))) => return Err(ChatError::GivenUp(why)),
            // It goes on, here or when the node runs again.
            Ok(Err(NotDelivered::Unknown)) | Err(_) => false,
        };
        if sending.step() == Step::Stored {
            let keeper = mesh.keeper(sending.id()).await.ok().flatten();
            return Ok(Carried { path: Some(path(Rung::Stored, None)), confirmed, keeper });
        }
        Ok(Carried { path: Some(path(Rung::Mesh, self.hops_to(peer).await)), confirmed, keeper: None })
    }

    /// Hops of the best way to a device.
    async fn hops_to(&self, peer: DeviceId) -> Option<u8> {
        let trace = self.node.mesh()?.trace(peer).await.ok()?;
        trace.ways.first().map(|way| way.hops)
    }

    /// The mesh says how far a message has come.
    async fn progress(&self, name: u64, step: Step) {
        let (state, rung) = match step {
            Step::Accepted | Step::Sent => return,
            Step::Stored => (MessageState::Pending, Some(Rung::Stored)),
            // It keeps the rung it has: one that was stored on its way was delivered from there.
            Step::Delivered => (MessageState::Delivered, None),
            Step::Failed(_) => (MessageState::Failed, None),
        };
        let _settling = self.settling.lock().await;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&name.to_be_bytes());
        let store = self.node.store().clone();
        let found = crate::node::on_disk(move || {
            let peers = store.trust().list();
            let trusted = peers.into_iter().filter(|peer| peer.trust.is_trusted()).map(|peer| peer.id);
            trusted.into_iter().find_map(|peer| Some((peer, store.chat().find(&peer, &id).ok()??)))
        });
        let Some((peer, message)) = found.await else {
            return;
        };
        let rung = rung.or(message.rung).or(Some(Rung::Mesh));
        let over = matches!(message.state, MessageState::Received | MessageState::Delivered);
        if over || state != MessageState::Pending {
            self.settled(&peer, id).await;
        }
        if over || (message.state, message.rung) == (state, rung) {
            return;
        }
        if let Err(error) = self.set_state(peer, id, state, rung).await {
            tracing::error!(%error, "what became of a message could not be written");
            return;
        }
        let hops = if state == MessageState::Delivered { self.hops_to(peer).await } else { None };
        let path = rung.map(|rung| path(rung, hops));
        let keeper = match self.node.mesh() {
            Some(mesh) if rung == Some(Rung::Stored) && state == MessageState::Pending => {
                mesh.keeper(name).await.ok().flatten()
            }
            Some(_) | None => None,
        };
        let message = NewMessage { state, rung, ..message };
        if self.waited_for().contains(&id) {
            return;
        }
        // Nobody may be watching.
        let _ = self.events.send(ChatEvent { peer, message, path, keeper, update: true });
    }

    /// Keeps a message; an error if it should come again.
    async fn take_from_mesh(&self, message: Message) -> Result<(), ChatLogError> {
        let peer = message.from;
        if !self.node.grants(&peer).chat {
            tracing::info!(peer = %peer.short(), "dropped a message: no grant for chat");
            return Ok(());
        }
        match MeshSay::decode(&message.payload) {
            Ok(say) => {
                let (id, hops) = (say.link_id(), Some(message.hops));
                self.arrived(peer, id, say.text, Some(path(Rung::Mesh, hops))).await
            }
            Err(invalid) => {
                tracing::warn!(peer = %peer.short(), %invalid, "not a chat message");
                Ok(())
            }
        }
    }
}

/// The way over the mesh, as paths are shown.
fn path(rung: Rung, hops: Option<u8>) -> PathReport {
    PathReport {
        rung,
        carrier: "mesh",
        remote: match hops {
            None => String::new(),
            Some(1) => "1 hop".to_owned(),
            Some(hops) => format!("{hops} hops"),
        },
        rtt: Duration::ZERO,
        mtu_bytes: 0,
        loss: 0.0,
        selected: true,
    }
}
