//! `/v1/pair`: the ceremonies of the library, told as events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use honeylink::node::{PairingEvent, PairingOpening, PairingOptions};
use honeylink::pairing::{Code, Errand, Invite, Language, Purpose, SasPrompt};
use honeylink::store::PeerRecord;
use honeylink_api::{ErrorBody, ErrorCode, PairAnswer, PairEvent, PairJoin, PairOpen, PairOutcome, SasEmoji};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{self, Answer, ApiError, Out, bad_request};
use super::devices::trust;
use super::failures;
use super::state::Daemon;

/// Codes one `pair` shows one after the other when attempts use them up. Wrong ones lock pairing before that.
const OPENINGS_MAX: usize = 8;

/// `POST /v1/pair/open`
pub(super) async fn open(
    State(daemon): State<Arc<Daemon>>,
    Json(open): Json<PairOpen>,
) -> Result<Response, ApiError> {
    let options = PairingOptions { verify: open.verify, ..PairingOptions::default() };
    let opening = daemon.node.open_pairing(options.clone()).map_err(failures::open)?;
    let host = daemon.clone();
    Ok(answer::lines(&daemon, move |out| async move {
        let outcome = show_codes(&host, opening, &options, &out).await;
        out.send(&PairEvent::Outcome(outcome)).await;
    }))
}

/// Shows a code, and the next one if an attempt used it up, until a device is paired or no more codes may be shown.
async fn show_codes(
    daemon: &Daemon,
    mut opening: PairingOpening,
    options: &PairingOptions,
    out: &Out<PairEvent>,
) -> PairOutcome {
    let mut last = ErrorBody::new(ErrorCode::PairingFailed, "no attempt succeeded");
    for _ in 0..OPENINGS_MAX {
        let shown = PairEvent::Open {
            code: opening.code.clone(),
            qr: opening.invite.clone(),
            expires_s: opening.lifetime.as_secs(),
        };
        if !out.send(&shown).await {
            return failed(last);
        }
        match watch_code(daemon, &mut opening, out).await {
            Ok(outcome) => return outcome,
            Err(error) if error.code == ErrorCode::CodeExpired => return failed(error),
            Err(error) => last = error,
        }
        if !out.send(&PairEvent::Failed { reason: last.message.clone() }).await {
            return failed(last);
        }
        match daemon.node.open_pairing(options.clone()) {
            Ok(next) => opening = next,
            Err(error) => return failed(failures::open(error)),
        }
    }
    failed(last)
}

/// Follows one code until it was used or is over. An error: it was used up by an attempt that failed, or has expired.
async fn watch_code(
    daemon: &Daemon,
    opening: &mut PairingOpening,
    out: &Out<PairEvent>,
) -> Result<PairOutcome, ErrorBody> {
    let expiry = tokio::time::Instant::now() + opening.lifetime;
    let mut began = Instant::now();
    loop {
        let event = tokio::select! {
            event = opening.next() => event,
            () = tokio::time::sleep_until(expiry) => {
                return Err(ErrorBody::new(ErrorCode::CodeExpired, "the code has expired and nobody used it")
                    .with_hint("show a new one with: honeylink pair"));
            }
        };
        match event {
            None => return Err(super::shutting_down()),
            Some(PairingEvent::Knock(peer)) => {
                began = Instant::now();
                let nearby = daemon.node.nearby_now().into_iter().find(|device| device.id == peer);
                let name = nearby.map_or_else(|| daemon.name_of(&peer), |device| device.name);
                out.send(&PairEvent::Connected { id: peer.to_string(), name }).await;
            }
            Some(PairingEvent::Compare(prompt)) => put_question(daemon, prompt, out).await,
            Some(PairingEvent::Paired(record)) => return Ok(paired(&record, began.elapsed())),
            Some(PairingEvent::NotRecorded(error)) => return Ok(failed(failures::record(&error))),
            Some(PairingEvent::Failed(error)) => {
                let error = failures::ceremony(&error);
                // The lock outlives the code, so nobody can use it any more.
                if error.code == ErrorCode::PairingLocked {
                    return Ok(failed(error));
                }
                if !opening.is_open() {
                    return Err(error);
                }
                out.send(&PairEvent::Failed { reason: error.message }).await;
            }
            // A transfer's code does not open pairing; the desk has told the other side so.
            Some(PairingEvent::Fetch(_)) => {}
        }
    }
}

/// `POST /v1/pair/join`
pub(super) async fn join(
    State(daemon): State<Arc<Daemon>>,
    Json(join): Json<PairJoin>,
) -> Result<Response, ApiError> {
    let errand = errand(&join.code, Purpose::Pair)?;
    let options = PairingOptions { verify: join.verify, ..PairingOptions::default() };
    let guest = daemon.clone();
    Ok(answer::lines(&daemon, move |out| async move {
        out.send(&PairEvent::Searching).await;
        let (prompts, mut asked) = mpsc::channel(1);
        let began = Instant::now();
        let mut joining = std::pin::pin!(guest.node.join_pairing(errand, None, options, prompts));
        let outcome = loop {
            tokio::select! {
                outcome = &mut joining => break outcome,
                Some(prompt) = asked.recv() => put_question(&guest, prompt, &out).await,
            }
        };
        let outcome = match outcome {
            Ok(record) => paired(&record, began.elapsed()),
            Err(error) => failed(failures::join(&error)),
        };
        out.send(&PairEvent::Outcome(outcome)).await;
    }))
}

/// `POST /v1/pair/answer`
pub(super) async fn answer(State(daemon): State<Arc<Daemon>>, Json(said): Json<PairAnswer>) -> Answer<Value> {
    let Some(question) = daemon.asked() else {
        return Err(ErrorBody::new(ErrorCode::NotFound, "no pairing asks for an answer now").into());
    };
    // Without a verdict the question is dropped, which cancels the ceremony. So does a ceremony that ended meanwhile.
    if let Some(same) = said.same {
        let _ = question.send(same);
    }
    Ok(Json(json!({})))
}

async fn put_question(daemon: &Daemon, prompt: SasPrompt, out: &Out<PairEvent>) {
    let emoji = prompt.sas.emoji().map(|emoji| SasEmoji {
        symbol: emoji.symbol().to_owned(),
        name: emoji.name(Language::English).to_owned(),
    });
    daemon.ask(prompt.answer);
    out.send(&PairEvent::Compare { digits: prompt.sas.digits(), emoji: emoji.to_vec() }).await;
}

/// What a person typed or scanned, as the library wants it.
pub(super) fn errand(text: &str, purpose: Purpose) -> Result<Errand, ApiError> {
    let text = text.trim();
    if Invite::is_invite(text) {
        return Ok(Errand::Invite(Invite::parse(text).map_err(bad_request)?));
    }
    Ok(Errand::Code(Code::parse(text).map_err(bad_request)?, purpose))
}

fn paired(record: &PeerRecord, took: Duration) -> PairOutcome {
    PairOutcome {
        ok: true,
        id: Some(record.id.to_string()),
        name: Some(record.name.clone()),
        trust: Some(trust(record.trust)),
        method: record.method.map(|method| method.as_str().to_owned()),
        seconds: took.as_secs_f64(),
        error: None,
    }
}

const fn failed(error: ErrorBody) -> PairOutcome {
    PairOutcome {
        ok: false,
        id: None,
        name: None,
        trust: None,
        method: None,
        seconds: 0.0,
        error: Some(error),
    }
}
