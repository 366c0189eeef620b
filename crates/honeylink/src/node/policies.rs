//! Policies of all links to a device at once: what each follows, and a change while they are in use.

use honeylink_core::identity::DeviceId;
use honeylink_core::qos::policy::{Policy, TakenBack};
use honeylink_core::session::{Role, State};

use super::Node;
use crate::link::{ApplyError, LinkTraffic};

/// What came of a policy on one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    /// The link's protocol.
    pub protocol: String,
    /// Whether its streams follow the policy now.
    pub result: Result<(), ApplyError>,
}

/// What one link follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPolicy {
    /// The link's protocol.
    pub protocol: String,
    /// The policy that everything of it follows, if there is one.
    pub follows: Option<Policy>,
    /// The policy that was taken back last, and why.
    pub taken_back: Option<TakenBack>,
}

impl Node {
    /// Lets everything that this node sends to a device on some of its open links follow a policy from now on, as
    /// [`Link::follow_policy`](crate::Link::follow_policy) does for one. `wanted` is asked about each link: its protocol, and
    /// whether this node opened it. Empty if none is open that is wanted.
    pub async fn follow_policy(
        &self,
        peer: &DeviceId,
        policy: &Policy,
        wanted: impl Fn(&str, bool) -> bool,
    ) -> Vec<Steered> {
        let links = self.inner.pool.links_of(peer).into_iter();
        let open = links.filter(|link| {
            let ours = link.role() == Role::Initiator;
            wanted(link.protocol(), ours) && *link.watch_state().borrow() == State::Active
        });
        let steering = open.map(async |link| Steered {
            protocol: link.protocol().to_owned(),
            result: link.follow_policy(policy.clone()).await,
        });
        futures_util::future::join_all(steering).await
    }

    /// What the open links to a device follow.
    #[must_use]
    pub fn link_policies(&self, peer: &DeviceId) -> Vec<LinkPolicy> {
        let links = self.inner.pool.links_of(peer).into_iter();
        let told = links.map(|link| LinkPolicy {
            protocol: link.protocol().to_owned(),
            follows: link.followed_policy(),
            taken_back: link.taken_back(),
        });
        told.collect()
    }

    /// What this node sends to each connected device, stream by stream.
    #[must_use]
    pub fn traffic(&self) -> Vec<(DeviceId, LinkTraffic)> {
        let connected = self.inner.pool.connected();
        connected.into_iter().map(|(id, conn)| (id, conn.gate().traffic())).collect()
    }
}
