//! Policies: named sets of what streams ask for, agreed between the two sides of a link.
//!
//! # The protocol, told once
//!
//! A side applies a policy at once, because it steers what that side sends, and tells the other, which may steer its own
//! sending by it. If the other side does not acknowledge within five seconds, or refuses, the policy before it is back in
//! force and everybody is told: two sides that steer differently are worse than two that steer as before. One change
//! is under way at a time.
//!
//! Policies are data here: how they are written down (TOML) and carried is the shell's.

use std::collections::{BTreeMap, VecDeque};

use core::time::Duration;

use super::class::{OptionsError, StreamOptions, Weight};
use super::fec::FecChoice;
use crate::limits::{NAME_BYTES_MAX, POLICIES_MAX, POLICY_ACK_MAX, REASON_BYTES_MAX};
use crate::time::{Deadline, Time};
use crate::wire::link::{Class, Priority};

/// What streams that name this policy ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// 1 to 63 letters, digits, `-` or `_`.
    pub name: String,
    /// What the streams ask for.
    pub options: StreamOptions,
    /// Repair of lost datagrams.
    pub fec: FecChoice,
}

/// Why a policy cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Its name.
    #[error("`{name}` is no name for a policy: 1 to 63 letters, digits, `-` or `_`")]
    Name {
        /// What was given.
        name: String,
    },
    /// What it asks for.
    #[error("policy `{name}`: {why}")]
    Options {
        /// Which policy.
        name: String,
        /// Which part.
        why: OptionsError,
    },
    /// Repair without a deadline.
    #[error("policy `{name}` repairs datagrams but gives no deadline: a late repair is as lost as none")]
    FecWithoutDeadline {
        /// Which policy.
        name: String,
    },
    /// No preset of that name.
    #[error("no preset `{name}`; there are: gaming-input, ar-vr, media-8k, file, iot")]
    UnknownPreset {
        /// What was given.
        name: String,
    },
    /// Too many.
    #[error("{max} policies are in use already")]
    TooMany {
        /// The most there may be.
        max: usize,
    },
}

/// The policies that come with the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// Button presses and pointer moves: tiny, constant, worthless after 20 ms.
    GamingInput,
    /// Frames and poses of a headset: realtime with a guaranteed rate.
    ArVr,
    /// A film of high resolution: a guaranteed rate, but no hurry beyond the player's buffer.
    Media8k,
    /// Files: whatever is left over.
    File,
    /// Readings of sensors: little, and capped so that a broken one disturbs nobody.
    Iot,
}

const MBIT: u64 = 125_000;

impl Preset {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::GamingInput, Self::ArVr, Self::Media8k, Self::File, Self::Iot];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GamingInput => "gaming-input",
            Self::ArVr => "ar-vr",
            Self::Media8k => "media-8k",
            Self::File => "file",
            Self::Iot => "iot",
        }
    }

    /// The preset of that name.
    ///
    /// # Errors
    /// [`PolicyError::UnknownPreset`], naming those there are.
    pub fn from_name(name: &str) -> Result<Self, PolicyError> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == name);
        found.ok_or_else(|| PolicyError::UnknownPreset { name: name.to_owned() })
    }

    /// What it stands for.
    #[must_use]
    pub fn policy(self) -> Policy {
        let of = |priority: Class| StreamOptions::from(Priority::from(priority));
        let (options, fec) = match self {
            Self::GamingInput => (
                StreamOptions {
                    rate_max: Some(MBIT),
                    deadline: Some(Duration::from_millis(20)),
                    ..of(Class::Realtime)
                },
                FecChoice::AtLeastLight,
            ),
            Self::ArVr => (
                StreamOptions {
                    priority: Priority::new(6).unwrap_or_default(),
                    rate_max: Some(100 * MBIT),
                    deadline: Some(Duration::from_millis(50)),
                    ..of(Class::Realtime)
                },
                FecChoice::AtLeastLight,
            ),
            // 8K at 60 frames a second is delivered with 50 to 100 Mbit/s in HEVC.
            Self::Media8k => (
                StreamOptions {
                    priority: Priority::new(5).unwrap_or_default(),
                    rate_min: Some(50 * MBIT),
                    weight: Weight::new(8).unwrap_or_default(),
                    deadline: Some(Duration::from_millis(500)),
                    ..of(Class::Interactive)
                },
                FecChoice::Auto,
            ),
            Self::File => (of(Class::Bulk), FecChoice::Off),
            Self::Iot => {
                (StreamOptions { rate_max: Some(MBIT / 2), ..of(Class::Interactive) }, FecChoice::Off)
            }
        };
        Policy { name: self.name().to_owned(), options, fec }
    }
}

