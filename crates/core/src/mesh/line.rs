//! What is about to be sent: each with the moment it is due, and polite to a channel that belongs to others.
//!
//! The parts of the mesh say what they want sent and roughly when; here it waits. When its moment comes and others have
//! the channel, it waits for them first. What was handed to the port keeps its token until the port says what became of
//! it, so that it can still be withdrawn: a frame that somebody else has said meanwhile is air saved.

use std::collections::BTreeMap;

use bytes::Bytes;
use core::time::Duration;

use super::frame::{FrameId, Kind, Priority};
use super::port::{PortId, Ports};
use crate::limits::{MESH_LINE_MAX, MESH_SUBMITTED_MAX};
use crate::rng::Rng;
use crate::time::Time;

/// How often a frame steps back for others before it goes anyway.
const POLITE_TIMES_MAX: u8 = 6;
/// Spread over which frames go that waited for the same silence, as airtimes of such a frame.
const AFTER_SILENCE_AIRTIMES: u32 = 2;

/// Which part of the mesh wants a frame sent, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Hop by hop, acknowledged: the passage of this frame.
    Pass(FrameId),
    /// To everybody near: the spreading of this frame.
    Spread(FrameId),
    /// Once, with nothing to come of it.
    Once(Bytes),
}

/// A frame that waits for its moment.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) port: PortId,
    pub(super) purpose: Purpose,
    pub(super) kind: Kind,
    pub(super) priority: Priority,
    /// Length, bytes: for how long it will have the channel.
    pub(super) bytes: usize,
    /// It answers what was just heard, so it goes into the silence that was made for it.
    pub(super) at_once: bool,
    pub(super) polite: u8,
}

impl Turn {
    pub(super) const fn new(
        port: PortId,
        purpose: Purpose,
        kind: Kind,
        priority: Priority,
        bytes: usize,
    ) -> Self {
        Self { port, purpose, kind, priority, bytes, at_once: false, polite: 0 }
    }

    pub(super) const fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: BTreeMap<(Time, u64), Turn>,
    submitted: BTreeMap<u64, (PortId, Purpose)>,
    last: u64,
}

impl Line {
    /// Puts a frame in line for `at`. When the line is full the least urgent of the latest makes room, perhaps the frame
    /// itself; what did is given back.
    pub(super) fn add(&mut self, at: Time, turn: Turn) -> Option<Turn> {
        self.last += 1;
        self.waiting.insert((at, self.last), turn);
        if self.waiting.len() <= MESH_LINE_MAX {
            return None;
        }
        let victim = self.waiting.iter().rev().min_by_key(|(_, turn)| turn.priority).map(|(key, _)| *key)?;
        self.waiting.remove(&victim)
    }

    /// Takes out what may go now, with its new token.
    pub(super) fn due(&mut self, now: Time, ports: &Ports, rng: &mut Rng) -> Option<(u64, Turn)> {
        loop {
            let (&(at, number), _) = self.waiting.first_key_value().filter(|((at, _), _)| *at <= now)?;
            let mut turn = self.waiting.remove(&(at, number))?;
            let Some(info) = ports.info(turn.port) else { continue };
            let quiet = ports.quiet_until(turn.port);
            if !turn.at_once && quiet > now && turn.polite < POLITE_TIMES_MAX {
                turn.polite += 1;
                let span = info.airtime(turn.bytes) * AFTER_SILENCE_AIRTIMES;
                self.waiting.insert((quiet + within(span, rng), number), turn);
                continue;
            }
            self.last += 1;
            if self.submitted.len() >= MESH_SUBMITTED_MAX {
                // The port forgot to answer for the oldest.
                self.submitted.pop_first();
            }
            self.submitted.insert(self.last, (turn.port, turn.purpose.clone()));
            return Some((self.last, turn));
        }
    }

    /// The port says what became of a frame.
    pub(super) fn sent(&mut self, port: PortId, token: u64) -> Option<Purpose> {
        let (on, _) = self.submitted.get(&token)?;
        if *on == port { self.submitted.remove(&token).map(|(_, purpose)| purpose) } else { None }
    }

