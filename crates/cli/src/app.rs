//! What every command needs: the home, the configuration, a way to print, and a node to speak to.

use std::path::PathBuf;
use std::time::Duration;

use honeylink::store::home::HomeLayout;
use honeylink_api::client::{Client, ClientError};
use honeylink_api::{ErrorCode, ExitCode, Mode, Status, routes};

use crate::cli::Global;
use crate::config::{self, Problem, Resolved, Sources};
use crate::daemon::{self, Running};
use crate::failure::Failure;
use crate::output::Printer;
use crate::signals;

/// How often, and how many times, a node that does not answer its connections is looked at again.
const DYING_LOOK_EVERY: Duration = Duration::from_millis(100);
const DYING_LOOKS: usize = 50;

/// The outcome of a command.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// What every command needs.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) home: HomeLayout,
    pub(crate) out: Printer,
    pub(crate) global: Global,
}

impl App {
    pub(crate) fn new(global: Global) -> Result<Self, Failure> {
        let home = match &global.home {
            Some(dir) => HomeLayout::new(absolute(dir)?),
            None => HomeLayout::of_this_user()
                .map_err(|e| Failure::hint(ErrorCode::Config, e.to_string(), "name one with --home DIR"))?,
        };
        let out = Printer::new(global.json, global.quiet);
        Ok(Self { home, out, global })
    }

    /// The configuration of this home with everything laid over it.
    pub(crate) fn config(&self) -> Result<Resolved, Failure> {
        config::resolve(&self.sources()).map_err(|problems| wrong_config(&problems))
    }

    /// The layers of the configuration of this home.
    pub(crate) fn sources(&self) -> Sources {
        // Names and values that are not UTF-8 are none of ours.
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Sources {
            file: self.home.config(),
            environment: environment.collect(),
            assignments: self.global.assignments.clone(),
        }
    }

    /// The client of this home, whether or not a node runs.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.home.api_socket())
    }

    /// Runs `work` with a node: the one that runs, or one started for this command. Ends early on Ctrl-C and at
    /// `--timeout`, and takes the node down again if it was started here.
    pub(crate) async fn with_node<W>(&self, work: W) -> Outcome
    where
        W: AsyncFnOnce(&Client) -> Outcome,
    {
        let resolved = self.config()?;
        crate::logging::for_command(&resolved.config.log, self.global.verbose);
        let (client, own) = self.open(resolved).await?;
        let limit = self.global.timeout.map_or(Duration::MAX, Duration::from_secs_f64);
        let outcome = tokio::select! {
            outcome = work(&client) => outcome,
            () = signals::asked_to_stop() => Err(Failure::new(ErrorCode::Interrupted, "stopped")),
            () = tokio::time::sleep(limit) => Err(Failure::new(
                ErrorCode::Timeout,
                format!("not done within {} s", limit.as_secs_f64()),
            )),
        };
        if let Some(own) = own {
            self.leave(own).await;
        }
        outcome
    }

    async fn open(&self, resolved: Resolved) -> Result<(Client, Option<Running>), Failure> {
        let client = self.client();
        let mut looked = client.get::<Status>(routes::STATUS).await;
        // One that was killed just now still takes connections for a moment.
        for _ in 0..DYING_LOOKS {
            if !matches!(looked, Err(ClientError::Cut)) {
                break;
            }
            tokio::time::sleep(DYING_LOOK_EVERY).await;
            looked = client.get::<Status>(routes::STATUS).await;
        }
        match looked {
            Ok(status) if self.global.no_daemon => Err(Failure::hint(
                ErrorCode::Policy,
                format!(
                    "a node (process {}) holds this home, so --no-daemon cannot start another",
                    status.pid
                ),
                "leave --no-daemon away, or end the node with: honeylink down",
            )),
            Ok(_) => Ok((client, None)),
            Err(ClientError::NoNode(_)) => {
                let running = daemon::start(&self.home, resolved, Mode::Command).await?;
                Ok((client, Some(running)))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Ends a node started for this command. Another command may have found its socket meanwhile; that one is waited
    /// for, because it would lose its node in mid-work.
    async fn leave(&self, own: Running) {
        if own.guests() > 0 {
            self.out
                .note("another command still uses the node of this one; waiting for it (Ctrl-C to end it)");
            tokio::select! {
                () = own.no_guests() => {}
                () = signals::asked_to_stop() => {}
            }
        }
        own.shutdown(Duration::ZERO).await;
    }
}

/// All problems of the configuration as one error.
pub(crate) fn wrong_config(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::hint(ErrorCode::Config, lines.join("\n"), "check again with: honeylink config check")
}

/// A path a person typed, made absolute: the node that will open it may have another working folder.
pub(crate) fn absolute(path: &std::path::Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::file("find", path, &e))
}
