//! This node as a guest: keeps connections to those that carry for it, and asks them for devices that it cannot reach.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use honeylink_core::ferry::talk::Talk;
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::FERRIES_MAX;
use honeylink_core::paths::{Power, Silence};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Inner, State, hear, say, until_roomy};
use crate::carrier::ferry::Attached;
use crate::carrier::quic::QuicCarrier;
use crate::carrier::{ALPN_FERRY, Conn, ConnLost, RecvStream, SendStream, code};

/// The pause after a connection that failed, at first and at most; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// See [`PAUSE_MIN`]. Short: whoever needs this has no other way.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A connection that was there for this long was a good one.
const GOOD: Duration = Duration::from_secs(30);
/// How long a new connection is given to find out that packets fit, before that is called a problem.
const ROOM_MAX: Duration = Duration::from_secs(10);
/// How often a connection is listened to; less than half of [`honeylink_core::paths::LOOK_LATE`].
const LISTEN_EVERY: Duration = Duration::from_millis(100);
/// Silence after which a connection is made anew: four times in a row a ferry did not show that it is there. One made while the
/// network was still coming up may be dead from its first second on, and QUIC would wait for six.
const SILENT_MAX: Duration = Duration::from_millis(1500);
/// How often a ferry is asked for a device that is dialled meanwhile; less often than it allows.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a node that has just started is given to come aboard.
const ABOARD_MAX: Duration = Duration::from_secs(5);
/// How long a question may take; a ferry says no after [`honeylink_core::ferry::NO_AFTER`].
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Calls of one ferry that are being answered at a time.
const CALLS_MAX: usize = 16;

impl Inner {
    /// Keeps a connection to every device that is to carry for this one, until the node is over.
    pub(in crate::node) async fn keep_ferries(self: Arc<Self>) {
        if self.carried().is_none() {
            return;
        }
        let names = self.ferry.relay_peers.iter().take(FERRIES_MAX);
        let keeping = join_all(names.map(|name| self.keep_ferry(name)));
        // Not sooner: links that go this way may have something left to say.
        self.over.run_until_cancelled(keeping).await;
    }

