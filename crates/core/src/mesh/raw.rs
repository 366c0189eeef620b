//! Frames as a relay sees them: bytes whose few changing fields all sit at the front.
//!
//! Every frame is `b0 | what each hop rewrites | what the origin fixed | MAC or signature`. So a relay rewrites a received
//! frame where it lies and never re-encodes it, the MAC covers one range, and the identity by which copies are told
//! from new frames is a hash of that range. The layouts are ME-F2 of `docs/wire/mesh.md`.

use sha2::{Digest as _, Sha256};

use super::hint::Near;
use super::units::{Cost, Hop, Keep};
use crate::limits::{MESH_ANNOUNCE_HOPS_MAX, MESH_HOPS_MAX};
use crate::wire::Invalid;

/// Bytes of a truncated MAC.
pub const MAC_BYTES: usize = 8;

/// A truncated MAC as it stands at the end of a frame.
pub type Mac = [u8; MAC_BYTES];

/// Flag of data: a fragment header follows.
pub(super) const FLAG_FRAGMENT: u8 = 1;
/// Flag of data: it may be kept, and a byte says for how long.
pub(super) const FLAG_KEEP: u8 = 8;
/// Bytes of data before its fragment header, keeping time and payload.
const DATA_HEAD_BYTES: usize = 16;
/// Bytes that a fragment header adds.
pub const FRAGMENT_HEADER_BYTES: usize = 3;
/// Bytes that the leave to keep a frame adds.
pub const KEEP_BYTES: usize = 1;

/// Tells one frame from every other: a hash of what its origin fixed, MAC included. Copies that came over different ways
/// have the same; a copy that somebody changed has another, so it cannot make relays drop the true one.
pub type FrameId = [u8; 8];

/// What a frame is: the high four bits of its first byte (ME-F1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Announce that brings the key.
    AnnounceKey = 1,
    /// Announce that brings a hash chain's anchor.
    AnnounceAnchor = 2,
    /// Cheap refresh of an announce.
    Beacon = 3,
    /// A message or a fragment of one.
    Data = 4,
    /// The target has the message.
    Receipt = 5,
    /// Who knows a way?
    RouteRequest = 6,
    /// The target answers.
    RouteReply = 7,
    /// Which fragments the target has.
    FragmentStatus = 8,
    /// Signed for whoever does not share a key yet.
    Signed = 9,
    /// A way broke.
    RouteError = 10,
    /// A store node answers for a message.
    CustodyAccepted = 11,
    /// A neighbour has a frame.
    HopAck = 12,
    /// A route request that goes along a way somebody knows, to one neighbour.
    RoutedRequest = 13,
    /// CBOR, between two ends of one connection only.
    IpControl = 15,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::AnnounceKey,
        Self::AnnounceAnchor,
        Self::Beacon,
        Self::Data,
        Self::Receipt,
        Self::RouteRequest,
        Self::RouteReply,
        Self::FragmentStatus,
        Self::Signed,
        Self::RouteError,
        Self::CustodyAccepted,
        Self::HopAck,
        Self::RoutedRequest,
        Self::IpControl,
    ];

    /// The kind in a frame's first byte.
    #[must_use]
    pub fn of(first: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == first >> 4)
    }

    /// The word in traces and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnnounceKey => "announce-key",
            Self::AnnounceAnchor => "announce-anchor",
            Self::Beacon => "beacon",
            Self::Data => "data",
            Self::Receipt => "receipt",
            Self::RouteRequest => "route-request",
            Self::RouteReply => "route-reply",
            Self::FragmentStatus => "fragment-status",
            Self::Signed => "signed",
            Self::RouteError => "route-error",
            Self::CustodyAccepted => "custody-accepted",
            Self::HopAck => "hop-ack",
            Self::RoutedRequest => "routed-request",
            Self::IpControl => "ip-control",
        }
    }

    /// Where its fields are.
    #[must_use]
    pub const fn layout(self) -> Layout {
        const NONE: Layout =
            Layout { hop: None, next: None, prev: None, cost: None, class: None, fixed: 1, mac: false };
        match self {
            Self::AnnounceKey | Self::AnnounceAnchor | Self::Beacon => {
                Layout { prev: Some(1), cost: Some(3), fixed: 4, ..NONE }
            }
            Self::Data | Self::Receipt | Self::FragmentStatus => {
                Layout { hop: Some(1), next: Some(2), prev: Some(4), fixed: 6, mac: true, ..NONE }
            }
            Self::Signed | Self::RouteError => {
                Layout { hop: Some(1), next: Some(2), prev: Some(4), fixed: 6, ..NONE }
            }
            Self::RouteRequest => {
                Layout { hop: Some(1), prev: Some(2), cost: Some(4), fixed: 5, mac: true, ..NONE }
            }
            Self::RoutedRequest => Layout {
                hop: Some(1),
                next: Some(2),
                prev: Some(4),
                cost: Some(6),
                fixed: 7,
                mac: true,
                ..NONE
            },
            Self::RouteReply => Layout {
                hop: Some(1),
                next: Some(2),
                prev: Some(4),
                cost: Some(6),
                class: Some(7),
                fixed: 8,
                mac: true,
            },
            Self::CustodyAccepted => Layout { next: Some(1), prev: Some(3), fixed: 5, mac: true, ..NONE },
            Self::HopAck => Layout { next: Some(1), prev: Some(3), fixed: 5, ..NONE },
            Self::IpControl => NONE,
        }
    }

    /// Whether the low four bits of the first byte count hops, and so belong to what each hop rewrites.
    const fn counts_hops_in_first_byte(self) -> bool {
        matches!(self, Self::AnnounceKey | Self::AnnounceAnchor | Self::Beacon)
    }
}

