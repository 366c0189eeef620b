//! `honeylink chat`: messages between people (or scripts).

use std::pin::Pin;

use honeylink_api::client::{Client, Lines};
use honeylink_api::{
    ChatEvent, ChatMessage, ChatSend, ChatState, Direction, ErrorCode, ExitCode, PathReport, Rung, routes,
};

use super::{describe_path, mesh};
use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::input;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  honeylink chat studio               talk; /help lists what else can be typed, Ctrl-D ends
  honeylink chat studio hello there   say one thing and end
  honeylink chat                      hear what everyone says
  honeylink chat bot --policy iot     by a policy, or nothing is said
  uptime | honeylink chat studio      each line of stdin is a message";

/// Talk to a paired device
///
/// Sends each line you type, prints what the other side says. Messages go over an encrypted link straight to the other
/// device; they arrive in order, each exactly once. Where no link can be made they go over the mesh, perhaps kept by
/// another device for a while: then it says so, and says again when they have arrived.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device: name, id or unambiguous id prefix. Without it, only listen
    peer: Option<String>,
    /// One message to send; then end
    #[arg(value_name = "TEXT")]
    message: Vec<String>,
    /// Talk by this policy, which the other device must acknowledge; `honeylink policy list` shows them
    #[arg(long, value_name = "NAME", requires = "peer")]
    policy: Option<String>,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let policy = args.policy.as_deref();
    app.with_node(async |client| match &args.peer {
        Some(peer) if !args.message.is_empty() => {
            let sent = say(client, peer, policy, &args.message.join(" ")).await?;
            print(app, &sent)?;
            Ok(ExitCode::Ok)
        }
        Some(peer) => talk(app, client, peer, policy).await,
        None => listen(app, client.watch(routes::CHAT_WATCH).await?).await,
    })
    .await
}

async fn say(client: &Client, peer: &str, policy: Option<&str>, words: &str) -> Result<ChatMessage, Failure> {
    let policy = policy.map(str::to_owned);
    let body = ChatSend { peer: peer.to_owned(), text: words.to_owned(), policy };
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

/// What a line typed into a chat means.
#[derive(Debug, PartialEq, Eq)]
enum Typed<'a> {
    Nothing,
    Quit,
    Help,
    Path,
    Mesh(&'a str),
    Unknown(&'a str),
    Words(&'a str),
}

impl<'a> Typed<'a> {
    /// A line that looks like a command and is none is answered if a person typed it; from a pipe it is a message.
    fn read(line: &'a str, person: bool) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => Self::Nothing,
            "/quit" => Self::Quit,
            "/help" => Self::Help,
            "/path" => Self::Path,
            "/mesh" => Self::Mesh(rest.trim()),
            _ if person && looks_like_a_command(word) => Self::Unknown(word),
            _ if line.starts_with("//") => Self::Words(&line[1..]),
            _ => Self::Words(line),
        }
    }
}

/// Unlike a path or a date, which may begin a message too.
fn looks_like_a_command(word: &str) -> bool {
    word.strip_prefix('/')
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase()))
}

/// What `/help` says.
const HELP: [&str; 6] = [
    "/path              the way bytes go to the other device now",
    "/mesh trace        the ways to it over the mesh; /mesh trace DEVICE to another",
    "/mesh stats        neighbours, messages, frames; also /mesh routes, devices, radios, announce",
    "/help              this",
    "/quit or Ctrl-D    end",
    "//text             a message that begins with /",
];

/// A message on its way to the node's answer.
type Saying<'a> = Pin<Box<dyn Future<Output = Result<ChatMessage, Failure>> + 'a>>;

/// Waits for the message that is on its way; for ever if none is.
async fn answer(saying: &mut Option<Saying<'_>>) -> Result<ChatMessage, Failure> {
    match saying {
        Some(saying) => saying.await,
        None => std::future::pending().await,
    }
}

