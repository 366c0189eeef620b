//! The command line: global options and the list of verbs. Each verb's own options live in its file in `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

const EXAMPLES: &str = "\
Examples:
  honeylink demo                        see it work: two devices on this machine
  honeylink up                          start this device's node
  honeylink nearby                      who is around
  honeylink pair                        show a code; on the other device: honeylink pair CODE
  honeylink send photo.jpg --to studio  send a file
  honeylink chat studio                 talk

Exit codes:
  0 done  1 failed  2 wrong usage or configuration  3 no node  4 not found  5 timeout or unreachable
  6 declined  7 pairing failed  8 identity changed  9 partly done  10 not allowed
  75 stopped part-way, run it again to continue  130 interrupted

Everything of one device is in one folder: --home, or HONEYLINK_HOME, or the platform's data folder.";

/// Links any two devices: finds what is nearby, pairs with a code, sends files and messages, directly.
#[derive(Debug, Parser)]
#[command(
    name = "honeylink",
    version,
    about,
    long_about = "Links any two devices: across a table, across two NATs, without an account and without a server in \
                  between. Finds what is nearby, pairs with a code or a QR, then sends files, messages and bytes, \
                  encrypted from end to end, and says which way they went.\n\nCommands speak to the node of this \
                  device. `honeylink up` keeps one running; without it, a command starts one for as long as it needs \
                  it.",
    after_long_help = EXAMPLES,
    after_help = "`honeylink --help` has examples and exit codes; `honeylink VERB --help` has those of a verb.",
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = false,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options every verb takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct Global {
    /// Folder that holds everything of this device
    #[arg(long, global = true, env = "HONEYLINK_HOME", value_name = "DIR", hide_env_values = true)]
    pub(crate) home: Option<PathBuf>,
    /// Print data as JSON, one value per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but data and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Log more to stderr (repeat for more still)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Run a node just for this command, even if that means failing because one is running
    #[arg(long, global = true)]
    pub(crate) no_daemon: bool,
    /// Give up after so many seconds
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<f64>,
    /// Set a configuration key for this command, as in --set node.name=studio
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub(crate) assignments: Vec<String>,
}

/// Parses a number of seconds that makes sense as a limit.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if s.is_finite() && s > 0.0 && s <= 1e9 => Ok(s),
        Ok(_) | Err(_) => Err("must be a number of seconds greater than 0".to_owned()),
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Up(commands::up::Args),
    Down(commands::down::Args),
    Status(commands::status::Args),
    Nearby(commands::nearby::Args),
    Pair(commands::pair::Args),
    Devices(commands::devices::Args),
    Send(commands::send::Args),
    Receive(commands::receive::Args),
    Transfers(commands::transfers::Args),
    Chat(commands::chat::Args),
    Pipe(commands::pipe::Args),
    Ping(commands::ping::Args),
    Speed(commands::speed::Args),
    Path(commands::path::Args),
    Policy(commands::policy::Args),
    Mesh(commands::mesh::Args),
    Doctor(commands::doctor::Args),
    #[cfg(feature = "relay-server")]
    Relay(commands::relay::Args),
    Config(commands::config::Args),
    Logs(commands::logs::Args),
    #[cfg(feature = "sim")]
    Sim(commands::sim::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
    Demo(commands::demo::Args),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_explains_itself_with_an_example() {
        for verb in Cli::command().get_subcommands() {
            let long = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(long.contains("honeylink "), "{} has no example", verb.get_name());
            assert!(verb.get_long_about().is_some(), "{} has no long help", verb.get_name());
        }
    }

    #[test]
    fn a_mistyped_verb_is_answered_with_the_right_one() {
        let error = Cli::try_parse_from(["honeylink", "naerby"]).unwrap_err().to_string();
        assert!(error.contains("nearby"), "{error}");
    }
}
