//! One message, by the best way there is: a link, and where none takes it, the mesh.

use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::wire::chat::ChatFrame;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{CONFIRM_MAX, ChatError, Shared, Waiting, closed};
use crate::carrier::PathReport;
use crate::link::ApplyError;
use crate::node::ConnectError;
use crate::services::steer::{PolicyChoice, steer};
use crate::store::chat::NewMessage;

/// How long a link is tried where there is a mesh to fall back on.
const LINK_MAX: Duration = Duration::from_secs(4);

/// How a message went.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Carried {
    pub(super) path: Option<PathReport>,
    /// The other device has it.
    pub(super) confirmed: bool,
    /// Another answers for it.
    pub(super) keeper: Option<DeviceId>,
}

impl Carried {
    pub(super) const fn by_link(path: Option<PathReport>) -> Self {
        Self { path, confirmed: true, keeper: None }
    }
}

impl Shared {
    /// Lets the link to a peer follow a policy, unless it does. A link whose connection was lost is not waited for longer than a
    /// message would be.
    pub(super) async fn agree(
        self: &Arc<Self>,
        peer: DeviceId,
        choice: &PolicyChoice,
    ) -> Result<(), ChatError> {
        let link = self.link_by(peer, None).await?;
        if link.followed_policy().as_ref() == Some(&choice.policy) {
            return Ok(());
        }
        match tokio::time::timeout(CONFIRM_MAX, steer(&link, Some(choice))).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(ApplyError::Closed(why))) => Err(ChatError::Closed(why)),
            Ok(Err(refused @ (ApplyError::RolledBack { .. } | ApplyError::Rejected(_)))) => {
                Err(ChatError::Policy(refused))
            }
            Err(_) => Err(ChatError::Unagreed(CONFIRM_MAX)),
        }
    }

    /// Sends a message the best way there is. Who calls takes it out of `confirmations` when it waits no longer.
    pub(super) async fn carry(
        self: &Arc<Self>,
        peer: DeviceId,
        sequence: u64,
        message: &NewMessage,
    ) -> Result<Carried, ChatError> {
        let by_link = async {
            let path = self.deliver(peer, message).await?;
            self.in_reach(&peer);
            Ok(Carried::by_link(path))
        };
        let Some(mesh) = self.node.mesh() else {
            return by_link.await;
        };
        if !self.is_out_of_reach(&peer) {
            match tokio::time::timeout(LINK_MAX, by_link).await {
                Ok(Err(error)) if !wants_mesh(&error) => return Err(error),
                Ok(Ok(carried)) => return Ok(carried),
                Ok(Err(_)) | Err(_) => {}
            }
            self.out_of_reach().insert(peer, Instant::now());
        }
        // A link that comes up meanwhile may be faster.
        let (tell, confirmed) = oneshot::channel();
        let on = self.confirmations().remove(&(peer, message.id)).and_then(|waiting| waiting.on);
        self.confirmations().insert((peer, message.id), Waiting { on, tell });
        self.owed.add(peer, sequence, message.id, on);
        tokio::select! {
            biased;
            Ok(path) = confirmed => Ok(Carried::by_link(path)),
            carried = self.carry_over_mesh(&mesh, peer, message) => carried,
        }
    }

    /// Says the message on a link and waits for the confirmation; gives the path by which that came.
    async fn deliver(
        self: &Arc<Self>,
        peer: DeviceId,
        message: &NewMessage,
    ) -> Result<Option<PathReport>, ChatError> {
        let link = self.link_to(peer).await?;
        let (tell, confirmed) = oneshot::channel();
        self.confirmations().insert((peer, message.id), Waiting { on: Some(link.id()), tell });
        let said = async {
            if let Err(error) = link.send(say(message)).await {
                tracing::debug!(%error, "the chat link ended");
                return Err(ChatError::Closed(closed(&link).await));
            }
            tokio::select! {
                biased;
                confirmed = confirmed => match confirmed {
                    Ok(path) => Ok(path),
                    Err(_) => Err(ChatError::Closed(closed(&link).await)),
                },
                end = closed(&link) => Err(ChatError::Closed(end)),
            }
        };
        tokio::time::timeout(CONFIRM_MAX, said).await.unwrap_or(Err(ChatError::Unconfirmed(CONFIRM_MAX)))
    }
}

/// A message of ours as it is said on a link.
pub(super) fn say(message: &NewMessage) -> bytes::Bytes {
    ChatFrame::Say { id: message.id, sent_unix_ms: message.at, text: message.text.clone() }.encode()
}

/// Whether a message that a link did not deliver for this reason may go over the mesh: not if the other device refused it.
fn wants_mesh(error: &ChatError) -> bool {
    match error {
        ChatError::Connect(ConnectError::Unreachable { .. }) | ChatError::Unconfirmed(_) => true,
        ChatError::Closed(why) => !why.is_clean(),
        ChatError::Connect(_)
        | ChatError::Empty
        | ChatError::TooLong { .. }
        | ChatError::Policy(_)
        | ChatError::Unagreed(_)
        | ChatError::Mesh(_)
        | ChatError::GivenUp(_)
        | ChatError::Log(_)
        | ChatError::State(_) => false,
    }
}
