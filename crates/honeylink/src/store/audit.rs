//! The audit log: what happened to identity, trust and access, one JSON object per line, for people and their tools.
//!
//! `audit/audit.jsonl` is only ever appended to. At 50 MB, or when its first line is 30 days old, it is renamed to
//! `audit-<unix ms of its end>.jsonl` and a new one begins; finished files go 90 days after their end. `time` is RFC 3339 in UTC, `unix_ms` the same
//! moment as a number.
//!
//! A line that can not be written never stops the node: it is counted ([`AuditLog::lost`]) and the health report says so.
//! Lines about trust and grants are fsynced, lines about sessions and transfers are not: those survive the death of the
//! process, but a power cut may take the last seconds of them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use honeylink_core::identity::DeviceId;
use serde::{Serialize, Serializer};

use super::limits::{
    AUDIT_FILE_AGE_MS_MAX, AUDIT_FILE_BYTES_MAX, AUDIT_FILES_MAX, AUDIT_KEEP_MS, AUDIT_RECENT_BYTES_MAX,
};
use super::peer::PairingMethod;
use super::rfc3339;
use super::transfers::TransferId;

/// One thing that happened. The variant's name in snake case is the `event` field of the line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent<'a> {
    /// A device was paired.
    Paired {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
        /// The name it got here.
        name: &'a str,
        /// How.
        #[serde(serialize_with = "text")]
        method: PairingMethod,
    },
    /// A pairing did not succeed.
    PairingFailed {
        /// The device, if it got far enough to prove its key.
        #[serde(serialize_with = "maybe_text", skip_serializing_if = "Option::is_none")]
        peer: Option<DeviceId>,
        /// Where it came from, as an address.
        from: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The short authentication string was compared: the peer is verified.
    Verified {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
    },
    /// A known name or address turned up with another key. It was blocked.
    KeyChanged {
        /// The device that is known.
        #[serde(serialize_with = "text")]
        known: DeviceId,
        /// The key that was offered in its place.
        #[serde(serialize_with = "text")]
        offered: DeviceId,
        /// The name both claim.
        name: &'a str,
    },
    /// The user gave a peer another name.
    Renamed {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
        /// Its new name.
        name: &'a str,
    },
    /// The user removed a peer; it has to pair again.
    PeerForgotten {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
    },
    /// The user revoked a device for ever.
    PeerRevoked {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
    },
    /// What a peer may do was changed.
    GrantsChanged {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
        /// What it may do now, as `files=ask chat=yes ...`.
        grants: &'a str,
    },
    /// A session with a peer began.
    SessionEstablished {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
        /// The way it runs, as text.
        path: &'a str,
    },
    /// A session was refused.
    SessionRejected {
        /// The device, which proved its key but is not trusted.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
        /// Why.
        reason: &'a str,
    },
    /// An offered or requested transfer was accepted here.
    TransferAccepted {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
        /// The transfer.
        #[serde(serialize_with = "text")]
        transfer: TransferId,
        /// Its name.
        name: &'a str,
        /// Its size in bytes.
        bytes: u64,
    },
    /// An offered transfer was declined here.
    TransferDeclined {
        /// The device.
        #[serde(serialize_with = "text")]
        peer: DeviceId,
        /// The transfer.
        #[serde(serialize_with = "text")]
        transfer: TransferId,
        /// Its name.
        name: &'a str,
        /// Why: by the user, by grants, by a limit.
        reason: &'a str,
    },
}

impl AuditEvent<'_> {
    /// Whether the line must survive a power cut.
    const fn is_about_trust(&self) -> bool {
        match self {
            Self::Paired { .. }
            | Self::Verified { .. }
            | Self::KeyChanged { .. }
            | Self::Renamed { .. }
            | Self::PeerForgotten { .. }
            | Self::PeerRevoked { .. }
            | Self::GrantsChanged { .. } => true,
            // Strangers cause these two; they must not be able to cause fsyncs.
            Self::PairingFailed { .. } | Self::SessionRejected { .. } => false,
            Self::SessionEstablished { .. }
            | Self::TransferAccepted { .. }
            | Self::TransferDeclined { .. } => false,
        }
    }
}

fn text<S: Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn maybe_text<S: Serializer>(value: &Option<DeviceId>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    unix_ms: u64,
    #[serde(flatten)]
    event: &'a AuditEvent<'a>,
}

/// The audit log of one device. Share it behind an `Arc`; all methods take `&self`. Writing blocks for one `write`, and
/// for one fsync when trust is concerned.
#[derive(Debug)]
pub struct AuditLog {
    dir: PathBuf,
    limits: Limits,
    open: Mutex<Option<Open>>,
    lost: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    file_bytes_max: u64,
    file_age_ms_max: u64,
    keep_ms: u64,
    files_max: usize,
}

