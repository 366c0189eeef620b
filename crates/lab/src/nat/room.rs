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
/// How the room is made, with `unshare` of util-linux, which waits for the first process inside and dies with it: by anybody,
/// or, where the system keeps user namespaces to itself, by its administrator.
const WAYS: [&[&str]; 2] = [
    &["--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"],
    &["--pid", "--fork", "--kill-child=KILL", "--mount-proc"],
];

pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program again, inside. Returns only if that cannot be; then the lab was skipped, which is no failure.
pub(crate) fn enter() -> ExitCode {
    let way = match way() {
        Ok(way) => way,
        Err(why) => {
            println!("skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let Ok(program) = std::env::current_exe() else {
        eprintln!("honeylink-lab: cannot find itself");
        return ExitCode::FAILURE;
    };
    let mut inside = Command::new("unshare");
    inside.args(way).arg(program).args(std::env::args_os().skip(1));
    let error = inside.env(INSIDE, "1").exec();
    eprintln!("honeylink-lab: unshare: {error}");
    ExitCode::FAILURE
}

/// How the room can be made here, or what this machine lacks.
fn way() -> Result<&'static [&'static str], String> {
    for (tool, what) in TOOLS {
        if !runs(Command::new("sh").args(["-c", &format!("command -v {tool}")])) {
            return Err(format!("the NAT lab needs {tool} for {what}"));
        }
    }
    let works = |way: &&&'static [&str]| {
        let mut probe = Command::new("unshare");
        runs(probe.args(**way).args(["--net", "ip", "link", "set", "lo", "up"]))
    };
    let way = WAYS.iter().find(works).copied();
    way.ok_or_else(|| "the NAT lab needs the right to make network namespaces".to_owned())
}

fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
