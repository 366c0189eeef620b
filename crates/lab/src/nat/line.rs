//! Delay and loss on a router's line, for kernels without `netem`: every packet that the router forwards is handed here
//! (NFQUEUE) and let go when its time has come, in order, or never.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nfq::{Message, Queue, Verdict};
use patchbay::Router;

use crate::Trouble;
use crate::scenario::Line;

const QUEUE: u16 = 0;
/// Packets that a line holds at most: a second of 100 Mbit/s in both directions.
const HELD_MAX: u32 = 20_000;
/// How often the line is looked at. Delays are that much too long at worst.
const LOOK_EVERY: Duration = Duration::from_micros(700);

/// The thread that holds one router's packets; ended and awaited when dropped.
pub(crate) struct Delay {
    over: Arc<AtomicBool>,
    /// Says nothing; closed when the thread is over.
    ended: Receiver<()>,
}

impl Delay {
    pub(crate) fn start(router: &Router, line: Line, seed: u64) -> Result<Self, Trouble> {
        let over = Arc::new(AtomicBool::new(false));
        let ending = over.clone();
        let (running, ended) = channel::<()>();
        let name = router.name().to_owned();
        router.spawn_thread(move || {
            if let Err(error) = hold(&ending, line, seed) {
                // Its packets are dropped from now on, so the scenario fails too.
                eprintln!("the line of {name} cannot be held: {error}");
            }
            drop(running);
            Ok(())
        })?;
        Ok(Self { over, ended })
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Its end is the channel's.
        let _ = self.ended.recv();
    }
}

fn hold(over: &AtomicBool, line: Line, seed: u64) -> std::io::Result<()> {
    let mut queue = Queue::open()?;
    queue.bind(QUEUE)?;
    // Nothing of the packets themselves is of interest.
    queue.set_copy_range(QUEUE, 0)?;
    queue.set_queue_max_len(QUEUE, HELD_MAX)?;
    queue.set_nonblocking(true);
    let delay = Duration::from_millis(line.delay_ms);
    let mut chance = Chance::new(seed);
    let mut held: VecDeque<(Instant, Message)> = VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        loop {
            match queue.recv() {
                Ok(mut message) if chance.percent() < line.loss_percent => {
                    message.set_verdict(Verdict::Drop);
                    queue.verdict(message)?;
                }
                Ok(message) => held.push_back((Instant::now() + delay, message)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // Word of a packet whose interface went while it was held here.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let now = Instant::now();
        while held.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, mut message)) = held.pop_front() {
                message.set_verdict(Verdict::Accept);
                queue.verdict(message)?;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Marsaglia's xorshift64 (Journal of Statistical Software 8(14), 2003): the same packets are lost for the same seed, as far
/// as the same packets come.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        // Small seeds are spread, and none is zero, from which nothing would ever come.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    /// From 0 up to, and without, 100.
    fn percent(&mut self) -> f64 {
        self.next() as f64 / (1_u64 << 53) as f64 * 100.0
    }

    /// From 0 up to, and without, `end`, which is not 0.
    pub(crate) const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
