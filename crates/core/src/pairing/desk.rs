//! The desk at which strangers present codes: which codes are open, and the judgement of every attempt.
//!
//! A device is *in pairing mode* while something is open here: a code a person asked for, or walk-ins (comparison of
//! short strings without a code). With nothing open, every stranger is turned away before any prompt appears.
//!
//! The desk is what makes 20 bits enough. A code works once, lives five minutes, and [`Desk::judge`] is the only door:
//! it asks the limiter, checks the proof and counts the outcome in one step, so a thousand attempts begun at the same
//! time still get three guesses between them. An attempt given up before its proof costs nothing, because until then the
//! guest has learnt nothing.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use zeroize::Zeroizing;

use super::code::{Code, Form, NAMEPLATE_MAX, NEARBY_NAMEPLATE_MAX};
use super::invite::Invite;
use super::limiter::{Limiter, Locked, Source};
use super::pake::{Agreed, Confirm, Host};
use super::refusal::Refusal;
use super::{Hint, Purpose, Secret};
use crate::identity::DeviceId;
use crate::limits::{PAIRING_CODE_LIFETIME, PAIRING_CODES_OPEN_MAX, PAIRING_CODES_REMEMBERED_MAX};
use crate::rng::Rng;
use crate::time::{Deadline, Time};
use crate::wire::relay::RelayAddr;

/// Names one opening of a code on this desk; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(u64);

/// What to open.
#[derive(Clone, Debug)]
pub struct Order {
    /// Words or digits.
    pub form: Form,
    /// Whether a code of words is to be found across the internet too: its number is a larger one then.
    pub wide: bool,
    /// What the code will be good for.
    pub purpose: Purpose,
    /// How long it lives; at most [`PAIRING_CODE_LIFETIME`].
    pub lifetime: Duration,
    /// This device.
    pub host: DeviceId,
    /// Where it can be reached; the first three go into the invite.
    pub addresses: Vec<SocketAddr>,
    /// A relay through which it can be reached; it goes into the invite.
    pub relay: Option<RelayAddr>,
}

/// A code just opened: the same opportunity as a code to say and an invite to scan. Whichever comes first uses up both.
#[derive(Clone, Debug)]
pub struct Opened {
    /// For closing it again.
    pub ticket: TicketId,
    /// To say or type.
    pub code: Code,
    /// To scan or send.
    pub invite: Invite,
    /// When it stops working.
    pub expires: Time,
}

/// Why no code could be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Wrong tries have locked pairing.
    #[error(transparent)]
    Locked(Locked),
    /// As many codes are open as may be.
    #[error("{PAIRING_CODES_OPEN_MAX} codes are open already; close one or wait until one expires")]
    TooMany,
    /// Digits carry no number to tell two codes apart, so one at a time.
    #[error("a code of digits is open already; close it, or open a code of words")]
    DigitsInUse,
}

/// An attempt the desk lets in.
#[derive(Debug)]
pub enum Claim {
    /// The guest holds a code; here is its secret for the exchange.
    Code(TicketId, Secret),
    /// The guest has none; both people compare short strings.
    WalkIn,
}

/// Open codes, walk-ins and wrong tries of one device.
#[derive(Debug, Default)]
pub struct Desk {
    tickets: BTreeMap<TicketId, Ticket>,
    /// Why codes of the recent past no longer work, newest last, to answer better than "no such code".
    past: VecDeque<(Hint, Refusal)>,
    walk_ins_until: Option<Time>,
    walk_in_busy: bool,
    limiter: Limiter,
    next: u64,
}

#[derive(Debug)]
struct Ticket {
    code: Code,
    invite: Invite,
    purpose: Purpose,
    expires: Time,
}

impl Ticket {
    fn hints(&self) -> [Hint; 2] {
        [self.code.hint(), self.invite.hint()]
    }
}

