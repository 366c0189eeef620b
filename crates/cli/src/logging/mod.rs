//! Sets up tracing: to stderr for commands, to a bounded set of files for the daemon.

mod rotate;

use std::path::Path;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::Log;
use rotate::RotatingFile;
pub(crate) use rotate::numbered;

/// Name of the current log file in the log folder; older ones end in `.1`, `.2`, ...
pub(crate) const FILE_NAME: &str = "honeylink.log";

/// Logs of a command: stderr, warnings only unless `-v` or `RUST_LOG` ask for more.
pub(crate) fn for_command(log: &Log, verbose: u8) {
    let level = match verbose {
        0 => "error,honeylink=warn",
        1 => "warn,honeylink=info,honeylink_core=info",
        2 => "info,honeylink=debug,honeylink_core=debug",
        _ => "debug,honeylink=trace,honeylink_core=trace",
    };
    install(&log.format, filter(level), std::io::stderr);
}

/// Logs of a daemon: files in `folder`.
///
/// # Errors
/// When the folder or the file cannot be made.
pub(crate) fn for_daemon(log: &Log, folder: &Path) -> std::io::Result<()> {
    let file = RotatingFile::open(folder.join(FILE_NAME), log.file_bytes_max, log.files_max)?;
    install(&log.format, filter(&log.level), file);
    Ok(())
}

/// Logs of a node in the foreground: the files, and stderr for whoever watches it (systemd, a terminal).
///
/// # Errors
/// When the folder or the file cannot be made.
pub(crate) fn for_foreground(log: &Log, folder: &Path) -> std::io::Result<()> {
    let file = RotatingFile::open(folder.join(FILE_NAME), log.file_bytes_max, log.files_max)?;
    install(&log.format, filter(&log.level), file.and(std::io::stderr));
    Ok(())
}

/// `RUST_LOG` if set and readable, `level` otherwise.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}

fn install<W>(format: &str, filter: EnvFilter, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder =
        fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).with_span_events(FmtSpan::NONE);
    // Fails only if a subscriber is set already, as in a test process; that one is then as good.
    let _ = match format {
        "json" => builder.json().try_init(),
        "pretty" => builder.pretty().try_init(),
        _ => builder.compact().try_init(),
    };
}
