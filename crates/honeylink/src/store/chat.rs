//! The log of messages per peer: durable, in order of arrival here, bounded, and without duplicates.
//!
//! Two tables: messages by `(peer, sequence)`, and `(peer, message id) -> sequence` to notice a message that arrives twice.
//! A third holds how far the user has read. Sequences of a peer have no gaps: only the oldest is ever removed.
//!
//! Record version 2, key: peer (32), sequence (8). Version 1 had no rung.
//!
//! ```text
//! state (1) id (16) at (varint, unix ms) text (text) rung (1: 0 unknown, 1 local, 2 direct/lan, 3 direct/wide, 4 relayed,
//!                                                          5 mesh, 6 stored, 7 punched)
//! ```

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{BufMut as _, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::wire::{Invalid, Reader, put_bytes, put_varint};
use redb::{ReadableTable, TableDefinition, TableHandle as _};

use super::db::{StateDb, StateError};
use super::limits::{CHAT_LIST_MAX, CHAT_MESSAGES_PER_PEER_MAX, CHAT_TEXT_BYTES_MAX};
use super::record::{self, RecordError, Unreadable};
use crate::carrier::Rung;

type MessageKey = ([u8; 32], u64);

const MESSAGES: TableDefinition<'_, MessageKey, &[u8]> = TableDefinition::new("chat");
const IDS: TableDefinition<'_, ([u8; 32], [u8; 16]), u64> = TableDefinition::new("chat_ids");
/// Peer -> the first sequence that is not read.
const READ: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("chat_read");
const RECORD_VERSION: u8 = 2;

/// Whose message it is and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageState {
    /// From the peer.
    Received,
    /// Ours, not delivered yet.
    Pending,
    /// Ours, and the peer has it.
    Delivered,
    /// Ours, and given up.
    Failed,
}

impl MessageState {
    /// The word used on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for MessageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Made by the sender, the same each time the message is sent.
    pub id: [u8; 16],
    /// Whose it is and what became of it.
    pub state: MessageState,
    /// What it says.
    pub text: String,
    /// When it was sent or received here, in milliseconds since 1970 (UTC).
    pub at: u64,
    /// The way it came or went, as far as that is known.
    pub rung: Option<Rung>,
}

/// A message in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Its place in the log of its peer, counting from 0.
    pub sequence: u64,
    /// The message.
    pub message: NewMessage,
    /// From the peer, and the user has not read this far.
    pub unread: bool,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is the newest message now.
    New {
        /// Its place.
        sequence: u64,
    },
    /// It was there already; nothing changed.
    Duplicate {
        /// Its place.
        sequence: u64,
    },
}

/// A page of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatPage {
    /// The messages, the oldest first.
    pub messages: Vec<ChatMessage>,
    /// Messages in this range that could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Why a message could not be logged.
#[derive(Debug, thiserror::Error)]
pub enum ChatLogError {
    /// Too long.
    #[error("a message can have {CHAT_TEXT_BYTES_MAX} bytes at most; this has {bytes}. Send it as a file")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// There is no such message, or it is too old to be remembered.
    #[error("there is no such message")]
    Unknown,
    /// The disk.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The messages exchanged with every peer. Share it behind an `Arc`; all methods take `&self`. Reads come from the database
/// (a few pages, normally cached); they wait for no writer.
#[derive(Debug)]
pub struct ChatLog {
    db: Arc<StateDb>,
}

impl ChatLog {
    pub(super) fn load(db: Arc<StateDb>) -> Result<Self, StateError> {
        db.write(|txn| {
            txn.open_table(MESSAGES)?;
            txn.open_table(IDS)?;
            txn.open_table(READ)?;
            Ok(())
        })?;
        Ok(Self { db })
    }

