//! Everything of a device that must survive a crash.
//!
//! ```text
//! HOME/                     0700, one node at a time (home)
//!   identity.key            0600, made once, never replaced (key)
//!   state.redb              0600: peers and revocations (trust), transfers, chat, the mesh's records
//!   audit/audit.jsonl       what happened, for the user to read (audit)
//!   logs/  inbox/           config.toml   api.sock
//! ```
//!
//! # What is promised
//!
//! - A call that changes durable state returns `Ok` only after an fsync. A process killed at any instant leaves a store
//!   that opens and that holds everything acknowledged.
//! - Nothing here deletes, replaces or repairs what it can not read. Errors say where the file is and what to do.
//! - One damaged record does not take the others down, and never makes a device more trusted than it was.
//! - Everything has a bound, named in [`limits`].
//!
//! # How to call it
//!
//! All calls are synchronous. Reads of peers come from memory and are cheap enough for any task. Calls that say
//! "blocks for one fsync" take as long as the disk does (some milliseconds, more on a phone): asynchronous code makes them
//! through `tokio::task::spawn_blocking`. Wall time comes in as `now_unix_ms`; nothing here reads a clock.

pub mod audit;
pub mod chat;
mod db;
pub mod grants;
pub mod home;
pub mod key;
pub mod limits;
pub(crate) mod mesh;
mod names;
mod peer;
mod record;
mod rfc3339;
mod transfer_record;
pub mod transfers;
mod trust;
mod trust_change;
mod trust_mirror;

use std::sync::Arc;

pub(crate) use db::sync_parent;
pub use db::{OpenStateError, STATE_VERSION, StateError};
pub use names::{Candidate, InvalidName, ResolveError, check_name, tame_name};
pub use peer::{PairingMethod, PeerRecord, Trust};
pub use record::{RecordError, Unreadable};
pub use trust::TrustStore;
pub use trust_change::{ChangePeerError, Forgotten, NameTaken, NewPeer, OnNameTaken, PairError, Sighting};

use chat::ChatLog;
use db::StateDb;
use home::Home;
use mesh::MeshStore;
use transfers::TransferLog;

/// Why the state of a home could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenStateError),
    /// Its content.
    #[error(transparent)]
    Load(#[from] StateError),
}

/// The durable state of one device.
#[derive(Debug)]
pub struct Store {
    trust: TrustStore,
    transfers: TransferLog,
    chat: ChatLog,
    mesh: MeshStore,
}

impl Store {
    /// Opens the state of a home, or makes it on the first start. Load the identity first: it refuses to make a new key
    /// when there is state already.
    ///
    /// # Errors
    /// [`OpenStoreError`] says what is wrong with the file and what to do. The file is left as it is.
    pub fn open(home: &Home) -> Result<Self, OpenStoreError> {
        Self::load(StateDb::open(&home.layout().state())?)
    }

    /// A store without a file: for tests, and for nodes that are to leave no trace.
    ///
    /// # Errors
    /// None in practice; the signature is that of [`Store::open`].
    pub fn in_memory() -> Result<Self, OpenStoreError> {
        Self::load(StateDb::in_memory()?)
    }

    /// A store on a simulated disk.
    #[cfg(feature = "testing")]
    pub(crate) fn on(disk: crate::testing::network::SimulatedDisk) -> Result<Self, OpenStoreError> {
        Self::load(StateDb::on(disk)?)
    }

    fn load(db: StateDb) -> Result<Self, OpenStoreError> {
        let db = Arc::new(db);
        Ok(Self {
            trust: TrustStore::load(db.clone())?,
            transfers: TransferLog::load(db.clone())?,
            chat: ChatLog::load(db.clone())?,
            mesh: MeshStore::load(db)?,
        })
    }

    /// The devices this one knows.
    #[must_use]
    pub const fn trust(&self) -> &TrustStore {
        &self.trust
    }

    /// The transfers, running and ended.
    #[must_use]
    pub const fn transfers(&self) -> &TransferLog {
        &self.transfers
    }

    /// The messages exchanged with each peer.
    #[must_use]
    pub const fn chat(&self) -> &ChatLog {
        &self.chat
    }

    /// What the mesh must remember.
    pub(crate) const fn mesh(&self) -> &MeshStore {
        &self.mesh
    }

    /// Every record that could not be read when the state was opened, for `doctor` and the health report.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Unreadable> {
        let mut all = self.trust.unreadable();
        all.extend_from_slice(self.transfers.unreadable());
        all.extend_from_slice(self.mesh.unreadable());
        all
    }
}

#[cfg(test)]
mod crash_tests;
