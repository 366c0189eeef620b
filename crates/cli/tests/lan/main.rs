//! The program as people use it: the real binary on machines of its own, joined by a LAN.
//!
//! Each machine is a network namespace with one interface on a bridge; each file below tells one story and reads nothing
//! but what the program prints with `--json`, its exit codes, and the files it leaves. Needs root, `ip`, `nft`, `tc` and
//! `ss`; where those are missing each test says so and passes.
//! `HONEYLINK_TEST_LOG=debug` has the daemons log more; what they said last is shown when a story goes wrong.
//!
//! | file | what it is |
//! |---|---|
//! | `net` | the bridge, the namespaces, faults of the network |
//! | `host` | one machine: its home, its daemon, its commands |
//! | `process` | a running command and the lines it prints |
//! | `tree` | files to send, and comparing what arrived |
//! | the others | a story each |

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod host;
mod net;
mod process;
mod tree;

mod acquaintance;
mod asleep;
mod doctor;
mod folder;
mod killed;
mod nearby;
mod no_multicast;
mod one_time_code;
mod silence;
mod stopped;

use std::time::{Duration, Instant};

/// How long anything may take that is over in a moment on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again, by running commands, until there is an answer.
fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
    }
}