    /// Adds a message, unless its id is in the peer's log already. Blocks for one fsync. When the log is full, the oldest
    /// message makes room.
    ///
    /// # Errors
    /// [`ChatLogError::TooLong`], or the disk.
    pub fn append(&self, peer: &DeviceId, message: &NewMessage) -> Result<Appended, ChatLogError> {
        if message.text.len() > CHAT_TEXT_BYTES_MAX {
            return Err(ChatLogError::TooLong { bytes: message.text.len() });
        }
        let peer = *peer.as_bytes();
        Ok(self.db.write(|txn| {
            let mut ids = txn.open_table(IDS)?;
            if let Some(found) = ids.get((peer, message.id))? {
                return Ok(Appended::Duplicate { sequence: found.value() });
            }
            let mut messages = txn.open_table(MESSAGES)?;
            let (first, next) = bounds(&messages, peer)?;
            if next - first >= CHAT_MESSAGES_PER_PEER_MAX {
                let key = (peer, first);
                let old = messages.remove(key)?.and_then(|old| decode(key, old.value()).ok());
                if let Some(old) = old {
                    ids.remove((peer, old.id))?;
                }
            }
            messages.insert((peer, next), encode((peer, next), message).as_slice())?;
            ids.insert((peer, message.id), next)?;
            Ok(Appended::New { sequence: next })
        })?)
    }

    /// A message by its id. Blocks for a read.
    ///
    /// # Errors
    /// The disk.
    pub fn find(&self, peer: &DeviceId, id: &[u8; 16]) -> Result<Option<NewMessage>, StateError> {
        let peer = *peer.as_bytes();
        self.db.read(|txn| {
            let Some(sequence) = txn.open_table(IDS)?.get((peer, *id))?.map(|found| found.value()) else {
                return Ok(None);
            };
            let key = (peer, sequence);
            Ok(txn.open_table(MESSAGES)?.get(key)?.and_then(|found| decode(key, found.value()).ok()))
        })
    }

    /// The messages of ours that are pending, by sequence and id, the oldest first. Looks at every message of the peer.
    ///
    /// # Errors
    /// The disk.
    pub fn pending(&self, peer: &DeviceId) -> Result<Vec<(u64, [u8; 16])>, StateError> {
        let peer = *peer.as_bytes();
        self.db.read(|txn| {
            let mut pending = Vec::new();
            for row in txn.open_table(MESSAGES)?.range(of_peer(peer))? {
                let (key, value) = row?;
                let message = decode(key.value(), value.value()).ok();
                let message = message.filter(|message| message.state == MessageState::Pending);
                pending.extend(message.map(|message| (key.value().1, message.id)));
            }
            Ok(pending)
        })
    }

    /// Says what became of a message of ours, and which way it went if that is news. One that was delivered stays so.
    /// Blocks for one fsync.
    ///
    /// # Errors
    /// [`ChatLogError::Unknown`] if it is not in the log or not ours, or the disk.
    pub fn set_state(
        &self,
        peer: &DeviceId,
        id: &[u8; 16],
        state: MessageState,
        rung: Option<Rung>,
    ) -> Result<(), ChatLogError> {
        let peer = *peer.as_bytes();
        let known = self.db.write(|txn| {
            let Some(sequence) = txn.open_table(IDS)?.get((peer, *id))?.map(|found| found.value()) else {
                return Ok(false);
            };
            let mut messages = txn.open_table(MESSAGES)?;
            let key = (peer, sequence);
            let found = messages.get(key)?.and_then(|found| decode(key, found.value()).ok());
            let Some(message) = found.filter(|found| found.state != MessageState::Received) else {
                return Ok(false);
            };
            // Whoever waited too long for the news must not undo them.
            let delivered = message.state == MessageState::Delivered;
            let state = if delivered { message.state } else { state };
            let rung = rung.or(message.rung);
            messages.insert(key, encode(key, &NewMessage { state, rung, ..message }).as_slice())?;
            Ok(true)
        })?;
        if known { Ok(()) } else { Err(ChatLogError::Unknown) }
    }

