//! Frames to bytes and back.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    AnnounceAnchor, AnnounceKey, Beacon, Caps, Cost, CustodyAccepted, Data, Fragment, FragmentSet,
    FragmentStatus, Frame, FrameId, Hop, HopAck, IpControl, Keep, Kind, MAC_BYTES, PortKind, Receipt, Ring,
    RouteError, RouteReply, RouteRequest, Seq20, Signed, identity,
};
use crate::limits::{
    MESH_ANNOUNCE_HOPS_MAX, MESH_CHAIN_VALUES_MAX, MESH_CLASS_MAX, MESH_CONTROL_BYTES_MAX,
    MESH_FRAGMENTS_MAX, MESH_SIGNED_BODY_BYTES_MAX,
};
use crate::mesh::hint::{Address, Far, Near, Tag};
use crate::mesh::raw::{FLAG_FRAGMENT, FLAG_KEEP};
use crate::wire::{Invalid, Reader};

const FLAG_RATCHETED: u8 = 2;
const FLAG_RECEIPT: u8 = 4;

const SIGNATURE_BYTES: usize = 64;

impl Frame {
    /// Reads one frame that came in by a port of kind `port` (ME-F1 to ME-F4). Variable parts are slices of `bytes`.
    ///
    /// # Errors
    /// [`Invalid`], naming the field: not a frame of this version, too large for the port, cut short or with something
    /// left over, a flag that means nothing, a second way to write a value that has another.
    pub fn decode(bytes: &Bytes, port: PortKind) -> Result<Self, Invalid> {
        let max = port.frame_bytes_max();
        if bytes.len() > max {
            return Err(Invalid::TooLarge { what: "mesh frame", size: bytes.len() as u64, max: max as u64 });
        }
        let mut r = Reader::new(bytes);
        let first = r.u8("mesh frame")?;
        let flags = first & 0x0f;
        let kind = Kind::of(first).ok_or(Invalid::Value { what: "mesh frame kind" })?;
        let takes_flags = match kind {
            Kind::AnnounceKey | Kind::AnnounceAnchor | Kind::Beacon => flags <= MESH_ANNOUNCE_HOPS_MAX,
            // Every flag of data has a meaning.
            Kind::Data => true,
            Kind::RouteRequest | Kind::RoutedRequest => flags <= Ring::WIDEST.number(),
            Kind::IpControl => flags == 0 && port == PortKind::PointToPoint,
            Kind::Receipt
            | Kind::RouteReply
            | Kind::FragmentStatus
            | Kind::Signed
            | Kind::RouteError
            | Kind::CustodyAccepted
            | Kind::HopAck => flags == 0,
        };
        if !takes_flags {
            return Err(Invalid::Value { what: "mesh frame flags" });
        }
        let frame = Self::decode_body(kind, flags, &mut r, bytes)?;
        r.finish("mesh frame")?;
        Ok(frame)
    }

    fn decode_body(kind: Kind, flags: u8, r: &mut Reader<'_>, bytes: &Bytes) -> Result<Self, Invalid> {
        Ok(match kind {
            Kind::AnnounceKey => Self::AnnounceKey(AnnounceKey::decode(flags, r)?),
            Kind::AnnounceAnchor => Self::AnnounceAnchor(AnnounceAnchor::decode(flags, r)?),
            Kind::Beacon => Self::Beacon(Beacon::decode(flags, r)?),
            Kind::Data => Self::Data(Data::decode(flags, r, bytes)?),
            Kind::Receipt => Self::Receipt(Receipt::decode(r)?),
            Kind::RouteRequest => Self::RouteRequest(RouteRequest::decode(flags, false, r)?),
            Kind::RoutedRequest => Self::RouteRequest(RouteRequest::decode(flags, true, r)?),
            Kind::RouteReply => Self::RouteReply(RouteReply::decode(r)?),
            Kind::FragmentStatus => Self::FragmentStatus(FragmentStatus::decode(r)?),
            Kind::Signed => Self::Signed(Signed::decode(r, bytes)?),
            Kind::RouteError => Self::RouteError(RouteError::decode(r)?),
            Kind::CustodyAccepted => Self::CustodyAccepted(CustodyAccepted {
                next: near(r)?,
                prev: near(r)?,
                frame: r.array("frame id")?,
                mac: r.array("mac")?,
            }),
            Kind::HopAck => {
                Self::HopAck(HopAck { next: near(r)?, prev: near(r)?, frame: r.array("frame id")? })
            }
            Kind::IpControl => {
                Self::IpControl(IpControl { body: rest(r, bytes, 0, MESH_CONTROL_BYTES_MAX, "IP control")? })
            }
        })
    }

