//! The promise of who keeps frames for others: "accepted" is said only when the frame is safe on disk.
//!
//! Seen from outside: between hearing a message and accepting it, a disk must have been synced, unless somebody else had
//! accepted it towards this node, which then only says so.

use std::collections::BTreeMap;

use honeylink_core::mesh::frame::{Frame, FrameId};

use super::Oracle;
use crate::clock::Moment;
use crate::device::NodeId;
use crate::plan::Plan;
use crate::trace::What;

pub(super) fn oracles(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    if !plan.protocol.is_product() {
        return Vec::new();
    }
    let honest = plan.nodes.iter().map(|node| node.role.is_honest()).collect();
    vec![Box::new(SafeFirst { honest, ..SafeFirst::default() })]
}

/// A message: its source and number, whatever form its frame has.
type Name = ([u8; 3], u32);

#[derive(Default)]
struct SafeFirst {
    honest: Vec<bool>,
    /// Transmissions that may still be heard.
    in_air: BTreeMap<u64, Frame>,
    /// Which message a frame is.
    names: BTreeMap<FrameId, Name>,
    /// Messages that a node has heard and not synced its disk since.
    unsafe_at: BTreeMap<(NodeId, Name), Moment>,
    /// Acceptances that a node has heard.
    told: BTreeMap<(NodeId, FrameId), Moment>,
}

/// Transmissions remembered until they are heard: far more than are ever in the air.
const IN_AIR_MAX: usize = 4_096;

impl SafeFirst {
    fn hear(&mut self, at: Moment, node: NodeId, frame: &Frame) {
        match frame {
            Frame::Data(data) => {
                let name = (data.src.0, data.seq);
                self.names.insert(frame.identity(), name);
                self.unsafe_at.entry((node, name)).or_insert(at);
            }
            Frame::CustodyAccepted(accepted) => {
                self.told.insert((node, accepted.frame), at);
            }
            _ => {}
        }
    }
}

impl Oracle for SafeFirst {
    fn name(&self) -> &'static str {
        "kept-on-disk"
    }

    fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        let decode = |bytes: &[u8]| crate::product::decode(&bytes::Bytes::copy_from_slice(bytes));
        let sent = match *what {
            What::Heard { tx, .. } => {
                if let Some(frame) = self.in_air.get(&tx).cloned() {
                    self.hear(at, node, &frame);
                }
                return Ok(());
            }
            What::Arrived { bytes, .. } => {
                if let Some(frame) = decode(bytes) {
                    self.hear(at, node, &frame);
                }
                return Ok(());
            }
            What::Synced => {
                // Safe for ever: what is heard once more is the same message.
                for (_, since) in self.unsafe_at.iter_mut().filter(|((on, _), _)| *on == node) {
                    *since = Moment(u64::MAX);
                }
                return Ok(());
            }
            What::Air { tx, bytes, .. } => {
                let Some(frame) = decode(bytes) else { return Ok(()) };
                self.in_air.insert(tx, frame.clone());
                if self.in_air.len() > IN_AIR_MAX {
                    self.in_air.pop_first();
                }
                frame
            }
            What::Wire { bytes, .. } => match decode(bytes) {
                Some(frame) => frame,
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let Frame::CustodyAccepted(accepted) = sent else { return Ok(()) };
        if !self.honest[node.index()] || self.told.contains_key(&(node, accepted.frame)) {
            return Ok(());
        }
        let since = self.names.get(&accepted.frame).and_then(|name| self.unsafe_at.get(&(node, *name)));
        match since {
            Some(since) if *since <= at => {
                Err("says that it keeps a frame that is not on its disk".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }
}
