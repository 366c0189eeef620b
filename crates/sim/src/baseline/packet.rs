//! What the baselines' frames carry. Their length on the air is that of the protocol they model, not of this encoding.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::device::NodeId;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Data = 1,
    Ack = 2,
    Announce = 3,
    PathRequest = 4,
    /// A path, for whoever is to use it.
    Path = 5,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    /// Hops taken so far.
    pub(super) hops: u8,
    /// Who began it.
    pub(super) origin: NodeId,
    /// Whom it is for.
    pub(super) target: NodeId,
    /// The origin's number for it.
    pub(super) id: u32,
    /// Who sent it last.
    pub(super) prev: NodeId,
    /// Who is to pass it on; [`ANYBODY`] if all are.
    pub(super) next: NodeId,
    /// The nodes it passed, or is to pass.
    pub(super) path: Vec<NodeId>,
    pub(super) body: Bytes,
}

/// Nobody in particular.
pub(super) const ANYBODY: NodeId = NodeId(u32::MAX);

impl Packet {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(24 + 4 * self.path.len() + self.body.len());
        out.put_u8(self.kind as u8);
        out.put_u8(self.hops);
        for node in [self.origin, self.target, self.prev, self.next] {
            out.put_u32(node.0);
        }
        out.put_u32(self.id);
        out.put_u8(u8::try_from(self.path.len()).unwrap_or(u8::MAX));
        for node in self.path.iter().take(usize::from(u8::MAX)) {
            out.put_u32(node.0);
        }
        out.put_slice(&self.body);
        out.freeze()
    }

    /// `None` for bytes no baseline wrote: hostile nodes and corrupted frames.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let kind = match bytes.first()? {
            1 => Kind::Data,
            2 => Kind::Ack,
            3 => Kind::Announce,
            4 => Kind::PathRequest,
            5 => Kind::Path,
            _ => return None,
        };
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let node = |at: usize| word(at).map(NodeId);
        let count = usize::from(*bytes.get(22)?);
        let path: Option<Vec<NodeId>> = (0..count).map(|index| node(23 + 4 * index)).collect();
        Some(Self {
            kind,
            hops: *bytes.get(1)?,
            origin: node(2)?,
            target: node(6)?,
            prev: node(10)?,
            next: node(14)?,
            id: word(18)?,
            path: path?,
            body: bytes.slice((23 + 4 * count).min(bytes.len())..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_as_they_went() {
        let packet = Packet {
            kind: Kind::Data,
            hops: 3,
            origin: NodeId(1),
            target: NodeId(70_000),
            id: 9,
            prev: NodeId(2),
            next: ANYBODY,
            path: vec![NodeId(5), NodeId(6)],
            body: Bytes::from_static(b"hello"),
        };
        let bytes = packet.encode();
        assert_eq!(Packet::decode(&bytes), Some(packet));
        for cut in 0..31 {
            assert_eq!(Packet::decode(&bytes.slice(..cut)), None);
        }
    }
}
