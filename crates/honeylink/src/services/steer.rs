//! By which policy a service sends.

use honeylink_core::qos::policy::Policy;

use crate::link::{ApplyError, Link};

/// A policy that is wished for, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChoice {
    /// The policy.
    pub policy: Policy,
    /// Whether nothing is to be sent if the other device does not agree. Otherwise it goes as if no policy had been named,
    /// and [`Link::taken_back_policy`] says why.
    pub insist: bool,
}

/// Lets a link follow what was chosen: the name under which its streams are opened, or `None` if nothing was chosen or the
/// other device did not agree to what is not insisted on.
pub(super) async fn steer(link: &Link, choice: Option<&PolicyChoice>) -> Result<Option<String>, ApplyError> {
    let Some(PolicyChoice { policy, insist }) = choice else { return Ok(None) };
    match link.follow_policy(policy.clone()).await {
        Ok(()) => Ok(Some(policy.name.clone())),
        Err(ApplyError::RolledBack { name, why }) if !insist => {
            tracing::warn!(peer = %link.peer().short(), policy = name, why, "sending without a policy");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