impl Desk {
    /// Opens a code and the invite that goes with it.
    ///
    /// # Errors
    /// [`OpenError`] says why not.
    pub fn open(&mut self, now: Time, rng: &mut Rng, order: &Order) -> Result<Opened, OpenError> {
        self.expire(now);
        self.limiter.admit_anyone(now).map_err(OpenError::Locked)?;
        if self.tickets.len() >= PAIRING_CODES_OPEN_MAX {
            return Err(OpenError::TooMany);
        }
        let code = match order.form {
            Form::Digits if self.tickets.values().any(|t| t.code.hint() == Hint::Digits) => {
                return Err(OpenError::DigitsInUse);
            }
            Form::Digits => Code::generate_digits(rng),
            Form::Words => {
                let nameplate = self.free_nameplate(rng, order.wide);
                Code::generate_with_nameplate(rng, nameplate)
            }
        };
        let invite =
            Invite::with_secret(order.purpose, order.host, Zeroizing::new(rng.bytes()), &order.addresses)
                .with_relay(order.relay.clone());
        let expires = now + order.lifetime.min(PAIRING_CODE_LIFETIME);
        let ticket = TicketId(self.next);
        self.next += 1;
        // An old memory of the same number would answer for the new code once that is gone.
        self.past.retain(|(hint, _)| *hint != code.hint());
        let held = Ticket { code: code.clone(), invite: invite.clone(), purpose: order.purpose, expires };
        self.tickets.insert(ticket, held);
        Ok(Opened { ticket, code, invite, expires })
    }

    /// Withdraws a code. `false` if it was no longer open.
    pub fn close(&mut self, ticket: TicketId) -> bool {
        self.retire(ticket, Refusal::Withdrawn)
    }

    /// Lets devices without a code ask for a comparison, for `lifetime` (at most [`PAIRING_CODE_LIFETIME`]).
    pub fn open_walk_ins(&mut self, now: Time, lifetime: Duration) -> Time {
        let until = now + lifetime.min(PAIRING_CODE_LIFETIME);
        self.walk_ins_until = Some(until);
        until
    }

    /// Ends pairing mode: withdraws every code and turns walk-ins away.
    pub fn close_all(&mut self) {
        self.walk_ins_until = None;
        let open: Vec<TicketId> = self.tickets.keys().copied().collect();
        for ticket in open {
            self.retire(ticket, Refusal::Withdrawn);
        }
    }

    /// Whether anything is open.
    pub fn is_open(&mut self, now: Time) -> bool {
        self.expire(now);
        !self.tickets.is_empty() || self.walk_ins_until.is_some()
    }

    /// Whether this code is still open.
    pub fn is_ticket_open(&mut self, now: Time, ticket: TicketId) -> bool {
        self.expire(now);
        self.tickets.contains_key(&ticket)
    }

