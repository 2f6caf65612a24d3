//! What is to run, resolved from its spec: where the program may be, as whom, with which environment.

use crate::message::{ExecSpec, Failure};
use crate::user::{self, Identity, UserError};
use std::ffi::{CString, c_int};

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything the child needs, made before it exists: it must not allocate.
pub struct Program {
    /// Where it may be, in the order to try.
    pub paths: Vec<CString>,
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    pub cwd: CString,
    /// `None`: as the agent runs, root.
    pub identity: Option<Identity>,
}

/// A program that never ran.
#[derive(Debug)]
pub enum SpawnError {
    Invalid(&'static str),
    NotFound(String),
    NotExecutable(String, c_int),
    BadCwd(String, c_int),
    UnknownUser(String),
    UnknownGroup(String),
    TooLong,
    /// The kernel has no process, memory or descriptor left for it.
    NoResources(&'static str, c_int),
}

impl SpawnError {
    /// What the host is told, with the exit code that a shell would give.
    #[must_use]
    pub fn failure(self) -> Failure {
        let (code, exit_code, message) = match self {
            Self::Invalid(why) => ("INVALID", 125, why.to_owned()),
            Self::NotFound(name) => ("NOT_FOUND", 127, format!("{name}: no such program")),
            Self::NotExecutable(name, errno) => {
                ("NOT_EXECUTABLE", 126, format!("{name}: {}", describe(errno)))
            }
            Self::BadCwd(dir, errno) => ("BAD_CWD", 126, format!("cannot enter {dir}: {}", describe(errno))),
            Self::UnknownUser(user) => ("UNKNOWN_USER", 126, format!("no user {user}")),
            Self::UnknownGroup(user) => ("UNKNOWN_USER", 126, format!("no such group in {user}")),
            Self::TooLong => ("TOO_LONG", 126, "arguments and environment are too long".to_owned()),
            Self::NoResources(what, errno) => {
                ("NO_RESOURCES", 125, format!("cannot {what}: {}", describe(errno)))
            }
        };
        Failure { code, exit_code, message: shorten(message) }
    }
}

/// Names come from the caller and may be long; a message to the host is one frame.
fn shorten(mut message: String) -> String {
    const MESSAGE_MAX: usize = 500;
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

fn describe(errno: c_int) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

impl Program {
    /// Checks the spec and resolves the user, with the defaults for PATH, HOME and TERM where env has none.
    ///
    /// # Errors
    /// [`SpawnError`] for an empty or impossible spec or an unknown user.
    pub fn prepare(spec: &ExecSpec) -> Result<Self, SpawnError> {
        let Some(name) = spec.argv.first().filter(|name| !name.is_empty()) else {
            return Err(SpawnError::Invalid("argv is empty"));
        };
        let identity = spec.user.as_deref().map(|user| {
            user::lookup(user).map_err(|error| match error {
                UserError::UnknownUser => SpawnError::UnknownUser(user.to_owned()),
                UserError::UnknownGroup => SpawnError::UnknownGroup(user.to_owned()),
            })
        });
        let identity = identity.transpose()?;
        let path = spec.env.get("PATH").map_or(PATH_DEFAULT, String::as_str);
        let mut env = Vec::with_capacity(spec.env.len() + 3);
        for (key, value) in &spec.env {
            if key.is_empty() || key.contains('=') {
                return Err(SpawnError::Invalid("a name in env is empty or has a ="));
            }
            env.push(c_string(format!("{key}={value}"))?);
        }
        let home = identity.as_ref().map_or("/root", |identity| identity.home.as_str());
        let defaults =
            [("PATH", Some(PATH_DEFAULT)), ("HOME", Some(home)), ("TERM", spec.pty.map(|_| "xterm"))];
        for (key, value) in defaults {
            if let Some(value) = value.filter(|_| !spec.env.contains_key(key)) {
                env.push(c_string(format!("{key}={value}"))?);
            }
        }
        Ok(Self {
            paths: candidates(name, path)?,
            argv: spec.argv.iter().map(|arg| c_string(arg.clone())).collect::<Result<_, _>>()?,
            env,
            cwd: c_string(spec.cwd.clone().unwrap_or_else(|| "/".to_owned()))?,
            identity,
        })
    }

    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.identity.as_ref().map(|identity| identity.uid)
    }
}

fn c_string(text: String) -> Result<CString, SpawnError> {
    CString::new(text).map_err(|_| SpawnError::Invalid("a NUL byte in argv, env or cwd"))
}

/// Where a program may be: a name with a slash is a path, else each directory of PATH in turn.
fn candidates(name: &str, path: &str) -> Result<Vec<CString>, SpawnError> {
    if name.contains('/') {
        return Ok(vec![c_string(name.to_owned())?]);
    }
    let directories = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    directories.map(|dir| c_string(format!("{dir}/{name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(argv: &[&str]) -> ExecSpec {
        ExecSpec {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            env: [("PATH".to_owned(), "/bin::/usr/bin".to_owned())].into(),
            cwd: None,
            user: None,
            pty: None,
            stdin: false,
            timeout_ms: None,
        }
    }

    #[test]
    fn a_name_is_looked_for_in_each_directory_of_path() {
        let program = Program::prepare(&spec(&["ls"])).unwrap();
        let paths: Vec<_> = program.paths.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/bin/ls", "./ls", "/usr/bin/ls"]);
        assert_eq!(Program::prepare(&spec(&["./ls"])).unwrap().paths.len(), 1);
    }

    #[test]
    fn impossible_specs_are_refused() {
        for argv in [&[][..], &[""], &["a\0b"], &["a", "\0"]] {
            assert!(matches!(Program::prepare(&spec(argv)), Err(SpawnError::Invalid(_))));
        }
        let mut bad = spec(&["x"]);
        bad.env.insert("A=B".into(), String::new());
        assert!(matches!(Program::prepare(&bad), Err(SpawnError::Invalid(_))));
    }

    #[test]
    fn a_long_name_makes_a_short_message() {
        let failure = SpawnError::NotFound("ä".repeat(100_000)).failure();
        assert!(failure.message.len() < 600);
    }
}
