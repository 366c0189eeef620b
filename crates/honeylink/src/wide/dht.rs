//! A client of the DHT: stores and finds signed values, each within a bounded time.
//!
//! The DHT's own traffic runs on a thread of the crate `mainline`, with one UDP socket of its own (IPv4, as that DHT is). It
//! starts when something is first stored or asked, so that a machine without a network has none, and ends within a moment
//! after [`Dht::close`].

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use futures_util::StreamExt as _;
use mainline::async_dht::AsyncDht;
use mainline::errors::PutMutableError;
use mainline::{MutableItem, SigningKey};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::{DhtEntry, DhtError, DhtOptions, Item};
use crate::node::Reach;

/// Entry points are looked up within this time.
const RESOLVE_MAX: Duration = Duration::from_secs(5);
/// A lookup ends within this time. Most take one to three seconds; a node of the DHT that does not answer costs two.
const GET_MAX: Duration = Duration::from_secs(8);
/// How long newer values are waited for once one was found.
const GRACE: Duration = Duration::from_millis(600);
/// Storing ends within this time: a lookup of the nodes that are to hold it comes first.
const PUT_MAX: Duration = Duration::from_secs(15);
/// Values of one key that are looked at. Whoever can sign under a code's key can store as many as there are nodes.
const ITEMS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Dht {
    entries: Vec<DhtEntry>,
    reach: Reach,
    client: Mutex<Client>,
}

#[derive(Debug)]
enum Client {
    Idle,
    Running(AsyncDht),
    Closed,
}

impl Dht {
    #[expect(clippy::unnecessary_wraps, reason = "as where there is no DHT")]
    pub(crate) fn new(options: &DhtOptions, reach: Reach) -> Result<Self, &'static str> {
        Ok(Self { entries: options.effective(), reach, client: Mutex::new(Client::Idle) })
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.entries.iter().map(ToString::to_string).collect()
    }

    /// Stores a value under the key of a seed. `seq` has to be higher than before.
    pub(crate) async fn put(&self, seed: &[u8; 32], seq: u64, value: &[u8]) -> Result<(), DhtError> {
        let client = self.client().await?;
        let signed = MutableItem::new(SigningKey::from_bytes(seed), value, signed_seq(seq), None);
        let stored = timeout(PUT_MAX, client.put_mutable(signed, None)).await;
        match stored {
            Err(_) => Err(DhtError::Silent),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(PutMutableError::Concurrency(_))) => Err(DhtError::Behind),
            Ok(Err(PutMutableError::Query(error))) => Err(refused(&error)),
        }
    }

    /// The values under a key, the newest first; none if the DHT answers and has none.
    pub(crate) async fn get(&self, key: &[u8; 32]) -> Result<Vec<Item>, DhtError> {
        let client = self.client().await?;
        let mut lookup = client.get_mutable_detailed(key, None, None);
        let mut deadline = Instant::now() + GET_MAX;
        let mut items: Vec<Item> = Vec::new();
        let ended = loop {
            match timeout_at(deadline, lookup.items.next()).await {
                Ok(Some(found)) => {
                    deadline = deadline.min(Instant::now() + GRACE);
                    let item =
                        Item { seq: found.seq().try_into().unwrap_or(0), value: found.value().to_vec() };
                    if items.len() < ITEMS_MAX && !items.contains(&item) {
                        items.push(item);
                    }
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if items.is_empty() {
            // The lookup may still go on when time is up: then nobody near the key answered.
            let answered = ended && lookup.outcome.recv().await.responded() > 0;
            return if answered { Ok(items) } else { Err(DhtError::Silent) };
        }
        items.sort_by_key(|item| std::cmp::Reverse(item.seq));
        Ok(items)
    }

    /// The address that the DHT sees this machine at, if it was asked anything yet.
    pub(crate) async fn seen_at(&self) -> Option<Ipv4Addr> {
        let client = match &*self.client.lock().await {
            Client::Running(client) => client.clone(),
            Client::Idle | Client::Closed => return None,
        };
        client.info().await.public_address().map(|seen| *seen.ip())
    }

    /// Ends the thread, once what it was asked has been answered or given up.
    pub(crate) async fn close(&self) {
        *self.client.lock().await = Client::Closed;
    }

    /// The running client, or one that is started now.
    async fn client(&self) -> Result<AsyncDht, DhtError> {
        let mut client = self.client.lock().await;
        match &*client {
            Client::Running(running) => return Ok(running.clone()),
            Client::Closed => return Err(DhtError::Closed),
            Client::Idle => {}
        }
        let entries = self.resolve().await?;
        let mut builder = mainline::Dht::builder();
        // Any free port: the one that is customary belongs to other programs.
        builder.port(0).bootstrap(&entries);
        if self.reach == Reach::Loopback {
            builder.bind_address(Ipv4Addr::LOCALHOST);
        }
        let started = tokio::task::spawn_blocking(move || builder.build()).await;
        let started = started.map_err(|error| DhtError::Socket(error.to_string()))?;
        let running = started.map_err(|error| DhtError::Socket(error.to_string()))?.as_async();
        *client = Client::Running(running.clone());
        Ok(running)
    }

    async fn resolve(&self) -> Result<Vec<SocketAddrV4>, DhtError> {
        let lookups = self.entries.iter().map(|entry| async move {
            match timeout(RESOLVE_MAX, tokio::net::lookup_host(entry.0.as_str())).await {
                Ok(Ok(addrs)) => addrs.filter_map(v4).collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            }
        });
        let found = futures_util::future::join_all(lookups).await.into_iter().flatten();
        let entries: Vec<_> = found
            .filter(|addr: &SocketAddrV4| self.reach == Reach::Wide || addr.ip().is_loopback())
            .collect();
        if entries.is_empty() { Err(DhtError::NoEntry(self.entries().join(", "))) } else { Ok(entries) }
    }
}

fn v4(addr: SocketAddr) -> Option<SocketAddrV4> {
    match addr {
        SocketAddr::V4(v4) => Some(v4),
        SocketAddr::V6(_) => None,
    }
}

/// The DHT counts in signed numbers; ours are milliseconds since 1970.
fn signed_seq(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn refused(error: &mainline::errors::PutQueryError) -> DhtError {
    use mainline::errors::PutQueryError;
    match error {
        PutQueryError::NoClosestNodes | PutQueryError::Timeout => DhtError::Silent,
        PutQueryError::ErrorResponse(said) => DhtError::Refused(format!("{said:?}")),
    }
}