    /// The last `limit` messages (at most [`CHAT_LIST_MAX`]) before sequence `before`, or the last of all.
    ///
    /// # Errors
    /// The disk.
    pub fn list(&self, peer: &DeviceId, before: Option<u64>, limit: usize) -> Result<ChatPage, StateError> {
        let peer = *peer.as_bytes();
        let mut page = ChatPage::default();
        let range = match before {
            Some(0) => return Ok(page),
            Some(before) => (peer, 0)..=(peer, before - 1),
            None => of_peer(peer),
        };
        self.db.read(|txn| {
            let read = txn.open_table(READ)?.get(peer)?.map_or(0, |read| read.value());
            for row in txn.open_table(MESSAGES)?.range(range)?.rev().take(limit.min(CHAT_LIST_MAX)) {
                let (key, value) = row?;
                let sequence = key.value().1;
                match decode(key.value(), value.value()) {
                    Ok(message) => {
                        let unread = sequence >= read && message.state == MessageState::Received;
                        page.messages.push(ChatMessage { sequence, message, unread });
                    }
                    Err(cause) => {
                        page.unreadable.push(Unreadable::new(
                            MESSAGES.name(),
                            &key_bytes(key.value()),
                            cause,
                        ));
                    }
                }
            }
            Ok(())
        })?;
        page.messages.reverse();
        Ok(page)
    }

    /// Marks everything up to and including `sequence` as read. Blocks for one fsync if that is news.
    ///
    /// # Errors
    /// The disk.
    pub fn mark_read(&self, peer: &DeviceId, sequence: u64) -> Result<(), StateError> {
        let peer = *peer.as_bytes();
        let read = sequence.saturating_add(1);
        let known =
            self.db.read(|txn| Ok(txn.open_table(READ)?.get(peer)?.map_or(0, |read| read.value())))?;
        if read <= known {
            return Ok(());
        }
        self.db.write(|txn| {
            // Never past the end: messages that are still to come are not read.
            let (_, next) = bounds(&txn.open_table(MESSAGES)?, peer)?;
            Ok(txn.open_table(READ)?.insert(peer, read.min(next)).map(drop)?)
        })
    }

    /// How many messages from the peer are not read. Looks at each of them.
    ///
    /// # Errors
    /// The disk.
    pub fn unread(&self, peer: &DeviceId) -> Result<usize, StateError> {
        let peer = *peer.as_bytes();
        self.db.read(|txn| {
            let read = txn.open_table(READ)?.get(peer)?.map_or(0, |read| read.value());
            let mut count = 0;
            for row in txn.open_table(MESSAGES)?.range((peer, read)..=(peer, u64::MAX))? {
                let (key, value) = row?;
                let received = decode(key.value(), value.value());
                count += usize::from(received.is_ok_and(|found| found.state == MessageState::Received));
            }
            Ok(count)
        })
    }

