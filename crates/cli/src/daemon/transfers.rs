//! Transfers in the API's words: what runs, what is remembered, how one ended.

use honeylink::DeviceId;
use honeylink::services::files::{Accept, Ended, FileError, Running};
use honeylink::store::transfers::{Direction, TransferId, TransferRecord, TransferState as Recorded};
use honeylink::transfer::{Note, Offer, Progress, ReceiveError, SendError};
use honeylink_api::{
    AcceptPolicy, Direction as Way, ErrorBody, ErrorCode, Transfer, TransferOutcome, TransferState,
};

use super::answer::{ApiError, bad_request};
use super::failures;
use super::path;
use super::state::Daemon;

/// The id a client named.
pub(super) fn id(text: &str) -> Result<TransferId, ApiError> {
    let digits = text.as_bytes();
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() {
        return Err(bad_request("a transfer's id has 32 hex digits; honeylink transfers lists them"));
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = core::str::from_utf8(pair).map_err(bad_request)?;
        *byte = u8::from_str_radix(pair, 16).map_err(bad_request)?;
    }
    Ok(TransferId(id))
}

pub(super) const fn by_policy(accept: AcceptPolicy) -> Accept {
    match accept {
        AcceptPolicy::Ask => Accept::ByGrant,
        // Only paired devices get as far as an offer, so these two differ only once strangers can offer.
        AcceptPolicy::Paired | AcceptPolicy::All => Accept::Everything,
        AcceptPolicy::Never => Accept::Nothing,
    }
}

pub(super) fn is_incoming(running: &Running) -> bool {
    running.direction == Direction::Incoming
}

fn is_outgoing(running: &Running) -> bool {
    !is_incoming(running)
}

pub(super) fn was_incoming(ended: &Ended) -> bool {
    ended.direction == Direction::Incoming
}

const fn way(direction: Direction) -> Way {
    match direction {
        Direction::Incoming => Way::In,
        Direction::Outgoing => Way::Out,
    }
}

/// A transfer that is moving.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is for the eye")]
pub(super) fn shown(daemon: &Daemon, running: &Running, progress: &Progress) -> Transfer {
    let state = match (progress.paused, progress.bytes_total) {
        (true, _) => TransferState::Paused,
        (false, 0) if progress.files_total == 0 => TransferState::Waiting,
        (false, _) => TransferState::Running,
    };
    Transfer {
        id: running.id.to_string(),
        direction: way(running.direction),
        peer: Some(running.peer.to_string()),
        peer_name: Some(daemon.name_of(&running.peer)),
        names: vec![running.name.clone()],
        files: progress.files_total,
        state,
        bytes: progress.bytes_done,
        total_bytes: progress.bytes_total,
        rate_bytes_per_s: progress.rate as u64,
        eta_s: progress.eta.map(|eta| eta.as_secs()),
        error: None,
    }
}

fn recorded(daemon: &Daemon, record: &TransferRecord) -> Transfer {
    let state = match record.state {
        Recorded::Queued => TransferState::Waiting,
        // Recorded as moving, but it is not among those that are: its command went away in the middle.
        Recorded::Active | Recorded::Paused => TransferState::Paused,
        Recorded::Done => TransferState::Done,
        Recorded::Failed => TransferState::Failed,
        Recorded::Declined => TransferState::Declined,
    };
    let why = (!record.error.is_empty()).then(|| ErrorBody::new(ErrorCode::Other, record.error.clone()));
    Transfer {
        id: record.id.to_string(),
        direction: way(record.direction),
        peer: record.peer.map(|peer| peer.to_string()),
        peer_name: record.peer.map(|peer| daemon.name_of(&peer)),
        names: vec![record.name.clone()],
        files: record.files,
        state,
        bytes: record.done_bytes,
        total_bytes: record.total_bytes,
        rate_bytes_per_s: 0,
        eta_s: None,
        error: why,
    }
}

/// An offer that waits for an answer.
pub(super) fn asked(daemon: &Daemon, peer: DeviceId, offer: &Offer) -> Transfer {
    Transfer {
        id: TransferId(offer.id).to_string(),
        direction: Way::In,
        peer: Some(peer.to_string()),
        peer_name: Some(daemon.name_of(&peer)),
        names: vec![offer.name.clone()],
        files: offer.files,
        state: TransferState::Waiting,
        bytes: 0,
        total_bytes: offer.bytes,
        rate_bytes_per_s: 0,
        eta_s: None,
        error: None,
    }
}

