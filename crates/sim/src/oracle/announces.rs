//! Promises about announces.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use honeylink_core::mesh::frame::{Frame, FrameId, Seq20};
use honeylink_core::mesh::hint::{Address, Tag};

use super::Oracle;
use crate::clock::Moment;
use crate::device::NodeId;
use crate::plan::Plan;
use crate::product::{decode, key_of};
use crate::trace::What;

pub(super) fn oracles(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    if !plan.protocol.is_product() {
        return Vec::new();
    }
    let honest: Vec<bool> = plan.nodes.iter().map(|node| node.role.is_honest()).collect();
    let of = |node: NodeId| (Address::of(&key_of(plan.seed, node).id()).tag(), node);
    let nodes = (0..).map(NodeId).take(honest.len());
    let tags = nodes.filter(|node| honest[node.index()]).map(of).collect();
    vec![
        Box::new(NeverOlder { honest: honest.clone(), said: BTreeMap::new(), restarted: BTreeSet::new() }),
        Box::new(AnnouncedByThem { honest, tags, said: BTreeSet::new() }),
    ]
}

/// What an announce says of itself: whose, its number, and the hops it took.
fn read(what: &What<'_>) -> Option<(Tag, Seq20, u8, FrameId)> {
    let bytes = super::frames::sent(what)?;
    if !matches!(bytes.first()? >> 4, 1..=3) {
        return None;
    }
    let frame = decode(&Bytes::copy_from_slice(bytes))?;
    let id = frame.identity();
    Some(match frame {
        Frame::AnnounceKey(frame) => {
            let whose = honeylink_core::identity::DeviceId::from_bytes(frame.key).ok()?;
            (Address::of(&whose).tag(), frame.seq, frame.hops, id)
        }
        Frame::AnnounceAnchor(frame) => (frame.address.tag(), frame.seq, frame.hops, id),
        Frame::Beacon(frame) => (frame.tag, frame.seq, frame.hops, id),
        _ => return None,
    })
}

/// A device's announce numbers never go back, and after a crash they go on: who heard one believes no older.
struct NeverOlder {
    honest: Vec<bool>,
    said: BTreeMap<NodeId, Seq20>,
    /// Who must take a new number.
    restarted: BTreeSet<NodeId>,
}

impl Oracle for NeverOlder {
    fn name(&self) -> &'static str {
        "never-older"
    }

    fn observe(&mut self, _at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        if let What::Crash { .. } = what {
            self.restarted.insert(node);
        }
        // Only its own device sends what took no hop yet.
        let Some((_, seq, 0, _)) = read(what).filter(|_| self.honest[node.index()]) else { return Ok(()) };
        let again = self.restarted.remove(&node);
        let Some(last) = self.said.insert(node, seq) else { return Ok(()) };
        if last.is_newer_than(seq) || (again && seq == last) {
            return Err(format!("announced number {} after {}", seq.number(), last.number()));
        }
        Ok(())
    }
}

/// What honest nodes pass on as the announce of an honest device was said by that device.
struct AnnouncedByThem {
    honest: Vec<bool>,
    /// The honest devices by tag.
    tags: BTreeMap<Tag, NodeId>,
    /// Everything they said.
    said: BTreeSet<FrameId>,
}

impl Oracle for AnnouncedByThem {
    fn name(&self) -> &'static str {
        "announced-by-them"
    }

    fn observe(&mut self, _at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        let Some((tag, seq, hops, id)) = read(what).filter(|_| self.honest[node.index()]) else {
            return Ok(());
        };
        match self.tags.get(&tag) {
            Some(whose) if hops == 0 && *whose == node => {
                self.said.insert(id);
                Ok(())
            }
            Some(whose) if !self.said.contains(&id) => {
                Err(format!("passed on announce {} of {whose}, who never said it", seq.number()))
            }
            _ => Ok(()),
        }
    }
}
