//! What each of the two devices does, from how both boxes behave. Both sides work it out for themselves, alike.
//!
//! # The arithmetic of guessing
//!
//! The side behind the harder box opens `s` sockets, each of which talks to the one known endpoint of the other side: that
//! makes `s` mappings there, at ports nobody knows. The other side sends from its one socket to `g` different ports. One
//! of them hits a mapping with the probability `1 - (1 - s/n)^g`, where `n` are the ports a box chooses from (64,512 without
//! the well-known ones). 256 sockets and 1,024 guesses make 98.3 %, 2,048 make 99.97 % ([`chance`]). It is the birthday
//! paradox, and it needs one side whose endpoint does not change.

use super::behavior::{Allocation, Behavior, Mapping};
use crate::limits::{NAT_PROBES_MAX, NAT_SOCKETS_MAX};

/// The first port that boxes give away.
pub const PORT_FIRST: u16 = 1024;
/// How many ports they choose from.
pub const PORTS: u32 = 65_536 - PORT_FIRST as u32;
/// Sockets towards a box whose ports can be predicted: as many as others may take between looking and trying.
const SOCKETS_PREDICTED: u16 = 32;

/// Which ports are tried, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every port a box may choose, shuffled.
    Shuffled,
    /// Those that come next.
    Sequence {
        /// The last one that was seen.
        last: u16,
        /// From one to the next.
        step: u16,
    },
}

impl Ports {
    /// The guess with this number, if ports come in a sequence.
    #[must_use]
    pub const fn predicted(self, index: u16) -> Option<u16> {
        match self {
            Self::Shuffled => None,
            Self::Sequence { last, step } => {
                let past = last.wrapping_add(step.wrapping_mul(index.wrapping_add(1)));
                // A box that comes to the end goes on at its beginning.
                Some(if past < PORT_FIRST { past + PORT_FIRST } else { past })
            }
        }
    }
}

/// What one side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Opens sockets; each talks to the other side's one endpoint.
    Open {
        /// How many.
        sockets: u16,
    },
    /// Sends from one socket to ports of the other side's address.
    Guess {
        /// Which ones.
        ports: Ports,
        /// How many at most.
        probes: u16,
    },
    /// Opens sockets; the first talks to the other side's next port, the second to the one after that.
    Mirror {
        /// How many.
        sockets: u16,
        /// The other side's ports.
        ports: Ports,
    },
}

impl Work {
    /// How many sockets it needs.
    #[must_use]
    pub const fn sockets(self) -> u16 {
        match self {
            Self::Open { sockets } | Self::Mirror { sockets, .. } => sockets,
            Self::Guess { .. } => 1,
        }
    }
}

/// Both sides' work, from the view of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What we do.
    pub ours: Work,
    /// What they do.
    pub theirs: Work,
}

/// Why guessing is no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum NoPlan {
    /// Ordinary hole punching is enough.
    #[error("both sides keep their port, so ordinary hole punching is enough")]
    NotNeeded,
    /// Too little is known of a box.
    #[error("how the NAT of {} behaves is not known yet: no observer said enough", if *.ours { "this device" } else { "the other device" })]
    Unknown {
        /// Ours, or theirs.
        ours: bool,
    },
    /// Both boxes choose ports nobody can guess.
    #[error(
        "both NATs give every destination another port, and at least one of them a random one: only a relay can help"
    )]
    BothRandom,
}

impl Plan {
    /// What to do.
    ///
    /// # Errors
    /// [`NoPlan`].
    pub fn new(ours: &Behavior, theirs: &Behavior) -> Result<Self, NoPlan> {
        for (box_, is_ours) in [(ours, true), (theirs, false)] {
            if box_.mapping == Mapping::Unknown {
                return Err(NoPlan::Unknown { ours: is_ours });
            }
        }
        match (ours.mapping.is_stable(), theirs.mapping.is_stable()) {
            (true, true) => Err(NoPlan::NotNeeded),
            (true, false) => {
                let (theirs, ours) = hard_and_stable(theirs);
                Ok(Self { ours, theirs })
            }
            (false, true) => {
                let (ours, theirs) = hard_and_stable(ours);
                Ok(Self { ours, theirs })
            }
            (false, false) => match (ports_of(ours), ports_of(theirs)) {
                (Ports::Shuffled, _) | (_, Ports::Shuffled) => Err(NoPlan::BothRandom),
                (of_us, of_them) => Ok(Self {
                    ours: Work::Mirror { sockets: SOCKETS_PREDICTED, ports: of_them },
                    theirs: Work::Mirror { sockets: SOCKETS_PREDICTED, ports: of_us },
                }),
            },
        }
    }
}