    /// Takes back what is not on the air yet. What the ports already have is returned for them to drop.
    pub(super) fn withdraw(&mut self, purpose: &Purpose, on: Option<PortId>) -> Vec<(PortId, u64)> {
        let is = |port: PortId, other: &Purpose| other == purpose && on.is_none_or(|on| on == port);
        self.waiting.retain(|_, turn| !is(turn.port, &turn.purpose));
        let given: Vec<(PortId, u64)> = self
            .submitted
            .iter()
            .filter(|(_, (port, p))| is(*port, p))
            .map(|(token, (port, _))| (*port, *token))
            .collect();
        for (_, token) in &given {
            self.submitted.remove(token);
        }
        given
    }

    pub(super) fn forget_port(&mut self, port: PortId) {
        self.waiting.retain(|_, turn| turn.port != port);
        self.submitted.retain(|_, (on, _)| *on != port);
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.submitted.len()
    }
}

/// A random part of `span`.
pub(super) fn within(span: Duration, rng: &mut Rng) -> Duration {
    Duration::from_micros(rng.below(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::frame::PortKind;
    use crate::mesh::port::PortInfo;
    use crate::radio::{Class, CodingRate, Lora, Pace};

    const PORT: PortId = PortId(0);

    fn ports() -> Ports {
        let mut ports = Ports::default();
        let pace = Pace::Lora(Lora::new(8, 125_000, CodingRate::Cr45).unwrap());
        let info = PortInfo { kind: PortKind::Broadcast, class: Class::of(&pace, 100_000), mtu: 222, pace };
        assert!(ports.up(PORT, info));
        ports
    }

    fn turn(id: u8, priority: Priority) -> Turn {
        Turn::new(PORT, Purpose::Pass([id; 8]), Kind::Data, priority, 44)
    }

    #[test]
    fn frames_wait_for_others_unless_the_silence_is_theirs() {
        let (mut line, mut ports, mut rng) = (Line::default(), ports(), Rng::from_u64(1));
        ports.hush(Time::ZERO, PORT, Duration::from_secs(1));
        line.add(Time::ZERO, turn(1, Priority::Normal));
        line.add(Time::ZERO, turn(2, Priority::Normal).at_once());
        let (_, first) = line.due(Time::ZERO, &ports, &mut rng).unwrap();
        assert_eq!(first.purpose, Purpose::Pass([2; 8]));
        assert!(line.due(Time::ZERO, &ports, &mut rng).is_none());
        let later = line.next_at().unwrap();
        assert!(later >= Time::from_millis(1000));
        assert!(line.due(later, &ports, &mut rng).is_some());
    }

    #[test]
    fn a_full_line_sheds_the_least_urgent() {
        let mut line = Line::default();
        line.add(Time::ZERO, turn(1, Priority::Bulk));
        let shed: Vec<Turn> =
            (0..MESH_LINE_MAX).filter_map(|_| line.add(Time::ZERO, turn(2, Priority::Urgent))).collect();
        assert_eq!(shed.len(), 1);
        assert_eq!(shed[0].purpose, Purpose::Pass([1; 8]));
        assert_eq!(line.len(), MESH_LINE_MAX);
    }

    #[test]
    fn what_somebody_else_said_is_taken_back_even_from_the_port() {
        let (mut line, ports, mut rng) = (Line::default(), ports(), Rng::from_u64(1));
        line.add(Time::ZERO, turn(1, Priority::Normal));
        let (token, _) = line.due(Time::ZERO, &ports, &mut rng).unwrap();
        line.add(Time::ZERO, turn(1, Priority::Normal));
        assert_eq!(line.withdraw(&Purpose::Pass([1; 8]), None), [(PORT, token)]);
        assert_eq!((line.len(), line.sent(PORT, token)), (0, None));
    }

    #[test]
    fn ports_that_never_answer_do_not_fill_memory() {
        let (mut line, ports, mut rng) = (Line::default(), ports(), Rng::from_u64(1));
        for _ in 0..10 * MESH_SUBMITTED_MAX {
            line.add(Time::ZERO, turn(1, Priority::Normal));
            assert!(line.due(Time::ZERO, &ports, &mut rng).is_some());
        }
        assert_eq!(line.len(), MESH_SUBMITTED_MAX);
    }
}
