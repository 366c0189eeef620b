//! Words between the two ends of a busy connection about how long packets wait on their way: the core's [`Soundings`] as
//! datagrams. The controllers ([`super::paced`]) say when both directions are busy, and take what the far end said.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use honeylink_core::qos::{Sounding, Soundings, Told};
use tokio::sync::Notify;

use crate::clock::Clock;

/// What one connection's controllers, its reader and its teller share.
#[derive(Debug)]
pub(super) struct Depths {
    clock: Clock,
    inside: Mutex<Inside>,
    /// Words heard so far, so that whoever steers sees without the lock that there is nothing new.
    heard: AtomicU64,
    /// A word may be due earlier than the teller thinks.
    rearm: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    soundings: Soundings,
    told: Option<Told>,
}

impl Depths {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::start(),
            inside: Mutex::default(),
            heard: AtomicU64::new(0),
            rearm: Notify::new(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Both directions are busy.
    pub(super) fn set_busy(&self) {
        let now = self.clock.now();
        let mut inside = self.inside();
        let slept = inside.soundings.due(now).is_none();
        inside.soundings.set_busy(now);
        drop(inside);
        if slept {
            self.rearm.notify_one();
        }
    }

    /// There is a new path.
    pub(super) fn forget_way(&self) {
        self.inside().soundings.forget_way();
    }

    /// What the far end said since word `seen`, which becomes the latest.
    pub(super) fn told_since(&self, seen: &mut u64) -> Option<Told> {
        let heard = self.heard.load(Ordering::Relaxed);
        if *seen == heard {
            return None;
        }
        *seen = heard;
        self.inside().told
    }

    /// Takes a datagram if it is for this; gives it back otherwise.
    pub(super) fn hear(&self, datagram: Bytes) -> Option<Bytes> {
        let Some(word) = Sounding::from_bytes(&datagram) else {
            return Some(datagram);
        };
        match word {
            Ok(word) => {
                let mut inside = self.inside();
                inside.told = inside.soundings.hear(self.clock.now(), word);
                drop(inside);
                self.heard.fetch_add(1, Ordering::Relaxed);
                self.rearm.notify_one();
            }
            // Of a later version, perhaps: then nobody talks.
            Err(why) => tracing::trace!(%why, "a sounding that is not understood"),
        }
        None
    }

    /// Says what is due for as long as it is asked; never ends. `received` tells the bytes that have arrived, `send` takes a
    /// datagram.
    pub(super) async fn tell(&self, received: impl Fn() -> u64, send: impl Fn(Bytes)) {
        loop {
            let now = self.clock.now();
            let due = self.inside().soundings.due(now);
            match due {
                Some(at) if at <= now => {
                    // Asked before the lock is taken: the connection answers under its own, under which controllers ask for this.
                    let received = received();
                    let word = self.inside().soundings.say(now, received);
                    send(word.to_bytes());
                }
                Some(at) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(self.clock.instant(at)) => {}
                    () = self.rearm.notified() => {}
                },
                None => self.rearm.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    /// A teller, and what it says.
    fn teller(depths: &Arc<Depths>) -> mpsc::UnboundedReceiver<Bytes> {
        let (sender, said) = mpsc::unbounded_channel();
        let depths = depths.clone();
        tokio::spawn(async move {
            let send = |word| {
                let _ = sender.send(word);
            };
            depths.tell(|| 7, send).await;
        });
        said
    }

    #[tokio::test(start_paused = true)]
    async fn two_ends_that_are_busy_hear_how_long_their_packets_wait_and_idle_ones_say_nothing() {
        let ends = [Arc::new(Depths::new()), Arc::new(Depths::new())];
        let [mut one, mut other] = [teller(&ends[0]), teller(&ends[1])];
        // tidy: sleep because it is virtual time, and passing is what it is for
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(one.try_recv().is_err() && other.try_recv().is_err(), "nobody was busy");
        let mut seen = 0;
        for took_ms in [3, 3, 3, 3, 3, 8, 8, 8, 8, 8] {
            ends.iter().for_each(|end| end.set_busy());
            let words = [one.recv().await.unwrap(), other.recv().await.unwrap()];
            // tidy: sleep because it is the way that takes so long, in virtual time
            tokio::time::sleep(Duration::from_millis(took_ms)).await;
            for (end, word) in ends.iter().rev().zip(words) {
                assert_eq!(end.hear(word), None);
            }
        }
        let told = ends[0].told_since(&mut seen).unwrap();
        assert_eq!((told.waited, told.received), (Duration::from_millis(5), 7));
        assert_eq!(ends[0].told_since(&mut seen), None, "nothing new since");
        // Whatever was on its way, they fall silent by themselves.
        // tidy: sleep because nothing is awaited
        tokio::time::sleep(Duration::from_secs(5)).await;
        while one.try_recv().is_ok() {}
        // tidy: sleep because what is shown is that nothing comes
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(one.try_recv().is_err());
    }

    #[test]
    fn other_datagrams_are_left_alone_and_broken_words_go_no_further() {
        let depths = Depths::new();
        let other = Bytes::from_static(&[1; 40]);
        assert_eq!(depths.hear(other.clone()), Some(other));
        assert_eq!(depths.hear(Bytes::from_static(&[0; 16])), None);
        assert_eq!(depths.hear(Bytes::from_static(&[0; 20])), None);
        assert_eq!(depths.told_since(&mut 0), None);
    }
}
