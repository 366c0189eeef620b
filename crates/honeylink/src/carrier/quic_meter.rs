//! Counts what went over a carrier's QUIC connections, those that are closed included, without keeping one open; and what
//! their peers want this device to send to.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use iroh::endpoint::{Closed, Connection, ConnectionStats, WeakConnectionHandle};
use tokio::sync::Notify;

use crate::node::Traffic;

/// Becomes the last word of a connection; nothing if it was gone before it was followed.
type Ending = Pin<Box<dyn Future<Output = Option<Closed>> + Send>>;

struct Followed {
    conn: WeakConnectionHandle,
    ending: Ending,
    /// The candidate addresses its peer had named when last asked.
    named: u64,
}

#[derive(Default)]
struct Counted {
    /// Connections that were open when last looked at: those that are closed are counted and forgotten at each look, and
    /// each new connection is a look.
    open: Vec<Followed>,
    closed: Traffic,
}

/// See the module's doc. Clones count together.
#[derive(Clone, Default)]
pub(super) struct Meter {
    counted: Arc<Mutex<Counted>>,
    followed: Arc<Notify>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").field("open", &self.counted().open.len()).finish_non_exhaustive()
    }
}

impl Meter {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what goes over this connection from now on.
    pub(super) fn follow(&self, conn: &Connection) {
        let conn = conn.weak_handle();
        let ending: Ending = Box::pin(conn.closed());
        let mut counted = self.counted();
        counted.look();
        counted.open.push(Followed { conn, ending, named: 0 });
        self.followed.notify_one();
    }

    /// Waits until there are connections. One task may.
    pub(super) async fn until_some(&self) {
        loop {
            let none = {
                let mut counted = self.counted();
                counted.look();
                counted.open.is_empty()
            };
            if !none {
                return;
            }
            self.followed.notified().await;
        }
    }

    /// The connections whose peer named candidate addresses since this was asked last, and how many: each of them may be
    /// somebody else's, and QUIC tries them all.
    pub(super) fn newly_named(&self) -> Vec<(Connection, u64)> {
        let mut counted = self.counted();
        let open = counted.open.iter_mut().filter_map(|followed| {
            let conn = followed.conn.upgrade()?;
            let frames = conn.stats().frame_rx;
            let named = frames.add_address + frames.reach_out;
            let more = named.saturating_sub(std::mem::replace(&mut followed.named, named));
            (more > 0).then_some((conn, more))
        });
        open.collect()
    }

    pub(super) fn traffic(&self) -> Traffic {
        let mut counted = self.counted();
        counted.look();
        let open = counted.open.iter().filter_map(|followed| followed.conn.upgrade());
        open.map(|conn| traffic(&conn.stats())).fold(counted.closed, Traffic::and)
    }
}

impl Counted {
    fn look(&mut self) {
        let closed = &mut self.closed;
        self.open.retain_mut(|followed| match followed.ending.as_mut().now_or_never() {
            Some(last) => {
                *closed = last.map_or(*closed, |last| closed.and(traffic(&last.stats)));
                false
            }
            None => true,
        });
    }
}

const fn traffic(stats: &ConnectionStats) -> Traffic {
    Traffic {
        sent_bytes: stats.udp_tx.bytes,
        received_bytes: stats.udp_rx.bytes,
        sent: stats.udp_tx.datagrams,
        received: stats.udp_rx.datagrams,
        lost: stats.lost_packets,
    }
}