impl Policy {
    /// Whether it can be used.
    ///
    /// # Errors
    /// [`PolicyError`], naming the policy and the part.
    pub fn check(&self) -> Result<(), PolicyError> {
        let name = self.name.clone();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(sound) {
            return Err(PolicyError::Name { name: name.chars().take(NAME_BYTES_MAX).collect() });
        }
        if let Err(why) = self.options.check() {
            return Err(PolicyError::Options { name, why });
        }
        if self.fec != FecChoice::Off && self.options.deadline.is_none() {
            return Err(PolicyError::FecWithoutDeadline { name });
        }
        Ok(())
    }
}

/// What the two sides say to each other about policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyFrame {
    /// I steer by this policy from now on.
    Apply {
        /// Counts the changes of this side.
        revision: u64,
        /// The policy.
        policy: Policy,
    },
    /// I know that policy and can live with it.
    Ack {
        /// Of which change.
        revision: u64,
    },
    /// I do not take it.
    Refuse {
        /// Of which change.
        revision: u64,
        /// For people.
        reason: String,
    },
}

/// What can happen.
#[derive(Debug)]
pub enum PolicyInput {
    /// The application wants this policy.
    Propose(Policy),
    /// The peer said something.
    Frame(PolicyFrame),
    /// A deadline passed.
    Timeout,
    /// The peer cannot answer any more: what carried the question is gone, or whoever asked stopped waiting.
    GiveUp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyOutput {
    /// Say this to the peer.
    Transmit(PolicyFrame),
    /// Steer by this policy from now on.
    Use(Policy),
    /// Streams of that policy ask for nothing special any more: there was none before.
    Drop {
        /// Its name.
        name: String,
    },
    /// Both sides know the policy.
    Agreed {
        /// Its name.
        name: String,
    },
    /// The policy before it is back in force.
    RolledBack {
        /// Its name.
        name: String,
        /// Why, for people.
        why: String,
    },
    /// A proposal was not taken up.
    Rejected(PolicyRejected),
    /// The peer steers by this policy.
    PeerUses(Policy),
}

/// Why a proposal was not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRejected {
    /// The policy is unusable.
    #[error(transparent)]
    Unusable(#[from] PolicyError),
    /// Another one is still being agreed.
    #[error("policy `{name}` is still being agreed with the other device; try again in a moment")]
    Busy {
        /// Which.
        name: String,
    },
}

/// A change the peer has not answered yet.
#[derive(Debug)]
struct Pending {
    revision: u64,
    name: String,
    before: Option<Policy>,
    until: Time,
}

/// The policies of one link and their agreement. See the [module](self).
#[derive(Debug, Default)]
pub struct Policies {
    ours: BTreeMap<String, Policy>,
    peers: BTreeMap<String, Policy>,
    revision: u64,
    pending: Option<Pending>,
    taken_back: Option<TakenBack>,
    outputs: VecDeque<PolicyOutput>,
}

/// A policy that was taken back, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// Its name.
    pub name: String,
    /// Why, for people.
    pub why: String,
}

