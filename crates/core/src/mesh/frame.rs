//! The frames of the mesh, byte by byte: `docs/wire/mesh.md`, clauses ME-F1 to ME-F16.
//!
//! Radio is why they look like this. At SF12 a byte is 33 ms on air, so hints stand in for addresses, one MAC of
//! eight bytes proves both origin and integrity, and nothing says twice what a receiver knows. All integers are
//! big-endian. What each hop rewrites comes first (see [`super::raw`]), then what only the origin may say; but for the
//! keeping time, which is in few frames.
//!
//! ```text
//! 1  announce with key     1h | prev 2, cost | key 32, seq 20 bit, caps 4 bit, signature 64                 103
//! 2  announce with anchor  2h | prev 2, cost | address 16, anchor 16, seq and caps 3, signature 64          103
//! 3  beacon                3h | prev 2, cost | tag 8, seq and caps 3, index 2, chain value 16                33
//! 4  data                  4f | hop, next 2, prev 2 | dst 3, src 3, seq 4, [index, count, message], [keep], n, mac 8  24 + n
//! 5  receipt               50 | hop, next 2, prev 2 | dst 3, src 3, seq 4, mac 8                             24
//! 6  route request         6r | hop, prev 2, cost | origin 3, target 3, id 2, mac 8                          21
//! 7  route reply           70 | hop, next 2, prev 2, cost, class | origin 3, target 3, id 2, mac 8           24
//! 8  fragment status       80 | hop, next 2, prev 2 | dst 3, src 3, seq 4, bitmap 1..32, mac 8               25..56
//! 9  signed                90 | hop, next 2, prev 2 | dst 3, key 32, seq 4, type, body 0..64, signature 64  110 + n
//! 10 route error           a0 | hop, next 2, prev 2 | dst 3, src 3, seq 4                                    16
//! 11 custody accepted      b0 | next 2, prev 2 | frame id 8, mac 8                                           21
//! 12 hop ack               c0 | next 2, prev 2 | first 4 of the frame id                                      9
//! 13 routed request        dr | hop, next 2, prev 2, cost | origin 3, target 3, id 2, mac 8                   23
//! 15 IP control            f0 | deterministic CBOR                                                        1 + n
//! ```
//!
//! h: hops taken. f: 1 fragment, 2 ratcheted keys, 4 receipt wanted, 8 may be kept. r: the ring. Every other flag is zero.
//!
//! Decoding is total and copies nothing: variable parts are slices of the input. A value has one encoding, so that a
//! frame re-encoded is the frame received.

mod codec;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(super) use codec::seq_caps_bytes;

use super::hint::{Address, Far, Near, Tag};
pub use super::raw::{
    FRAGMENT_HEADER_BYTES, FrameId, KEEP_BYTES, Kind, MAC_BYTES, Mac, Rewrite, identity, rewrite,
    rewrite_keep,
};
pub use super::units::{Caps, Cost, FragmentSet, Hop, Keep, Priority, Ring, Seq20};
use crate::limits::{MESH_FRAME_BYTES_MAX, MESH_RADIO_FRAME_BYTES_MAX};

/// Bytes of a [`Data`] frame around its payload, without a fragment header.
pub const DATA_OVERHEAD_BYTES: usize = 24;

/// What a frame came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortKind {
    /// A radio: everybody near hears it. Frames hold at most [`MESH_RADIO_FRAME_BYTES_MAX`].
    Broadcast,
    /// A connection to one neighbour. Frames hold at most [`MESH_FRAME_BYTES_MAX`].
    PointToPoint,
}

impl PortKind {
    /// The largest frame, in bytes.
    #[must_use]
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            Self::Broadcast => MESH_RADIO_FRAME_BYTES_MAX,
            Self::PointToPoint => MESH_FRAME_BYTES_MAX,
        }
    }
}

/// An announce that brings the key, for those who never heard of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceKey {
    /// Transmissions before this one, at most [`MESH_ANNOUNCE_HOPS_MAX`](crate::limits::MESH_ANNOUNCE_HOPS_MAX); unsigned.
    pub hops: u8,
    /// Who sent this copy; unsigned.
    pub prev: Near,
    /// What the way from the device cost so far; unsigned.
    pub cost: Cost,
    /// The device id. Not yet known to be a point on the curve.
    pub key: [u8; 32],
    /// Its number.
    pub seq: Seq20,
    /// What the device offers.
    pub caps: Caps,
    /// Over all but the unsigned.
    pub signature: [u8; 64],
}

