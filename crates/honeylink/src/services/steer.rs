//! By which policy a service sends.

use honeylink_core::qos::policy::Policy;
use honeylink_core::wire::link::Class;

use crate::link::{ApplyError, Link, Stream, StreamError};

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

/// Opens a stream under the policy that [`steer`] gave, or else of a class. What is only wished for, and guaranteed more than
/// the link can promise, is followed as far as the link carries it.
pub(super) async fn open(
    link: &Link,
    policy: Option<&str>,
    choice: Option<&PolicyChoice>,
    otherwise: Class,
) -> Result<Stream, StreamError> {
    let Some(policy) = policy else { return link.open_stream(otherwise).await };
    match link.open_stream_under(policy).await {
        Err(StreamError::InsufficientBandwidth { .. }) if choice.is_some_and(|choice| !choice.insist) => {
            let opened = link.open_stream(otherwise).await;
            // What is open already asks for no promise.
            let _ = steer(link, choice).await;
            opened
        }
        opened => opened,
    }
}
