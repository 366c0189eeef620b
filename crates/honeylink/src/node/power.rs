//! What a node runs on, and so what its idle links are kept for; the times are in [`honeylink_core::paths::Pace`].

use honeylink_core::paths::Power;

use super::{Carriers, Node, NodeBuilder};

impl NodeBuilder {
    /// What this device runs on. On a battery, idle links cost a packet in 4.5 s, and a way that dies is noticed within 15 s. The
    /// device that asks more often decides for both. Default: mains.
    #[must_use]
    pub fn power(mut self, power: Power) -> Self {
        self.power = power;
        self
    }
}

impl Node {
    /// What its idle links are kept for.
    #[must_use]
    pub fn power(&self) -> Power {
        match &self.inner.carriers {
            Carriers::Quic(quic) => quic.power(),
            Carriers::Memory(_) => Power::Mains,
        }
    }
}
