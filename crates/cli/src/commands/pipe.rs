//! `honeylink pipe`: stdin here is stdout there.

use honeylink_api::{ErrorCode, ExitCode, routes};
use tokio::io::AsyncWriteExt as _;

use crate::app::{App, Outcome};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  honeylink pipe --listen > backup.tar        there, first
  tar c ~/notes | honeylink pipe studio       here

  honeylink pipe --listen --name logs         several at once, told apart by name
  journalctl -f | honeylink pipe studio --name logs";

/// Pipe stdin to a paired device's stdout
///
/// One side listens, the other sends its stdin; both end when stdin does. The bytes go over an encrypted link and come
/// out as they went in; the sender's exit code is 0 only if the listener has taken them all.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device to send to, or with --listen the only one to take from
    peer: Option<String>,
    /// Wait for a pipe and print what comes
    #[arg(long, short)]
    listen: bool,
    /// Name of the pipe; both sides must use the same
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let path = match (&args.peer, args.listen) {
        (None, false) => {
            return Err(Failure::hint(
                ErrorCode::BadRequest,
                "which device shall stdin go to?",
                "honeylink pipe PEER to send, honeylink pipe --listen to take",
            ));
        }
        (Some(peer), false) => routes::below(routes::PIPE, &[peer, &args.name]),
        (None, true) => routes::below(routes::PIPE_LISTEN, &[&args.name]),
        (Some(peer), true) => {
            routes::with_query(&routes::below(routes::PIPE_LISTEN, &[&args.name]), "peer", peer)
        }
    };
    app.with_node(async |client| {
        // Waiting for somebody to pipe may take all day; `--timeout` is there for those who want an end.
        let client = client.clone().with_answer_wait(std::time::Duration::MAX);
        let mut pipe = client.pipe(&path).await?;
        let broken = |e: std::io::Error| Failure::new(ErrorCode::Unreachable, format!("the pipe broke: {e}"));
        if args.listen {
            let mut out = tokio::io::stdout();
            tokio::io::copy(&mut pipe, &mut out).await.map_err(broken)?;
            out.flush().await.map_err(|_| Failure::OutputClosed)?;
            // Closing our half tells the sender that everything has been taken.
            pipe.shutdown().await.map_err(broken)?;
        } else {
            tokio::io::copy(&mut tokio::io::stdin(), &mut pipe).await.map_err(broken)?;
            pipe.shutdown().await.map_err(broken)?;
            tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await.map_err(broken)?;
        }
        Ok(ExitCode::Ok)
    })
    .await
}
