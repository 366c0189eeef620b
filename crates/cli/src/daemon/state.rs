//! What the handlers of the API share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use honeylink::node::ListenError;
use honeylink::services::{Chat, Files, Pipes, Speed};
use honeylink::store::home::HomeLayout;
use honeylink::{DeviceId, Node};
use honeylink_api::{ErrorBody, Mode, PathInfo, Phase};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failures;
use super::metrics::Meter;
use crate::config::Config;

/// How long the last answers may take to leave after the node has ended.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(1);

/// What the handlers of the API share.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) node: Node,
    pub(super) home: HomeLayout,
    pub(super) config: Config,
    pub(super) mode: Mode,
    pub(super) started: Instant,
    pub(super) phase: watch::Sender<Phase>,
    /// Requests of other processes that are open.
    pub(super) guests: watch::Sender<usize>,
    pub(super) chat: Chat,
    pub(super) pipes: Pipes,
    pub(super) speed: Speed,
    pub(super) files: Files,
    pub(super) meter: Meter,
    /// The question about the short string that waits for an answer, if any. One person, one question.
    pub(super) question: Mutex<Option<oneshot::Sender<bool>>>,
    /// Work that must be over before the process is: connections and background services.
    pub(super) tasks: TaskTracker,
    /// Tells streams and services to end.
    pub(super) stop: CancellationToken,
    /// Tells the socket to take no new connections and its connections to finish.
    pub(super) closing: CancellationToken,
}

impl Daemon {
    pub(super) fn new(node: Node, home: HomeLayout, config: Config, mode: Mode) -> Result<Self, ListenError> {
        let (chat, pipes, speed) = (Chat::start(&node)?, Pipes::start(&node)?, Speed::start(&node)?);
        let files =
            Files::start(&node, super::files::configured(inbox(&home, &config), &config.transfer.accept))?;
        Ok(Self {
            node,
            home,
            config,
            mode,
            started: Instant::now(),
            phase: watch::Sender::new(Phase::Running),
            guests: watch::Sender::new(0),
            chat,
            pipes,
            speed,
            files,
            meter: Meter::default(),
            question: Mutex::new(None),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            closing: CancellationToken::new(),
        })
    }

    /// The device a person means by name, id or id prefix.
    pub(super) fn resolve(&self, peer: &str) -> Result<DeviceId, ErrorBody> {
        self.node.store().trust().resolve(peer).map_err(failures::resolve)
    }

    /// The name a device is known by here, or its short id.
    pub(super) fn name_of(&self, id: &DeviceId) -> String {
        let known = self.node.store().trust().find(id).map(|record| record.name);
        known.filter(|name| !name.is_empty()).unwrap_or_else(|| id.short())
    }

    /// The path of the connection to a device, if there is one.
    pub(super) fn path_to(&self, id: &DeviceId) -> Option<PathInfo> {
        let connected = self.node.connected().into_iter().find(|peer| peer.id == *id)?;
        super::path::describe(&connected.paths)
    }

    /// The folder for received files.
    pub(super) fn inbox(&self) -> PathBuf {
        inbox(&self.home, &self.config)
    }

    /// Puts a question to the person; an older one that was not answered is dropped, which cancels it.
    pub(super) fn ask(&self, answer: oneshot::Sender<bool>) {
        *self.question.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// Takes the question that waits for an answer.
    pub(super) fn asked(&self) -> Option<oneshot::Sender<bool>> {
        self.question.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the connections to the API are over, within bounds.
    pub(super) async fn connections_closed(&self) {
        self.tasks.close();
        if tokio::time::timeout(LAST_ANSWERS_MAX, self.tasks.wait()).await.is_err() {
            tracing::debug!(tasks = self.tasks.len(), "ended with connections to the local API still open");
        }
    }

    /// Spawns work that the daemon waits for at its end, and that ends when it does.
    pub(super) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

fn inbox(home: &HomeLayout, config: &Config) -> PathBuf {
    let configured = &config.transfer.into;
    if configured.as_os_str().is_empty() { home.inbox() } else { configured.clone() }
}

/// Milliseconds since the Unix epoch, now.
pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
