//! Frames on their way out: what is due is sent, what nobody has is sent again, another way, or given up.

use bytes::{Bytes, BytesMut};
use core::time::Duration;

use super::event::{Dropped, Output};
use super::forward::{Again, Passage};
use super::frame::{
    Frame, FrameId, Hop, HopAck, Keep, Kind, PortKind, Priority, Rewrite, RouteError, rewrite, rewrite_keep,
};
use super::hint::Near;
use super::line::{Purpose, Turn, within};
use super::machine::Mesh;
use super::port::{PortId, PortInfo};
use super::routes::Way;
use crate::time::Time;

/// What a neighbour may take before it passes a frame on, besides the airtime: its modem's wait for a free channel.
const TURNAROUND: Duration = Duration::from_millis(1000);
/// A node with few neighbours listens this many airtimes whether any of them repeats a frame.
const LISTEN_AIRTIMES: u32 = 10;
/// That a message cannot go on is said no more often than this.
const SAID_ONCE: Duration = Duration::from_secs(10);
/// How long a frame for one neighbour may wait in a port before it is of no use.
const SUBMITTED_MAX: Duration = Duration::from_secs(30);

impl Mesh {
    /// Begins a passage; its first transmission goes into line `after` a while.
    pub(super) fn depart(
        &mut self,
        now: Time,
        id: FrameId,
        passage: Passage,
        after: Duration,
        at_once: bool,
    ) -> bool {
        // The port may have gone down since this was decided: a receipt waits for the disk meanwhile.
        let gone = self.ports.info(passage.via.0).is_none();
        let (to, not) = (passage.to, passage.not());
        let begun = self.forward.begin(id, passage);
        if begun && gone {
            let other = self.routes.peek(now, to, &not);
            self.another_way(now, id, other);
        } else if begun {
            self.line_up(now, id, after, at_once);
        } else {
            self.out.dropped(None, Dropped::QueueFull);
        }
        begun
    }

    fn line_up(&mut self, now: Time, id: FrameId, after: Duration, at_once: bool) {
        let Some(passage) = self.forward.passage(&id) else { return };
        let (port, len) = (passage.via.0, passage.bytes.len());
        // Before what spreads: somebody waits for it.
        let priority = Priority::from_bits((passage.priority as u8 + 1).min(3));
        let turn = Turn::new(port, Purpose::Pass(id), passage.kind, priority, len);
        self.queue(now + after, if at_once { turn.at_once() } else { turn });
    }

    /// Puts a frame in line. What must make room for it is given up.
    pub(super) fn queue(&mut self, at: Time, turn: Turn) {
        let Some(shed) = self.line.add(at, turn) else { return };
        self.out.dropped(None, Dropped::QueueFull);
        match shed.purpose {
            Purpose::Pass(id) => self.forward.not_aired(at, &id),
            Purpose::Spread(id) => {
                self.spread.take(id, shed.port);
            }
            Purpose::Once(_) => {}
        }
    }

    /// Sends what is due.
    pub(super) fn transmit(&mut self, now: Time) {
        while let Some((token, turn)) = self.line.due(now, &self.ports, &mut self.rng) {
            let (port, kind) = (turn.port, turn.kind);
            let bytes = match turn.purpose.clone() {
                Purpose::Pass(id) => self.passing(now, &id),
                Purpose::Spread(id) => self.spreading(id, port),
                Purpose::Once(bytes) => Some(bytes),
            };
            let Some(bytes) = bytes else {
                self.line.sent(port, token);
                continue;
            };
            let stats = &mut self.out.stats;
            stats.sent[kind as usize] += 1;
            stats.sent_bytes[kind as usize] += bytes.len() as u64;
            let (priority, expires_at) = (turn.priority, now + SUBMITTED_MAX);
            self.out.push(Output::Transmit { port, token, bytes, priority, expires_at, kind });
        }
    }

    /// The next transmission of a passage.
    fn passing(&mut self, now: Time, id: &FrameId) -> Option<Bytes> {
        let passage = self.forward.passage_mut(id)?;
        // While it waited, a better way may have become known.
        if !passage.was_sent()
            && matches!(passage.kind, Kind::RouteReply)
            && let Some(way) = self.routes.peek(now, passage.to, passage.came.as_slice())
            && way.port == passage.via.0
        {
            passage.via = (way.port, way.next);
            passage.last_hop = way.hops <= 1;
        }
        let to = Rewrite {
            hops: passage.hops,
            next: passage.via.1,
            prev: self.me.near,
            cost: passage.cost,
            class: passage.class,
        };
        rewritten(&passage.bytes, &to)
    }

