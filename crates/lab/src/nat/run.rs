//! One run of one scenario: the world is built, both subjects start in it, and each step's figures are taken from what the
//! applications saw.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Trouble;
use crate::ferry;
use crate::observers::Observers;
use crate::scenario::{Rung, Scenario, Step};
use crate::subject::{Programs, Relays, Subject, Who};
use crate::watch::Watch;
use crate::world::World;

/// How long a pair must go on without a gap before a step counts as over.
const QUIET: Duration = Duration::from_secs(2);

/// How long a relay that died must be back before another dies: whoever lost it asks again after pauses of up to half a
/// minute, and until then there is no second relay.
const RELAY_BACK: Duration = Duration::from_secs(35);

/// What a step measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// Whether the two devices speak at all: 1 or 0.
    Connected,
    /// Whether they came to speak directly: 1 or 0.
    Direct,
    /// From the wish to speak to the first answer, ms.
    FirstMs,
    /// From the first answer to the first direct one, ms.
    ToDirectMs,
    /// From the wish to speak to the first direct answer, ms.
    FirstDirectMs,
    /// The longest time without an answer while the path changed to the direct one, ms.
    MigrationGapMs,
    /// Messages lost, doubled or cut off by a connection's end, in the whole run.
    Damage,
    /// Without an answer when the direct path died silently, ms.
    SilentDeathMs,
    /// From healing to the direct path, ms, where there was one before.
    HealMs,
    /// Without an answer when a device moved to another router, ms.
    HandoffMs,
    /// Without an answer when the relay in use died, ms.
    RelayDeathMs,
}

/// One figure of one run. `None`: it did not come to pass in the time allowed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) scenario: String,
    pub(crate) variant: String,
    pub(crate) who: Who,
    pub(crate) figure: Figure,
    pub(crate) value: Option<f64>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    /// The rung that each subject had in the end.
    pub(crate) ended: Vec<(Who, Option<Rung>)>,
    /// What the scenario expected of the product and did not get.
    pub(crate) unmet: Vec<String>,
}

/// Runs a scenario's `variant` once, in a folder of its own.
pub(crate) async fn run(
    programs: &Programs,
    scenario: &Scenario,
    variant: &str,
    folder: &Path,
) -> Result<Outcome, Trouble> {
    let world = World::build(scenario).await?;
    let mut relays = Relays::start(&world, programs, folder).await?;
    let observers = Observers::start(&world, programs, folder).await?;
    let [ann, bert] = scenario.devices.as_slice() else { return Err("needs two devices".into()) };
    let mut names = vec![ann.name.clone(), bert.name.clone()];
    let mut pairs = vec![(0, 1)];
    if let Some(third) = &scenario.ferry {
        names.push(third.clone());
        pairs.extend([(0, 2), (1, 2)]);
    }
    let mut product = Subject::product(programs, &names, &pairs, &relays.at, &observers, folder).await?;
    if let Some(third) = &scenario.ferry {
        product.board(third, ferry::address(&world, third)?).await?;
    }
    let mut subjects = vec![product];
    // Without a relay plain iroh knows no way to begin with.
    if scenario.relays > 0 {
        subjects.insert(0, Subject::control(programs, &names, &relays.at));
    }
    for subject in &mut subjects {
        subject.start(&world).await?;
    }
    let mut running = Running {
        scenario,
        variant,
        world: &world,
        relays: &mut relays,
        pairs: Vec::new(),
        cut: Vec::new(),
        outcome: Outcome::default(),
    };
    for subject in &subjects {
        running.pairs.push((subject.who, subject.watch(&world)?));
    }
    for step in &scenario.steps {
        running.step(step).await?;
    }
    let outcome = running.end();
    for subject in &mut subjects {
        subject.stop().await;
    }
    Ok(outcome)
}

/// A run under way.
struct Running<'a> {
    scenario: &'a Scenario,
    variant: &'a str,
    world: &'a World,
    relays: &'a mut Relays,
    pairs: Vec<(Who, Watch)>,
    /// The pairs whose direct path was cut: who was relayed before has nothing to come back to.
    cut: Vec<usize>,
    outcome: Outcome,
}

