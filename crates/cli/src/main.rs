//! The program `honeylink`: the command line, and the daemon it speaks to.
//!
//! Every verb does its work through the local API, against the node that runs or against one it starts in its own
//! process for as long as it needs it. So there is one code path, and whatever a verb can do, a script with a socket
//! can do too. `commands` holds one file per verb, `daemon` the node and its API, `config` the settings, `output` the
//! only doors to stdout and stderr.
#![forbid(unsafe_code)]

mod app;
mod cli;
mod commands;
mod config;
mod daemon;
mod failure;
mod input;
mod logging;
mod output;
mod policies;
mod signals;

use clap::Parser as _;
use honeylink_api::{ErrorBody, ErrorCode, ExitCode};
use serde::Serialize;

use crate::cli::{Cli, Verb};
use crate::failure::Failure;
use crate::output::Printer;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let out = Printer::new(cli.global.json, cli.global.quiet);
    let outcome = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match outcome {
        Ok(runtime) => {
            let outcome = runtime.block_on(Box::pin(run(cli)));
            // A thread may still sit in a read of stdin; waiting for it would hang the program.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::internal(error)),
    };
    std::process::ExitCode::from(conclude(out, outcome).number())
}

/// The last line of `--json` output of a command that failed.
#[derive(Serialize)]
struct Failed<'a> {
    ok: bool,
    error: &'a ErrorBody,
}

fn conclude(out: Printer, outcome: app::Outcome) -> ExitCode {
    match outcome {
        Ok(code) | Err(Failure::Reported(code)) => code,
        Err(Failure::OutputClosed) => ExitCode::Ok,
        Err(Failure::Error(error)) => {
            if out.json {
                // With stdout gone, stderr and the exit code still tell.
                let _ = out.json(&Failed { ok: false, error: &error });
            }
            if error.code != ErrorCode::Interrupted || !out.quiet() {
                out.error(&error);
            }
            error.code.exit()
        }
    }
}

async fn run(cli: Cli) -> app::Outcome {
    let app = app::App::new(cli.global)?;
    match cli.verb {
        Verb::Up(args) => commands::up::run(app, args).await,
        Verb::Down(args) => commands::down::run(&app, args).await,
        Verb::Status(args) => commands::status::run(&app, args).await,
        Verb::Nearby(args) => commands::nearby::run(&app, args).await,
        Verb::Pair(args) => commands::pair::run(&app, args).await,
        Verb::Devices(args) => commands::devices::run(&app, args).await,
        Verb::Send(args) => commands::send::run(&app, args).await,
        Verb::Receive(args) => commands::receive::run(&app, args).await,
        Verb::Transfers(args) => commands::transfers::run(&app, args).await,
        Verb::Chat(args) => commands::chat::run(&app, args).await,
        Verb::Pipe(args) => commands::pipe::run(&app, args).await,
        Verb::Ping(args) => commands::ping::run(&app, args).await,
        #[cfg(feature = "relay-server")]
        Verb::Relay(args) => commands::relay::run(&app, args).await,
        Verb::Speed(args) => commands::speed::run(&app, args).await,
        Verb::Policy(args) => commands::policy::run(&app, args).await,
        Verb::Path(args) => commands::path::run(&app, args).await,
        Verb::Mesh(args) => commands::mesh::run(&app, args).await,
        Verb::Config(args) => commands::config::run(&app, args),
        Verb::Logs(args) => commands::logs::run(&app, args).await,
        #[cfg(feature = "sim")]
        Verb::Sim(args) => commands::sim::run(&app, args).await,
        Verb::Doctor(args) => commands::doctor::run(&app, args).await,
        Verb::Completions(args) => commands::completions::run(&args),
        Verb::Man(args) => commands::man::run(args),
        Verb::Demo(args) => commands::demo::run(&app, args).await,
    }
}
