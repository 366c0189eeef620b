//! Which protocol the nodes of a run speak: the product's mesh, or one of those it is compared with.

use serde::{Deserialize, Serialize};

use crate::baseline::{DistanceVector, Flood, ManagedFlood, SourceRoute};
use crate::device::{Device, NodeId};
use crate::hostile::Liar;
use crate::plan::{Plan, Role};
use crate::product::Product;

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HoneyLink's mesh.
    Honeylink,
    /// Every node repeats every message once.
    Flood,
    /// Flooding in which whoever hears another repeat a message keeps silent, at most seven hops.
    ManagedFlood,
    /// The same without a limit of hops.
    ManagedFloodUnlimited,
    /// The first message floods and collects its path, later ones name it.
    SourceRoute,
    /// Announces build routing tables, messages follow them.
    DistanceVector,
}

impl Protocol {
    /// Every protocol, with its name in scenario files and reports.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Honeylink, "honeylink"),
        (Self::Flood, "flood"),
        (Self::ManagedFlood, "managed-flood"),
        (Self::ManagedFloodUnlimited, "managed-flood-unlimited"),
        (Self::SourceRoute, "source-route"),
        (Self::DistanceVector, "distance-vector"),
    ];

    /// What scenarios run unless they say otherwise.
    pub const PRODUCT: Self = Self::Honeylink;

    /// The name in scenario files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(protocol, _)| *protocol == self).map_or("", |(_, name)| name)
    }

    /// Whether this is the product's own mesh, which must keep every promise the oracles know.
    #[must_use]
    pub const fn is_product(self) -> bool {
        matches!(self, Self::Honeylink)
    }

    /// Whether the scheduler holds announces to their share. The baselines keep shares of their own.
    #[must_use]
    pub const fn announces_are_rationed(self) -> bool {
        self.is_product()
    }

    /// How much memory a device may hold, in bytes.
    #[must_use]
    pub const fn state_bytes_max(self) -> u64 {
        // The product's named limits allow this much under attack; idle it holds a hundredth.
        if self.is_product() { 3 << 20 } else { 64 << 20 }
    }

    /// The device of a node in its `life`th life.
    #[must_use]
    pub fn device(self, plan: &Plan, node: NodeId, life: u32) -> Box<dyn Device> {
        if let Role::Hostile(lie) = plan.nodes[node.index()].role {
            return Box::new(Liar::new(plan, node, life, lie));
        }
        match self {
            Self::Honeylink => Box::new(Product::new(plan, node, life)),
            Self::Flood => Box::new(Flood::new(plan, node, life)),
            Self::ManagedFlood => {
                Box::new(ManagedFlood::new(plan, node, life, crate::baseline::MANAGED_HOPS_MAX))
            }
            Self::ManagedFloodUnlimited => Box::new(ManagedFlood::new(plan, node, life, u8::MAX)),
            Self::SourceRoute => Box::new(SourceRoute::new(plan, node, life)),
            Self::DistanceVector => Box::new(DistanceVector::new(plan, node, life)),
        }
    }
}
