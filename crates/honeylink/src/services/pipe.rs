//! Pipes: one device's standard input to another's standard output, byte for byte, both ways if wanted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use honeylink_core::wire::link::Class;
use tokio::sync::mpsc;

use super::steer::{self, PolicyChoice};
use crate::link::{ApplyError, Link, Stream, StreamError};
use crate::node::{ConnectError, ListenError, Node, Target};

/// The protocol of pipe links.
pub const PROTOCOL: &str = "honeylink/pipe/1";
/// Pipes waiting for somebody to take them.
const WAITING_MAX: usize = 1;
/// How long a peer may take to open its stream.
const STREAM_MAX: Duration = Duration::from_secs(10);

/// A pipe to a peer. The link closes when it is dropped.
#[derive(Debug)]
pub struct Pipe {
    /// The link it runs on.
    pub link: Link,
    /// The bytes.
    pub stream: Stream,
}

/// Why a pipe could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// No link.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The policy that was insisted on is not in force.
    #[error(transparent)]
    Policy(#[from] ApplyError),
    /// Somebody takes pipes already.
    #[error("another command waits for a pipe already")]
    Busy,
}

/// The pipe service of a node: refuses pipes until somebody takes them.
#[derive(Clone, Debug)]
pub struct Pipes {
    node: Node,
    taker: Arc<Mutex<Option<mpsc::Sender<Pipe>>>>,
}

impl Pipes {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`ListenError`] if the node has a pipe service already.
    pub fn start(node: &Node) -> Result<Self, ListenError> {
        let mut listener = node.listen(PROTOCOL)?;
        let pipes = Self { node: node.clone(), taker: Arc::default() };
        let accepting = pipes.clone();
        node.spawn(async move {
            while let Some(link) = listener.accept().await {
                let pipes = accepting.clone();
                accepting.node.spawn(async move { pipes.arrived(link).await });
            }
        });
        Ok(pipes)
    }

    /// Opens a pipe to a peer that waits for one.
    ///
    /// # Errors
    /// [`PipeError`].
    pub async fn open(&self, target: impl Into<Target>) -> Result<Pipe, PipeError> {
        self.open_under(target, None).await
    }

    /// As [`Pipes::open`], by a policy.
    ///
    /// # Errors
    /// [`PipeError`].
    pub async fn open_under(
        &self,
        target: impl Into<Target>,
        choice: Option<PolicyChoice>,
    ) -> Result<Pipe, PipeError> {
        let link = self.node.connect(target, PROTOCOL).await?;
        let policy = steer::steer(&link, choice.as_ref()).await?;
        let stream = steer::open(&link, policy.as_deref(), choice.as_ref(), Class::Interactive).await?;
        Ok(Pipe { link, stream })
    }

    /// Takes pipes from now on, until the receiver is dropped.
    ///
    /// # Errors
    /// [`PipeError::Busy`] if somebody does already.
    pub fn take(&self) -> Result<mpsc::Receiver<Pipe>, PipeError> {
        let mut taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner);
        if taker.as_ref().is_some_and(|t| !t.is_closed()) {
            return Err(PipeError::Busy);
        }
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        *taker = Some(sender);
        Ok(receiver)
    }

    async fn arrived(&self, link: Link) {
        let peer = link.peer();
        if !self.node.grants(&peer).pipe {
            tracing::info!(peer = %peer.short(), "refused a pipe: no grant");
            let why = "pipes from this device are not allowed; there: honeylink devices grant <you> pipe=yes";
            // The reason reaches the peer with the close; nothing more can be done if it does not.
            let _ = link.close(why).await;
            return;
        }
        let taker = self.taker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(taker) = taker.filter(|t| !t.is_closed()) else {
            let _ = link
                .close("nobody waits for a pipe there; run `honeylink pipe --listen` on that device")
                .await;
            return;
        };
        if let Ok(Ok(stream)) = tokio::time::timeout(STREAM_MAX, link.accept_stream()).await {
            // A taker that is gone drops the pipe, which closes the link.
            let _ = taker.send(Pipe { link, stream }).await;
        }
    }
}
