//! `honeylink chat`: messages between people (or scripts).

use honeylink_api::client::{Client, Lines};
use honeylink_api::{
    ChatEvent, ChatMessage, ChatSend, ChatState, Direction, ErrorCode, ExitCode, PathReport, routes,
};

use super::describe_path;
use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::input;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  honeylink chat studio               talk; /path shows the way, /quit or Ctrl-D ends
  honeylink chat studio hello there   say one thing and end
  honeylink chat                      hear what everyone says
  uptime | honeylink chat studio      each line of stdin is a message";

/// Talk to a paired device
///
/// Sends each line you type, prints what the other side says. Messages go over an encrypted link straight to the other
/// device; they arrive in order, each exactly once.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device: name, id or unambiguous id prefix. Without it, only listen
    peer: Option<String>,
    /// One message to send; then end
    #[arg(value_name = "TEXT")]
    message: Vec<String>,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    app.with_node(async |client| match &args.peer {
        Some(peer) if !args.message.is_empty() => {
            let sent = say(client, peer, &args.message.join(" ")).await?;
            print(app, &sent)?;
            Ok(ExitCode::Ok)
        }
        Some(peer) => talk(app, client, peer).await,
        None => listen(app, client.watch(routes::CHAT_WATCH).await?).await,
    })
    .await
}

async fn say(client: &Client, peer: &str, words: &str) -> Result<ChatMessage, Failure> {
    let body = ChatSend { peer: peer.to_owned(), text: words.to_owned() };
    let sent: ChatMessage = client.post(routes::CHAT, &body).await?;
    if sent.state == ChatState::Failed {
        return Err(Failure::new(ErrorCode::Unreachable, "the message was not delivered"));
    }
    Ok(sent)
}

async fn listen(app: &App, mut events: Lines<ChatEvent>) -> Outcome {
    while let Some(event) = events.next().await? {
        hear(app, &event)?;
    }
    Ok(ExitCode::Ok)
}

async fn talk(app: &App, client: &Client, peer: &str) -> Outcome {
    let watch = routes::with_query(routes::CHAT_WATCH, "peer", peer);
    let mut events = client.watch::<ChatEvent>(&watch).await?;
    let mut lines = input::lines();
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(event) => hear(app, &event)?,
                None => return Err(Failure::internal("the node ended the chat")),
            },
            line = lines.recv() => match line.as_deref().map(str::trim) {
                None | Some("/quit") => return Ok(ExitCode::Ok),
                Some("") => {}
                Some("/path") => {
                    let report: PathReport = client.get(&routes::below(routes::DEVICES, &[peer, "path"])).await?;
                    app.out.note(&describe_path(report.path.as_ref()));
                }
                Some(words) => {
                    let sent = say(client, peer, words).await?;
                    if app.out.json {
                        app.out.json(&ChatEvent::Message(sent))?;
                    }
                }
            },
        }
    }
}

fn hear(app: &App, event: &ChatEvent) -> Result<(), Failure> {
    match event {
        // What we say ourselves is printed where it is said.
        ChatEvent::Message(message) if message.direction == Direction::Out => Ok(()),
        event if app.out.json => app.out.json(event),
        ChatEvent::Message(message) => print(app, message),
        ChatEvent::Ready => {
            app.out.note("listening");
            Ok(())
        }
        ChatEvent::Skipped { count } => {
            app.out.warn(&format!("{count} messages were skipped: this terminal was too slow"));
            Ok(())
        }
    }
}

fn print(app: &App, message: &ChatMessage) -> Result<(), Failure> {
    if app.out.json {
        return app.out.json(&ChatEvent::Message(message.clone()));
    }
    match message.direction {
        Direction::In => {
            app.out.line(&format!("{}: {}", text::name(&message.name), text::paragraph(&message.text)))
        }
        Direction::Out => {
            app.out.note(&format!("delivered to {}", text::name(&message.name)));
            Ok(())
        }
    }
}
