//! Promises about frames, stated for the product's format: read with the product's parser, judged apart from its machine.

use std::collections::BTreeMap;

use bytes::Bytes;
use honeylink_core::limits::MESH_HOPS_MAX;
use honeylink_core::mesh::frame::{Frame, identity};
use honeylink_core::mesh::raw::Kind;

use super::Oracle;
use crate::chance::scramble;
use crate::clock::Moment;
use crate::device::NodeId;
use crate::plan::Plan;
use crate::trace::What;

pub(super) fn oracles(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    if !plan.protocol.is_product() {
        return Vec::new();
    }
    let honest: Vec<bool> = plan.nodes.iter().map(|node| node.role.is_honest()).collect();
    vec![
        Box::new(HopsGrow { honest: honest.clone(), in_air: BTreeMap::new(), heard: BTreeMap::new() }),
        Box::new(NumberedOnce { honest: honest.clone(), used: BTreeMap::new() }),
        Box::new(RepeatsEnd { honest, sent: BTreeMap::new() }),
    ]
}

pub(super) fn sent<'a>(what: &What<'a>) -> Option<&'a [u8]> {
    match *what {
        What::Air { bytes, .. } | What::Wire { bytes, .. } => Some(bytes),
        _ => None,
    }
}

/// A frame's hops only ever grow: what a node passes on says one more than it heard, at least, and never over the limit.
/// Without that a frame could go round for ever.
struct HopsGrow {
    honest: Vec<bool>,
    /// Transmissions in the air, by number: which frame, how many hops.
    in_air: BTreeMap<u64, (u64, u8)>,
    /// The fewest hops with which a node heard a frame.
    heard: BTreeMap<(NodeId, u64), u8>,
}

/// Transmissions remembered until they are heard: far more than are ever in the air.
const IN_AIR_MAX: usize = 4_096;

impl HopsGrow {
    fn hear(&mut self, node: NodeId, (frame, hops): (u64, u8)) {
        let least = self.heard.entry((node, frame)).or_insert(hops);
        *least = hops.min(*least);
    }
}

impl Oracle for HopsGrow {
    fn name(&self) -> &'static str {
        "hops-grow"
    }

    fn observe(&mut self, _at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        match *what {
            What::Heard { tx, .. } => {
                if let Some(frame) = self.in_air.get(&tx).copied() {
                    self.hear(node, frame);
                }
                return Ok(());
            }
            What::Arrived { bytes, .. } => {
                if let Some(frame) = hops_of(bytes) {
                    self.hear(node, frame);
                }
                return Ok(());
            }
            _ => {}
        }
        let Some((frame, hops)) = sent(what).and_then(hops_of) else { return Ok(()) };
        if let What::Air { tx, .. } = *what {
            self.in_air.insert(tx, (frame, hops));
            if self.in_air.len() > IN_AIR_MAX {
                self.in_air.pop_first();
            }
        }
        match self.heard.get(&(node, frame)) {
            // Its origin hears its own frame come back, with more hops than it began with: none.
            Some(heard) if self.honest[node.index()] && hops > 0 && hops <= *heard => {
                let kind = bytes_kind(what);
                Err(format!("passed on a {kind:?} with {hops} hops that it heard with {heard}"))
            }
            _ if hops > MESH_HOPS_MAX => Err(format!("a frame went {hops} hops")),
            _ => Ok(()),
        }
    }
}

fn bytes_kind(what: &What<'_>) -> Option<Kind> {
    Kind::of(*sent(what)?.first()?)
}

/// Which frame it is, and its hops; `None` for kinds that go one hop.
fn hops_of(bytes: &[u8]) -> Option<(u64, u8)> {
    let layout = Kind::of(*bytes.first()?)?.layout();
    let hop = bytes.get(usize::from(layout.hop?))?;
    Some((digest(bytes)?, hop & 0x3F))
}

/// A digest of what a frame's origin fixed. A request that somebody sends along a known way is still the same request, and
/// what is kept the same message however much of its time is left.
fn digest(bytes: &[u8]) -> Option<u64> {
    identity(bytes).map(u64::from_be_bytes)
}

/// By origin, target hint and number, and what the frame asks for besides, which goes into its MAC and so into its nonce;
/// and which of the two kinds of keys it has. A message whose ratchet the target lost is sealed with static keys.
type Numbered = (NodeId, [u8; 3], u32, (bool, bool, bool));

/// A number is used for one content only: a second one would be sealed with the same key stream.
struct NumberedOnce {
    honest: Vec<bool>,
    /// A digest of the ciphertext.
    used: BTreeMap<Numbered, u64>,
}

impl Oracle for NumberedOnce {
    fn name(&self) -> &'static str {
        "numbered-once"
    }

    fn observe(&mut self, _at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        let Some(bytes) = sent(what).filter(|_| self.honest[node.index()]) else { return Ok(()) };
        if bytes.first().and_then(|first| Kind::of(*first)) != Some(Kind::Data) {
            return Ok(());
        }
        let Some(Frame::Data(data)) = crate::product::decode(&Bytes::copy_from_slice(bytes)) else {
            return Err("sent data that its own parser refuses".to_owned());
        };
        // Only its origin sends a frame that took no hop yet.
        if data.hop.hops > 0 {
            return Ok(());
        }
        let digest = data
            .payload
            .iter()
            .chain(&data.mac)
            .fold(0, |sum: u64, byte| scramble(sum.rotate_left(9) ^ u64::from(*byte)));
        let under = (data.receipt, data.keep.is_some(), data.ratcheted);
        match self.used.insert((node, data.dst.0, data.seq, under), digest) {
            Some(other) if other != digest => Err(format!("number {} was used for two contents", data.seq)),
            _ => Ok(()),
        }
    }
}

/// How often one node sends one frame within [`WINDOW_US`]: three tries with each of three neighbours and once to anybody;
/// the same towards a store; all that for the first time and for eight that it comes again; and a few for being late.
const REPEATS_MAX: u32 = 200;
/// The time over which repetitions are counted, in microseconds.
const WINDOW_US: u64 = 600_000_000;

/// A frame does not go in circles: no node sends the same one again and again.
struct RepeatsEnd {
    honest: Vec<bool>,
    /// By node and frame: when the window began, and how often since.
    sent: BTreeMap<(NodeId, u64), (Moment, u32)>,
}

impl Oracle for RepeatsEnd {
    fn name(&self) -> &'static str {
        "repeats-end"
    }

    fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        let Some(bytes) = sent(what).filter(|_| self.honest[node.index()]) else { return Ok(()) };
        let Some(digest) = digest(bytes) else { return Ok(()) };
        let (began, count) = self.sent.entry((node, digest)).or_insert((at, 0));
        if at.since_us(*began) > WINDOW_US {
            (*began, *count) = (at, 0);
        }
        *count += 1;
        let minutes = WINDOW_US / 60_000_000;
        if *count > REPEATS_MAX {
            Err(format!("sent one frame {count} times in {minutes} minutes"))
        } else {
            Ok(())
        }
    }
}