    /// Appends the frame's bytes.
    ///
    /// Values that the format cannot hold are the caller's mistake; hops are clamped to their maximum, and a frame whose
    /// parts are over their limits is one that [`Frame::decode`] refuses.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::AnnounceKey(frame) => frame.encode(out),
            Self::AnnounceAnchor(frame) => frame.encode(out),
            Self::Beacon(frame) => frame.encode(out),
            Self::Data(frame) => frame.encode(out),
            Self::Receipt(frame) => frame.encode(out),
            Self::RouteRequest(frame) => frame.encode(out),
            Self::RouteReply(frame) => frame.encode(out),
            Self::FragmentStatus(frame) => frame.encode(out),
            Self::Signed(frame) => frame.encode(out),
            Self::RouteError(frame) => frame.encode(out),
            Self::CustodyAccepted(frame) => frame.encode(out),
            Self::HopAck(frame) => {
                put_first(out, Kind::HopAck, 0);
                put_near(out, [frame.next, frame.prev]);
                out.put_slice(&frame.frame);
            }
            Self::IpControl(frame) => {
                put_first(out, Kind::IpControl, 0);
                out.put_slice(&frame.body);
            }
        }
    }

    /// The frame's bytes on their own.
    #[must_use]
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out
    }

    /// What tells this frame from every other ([`FrameId`]). Of bytes already at hand, [`identity`] is cheaper.
    #[must_use]
    pub fn identity(&self) -> FrameId {
        identity(&self.to_bytes()).unwrap_or_default()
    }
}

