//! What can be decided or noticed about a device, and why a decision is refused.

use honeylink_core::identity::{DeviceId, DeviceType};

use super::db::StateError;
use super::grants::GrantError;
use super::limits::NOTE_BYTES_MAX;
use super::names::InvalidName;
use super::peer::{PairingMethod, Trust};
use super::record::Unreadable;

/// A device that just went through a pairing ceremony.
#[derive(Debug, Clone)]
pub struct NewPeer {
    /// Its id, proved by the ceremony.
    pub id: DeviceId,
    /// The name the user chose for it; `None` takes the known one or else the announced one.
    pub name: Option<String>,
    /// The name it gave itself.
    pub announced_name: String,
    /// What kind of machine it says it is.
    pub device_type: DeviceType,
    /// How it was paired.
    pub method: PairingMethod,
}

/// What to do when another device already has the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnNameTaken {
    /// Fail with `NameTaken`. The caller shows both fingerprints: the device may be an impostor (requirement ID4).
    #[default]
    Refuse,
    /// Store it as `name-2`. Only when the user said so after having been shown both fingerprints.
    Disambiguate,
}

/// What a finder or a connection says about a device, true or not.
#[derive(Debug, Clone, Default)]
pub struct Sighting<'a> {
    /// The name it announces.
    pub name: Option<&'a str>,
    /// The kind of machine it announces.
    pub device_type: Option<DeviceType>,
}

/// A key that claims a name which belongs to another key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "another device is already called `{name}`. Its key is not the same:\n  known:   {}\n  offered: {}\n\
     If it was reinstalled or replaced, forget or revoke the known one first. If you do not know why the key is \
     different, someone may be impersonating it: do not continue.",
    existing.fingerprint(), offered.fingerprint()
)]
pub struct NameTaken {
    /// The name.
    pub name: String,
    /// The device that has it.
    pub existing: DeviceId,
    /// The device that was to get it.
    pub offered: DeviceId,
}

/// Why a pairing could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The key was revoked, which is for ever.
    #[error("{id} was revoked and can never be paired again; the other device needs a new identity")]
    Revoked {
        /// The device.
        id: DeviceId,
    },
    /// The name belongs to another key.
    #[error(transparent)]
    NameTaken(#[from] Box<NameTaken>),
    /// The chosen name is not allowed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// There is a record of this device that can not be read.
    #[error("{0}; forget this device, then pair again")]
    Unreadable(#[source] Box<Unreadable>),
    /// The disk.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Why a known peer could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangePeerError {
    /// No record of it.
    #[error("{id} is not known here; pair with it first")]
    Unknown {
        /// The device.
        id: DeviceId,
    },
    /// Only paired devices can be verified or granted anything.
    #[error("{id} is {trust}, not paired; pair with it first")]
    NotPaired {
        /// The device.
        id: DeviceId,
        /// What it is instead.
        trust: Trust,
    },
    /// The name belongs to another key.
    #[error(transparent)]
    NameTaken(#[from] Box<NameTaken>),
    /// The new name is not allowed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The note is too long.
    #[error("a note can have {NOTE_BYTES_MAX} bytes at most; this has {bytes}")]
    NoteTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The grants can not be changed so.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The disk.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What became of a forgotten peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Nothing is left of it; it has to pair again.
    Removed,
    /// It is revoked and stays so. Its notes and addresses are gone.
    StillRevoked,
    /// There was nothing to forget.
    WasUnknown,
}
