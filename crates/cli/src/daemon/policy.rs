//! `/v1/policies`, and by which policy each verb sends.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use honeylink::link::ApplyError;
use honeylink::services::{PolicyChoice, chat, files, pipe};
use honeylink_api::{ErrorBody, ErrorCode, Policy, PolicyApplied, PolicyApply, PolicyOnLink};

use super::answer::{Answer, bad_request};
use super::state::Daemon;
use super::streams;
use crate::policies::{self, Book, Known, VERBS};

impl Daemon {
    /// The policies as they are on disk now.
    async fn book(&self) -> Result<Book, ErrorBody> {
        let home = self.home.clone();
        let read = tokio::task::spawn_blocking(move || Book::read(&home)).await;
        let read = read.map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
        read.map_err(|wrong| policies::broken(&wrong))
    }

    /// The policy that a verb is to send by: the one named, which is insisted on, or the one in the settings.
    pub(super) async fn choice(
        &self,
        verb: &str,
        named: Option<&str>,
    ) -> Result<Option<PolicyChoice>, ErrorBody> {
        let name = named.unwrap_or_else(|| policies::default_of(&self.config, verb));
        if name.is_empty() && named.is_none() {
            return Ok(None);
        }
        let policy = self.book().await?.find(name)?.policy.clone();
        Ok(Some(PolicyChoice { policy, insist: named.is_some() }))
    }

    fn describe(&self, known: &Known) -> Policy {
        policies::describe(known, &self.config)
    }
}

/// `GET /v1/policies`
pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Answer<Vec<Policy>> {
    let book = daemon.book().await?;
    Ok(Json(book.all().iter().map(|known| daemon.describe(known)).collect()))
}

/// `POST /v1/policies/apply`
pub(super) async fn apply(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<PolicyApply>,
) -> Answer<PolicyApplied> {
    if let Some(other) = request.only.iter().find(|verb| !VERBS.contains(&verb.as_str())) {
        return Err(bad_request(format!("{other:?} sends by no policy; {} do", VERBS.join(", "))));
    }
    let book = daemon.book().await?;
    let known = book.find(&request.policy)?;
    let peer = daemon.resolve(&request.peer)?;
    let wanted = |protocol: &str, ours: bool| {
        let verb = streams::verb_of(protocol);
        let meant = request.only.is_empty() || request.only.iter().any(|only| only == verb);
        // What another device opened to send files or a pipe carries nothing of ours.
        let sends = match protocol {
            files::PROTOCOL | pipe::PROTOCOL => ours,
            other => other == chat::PROTOCOL,
        };
        meant && sends
    };
    let steered = daemon.node.follow_policy(&peer, &known.policy, wanted).await;
    let name = daemon.name_of(&peer);
    if steered.is_empty() {
        let verbs = if request.only.is_empty() { VERBS.join(", ") } else { request.only.join(", ") };
        let policy = &known.policy.name;
        return Err(ErrorBody::new(ErrorCode::NotFound, format!("nothing is being sent to {name} now ({verbs})"))
            .with_hint(format!(
                "honeylink send --policy {policy} sends by it from the start; honeylink config set policy.send {policy} \
                 makes it the rule"
            ))
            .into());
    }
    let links: Vec<PolicyOnLink> = steered
        .into_iter()
        .map(|link| PolicyOnLink {
            verb: streams::verb_of(&link.protocol).to_owned(),
            ok: link.result.is_ok(),
            why: link.result.err().map(|error| why(&error)),
        })
        .collect();
    let ok = links.iter().all(|link| link.ok);
    Ok(Json(PolicyApplied { ok, policy: daemon.describe(known), peer: peer.to_string(), name, links }))
}

fn why(error: &ApplyError) -> String {
    match error {
        ApplyError::RolledBack { why, .. } => why.clone(),
        ApplyError::Rejected(_) | ApplyError::Closed(_) => error.to_string(),
    }
}
