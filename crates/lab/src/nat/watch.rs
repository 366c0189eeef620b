//! What an application at one end sees: numbered messages go out, answers come back, each with the way it took.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::Trouble;
use crate::process::Process;
use crate::scenario::Rung;

/// Pause before an application that was told that its link is over asks for another.
const AGAIN: Duration = Duration::from_millis(100);

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) at: Instant,
    pub(crate) rung: Option<Rung>,
}

#[derive(Debug, Default)]
struct Seen {
    answers: Vec<Answer>,
    /// How often each number of the present series was answered.
    numbers: BTreeMap<u64, u32>,
    lost: u64,
    twice: u64,
    /// Times that the application had to ask for a new link.
    restarts: u32,
    datagrams: (u64, u64),
    ready: Option<Instant>,
    /// The far address of the latest answer's way, or a relay's URL.
    address: String,
    last_words: String,
}

/// A running application of one side. Ended when dropped.
pub(crate) struct Watch {
    /// When the application was started.
    started: Instant,
    seen: Arc<Mutex<Seen>>,
    news: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Starts the application with `start` and again whenever it ends.
    pub(crate) fn new(start: impl Fn() -> Result<Process, Trouble> + Send + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let news = Arc::new(Notify::new());
        let (writing, telling) = (seen.clone(), news.clone());
        let task = tokio::spawn(async move {
            loop {
                match start() {
                    Ok(mut process) => {
                        while let Some((at, line)) = process.line().await {
                            held(&writing).hear(at, &line);
                            telling.notify_waiters();
                        }
                    }
                    Err(error) => held(&writing).last_words = error.to_string(),
                }
                held(&writing).restarts += 1;
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { started: Instant::now(), seen, news, task: task.abort_handle() }
    }

    /// When the application wished to speak: once its own program was ready, if that says so.
    pub(crate) fn began(&self) -> Instant {
        held(&self.seen).ready.unwrap_or(self.started)
    }

    /// The first answer after `from` that `wanted` holds for.
    pub(crate) async fn until(
        &self,
        from: Instant,
        within: Duration,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Option<Answer> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let told = self.news.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let found = held(&self.seen).answers.iter().find(|one| one.at > from && wanted(one)).copied();
            if found.is_some() {
                return found;
            }
            if tokio::time::timeout_at(deadline, told).await.is_err() {
                return None;
            }
        }
    }

    /// The longest time without an answer that touches the span from `from` to now.
    pub(crate) fn gap(&self, from: Instant) -> Duration {
        let seen = held(&self.seen);
        let at = seen.answers.partition_point(|one| one.at <= from).saturating_sub(1);
        let mut longest = Duration::ZERO;
        let mut before = seen.answers.get(at).map_or(from, |one| one.at);
        for one in seen.answers.get(at..).unwrap_or_default().iter().skip(1) {
            longest = longest.max(one.at.saturating_duration_since(before));
            before = one.at;
        }
        longest.max(before.elapsed())
    }

    /// The way of the latest answer.
    pub(crate) fn rung(&self) -> Option<Rung> {
        held(&self.seen).answers.last().and_then(|one| one.rung)
    }

    /// Messages lost, messages answered twice, and links that the application had to make anew.
    pub(crate) fn damage(&self) -> Damage {
        let seen = held(&self.seen);
        Damage { lost: seen.lost, twice: seen.twice, restarts: seen.restarts, datagrams: seen.datagrams }
    }

    /// The far address of the latest answer's way, or a relay's URL.
    pub(crate) fn address(&self) -> String {
        held(&self.seen).address.clone()
    }

    pub(crate) fn last_words(&self) -> String {
        held(&self.seen).last_words.clone()
    }
}

/// See [`Watch::damage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) restarts: u32,
    /// Sent, and come back; of the control only.
    pub(crate) datagrams: (u64, u64),
}

impl Seen {
    fn hear(&mut self, at: Instant, line: &str) {
        let Ok(json) = serde_json::from_str::<Value>(line) else {
            line.clone_into(&mut self.last_words);
            return;
        };
        match json["event"].as_str() {
            Some("reply") => {
                let number = json["seq"].as_u64().unwrap_or(u64::MAX);
                if number == 0 {
                    self.numbers.clear();
                }
                let times = self.numbers.entry(number).or_default();
                *times += 1;
                self.twice += u64::from(*times > 1);
                self.answers.push(Answer { at, rung: rung(&json["path"]["rung"]) });
                json["path"]["address"].as_str().unwrap_or_default().clone_into(&mut self.address);
                let count = |name: &str| json["datagrams"][name].as_u64().unwrap_or(0);
                self.datagrams = (count("sent"), count("back"));
            }
            Some("ready") => self.ready = self.ready.or(Some(at)),
            Some("lost") => self.lost += 1,
            Some("ended") => {
                self.restarts += 1;
                line.clone_into(&mut self.last_words);
            }
            _ => line.clone_into(&mut self.last_words),
        }
    }
}

fn rung(word: &Value) -> Option<Rung> {
    match word.as_str()? {
        "local" | "direct/lan" => Some(Rung::Lan),
        "direct/wide" | "punched" => Some(Rung::Direct),
        "relayed" => Some(Rung::Relayed),
        _ => None,
    }
}

fn held(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_comes_twice_is_counted_and_a_new_series_is_not() {
        let mut seen = Seen::default();
        let now = Instant::now();
        for number in [0, 1, 1, 0, 1] {
            seen.hear(now, &format!(r#"{{"event":"reply","seq":{number},"rtt_ms":1.0,"path":null}}"#));
        }
        seen.hear(now, r#"{"event":"lost","seq":2}"#);
        assert_eq!((seen.twice, seen.lost, seen.answers.len()), (1, 1, 5));
    }
}
