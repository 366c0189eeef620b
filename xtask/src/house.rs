//! Where the workspace is, and how a step runs a command in it: at the root, with the output kept, so that a
//! failure can be shown whole and a success stays quiet.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;

/// The workspace as the steps see it.
pub(crate) struct House {
    pub(crate) root: PathBuf,
    /// `CARGO_TARGET_DIR` if set, else `target` under the root.
    pub(crate) target: PathBuf,
    /// `CI=true`: what would be skipped on a laptop is a failure here.
    pub(crate) strict: bool,
    cargo: String,
}

/// What a finished command left behind.
pub(crate) struct Ran {
    pub(crate) ok: bool,
    /// Standard output and standard error, in the order they were written.
    pub(crate) output: String,
}

impl House {
    pub(crate) fn open() -> Self {
        // Cargo tells a running program its own manifest folder; the compiled-in one serves a bare `./xtask`.
        let manifest =
            env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
        let mut root = PathBuf::from(manifest);
        root.pop();
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let strict = env::var("CI").is_ok_and(|value| value == "true");
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        Self { root, target, strict, cargo }
    }

    /// A cargo command at the workspace root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = self.command(&self.cargo);
        command.args(args);
        command
    }

    /// Any command at the workspace root.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Runs `command` to its end, keeping what it prints. Lines for which `echo` holds are shown as they come,
    /// so that a long step is seen to move.
    pub(crate) fn run(&self, mut command: Command, echo: fn(&str) -> bool) -> io::Result<Ran> {
        // One pipe for both streams keeps errors beside the lines they belong to.
        let (reader, writer) = io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        drop(command); // it holds our copies of the writing end; the read below would never see the end
        let mut output = String::new();
        let mut line = Vec::new();
        let mut reader = BufReader::new(reader);
        while reader.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line);
            if echo(text.trim()) {
                println!("   {}", text.trim());
            }
            output.push_str(&text);
            line.clear();
        }
        Ok(Ran { ok: child.wait()?.success(), output })
    }

    /// Runs `command` with the terminal as its own.
    pub(crate) fn hand_over(&self, mut command: Command) -> Result<(), String> {
        let program = command.get_program().to_string_lossy().into_owned();
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{program} ended with {status}")),
            Err(error) => Err(format!("cannot run {program}: {error}")),
        }
    }

    /// Whether `program args..` runs and succeeds; used to ask whether an optional tool is there.
    pub(crate) fn has(&self, program: &str, args: &[&str]) -> bool {
        let mut command = self.command(program);
        command.args(args);
        self.run(command, |_| false).is_ok_and(|ran| ran.ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_kept_and_the_exit_code_is_told() {
        let house = House::open();
        let mut command = house.command("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ran = house.run(command, |_| false).unwrap();
        assert!(!ran.ok);
        assert_eq!(ran.output, "out\nerr\n");
    }

    #[test]
    fn a_missing_program_is_not_there() {
        assert!(!House::open().has("no-such-program-honeylink", &[]));
    }
}