/// An announce that brings a hash chain's anchor, for those who know the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceAnchor {
    /// As in [`AnnounceKey`].
    pub hops: u8,
    /// As in [`AnnounceKey`].
    pub prev: Near,
    /// As in [`AnnounceKey`].
    pub cost: Cost,
    /// Whose key.
    pub address: Address,
    /// Value 0 of the chain that the beacons of this announce reveal.
    pub anchor: [u8; 16],
    /// Its number.
    pub seq: Seq20,
    /// What the device offers.
    pub caps: Caps,
    /// Over all but the unsigned.
    pub signature: [u8; 64],
}

/// A refresh of an [`AnnounceAnchor`]: the next value of its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// As in [`AnnounceKey`].
    pub hops: u8,
    /// As in [`AnnounceKey`].
    pub prev: Near,
    /// As in [`AnnounceKey`].
    pub cost: Cost,
    /// Whose.
    pub tag: Tag,
    /// The number of the announce it refreshes.
    pub seq: Seq20,
    /// As in that announce: the chain is bound to them.
    pub caps: Caps,
    /// Which value of the chain, from 1.
    pub index: u16,
    /// The value.
    pub value: [u8; 16],
}

/// Which part of a message a [`Data`] frame is (ME-F8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fragment {
    /// Its place, from 0; below `count`.
    pub index: u8,
    /// How many there are, 2 to [`MESH_FRAGMENTS_MAX`](crate::limits::MESH_FRAGMENTS_MAX).
    pub count: u8,
    /// Tells messages apart whose numbers follow each other.
    pub message: u8,
}

/// A message, or a fragment of one, sealed for its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// Hops and priority; not under the MAC.
    pub hop: Hop,
    /// Whom this transmission is for; not under the MAC.
    pub next: Near,
    /// Who sent this copy; not under the MAC.
    pub prev: Near,
    /// For whom.
    pub dst: Far,
    /// From whom.
    pub src: Far,
    /// The source's number of this frame: never used twice.
    pub seq: u32,
    /// The source asks for a [`Receipt`].
    pub receipt: bool,
    /// Sealed with a ratchet's keys, not with the static ones.
    pub ratcheted: bool,
    /// Set if the message did not fit one frame.
    pub fragment: Option<Fragment>,
    /// Set if store nodes may keep it, and for how much longer: whoever kept it says what is left. Counts as none for the
    /// MAC, so it is a hint as what hops say is.
    pub keep: Option<Keep>,
    /// Ciphertext; before sealing and after opening, plaintext.
    pub payload: Bytes,
    /// The source's, for the target.
    pub mac: Mac,
}

impl Data {
    /// The number of its message: of a fragmented one, its first fragment's.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.seq.wrapping_sub(self.fragment.map_or(0, |fragment| fragment.index.into()))
    }
}

/// The target has the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// As in [`Data`].
    pub hop: Hop,
    /// As in [`Data`].
    pub next: Near,
    /// As in [`Data`].
    pub prev: Near,
    /// Who sent the message.
    pub dst: Far,
    /// Who has it.
    pub src: Far,
    /// The message's number; of a fragmented one, its first fragment's.
    pub seq: u32,
    /// The target's, for the source.
    pub mac: Mac,
}

/// Who knows a way to `target`? Spreads over [`Ring::hops_max`] hops, until somebody does: from there it goes along that
/// way, as kind 13.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRequest {
    /// How far it may spread.
    pub ring: Ring,
    /// As in [`Data`].
    pub hop: Hop,
    /// Whom this transmission is for, once somebody knew a way; `None` while it spreads.
    pub next: Option<Near>,
    /// As in [`Data`].
    pub prev: Near,
    /// What the way from the origin cost so far; not under the MAC.
    pub cost: Cost,
    /// Who asks.
    pub origin: Far,
    /// For whom.
    pub target: Far,
    /// The origin's number of this question.
    pub id: u16,
    /// The origin's, for the target; nobody else can check it.
    pub mac: Mac,
}

/// The target's answer to a [`RouteRequest`], along the way it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReply {
    /// As in [`Data`].
    pub hop: Hop,
    /// As in [`Data`].
    pub next: Near,
    /// As in [`Data`].
    pub prev: Near,
    /// What the way from the target cost so far; not under the MAC.
    pub cost: Cost,
    /// The narrowest link of the way so far, as the wire number of its class; not under the MAC.
    pub class: u8,
    /// Who asked.
    pub origin: Far,
    /// Who answers.
    pub target: Far,
    /// The question's number.
    pub id: u16,
    /// The target's, for the origin.
    pub mac: Mac,
}