/// The file being appended to.
#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
    /// When its first line was written, if it has one. In unix milliseconds.
    begun: Option<u64>,
}

impl AuditLog {
    /// The audit log in this folder. Touches nothing until the first line.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let limits = Limits {
            file_bytes_max: AUDIT_FILE_BYTES_MAX,
            file_age_ms_max: AUDIT_FILE_AGE_MS_MAX,
            keep_ms: AUDIT_KEEP_MS,
            files_max: AUDIT_FILES_MAX,
        };
        Self { dir: dir.into(), limits, open: Mutex::new(None), lost: AtomicU64::new(0) }
    }

    /// Appends one line. A failure is counted and logged, never returned: an audit log that can not be written must not
    /// keep the user from revoking a device.
    pub fn record(&self, event: &AuditEvent<'_>, now_unix_ms: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.append(&mut open, event, now_unix_ms) {
            // Start over with a fresh handle next time: the disk may have room again, or the folder be back.
            *open = None;
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, dir = %self.dir.display(), "can not write the audit log");
        }
    }

    /// How many lines could not be written since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The last lines of the current file, the oldest first: at most `limit`, and at most [`AUDIT_RECENT_BYTES_MAX`] bytes
    /// of them. Blocks for a read.
    ///
    /// # Errors
    /// What the operating system says. A log that does not exist yet is empty.
    pub fn recent(&self, limit: usize) -> io::Result<Vec<String>> {
        let mut file = match File::open(self.current()) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let start = file.metadata()?.len().saturating_sub(AUDIT_RECENT_BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(AUDIT_RECENT_BYTES_MAX).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        // A start in the middle of the file is a start in the middle of a line.
        let whole: Vec<&str> = text.lines().skip(usize::from(start > 0)).filter(|l| !l.is_empty()).collect();
        let surplus = whole.len().saturating_sub(limit);
        Ok(whole.into_iter().skip(surplus).map(str::to_owned).collect())
    }

    fn current(&self) -> PathBuf {
        self.dir.join("audit.jsonl")
    }

    fn append(&self, slot: &mut Option<Open>, event: &AuditEvent<'_>, now: u64) -> io::Result<()> {
        let time = rfc3339::format(now);
        let mut line = serde_json::to_vec(&Line { time: &time, unix_ms: now, event })?;
        line.push(b'\n');

        if let Some(open) = slot.as_ref()
            && self.is_full(open, line.len() as u64, now)
        {
            *slot = None;
            self.rotate(now)?;
        }
        let open = match slot {
            Some(open) => open,
            None => slot.insert(self.open_current(line.len() as u64, now)?),
        };
        // One write for the whole line: a reader or a crash sees all of it or, at worst, a torn end that the next
        // opening closes off.
        open.file.write_all(&line)?;
        open.bytes += line.len() as u64;
        open.begun.get_or_insert(now);
        if event.is_about_trust() {
            open.file.sync_data()?;
        }
        Ok(())
    }

    const fn is_full(&self, open: &Open, more: u64, now: u64) -> bool {
        let old = match open.begun {
            Some(begun) => now.saturating_sub(begun) >= self.limits.file_age_ms_max,
            None => false,
        };
        open.bytes > 0 && (old || open.bytes + more > self.limits.file_bytes_max)
    }

    /// Opens the current file, rotating first if it is full already, and drops what is too old.
    fn open_current(&self, more: u64, now: u64) -> io::Result<Open> {
        private_dir(&self.dir)?;
        let open = open_file(&self.current())?;
        self.drop_old(now)?;
        if self.is_full(&open, more, now) {
            drop(open);
            self.rotate(now)?;
            return open_file(&self.current());
        }
        Ok(open)
    }

    fn rotate(&self, now: u64) -> io::Result<()> {
        let current = self.current();
        File::open(&current)?.sync_all()?;
        // Two rotations in one millisecond, or a clock that went back, must not overwrite a finished file.
        let free =
            (now..).map(|ms| self.dir.join(format!("audit-{ms:015}.jsonl"))).find(|path| !path.exists());
        if let Some(finished) = free {
            std::fs::rename(&current, finished)?;
        }
        self.drop_old(now)
    }

    fn drop_old(&self, now: u64) -> io::Result<()> {
        let mut finished = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if let Some(ended) = ended(&path) {
                finished.push((ended, path));
            }
        }
        finished.sort();
        let surplus = finished.len().saturating_sub(self.limits.files_max);
        for (n, (ended, path)) in finished.iter().enumerate() {
            if n < surplus || now.saturating_sub(*ended) > self.limits.keep_ms {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// When the last line of a finished file was written, from its name; `None` for files that are not ours.
fn ended(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok()
}

fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn open_file(path: &Path) -> io::Result<Open> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut bytes = file.seek(SeekFrom::End(0))?;
    if bytes > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            // A line that was torn by a crash must not swallow the next one.
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    let begun = first_time(&mut file)?;
    Ok(Open { file, bytes, begun })
}

/// The time of the first line. A first line without one (torn, edited) counts as time 0, so that the file is rotated soon.
fn first_time(file: &mut File) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    BufReader::new(file.take(4096)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_slice::<serde_json::Value>(&line).ok();
    let time = value.and_then(|value| value.get("unix_ms")?.as_u64());
    Ok(Some(time.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;

    const DAY_MS: u64 = 86_400_000;
    const NOW: u64 = 1_700_000_000_000;

    fn revoked() -> AuditEvent<'static> {
        AuditEvent::PeerRevoked { peer: SecretKey::from_u64(1).id() }
    }

    fn rejected(reason: &str) -> AuditEvent<'_> {
        AuditEvent::SessionRejected { peer: SecretKey::from_u64(2).id(), reason }
    }

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// People's tools read these lines: fields are added, never renamed.
    #[test]
    fn a_line_has_this_form() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path().join("audit"));
        let peer = SecretKey::from_u64(1).id();
        log.record(&AuditEvent::Paired { peer, name: "studio", method: PairingMethod::Code }, NOW);
        log.record(
            &AuditEvent::PairingFailed { peer: None, from: "192.0.2.7:1", reason: "wrong\ncode" },
            NOW,
        );
        assert_eq!(
            log.recent(9).unwrap(),
            [
                format!(
                    r#"{{"time":"2023-11-14T22:13:20.000Z","unix_ms":1700000000000,"event":"paired","peer":"{peer}","name":"studio","method":"code"}}"#
                ),
                r#"{"time":"2023-11-14T22:13:20.000Z","unix_ms":1700000000000,"event":"pairing_failed","from":"192.0.2.7:1","reason":"wrong\ncode"}"#
                    .to_owned(),
            ]
        );
        assert_eq!(log.recent(1).unwrap().len(), 1);
    }

    #[test]
    fn a_full_file_is_set_aside_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::new(dir.path());
        log.limits.file_bytes_max = 1000;
        for n in 0..20 {
            log.record(&rejected("not paired"), NOW + n);
        }
        let lines: usize = files(dir.path())
            .iter()
            .map(|name| std::fs::read_to_string(dir.path().join(name)).unwrap().lines().count())
            .sum();
        assert!(files(dir.path()).len() > 2);
        assert_eq!((lines, log.lost()), (20, 0));
        for name in files(dir.path()) {
            assert!(std::fs::metadata(dir.path().join(name)).unwrap().len() <= 1000);
        }
    }

    #[test]
    fn old_lines_are_set_aside_after_30_days_and_dropped_90_days_later() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        log.record(&revoked(), NOW);
        log.record(&revoked(), NOW + 29 * DAY_MS);
        assert_eq!(files(dir.path()), ["audit.jsonl"]);
        // Also by a process that did not write the first line.
        let log = AuditLog::new(dir.path());
        log.record(&revoked(), NOW + 31 * DAY_MS);
        assert_eq!(files(dir.path()).len(), 2);
        log.record(&revoked(), NOW + 62 * DAY_MS);
        assert_eq!(files(dir.path()).len(), 3);
        log.record(&revoked(), NOW + 122 * DAY_MS);
        assert_eq!(files(dir.path()).len(), 3, "the first file is gone, a new one came");
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        log.record(&revoked(), NOW + 900 * DAY_MS);
        assert!(files(dir.path()).contains(&"notes.txt".to_owned()), "only its own files are dropped");
    }

    #[test]
    fn finished_files_are_bounded_in_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::new(dir.path());
        (log.limits.file_bytes_max, log.limits.files_max) = (1, 3);
        for n in 0..10 {
            log.record(&rejected("flood"), NOW + n);
        }
        assert_eq!(files(dir.path()).len(), 4);
    }

    #[test]
    fn a_line_torn_by_a_crash_does_not_swallow_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::new(dir.path());
        log.record(&revoked(), NOW);
        let path = dir.path().join("audit.jsonl");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&whole[..], &whole[..30]].concat()).unwrap();
        let log = AuditLog::new(dir.path());
        log.record(&revoked(), NOW + 1);
        let lines = log.recent(9).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(serde_json::from_str::<serde_json::Value>(&lines[2]).is_ok());
    }

    #[test]
    fn what_can_not_be_written_is_counted_and_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("audit");
        std::fs::write(&blocked, "a file where the folder should be").unwrap();
        let log = AuditLog::new(&blocked);
        log.record(&revoked(), NOW);
        assert_eq!(log.lost(), 1);
        std::fs::remove_file(&blocked).unwrap();
        log.record(&revoked(), NOW);
        assert_eq!((log.lost(), log.recent(9).unwrap().len()), (1, 1), "it works again as soon as it can");
    }
}