async fn talk(app: &App, client: &Client, peer: &str, policy: Option<&str>) -> Outcome {
    let watch = routes::with_query(routes::CHAT_WATCH, "peer", peer);
    let mut events = client.watch::<ChatEvent>(&watch).await?;
    let mut lines = input::lines();
    // One at a time, so that messages stay in order; what the other side says is shown meanwhile.
    let mut saying: Option<Saying<'_>> = None;
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(event) => hear(app, &event)?,
                None => return Err(Failure::internal("the node ended the chat")),
            },
            sent = answer(&mut saying) => {
                saying = None;
                said(app, &sent?)?;
            }
            line = lines.recv(), if saying.is_none() => {
                let Some(line) = line else { return Ok(ExitCode::Ok) };
                match Typed::read(&line, input::person()) {
                    Typed::Nothing => {}
                    Typed::Quit => return Ok(ExitCode::Ok),
                    Typed::Words(words) => {
                        let words = words.to_owned();
                        saying = Some(Box::pin(async move { say(client, peer, policy, &words).await }));
                    }
                    Typed::Help => HELP.iter().for_each(|line| app.out.note(line)),
                    Typed::Unknown(word) => app.out.warn(&format!(
                        "{} is no command; /help lists them, and /{0} sends it as it is",
                        text::clean(word, 40)
                    )),
                    Typed::Path => {
                        let report: PathReport = client.get(&routes::below(routes::DEVICES, &[peer, "path"])).await?;
                        app.out.note(&describe_path(report.path.as_ref()));
                    }
                    Typed::Mesh(words) => show_mesh(app, client, peer, words).await?,
                }
            },
        }
    }
}

/// `/mesh ...`: a mistake in it is no reason to end the chat.
async fn show_mesh(app: &App, client: &Client, peer: &str, words: &str) -> Result<(), Failure> {
    let Some(action) = mesh::Action::typed(words, peer) else {
        app.out.warn(&format!("after /mesh comes one of {}", mesh::Action::WORDS));
        return Ok(());
    };
    match action.ask(client).await {
        Ok(shown) => shown.lines.iter().for_each(|line| app.out.note(line)),
        Err(Failure::Error(error)) => app.out.warn(&text::paragraph(&error.message)),
        Err(other) => return Err(other),
    }
    Ok(())
}

fn hear(app: &App, event: &ChatEvent) -> Result<(), Failure> {
    match event {
        // What we say ourselves is printed where it is said.
        ChatEvent::Message(message) if message.direction == Direction::Out => Ok(()),
        event if app.out.json => app.out.json(event),
        ChatEvent::Message(message) => print(app, message),
        ChatEvent::Update(message) => {
            let words = text::clean(message.text.lines().next().unwrap_or_default(), 40);
            app.out.note(&format!("\"{words}\": {}", became(message)));
            Ok(())
        }
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

/// A message of ours in a conversation. One that arrived at once by a link needs no word.
fn said(app: &App, sent: &ChatMessage) -> Result<(), Failure> {
    let by_link = sent.path.as_ref().is_none_or(|path| !matches!(path.rung, Rung::Mesh | Rung::Stored));
    if app.out.json || !by_link || sent.state != ChatState::Delivered { print(app, sent) } else { Ok(()) }
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
            app.out.note(&became(message));
            Ok(())
        }
    }
}

/// What became of a message of ours, and which way it went: `delivered to studio, mesh over 2 hops`.
fn became(message: &ChatMessage) -> String {
    let name = text::name(&message.name);
    match (message.state, &message.path) {
        (ChatState::Delivered, None) => format!("delivered to {name}"),
        (ChatState::Delivered, Some(path)) => match path.rung {
            Rung::Mesh if !path.address.is_empty() => {
                format!("delivered to {name}, mesh over {}", text::clean(&path.address, 20))
            }
            Rung::Stored => format!("delivered to {name}, after another device had kept it"),
            rung @ (Rung::Local | Rung::Lan | Rung::Direct | Rung::Punched | Rung::Relayed | Rung::Mesh) => {
                format!("delivered to {name}, {}", rung.as_str())
            }
        },
        (ChatState::Stored, _) => {
            let keeper = message.keeper.as_deref().map_or_else(|| "another device".to_owned(), text::name);
            format!("stored: {keeper} answers for it until {name} is in reach")
        }
        (ChatState::Sent, _) => {
            format!("under way to {name} over the mesh; this device keeps trying for seven days")
        }
        (ChatState::Failed, _) => format!("given up: it did not reach {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_messages() {
        for person in [true, false] {
            assert_eq!(Typed::read(" /mesh  trace bert ", person), Typed::Mesh("trace bert"));
            assert_eq!(Typed::read("/help", person), Typed::Help);
            assert_eq!(Typed::read("//help", person), Typed::Words("/help"));
            assert_eq!(Typed::read("/usr/bin is full", person), Typed::Words("/usr/bin is full"));
            assert_eq!(Typed::read("  ", person), Typed::Nothing);
        }
        assert_eq!(Typed::read("/mehs stats", true), Typed::Unknown("/mehs"));
        assert_eq!(Typed::read("/mehs stats", false), Typed::Words("/mehs stats"), "a pipe loses no line");
    }
}
