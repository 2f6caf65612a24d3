//! What the SDKs are told of a file.

use super::accounts::Accounts;
use rustix::fs::{FileType, Stat};
use serde::Serialize;
use std::borrow::Cow;

/// Names that are not UTF-8 are told with U+FFFD for what is none: JSON has no other form, nor do the SDKs.
#[derive(Serialize)]
pub struct Entry<'a> {
    name: Cow<'a, str>,
    path: Cow<'a, str>,
    r#type: &'static str,
    size: i64,
    /// The kind of file included, as in `st_mode`.
    mode: u32,
    /// The last twelve bits of it as four octal digits.
    permissions: String,
    owner: String,
    group: String,
    /// Seconds since 1970.
    modified_time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink_target: Option<Cow<'a, str>>,
}

impl<'a> Entry<'a> {
    #[must_use]
    pub fn new(
        name: &'a [u8],
        path: Cow<'a, str>,
        stat: &Stat,
        symlink_target: Option<&'a [u8]>,
        accounts: &Accounts,
    ) -> Self {
        Self {
            name: String::from_utf8_lossy(name),
            path,
            r#type: type_name(FileType::from_raw_mode(stat.st_mode)),
            size: stat.st_size,
            mode: stat.st_mode,
            permissions: format!("{:04o}", stat.st_mode & 0o7777),
            owner: accounts.user(stat.st_uid),
            group: accounts.group(stat.st_gid),
            modified_time: seconds(stat),
            symlink_target: symlink_target.map(String::from_utf8_lossy),
        }
    }
}

/// The SDKs know these three and fail on any other: a device, a pipe, a socket is a "file" to them, `mode` tells which.
fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        _ => "file",
    }
}

#[allow(clippy::cast_precision_loss, reason = "a double holds the seconds of 285 million years")]
fn seconds(stat: &Stat) -> f64 {
    stat.st_mtime as f64 + stat.st_mtime_nsec as f64 / 1e9
}