    /// Removes all messages exchanged with a peer. Blocks for one fsync.
    ///
    /// # Errors
    /// The disk.
    pub fn clear(&self, peer: &DeviceId) -> Result<(), StateError> {
        let peer = *peer.as_bytes();
        self.db.write(|txn| {
            txn.open_table(MESSAGES)?.retain_in(of_peer(peer), |_, _| false)?;
            txn.open_table(IDS)?.retain_in((peer, [0; 16])..=(peer, [0xff; 16]), |_, _| false)?;
            Ok(txn.open_table(READ)?.remove(peer).map(drop)?)
        })
    }
}

fn of_peer(peer: [u8; 32]) -> RangeInclusive<MessageKey> {
    (peer, 0)..=(peer, u64::MAX)
}

/// The first sequence in a peer's log and the one after the last.
fn bounds(
    messages: &impl ReadableTable<MessageKey, &'static [u8]>,
    peer: [u8; 32],
) -> Result<(u64, u64), redb::Error> {
    let mut range = messages.range(of_peer(peer))?;
    let first = range.next().transpose()?.map(|(key, _)| key.value().1);
    let last = range.next_back().transpose()?.map(|(key, _)| key.value().1);
    Ok(match (first, last) {
        (Some(first), last) => (first, last.unwrap_or(first).saturating_add(1)),
        (None, _) => (0, 0),
    })
}

fn key_bytes((peer, sequence): MessageKey) -> [u8; 40] {
    let mut out = [0; 40];
    out[..32].copy_from_slice(&peer);
    out[32..].copy_from_slice(&sequence.to_be_bytes());
    out
}

fn encode(key: MessageKey, message: &NewMessage) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(32 + message.text.len());
    out.put_u8(match message.state {
        MessageState::Received => 0,
        MessageState::Pending => 1,
        MessageState::Delivered => 2,
        MessageState::Failed => 3,
    });
    out.put_slice(&message.id);
    put_varint(&mut out, message.at);
    put_bytes(&mut out, message.text.as_bytes());
    out.put_u8(match message.rung {
        None => 0,
        Some(Rung::Local) => 1,
        Some(Rung::Lan) => 2,
        Some(Rung::Direct) => 3,
        Some(Rung::Relayed) => 4,
        Some(Rung::Mesh) => 5,
        Some(Rung::Stored) => 6,
        Some(Rung::Punched) => 7,
    });
    record::seal(MESSAGES.name(), &key_bytes(key), RECORD_VERSION, &out)
}

fn decode(key: MessageKey, bytes: &[u8]) -> Result<NewMessage, RecordError> {
    let key = key_bytes(key);
    let (version, mut reader) = record::open(MESSAGES.name(), &key, RECORD_VERSION, bytes)?;
    let message = decode_body(&mut reader, version)?;
    reader.finish("message record")?;
    Ok(message)
}

