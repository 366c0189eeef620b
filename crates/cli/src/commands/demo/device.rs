//! One device of a demonstration: this program in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use honeylink_api::client::Client;
use honeylink_api::{ErrorCode, Status, routes};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// How long a device may take to start.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a device may take to end.
const END_MAX: Duration = Duration::from_secs(20);

/// One device. Killed when dropped.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) id: String,
    home: PathBuf,
    settings: Vec<String>,
    process: Child,
}

impl Device {
    /// Starts a device with its home in `home` and these settings, each `section.key=value`. Devices with the same
    /// `discovery.port` see each other, and nobody else.
    pub(super) async fn start(name: &str, home: &Path, settings: Vec<String>) -> Result<Self, Failure> {
        let process = launch(name, home, &settings).await?;
        let client = Client::new(home.join("api.sock"));
        let status: Status = client.get(routes::STATUS).await?;
        Ok(Self { name: name.to_owned(), client, id: status.id, home: home.to_owned(), settings, process })
    }

    /// The folder files arrive in.
    pub(super) fn inbox(&self) -> PathBuf {
        self.home.join("inbox")
    }

    /// Ends the device without a word, as a power cut would (SIGKILL).
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill().await.map_err(Failure::internal)
    }

    /// Starts it again, on the same home.
    pub(super) async fn restart(&mut self) -> Result<(), Failure> {
        self.process = launch(&self.name, &self.home, &self.settings).await?;
        Ok(())
    }

    /// Starts it again after it ended, with other settings.
    pub(super) async fn restart_with(&mut self, settings: Vec<String>) -> Result<(), Failure> {
        self.settings = settings;
        self.restart().await
    }

    /// Waits until the process has ended by itself.
    pub(super) async fn ended(&mut self) -> Result<(), Failure> {
        let status = tokio::time::timeout(END_MAX, self.process.wait())
            .await
            .map_err(|_| Failure::new(ErrorCode::Timeout, format!("{} did not end", self.name)))?
            .map_err(Failure::internal)?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(ErrorCode::Internal, format!("{} ended with {status}", self.name)))
    }
}

async fn launch(name: &str, home: &Path, settings: &[String]) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(Failure::internal)?;
    let mut command = Command::new(program);
    // Settings of the person's own device have no place in the demonstration.
    let personal = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HONEYLINK_"));
    for (name, _) in personal {
        command.env_remove(name);
    }
    command.arg("--home").arg(home).args(["up", "--background"]);
    for setting in
        [format!("node.name={name}"), "node.reach=loopback".to_owned(), "transfer.accept=all".to_owned()]
    {
        command.args(["--set", &setting]);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().map_err(Failure::internal)?;
    let mut said = String::new();
    if let Some(stdout) = process.stdout.take() {
        let line = tokio::time::timeout(START_MAX, BufReader::new(stdout).read_line(&mut said)).await;
        line.map_err(|_| Failure::new(ErrorCode::Timeout, format!("{name} did not start")))?
            .map_err(Failure::internal)?;
    }
    if said.is_empty() {
        let mut why = String::new();
        if let Some(mut stderr) = process.stderr.take() {
            // An unreadable reason is no reason to hide that it failed.
            let _ = stderr.read_to_string(&mut why).await;
        }
        return Err(Failure::new(ErrorCode::Internal, format!("{name} did not start: {}", why.trim())));
    }
    Ok(process)
}
