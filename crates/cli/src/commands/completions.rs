//! `honeylink completions`: completion scripts for shells.

use clap::CommandFactory as _;
use honeylink_api::ExitCode;

use crate::app::Outcome;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  honeylink completions bash > ~/.local/share/bash-completion/completions/honeylink
  honeylink completions zsh > ~/.zfunc/_honeylink
  honeylink completions fish > ~/.config/fish/completions/honeylink.fish";

/// Print a completion script for a shell
///
/// Prints a script that lets the shell complete verbs and options. Put it where your shell looks for such scripts.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args) -> Outcome {
    use std::io::Write as _;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::Cli::command(), "honeylink", &mut script);
    std::io::stdout().lock().write_all(&script).map_err(|_| Failure::OutputClosed)?;
    Ok(ExitCode::Ok)
}
