//! The node's one desk: the core's [`Desk`] behind a lock, with a clock, a generator and a way to watch it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::pairing::Hint;
use honeylink_core::pairing::desk::{Claim, Desk, OpenError, Order, TicketId};
use honeylink_core::pairing::pake::{Agreed, Confirm, Host};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::clock::Clock;

use super::{Code, Invite, Purpose, Refusal, Source};

/// The codes a node has open and the rules for using them. Cheap to clone; all clones are the same desk.
///
/// The wrong tries it counts live as long as the node: closing and opening codes does not reset them.
#[derive(Clone)]
pub struct PairingDesk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    changed: watch::Sender<()>,
}

struct State {
    desk: Desk,
    rng: Rng,
}

/// A code just opened, as a code to say and an invite to scan. Using either uses up both.
#[derive(Clone, Debug)]
pub struct OpenCode {
    /// For closing it, and for recognising it in [`Paired`](super::Paired).
    pub ticket: TicketId,
    /// To say or type.
    pub code: Code,
    /// To scan or send.
    pub invite: Invite,
    /// How long it works.
    pub lifetime: Duration,
}

/// What the desk shows the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeskState {
    /// Whether the device is in pairing mode.
    pub open: bool,
    /// The numbers of open codes of words, to be announced nearby.
    pub nameplates: Vec<u16>,
}

impl PairingDesk {
    /// A desk with nothing open. `rng` makes the codes: seed it from the operating system.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        let state = Mutex::new(State { desk: Desk::default(), rng });
        Self { shared: Arc::new(Shared { state, clock: Clock::start(), changed: watch::Sender::new(()) }) }
    }

    /// Opens a code and the invite that goes with it.
    ///
    /// # Errors
    /// [`OpenError`] says why not.
    pub fn open(&self, order: &Order) -> Result<OpenCode, OpenError> {
        let now = self.now();
        let opened = {
            let mut state = self.lock();
            let State { desk, rng } = &mut *state;
            desk.open(now, rng, order)?
        };
        self.shared.changed.send_replace(());
        let lifetime = opened.expires.saturating_since(now);
        Ok(OpenCode { ticket: opened.ticket, code: opened.code, invite: opened.invite, lifetime })
    }

    /// Withdraws a code. `false` if it was no longer open.
    pub fn close(&self, ticket: TicketId) -> bool {
        self.change(|desk, _| desk.close(ticket))
    }

    /// Ends pairing mode altogether.
    pub fn close_all(&self) {
        self.change(|desk, _| desk.close_all());
    }

    /// Lets devices without a code ask for a comparison of short strings, until one succeeds or the time is over.
    pub fn open_walk_ins(&self, lifetime: Duration) {
        self.change(|desk, now| desk.open_walk_ins(now, lifetime));
    }

    /// Whether the device is in pairing mode.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let now = self.now();
        self.lock().desk.is_open(now)
    }

    /// Whether this code is still open.
    #[must_use]
    pub fn is_ticket_open(&self, ticket: TicketId) -> bool {
        let now = self.now();
        self.lock().desk.is_ticket_open(now, ticket)
    }

    /// What the desk shows right now.
    #[must_use]
    pub fn state(&self) -> DeskState {
        let now = self.now();
        let mut state = self.lock();
        DeskState { open: state.desk.is_open(now), nameplates: state.desk.nameplates(now) }
    }

    /// Follows what the desk shows, for discovery and the screen.
    #[must_use]
    pub fn watch(&self) -> DeskWatch {
        let changes = self.shared.changed.subscribe();
        DeskWatch { last: self.state(), desk: self.clone(), changes }
    }

    pub(super) fn claim(&self, source: &Source, purpose: Purpose, hint: Hint) -> Result<Claim, Refusal> {
        let now = self.now();
        self.lock().desk.claim(now, source, purpose, hint)
    }

    pub(super) fn judge(
        &self,
        source: Source,
        ticket: (TicketId, Hint),
        host: Host,
        proof: &Confirm,
    ) -> Result<(Agreed, Confirm), Refusal> {
        self.change(|desk, now| desk.judge(now, source, ticket, host, proof))
    }

    pub(super) fn walk_in_ended(&self, source: Source, agreed: Option<bool>) {
        self.change(|desk, now| desk.walk_in_ended(now, source, agreed));
    }

    /// A generator of its own for one ceremony, so that no two wait for each other.
    pub(super) fn spawn_rng(&self) -> Rng {
        Rng::from_seed(self.lock().rng.bytes())
    }

    fn change<T>(&self, act: impl FnOnce(&mut Desk, Time) -> T) -> T {
        let now = self.now();
        let outcome = act(&mut self.lock().desk, now);
        self.shared.changed.send_replace(());
        outcome
    }

    fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// A panic elsewhere while the lock was held leaves a desk that is still consistent: no method stops halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for PairingDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PairingDesk").field(&self.state()).finish()
    }
}

/// Reports each change of what a desk shows, expiry included.
#[derive(Debug)]
pub struct DeskWatch {
    desk: PairingDesk,
    changes: watch::Receiver<()>,
    last: DeskState,
}

impl DeskWatch {
    /// Waits until the desk shows something else than last time, and returns that.
    pub async fn changed(&mut self) -> DeskState {
        loop {
            let state = self.desk.state();
            if state != self.last {
                self.last = state.clone();
                return state;
            }
            let deadline = self.desk.lock().desk.poll_timeout();
            let expiry = async {
                match deadline {
                    Some(deadline) => sleep_until(self.desk.shared.clock.instant(deadline.at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // The sender lives in the desk that this watch holds, so the channel cannot close.
                _ = self.changes.changed() => {}
                () = expiry => {}
            }
        }
    }
}