    async fn keep_ferry(self: &Arc<Self>, name: &str) {
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            let (id, problem) = match self.resolve(name.into()) {
                Err(why) => (None, why.to_string()),
                Ok(id) => (Some(id), self.cross_by(name, id).await.to_string()),
            };
            self.ferry.note(name, State { id, connected: false, problem: Some(problem) });
            pause = if began.elapsed() > GOOD { PAUSE_MIN } else { pause };
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Uses a ferry for as long as it is there; why it is not any more.
    async fn cross_by(self: &Arc<Self>, name: &str, id: DeviceId) -> ConnLost {
        let Some(quic) = self.carried() else { return ConnLost::ByUs };
        let conn = match self.dial_alpn(id, ALPN_FERRY).await {
            Ok(conn) => conn,
            Err(lost) => return lost,
        };
        self.remember_address(&conn);
        let told = self.store.trust().find(&id).map(|record| record.name);
        let using = async {
            if tokio::time::timeout(ROOM_MAX, until_roomy(&conn)).await.is_err() {
                let problem = "the way to it takes no packets of 1200 bytes within its own";
                let state = State { id: Some(id), connected: false, problem: Some(problem.into()) };
                self.ferry.note(name, state);
                until_roomy(&conn).await;
            }
            let attached = quic.ferries().attach(&conn, told.unwrap_or_else(|| id.short()));
            let Some(attached) = attached else { return };
            self.ferry.note(name, State { id: Some(id), connected: true, problem: None });
            self.serve_ferry(quic, &conn, attached).await;
        };
        tokio::select! {
            biased;
            lost = conn.closed() => return lost,
            () = using => {}
            () = self.until_silent(quic, &conn) => {
                conn.close(code::DONE, "nothing was heard");
                return ConnLost::TimedOut;
            }
        }
        conn.lost().unwrap_or_else(|| {
            conn.close(code::DONE, "not needed");
            ConnLost::ByUs
        })
    }

    /// Waits until nothing was heard for too long; for ever where that says nothing, because who asks seldom hears seldom.
    async fn until_silent(&self, quic: &QuicCarrier, conn: &Conn) {
        if quic.power() != Power::Mains {
            return std::future::pending().await;
        }
        let mut silence = Silence::default();
        while silence.look(self.clock.now(), conn.heard()) < SILENT_MAX {
            tokio::time::sleep(LISTEN_EVERY).await;
        }
    }

    async fn serve_ferry(self: &Arc<Self>, quic: &QuicCarrier, conn: &Conn, _attached: Attached) {
        let calls = async {
            let room = Arc::new(Semaphore::new(CALLS_MAX));
            while let Ok(permit) = room.clone().acquire_owned().await
                && let Ok((send, recv)) = conn.accept().await
            {
                let (inner, conn) = (self.clone(), conn.clone());
                self.tasks.spawn(async move {
                    let answering = inner.serve_call(&conn, send, recv);
                    // Whoever called does not wait any longer.
                    let _ = tokio::time::timeout(ANSWER_MAX, answering).await;
                    drop(permit);
                });
            }
        };
        let packets = async {
            while let Ok(datagram) = conn.read_datagram().await {
                quic.ferries().arrived(conn, datagram);
            }
        };
        tokio::select! {
            biased;
            () = calls => {}
            () = packets => {}
        }
    }

    /// Another device wants to this one.
    async fn serve_call(
        &self,
        conn: &Conn,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> std::io::Result<()> {
        let answer = match hear(&mut recv).await? {
            Ok(Talk::Call { device, handle }) => {
                let opened = self.store.trust().is_trusted(&device)
                    && self.carried().is_some_and(|quic| quic.ferries().open(conn, device, handle).is_ok());
                if opened { Talk::Here } else { Talk::No(honeylink_core::ferry::Refusal::NotHere) }
            }
            Ok(Talk::Ask { .. } | Talk::Yes { .. } | Talk::Here | Talk::No(_)) => return Ok(()),
            Err(why) => Talk::No(why),
        };
        say(&mut send, answer).await?;
        send.finished().await
    }

    /// Whether somebody may carry to a device.
    pub(in crate::node) fn may_cross(&self, peer: &DeviceId) -> bool {
        self.carried().is_some_and(|quic| !quic.ferries().conns_to(peer).is_empty())
    }

    /// Whether somebody is to carry for this node at all.
    pub(in crate::node) fn has_ferries(&self) -> bool {
        self.carried().is_some() && !self.ferry.relay_peers.is_empty()
    }

    /// Asks for a device again and again, until there is a crossing. A ferry takes its time to say no, and the device may have
    /// come aboard a moment after it was asked for: so nobody waits for the answer before he asks again.
    pub(in crate::node) async fn cross_ever(&self, peer: &DeviceId) {
        let mut again = tokio::time::interval(ASK_EVERY);
        let mut asking = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(crossed) = asking.next() => if crossed { return },
                _ = again.tick() => asking.push(self.cross(peer)),
            }
        }
    }

    /// Asks for a device that nothing else is known of. A node that has just started does so for a while, because those that
    /// carry for it, and the other device, may be connected in a moment.
    pub(in crate::node) async fn cross_soon(&self, peer: &DeviceId) -> bool {
        if !self.ferry.has_untried() {
            return self.cross(peer).await;
        }
        tokio::time::timeout(ABOARD_MAX, self.cross_ever(peer)).await.is_ok()
    }

    /// Asks all that carry for this node for a device. True as soon as there is a crossing, over which it is then dialled
    /// too; false once nobody has it.
    pub(in crate::node) async fn cross(&self, peer: &DeviceId) -> bool {
        let Some(quic) = self.carried() else { return false };
        let conns = quic.ferries().conns_to(peer);
        let mut asking: FuturesUnordered<_> = conns.iter().map(|conn| ask(quic, conn, *peer)).collect();
        while let Some(crossed) = asking.next().await {
            if crossed {
                return true;
            }
        }
        false
    }
}

/// Asks one ferry for a device.
async fn ask(quic: &QuicCarrier, conn: &Conn, peer: DeviceId) -> bool {
    let asking = async {
        let (mut send, mut recv) = conn.open().await.ok()?;
        say(&mut send, Talk::Ask { device: peer }).await.ok()?;
        hear(&mut recv).await.ok()
    };
    let answer = tokio::time::timeout(ANSWER_MAX, asking).await;
    match answer {
        Ok(Some(Ok(Talk::Yes { handle }))) => {
            let opened = quic.ferries().open(conn, peer, handle);
            if let Err(why) = opened {
                tracing::debug!(by = %conn.peer().short(), to = %peer.short(), %why, "a crossing cannot be used");
            }
            opened.is_ok()
        }
        Ok(Some(Ok(Talk::No(why)))) => {
            tracing::debug!(by = %conn.peer().short(), to = %peer.short(), %why, "not carried");
            false
        }
        Ok(_) | Err(_) => false,
    }
}
