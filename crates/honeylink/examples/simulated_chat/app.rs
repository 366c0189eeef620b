//! The application: a room that logs lines, and writers that send them until the room has them.
//!
//! A link delivers in order and exactly once while both processes live. When the room's process dies, a writer opens a new
//! link and sends again what was not confirmed; numbers let the room tell a repeated line from a new one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink::node::ListenError;
use honeylink::{DeviceId, Link, Node};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

const PROTOCOL: &str = "room/1";
/// Lines that wait for a writer's task.
const QUEUE_LINES: usize = 64;
/// Before the next attempt to reach the room.
const PAUSE: Duration = Duration::from_millis(500);

/// When a writer forgets a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// When the room has said that it has it.
    UntilConfirmed,
    /// When `Link::send` has returned: the mistake. `Ok` means queued, and a queue dies with its process.
    UntilSent,
}

/// What the room has, as if on its disk.
#[derive(Debug, Default)]
pub(crate) struct Log {
    lines: Mutex<(BTreeMap<DeviceId, u64>, Vec<String>)>,
}

impl Log {
    /// Adds a line unless it is here already.
    fn add(&self, from: DeviceId, number: u64, text: &str) {
        let mut state = self.state();
        let (next, lines) = &mut *state;
        let next = next.entry(from).or_default();
        if number >= *next {
            *next = number + 1;
            lines.push(text.to_owned());
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.state().1.clone()
    }

    fn state(&self) -> MutexGuard<'_, (BTreeMap<DeviceId, u64>, Vec<String>)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A room that takes lines for as long as it is held.
pub(crate) struct Room(AbortHandle);

impl Room {
    pub(crate) fn open(node: &Node, log: Arc<Log>) -> Result<Self, ListenError> {
        let mut visitors = node.listen(PROTOCOL)?;
        let serving = tokio::spawn(async move {
            while let Some(link) = visitors.accept().await {
                tokio::spawn(serve(link, log.clone()));
            }
        });
        Ok(Self(serving.abort_handle()))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(link: Link, log: Arc<Log>) {
    while let Ok(message) = link.recv().await {
        let Some((number, text)) = message.split_first_chunk::<8>() else { return };
        log.add(link.peer(), u64::from_be_bytes(*number), &String::from_utf8_lossy(text));
        if link.send(number.to_vec()).await.is_err() {
            return;
        }
    }
}

/// Writes to a room, whatever becomes of the room's process.
pub(crate) struct Writer {
    lines: mpsc::Sender<String>,
    /// Lines not confirmed, the queue's included.
    open: watch::Receiver<usize>,
    task: AbortHandle,
}

impl Writer {
    pub(crate) fn start(node: Node, room: &str, care: Care) -> Self {
        let (lines, queue) = mpsc::channel(QUEUE_LINES);
        let (outbox, open) = watch::channel(0);
        let outbox = Outbox { next: 0, lines: VecDeque::new(), sent: 0, care, open: outbox };
        let task = tokio::spawn(deliver(node, room.to_owned(), outbox, queue)).abort_handle();
        Self { lines, open, task }
    }

    pub(crate) async fn write(&self, line: &str) -> Result<(), &'static str> {
        self.lines.send(line.to_owned()).await.map_err(|_| "the writer stopped")
    }

    /// Waits until the room has everything.
    pub(crate) async fn all_confirmed(&self, patience: Duration) -> Result<(), &'static str> {
        let mut open = self.open.clone();
        let idle = async {
            while self.lines.capacity() < self.lines.max_capacity() {
                // tidy: sleep because the queue tells nobody that it is empty
                sleep(PAUSE).await;
            }
            open.wait_for(|open| *open == 0).await.map(drop)
        };
        timeout(patience, idle).await.map_err(|_| "lines stay unconfirmed")?.map_err(|_| "the writer stopped")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is to be delivered.
struct Outbox {
    next: u64,
    lines: VecDeque<(u64, String)>,
    /// How many of them went out on the link in use.
    sent: usize,
    care: Care,
    open: watch::Sender<usize>,
}

impl Outbox {
    fn push(&mut self, line: String) {
        self.lines.push_back((self.next, line));
        self.next += 1;
        self.open.send_replace(self.lines.len());
    }

    /// Sends what this link has not carried yet.
    async fn flush(&mut self, link: &Link) -> Result<(), honeylink::link::SendError> {
        while let Some((number, line)) = self.lines.get(self.sent) {
            link.send([&number.to_be_bytes()[..], line.as_bytes()].concat()).await?;
            match self.care {
                Care::UntilConfirmed => self.sent += 1,
                Care::UntilSent => drop(self.lines.pop_front()),
            }
        }
        self.open.send_replace(self.lines.len());
        Ok(())
    }

    /// The room has everything up to and including this number.
    fn confirmed(&mut self, number: u64) {
        while self.lines.front().is_some_and(|(first, _)| *first <= number) {
            self.lines.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
        self.open.send_replace(self.lines.len());
    }
}

/// Keeps a link to the room and the outbox moving, until the writer is gone.
async fn deliver(node: Node, room: String, mut outbox: Outbox, mut queue: mpsc::Receiver<String>) {
    loop {
        if let Ok(link) = node.connect(&*room, PROTOCOL).await {
            outbox.sent = 0;
            while outbox.flush(&link).await.is_ok() {
                tokio::select! {
                    biased;
                    answer = link.recv() => match answer.as_deref().map(<[u8; 8]>::try_from) {
                        Ok(Ok(number)) => outbox.confirmed(u64::from_be_bytes(number)),
                        Ok(Err(_)) | Err(_) => break,
                    },
                    line = queue.recv() => match line {
                        Some(line) => outbox.push(line),
                        None => return,
                    },
                }
            }
        }
        // tidy: sleep because whoever asks again at once only keeps a busy room busier
        sleep(PAUSE).await;
    }
}