impl AnnounceKey {
    fn decode(hops: u8, r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (prev, cost) = (near(r)?, cost(r)?);
        let key = r.array("announced key")?;
        let (seq, caps) = seq_caps(r)?;
        Ok(Self { hops, prev, cost, key, seq, caps, signature: r.array("signature")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::AnnounceKey, self.hops.min(MESH_ANNOUNCE_HOPS_MAX));
        put_near(out, [self.prev]);
        out.put_u8(self.cost.0);
        out.put_slice(&self.key);
        out.put_slice(&seq_caps_bytes(self.seq, self.caps));
        out.put_slice(&self.signature);
    }
}

impl AnnounceAnchor {
    fn decode(hops: u8, r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (prev, cost) = (near(r)?, cost(r)?);
        let address = Address(r.array("announced address")?);
        let anchor = r.array("chain anchor")?;
        let (seq, caps) = seq_caps(r)?;
        Ok(Self { hops, prev, cost, address, anchor, seq, caps, signature: r.array("signature")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::AnnounceAnchor, self.hops.min(MESH_ANNOUNCE_HOPS_MAX));
        put_near(out, [self.prev]);
        out.put_u8(self.cost.0);
        out.put_slice(&self.address.0);
        out.put_slice(&self.anchor);
        out.put_slice(&seq_caps_bytes(self.seq, self.caps));
        out.put_slice(&self.signature);
    }
}

impl Beacon {
    fn decode(hops: u8, r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (prev, cost) = (near(r)?, cost(r)?);
        let tag = Tag(r.array("beacon tag")?);
        let (seq, caps) = seq_caps(r)?;
        let index = r.u16("chain index")?;
        if !(1..=MESH_CHAIN_VALUES_MAX).contains(&index) {
            // Value 0 is the anchor, which the announce itself carries (ME-F16).
            return Err(Invalid::Value { what: "chain index" });
        }
        Ok(Self { hops, prev, cost, tag, seq, caps, index, value: r.array("chain value")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::Beacon, self.hops.min(MESH_ANNOUNCE_HOPS_MAX));
        put_near(out, [self.prev]);
        out.put_u8(self.cost.0);
        out.put_slice(&self.tag.0);
        out.put_slice(&seq_caps_bytes(self.seq, self.caps));
        out.put_u16(self.index);
        out.put_slice(&self.value);
    }
}

impl Data {
    fn decode(flags: u8, r: &mut Reader<'_>, bytes: &Bytes) -> Result<Self, Invalid> {
        let (hop, next, prev) = (hop(r)?, near(r)?, near(r)?);
        let (dst, src, seq) = (far(r)?, far(r)?, r.u32("data number")?);
        let fragment = if flags & FLAG_FRAGMENT == 0 { None } else { Some(Fragment::decode(r)?) };
        let keep = if flags & FLAG_KEEP == 0 { None } else { Some(Keep(r.u8("time to keep data")?)) };
        let payload = rest(r, bytes, MAC_BYTES, usize::MAX, "data payload")?;
        Ok(Self {
            hop,
            next,
            prev,
            dst,
            src,
            seq,
            receipt: flags & FLAG_RECEIPT != 0,
            ratcheted: flags & FLAG_RATCHETED != 0,
            fragment,
            keep,
            payload,
            mac: r.array("mac")?,
        })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut flags = 0;
        flags |= if self.fragment.is_some() { FLAG_FRAGMENT } else { 0 };
        flags |= if self.ratcheted { FLAG_RATCHETED } else { 0 };
        flags |= if self.receipt { FLAG_RECEIPT } else { 0 };
        flags |= if self.keep.is_some() { FLAG_KEEP } else { 0 };
        put_first(out, Kind::Data, flags);
        out.put_u8(self.hop.to_byte());
        put_near(out, [self.next, self.prev]);
        put_ends(out, self.dst, self.src, self.seq);
        if let Some(Fragment { index, count, message }) = self.fragment {
            out.put_slice(&[index, count, message]);
        }
        if let Some(Keep(code)) = self.keep {
            out.put_u8(code);
        }
        out.put_slice(&self.payload);
        out.put_slice(&self.mac);
    }
}

impl Fragment {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let [index, count, message] = r.array("fragment header")?;
        if !(2..=MESH_FRAGMENTS_MAX).contains(&count) || index >= count {
            return Err(Invalid::Value { what: "fragment header" });
        }
        Ok(Self { index, count, message })
    }
}

impl Receipt {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (hop, next, prev) = (hop(r)?, near(r)?, near(r)?);
        let (dst, src, seq) = (far(r)?, far(r)?, r.u32("data number")?);
        Ok(Self { hop, next, prev, dst, src, seq, mac: r.array("mac")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::Receipt, 0);
        out.put_u8(self.hop.to_byte());
        put_near(out, [self.next, self.prev]);
        put_ends(out, self.dst, self.src, self.seq);
        out.put_slice(&self.mac);
    }
}

impl RouteRequest {
    fn decode(flags: u8, routed: bool, r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (ring, hop) = (Ring::new(flags)?, hop(r)?);
        let next = if routed { Some(near(r)?) } else { None };
        let (prev, cost) = (near(r)?, cost(r)?);
        let (origin, target, id) = (far(r)?, far(r)?, r.u16("request id")?);
        Ok(Self { ring, hop, next, prev, cost, origin, target, id, mac: r.array("mac")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let kind = if self.next.is_some() { Kind::RoutedRequest } else { Kind::RouteRequest };
        put_first(out, kind, self.ring.number());
        out.put_u8(self.hop.to_byte());
        if let Some(next) = self.next {
            put_near(out, [next]);
        }
        put_near(out, [self.prev]);
        out.put_u8(self.cost.0);
        out.put_slice(&self.origin.0);
        out.put_slice(&self.target.0);
        out.put_u16(self.id);
        out.put_slice(&self.mac);
    }
}

impl RouteReply {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (hop, next, prev, cost) = (hop(r)?, near(r)?, near(r)?, cost(r)?);
        let class = r.u8("link class")?;
        if class > MESH_CLASS_MAX {
            return Err(Invalid::Value { what: "link class" });
        }
        let (origin, target, id) = (far(r)?, far(r)?, r.u16("request id")?);
        Ok(Self { hop, next, prev, cost, class, origin, target, id, mac: r.array("mac")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::RouteReply, 0);
        out.put_u8(self.hop.to_byte());
        put_near(out, [self.next, self.prev]);
        out.put_u8(self.cost.0);
        out.put_u8(self.class);
        out.put_slice(&self.origin.0);
        out.put_slice(&self.target.0);
        out.put_u16(self.id);
        out.put_slice(&self.mac);
    }
}

impl FragmentStatus {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (hop, next, prev) = (hop(r)?, near(r)?, near(r)?);
        let (dst, src, seq) = (far(r)?, far(r)?, r.u32("data number")?);
        let len =
            r.remaining().checked_sub(MAC_BYTES).ok_or(Invalid::Truncated { what: "fragment bitmap" })?;
        let arrived = FragmentSet::from_bytes(r.take(len, "fragment bitmap")?)?;
        Ok(Self { hop, next, prev, dst, src, seq, arrived, mac: r.array("mac")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::FragmentStatus, 0);
        out.put_u8(self.hop.to_byte());
        put_near(out, [self.next, self.prev]);
        put_ends(out, self.dst, self.src, self.seq);
        out.put_slice(self.arrived.as_bytes());
        out.put_slice(&self.mac);
    }
}

impl Signed {
    fn decode(r: &mut Reader<'_>, bytes: &Bytes) -> Result<Self, Invalid> {
        let (hop, next, prev, dst) = (hop(r)?, near(r)?, near(r)?, far(r)?);
        let key = r.array("signer's key")?;
        let seq = r.u32("signed number")?;
        let kind = r.u8("signed type")?;
        let body = rest(r, bytes, SIGNATURE_BYTES, MESH_SIGNED_BODY_BYTES_MAX, "signed body")?;
        Ok(Self { hop, next, prev, dst, key, seq, kind, body, signature: r.array("signature")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::Signed, 0);
        out.put_u8(self.hop.to_byte());
        put_near(out, [self.next, self.prev]);
        out.put_slice(&self.dst.0);
        out.put_slice(&self.key);
        out.put_u32(self.seq);
        out.put_u8(self.kind);
        out.put_slice(&self.body);
        out.put_slice(&self.signature);
    }
}

impl RouteError {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let (hop, next, prev) = (hop(r)?, near(r)?, near(r)?);
        Ok(Self { hop, next, prev, dst: far(r)?, src: far(r)?, seq: r.u32("data number")? })
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::RouteError, 0);
        out.put_u8(self.hop.to_byte());
        put_near(out, [self.next, self.prev]);
        put_ends(out, self.dst, self.src, self.seq);
    }
}

impl CustodyAccepted {
    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        put_first(out, Kind::CustodyAccepted, 0);
        put_near(out, [self.next, self.prev]);
        out.put_slice(&self.frame);
        out.put_slice(&self.mac);
    }
}

/// Number and capabilities of an announce: 20 and 4 bits in three bytes.
pub(in crate::mesh) fn seq_caps_bytes(seq: Seq20, caps: Caps) -> [u8; 3] {
    let [_, a, b, c] = ((seq.number() << 4) | u32::from(caps.bits())).to_be_bytes();
    [a, b, c]
}

fn seq_caps(r: &mut Reader<'_>) -> Result<(Seq20, Caps), Invalid> {
    let [a, b, c] = r.array("announce number")?;
    Ok((Seq20::new(u32::from_be_bytes([0, a, b, c]) >> 4), Caps::from_bits(c)))
}

fn near(r: &mut Reader<'_>) -> Result<Near, Invalid> {
    r.u16("near hint").map(Near)
}

fn far(r: &mut Reader<'_>) -> Result<Far, Invalid> {
    r.array("far hint").map(Far)
}

fn hop(r: &mut Reader<'_>) -> Result<Hop, Invalid> {
    r.u8("hop byte").map(Hop::from_byte)
}

fn cost(r: &mut Reader<'_>) -> Result<Cost, Invalid> {
    r.u8("cost").map(Cost)
}

/// Everything up to the last `tail` bytes, at most `max`, as a slice of `bytes`.
fn rest(
    r: &mut Reader<'_>,
    bytes: &Bytes,
    tail: usize,
    max: usize,
    what: &'static str,
) -> Result<Bytes, Invalid> {
    let len = r.remaining().checked_sub(tail).ok_or(Invalid::Truncated { what })?;
    if len > max {
        return Err(Invalid::TooLarge { what, size: len as u64, max: max as u64 });
    }
    Ok(bytes.slice_ref(r.take(len, what)?))
}

fn put_first(out: &mut BytesMut, kind: Kind, flags: u8) {
    out.put_u8(((kind as u8) << 4) | flags);
}

fn put_near<const N: usize>(out: &mut BytesMut, hints: [Near; N]) {
    for hint in hints {
        out.put_u16(hint.0);
    }
}

fn put_ends(out: &mut BytesMut, dst: Far, src: Far, seq: u32) {
    out.put_slice(&dst.0);
    out.put_slice(&src.0);
    out.put_u32(seq);
}
