//! One guest of a relay: proves its key, then speaks and is spoken to until it leaves.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use honeylink_core::identity::DeviceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_websockets::{Message, WebSocketStream};

use super::House;
use super::frame::{self, Heard};
use super::guests::{Outbox, Place, count};

/// A guest has this long to prove its key.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a guest is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Silence after which a guest counts as gone: three pings without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(50);
/// A guest that takes nothing for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Why a guest is turned away that others may not be.
const NOT_LISTED: &str = "this device is not on the relay's list";
/// Messages written between two flushes.
const WRITE_BATCH: usize = 32;

/// Why a guest is not one any more. None of it is for people.
#[derive(Debug, thiserror::Error)]
pub(super) enum Left {
    #[error("it closed the connection")]
    Closed,
    #[error("it said nothing for too long")]
    Silent,
    #[error("it takes nothing")]
    Stuck,
    #[error("it was turned away: {0}")]
    TurnedAway(&'static str),
    #[error("it broke the protocol: {0}")]
    Invalid(#[from] honeylink_core::wire::Invalid),
    #[error(transparent)]
    Socket(#[from] tokio_websockets::Error),
}

/// Serves one WebSocket until it ends.
pub(super) async fn serve<S>(house: &House, socket: WebSocketStream<S>, knows_status: bool) -> Left
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = socket;
    let id = match tokio::time::timeout(PROOF_TIMEOUT, prove(&mut socket)).await {
        Ok(Ok(id)) => id,
        Ok(Err(left)) => return left,
        Err(_) => return Left::Silent,
    };
    if let Err(why) = admit(house, &id) {
        // It may be gone already.
        let _ = tokio::time::timeout(WRITE_TIMEOUT, say(&mut socket, frame::refusal(why))).await;
        return Left::TurnedAway(why);
    }
    if let Err(left) = say(&mut socket, frame::welcome()).await {
        return left;
    }
    let (place, outbox) = house.guests.seat(id, knows_status);
    tracing::debug!(guest = %id.short(), "arrived");
    let (mut sink, mut stream) = socket.split();
    let mut rate = Rate::new(house.rate_bytes_per_s);
    tokio::select! {
        biased;
        () = taken_off(house, &id) => Left::TurnedAway(NOT_LISTED),
        left = speak(&mut sink, outbox) => left,
        left = listen(house, &mut stream, place, &id, &mut rate, knows_status) => left,
    }
}

fn admit(house: &House, id: &DeviceId) -> Result<(), &'static str> {
    if !house.access.borrow().lets_in(id) {
        count(&house.guests.counts.refused_access);
        return Err(NOT_LISTED);
    }
    if house.guests.len() >= house.guests_max {
        count(&house.guests.counts.refused_busy);
        return Err("the relay is full");
    }
    Ok(())
}

/// Waits until a guest that was let in would not be any more.
async fn taken_off(house: &House, id: &DeviceId) {
    let mut access = house.access.subscribe();
    // The sender lives in the house, so waiting cannot fail.
    let _ = access.wait_for(|access| !access.lets_in(id)).await;
    count(&house.guests.counts.refused_access);
}

async fn prove<S>(socket: &mut WebSocketStream<S>) -> Result<DeviceId, Left>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut challenge = [0; 16];
    getrandom::fill(&mut challenge).map_err(|_| Left::TurnedAway("the relay has no random numbers"))?;
    say(socket, frame::challenge(&challenge)).await?;
    let answer = next(socket).await?;
    Ok(frame::proved(&challenge, &answer)?)
}

async fn say<S>(socket: &mut WebSocketStream<S>, message: Bytes) -> Result<(), Left>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(socket.send(Message::binary(message)).await?)
}

/// The next message that is not WebSocket's own.
async fn next<S>(stream: &mut S) -> Result<BytesMut, Left>
where
    S: futures_util::Stream<Item = Result<Message, tokio_websockets::Error>> + Unpin,
{
    loop {
        let message = stream.next().await.ok_or(Left::Closed)??;
        if message.is_close() {
            return Err(Left::Closed);
        }
        if message.is_binary() {
            return Ok(message.into_payload().into());
        }
    }
}

/// Reads what the guest says and passes it on.
async fn listen<S>(
    house: &House,
    stream: &mut S,
    mut place: Place,
    id: &DeviceId,
    rate: &mut Rate,
    knows_status: bool,
) -> Left
where
    S: futures_util::Stream<Item = Result<Message, tokio_websockets::Error>> + Unpin,
{
    let mut told = !knows_status;
    loop {
        let message = match tokio::time::timeout(SILENCE_MAX, next(stream)).await {
            Ok(Ok(message)) => message,
            Ok(Err(left)) => return left,
            Err(_) => return Left::Silent,
        };
        if let Some(pause) = rate.take(message.len()) {
            count(&house.guests.counts.throttled);
            if !std::mem::replace(&mut told, true) {
                place.inbox.put(frame::status(frame::Status::TooFast));
            }
            // Nothing is read meanwhile, so TCP holds the guest.
            tokio::time::sleep(pause).await;
        }
        match frame::hear(id, message) {
            Ok(Heard::Forward { to, frame }) => place.pass(to, frame),
            Ok(Heard::Ping(pong)) => {
                place.inbox.put(pong);
            }
            Ok(Heard::Pong) => {}
            Err(invalid) => return invalid.into(),
        }
    }
}

/// Writes what others and the relay have to say to the guest.
async fn speak<S>(sink: &mut S, mut outbox: Outbox) -> Left
where
    S: futures_util::Sink<Message, Error = tokio_websockets::Error> + Unpin,
{
    let mut messages = Vec::with_capacity(WRITE_BATCH);
    let mut pings = 0;
    let mut ping_at = Instant::now() + PING_EVERY;
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(ping_at) => {
                pings += 1;
                ping_at = Instant::now() + PING_EVERY;
                messages.push(frame::ping(pings));
            }
            taken = outbox.take(&mut messages, WRITE_BATCH) => {
                if taken == 0 {
                    return Left::Closed;
                }
            }
        }
        let writing = async {
            for message in messages.drain(..) {
                sink.feed(Message::binary(message)).await?;
            }
            sink.flush().await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return Left::Stuck,
        }
    }
}

/// How fast a guest may send: so many bytes a second, and those of a second at once.
#[derive(Debug)]
struct Rate {
    bytes_per_s: Option<u64>,
    /// When everything sent so far is paid for.
    paid_at: Instant,
}

impl Rate {
    fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s, paid_at: Instant::now() }
    }

    /// How long to wait after so many bytes.
    fn take(&mut self, bytes: usize) -> Option<Duration> {
        let per_s = self.bytes_per_s.filter(|per_s| *per_s > 0)?;
        let now = Instant::now();
        self.paid_at = self.paid_at.max(now) + Duration::from_secs_f64(bytes as f64 / per_s as f64);
        let ahead = self.paid_at - now;
        ahead.checked_sub(Duration::from_secs(1)).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_guest_sends_a_second_ahead_and_then_at_its_rate() {
        let mut rate = Rate::new(Some(1_000));
        assert_eq!(rate.take(1_000), None);
        assert_eq!(rate.take(500), Some(Duration::from_millis(500)));
        // tidy: sleep because time itself is tested, and it is paused
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(rate.take(900), None);
        assert_eq!(Rate::new(None).take(usize::MAX / 2), None);
    }
}
