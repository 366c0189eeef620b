//! The streams of the demonstration: who writes what how often, and who takes it.
//!
//! Everything begins with the time it was made. A stream's first byte says which kind it is; after it follow pieces of one
//! size.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use honeylink::{Link, RecvStream};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::meter::{Kind, Meters};
use crate::failure::Failure;

/// Between two inputs: what a gamepad reports.
const INPUT_EVERY: Duration = Duration::from_millis(8);
const INPUT_BYTES: usize = 32;
/// Sixty frames a second.
const FRAME_EVERY: Duration = Duration::from_micros(16_667);
const FRAME_BYTES: usize = 25_000;
const CHUNK_BYTES: usize = 8 << 10;
const STAMP_BYTES: usize = 8;

const FILM: u8 = 1;
const FILE: u8 = 2;

/// Takes whatever comes.
pub(super) fn receive(tasks: &mut JoinSet<()>, link: &Link, meters: &Arc<Meters>) {
    let (inputs, count) = (link.clone(), meters.clone());
    tasks.spawn(async move {
        let Ok(mut flow) = inputs.accept_datagrams().await else { return };
        while let Some(datagram) = flow.recv().await {
            if let Some(stamp) = datagram.first_chunk() {
                count.arrived(Kind::Input, *stamp, datagram.len());
            }
        }
    });
    let (streams, count) = (link.clone(), meters.clone());
    tasks.spawn(async move {
        let mut readers = JoinSet::new();
        while let Ok(stream) = streams.accept_stream().await {
            let count = count.clone();
            readers.spawn(async move {
                // A stream ends when the demonstration does.
                let _ = take(stream.recv, &count).await;
            });
        }
    });
}

async fn take(mut recv: RecvStream, meters: &Meters) -> std::io::Result<()> {
    let kind = recv.read_u8().await?;
    let file = recv.read_u16().await?;
    let (kind, bytes) = if kind == FILM { (Kind::Film, FRAME_BYTES) } else { (Kind::File, CHUNK_BYTES) };
    let mut piece = vec![0; bytes];
    loop {
        recv.read_exact(&mut piece).await?;
        if let Some(stamp) = piece.first_chunk() {
            meters.arrived(kind, *stamp, bytes);
        }
        if kind == Kind::File {
            meters.went_on(file);
        }
    }
}

/// The input of a game: datagrams that are worthless when late.
pub(super) async fn input(tasks: &mut JoinSet<()>, link: &Link, meters: &Arc<Meters>) -> Result<(), Failure> {
    let flow = link.open_datagrams_under("gaming-input").await.map_err(Failure::internal)?;
    let meters = meters.clone();
    tasks.spawn(async move {
        let mut pace = tokio::time::interval(INPUT_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            meters.sent(Kind::Input);
            let mut input = BytesMut::zeroed(INPUT_BYTES);
            input[..STAMP_BYTES].copy_from_slice(&meters.stamp());
            // One that is not taken counts as lost.
            let _ = flow.send(input.freeze());
        }
    });
    Ok(())
}

/// A film: frames at a constant pace, on a stream with a guaranteed rate.
pub(super) async fn film(tasks: &mut JoinSet<()>, link: &Link, meters: &Arc<Meters>) -> Result<(), Failure> {
    let mut stream = link.open_stream_under("film").await.map_err(Failure::internal)?;
    let meters = meters.clone();
    tasks.spawn(async move {
        let mut pace = tokio::time::interval(FRAME_EVERY);
        let mut written = stream.send.write_chunk(opening(FILM, 0)).await;
        while written.is_ok() {
            pace.tick().await;
            written = stream.send.write_chunk(piece(&meters, FRAME_BYTES)).await;
        }
    });
    Ok(())
}

/// A file: as much as it can get.
pub(super) async fn file(
    tasks: &mut JoinSet<()>,
    link: &Link,
    meters: &Arc<Meters>,
    nth: u16,
) -> Result<(), Failure> {
    let mut stream = link.open_stream_under("file").await.map_err(Failure::internal)?;
    let meters = meters.clone();
    tasks.spawn(async move {
        let mut written = stream.send.write_chunk(opening(FILE, nth)).await;
        while written.is_ok() {
            written = stream.send.write_chunk(piece(&meters, CHUNK_BYTES)).await;
        }
    });
    Ok(())
}

fn opening(kind: u8, nth: u16) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(kind);
    bytes.put_u16(nth);
    bytes.freeze()
}

fn piece(meters: &Meters, bytes: usize) -> Bytes {
    let mut piece = BytesMut::zeroed(bytes);
    piece[..STAMP_BYTES].copy_from_slice(&meters.stamp());
    piece.freeze()
}