    /// The numbers of the open codes of words, sorted: the public part, for announcing on the local network.
    pub fn nameplates(&mut self, now: Time) -> Vec<u16> {
        self.expire(now);
        let mut numbers: Vec<u16> = self.tickets.values().filter_map(|t| t.code.nameplate()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// When the next code or the walk-ins end.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let codes = self.tickets.values().map(|t| t.expires).min();
        Deadline::earliest(
            codes.map(|at| Deadline { at, why: "a pairing code expires" }),
            self.walk_ins_until.map(|at| Deadline { at, why: "pairing mode ends" }),
        )
    }

    /// Lets an attempt in, or says why not. A claim is no promise: the code may be gone when the proof comes.
    ///
    /// # Errors
    /// The refusal to send.
    pub fn claim(
        &mut self,
        now: Time,
        source: &Source,
        purpose: Purpose,
        hint: Hint,
    ) -> Result<Claim, Refusal> {
        self.expire(now);
        if !self.is_open(now) {
            // What became of a code that was open is worth more than "not open".
            return Err(self.fate_of(hint).unwrap_or(Refusal::NotOpen));
        }
        self.limiter.admit(now, source).map_err(locked)?;
        if hint == Hint::Sas {
            return self.claim_walk_in(purpose);
        }
        let found = self.tickets.iter().find(|(_, t)| t.hints().contains(&hint));
        let Some((id, ticket)) = found else {
            return Err(self.fate_of(hint).unwrap_or(Refusal::NoSuchCode));
        };
        if ticket.purpose != purpose {
            return Err(Refusal::WrongPurpose);
        }
        let secret = if ticket.code.hint() == hint { ticket.code.secret() } else { ticket.invite.secret() };
        Ok(Claim::Code(*id, secret))
    }

    /// Judges a guest's proof: right uses the code up and yields the host's proof, wrong is counted.
    ///
    /// # Errors
    /// The refusal to send.
    pub fn judge(
        &mut self,
        now: Time,
        source: Source,
        (ticket, hint): (TicketId, Hint),
        host: Host,
        proof: &Confirm,
    ) -> Result<(Agreed, Confirm), Refusal> {
        self.expire(now);
        if !self.tickets.contains_key(&ticket) {
            // Another guest was faster, its owner closed it, or its time ran out.
            return Err(self.fate_of(hint).unwrap_or(Refusal::Expired));
        }
        self.limiter.admit(now, &source).map_err(locked)?;
        if let Ok(agreed) = host.guest_confirmed(proof) {
            self.retire(ticket, Refusal::Used);
            Ok(agreed)
        } else {
            self.limiter.failed(now, source);
            Err(Refusal::WrongCode)
        }
    }

    /// Reports how a walk-in ended. Agreement ends walk-ins, a difference counts as a wrong try, and giving up
    /// (`None`) only frees the desk.
    pub fn walk_in_ended(&mut self, now: Time, source: Source, agreed: Option<bool>) {
        self.walk_in_busy = false;
        match agreed {
            Some(true) => self.walk_ins_until = None,
            Some(false) => self.limiter.failed(now, source),
            None => {}
        }
    }

    /// One at a time: a person can compare only one string, and a second stranger must not swap the first one's.
    fn claim_walk_in(&mut self, purpose: Purpose) -> Result<Claim, Refusal> {
        if self.walk_ins_until.is_none() {
            return Err(Refusal::NotOpen);
        }
        if purpose != Purpose::Pair {
            return Err(Refusal::WrongPurpose);
        }
        if core::mem::replace(&mut self.walk_in_busy, true) {
            return Err(Refusal::Busy);
        }
        Ok(Claim::WalkIn)
    }

    fn expire(&mut self, now: Time) {
        if self.walk_ins_until.is_some_and(|until| until <= now) {
            self.walk_ins_until = None;
        }
        let over: Vec<TicketId> =
            self.tickets.iter().filter(|(_, t)| t.expires <= now).map(|(id, _)| *id).collect();
        for ticket in over {
            self.retire(ticket, Refusal::Expired);
        }
    }

    fn retire(&mut self, ticket: TicketId, why: Refusal) -> bool {
        let Some(ticket) = self.tickets.remove(&ticket) else {
            return false;
        };
        for hint in ticket.hints() {
            if self.past.len() >= PAIRING_CODES_REMEMBERED_MAX {
                self.past.pop_front();
            }
            self.past.push_back((hint, why));
        }
        true
    }

    fn fate_of(&self, hint: Hint) -> Option<Refusal> {
        self.past.iter().rev().find(|(past, _)| *past == hint).map(|(_, why)| *why)
    }

    /// A number no open code has. Low numbers are easier to say, so the draw is from the first hundred where nobody but
    /// neighbours sees it.
    fn free_nameplate(&self, rng: &mut Rng, wide: bool) -> u16 {
        let taken = |n: u16| self.tickets.values().any(|t| t.code.nameplate() == Some(n));
        if wide {
            let (least, most) = (NEARBY_NAMEPLATE_MAX + 1, NAMEPLATE_MAX);
            let drawn = least + u16::try_from(rng.below(u64::from(most - least))).unwrap_or(0);
            return (drawn..=most).find(|n| !taken(*n)).unwrap_or(drawn);
        }
        let drawn = u16::try_from(rng.below(99)).unwrap_or(0) + 1;
        (drawn..=NEARBY_NAMEPLATE_MAX).find(|n| !taken(*n)).unwrap_or(drawn)
    }
}

fn locked(locked: Locked) -> Refusal {
    Refusal::TooManyTries { retry_after: locked.retry_after }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
