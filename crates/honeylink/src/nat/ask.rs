//! Asking observers where this device is seen.
//!
//! From one socket every observer is asked on both its ports: that tells how the box maps, of one observer alone whether it
//! is a hard one. A second socket asks again: that tells how it picks ports, and, as nobody spoke to the observer's other port from there, an
//! answer from that port tells whom the box lets in. The first socket is the one an attempt goes on with, since its
//! endpoint is the one that has tickets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::NAT_OBSERVERS_MAX;
use honeylink_core::nat::behavior::Sighting;
use honeylink_core::nat::wire::{ASK_BYTES, Ask, Echo, Seen, Ticket, nonce};
use honeylink_core::nat::{Behavior, Detector};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::ObserverAt;
use crate::clock::unix_ms;
use crate::discovery::interfaces;

/// How long an answer is waited for before the question is asked again.
const ROUND: Duration = Duration::from_millis(400);
/// Times a question is asked.
const ROUNDS: u32 = 3;
/// Name servers may take this long.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// What asking gave.
#[derive(Debug)]
pub(crate) struct Look {
    /// How the box behaves.
    pub(crate) behavior: Behavior,
    /// Where `socket` was seen.
    pub(crate) seen: Option<SocketAddr>,
    /// One of each observer that answered.
    pub(crate) tickets: Vec<Ticket>,
    /// What was asked from, and has these tickets.
    pub(crate) socket: Arc<UdpSocket>,
}

/// How much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// As much as an attempt needs.
    Quick,
    /// Also whom the box lets in, for which time has to pass without an answer.
    Thorough,
}

/// One question and what came back.
#[derive(Debug)]
struct Question {
    from: usize,
    /// This device.
    who: DeviceId,
    observer: DeviceId,
    to: SocketAddr,
    second_port: bool,
    salt: [u8; 16],
    nonce: [u8; 16],
    answer: Option<Seen>,
    heard_second: bool,
}

impl Question {
    fn ticket(&self, seen: &Seen) -> Ticket {
        Ticket { observer: self.observer, salt: self.salt, stamp: seen.stamp }
    }
}

/// Where the observers are now.
pub(crate) async fn resolve(observers: &[ObserverAt]) -> Vec<(DeviceId, SocketAddr)> {
    let mut found = Vec::new();
    for observer in observers.iter().take(NAT_OBSERVERS_MAX) {
        let resolving = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(&observer.at));
        // IPv6 has boxes that filter, but none that hand out ports.
        let addr =
            resolving.await.ok().and_then(Result::ok).and_then(|mut all| all.find(SocketAddr::is_ipv4));
        found.extend(addr.map(|addr| (observer.id, addr)));
    }
    found
}

/// Asks. Without any answer the behavior is unknown and there are no tickets.
///
/// # Errors
/// If no socket can be opened.
pub(crate) async fn look(
    who: DeviceId,
    observers: &[(DeviceId, SocketAddr)],
    depth: Depth,
    rng: &mut Rng,
) -> std::io::Result<Look> {
    let sockets = [open().await?, open().await?];
    let mut questions = questions(who, observers, depth, rng);
    for _ in 0..ROUNDS {
        for question in questions.iter().filter(|question| question.answer.is_none()) {
            let ask = Ask { nonce: question.nonce, second_port: question.second_port };
            // What is not sent is not answered, and asked again.
            if let Some(socket) = sockets.get(question.from) {
                let _ = socket.send_to(&ask.to_bytes(), question.to).await;
            }
        }
        listen(&sockets, &mut questions).await;
        if questions.iter().all(|question| question.answer.is_some()) {
            break;
        }
    }
    let [first, second] = sockets;
    let locals = [first.local_addr()?, second.local_addr()?];
    let behavior = behavior(&questions, locals);
    let mut tickets: Vec<Ticket> = Vec::new();
    for question in questions.iter().filter(|question| question.from == 0) {
        if let Some(ticket) = question.answer.as_ref().map(|seen| question.ticket(seen))
            && tickets.iter().all(|other| other.observer != ticket.observer)
        {
            tickets.push(ticket);
        }
    }
    let seen = tickets.first().map(|ticket| ticket.stamp.addr);
    Ok(Look { behavior, seen, tickets, socket: first })
}