/// Every transfer: those that wait for an answer here, those that move, then those remembered.
pub(super) fn all(daemon: &Daemon) -> Vec<Transfer> {
    let waiting = daemon.files.waiting();
    let mut running = daemon.files.running();
    // What waits for an answer runs as well, but has nothing to show yet.
    running.retain(|(running, _)| {
        is_outgoing(running) || !waiting.iter().any(|(_, offer)| TransferId(offer.id) == running.id)
    });
    let questions = waiting.iter().map(|(peer, offer)| asked(daemon, *peer, offer));
    let moving = running.iter().map(|(running, progress)| shown(daemon, running, progress));
    let known = daemon.node.store().transfers().list();
    let current = |id: &TransferId| {
        running.iter().any(|(running, _)| running.id == *id)
            || waiting.iter().any(|(_, offer)| TransferId(offer.id) == *id)
    };
    let still = known.iter().filter(|record| !current(&record.id));
    questions.chain(moving).chain(still.map(|record| recorded(daemon, record))).collect()
}

/// How a transfer ended.
pub(super) fn outcome(ended: &Ended) -> TransferOutcome {
    let id = ended.id.to_string();
    let back = ended.result.as_ref().ok().and_then(|done| done.policy.as_ref()?.taken_back.as_ref());
    match &ended.result {
        Ok(done) => TransferOutcome {
            ok: true,
            id,
            bytes: done.bytes,
            resumed_bytes: done.bytes_kept,
            seconds: done.moving.as_secs_f64(),
            path: done.path.as_ref().map(|used| path::one(used, "the path the bytes took")),
            blake3: Some(done.digest.iter().map(|byte| format!("{byte:02x}")).collect()),
            saved: done.placed.iter().map(|path| path.display().to_string()).collect(),
            policy: done.policy.as_ref().and_then(|by| by.followed.clone()),
            notes: done.notes.iter().map(note).chain(back.map(without)).collect(),
            error: None,
        },
        Err(error) => TransferOutcome { id, ..unsent(&failed(error)) },
    }
}

/// The outcome of a transfer that never began.
pub(super) fn unsent(error: &ErrorBody) -> TransferOutcome {
    TransferOutcome {
        ok: false,
        id: String::new(),
        bytes: 0,
        resumed_bytes: 0,
        seconds: 0.0,
        path: None,
        blake3: None,
        saved: Vec::new(),
        policy: None,
        notes: Vec::new(),
        error: Some(error.clone()),
    }
}

fn without(back: &honeylink::link::TakenBack) -> String {
    format!("policy `{}` was not in force: {}", back.name, back.why)
}

fn note(note: &Note) -> String {
    match note {
        Note::SkippedLink(path) => format!("skipped the symbolic link {}", path.display()),
        Note::SkippedSpecial(path) => format!("skipped {}, which is no file or folder", path.display()),
        Note::Renamed { path, name } => format!("{} is called {name:?} there", path.display()),
    }
}

/// Why a transfer did not finish.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the questions the error answers itself come between the variants"
)]
pub(super) fn failed(error: &FileError) -> ErrorBody {
    let code = match error {
        FileError::Connect(error) => return failures::connected(error),
        _ if error.is_declined() => ErrorCode::Declined,
        _ if error.is_cancelled() => ErrorCode::Interrupted,
        FileError::Receive(ReceiveError::NoSpace { .. }) => ErrorCode::DiskFull,
        FileError::Receive(ReceiveError::Disk(disk)) | FileError::Send(SendError::Source(disk)) => {
            match disk.source.kind() {
                std::io::ErrorKind::NotFound => ErrorCode::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorCode::Permission,
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
                _ => ErrorCode::Internal,
            }
        }
        FileError::Send(SendError::Unsendable { .. }) => ErrorCode::BadRequest,
        _ if error.is_resumable() => ErrorCode::Resumable,
        FileError::Busy | FileError::Policy(_) | FileError::Stream(_) => ErrorCode::Policy,
        _ => ErrorCode::Protocol,
    };
    let body = ErrorBody::new(code, error.to_string());
    if code == ErrorCode::Resumable {
        body.with_hint("the same command continues where this stopped")
    } else {
        body
    }
}