/// Where the fields of a kind stand, in bytes from the start; `None` where the kind has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The [`Hop`] byte.
    pub hop: Option<u8>,
    /// The next hop's hint.
    pub next: Option<u8>,
    /// The hint of whoever sent this copy.
    pub prev: Option<u8>,
    /// The cost so far.
    pub cost: Option<u8>,
    /// The narrowest link so far.
    pub class: Option<u8>,
    /// Where the part begins that nobody but the origin may change.
    pub fixed: u8,
    /// Whether the last [`MAC_BYTES`] bytes are a MAC over that part.
    pub mac: bool,
}

/// What the next transmission of a frame says. Fields that a kind does not have are not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Hops taken before this transmission.
    pub hops: u8,
    /// Whom it is for.
    pub next: Near,
    /// Who sends it.
    pub prev: Near,
    /// What the way cost up to here.
    pub cost: Cost,
    /// The narrowest link of the way, as the wire number of its class.
    pub class: u8,
}

/// Writes `to` over the changing fields of an encoded frame; its priority stays.
///
/// # Errors
/// [`Invalid`] if the bytes are no frame, or if the frame has come as far as its kind may. Nothing was written then.
pub fn rewrite(frame: &mut [u8], to: &Rewrite) -> Result<(), Invalid> {
    let first = *frame.first().ok_or(Invalid::Truncated { what: "mesh frame" })?;
    let kind = Kind::of(first).ok_or(Invalid::Value { what: "mesh frame kind" })?;
    let layout = kind.layout();
    if frame.len() < usize::from(layout.fixed) {
        return Err(Invalid::Truncated { what: "mesh frame" });
    }
    let in_first = kind.counts_hops_in_first_byte();
    let max = if in_first { MESH_ANNOUNCE_HOPS_MAX } else { MESH_HOPS_MAX };
    if to.hops > max && (in_first || layout.hop.is_some()) {
        return Err(Invalid::TooLarge { what: "mesh hops", size: to.hops.into(), max: max.into() });
    }
    if in_first {
        put(frame, Some(0), &[(first & 0xf0) | to.hops]);
    }
    if let Some(hop) = layout.hop.and_then(|at| frame.get(usize::from(at))) {
        let hop = Hop { hops: to.hops, ..Hop::from_byte(*hop) };
        put(frame, layout.hop, &[hop.to_byte()]);
    }
    put(frame, layout.next, &to.next.0.to_be_bytes());
    put(frame, layout.prev, &to.prev.0.to_be_bytes());
    put(frame, layout.cost, &[to.cost.0]);
    put(frame, layout.class, &[to.class]);
    Ok(())
}

