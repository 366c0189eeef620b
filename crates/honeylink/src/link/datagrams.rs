//! Flows of datagrams: like a stream a flow has a priority, rates and a deadline; unlike one it may lose what it carries,
//! and may repair it.
//!
//! The side that sends opens a stream of kind `datagrams`, which names the flow and stays open for as long as the flow
//! does. The other side answers with one byte when it listens, so that the first datagram does not arrive before its
//! flow.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use honeylink_core::limits::{DATAGRAM_FLOWS_MAX, DATAGRAM_QUEUE_MAX};
use honeylink_core::qos::fec::{Decoder, FecChoice, FecStats};
use honeylink_core::qos::{Priority, Room, StreamOptions};
use honeylink_core::wire::link::{StreamHeader, StreamKind};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::shared::LinkShared;
use super::{DatagramError, LinkClosed, StreamError};
use crate::carrier::flow::{FlowStats, FlowTicket, LABEL_BYTES};
use crate::carrier::gate::Gate;
use crate::carrier::traffic::Repairs;
use crate::carrier::{Conn, RecvStream, SendStream};

/// What follows the header of a flow's stream: the label, and whether datagrams have a repair header.
const OPENING_BYTES: usize = LABEL_BYTES + 1;
/// The answer: this side listens.
const LISTENING: u8 = 1;

type Label = [u8; LABEL_BYTES];

/// The flows a peer sends on one connection, by label.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inbound(Arc<Mutex<BTreeMap<Label, mpsc::Sender<Bytes>>>>);

impl Inbound {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Label, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if there are too many, or the label is taken.
    fn add(&self, label: Label) -> Option<mpsc::Receiver<Bytes>> {
        let mut table = self.table();
        if table.len() >= DATAGRAM_FLOWS_MAX || table.contains_key(&label) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(DATAGRAM_QUEUE_MAX);
        table.insert(label, sender);
        Some(receiver)
    }

    /// Gives a datagram to its flow; gives it back if there is none of that label. A flow whose queue is full loses it.
    ///
    /// What waits is a copy: the datagram itself shares its memory with all packets that came at the same moment, some fifty
    /// times its size, and a peer could have only those wait that keep the most.
    pub(crate) fn deliver(&self, datagram: Bytes) -> Option<Bytes> {
        let label = datagram.get(..LABEL_BYTES).and_then(|label| Label::try_from(label).ok());
        let Some(sender) = label.and_then(|label| self.table().get(&label).cloned()) else {
            return Some(datagram);
        };
        // The decoder counts what is missing.
        if let Ok(place) = sender.try_reserve() {
            place.send(Bytes::copy_from_slice(&datagram[LABEL_BYTES..]));
        }
        None
    }
}

/// The sending side of a flow of datagrams; the flow ends when it is dropped.
#[derive(Debug)]
pub struct DatagramSender {
    ticket: FlowTicket,
    conn: Conn,
    /// Open for as long as the flow is.
    send: SendStream,
    _recv: RecvStream,
}

impl DatagramSender {
    /// Queues a datagram: it may be lost, and it is dropped if it cannot leave within the flow's deadline.
    ///
    /// `Ok` says how much room is left: with [`Room::Nearly`] the next ones should wait.
    ///
    /// # Errors
    /// [`DatagramError::TooLarge`]; [`DatagramError::Dropped`] if the queue is full or the connection is gone.
    pub fn send(&self, payload: impl Into<Bytes>) -> Result<Room, DatagramError> {
        let payload = payload.into();
        let max = self.bytes_max();
        if payload.len() > max {
            return Err(DatagramError::TooLarge { size: payload.len(), max });
        }
        if self.conn.lost().is_some() {
            return Err(DatagramError::Dropped);
        }
        match self.ticket.send(payload) {
            Room::Full => Err(DatagramError::Dropped),
            room @ (Room::Free | Room::Nearly) => Ok(room),
        }
    }

    /// The largest datagram that fits now, bytes.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.conn.datagram_bytes_max().saturating_sub(self.ticket.overhead_bytes())
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> FlowStats {
        self.ticket.stats()
    }

    /// Asks for something else from the next datagram on.
    ///
    /// # Errors
    /// If the options contradict themselves.
    pub fn retune(&self, options: StreamOptions) -> Result<(), honeylink_core::qos::OptionsError> {
        self.ticket.retune(options)
    }

    /// Ends the flow, so that the receiver hears a clean end.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn finish(mut self) -> std::io::Result<()> {
        self.send.finish().await
    }
}

/// The receiving side of a flow of datagrams.
#[derive(Debug)]
pub struct DatagramReceiver {
    /// How urgent the flow is.
    pub priority: Priority,
    datagrams: mpsc::Receiver<Bytes>,
    decoder: Option<Decoder>,
    /// Where it is counted what repair did.
    gate: Arc<Gate>,
    told: Repairs,
    repaired: VecDeque<Bytes>,
    inbound: Inbound,
    label: Label,
    /// Answered on, and read for the end.
    _send: SendStream,
    recv: RecvStream,
    ended: bool,
}

impl DatagramReceiver {
    /// The next datagram, in the order of arrival: one that was repaired may come after later ones. `None` once the flow
    /// has ended. At most 1,024 wait; further ones are lost.
    pub async fn recv(&mut self) -> Option<Bytes> {
        loop {
            if let Some(payload) = self.repaired.pop_front() {
                return Some(payload);
            }
            if self.ended {
                let datagram = self.datagrams.try_recv().ok()?;
                self.take(datagram);
                continue;
            }
            let mut end = [0; 1];
            tokio::select! {
                biased;
                datagram = self.datagrams.recv() => self.take(datagram?),
                // A flow's stream carries nothing more: whatever comes is its end.
                _ = self.recv.read(&mut end) => self.ended = true,
            }
        }
    }