/// The work behind the hard box, and that of the other side.
fn hard_and_stable(hard: &Behavior) -> (Work, Work) {
    let ports = ports_of(hard);
    let sockets = match ports {
        Ports::Shuffled => NAT_SOCKETS_MAX,
        Ports::Sequence { .. } => SOCKETS_PREDICTED,
    };
    (Work::Open { sockets }, Work::Guess { ports, probes: NAT_PROBES_MAX })
}

const fn ports_of(hard: &Behavior) -> Ports {
    match hard.allocation {
        Allocation::Sequential { step, last } if step > 0 => Ports::Sequence { last, step },
        // A box that keeps ports but maps by destination is rare; what it keeps is taken by its first mapping.
        Allocation::Sequential { .. } | Allocation::Preserving | Allocation::Random | Allocation::Unknown => {
            Ports::Shuffled
        }
    }
}

/// The probability that one of `guesses` different ports is one of `mappings`, drawn without replacement from [`PORTS`].
#[must_use]
pub fn chance(mappings: u16, guesses: u16) -> f64 {
    let (n, s) = (f64::from(PORTS), f64::from(mappings));
    let missed = (0..guesses).map(|i| 1.0 - s / (n - f64::from(i))).fold(1.0, |all, one| all * one.max(0.0));
    1.0 - missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::behavior::Filtering;

    fn of(mapping: Mapping, allocation: Allocation) -> Behavior {
        Behavior { mapping, filtering: Filtering::AddressAndPortDependent, allocation }
    }

    const STABLE: Mapping = Mapping::EndpointIndependent;
    const HARD: Mapping = Mapping::AddressAndPortDependent;
    const COUNTING: Allocation = Allocation::Sequential { step: 2, last: 65_532 };

    #[test]
    fn both_sides_come_to_the_same_plan() {
        let boxes = [
            of(Mapping::None, Allocation::Preserving),
            of(STABLE, Allocation::Random),
            of(HARD, Allocation::Random),
            of(HARD, COUNTING),
            Behavior::default(),
        ];
        for ours in &boxes {
            for theirs in &boxes {
                match (Plan::new(ours, theirs), Plan::new(theirs, ours)) {
                    (Ok(here), Ok(there)) => {
                        assert_eq!((here.ours, here.theirs), (there.theirs, there.ours));
                    }
                    (Err(NoPlan::Unknown { .. }), Err(NoPlan::Unknown { .. })) => {}
                    (here, there) => assert_eq!(here, there),
                }
            }
        }
    }

    #[test]
    fn the_side_with_a_stable_endpoint_guesses_and_the_other_opens() {
        let plan = Plan::new(&of(STABLE, Allocation::Preserving), &of(HARD, Allocation::Random)).unwrap();
        assert_eq!(plan.theirs, Work::Open { sockets: NAT_SOCKETS_MAX });
        assert_eq!(plan.ours, Work::Guess { ports: Ports::Shuffled, probes: NAT_PROBES_MAX });
    }

    #[test]
    fn two_random_boxes_are_left_to_a_relay() {
        let random = of(HARD, Allocation::Random);
        assert_eq!(Plan::new(&random, &random), Err(NoPlan::BothRandom));
        assert_eq!(Plan::new(&random, &of(HARD, COUNTING)), Err(NoPlan::BothRandom));
        let counting = of(HARD, COUNTING);
        assert!(matches!(Plan::new(&counting, &counting), Ok(Plan { ours: Work::Mirror { .. }, .. })));
    }

    #[test]
    fn a_sequence_goes_on_at_the_beginning() {
        let ports = Ports::Sequence { last: 65_532, step: 2 };
        assert_eq!([0, 1, 2].map(|at| ports.predicted(at).unwrap()), [65_534, 1024, 1026]);
    }

    #[test]
    fn the_chances_are_those_of_the_birthday_paradox() {
        assert!((chance(256, 1024) - 0.983).abs() < 0.001);
        assert!(chance(NAT_SOCKETS_MAX, NAT_PROBES_MAX) > 0.999);
        assert_eq!(chance(1, 0), 0.0);
    }
}
