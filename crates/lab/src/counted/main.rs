//! `honeylink-counted`: work whose instructions are counted, by `honeylink-bench --suite instructions` under callgrind.
//!
//! A count does not depend on how busy the machine is, if the work is the same each time. So the nodes are real ones with
//! the real QUIC stack on the simulated network of [`honeylink::testing`]: in virtual time, from one seed, on one thread.
//! What the kernel does for a packet is not in it. A run of twice the work less a run of the work is the work without
//! its beginnings.

#[cfg(target_os = "linux")]
mod work;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match obey(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("honeylink-counted: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn obey(_args: &[String]) -> Result<(), String> {
    Err("QUIC in virtual time needs Linux".to_owned())
}

#[cfg(target_os = "linux")]
fn obey(args: &[String]) -> Result<(), String> {
    let [what, times] = args else { return Err("usage: honeylink-counted WORK TIMES".to_owned()) };
    let times: u32 = times.parse().map_err(|_| "TIMES is a number".to_owned())?;
    work::run(what, times)
}