/// A socket of an attempt.
pub(crate) async fn open() -> std::io::Result<Arc<UdpSocket>> {
    Ok(Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?))
}

fn questions(
    who: DeviceId,
    observers: &[(DeviceId, SocketAddr)],
    depth: Depth,
    rng: &mut Rng,
) -> Vec<Question> {
    let mut question = |from, (observer, to): (DeviceId, SocketAddr), second_port| {
        let salt = rng.bytes();
        let nonce = nonce(&who, &salt);
        Question { from, who, observer, to, second_port, salt, nonce, answer: None, heard_second: false }
    };
    let mut out: Vec<_> = observers.iter().map(|at| question(0, *at, false)).collect();
    for (id, addr) in observers {
        let other_port = SocketAddr::new(addr.ip(), addr.port().saturating_add(1));
        out.push(question(0, (*id, other_port), false));
    }
    let thorough = depth == Depth::Thorough;
    out.extend(observers.iter().enumerate().map(|(at, to)| question(1, *to, at == 0 && thorough)));
    out
}

/// Takes answers until all are there or the round is over.
async fn listen(sockets: &[Arc<UdpSocket>; 2], questions: &mut [Question]) {
    let until = Instant::now() + ROUND;
    let [first, second] = sockets;
    let (mut one, mut two) = ([0; ASK_BYTES], [0; ASK_BYTES]);
    let is_done =
        |question: &Question| question.answer.is_some() && (!question.second_port || question.heard_second);
    while !questions.iter().all(is_done) {
        let reading = async {
            // tidy: fair because neither socket's answers may wait behind the other's.
            tokio::select! {
                read = first.recv_from(&mut one) => (0, read),
                read = second.recv_from(&mut two) => (1, read),
            }
        };
        let Ok((socket, read)) = timeout_at(until, reading).await else { return };
        let Ok((length, from)) = read else { continue };
        let buffer = if socket == 0 { &one } else { &two };
        let datagram = buffer.get(..length).unwrap_or_default();
        if let Ok(seen) = Seen::from_bytes(datagram) {
            take(questions, socket, from, &seen, unix_ms() / 1000);
        } else if let Ok(echo) = Echo::from_bytes(datagram) {
            take_echo(questions, socket, from, echo);
        }
    }
}

/// Notes an answer with the question it belongs to, if it is what it seems to be.
fn take(questions: &mut [Question], socket: usize, from: SocketAddr, seen: &Seen, now_s: u64) {
    let Some(question) = asked(questions, socket, &seen.nonce).filter(|question| question.to == from) else {
        return;
    };
    match question.ticket(seen).check(&question.who, &[question.observer], now_s) {
        Ok(_) => question.answer = Some(*seen),
        Err(doubt) => {
            tracing::debug!(observer = %question.observer.short(), %doubt, "an observer's answer is no good");
        }
    }
}

/// Notes that an answer came from the observer's other port.
fn take_echo(questions: &mut [Question], socket: usize, from: SocketAddr, echo: Echo) {
    if let Some(question) = asked(questions, socket, &echo.nonce) {
        let from_other = from.ip() == question.to.ip() && from.port() != question.to.port();
        question.heard_second |= question.second_port && from_other;
    }
}

/// The question that an answer to `socket` belongs to.
fn asked<'a>(questions: &'a mut [Question], socket: usize, nonce: &[u8; 16]) -> Option<&'a mut Question> {
    questions.iter_mut().find(|question| question.from == socket && question.nonce == *nonce)
}

fn behavior(questions: &[Question], locals: [SocketAddr; 2]) -> Behavior {
    let mut detector = Detector::default();
    // In the order in which they were asked: that is the one in which the box gave ports away.
    for question in questions {
        if let (Some(seen), Some(local)) = (question.answer, locals.get(question.from)) {
            let sighting = Sighting { local: *local, observer: question.to, seen: seen.stamp.addr };
            detector.seen(Time::ZERO, sighting);
        }
        if question.second_port && question.answer.is_some() {
            detector.second_port(Time::ZERO, question.heard_second);
        }
    }
    let own: Vec<_> = interfaces::all()
        .unwrap_or_default()
        .iter()
        .flat_map(|interface| &interface.nets)
        .map(ipnet::IpNet::addr)
        .collect();
    detector.behavior(Time::ZERO, &own)
}
