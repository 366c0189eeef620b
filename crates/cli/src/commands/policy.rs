//! `honeylink policy`: the policies of this device, and one applied to what is being sent.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use honeylink_api::{ErrorCode, ExitCode, Policy, PolicyApplied, PolicyApply, routes};
use serde_json::json;

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::table::Table;
use crate::output::{text, units};
use crate::policies::{self, Book, VERBS};

const EXAMPLES: &str = "\
Examples:
  honeylink policy list                          presets and own ones, and what each asks for
  honeylink policy show media-8k > film.toml     one as a file: rename it, change it, then
  honeylink policy check film.toml               say what is wrong, with line and key
  cp film.toml \"$(honeylink policy path)\"        make it one of this device's
  honeylink send film.mkv --to tv --policy film  send by it
  honeylink policy apply iot tv --only send      change what is being sent, while it is
  honeylink config set policy.send film          send by it unless told otherwise";

/// See, check and apply policies
///
/// A policy is a named set of what streams ask for: priority, weight, guaranteed and largest rate, deadline, repair. Five
/// are built in; others are tables in TOML files in the folder `policies` of this device's home. A policy steers what this
/// device sends. The other device is told, and if it does not acknowledge a change within 5 s, what was before is in force
/// again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the policies there are (the default)
    List,
    /// Print a policy as a file would have it
    Show {
        /// Its name
        name: String,
    },
    /// Say everything that is wrong in a file, or in all of this device's and in the settings
    Check {
        /// A file of policies; all of this device's if none is named
        file: Option<PathBuf>,
    },
    /// Let what is being sent to a device follow a policy from now on
    Apply {
        /// Its name; its file is read again
        name: String,
        /// The device: name, id or unambiguous id prefix
        peer: String,
        /// Of these verbs only
        #[arg(long, value_name = "VERB", value_delimiter = ',', value_parser = VERBS)]
        only: Vec<String>,
    },
    /// Print the folder of this device's own policies
    Path,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    match args.action.unwrap_or(Action::List) {
        Action::List => list(app),
        Action::Show { name } => show(app, &name),
        Action::Check { file } => check(app, file),
        Action::Apply { name, peer, only } => apply(app, PolicyApply { policy: name, peer, only }).await,
        Action::Path => {
            let folder = app.home.policies();
            // Somebody is about to put a file there.
            make_private(&folder).map_err(|e| Failure::file("make", &folder, &e))?;
            let shown = folder.display().to_string();
            if app.out.json {
                app.out.json(&shown)?;
            } else {
                app.out.line(&shown)?;
            }
            Ok(ExitCode::Ok)
        }
    }
}

/// Makes the folder, and the home if it is not there yet, for this user only.
fn make_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

fn book(app: &App) -> Result<Book, Failure> {
    Ok(Book::read(&app.home).map_err(|wrong| policies::broken(&wrong))?)
}

fn list(app: &App) -> Outcome {
    let config = app.config()?.config;
    let book = book(app)?;
    let all: Vec<Policy> = book.all().iter().map(|known| policies::describe(known, &config)).collect();
    if app.out.json {
        app.out.json(&all)?;
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&[
        "NAME",
        "CLASS",
        "PRIORITY",
        "WEIGHT",
        "RATE",
        "DEADLINE",
        "REPAIR",
        "DEFAULT OF",
        "FROM",
    ]);
    for policy in &all {
        let rate = match (policy.rate_min_bytes_per_s, policy.rate_max_bytes_per_s) {
            (None, None) => "any".to_owned(),
            (Some(min), None) => format!("at least {}", units::rate(min)),
            (None, Some(max)) => format!("at most {}", units::rate(max)),
            (Some(min), Some(max)) => format!("{} to {}", units::rate(min), units::rate(max)),
        };
        let deadline = policy.deadline_ms.map_or_else(|| "none".to_owned(), |ms| format!("{ms} ms"));
        let by_default =
            if policy.default_of.is_empty() { "-".to_owned() } else { policy.default_of.join(",") };
        table.row(vec![
            policy.name.clone(),
            policy.class.clone(),
            policy.priority.to_string(),
            policy.weight.to_string(),
            rate,
            deadline,
            policy.fec.clone(),
            by_default,
            text::clean(&policy.from, 200),
        ]);
    }
    app.out.lines(&table.lines())?;
    Ok(ExitCode::Ok)
}

fn show(app: &App, name: &str) -> Outcome {
    let book = book(app)?;
    let known = book.find(name)?;
    if app.out.json {
        app.out.json(&policies::describe(known, &app.config()?.config))?;
    } else {
        app.out.line(honeylink::policy::to_toml(&known.policy).trim_end())?;
    }
    Ok(ExitCode::Ok)
}

fn check(app: &App, file: Option<PathBuf>) -> Outcome {
    let names: Vec<String> = match file {
        Some(file) => policies::check_file(&file).map_err(|wrong| policies::broken(&wrong))?,
        None => {
            let book = policies::ready(&app.home, &app.config()?)?;
            book.all().iter().map(|known| known.policy.name.clone()).collect()
        }
    };
    app.out.note(&format!("fine: {}", names.join(", ")));
    if app.out.json {
        app.out.json(&json!({ "ok": true, "policies": names }))?;
    }
    Ok(ExitCode::Ok)
}

async fn apply(app: &App, request: PolicyApply) -> Outcome {
    app.with_node(async |client| {
        let applied: PolicyApplied = client.post(routes::POLICIES_APPLY, &request).await?;
        if app.out.json {
            app.out.json(&applied)?;
        } else {
            for link in &applied.links {
                let verb = text::clean(&link.verb, 20);
                match &link.why {
                    None => app.out.line(&format!("{verb}: follows {}", applied.policy.name))?,
                    Some(why) => {
                        app.out.line(&format!("{verb}: goes on as before, {}", text::clean(why, 300)))?;
                    }
                }
            }
        }
        match applied.links.iter().filter(|link| link.ok).count() {
            0 => Err(Failure::Reported(ErrorCode::Policy.exit())),
            some if some < applied.links.len() => Err(Failure::Reported(ErrorCode::Partial.exit())),
            _ => Ok(ExitCode::Ok),
        }
    })
    .await
}
