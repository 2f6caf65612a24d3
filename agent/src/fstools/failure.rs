//! Why a command did not do what it was asked, in the words that the SDKs turn into their errors.

use rustix::io::Errno;
use serde::Serialize;
use std::borrow::Cow;
use std::io;

/// The SDKs know these by name; each command's page of docs/filesystem-tool.md says which come when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    NotFound,
    PermissionDenied,
    IsDirectory,
    NotDirectory,
    PathAlreadyExists,
    DirectoryNotEmpty,
    FileTooLarge,
    NotSupported,
    /// The command is not one, or a path that no file can have.
    InvalidInput,
    /// Anything else that the system refused: a full disk, an I/O error.
    Io,
}

/// `message` is never empty and does not name the path: the SDKs append it.
#[derive(Debug)]
pub struct Failure {
    pub kind: Kind,
    pub message: Cow<'static, str>,
}

impl Failure {
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The one line that goes to stderr.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({ "version": 1, "error_kind": self.kind, "message": self.message }).to_string()
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        let (kind, message) = match errno {
            Errno::NOENT => (Kind::NotFound, "no such file or directory"),
            Errno::NOTDIR => (Kind::NotDirectory, "a part of the path is not a directory"),
            Errno::ISDIR => (Kind::IsDirectory, "expected a file, found a directory"),
            Errno::EXIST => (Kind::PathAlreadyExists, "the path exists already"),
            Errno::NOTEMPTY => (Kind::DirectoryNotEmpty, "the directory is not empty"),
            Errno::ACCESS | Errno::PERM => (Kind::PermissionDenied, "permission denied"),
            Errno::ROFS => (Kind::PermissionDenied, "the file system is read-only"),
            Errno::NOSYS | Errno::OPNOTSUPP => (Kind::NotSupported, "the file system cannot do this"),
            Errno::NAMETOOLONG => (Kind::InvalidInput, "the path or a name in it is too long"),
            Errno::LOOP => (Kind::InvalidInput, "too many symbolic links"),
            other => return Self::new(Kind::Io, io::Error::from(other).to_string()),
        };
        Self::new(kind, message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::new(Kind::Io, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_of_the_form_that_the_sdks_read() {
        let line = Failure::from(Errno::NOENT).to_json();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["error_kind"], "NotFound");
        assert!(!value["message"].as_str().unwrap().trim().is_empty() && !line.contains('\n'));
    }

    #[test]
    fn what_has_no_kind_of_its_own_keeps_the_words_of_the_system() {
        let full = Failure::from(io::Error::from(Errno::NOSPC));
        assert_eq!(full.kind, Kind::Io);
        assert!(full.message.contains("No space left"), "{}", full.message);
    }
}
