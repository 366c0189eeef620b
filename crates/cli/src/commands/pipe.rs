//! `honeylink pipe`: stdin here is stdout there.

use honeylink_api::client::Pipe;
use honeylink_api::{ErrorBody, ErrorCode, ExitCode, routes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::app::{App, Outcome};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  honeylink devices grant laptop pipe=yes     there, once: allow it
  honeylink pipe --listen > notes.tar         there
  tar c ~/notes | honeylink pipe studio       here
  tar c ~/notes | honeylink pipe studio --policy file    after everything that is more urgent";

/// Pipe stdin to a paired device's stdout
///
/// One side listens, the other sends its stdin; both end when stdin does. The bytes go over an encrypted link and come
/// out as they went in; the sender's exit code is 0 only if the listener has taken them all. The listener's device must
/// have granted the sender the right `pipe`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device to send to, or with --listen the only one to take from
    peer: Option<String>,
    /// Wait for a pipe and print what comes
    #[arg(long, short)]
    listen: bool,
    /// Send by this policy, which the other device must acknowledge; `honeylink policy list` shows them
    #[arg(long, value_name = "NAME", conflicts_with = "listen")]
    policy: Option<String>,
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
        (Some(peer), false) => {
            let path = routes::below(routes::PIPE, &[peer]);
            match &args.policy {
                Some(policy) => routes::with_query(&path, "policy", policy),
                None => path,
            }
        }
        (None, true) => routes::PIPE_LISTEN.to_owned(),
        (Some(peer), true) => routes::with_query(routes::PIPE_LISTEN, "peer", peer),
    };
    app.with_node(async |client| {
        // Waiting for somebody to pipe may take all day; `--timeout` is there for those who want an end.
        let client = client.clone().with_answer_wait(std::time::Duration::MAX);
        let mut pipe = client.pipe(&path).await?;
        if args.listen {
            take(&mut pipe).await?;
        } else {
            send(&mut pipe).await?;
        }
        Ok(ExitCode::Ok)
    })
    .await
}

async fn send(pipe: &mut Pipe) -> Result<(), Failure> {
    let (mut from, mut to) = tokio::io::split(pipe);
    let mut verdict = Vec::new();
    let sending = async {
        tokio::io::copy(&mut tokio::io::stdin(), &mut to).await?;
        to.shutdown().await
    };
    // A verdict that comes before everything is sent is a bad one, and it says more than the failing write does.
    let (sent, read) = tokio::join!(sending, from.read_to_end(&mut verdict));
    match verdict.split_first() {
        Some((&routes::PIPE_RECEIPT, [])) => sent.map_err(|e| broken(&e)),
        Some((&routes::PIPE_BROKEN, error)) => {
            Err(serde_json::from_slice::<ErrorBody>(error).map_err(Failure::internal)?.into())
        }
        Some(_) | None => {
            Err(broken(&read.err().unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into())))
        }
    }
}

/// Prints the blocks of a pipe until its clean end, then says that everything is out.
async fn take(pipe: &mut Pipe) -> Result<(), Failure> {
    let mut out = tokio::io::stdout();
    loop {
        let length = pipe.read_u32().await.map_err(|e| broken(&e))?;
        if length == 0 {
            out.flush().await.map_err(|_| Failure::OutputClosed)?;
            pipe.write_u8(routes::PIPE_RECEIPT).await.map_err(|e| broken(&e))?;
            return pipe.shutdown().await.map_err(|e| broken(&e));
        }
        let mut block = (&mut *pipe).take(u64::from(length));
        if tokio::io::copy(&mut block, &mut out).await.map_err(|e| taken(&e))? < u64::from(length) {
            return Err(broken(&std::io::ErrorKind::UnexpectedEof.into()));
        }
        out.flush().await.map_err(|_| Failure::OutputClosed)?;
    }
}

/// Whoever read our stdout may be gone, as in `honeylink pipe --listen | head -c 100`; a node that is gone looks otherwise.
fn taken(error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Failure::OutputClosed } else { broken(error) }
}

fn broken(error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Failure::new(
            ErrorCode::Unreachable,
            "the pipe broke: the other side went away in the middle",
        );
    }
    Failure::new(ErrorCode::Unreachable, format!("the pipe broke: {error}"))
}
