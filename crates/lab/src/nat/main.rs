//! `honeylink-lab`: the real program behind real NATs, in network namespaces of this machine; called by `cargo xtask lab`.
//!
//! Every scenario is run with two subjects at the same time, in the same namespaces and over the same lines: the product, and
//! a plain iroh endpoint as the control ([`subject`]). Something happens to the network, and the figures are taken from what
//! two applications saw of it: each sends numbered messages and notes when the answers come, and which way ([`watch`]).
//!
//! ```text
//! main       arguments, a namespace of its own for everything, exit code
//! scenario   scenario files
//! world      routers, NATs, devices, relays out of namespaces (crate patchbay)
//! line       delay and loss, without netem
//! process    programs in there
//! ferry      a third device that relays for the two
//! observers  who tells devices how their routers show them
//! subject    the product and the control
//! watch      what an application sees
//! run        one run of one scenario, step by step
//! soak       many devices, many faults, no message lost
//! report     rows, the matrix, JSON and Markdown
//! ```

#[cfg(target_os = "linux")]
mod ferry;
#[cfg(target_os = "linux")]
mod line;
#[cfg(target_os = "linux")]
mod observers;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod room;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod scenario;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod subject;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(target_os = "linux")]
mod wish;
#[cfg(target_os = "linux")]
mod world;

use std::process::ExitCode;

/// What went wrong, in words: a lab has no caller that could act on a type.
#[cfg(target_os = "linux")]
type Trouble = Box<dyn std::error::Error + Send + Sync>;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("the NAT lab needs the network namespaces of Linux");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let Some(wish) = wish::Wish::parse(std::env::args().skip(1)) else {
        eprintln!("{}", wish::USAGE);
        return ExitCode::from(2);
    };
    if !room::is_inside() {
        return room::enter();
    }
    let obeyed = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Trouble::from)
        .and_then(|runtime| runtime.block_on(wish::obey(&wish)));
    match obeyed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("honeylink-lab: {trouble}");
            ExitCode::FAILURE
        }
    }
}
