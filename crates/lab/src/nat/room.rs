//! A user, process and mount namespace around the whole lab.
//!
//! The user namespace gives the rights to make networks and no right outside. The process namespace is what cleans up: the lab
//! is its first process, and when that ends, by whatever cause, the system kills every program in it and with the last one
//! the networks are gone.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

/// Set inside.
const INSIDE: &str = "HONEYLINK_LAB_INSIDE";
/// What the lab calls, and why nothing can be measured without it.
const TOOLS: [(&str, &str); 4] =
    [("nft", "NATs"), ("iptables", "delay and loss"), ("tc", "rates"), ("ip", "networks")];
/// How the room is made. util-linux's `unshare` waits for the first process inside and dies with it.
const UNSHARE: [&str; 6] =
    ["--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];

pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program again, inside. Returns only if that cannot be; then the lab was skipped, which is no failure.
pub(crate) fn enter() -> ExitCode {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return ExitCode::SUCCESS;
    }
    let Ok(program) = std::env::current_exe() else {
        eprintln!("honeylink-lab: cannot find itself");
        return ExitCode::FAILURE;
    };
    let error = Command::new("unshare")
        .args(UNSHARE)
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    eprintln!("honeylink-lab: unshare: {error}");
    ExitCode::FAILURE
}

/// What this machine lacks.
fn missing() -> Option<String> {
    for (tool, what) in TOOLS {
        if !runs(Command::new("sh").args(["-c", &format!("command -v {tool}")])) {
            return Some(format!("the NAT lab needs {tool} for {what}"));
        }
    }
    let mut probe = Command::new("unshare");
    probe.args(UNSHARE).args(["--net", "ip", "link", "set", "lo", "up"]);
    (!runs(&mut probe)).then(|| "the NAT lab needs the right to make network namespaces".to_owned())
}

fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
