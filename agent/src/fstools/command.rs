//! The commands, as the SDKs write them: an object with one key. Unknown keys beside the known are passed over, since
//! a newer SDK may send more.

use super::failure::{Failure, Kind};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::time::Duration;

pub const NAMES: [&str; 7] =
    ["ListFiles", "MakeDirectory", "ReadFile", "Remove", "Stat", "Watch", "WriteFile"];

#[derive(Debug, PartialEq, Deserialize)]
pub enum Command {
    ListFiles {
        path: String,
    },
    MakeDirectory {
        path: String,
        #[serde(default = "yes")]
        parents: bool,
    },
    ReadFile {
        path: String,
    },
    Remove {
        path: String,
        #[serde(default)]
        recursive: bool,
    },
    Stat {
        path: String,
    },
    Watch(WatchOptions),
    WriteFile {
        path: String,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
pub struct WatchOptions {
    pub path: String,
    #[serde(default)]
    pub recursive: bool,
    /// `None`: every kind.
    #[serde(default)]
    pub filter: Option<Vec<EventType>>,
    /// `None`: until stdin ends.
    #[serde(default)]
    pub timeout_secs: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum EventType {
    Create,
    Modify,
    Remove,
    Access,
    Rename,
    RenameFrom,
    RenameTo,
    /// Changes were lost, or something happened that has no other name.
    Unknown,
}

fn yes() -> bool {
    true
}

impl Command {
    /// # Errors
    /// [`Kind::InvalidInput`], with what is wrong and where.
    pub fn parse(text: &OsStr) -> Result<Self, Failure> {
        let invalid = |why: String| Failure::new(Kind::InvalidInput, why);
        let text = text.to_str().ok_or_else(|| invalid("the command is not UTF-8".to_owned()))?;
        let command: Self =
            serde_json::from_str(text).map_err(|error| invalid(format!("not a command: {error}")))?;
        if command.path().is_empty() || command.path().contains('\0') {
            return Err(invalid("the path is empty or holds a NUL byte".to_owned()));
        }
        if let Self::Watch(WatchOptions { timeout_secs: Some(secs), .. }) = command
            && Duration::try_from_secs_f64(secs).is_err()
        {
            return Err(invalid(format!("timeout_secs is {secs}; it must be 0 or more")));
        }
        Ok(command)
    }

    fn path(&self) -> &str {
        match self {
            Self::ListFiles { path }
            | Self::MakeDirectory { path, .. }
            | Self::ReadFile { path }
            | Self::Remove { path, .. }
            | Self::Stat { path }
            | Self::Watch(WatchOptions { path, .. })
            | Self::WriteFile { path } => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command, Failure> {
        Command::parse(OsStr::new(text))
    }

    #[test]
    fn blanks_and_unknown_keys_make_no_difference() {
        let expected = Command::Remove { path: "/x".into(), recursive: true };
        for text in [
            r#"{"Remove":{"path":"/x","recursive":true}}"#,
            r#"{ "Remove": {"recursive": true, "newer": [1], "path": "/x"} }"#,
        ] {
            assert_eq!(parse(text).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_left_out_has_the_default_of_the_sdks() {
        let directory = Command::MakeDirectory { path: "/x".into(), parents: true };
        assert_eq!(parse(r#"{"MakeDirectory":{"path":"/x"}}"#).unwrap(), directory);
        let options = WatchOptions { path: "/x".into(), recursive: false, filter: None, timeout_secs: None };
        assert_eq!(parse(r#"{"Watch":{"path":"/x"}}"#).unwrap(), Command::Watch(options));
    }

    #[test]
    fn every_command_is_named_in_the_usage() {
        for name in NAMES {
            assert!(parse(&format!(r#"{{"{name}":{{"path":"/x"}}}}"#)).is_ok(), "{name}");
        }
    }

    #[test]
    fn anything_else_is_invalid_input() {
        for text in [
            "",
            "{",
            "[]",
            "{}",
            r#""Stat""#,
            r#"{"Stat":{}}"#,
            r#"{"Stat":{"path":1}}"#,
            r#"{"Stat":{"path":""}}"#,
            r#"{"Stat":{"path":"/a\u0000b"}}"#,
            r#"{"Chmod":{"path":"/x"}}"#,
            r#"{"Stat":{"path":"/x"},"Remove":{"path":"/x"}}"#,
            r#"{"Watch":{"path":"/x","timeout_secs":-1}}"#,
            r#"{"Watch":{"path":"/x","filter":["Explode"]}}"#,
        ] {
            assert_eq!(parse(text).unwrap_err().kind, Kind::InvalidInput, "{text}");
        }
    }
}
