//! The node of this device and the local API in front of it.
//!
//! `honeylink up` runs it until told to stop; any other verb runs the same thing for as long as it takes, so what works
//! with a daemon works without one. The library's [`Node`](honeylink::Node) owns every piece of state that matters;
//! and its services do the work; here is the translation into the API's words ([`honeylink_api`]).
//!
//! | file | what it is |
//! |---|---|
//! | `state` | what the handlers share |
//! | `listen` | the socket and its connections |
//! | `routes`, `answer` | which handler serves what; how an answer looks |
//! | `shutdown` | draining, persisting, cleanup, complete |
//! | `failures` | the library's errors as API errors |
//! | `health`, `metrics` | how each part does; what operators read |
//! | the others | one area of the API each |

mod answer;
mod chat;
mod devices;
mod failures;
mod files;
mod health;
mod listen;
mod mesh;
mod metrics;
mod nearby;
mod pairing;
mod path;
mod pipe;
mod policy;
mod routes;
mod shutdown;
mod speed;
mod state;
mod status;
mod streams;
mod transfers;

use std::sync::Arc;
use std::time::Duration;

use honeylink::store::home::HomeLayout;
use honeylink::{DhtOptions, Node};
use honeylink_api::{ErrorCode, Mode, Phase};

use crate::config::{Config, Resolved};
use crate::failure::Failure;
use crate::policies;
use listen::Accept;
use state::Daemon;
pub(crate) use streams::name as class_name;

/// A running node with its API.
#[derive(Debug)]
pub(crate) struct Running {
    daemon: Arc<Daemon>,
}

/// Starts a node in this process and opens its API.
pub(crate) async fn start(home: &HomeLayout, resolved: Resolved, mode: Mode) -> Result<Running, Failure> {
    let socket = home.api_socket();
    listen::check_path(&socket)?;
    let book = policies::ready(home, &resolved)?;
    // Before the node, which is not to be woken in vain. A single command is nothing to watch.
    let watched = match mode {
        Mode::Daemon => metrics::server::bind(&resolved.config.metrics).await?,
        Mode::Command => None,
    };
    let node = build(home, &resolved.config, mode).await?;
    // The node holds the home's lock from here on, so whatever socket lies there belongs to nobody.
    let listener = match listen::bind(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            node.shutdown().await;
            return Err(Failure::file("open", &socket, &error));
        }
    };
    let daemon = Arc::new(Daemon::new(node, home.clone(), resolved.config, mode).map_err(Failure::internal)?);
    if let Ok(chat) = book.find(&daemon.config.policy.chat) {
        daemon.chat.set_policy(Some(chat.policy.clone()));
    }
    tracing::info!(id = %daemon.node.id().short(), version = env!("CARGO_PKG_VERSION"), "node started");
    path::serve(&daemon)?;
    listen::serve(&daemon, Accept::Local(listener));
    if let Some(watched) = watched {
        metrics::server::serve(&daemon, watched);
    }
    Ok(Running { daemon })
}

async fn build(home: &HomeLayout, config: &Config, mode: Mode) -> Result<Node, Failure> {
    let reach = match config.node.reach.as_str() {
        "loopback" => honeylink::Reach::Loopback,
        "wide" => honeylink::Reach::Wide,
        _ => honeylink::Reach::Lan,
    };
    let mut builder = Node::builder()
        .home(home.dir())
        .device_type(config.node.device_type.parse().map_err(Failure::internal)?)
        .reach(reach)
        .port(config.node.port)
        .nat(config.nat.options())
        .relays(relays(&config.node.relays)?)
        .relay_only(config.node.relay_only)
        .relay_peers(&config.node.relay_peers)
        .power(config.node.power())
        .message_bytes_max(config.session.message_bytes_max)
        .suspended_max(Duration::from_secs(config.session.suspended_max_s));
    if config.node.dht {
        let entries = config.node.dht_entries.iter().map(|entry| entry.parse().map_err(Failure::internal));
        let entries = entries.collect::<Result<Vec<_>, Failure>>()?;
        builder = builder.dht(DhtOptions::default().entries(entries));
    }
    if !config.node.name.is_empty() {
        builder = builder.name(&config.node.name);
    }
    builder = if config.discovery.enabled {
        builder
            .discovery_port(config.discovery.port)
            .discovery_without_multicast(config.discovery.broadcast, config.discovery.scan)
            .broadcast_port(config.discovery.broadcast_port)
    } else {
        builder.discovery(false)
    };
    // A mesh lives from nodes that stay; a single command would only wake every paired device and be gone again.
    if mode == Mode::Daemon
        && let Some(options) = mesh::options(&config.mesh).map_err(Failure::internal)?
    {
        builder = builder.mesh(options);
    }
    builder.build().await.map_err(|error| failures::build(&error).into())
}

/// The relays of the settings, which were checked when they were read.
fn relays(lines: &[String]) -> Result<Vec<honeylink::RelayAddr>, Failure> {
    lines.iter().map(|line| line.parse().map_err(Failure::internal)).collect()
}

impl Running {
    /// Requests other processes have open here.
    pub(crate) fn guests(&self) -> usize {
        *self.daemon.guests.borrow()
    }

    /// Waits until no other process has a request open.
    pub(crate) async fn no_guests(&self) {
        // The sender lives in the daemon that this holds, so waiting cannot fail.
        let _ = self.daemon.guests.subscribe().wait_for(|guests| *guests == 0).await;
    }

    /// Ends the node in its phases, giving running transfers `drain`, and returns when it has.
    pub(crate) async fn shutdown(&self, drain: Duration) {
        self.daemon.begin_shutdown(drain);
        self.ended().await;
    }

    /// Waits until the node has ended, whoever asked it to.
    pub(crate) async fn ended(&self) {
        let _ = self.daemon.phase.subscribe().wait_for(|phase| *phase == Phase::Complete).await;
        self.daemon.connections_closed().await;
    }
}

/// What a handler says when the node is on its way out.
fn shutting_down() -> honeylink_api::ErrorBody {
    honeylink_api::ErrorBody::new(ErrorCode::ShuttingDown, "the node is shutting down")
}
