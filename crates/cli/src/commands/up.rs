//! `honeylink up`: starts the daemon.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use honeylink_api::client::ClientError;
use honeylink_api::{ErrorCode, ExitCode, Mode, Status, routes};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::{daemon, logging};

const EXAMPLES: &str = "\
Examples:
  honeylink up                          in the background; ends with: honeylink down
  honeylink up --foreground             for systemd and containers
  honeylink up --name studio            with another name, this time
  honeylink up --set node.port=7843     with another setting, this time
  honeylink --home /tmp/b up            a second device on the same machine";

/// How long the background node may take to say that it works.
const START_MAX: Duration = Duration::from_secs(30);

/// What the background node writes to its stdout once it works.
const READY: &str = "ready";

/// Start the node of this device
///
/// Starts the node that finds devices, takes offers and messages, and answers all other commands. Returns when it
/// works, or says why it does not. Starting it twice is no error.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Stay in the foreground until SIGTERM or Ctrl-C
    #[arg(long, short)]
    foreground: bool,
    /// Call this device NAME while the node runs (the same as --set node.name=NAME)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Run as the background half of `up`
    #[arg(long, hide = true)]
    background: bool,
}

pub(crate) async fn run(mut app: App, args: Args) -> Outcome {
    app.global.assignments.extend(args.name.map(|name| format!("node.name={name}")));
    let app = &app;
    if args.foreground || args.background {
        return serve(app, args.background).await;
    }
    // Read it here first: mistakes then show before anything starts.
    app.config()?;
    let status = match app.client().get::<Status>(routes::STATUS).await {
        Ok(status) if status.mode == Mode::Command => {
            return Err(Failure::hint(
                ErrorCode::Policy,
                format!("a command (process {}) runs a node for itself in this home", status.pid),
                "wait for it to end, then try again",
            ));
        }
        Ok(status) => {
            app.out.note("already running");
            status
        }
        Err(ClientError::NoNode(_)) => {
            start(app).await?;
            app.client().get(routes::STATUS).await?
        }
        Err(other) => return Err(other.into()),
    };
    if app.out.json {
        app.out.json(&status)?;
    } else if !app.out.quiet() {
        app.out.lines(&super::status::describe(&status))?;
    }
    Ok(ExitCode::Ok)
}

/// Starts this program again as the daemon and waits until it says that it works.
async fn start(app: &App) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::internal)?;
    let mut command = tokio::process::Command::new(program);
    command.arg("--home").arg(app.home.dir()).args(["up", "--background"]);
    for assignment in &app.global.assignments {
        command.arg("--set").arg(assignment);
    }
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Failure::internal)?;
    let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failure::internal("the background node has no output to wait for"));
    };
    let mut said = String::new();
    let ready = tokio::time::timeout(START_MAX, BufReader::new(stdout).read_line(&mut said)).await;
    match ready {
        Ok(Ok(_)) if said.trim() == READY => Ok(()),
        Ok(_) => {
            let mut why = String::new();
            // An unreadable reason is no reason to hide that it failed.
            let _ = stderr.read_to_string(&mut why).await;
            let why = why.trim().trim_start_matches("honeylink: ");
            Err(Failure::new(code_of(child.wait().await.ok()), format!("the node did not start: {why}")))
        }
        Err(_) => {
            let _ = child.kill().await;
            Err(Failure::new(
                ErrorCode::Timeout,
                format!("the node did not start within {} s", START_MAX.as_secs()),
            ))
        }
    }
}

/// The error code behind the exit code of a node that did not start, so that `up` ends with the same one.
fn code_of(status: Option<std::process::ExitStatus>) -> ErrorCode {
    match status.and_then(|status| status.code()) {
        Some(2) => ErrorCode::Config,
        Some(5) => ErrorCode::Timeout,
        Some(10) => ErrorCode::Policy,
        Some(_) | None => ErrorCode::Internal,
    }
}

/// Is the daemon: from start to the last phase of shutdown.
async fn serve(app: &App, background: bool) -> Outcome {
    let resolved = app.config()?;
    if background {
        // A session of its own: the terminal it was started from may close. It fails only if it is one already.
        let _ = rustix::process::setsid();
    }
    let log = &resolved.config.log;
    if background {
        logging::for_daemon(log, &app.home.logs())
            .map_err(|e| Failure::file("log into", &app.home.logs(), &e))?;
    } else {
        logging::for_foreground(log, &app.home.logs())
            .map_err(|e| Failure::file("log into", &app.home.logs(), &e))?;
    }
    let drain = Duration::from_secs(resolved.config.daemon.drain_s);
    let running = daemon::start(&app.home, resolved, Mode::Daemon).await?;
    if background {
        let mut out = std::io::stdout().lock();
        // If whoever started us is gone already, we run all the same.
        let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    } else {
        app.out.note("running; Ctrl-C or SIGTERM ends it");
    }
    tokio::select! {
        () = crate::signals::asked_to_stop() => running.shutdown(drain).await,
        () = running.ended() => {}
    }
    Ok(ExitCode::Ok)
}
