//! `modal-sandbox-fs-tools '<json>'`: the file commands that Modal's SDKs run inside a sandbox, served by this program
//! when it is started under that name. docs/filesystem-tool.md has the commands and what each promises.
//!
//! Exit 0: done, the answer is on stdout. Exit 1: one JSON object on stderr says why. Exit 64: called wrongly by hand.

mod accounts;
mod command;
mod content;
mod directory;
mod entry;
mod failure;
mod list;
mod remove;
mod stdio;
mod watch;

#[cfg(test)]
mod testing;

use command::Command;
use failure::Failure;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

pub const NAME: &str = "modal-sandbox-fs-tools";
const USAGE: u8 = 64;

/// Whether a program that was started as `argv0` is this one.
#[must_use]
pub fn is_named_by(argv0: Option<&OsStr>) -> bool {
    argv0.is_some_and(|name| Path::new(name).file_name() == Some(OsStr::new(NAME)))
}

/// Runs the command that the only argument holds.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(text), None) = (args.next(), args.next()) else {
        eprintln!("usage: {NAME} JSON, for example '{{\"ListFiles\":{{\"path\":\"/tmp\"}}}}'");
        eprintln!("commands: {}", command::NAMES.join(", "));
        return ExitCode::from(USAGE);
    };
    match Command::parse(&text).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.to_json());
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::ListFiles { path } => list::list(&path, &mut stdio::output()?),
        Command::MakeDirectory { path, parents } => directory::make(&path, parents),
        Command::ReadFile { path } => content::read(&path, &mut stdio::output()?),
        Command::Remove { path, recursive } => remove::remove(&path, recursive),
        Command::Stat { path } => list::stat(&path, &mut stdio::output()?),
        Command::Watch(options) => watch::watch(&options),
        Command::WriteFile { path } => content::write(&path, &mut stdio::input()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_wherever_the_program_lies() {
        let named = |argv0: &str| is_named_by(Some(OsStr::new(argv0)));
        assert!(named("/__modal/.bin/modal-sandbox-fs-tools") && named("modal-sandbox-fs-tools"));
        assert!(!named("/.sandtrail/agent") && !named("modal-sandbox-fs-tools-2") && !named(""));
        assert!(!is_named_by(None));
    }
}