fn decode_body(reader: &mut Reader<'_>, version: u8) -> Result<NewMessage, Invalid> {
    let state = match reader.u8("message state")? {
        0 => MessageState::Received,
        1 => MessageState::Pending,
        2 => MessageState::Delivered,
        3 => MessageState::Failed,
        _ => return Err(Invalid::Value { what: "message state" }),
    };
    let id = reader.array("message id")?;
    let at = reader.varint("message time")?;
    let text = reader.text(CHAT_TEXT_BYTES_MAX, "message text")?.to_owned();
    let rung = match version {
        1 => None,
        _ => match reader.u8("rung")? {
            0 => None,
            1 => Some(Rung::Local),
            2 => Some(Rung::Lan),
            3 => Some(Rung::Direct),
            4 => Some(Rung::Relayed),
            5 => Some(Rung::Mesh),
            6 => Some(Rung::Stored),
            7 => Some(Rung::Punched),
            _ => return Err(Invalid::Value { what: "rung" }),
        },
    };
    Ok(NewMessage { id, state, text, at, rung })
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;
    use proptest::prelude::*;

    fn peer(seed: u64) -> DeviceId {
        SecretKey::from_u64(seed).id()
    }

    fn message(n: u64, state: MessageState) -> NewMessage {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        NewMessage { id, state, text: format!("message {n}"), at: n, rung: Some(Rung::Mesh) }
    }

    fn log() -> ChatLog {
        ChatLog::load(Arc::new(StateDb::in_memory().unwrap())).unwrap()
    }

    fn texts(page: &ChatPage) -> Vec<&str> {
        page.messages.iter().map(|m| m.message.text.as_str()).collect()
    }

    /// These bytes are on people's disks. A change here needs a new record version and a reader for this one.
    #[test]
    fn record_version_2_has_these_bytes_and_version_1_is_still_read() {
        let key = (*peer(1).as_bytes(), 7);
        let delivered = message(5, MessageState::Delivered);
        let bytes = data_encoding::HEXLOWER.encode(&encode(key, &delivered));
        // The last eight bytes are the check.
        let before_check = &bytes[..bytes.len() - 16];
        let version_2 = "0202000000000000000000000000000000050509".to_owned() + "6d65737361676520" + "3505";
        assert_eq!(before_check, version_2);
        let version_1 = data_encoding::HEXLOWER.decode(GOLDEN.as_bytes()).unwrap();
        assert_eq!(decode(key, &version_1), Ok(NewMessage { rung: None, ..delivered }));
    }

    const GOLDEN: &str = concat!(
        "01",                               // record version
        "02",                               // delivered
        "00000000000000000000000000000005", // id
        "05",                               // at
        "096d6573736167652035",             // text
        "9fe19b1cb2386a5b",                 // check
    );

    #[test]
    fn messages_are_listed_in_order_page_by_page_and_per_peer() {
        let log = log();
        for n in 0..5 {
            let done = log.append(&peer(1), &message(n, MessageState::Received)).unwrap();
            assert_eq!(done, Appended::New { sequence: n });
        }
        log.append(&peer(2), &message(9, MessageState::Pending)).unwrap();
        assert_eq!(texts(&log.list(&peer(1), None, 2).unwrap()), ["message 3", "message 4"]);
        assert_eq!(texts(&log.list(&peer(1), Some(3), 2).unwrap()), ["message 1", "message 2"]);
        assert_eq!(texts(&log.list(&peer(1), Some(0), 2).unwrap()), [""; 0]);
        assert_eq!(texts(&log.list(&peer(2), None, 9).unwrap()), ["message 9"]);
    }

    #[test]
    fn a_message_that_comes_twice_is_logged_once() {
        let log = log();
        log.append(&peer(1), &message(1, MessageState::Received)).unwrap();
        let again = log.append(&peer(1), &message(1, MessageState::Received)).unwrap();
        assert_eq!(again, Appended::Duplicate { sequence: 0 });
        assert_eq!(log.list(&peer(1), None, 9).unwrap().messages.len(), 1);
        let other = log.append(&peer(2), &message(1, MessageState::Received)).unwrap();
        assert_eq!(
            other,
            Appended::New { sequence: 0 },
            "ids are the sender's: another peer may use the same"
        );
    }

    #[test]
    fn what_is_pending_is_found_in_order_until_it_is_delivered() {
        let log = log();
        let states =
            [MessageState::Pending, MessageState::Received, MessageState::Failed, MessageState::Pending];
        for (n, state) in (0..).zip(states) {
            log.append(&peer(1), &message(n, state)).unwrap();
        }
        log.append(&peer(2), &message(9, MessageState::Pending)).unwrap();
        let (first, last) = (message(0, MessageState::Pending).id, message(3, MessageState::Pending).id);
        assert_eq!(log.pending(&peer(1)).unwrap(), [(0, first), (3, last)]);
        log.set_state(&peer(1), &first, MessageState::Delivered, None).unwrap();
        assert_eq!(log.pending(&peer(1)).unwrap(), [(3, last)]);
    }

    #[test]
    fn unread_counts_what_the_peer_said_since_the_last_look() {
        let log = log();
        for (n, state) in
            [(0, MessageState::Received), (1, MessageState::Pending), (2, MessageState::Received)]
        {
            log.append(&peer(1), &message(n, state)).unwrap();
        }
        assert_eq!(log.unread(&peer(1)).unwrap(), 2);
        log.mark_read(&peer(1), 1).unwrap();
        log.mark_read(&peer(1), 0).unwrap();
        assert_eq!(log.unread(&peer(1)).unwrap(), 1);
        let unread: Vec<bool> =
            log.list(&peer(1), None, 9).unwrap().messages.iter().map(|m| m.unread).collect();
        assert_eq!(unread, [false, false, true]);
        log.mark_read(&peer(1), u64::MAX).unwrap();
        log.append(&peer(1), &message(3, MessageState::Received)).unwrap();
        assert_eq!(log.unread(&peer(1)).unwrap(), 1, "reading never reaches into the future");
    }

    #[test]
    fn only_our_own_messages_have_a_delivery_to_report() {
        let log = log();
        log.append(&peer(1), &message(0, MessageState::Pending)).unwrap();
        log.append(&peer(1), &message(1, MessageState::Received)).unwrap();
        let pending = message(0, MessageState::Pending).id;
        log.set_state(&peer(1), &pending, MessageState::Delivered, Some(Rung::Stored)).unwrap();
        assert_eq!(log.find(&peer(1), &pending).unwrap().unwrap().rung, Some(Rung::Stored));
        assert_eq!(log.list(&peer(1), None, 9).unwrap().messages[0].message.state, MessageState::Delivered);
        for id in [message(1, MessageState::Received).id, [7; 16]] {
            let told = log.set_state(&peer(1), &id, MessageState::Delivered, None);
            assert!(matches!(told, Err(ChatLogError::Unknown)));
        }
    }

    #[test]
    fn a_full_log_drops_its_oldest_message_and_no_other() {
        let log = log();
        // Filled in one transaction: ten thousand appends would be ten thousand commits.
        let at = *peer(1).as_bytes();
        log.db
            .write(|txn| {
                let (mut messages, mut ids) = (txn.open_table(MESSAGES)?, txn.open_table(IDS)?);
                for n in 0..CHAT_MESSAGES_PER_PEER_MAX {
                    let message = message(n, MessageState::Received);
                    messages.insert((at, n), encode((at, n), &message).as_slice())?;
                    ids.insert((at, message.id), n)?;
                }
                Ok(())
            })
            .unwrap();
        log.append(&peer(1), &message(CHAT_MESSAGES_PER_PEER_MAX, MessageState::Received)).unwrap();
        let (first, next) = log.db.read(|txn| bounds(&txn.open_table(MESSAGES)?, at)).unwrap();
        assert_eq!((first, next), (1, CHAT_MESSAGES_PER_PEER_MAX + 1));
        let id = message(0, MessageState::Received).id;
        assert!(log.db.read(|txn| Ok(txn.open_table(IDS)?.get((at, id))?.is_none())).unwrap());
        assert_eq!(log.list(&peer(1), None, usize::MAX).unwrap().messages.len(), CHAT_LIST_MAX);
    }

    #[test]
    fn clearing_one_peer_leaves_the_others() {
        let log = log();
        for seed in [1, 2] {
            log.append(&peer(seed), &message(1, MessageState::Received)).unwrap();
        }
        log.clear(&peer(1)).unwrap();
        assert!(log.list(&peer(1), None, 9).unwrap().messages.is_empty());
        assert_eq!(log.list(&peer(2), None, 9).unwrap().messages.len(), 1);
        log.append(&peer(1), &message(1, MessageState::Received)).unwrap();
    }

    #[test]
    fn a_damaged_message_is_named_and_leaves_the_others_alone() {
        let log = log();
        for n in 0..3 {
            log.append(&peer(1), &message(n, MessageState::Received)).unwrap();
        }
        let key = (*peer(1).as_bytes(), 1);
        log.db.write(|txn| Ok(txn.open_table(MESSAGES)?.insert(key, &b"bad"[..]).map(drop)?)).unwrap();
        let page = log.list(&peer(1), None, 9).unwrap();
        assert_eq!(texts(&page), ["message 0", "message 2"]);
        assert!(page.unreadable[0].to_string().contains(&peer(1).to_string()));
    }

    #[test]
    fn a_message_over_the_limit_is_refused() {
        let mut long = message(1, MessageState::Pending);
        long.text = "x".repeat(CHAT_TEXT_BYTES_MAX + 1);
        assert!(matches!(log().append(&peer(1), &long), Err(ChatLogError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let key = ([1; 32], 1);
            let sealed = record::seal(MESSAGES.name(), &key_bytes(key), RECORD_VERSION, &BytesMut::from(&body[..]));
            let _ = decode(key, &sealed);
        }
    }
}
