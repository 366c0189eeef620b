//! `/v1/chat`: the library's chat service in the API's words.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::Response;
use honeylink::Rung;
use honeylink::mesh::MeshSendError;
use honeylink::node::ConnectError;
use honeylink::services::chat::{ChatError, ChatEvent as Happened};
use honeylink::store::chat::{ChatLogError, MessageState};
use honeylink_api::{ChatEvent, ChatMessage, ChatSend, ChatState, Direction, ErrorBody, ErrorCode, Mode};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::answer::{self, Answer, ApiError};
use super::failures;
use super::state::Daemon;

/// `POST /v1/chat`
pub(super) async fn say(
    State(daemon): State<Arc<Daemon>>,
    Json(said): Json<ChatSend>,
) -> Answer<ChatMessage> {
    let peer = daemon.resolve(&said.peer)?;
    // The configured one is followed by every link of the service anyway.
    let choice = match &said.policy {
        Some(policy) => daemon.choice("chat", Some(policy)).await?,
        None => None,
    };
    let sent = daemon.chat.send_under(peer, &said.text, choice).await;
    let sent = sent.map_err(|error| failed(&daemon, error, said.policy.is_none()))?;
    Ok(Json(describe(&daemon, &sent)))
}

/// `may_mesh`: whether it was to go over the mesh where there is no link.
fn failed(daemon: &Daemon, error: ChatError, may_mesh: bool) -> ErrorBody {
    // Otherwise the link may have ended before there was a message.
    let pending = may_mesh && error.is_pending();
    let code = match error {
        ChatError::Connect(error @ ConnectError::Unreachable { .. })
            if may_mesh && daemon.mode == Mode::Command && daemon.config.mesh.enabled =>
        {
            let hint = "with a node that stays (honeylink up) it would go over the mesh, and be tried again";
            return failures::connect(error).with_hint(hint);
        }
        ChatError::Connect(error) => return failures::connect(error),
        ChatError::Empty => ErrorCode::BadRequest,
        ChatError::TooLong { .. } | ChatError::Log(ChatLogError::TooLong { .. }) => ErrorCode::TooLarge,
        ChatError::Closed(ref why) if why.words_of_peer().is_some() => ErrorCode::Policy,
        ChatError::Policy(_) => ErrorCode::Policy,
        ChatError::Closed(_) => ErrorCode::Unreachable,
        ChatError::Mesh(MeshSendError::Target(error)) => return failures::connect(error),
        ChatError::Mesh(_) => ErrorCode::Unreachable,
        ChatError::Unconfirmed(_) | ChatError::Unagreed(_) | ChatError::GivenUp(_) => ErrorCode::Timeout,
        ChatError::Log(_) | ChatError::State(_) => ErrorCode::Internal,
    };
    let body = ErrorBody::new(code, error.to_string());
    if pending {
        body.with_hint("it stays pending, and is said again on the next link to that device")
    } else {
        body
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Watched {
    /// Only messages with this device.
    peer: Option<String>,
}

/// `GET /v1/chat/watch`
pub(super) async fn watch(
    State(daemon): State<Arc<Daemon>>,
    Query(watched): Query<Watched>,
) -> Result<Response, ApiError> {
    let only = match &watched.peer {
        Some(peer) => Some(daemon.resolve(peer)?),
        None => None,
    };
    // Subscribed before the first line says so: nothing that comes after that line is missed.
    let mut events = daemon.chat.events();
    let names = daemon.clone();
    Ok(answer::lines(&daemon, move |out| async move {
        let mut line = Some(ChatEvent::Ready);
        loop {
            if let Some(line) = line
                && !out.send(&line).await
            {
                return;
            }
            line = match events.recv().await {
                Ok(event) if only.is_none_or(|only| only == event.peer) => {
                    let message = describe(&names, &event);
                    Some(if event.update { ChatEvent::Update(message) } else { ChatEvent::Message(message) })
                }
                Ok(_) => None,
                Err(RecvError::Lagged(count)) => Some(ChatEvent::Skipped { count }),
                Err(RecvError::Closed) => return,
            };
        }
    }))
}

fn describe(daemon: &Daemon, event: &Happened) -> ChatMessage {
    let message = &event.message;
    let (direction, state) = match message.state {
        MessageState::Received => (Direction::In, ChatState::Delivered),
        MessageState::Pending if message.rung == Some(Rung::Stored) => (Direction::Out, ChatState::Stored),
        MessageState::Pending => (Direction::Out, ChatState::Sent),
        MessageState::Delivered => (Direction::Out, ChatState::Delivered),
        MessageState::Failed => (Direction::Out, ChatState::Failed),
    };
    ChatMessage {
        id: message.id.iter().map(|byte| format!("{byte:02x}")).collect(),
        peer: event.peer.to_string(),
        name: daemon.name_of(&event.peer),
        direction,
        text: message.text.clone(),
        at_unix_ms: message.at,
        state,
        path: event.path.as_ref().map(|path| super::path::one(path, "the path it took")),
        keeper: event.keeper.map(|keeper| daemon.name_of(&keeper)),
    }
}