/// Which fragments of a message the target has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentStatus {
    /// As in [`Data`].
    pub hop: Hop,
    /// As in [`Data`].
    pub next: Near,
    /// As in [`Data`].
    pub prev: Near,
    /// Who sends the message.
    pub dst: Far,
    /// Who receives it.
    pub src: Far,
    /// The first fragment's number.
    pub seq: u32,
    /// The fragments that arrived.
    pub arrived: FragmentSet,
    /// The target's, for the source.
    pub mac: Mac,
}

/// Something signed, for a device that shares no key with the sender yet, or for everybody. See the module `signed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Hops and priority; unsigned.
    pub hop: Hop,
    /// As in [`Data`]; unsigned.
    pub next: Near,
    /// As in [`Data`]; unsigned.
    pub prev: Near,
    /// For whom; [`Far::EVERYBODY`] for a broadcast.
    pub dst: Far,
    /// The signer's device id. Not yet known to be a point on the curve.
    pub key: [u8; 32],
    /// The signer's number of this frame, from the same counter as [`Data::seq`]: never used twice.
    pub seq: u32,
    /// What the body is. Relays forward types they do not know.
    pub kind: u8,
    /// At most [`MESH_SIGNED_BODY_BYTES_MAX`](crate::limits::MESH_SIGNED_BODY_BYTES_MAX) bytes.
    pub body: Bytes,
    /// Over all but the unsigned, and the whole address of the target.
    pub signature: [u8; 64],
}

/// A way broke. Nobody proves it, so it demotes a route and never removes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// As in [`Data`].
    pub hop: Hop,
    /// As in [`Data`].
    pub next: Near,
    /// As in [`Data`].
    pub prev: Near,
    /// For whom the frame was that could not go on.
    pub dst: Far,
    /// From whom it was: the error travels there.
    pub src: Far,
    /// Its number.
    pub seq: u32,
}

/// A store node answers for a message from now on. Goes one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyAccepted {
    /// Who deposited it.
    pub next: Near,
    /// Who has it now.
    pub prev: Near,
    /// The [`FrameId`] of the data.
    pub frame: FrameId,
    /// The custodian's, for the depositor.
    pub mac: Mac,
}

/// A neighbour has a frame. Sent only where the frame's own next transmission cannot be overheard. Goes one hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopAck {
    /// Who sent it the frame.
    pub next: Near,
    /// Who has it.
    pub prev: Near,
    /// The first half of the frame's [`FrameId`].
    pub frame: [u8; 4],
}

/// Deterministic CBOR between the two ends of one connection. See the module `control`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpControl {
    /// At most [`MESH_CONTROL_BYTES_MAX`](crate::limits::MESH_CONTROL_BYTES_MAX) bytes.
    pub body: Bytes,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant holds the struct of its name, which is documented")]
pub enum Frame {
    AnnounceKey(AnnounceKey),
    AnnounceAnchor(AnnounceAnchor),
    Beacon(Beacon),
    Data(Data),
    Receipt(Receipt),
    RouteRequest(RouteRequest),
    RouteReply(RouteReply),
    FragmentStatus(FragmentStatus),
    Signed(Signed),
    RouteError(RouteError),
    CustodyAccepted(CustodyAccepted),
    HopAck(HopAck),
    IpControl(IpControl),
}

impl Frame {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AnnounceKey(_) => Kind::AnnounceKey,
            Self::AnnounceAnchor(_) => Kind::AnnounceAnchor,
            Self::Beacon(_) => Kind::Beacon,
            Self::Data(_) => Kind::Data,
            Self::Receipt(_) => Kind::Receipt,
            Self::RouteRequest(RouteRequest { next: None, .. }) => Kind::RouteRequest,
            Self::RouteRequest(RouteRequest { next: Some(_), .. }) => Kind::RoutedRequest,
            Self::RouteReply(_) => Kind::RouteReply,
            Self::FragmentStatus(_) => Kind::FragmentStatus,
            Self::Signed(_) => Kind::Signed,
            Self::RouteError(_) => Kind::RouteError,
            Self::CustodyAccepted(_) => Kind::CustodyAccepted,
            Self::HopAck(_) => Kind::HopAck,
            Self::IpControl(_) => Kind::IpControl,
        }
    }
}
