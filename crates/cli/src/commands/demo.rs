//! `honeylink demo`: two devices on this machine.

use honeylink_api::ErrorCode;

use crate::app::{App, Outcome};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  honeylink demo";

/// Watch two devices find each other, pair, talk and send a file
///
/// Starts two nodes in processes of their own.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

pub(crate) async fn run(_: &App, _: Args) -> Outcome {
    std::future::ready(()).await;
    Err(Failure::new(ErrorCode::Unsupported, "not yet"))
}
