//! Sending, receiving and listing transfers: the library's file service in the API's words.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use honeylink::node::{FetchStream, PairingEvent, PairingOptions};
use honeylink::pairing::Purpose;
use honeylink::services::files::{Accept, DiscardError, FileError, FileEvent, Policy, Running};
use honeylink::transfer::{Durability, Handle};
use honeylink_api::{
    AcceptPolicy, ErrorBody, ErrorCode, ReceiveEvent, ReceiveRequest, SendRequest, Transfer, TransferAnswer,
    TransferEvent,
};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::answer::{self, Answer, ApiError, Out, bad_request};
use super::state::Daemon;
use super::transfers::{self, by_policy, outcome, shown};
use super::{failures, pairing};

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Codes one `send` shows one after the other when attempts use them up. Wrong ones lock pairing before that.
const OPENINGS_MAX: usize = 8;

impl Daemon {
    /// Transfers that are moving.
    pub(super) fn transfers_running(&self) -> usize {
        self.files.running().len()
    }

    /// Waits until no transfer is moving. Asked ten times a second for as long as a shutdown drains.
    pub(super) async fn transfers_idle(&self) {
        while self.transfers_running() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until nothing is being sent. What is being received cannot be told to stop where it can resume, and need
    /// not be: it can at every moment, and ends with its link.
    pub(super) async fn sending_idle(&self) {
        while self.files.running().iter().any(|(running, _)| !transfers::is_incoming(running)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn policy(&self, into: Option<&str>, accept: Option<AcceptPolicy>) -> Policy {
        let configured = self.files.policy();
        Policy {
            into: into.map_or_else(|| self.inbox(), PathBuf::from),
            accept: accept.map_or(configured.accept, by_policy),
            durability: Durability::default(),
        }
    }
}

/// `POST /v1/send`
pub(super) async fn send(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<SendRequest>,
) -> Result<Response, ApiError> {
    if request.paths.is_empty() {
        return Err(bad_request("nothing was named to send"));
    }
    let to = match &request.to {
        Some(peer) => Some(daemon.resolve(peer)?),
        None => None,
    };
    if to.is_none() && request.policy.is_some() {
        return Err(bad_request("a policy is agreed with a paired device: name one to send to"));
    }
    let choice = daemon.choice("send", request.policy.as_deref()).await?;
    let paths: Vec<PathBuf> = request.paths.into_iter().map(PathBuf::from).collect();
    if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
        return Err(bad_request(format!("{} is not an absolute path", path.display())));
    }
    let sender = daemon.clone();
    // Its own end is told when the node stops: "send again to continue" is worth a line.
    Ok(answer::last_lines(&daemon, move |out| async move {
        let handle = Handle::new();
        let sending = async {
            match to {
                Some(peer) => sender.files.send_under(peer, &paths, choice, handle.clone()).await,
                None => {
                    let stream = match offer(&sender, &out).await {
                        Ok(stream) => stream,
                        Err(error) => return Err(error),
                    };
                    sender.files.send_once(stream, &paths, handle.clone()).await
                }
            }
            .map_err(|error| transfers::failed(&error))
        };
        let ended = tokio::select! {
            ended = sending => ended,
            never = tell_progress(&sender, &handle, &out) => match never {},
            () = out.gone() => return,
            () = sender.stop.cancelled() => Err(transfers::failed(&FileError::Stopped)),
        };
        out.send(&TransferEvent::Outcome(ended.as_ref().map_or_else(transfers::unsent, outcome))).await;
    }))
}

/// Never returns; dropped with the transfer it tells of.
async fn tell_progress(
    daemon: &Daemon,
    handle: &Handle,
    out: &Out<TransferEvent>,
) -> std::convert::Infallible {
    let mut progress = handle.progress();
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        // The handle holds the sender, so waiting cannot fail.
        let _ = progress.changed().await;
        let now = progress.borrow_and_update().clone();
        let running = daemon.files.running().into_iter().find(|(running, _)| running.handle.is(handle));
        if let Some((running, _)) = running {
            out.send(&TransferEvent::Progress(shown(daemon, &running, &now))).await;
        }
    }
}

/// Shows a one-time code until somebody has used it: the stream to whoever did.
async fn offer(daemon: &Daemon, out: &Out<TransferEvent>) -> Result<FetchStream, ErrorBody> {
    let mut last = ErrorBody::new(ErrorCode::PairingFailed, "no attempt succeeded");
    for _ in 0..OPENINGS_MAX {
        let mut opening = daemon.node.open_fetch(PairingOptions::default()).map_err(failures::open)?;
        out.send(&TransferEvent::Offer {
            code: opening.code.clone(),
            qr: opening.invite.clone(),
            expires_s: opening.lifetime.as_secs(),
        })
        .await;
        let expiry = tokio::time::Instant::now() + opening.lifetime;
        loop {
            let event = tokio::select! {
                event = opening.next() => event.ok_or_else(super::shutting_down)?,
                () = tokio::time::sleep_until(expiry) => {
                    return Err(ErrorBody::new(ErrorCode::CodeExpired, "the code has expired and nobody used it"));
                }
            };
            match event {
                PairingEvent::Fetch(stream) => return Ok(*stream),
                PairingEvent::Failed(error) => {
                    last = failures::ceremony(&error);
                    // The lock outlives the code, so nobody can use it any more.
                    if last.code == ErrorCode::PairingLocked {
                        return Err(last);
                    }
                    if !opening.is_open() {
                        break;
                    }
                }
                PairingEvent::Knock(_)
                | PairingEvent::Compare(_)
                | PairingEvent::Paired(_)
                | PairingEvent::NotRecorded(_) => {}
            }
        }
    }
    Err(last)
}

/// `POST /v1/receive`
pub(super) async fn receive(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<ReceiveRequest>,
) -> Result<Response, ApiError> {
    let policy = daemon.policy(request.into.as_deref(), request.accept);
    if !policy.into.is_absolute() {
        return Err(bad_request(format!("{} is not an absolute path", policy.into.display())));
    }
    tokio::fs::create_dir_all(&policy.into).await.map_err(|e| {
        ErrorBody::new(ErrorCode::Permission, format!("cannot make {}: {e}", policy.into.display()))
    })?;
    let receiver = daemon.clone();
    match request.code {
        None => {
            Ok(answer::lines(&daemon, move |out| async move { take_offers(&receiver, policy, &out).await }))
        }
        Some(code) => {
            let errand = pairing::errand(&code, Purpose::Fetch)?;
            Ok(answer::last_lines(&daemon, move |out| async move {
                out.send(&ReceiveEvent::Ready { into: policy.into.display().to_string() }).await;
                let handle = Handle::new();
                let fetching = async {
                    let stream = receiver.node.join_fetch(errand).await.map_err(|e| failures::join(&e))?;
                    receiver
                        .files
                        .fetch(stream, policy, handle.clone())
                        .await
                        .map_err(|e| transfers::failed(&e))
                };
                let telling = async {
                    loop {
                        tokio::time::sleep(PROGRESS_EVERY).await;
                        tell_running(&receiver, &out, |running| running.handle.is(&handle)).await;
                    }
                };
                let ended = tokio::select! {
                    ended = fetching => ended,
                    () = telling => return,
                    () = out.gone() => return,
                    () = receiver.stop.cancelled() => Err(transfers::failed(&FileError::Stopped)),
                };
                out.send(&ReceiveEvent::Outcome(ended.as_ref().map_or_else(transfers::unsent, outcome)))
                    .await;
            }))
        }
    }
}

/// Takes what is offered under `policy` until the client is gone.
async fn take_offers(daemon: &Daemon, policy: Policy, out: &Out<ReceiveEvent>) {
    let mut events = daemon.files.events();
    let ready = ReceiveEvent::Ready { into: policy.into.display().to_string() };
    let _in_force = daemon.files.override_policy(policy);
    if !out.send(&ready).await {
        return;
    }
    // What came before anybody was here to ask.
    for (peer, offer) in daemon.files.waiting() {
        out.send(&ReceiveEvent::Asked(transfers::asked(daemon, peer, &offer))).await;
    }
    let mut pace = tokio::time::interval(PROGRESS_EVERY);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = pace.tick() => {
                tell_running(daemon, out, transfers::is_incoming).await;
                continue;
            }
        };
        let line = match event {
            Ok(FileEvent::Asked { peer, offer }) => {
                ReceiveEvent::Asked(transfers::asked(daemon, peer, &offer))
            }
            Ok(FileEvent::Ended(ended)) if transfers::was_incoming(&ended) => {
                ReceiveEvent::Outcome(outcome(&ended))
            }
            Ok(FileEvent::Started(_) | FileEvent::Ended(_)) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        if !out.send(&line).await {
            return;
        }
    }
}