impl Policies {
    /// The policy of that name in force here.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.ours.get(name)
    }

    /// The policy of that name by which the peer steers.
    #[must_use]
    pub fn peers_policy(&self, name: &str) -> Option<&Policy> {
        self.peers.get(name)
    }

    /// Whether both sides know the policy of that name in force here; not while the peer has yet to answer.
    #[must_use]
    pub fn is_agreed(&self, name: &str) -> bool {
        self.ours.contains_key(name) && self.pending.as_ref().is_none_or(|pending| pending.name != name)
    }

    /// The policy that was taken back last, until one of its name is agreed.
    #[must_use]
    pub const fn taken_back(&self) -> Option<&TakenBack> {
        self.taken_back.as_ref()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: PolicyInput) {
        match input {
            PolicyInput::Propose(policy) => {
                let proposed = self.propose(now, policy);
                self.outputs.extend(proposed.err().map(PolicyOutput::Rejected));
            }
            PolicyInput::Frame(PolicyFrame::Apply { revision, policy }) => {
                self.peer_applies(revision, policy);
            }
            PolicyInput::Frame(PolicyFrame::Ack { revision }) => {
                if let Some(pending) = self.pending.take_if(|pending| pending.revision == revision) {
                    self.taken_back.take_if(|before| before.name == pending.name);
                    self.outputs.push_back(PolicyOutput::Agreed { name: pending.name });
                }
            }
            PolicyInput::Frame(PolicyFrame::Refuse { revision, reason }) => {
                if let Some(pending) = self.pending.take_if(|pending| pending.revision == revision) {
                    self.roll_back(pending, format!("the other device refused it: {reason}"));
                }
            }
            PolicyInput::Timeout => {
                if let Some(pending) = self.pending.take_if(|pending| pending.until <= now) {
                    let waited = POLICY_ACK_MAX.as_secs();
                    self.roll_back(pending, format!("the other device did not answer within {waited} s"));
                }
            }
            PolicyInput::GiveUp => {
                if let Some(pending) = self.pending.take() {
                    self.roll_back(pending, "the other device did not acknowledge it".to_owned());
                }
            }
        }
    }

    /// What to do next; drain to `None` after every [`Policies::handle`].
    pub fn poll_output(&mut self) -> Option<PolicyOutput> {
        self.outputs.pop_front()
    }

    /// When to call with [`PolicyInput::Timeout`], and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.pending.as_ref().map(|pending| Deadline { at: pending.until, why: "policy not acknowledged" })
    }

    fn propose(&mut self, now: Time, policy: Policy) -> Result<(), PolicyRejected> {
        policy.check()?;
        if let Some(pending) = &self.pending {
            return Err(PolicyRejected::Busy { name: pending.name.clone() });
        }
        let name = policy.name.clone();
        if !self.ours.contains_key(&name) && self.ours.len() >= POLICIES_MAX {
            return Err(PolicyError::TooMany { max: POLICIES_MAX }.into());
        }
        self.revision += 1;
        let revision = self.revision;
        let before = self.ours.insert(name.clone(), policy.clone());
        self.pending = Some(Pending { revision, name, before, until: now + POLICY_ACK_MAX });
        self.outputs.push_back(PolicyOutput::Use(policy.clone()));
        self.outputs.push_back(PolicyOutput::Transmit(PolicyFrame::Apply { revision, policy }));
        Ok(())
    }

    fn peer_applies(&mut self, revision: u64, policy: Policy) {
        let known = self.peers.contains_key(&policy.name);
        let too_many = !known && self.peers.len() >= POLICIES_MAX;
        let problem = match policy.check() {
            Err(error) => Some(error.to_string()),
            Ok(()) => too_many.then(|| PolicyError::TooMany { max: POLICIES_MAX }.to_string()),
        };
        let answer = match problem {
            Some(mut reason) => {
                reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                PolicyFrame::Refuse { revision, reason }
            }
            None => {
                self.peers.insert(policy.name.clone(), policy.clone());
                self.outputs.push_back(PolicyOutput::PeerUses(policy));
                PolicyFrame::Ack { revision }
            }
        };
        self.outputs.push_back(PolicyOutput::Transmit(answer));
    }

    /// Puts what was before back in force, and tells the peer: its answer may only have been late.
    fn roll_back(&mut self, pending: Pending, why: String) {
        let Pending { name, before, .. } = pending;
        match before {
            Some(before) => {
                self.ours.insert(name.clone(), before.clone());
                self.revision += 1;
                let revision = self.revision;
                self.outputs.push_back(PolicyOutput::Use(before.clone()));
                self.outputs
                    .push_back(PolicyOutput::Transmit(PolicyFrame::Apply { revision, policy: before }));
            }
            None => {
                self.ours.remove(&name);
                self.outputs.push_back(PolicyOutput::Drop { name: name.clone() });
            }
        }
        self.taken_back = Some(TakenBack { name: name.clone(), why: why.clone() });
        self.outputs.push_back(PolicyOutput::RolledBack { name, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(policies: &mut Policies) -> Vec<PolicyOutput> {
        std::iter::from_fn(|| policies.poll_output()).collect()
    }

    fn named(name: &str, weight: u8) -> Policy {
        let weight = Weight::new(weight).unwrap();
        let options = StreamOptions { weight, ..StreamOptions::default() };
        Policy { name: name.into(), options, fec: FecChoice::Off }
    }

    #[test]
    fn every_preset_is_usable_and_found_by_its_name() {
        for preset in Preset::ALL {
            assert_eq!(preset.policy().check(), Ok(()), "{preset:?}");
            assert_eq!(Preset::from_name(preset.name()), Ok(preset));
        }
        let unknown = Preset::from_name("gamimg").unwrap_err().to_string();
        assert!(unknown.contains("`gamimg`") && unknown.contains("gaming-input"), "{unknown}");
        assert_eq!(Preset::GamingInput.policy().options.priority.class(), Class::Realtime);
        assert_eq!(Preset::ArVr.policy().options.priority.as_u8(), 6);
    }

    #[test]
    fn an_unusable_policy_says_which_part() {
        let bad = |policy: Policy| policy.check().unwrap_err();
        assert!(matches!(bad(named("", 1)), PolicyError::Name { .. }));
        assert!(matches!(bad(named("a b", 1)), PolicyError::Name { .. }));
        let mut policy = named("x", 1);
        policy.fec = FecChoice::Auto;
        assert_eq!(bad(policy), PolicyError::FecWithoutDeadline { name: "x".into() });
        let mut policy = named("x", 1);
        policy.options.rate_min = Some(0);
        assert!(bad(policy).to_string().contains("rate_min is 0"));
    }

    #[test]
    fn a_policy_is_in_force_at_once_and_agreed_when_the_peer_says_so() {
        let (mut ours, mut theirs) = (Policies::default(), Policies::default());
        let policy = Preset::Media8k.policy();
        ours.handle(Time::ZERO, PolicyInput::Propose(policy.clone()));
        assert_eq!(ours.policy("media-8k"), Some(&policy));
        let Some([PolicyOutput::Use(used), PolicyOutput::Transmit(apply)]) =
            drain(&mut ours).first_chunk().cloned()
        else {
            unreachable!("a proposal is used and told")
        };
        assert_eq!(used, policy);
        theirs.handle(Time::ZERO, PolicyInput::Frame(apply));
        let Some([PolicyOutput::PeerUses(seen), PolicyOutput::Transmit(ack)]) =
            drain(&mut theirs).first_chunk().cloned()
        else {
            unreachable!("a sound policy is acknowledged")
        };
        assert_eq!(seen, policy);
        ours.handle(Time::from_millis(4999), PolicyInput::Frame(ack));
        assert_eq!(drain(&mut ours), [PolicyOutput::Agreed { name: "media-8k".into() }]);
        assert_eq!(ours.poll_timeout(), None);
    }

    #[test]
    fn without_an_answer_in_five_seconds_the_policy_before_is_back() {
        let mut ours = Policies::default();
        ours.handle(Time::ZERO, PolicyInput::Propose(named("x", 1)));
        ours.handle(Time::ZERO, PolicyInput::Frame(PolicyFrame::Ack { revision: 1 }));
        ours.handle(Time::ZERO, PolicyInput::Propose(named("x", 2)));
        drain(&mut ours);
        assert_eq!(ours.poll_timeout().unwrap().at, Time::from_millis(5000));
        ours.handle(Time::from_millis(4999), PolicyInput::Timeout);
        assert_eq!(drain(&mut ours), []);
        ours.handle(Time::from_millis(5000), PolicyInput::Timeout);
        let said = drain(&mut ours);
        assert_eq!(said[0], PolicyOutput::Use(named("x", 1)));
        assert!(matches!(&said[1], PolicyOutput::Transmit(PolicyFrame::Apply { revision: 3, .. })));
        assert!(matches!(&said[2], PolicyOutput::RolledBack { name, .. } if name == "x"));
        assert_eq!(ours.policy("x"), Some(&named("x", 1)));
        assert!(ours.taken_back().is_some_and(|back| back.why.contains("within 5 s")));
        ours.handle(Time::ZERO, PolicyInput::Propose(named("x", 3)));
        assert!(!ours.is_agreed("x"), "nobody answered yet");
        ours.handle(Time::ZERO, PolicyInput::Frame(PolicyFrame::Ack { revision: 4 }));
        assert!(
            ours.is_agreed("x") && ours.taken_back().is_none(),
            "what is agreed is not taken back any more"
        );
    }

    #[test]
    fn a_refused_first_policy_leaves_none() {
        let mut ours = Policies::default();
        ours.handle(Time::ZERO, PolicyInput::Propose(named("x", 1)));
        drain(&mut ours);
        let refuse = PolicyFrame::Refuse { revision: 1, reason: "no".into() };
        ours.handle(Time::ZERO, PolicyInput::Frame(refuse));
        assert_eq!(drain(&mut ours)[0], PolicyOutput::Drop { name: "x".into() });
        assert_eq!(ours.policy("x"), None);
    }

    #[test]
    fn a_change_that_nobody_can_answer_any_more_is_taken_back() {
        let mut ours = Policies::default();
        ours.handle(Time::ZERO, PolicyInput::Propose(named("x", 1)));
        drain(&mut ours);
        ours.handle(Time::ZERO, PolicyInput::GiveUp);
        assert!(matches!(
            &drain(&mut ours)[..],
            [PolicyOutput::Drop { .. }, PolicyOutput::RolledBack { .. }]
        ));
        ours.handle(Time::ZERO, PolicyInput::Propose(named("y", 1)));
        assert_eq!(ours.policy("y"), Some(&named("y", 1)));
    }

    #[test]
    fn a_second_proposal_waits_for_the_first() {
        let mut ours = Policies::default();
        ours.handle(Time::ZERO, PolicyInput::Propose(named("x", 1)));
        drain(&mut ours);
        ours.handle(Time::ZERO, PolicyInput::Propose(named("y", 1)));
        let busy = PolicyOutput::Rejected(PolicyRejected::Busy { name: "x".into() });
        assert_eq!(drain(&mut ours), [busy]);
    }

    proptest! {
        /// A peer that answers what was never asked, twice, or with nonsense changes nothing of ours.
        #[test]
        fn no_answers_of_a_liar_change_a_policy_that_was_agreed(
            acks in proptest::collection::vec((0_u64..5, any::<bool>()), 0..20),
            names in proptest::collection::vec("[ -~]{0,70}", 0..100),
        ) {
            let mut ours = Policies::default();
            ours.handle(Time::ZERO, PolicyInput::Propose(named("mine", 3)));
            ours.handle(Time::ZERO, PolicyInput::Frame(PolicyFrame::Ack { revision: 1 }));
            for (revision, ack) in acks {
                let frame = match ack {
                    true => PolicyFrame::Ack { revision },
                    false => PolicyFrame::Refuse { revision, reason: "x".repeat(1000) },
                };
                ours.handle(Time::ZERO, PolicyInput::Frame(frame));
            }
            for (revision, name) in (0..).zip(names) {
                let policy = Policy { name, ..named("x", 1) };
                ours.handle(Time::ZERO, PolicyInput::Frame(PolicyFrame::Apply { revision, policy }));
            }
            prop_assert_eq!(ours.policy("mine"), Some(&named("mine", 3)));
            prop_assert!(ours.peers.len() <= POLICIES_MAX);
            prop_assert!(ours.peers.values().all(|policy| policy.check().is_ok()));
        }
    }
}
