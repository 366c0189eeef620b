//! `/v1/pair`: the ceremonies of the library, told as events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use honeylink::DeviceId;
use honeylink::discovery::Device;
use honeylink::node::{PairingEvent, PairingOpening, PairingOptions};
use honeylink::pairing::{Code, Errand, Invite, Language, Purpose, SasPrompt};
use honeylink::store::PeerRecord;
use honeylink_api::{
    Candidate, ErrorBody, ErrorCode, PairAnswer, PairEvent, PairJoin, PairOpen, PairOutcome, SasEmoji,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{self, Answer, ApiError, Out, bad_request};
use super::devices::trust;
use super::failures;
use super::state::Daemon;

/// How long a device is looked for by name. Who is around answers within a second of the node's start.
const NAME_SEARCH_MAX: Duration = Duration::from_secs(4);
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
            Some(PairingEvent::Paired(record)) => {
                daemon.meter.paired(Some(began.elapsed()));
                return Ok(paired(&record, began.elapsed()));
            }
            Some(PairingEvent::NotRecorded(error)) => return Ok(failed(failures::record(&error))),
            Some(PairingEvent::Failed(error)) => {
                daemon.meter.paired(None);
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
    let errand = match errand(&join.code, Purpose::Pair) {
        Ok(errand) => Some(errand),
        // No code: then it may be the name of a device nearby, and two people compare what both screens show.
        Err(error) if spells_a_code(&join.code) => return Err(error),
        Err(_) => None,
    };
    let options = PairingOptions { verify: join.verify, ..PairingOptions::default() };
    let guest = daemon.clone();
    Ok(answer::lines(&daemon, move |out| async move {
        out.send(&PairEvent::Searching).await;
        let (prompts, mut asked) = mpsc::channel(1);
        let began = Instant::now();
        let join = async {
            let (errand, device) = match errand {
                Some(errand) => (errand, None),
                None => (Errand::Compare, Some(named(&guest, join.code.trim()).await?)),
            };
            guest.node.join_pairing(errand, device, options, prompts).await.map_err(|e| failures::join(&e))
        };
        let mut joining = std::pin::pin!(join);
        let outcome = loop {
            tokio::select! {
                outcome = &mut joining => break outcome,
                Some(prompt) = asked.recv() => put_question(&guest, prompt, &out).await,
            }
        };
        guest.meter.paired(outcome.is_ok().then(|| began.elapsed()));
        let outcome = match outcome {
            Ok(record) => paired(&record, began.elapsed()),
            Err(error) => failed(error),
        };
        out.send(&PairEvent::Outcome(outcome)).await;
    }))
}

/// Whether a person who typed this meant a code: it begins with a number that ends, or with what a QR says.
fn spells_a_code(text: &str) -> bool {
    let text = text.trim();
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = rest.len() < text.len() && !rest.starts_with(char::is_alphanumeric);
    Invite::is_invite(text) || number && !is_id_prefix(text)
}

/// An id's beginning as tables show it, or more of it.
fn is_id_prefix(text: &str) -> bool {
    text.len() >= 10 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The device nearby that has this name, or whose id begins like this.
async fn named(daemon: &Daemon, text: &str) -> Result<DeviceId, ErrorBody> {
    let nobody = || {
        ErrorBody::new(
            ErrorCode::NotFound,
            format!("`{text}` is no code, and no device nearby is called that"),
        )
        .with_hint("honeylink nearby lists who is around; a code looks like 7-guitar-zebra")
    };
    let Some(mut events) = daemon.node.nearby() else {
        return Err(nobody());
    };
    let search = async {
        loop {
            let fits = |device: &Device| {
                device.name.eq_ignore_ascii_case(text)
                    || is_id_prefix(text) && device.id.to_string().starts_with(&text.to_ascii_lowercase())
            };
            let fitting: Vec<Device> = daemon.node.nearby_now().into_iter().filter(fits).collect();
            match fitting.as_slice() {
                [] => {}
                [one] => return Ok(one.id),
                several => {
                    return Err(ErrorBody {
                        candidates: several
                            .iter()
                            .map(|device| Candidate { id: device.id.to_string(), name: device.name.clone() })
                            .collect(),
                        ..ErrorBody::new(ErrorCode::Ambiguous, format!("several devices are called `{text}`"))
                            .with_hint("say which by its id")
                    });
                }
            }
            if events.next().await.is_none() {
                return Err(nobody());
            }
        }
    };
    tokio::time::timeout(NAME_SEARCH_MAX, search).await.unwrap_or_else(|_| Err(nobody()))
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