async fn tell_running(daemon: &Daemon, out: &Out<ReceiveEvent>, which: impl Fn(&Running) -> bool) {
    for (running, progress) in daemon.files.running() {
        if which(&running) {
            out.send(&ReceiveEvent::Progress(shown(daemon, &running, &progress))).await;
        }
    }
}

/// `GET /v1/transfers`
pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Answer<Vec<Transfer>> {
    Ok(Json(transfers::all(&daemon)))
}

/// `POST /v1/transfers/{id}/answer`
pub(super) async fn answer(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    Json(said): Json<TransferAnswer>,
) -> Answer<Value> {
    if daemon.files.answer(&transfers::id(&id)?, said.accept) {
        return Ok(Json(json!({})));
    }
    Err(ErrorBody::new(ErrorCode::NotFound, "nobody is asking about this transfer any more").into())
}

/// `DELETE /v1/transfers/{id}`
pub(super) async fn cancel(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer<Value> {
    match daemon.files.discard(&transfers::id(&id)?).await {
        Ok(()) => Ok(Json(json!({}))),
        Err(error @ DiscardError::Log(_)) => {
            Err(ErrorBody::new(ErrorCode::NotFound, error.to_string()).into())
        }
        Err(error @ DiscardError::Disk(_)) => {
            Err(ErrorBody::new(ErrorCode::Permission, error.to_string()).into())
        }
    }
}

/// The policy of a daemon that nobody watches.
pub(super) fn configured(into: PathBuf, accept: &str) -> Policy {
    let accept = match accept {
        "never" => Accept::Nothing,
        "all" | "paired" => Accept::Everything,
        _ => Accept::ByGrant,
    };
    Policy { into, accept, durability: Durability::default() }
}
