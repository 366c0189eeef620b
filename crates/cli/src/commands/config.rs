//! `honeylink config`: see, check and change the settings of this device.

use clap::Subcommand;
use honeylink_api::{ErrorCode, ExitCode};
use serde::Serialize;
use serde_json::Value;

use crate::app::{App, Outcome};
use crate::config::schema::Key;
use crate::config::{self, EditError, Origin, Problem};
use crate::failure::Failure;
use crate::output::table::Table;

const EXAMPLES: &str = "\
Examples:
  honeylink config show --origin           every setting, and where its value comes from
  honeylink config set node.name studio    change one in config.toml; comments stay
  honeylink config get transfer.into
  honeylink config check                   what is wrong, with file and line

Layers, later ones win: defaults, config.toml, variables such as HONEYLINK_NODE_NAME, --set node.name=studio.";

/// Show, check and change settings
///
/// Settings live in config.toml in this device's home. Every key has a default, so the file may be missing. A key or a
/// value that is wrong is an error with its file, line and what is allowed; nothing is ever ignored silently.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every setting
    Show {
        /// Also print where each value comes from: default, file and line, variable or flag
        #[arg(long)]
        origin: bool,
    },
    /// Print one setting
    Get {
        /// The setting, as section.key
        key: String,
    },
    /// Change a setting in config.toml
    Set {
        /// The setting, as section.key
        key: String,
        /// Its new value; lists are separated by commas
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Take a setting out of config.toml, so that it has its default again
    Unset {
        /// The setting, as section.key
        key: String,
    },
    /// Print where config.toml is
    Path,
    /// Say everything that is wrong in file, variables and flags
    Check,
}

/// One setting in `config show --json`.
#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    value: &'a Value,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    about: &'a str,
}

pub(crate) fn run(app: &App, args: Args) -> Outcome {
    match args.action {
        Action::Show { origin } => show(app, origin)?,
        Action::Get { key } => get(app, &key)?,
        Action::Set { key, value } => {
            let value = config::set(&app.home.config(), &key, &value).map_err(edit_failed)?;
            app.out.note(&format!("{key} = {value} in {}", app.home.config().display()));
            remind(app, &key);
        }
        Action::Unset { key } => {
            if config::unset(&app.home.config(), &key).map_err(edit_failed)? {
                remind(app, &key);
            } else {
                app.out.note(&format!("{key} was not set in {}", app.home.config().display()));
            }
        }
        Action::Path => {
            let path = app.home.config();
            let shown = path.display().to_string();
            if app.out.json { app.out.json(&shown)? } else { app.out.line(&shown)? }
        }
        Action::Check => {
            crate::policies::ready(&app.home, &app.config()?)?;
            app.out.note("the configuration is fine");
            if app.out.json {
                app.out.json(&serde_json::json!({ "ok": true }))?;
            }
        }
    }
    Ok(ExitCode::Ok)
}

fn show(app: &App, with_origin: bool) -> Result<(), Failure> {
    let resolved = app.config()?;
    if app.out.json {
        let all: Vec<Shown<'_>> =
            resolved.entries().map(|(key, value, origin)| shown(key, value, origin)).collect();
        return app.out.json(&all);
    }
    let mut table = Table::new(if with_origin { &["KEY", "VALUE", "FROM"] } else { &["KEY", "VALUE"] });
    for (key, value, origin) in resolved.entries() {
        let mut row = vec![key.name.to_owned(), value.to_string()];
        if with_origin {
            row.push(origin.to_string());
        }
        table.row(row);
    }
    app.out.lines(&table.lines())?;
    if !resolved.file.exists() {
        app.out
            .note(&format!("({} does not exist; `honeylink config set` makes it)", resolved.file.display()));
    }
    Ok(())
}

fn shown<'a>(key: &'a Key, value: &'a Value, origin: &Origin) -> Shown<'a> {
    let (kind, file, line) = match origin {
        Origin::File { path, line } => ("file".to_owned(), Some(path.display().to_string()), Some(*line)),
        Origin::Default | Origin::Preset(_) | Origin::Variable(_) | Origin::Flag => {
            (origin.to_string(), None, None)
        }
    };
    Shown { key: key.name, value, origin: kind, file, line, about: key.about }
}

fn get(app: &App, name: &str) -> Result<(), Failure> {
    let resolved = app.config()?;
    let Some((_, value, _)) = resolved.entries().find(|(key, ..)| key.name == name) else {
        let kind = config::unknown_key(name);
        return Err(Failure::new(ErrorCode::Config, Problem { origin: Origin::Flag, kind }.bare()));
    };
    match value {
        _ if app.out.json => app.out.json(value),
        Value::String(text) => app.out.line(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            app.out.line(&value.to_string())
        }
    }
}

fn edit_failed(error: EditError) -> Failure {
    let code = match &error {
        EditError::Wrong(_) | EditError::Broken { .. } => ErrorCode::Config,
        EditError::Write { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            ErrorCode::Permission
        }
        EditError::Write { .. } => ErrorCode::Internal,
    };
    let message = match error {
        EditError::Wrong(problem) => problem.bare(),
        EditError::Broken { .. } | EditError::Write { .. } => error.to_string(),
    };
    Failure::new(code, message)
}

/// Says what the change needs to take effect: a variable may hide it, a running node has read the old value.
fn remind(app: &App, name: &str) {
    if let Ok(resolved) = app.config()
        && let Some((_, _, origin @ (Origin::Variable(_) | Origin::Flag))) =
            resolved.entries().find(|(key, ..)| key.name == name)
    {
        app.out.warn(&format!("note: {origin} is set and wins over the file"));
    }
    if app.home.api_socket().exists() {
        app.out.note("a running node takes it up when it restarts: honeylink down && honeylink up");
    }
}