    fn spreading(&self, id: FrameId, port: PortId) -> Option<Bytes> {
        let rumour = self.spread.say(id, port)?;
        let to = Rewrite {
            hops: rumour.hops,
            next: Near::ANYBODY,
            prev: self.me.near,
            cost: rumour.cost,
            class: 0,
        };
        rewritten(&rumour.bytes, &to)
    }

    /// The port says what became of a frame.
    pub(super) fn sent(&mut self, now: Time, port: PortId, token: u64, aired: bool) {
        let Some(info) = self.ports.info(port).copied() else { return };
        let id = match self.line.sent(port, token) {
            Some(Purpose::Pass(id)) => id,
            Some(Purpose::Spread(id)) => {
                self.spread_aired(now, port, id, &info);
                return;
            }
            Some(Purpose::Once(_)) | None => return,
        };
        let Some(passage) = self.forward.passage(&id) else { return };
        if !aired {
            self.forward.not_aired(now, &id);
            return;
        }
        if passage.kind == Kind::Data && passage.came.is_none() {
            self.left(now, id);
        }
        // A connection delivers or dies; and what answers a question needs no answer at its end.
        let passage = self.forward.passage(&id);
        let answers =
            passage.is_some_and(|p| matches!(p.kind, Kind::Receipt | Kind::FragmentStatus) && p.last_hop);
        if info.kind == PortKind::PointToPoint || answers {
            self.passed_on(now, id, !answers);
            return;
        }
        let Some(len) = passage.map(|passage| passage.bytes.len()) else { return };
        let wait = self.answer_wait(now, port, &info, len);
        self.forward.aired(&id, now + wait);
    }

    /// A frame was said to everybody near. Who has few neighbours listens whether any of them repeats it.
    fn spread_aired(&mut self, now: Time, port: PortId, id: FrameId, info: &PortInfo) {
        let Some(rumour) = self.spread.say(id, port) else { return };
        if self.spread.aired(id, port) {
            let (kind, len) = (rumour.kind, rumour.bytes.len());
            let listen = info.airtime(len) * LISTEN_AIRTIMES;
            let pause = TURNAROUND + listen + within(listen, &mut self.rng);
            self.queue(now + pause, Turn::new(port, Purpose::Spread(id), kind, Priority::Normal, len));
        }
    }

    /// How long to listen for a neighbour to pass a frame on.
    fn answer_wait(&mut self, now: Time, port: PortId, info: &PortInfo, len: usize) -> Duration {
        let airtime = info.airtime(len);
        let busy = u32::try_from(self.ports.busy_percent(now, port)).unwrap_or(100);
        let base = airtime * 3 / 2 + TURNAROUND;
        base + base * busy / 50 + within(airtime, &mut self.rng)
    }

    /// Somebody has the frame: its passage is over.
    pub(super) fn passed_on(&mut self, now: Time, id: FrameId, by_neighbour: bool) {
        let Some(passage) = self.forward.end(&id) else { return };
        self.withdraw(&Purpose::Pass(id), None);
        let (port, next) = passage.via;
        self.memory.moved(now, &id);
        if by_neighbour && passage.tries() > 0 && next != Near::ANYBODY {
            self.routes.confirm(now, passage.to, port, next);
            if let Some(info) = self.ports.info(port).copied() {
                self.neighbours.answered(port, next, &info, true);
            }
        }
        if passage.kind == Kind::Data {
            match passage.came {
                Some(_) => self.out.stats.forwarded += 1,
                None => self.own_passed(now, id),
            }
        }
    }

    /// Everything whose answer is late.
    pub(super) fn advance_passages(&mut self, now: Time) {
        while let Some(id) = self.forward.late(now) {
            self.unanswered(now, id);
        }
    }

