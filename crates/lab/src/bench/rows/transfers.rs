//! What the rows about files share: two nodes with a file service each, and a raw stream to compare with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeylink::services::Files;
use honeylink::services::files::{Accept, Done, Policy};
use honeylink::transfer::{Durability, Handle};
use honeylink::{DeviceId, Node, testing};
use tokio::sync::Mutex;

use crate::Trouble;
use crate::rig::{self, Held, Raw, Rig};

/// Two devices, the first of which sends.
pub(super) struct Post {
    nodes: (Node, Node),
    pub(super) from: Files,
    at: Files,
    pub(super) to: DeviceId,
}

impl Post {
    /// Files arrive in the folder `into`.
    pub(super) fn new(rig: &Rig, into: &Path) -> Result<Self, Trouble> {
        let a = rig.here(rig::node("here"))?;
        let b = rig.there(rig::node("there"))?;
        testing::introduce(&a, &b)?;
        let to = b.id();
        let policy = |accept| Policy { into: into.to_owned(), accept, durability: Durability::Sync };
        let (sender, nothing) = (a.clone(), policy(Accept::Nothing));
        let from = rig.here(async move { Ok(Files::start(&sender, nothing)?) })?;
        let (receiver, everything) = (b.clone(), policy(Accept::Everything));
        let at = rig.there(async move { Ok(Files::start(&receiver, everything)?) })?;
        Ok(Self { nodes: (a, b), from, at, to })
    }

    /// Sends `path` and waits until it is verified and in place; gives the seconds of the whole call.
    pub(super) fn send(&self, rig: &Rig, path: &Path) -> Result<(f64, Done), Trouble> {
        let (files, to, path) = (self.from.clone(), self.to, path.to_owned());
        rig.here(async move {
            let started = Instant::now();
            let done = files.send(to, &[path], Handle::new()).await?.result?;
            Ok((started.elapsed().as_secs_f64(), done))
        })
    }

    /// Waits until the receiver has let go of what was cut or cancelled.
    pub(super) fn settled(&self, rig: &Rig) -> Result<(), Trouble> {
        let receiving = self.at.clone();
        rig.there(async move {
            while !receiving.running().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        })
    }

    pub(super) fn end(self, rig: &Rig) -> Result<(), Trouble> {
        let (a, b) = self.nodes;
        rig.here(async move {
            a.shutdown().await;
            Ok(())
        })?;
        rig.there(async move {
            b.shutdown().await;
            Ok(())
        })
    }
}

/// A raw stream that moves bytes from memory to nowhere: what a transfer cannot be faster than.
pub(super) struct RawPost {
    send: Arc<Mutex<iroh::endpoint::SendStream>>,
    recv: Arc<Mutex<iroh::endpoint::RecvStream>>,
    _raw: RawRest,
}

type RawRest = (iroh::endpoint::RecvStream, iroh::endpoint::SendStream, Held);

impl RawPost {
    pub(super) fn new(rig: &Rig) -> Result<Self, Trouble> {
        let Raw { held, ours, theirs } = Raw::new(rig)?;
        let ((send, back), (forth, recv)) = (ours, theirs);
        Ok(Self {
            send: Arc::new(Mutex::new(send)),
            recv: Arc::new(Mutex::new(recv)),
            _raw: (back, forth, held),
        })
    }

    /// Seconds for `bytes`, from the first written to the last read.
    pub(super) fn send(&self, rig: &Rig, bytes: usize) -> Result<f64, Trouble> {
        let (send, recv) = (self.send.clone(), self.recv.clone());
        let started = Instant::now();
        let writing = async move {
            let mut send = send.lock().await;
            let block = vec![7; 256 << 10];
            let mut left = bytes;
            while left > 0 {
                let len = left.min(block.len());
                send.write_all(&block[..len]).await?;
                left -= len;
            }
            Ok(())
        };
        let reading = async move {
            let mut recv = recv.lock().await;
            let mut left = bytes;
            while left > 0 {
                left -= recv.read_chunk(left.min(256 << 10)).await?.ok_or("the stream ended early")?.len();
            }
            Ok(())
        };
        rig.both(writing, reading)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// What is in `folder` now: for telling when something arrives.
pub(super) fn anything_in(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.drain(..).any(|path| match std::fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => anything_in(&path),
        Ok(meta) => meta.len() > 0 && path.extension().is_none_or(|ext| ext != "lock"),
        Err(_) => false,
    })
}
