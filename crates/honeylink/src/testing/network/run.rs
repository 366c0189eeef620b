//! Running a test in virtual time, under one seed or many, and saying which seed failed.

use std::error::Error;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Network;
use super::builder::NetworkBuilder;
use super::settings::{InvalidSetting, SEED, Settings};
use super::trace::Trace;
use crate::testing::virtual_time;

/// What a test's own code fails with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Lines of the trace that a failure shows.
const TAIL_LINES: usize = 40;
/// The stack of a run's thread: debug builds of cryptography and databases want more than a thread's usual 2 MiB.
const STACK_BYTES: usize = 8 << 20;

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum FailureReason {
    /// The environment has a value that cannot be; nothing ran.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// The test panicked, for example at an assertion.
    #[error("panicked: {0}")]
    Panicked(String),
    /// The test returned an error.
    #[error("{0}")]
    Failed(BoxError),
    /// The test was still running; perhaps it waits for something that never comes.
    #[error("still running after {} s of virtual time", .0.as_secs())]
    TooLong(Duration),
    /// The system gave no thread or no runtime.
    #[error("the system cannot run it: {0}")]
    System(std::io::Error),
}

/// A run that failed, and how to see it again.
#[derive(thiserror::Error)]
#[error(
    "seed {seed}: {reason}\nto run it again: {SEED}={seed} cargo test\nthe last of {fingerprint}:\n{tail}"
)]
pub struct Failure {
    /// The seed of the run.
    pub seed: u64,
    /// What went wrong.
    pub reason: FailureReason,
    /// The hash of the run's whole trace: equal means the same run.
    pub fingerprint: String,
    /// The last lines of the trace.
    pub tail: String,
}

impl std::fmt::Debug for Failure {
    /// The same text, because that is what a failing test shows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Runs a test once under each seed, on a network with the default settings; see [`NetworkBuilder::check`].
///
/// # Errors
/// [`Failure`] of the first seed that fails.
pub fn check<F, Fut>(seeds: impl IntoIterator<Item = u64>, test: F) -> Result<(), Box<Failure>>
where
    F: Fn(Network) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), BoxError>>,
{
    Network::builder().check(seeds, test)
}

impl NetworkBuilder {
    /// Runs a test on this network in virtual time, on a thread of its own, and returns what it returns.
    ///
    /// Without [`NetworkBuilder::seed`] the seed is that of `HONEYLINK_SEED`, or 1.
    ///
    /// # Errors
    /// [`Failure`], if the test panics, returns an error or does not end within [`NetworkBuilder::time_limit`].
    pub fn run<T, F, Fut>(&self, test: F) -> Result<T, Box<Failure>>
    where
        T: Send,
        F: FnOnce(Network) -> Fut + Send,
        Fut: Future<Output = Result<T, BoxError>>,
    {
        let settings = Settings::from_environment().map_err(refused)?;
        let seed = self.seed.or(settings.seed).unwrap_or(1);
        self.run_seed(&settings, seed, test)
    }

    /// Runs a test once under each seed, one after the other. `HONEYLINK_SEED` in the environment runs that one instead:
    /// so is a failure repeated.
    ///
    /// # Errors
    /// [`Failure`] of the first seed that fails; its text says how to run it again.
    pub fn check<F, Fut>(&self, seeds: impl IntoIterator<Item = u64>, test: F) -> Result<(), Box<Failure>>
    where
        F: Fn(Network) -> Fut + Send + Sync,
        Fut: Future<Output = Result<(), BoxError>>,
    {
        let settings = Settings::from_environment().map_err(refused)?;
        if let Some(seed) = settings.seed {
            return self.run_seed(&settings, seed, test);
        }
        seeds.into_iter().try_for_each(|seed| self.run_seed(&settings, seed, &test))
    }

    /// Starts this network in real time, on the runtime of whoever calls: for demonstrations, not for tests, because
    /// nothing repeats. The real QUIC stack works here on every system. End it with [`Network::end`].
    ///
    /// # Errors
    /// [`InvalidSetting`], if the environment has a value that cannot be.
    pub fn start(&self) -> Result<Network, InvalidSetting> {
        let settings = Settings::from_environment()?;
        let seed = self.seed.or(settings.seed).unwrap_or(1);
        let trace = Arc::new(Mutex::new(Trace::default()));
        Ok(self.make(&settings, seed, true, trace))
    }

    fn run_seed<T, F, Fut>(&self, settings: &Settings, seed: u64, test: F) -> Result<T, Box<Failure>>
    where
        T: Send,
        F: FnOnce(Network) -> Fut + Send,
        Fut: Future<Output = Result<T, BoxError>>,
    {
        let trace = Arc::new(Mutex::new(Trace::default()));
        let failure = |reason| {
            let trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            Box::new(Failure { seed, reason, fingerprint: trace.fingerprint(), tail: trace.tail(TAIL_LINES) })
        };
        let run = || {
            let clock_follows = virtual_time::begin(seed);
            let outcome = self.run_here(settings, seed, clock_follows, &trace, test);
            virtual_time::end();
            outcome
        };
        // A thread of its own: what depends on the thread, as hash tables do, begins the same way in every run.
        let joined = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(STACK_BYTES);
            Ok(thread.spawn_scoped(scope, run)?.join())
        });
        match joined {
            Ok(Ok(outcome)) => outcome.map_err(failure),
            Ok(Err(panic)) => match said(&*panic) {
                Some(words) => Err(failure(FailureReason::Panicked(words))),
                // Not words: something unwinds on purpose, and not for us to stop.
                None => resume_unwind(panic),
            },
            Err(error) => Err(failure(FailureReason::System(error))),
        }
    }

    fn run_here<T, F, Fut>(
        &self,
        settings: &Settings,
        seed: u64,
        clock_follows: bool,
        trace: &Arc<Mutex<Trace>>,
        test: F,
    ) -> Result<T, FailureReason>
    where
        F: FnOnce(Network) -> Fut,
        Fut: Future<Output = Result<T, BoxError>>,
    {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().map_err(FailureReason::System)?;
        runtime.block_on(async {
            virtual_time::started();
            let network = self.make(settings, seed, clock_follows, trace.clone());
            let outcome = tokio::time::timeout(self.time_limit, test(network.clone())).await;
            network.end().await;
            match outcome {
                Ok(outcome) => outcome.map_err(FailureReason::Failed),
                Err(_) => Err(FailureReason::TooLong(self.time_limit)),
            }
        })
    }
}

fn refused(error: InvalidSetting) -> Box<Failure> {
    let (fingerprint, tail) = ("nothing, because nothing ran".into(), String::new());
    Box::new(Failure { seed: 0, reason: error.into(), fingerprint, tail })
}

fn said(panic: &(dyn std::any::Any + Send)) -> Option<String> {
    panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
}
