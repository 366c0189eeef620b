//! `honeylink man`: the manual pages, made from the same definitions as `--help`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::CommandFactory as _;
use honeylink_api::ExitCode;

use crate::app::Outcome;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  honeylink man | man -l -                      read it now
  honeylink man ~/.local/share/man/man1         install one page per verb";

/// Print the manual page, or write one page per verb into a folder
///
/// Without a folder, prints the main page in roff, the format `man` reads. With a folder, writes honeylink.1 and one
/// page per verb (honeylink-send.1, ...) into it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder to write the pages into; made if missing
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let mut command = crate::cli::Cli::command();
    let Some(folder) = args.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(Failure::internal)?;
        std::io::stdout().lock().write_all(&page).map_err(|_| Failure::OutputClosed)?;
        return Ok(ExitCode::Ok);
    };
    std::fs::create_dir_all(&folder).map_err(|e| Failure::file("make the folder", &folder, &e))?;
    command.build();
    clap_mangen::generate_to(command, &folder).map_err(|e| Failure::file("write pages into", &folder, &e))?;
    Ok(ExitCode::Ok)
}