fn put(frame: &mut [u8], at: Option<u8>, bytes: &[u8]) {
    let Some(at) = at.map(usize::from) else { return };
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Writes how much longer a frame may be kept, where its origin gave leave to keep it; else nothing (ME-D1).
pub fn rewrite_keep(frame: &mut [u8], keep: Keep) {
    if let Some(place) = keep_at(frame).and_then(|at| frame.get_mut(at)) {
        *place = keep.0;
    }
}

/// Where the keeping time of an encoded frame stands, if it has one. It is the one field behind the front that others than
/// the origin write: only who keeps a frame does, and most frames have none.
fn keep_at(frame: &[u8]) -> Option<usize> {
    let first = *frame.first()?;
    let kept = Kind::of(first)? == Kind::Data && first & FLAG_KEEP != 0;
    let header = if first & FLAG_FRAGMENT == 0 { 0 } else { FRAGMENT_HEADER_BYTES };
    kept.then_some(DATA_HEAD_BYTES + header)
}

/// What the origin of a frame fixed, as it counts for identities and MACs.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<'a> {
    first: u8,
    parts: [&'a [u8]; 3],
}

impl<'a> Fixed<'a> {
    /// All of it, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(core::slice::from_ref(&self.first)).chain(self.parts)
    }

    fn of(frame: &'a [u8], to: usize) -> Option<Self> {
        let first = *frame.first()?;
        let kind = Kind::of(first)?;
        let from = usize::from(kind.layout().fixed);
        let parts = match keep_at(frame) {
            // What is left of it changes on the way, and so it counts as none.
            Some(at) => [frame.get(from..at)?, &[0], frame.get(at + KEEP_BYTES..to)?],
            None => [frame.get(from..to)?, &[], &[]],
        };
        Some(Self { first: first_as_fixed(kind, first), parts })
    }
}

/// The [`FrameId`] of an encoded frame (ME-F5); `None` if the bytes are no frame.
#[must_use]
pub fn identity(frame: &[u8]) -> Option<FrameId> {
    let fixed = Fixed::of(frame, frame.len())?;
    let digest = fixed.parts().fold(Sha256::new(), Sha256::chain_update).finalize();
    let mut id = FrameId::default();
    id.copy_from_slice(&digest[..8]);
    Some(id)
}

/// What a MAC covers: the first byte and the fixed part without the MAC itself. `None` if the frame has no MAC.
#[must_use]
pub fn maced_part(frame: &[u8]) -> Option<Fixed<'_>> {
    if !Kind::of(*frame.first()?)?.layout().mac {
        return None;
    }
    Fixed::of(frame, frame.len().checked_sub(MAC_BYTES)?)
}

/// The first byte without what changes on the way.
const fn first_as_fixed(kind: Kind, first: u8) -> u8 {
    match kind {
        Kind::AnnounceKey | Kind::AnnounceAnchor | Kind::Beacon => first & 0xf0,
        // A relay turns one form into the other; the question stays the same.
        Kind::RoutedRequest => ((Kind::RouteRequest as u8) << 4) | (first & 0x0f),
        Kind::Data
        | Kind::Receipt
        | Kind::RouteRequest
        | Kind::RouteReply
        | Kind::FragmentStatus
        | Kind::Signed
        | Kind::RouteError
        | Kind::CustodyAccepted
        | Kind::HopAck
        | Kind::IpControl => first,
    }
}