impl Running<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), Trouble> {
        match step {
            Step::Connect { within_s } => self.connect(*within_s).await,
            Step::Reach { rung, within_s, may } => self.reach(*rung, *within_s, *may).await,
            Step::CutDirect { within_s } => {
                let direct = self.who_is(|rung| rung.is_some_and(Rung::is_direct));
                let at = Instant::now();
                self.world.cut().await?;
                self.gaps(Figure::SilentDeathMs, at, *within_s, &direct).await;
                self.cut = direct;
            }
            Step::Heal { within_s } => {
                let at = Instant::now();
                self.world.heal().await?;
                self.heal(at, *within_s).await;
            }
            Step::Replug { device, to, within_s } => {
                let all = self.who_is(|_| true);
                let at = Instant::now();
                self.world.replug(device, to).await?;
                self.gaps(Figure::HandoffMs, at, *within_s, &all).await;
            }
            Step::Ferried { within_s } => self.ferried(*within_s).await,
            Step::KillRelay { silent, within_s } => self.kill_relay(*silent, *within_s).await?,
            Step::Wait { seconds } => tokio::time::sleep(Duration::from_secs(*seconds)).await,
        }
        Ok(())
    }

    async fn connect(&mut self, within_s: u64) {
        let within = Duration::from_secs(within_s);
        for (who, watch) in &self.pairs {
            let first = watch.until(watch.began(), within, |_| true).await;
            let ms = first.map(|first| millis(first.at.saturating_duration_since(watch.began())));
            if first.is_none() && *who == Who::Honeylink {
                self.outcome.unmet.push(format!("no answer within {within_s} s: {}", watch.last_words()));
            }
            self.outcome.samples.extend([
                self.sample(*who, Figure::Connected, Some(f64::from(u8::from(first.is_some())))),
                self.sample(*who, Figure::FirstMs, ms),
            ]);
        }
    }

    async fn reach(&mut self, rung: Rung, within_s: u64, may: bool) {
        let until = Instant::now() + Duration::from_secs(within_s);
        let fits = |seen: Option<Rung>| match rung {
            // Whoever is nearer than asked is there too.
            Rung::Direct => seen.is_some_and(Rung::is_direct),
            Rung::Lan | Rung::Relayed => seen == Some(rung),
        };
        for (who, watch) in &self.pairs {
            let left = until.saturating_duration_since(Instant::now());
            let first = watch.until(watch.began(), Duration::ZERO, |_| true).await;
            let there = watch.until(watch.began(), left, |answer| fits(answer.rung)).await;
            if there.is_none() && !may && *who == Who::Honeylink {
                let now = watch.rung().map_or("nowhere", Rung::name);
                self.outcome.unmet.push(format!("not {} within {within_s} s but {now}", rung.name()));
            }
            if rung != Rung::Direct {
                continue;
            }
            let direct = Some(f64::from(u8::from(there.is_some())));
            let whole = there.map(|there| millis(there.at.saturating_duration_since(watch.began())));
            self.outcome.samples.extend([
                self.sample(*who, Figure::Direct, direct),
                self.sample(*who, Figure::FirstDirectMs, whole),
            ]);
            if let (Some(first), Some(there)) = (first, there) {
                let took = millis(there.at.saturating_duration_since(first.at));
                self.outcome.samples.push(self.sample(*who, Figure::ToDirectMs, Some(took)));
            }
        }
        tokio::time::sleep(QUIET).await;
        for (who, watch) in self.pairs.iter().filter(|(_, watch)| watch.rung().is_some_and(Rung::is_direct)) {
            let Some(first) = watch.until(watch.began(), Duration::ZERO, |_| true).await else { continue };
            let gap = millis(watch.gap(first.at));
            self.outcome.samples.push(self.sample(*who, Figure::MigrationGapMs, Some(gap)));
        }
    }

    /// Waits until the product's way leads over the third device.
    async fn ferried(&mut self, within_s: u64) {
        let by = format!("by {}", self.scenario.ferry.as_deref().unwrap_or_default());
        let until = Instant::now() + Duration::from_secs(within_s);
        for (_, watch) in self.pairs.iter().filter(|(who, _)| *who == Who::Honeylink) {
            let mut from = watch.began();
            while watch.address() != by {
                let left = until.saturating_duration_since(Instant::now());
                let Some(answer) = watch.until(from, left, |_| true).await else {
                    let why = format!("not {by} within {within_s} s but at `{}`", watch.address());
                    self.outcome.unmet.push(why);
                    break;
                };
                from = answer.at;
            }
        }
    }

    async fn heal(&mut self, at: Instant, within_s: u64) {
        let until = at + Duration::from_secs(within_s);
        for index in std::mem::take(&mut self.cut) {
            let Some((who, watch)) = self.pairs.get(index) else { continue };
            let left = until.saturating_duration_since(Instant::now());
            let direct = |answer: &crate::watch::Answer| answer.rung.is_some_and(Rung::is_direct);
            let back = watch.until(at, left, direct).await;
            if back.is_none() && *who == Who::Honeylink {
                self.outcome.unmet.push(format!("not direct again within {within_s} s"));
            }
            let took = back.map(|back| millis(back.at - at));
            self.outcome.samples.push(self.sample(*who, Figure::HealMs, took));
        }
    }

    async fn kill_relay(&mut self, silent: bool, within_s: u64) -> Result<(), Trouble> {
        let mut left: BTreeSet<usize> = (0..self.pairs.len()).collect();
        while let Some(first) = left.first().copied() {
            let Some(number) = self.relay_of(first) else {
                left.remove(&first);
                continue;
            };
            // Both may use the same one; who does not is measured when its own dies.
            let hit: Vec<usize> =
                left.iter().copied().filter(|at| self.relay_of(*at) == Some(number)).collect();
            left.retain(|at| !hit.contains(at));
            let at = Instant::now();
            if silent {
                self.world.relay_link(number, false).await?;
            } else {
                self.relays.kill(number).await;
            }
            self.gaps(Figure::RelayDeathMs, at, within_s, &hit).await;
            if silent {
                self.world.relay_link(number, true).await?;
            } else {
                self.relays.start_all(self.world).await?;
            }
            tokio::time::sleep(if left.is_empty() { QUIET } else { RELAY_BACK }).await;
        }
        Ok(())
    }

    /// The relay over which a pair speaks.
    fn relay_of(&self, at: usize) -> Option<usize> {
        let (_, watch) = self.pairs.get(at)?;
        let address = watch.address();
        (watch.rung() == Some(Rung::Relayed)).then_some(())?;
        (0..self.world.relays()).find(|number| {
            // The whole host, so that relay 1 is not found in relay 11's.
            let host = self.world.relay_host(*number).unwrap_or_default();
            let after = address.split(&host).nth(1);
            after.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    }

    /// The pairs whose way is as `wanted`.
    fn who_is(&self, wanted: impl Fn(Option<Rung>) -> bool) -> Vec<usize> {
        (0..self.pairs.len())
            .filter(|at| self.pairs.get(*at).is_some_and(|pair| wanted(pair.1.rung())))
            .collect()
    }

    /// Waits until every pair of `whose` is answered again and goes on for a while; the longest silence of each.
    async fn gaps(&mut self, figure: Figure, at: Instant, within_s: u64, whose: &[usize]) {
        let until = at + Duration::from_secs(within_s);
        // What was under way when it happened still arrives.
        let settled = at + Duration::from_millis(300);
        tokio::time::sleep(settled.saturating_duration_since(Instant::now())).await;
        let mut back = Vec::new();
        for index in whose {
            let Some((_, watch)) = self.pairs.get(*index) else { continue };
            let left = until.saturating_duration_since(Instant::now());
            back.push((*index, watch.until(settled, left, |_| true).await));
        }
        tokio::time::sleep(QUIET).await;
        for (index, back) in back {
            let Some((who, watch)) = self.pairs.get(index) else { continue };
            let gap = back.map(|_| millis(watch.gap(at)));
            if gap.is_none() && *who == Who::Honeylink {
                self.outcome
                    .unmet
                    .push(format!("silent for {within_s} s ({figure:?}): {}", watch.last_words()));
            }
            let sample = self.sample(*who, figure, gap);
            self.outcome.samples.push(sample);
        }
    }

    fn sample(&self, who: Who, figure: Figure, value: Option<f64>) -> Sample {
        let scenario = self.scenario.name.clone();
        Sample { scenario, variant: self.variant.to_owned(), who, figure, value }
    }

    fn end(mut self) -> Outcome {
        for (who, watch) in &self.pairs {
            let damage = watch.damage();
            let sum = damage.lost + damage.twice + u64::from(damage.restarts);
            let sample = self.sample(*who, Figure::Damage, Some(sum as f64));
            self.outcome.samples.push(sample);
            self.outcome.ended.push((*who, watch.rung()));
            if sum > 0 && *who == Who::Honeylink {
                self.outcome.unmet.push(format!("{damage:?}: {}", watch.last_words()));
            }
        }
        self.outcome
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