    /// Nobody was heard to have a frame.
    pub(super) fn unanswered(&mut self, now: Time, id: FrameId) {
        self.withdraw(&Purpose::Pass(id), None);
        let Some(passage) = self.forward.passage(&id) else { return };
        let (port, next) = passage.via;
        let (to, not, tries, len) = (passage.to, passage.not(), passage.tries(), passage.bytes.len());
        let info = self.ports.info(port).copied();
        if tries > 0 && next != Near::ANYBODY {
            self.out.stats.unanswered += 1;
            if let Some(info) = &info {
                self.neighbours.answered(port, next, info, false);
            }
        }
        let other = self.routes.peek(now, to, &not);
        match (self.forward.again(now, &id), info) {
            (Again::Same, Some(info)) => {
                let pause = within(info.airtime(len) * 3 * u32::from(tries), &mut self.rng);
                self.line_up(now, id, pause, false);
            }
            (Again::Other, _) => {
                self.routes.demote(to, port, next);
                self.another_way(now, id, other);
            }
            (Again::Same | Again::GiveUp, _) => {
                self.routes.demote(to, port, next);
                self.another_way(now, id, None);
            }
        }
    }

    /// Sends a frame another way, to whoever knows one, or gives it up.
    pub(super) fn another_way(&mut self, now: Time, id: FrameId, other: Option<Way>) {
        let Some(passage) = self.forward.passage_mut(&id) else { return };
        let radio = self.ports.info(passage.via.0).is_some_and(PortInfo::is_radio);
        if let Some(way) = other {
            passage.turn_to((way.port, way.next), way.hops <= 1);
        } else if passage.kind == Kind::Data && radio && passage.may_ask_anybody() && now < passage.expires {
            passage.ask_anybody();
        } else {
            if let Some(passage) = self.forward.end(&id) {
                self.given_up(now, id, &passage);
            }
            return;
        }
        self.line_up(now, id, Duration::ZERO, false);
    }

    /// A frame whose port went down.
    pub(super) fn pass_again(&mut self, now: Time, id: FrameId, passage: Passage) {
        let other = self.routes.peek(now, passage.to, &passage.not());
        if self.forward.begin(id, passage) {
            self.another_way(now, id, other);
        }
    }

    fn given_up(&mut self, now: Time, id: FrameId, passage: &Passage) {
        match (passage.kind, passage.came) {
            (Kind::Data, None) => self.own_given_up(now, id),
            (Kind::Data, Some((port, prev))) => {
                let from = (port, prev);
                if !self.keep(now, from, &passage.bytes)
                    && !self.pass_to_store(now, from, &passage.bytes, Some(passage.to))
                {
                    self.out.dropped(Some(port), Dropped::NoWay);
                    self.say_broken(now, port, prev, &passage.bytes);
                }
            }
            (Kind::RoutedRequest, Some((port, _))) => self.spread_instead(now, id, port, passage),
            _ => self.out.dropped(passage.came.map(|(port, _)| port), Dropped::NoWay),
        }
    }

    /// Tells the neighbour that sent a message here that it cannot go on.
    pub(super) fn say_broken(&mut self, now: Time, port: PortId, prev: Near, data: &Bytes) {
        let Some(info) = self.ports.info(port) else { return };
        let Ok(Frame::Data(data)) = Frame::decode(data, info.kind) else { return };
        let (dst, src, seq) = (data.dst, data.src, data.first());
        // A liar that repeats what it heard shall not have us answer as often as it likes.
        if let Some(crumb) = self.memory.crumb(now, src, seq) {
            let before = crumb.said_at.replace(now);
            if before.is_some_and(|before| now.saturating_since(before) < SAID_ONCE) {
                crumb.said_at = before;
                return;
            }
        }
        let hop = Hop::first(Priority::Control);
        let error = Frame::RouteError(RouteError { hop, next: prev, prev: self.me.near, dst, src, seq });
        self.once(now, port, &error);
    }

    /// Tells a neighbour that a frame is here, where it cannot hear so by itself.
    pub(super) fn hop_ack(&mut self, now: Time, port: PortId, prev: Near, id: FrameId) {
        if !self.ports.info(port).is_some_and(PortInfo::is_radio) {
            return;
        }
        let [a, b, c, d, ..] = id;
        let ack = Frame::HopAck(HopAck { next: prev, prev: self.me.near, frame: [a, b, c, d] });
        self.once(now, port, &ack);
    }
}

/// The frame with what is left of its keeping time, if it may be kept.
pub(super) fn keeping(frame: &Bytes, left: Duration) -> Bytes {
    let mut bytes = BytesMut::from(&frame[..]);
    rewrite_keep(&mut bytes, Keep::at_most(left));
    bytes.freeze()
}

pub(super) fn rewritten(frame: &Bytes, to: &Rewrite) -> Option<Bytes> {
    let mut bytes = BytesMut::from(&frame[..]);
    rewrite(&mut bytes, to).ok()?;
    Some(bytes.freeze())
}
