//! [`Reach`]: which addresses a node has anything to do with.

use std::net::IpAddr;

use crate::discovery::interfaces::{self, Interface};

/// How far a node's packets may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// This machine only: for tests and demonstrations.
    Loopback,
    /// The local network. Nothing is sent beyond it.
    #[default]
    Lan,
    /// Wherever the configured relays and lookups lead.
    Wide,
}

impl Reach {
    /// The word used in configuration and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Lan => "lan",
            Self::Wide => "wide",
        }
    }

    /// Whether packets may go to `ip` at all, given this machine's interfaces.
    pub(crate) fn covers(self, ip: IpAddr, interfaces: &[Interface]) -> bool {
        match self {
            Self::Loopback => ip.to_canonical().is_loopback(),
            Self::Lan => interfaces::is_on_lan(ip, interfaces),
            Self::Wide => true,
        }
    }
}