    fn take(&mut self, datagram: Bytes) {
        match &mut self.decoder {
            // What is no datagram of a block is counted by the decoder.
            Some(decoder) => {
                let known = decoder.accept(&datagram).unwrap_or_default();
                let now = decoder.stats();
                // What was counted as lost may still come; the count does not go back.
                let recovered = now.recovered.saturating_sub(self.told.recovered);
                let lost = now.lost.saturating_sub(self.told.lost);
                if recovered + lost > 0 {
                    self.told =
                        Repairs { recovered: self.told.recovered + recovered, lost: self.told.lost + lost };
                    self.gate.repaired(Repairs { recovered, lost });
                }
                self.repaired.extend(known.into_iter().map(|repaired| repaired.payload));
            }
            None => self.repaired.push_back(datagram),
        }
    }

    /// What arrived, was repaired and stayed lost; zeros for a flow without repair.
    #[must_use]
    pub fn stats(&self) -> FecStats {
        self.decoder.as_ref().map(Decoder::stats).unwrap_or_default()
    }
}

impl Drop for DatagramReceiver {
    fn drop(&mut self) {
        self.inbound.table().remove(&self.label);
    }
}

impl LinkShared {
    pub(super) async fn open_datagrams(
        &self,
        options: StreamOptions,
        fec: FecChoice,
        policy: Option<&str>,
    ) -> Result<DatagramSender, StreamError> {
        let conn = self.active_conn().await?;
        let lost = |e: &dyn std::fmt::Display| StreamError::ConnectionLost(e.to_string());
        let mut label = Label::default();
        getrandom::fill(&mut label).map_err(|e| lost(&e))?;
        let ticket = conn.gate().open_datagrams(options, fec, label)?;
        ticket.belongs(self.owner(policy.map(str::to_owned)));
        let (send, mut recv) = conn.open().await.map_err(|e| lost(&e))?;
        let mut send = send.gated(conn.gate(), options.priority.into());
        let header = StreamHeader {
            kind: StreamKind::Datagrams,
            session: self.id(),
            priority: options.priority,
            protocol: self.protocol().to_owned(),
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        bytes.extend_from_slice(&label);
        bytes.extend_from_slice(&[u8::from(fec != FecChoice::Off)]);
        send.write_chunk(bytes.freeze()).await.map_err(|e| lost(&e))?;
        let answer = recv.read_u8().await.map_err(|e| lost(&e))?;
        if answer != LISTENING {
            return Err(lost(&"the other device does not take this flow"));
        }
        Ok(DatagramSender { ticket, conn, send, _recv: recv })
    }

    /// A flow that the peer opens. Nothing is answered where there is no room: the stream is reset.
    pub(crate) async fn serve_datagrams(
        &self,
        conn: &Conn,
        inbound: &Inbound,
        priority: Priority,
        mut send: SendStream,
        mut recv: RecvStream,
    ) {
        let mut opening = [0; OPENING_BYTES];
        if recv.read_exact(&mut opening).await.is_err() {
            return;
        }
        let (label, [repairs @ 0..=1]) = opening.split_at(LABEL_BYTES) else { return };
        let Ok(label) = Label::try_from(label) else { return };
        // The session's own datagrams have its id in this place.
        let Some(datagrams) = (label != self.id().0).then(|| inbound.add(label)).flatten() else { return };
        let decoder = (*repairs == 1).then(Decoder::default);
        let answered = send.write_chunk(Bytes::from_static(&[LISTENING])).await.is_ok();
        let receiver = DatagramReceiver {
            priority,
            datagrams,
            decoder,
            gate: conn.gate().clone(),
            told: Repairs::default(),
            repaired: VecDeque::new(),
            inbound: inbound.clone(),
            label,
            _send: send,
            recv,
            ended: false,
        };
        if answered {
            // Dropped and so ended if nobody takes it.
            let _ = self.flows_in.try_send(receiver);
        }
    }

    pub(super) async fn accept_datagrams(&self) -> Result<DatagramReceiver, LinkClosed> {
        let mut flows = self.flows_out.lock().await;
        let mut state = self.watch_state();
        tokio::select! {
            biased;
            flow = flows.recv() => flow.ok_or_else(|| self.why_closed()),
            () = super::beside::until_closed(&mut state) => Err(self.why_closed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use honeylink_core::session::{Config, Role};
    use honeylink_core::wire::link::SessionId;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn what_waits_for_the_application_keeps_no_packets_in_memory() {
        let label = [7; LABEL_BYTES];
        let packets = Bytes::from([&label[..], &[9; 60_000]].concat());
        let inbound = Inbound::default();
        let mut waiting = inbound.add(label).unwrap();
        assert_eq!(inbound.deliver(packets.slice(..LABEL_BYTES + 100)), None);
        let peer = crate::testing::device_id(1);
        let (config, id) = (Config::default(), SessionId([1; 16]));
        let link = LinkShared::new(peer, "p/1".into(), id, Role::Initiator, config, Clock::start());
        link.offer_datagram(&packets[..100]);
        assert!(packets.is_unique(), "somebody keeps all of what came with a datagram");
        assert_eq!(waiting.try_recv().unwrap(), [9; 100][..]);
        assert_eq!(link.datagrams_out.blocking_lock().try_recv().unwrap(), packets[..100]);
    }
}
