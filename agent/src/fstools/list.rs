//! ListFiles and Stat.

use super::accounts::Accounts;
use super::entry::Entry;
use super::failure::{Failure, Kind};
use super::stdio::PIECE;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::io::{BufWriter, Write};

/// Writes the entries of a directory as a JSON array, sorted by the bytes of their names. Only the names are held in
/// memory; each entry is looked at when its turn comes, and left out when it is gone by then.
///
/// # Errors
/// [`Kind::NotDirectory`], also for the path itself; [`Kind::NotFound`]; [`Kind::PermissionDenied`].
pub fn list(path: &str, out: &mut impl Write) -> Result<(), Failure> {
    let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let names = names(Dir::read_from(&dir)?)?;
    let accounts = Accounts::read();
    let prefix = path.trim_end_matches('/');
    let mut out = BufWriter::with_capacity(PIECE, out);
    let mut separator = "[";
    for name in &names {
        let Some((stat, target)) = look(dir.as_fd(), name)? else {
            continue;
        };
        let full = Cow::Owned(format!("{prefix}/{}", name.to_string_lossy()));
        out.write_all(separator.as_bytes())?;
        let entry =
            Entry::new(name.to_bytes(), full, &stat, target.as_deref().map(CStr::to_bytes), &accounts);
        serde_json::to_writer(&mut out, &entry).map_err(std::io::Error::from)?;
        separator = ",";
    }
    out.write_all(if separator == "[" { b"[]" } else { b"]" })?;
    Ok(out.flush()?)
}

/// Writes the entry of one path; a symlink is not followed.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::NotDirectory`], [`Kind::PermissionDenied`].
pub fn stat(path: &str, out: &mut impl Write) -> Result<(), Failure> {
    let c_path =
        CString::new(path).map_err(|_| Failure::new(Kind::InvalidInput, "a NUL byte in the path"))?;
    let (stat, target) = look(CWD, &c_path)?.ok_or(Errno::NOENT)?;
    let name = path.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/");
    let target = target.as_deref().map(CStr::to_bytes);
    let entry = Entry::new(name.as_bytes(), Cow::Borrowed(path), &stat, target, &Accounts::read());
    let text = serde_json::to_vec(&entry).map_err(std::io::Error::from)?;
    Ok(out.write_all(&text)?)
}

fn names(dir: Dir) -> Result<Vec<CString>, Failure> {
    let mut names = Vec::new();
    for entry in dir {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// `None`: it is not there, or was another thing a moment ago and is not there now.
fn look(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<(Stat, Option<CString>)>, Failure> {
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(Some((stat, None)));
    }
    match rustix::fs::readlinkat(dir, name, Vec::new()) {
        Ok(target) => Ok(Some((stat, Some(target)))),
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstools::testing::Scratch;
    use serde_json::{Value, json};
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn listed(path: &str) -> Result<Vec<Value>, Kind> {
        let mut out = Vec::new();
        list(path, &mut out).map_err(|failure| failure.kind)?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    fn stated(path: &str) -> Result<Value, Kind> {
        let mut out = Vec::new();
        stat(path, &mut out).map_err(|failure| failure.kind)?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn entries_come_sorted_by_name_and_are_not_followed() {
        let dir = Scratch::new();
        assert_eq!(listed(&dir.path("")).unwrap(), Vec::<Value>::new());
        fs::write(dir.path("b"), "hello").unwrap();
        fs::set_permissions(dir.path("b"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::create_dir(dir.path("a")).unwrap();
        symlink("nowhere", dir.path("c")).unwrap();
        let entries = listed(&dir.path("")).unwrap();
        let told: Vec<_> =
            entries.iter().map(|e| (e["name"].as_str().unwrap(), e["type"].as_str().unwrap())).collect();
        assert_eq!(told, [("a", "directory"), ("b", "file"), ("c", "symlink")]);
        assert_eq!(entries[1]["path"], dir.path("b"));
        assert_eq!((&entries[1]["size"], &entries[1]["permissions"]), (&json!(5), &json!("4750")));
        assert_eq!(entries[1]["mode"], 0o104_750);
        assert!(entries[1].get("symlink_target").is_none());
        assert_eq!(entries[2]["symlink_target"], "nowhere");
    }

    #[test]
    fn a_link_to_a_directory_is_followed_and_keeps_its_name_in_the_paths() {
        let dir = Scratch::new();
        fs::create_dir(dir.path("real")).unwrap();
        fs::write(dir.path("real/x"), "").unwrap();
        symlink("real", dir.path("link")).unwrap();
        for path in [dir.path("link"), dir.path("link/")] {
            assert_eq!(listed(&path).unwrap()[0]["path"], dir.path("link/x"));
        }
    }

    #[test]
    fn what_is_no_directory_is_told_at_once() {
        let dir = Scratch::new();
        fs::write(dir.path("file"), "").unwrap();
        dir.fifo("fifo");
        assert_eq!(listed(&dir.path("file")).unwrap_err(), Kind::NotDirectory);
        assert_eq!(listed(&dir.path("file/x")).unwrap_err(), Kind::NotDirectory);
        assert_eq!(listed(&dir.path("fifo")).unwrap_err(), Kind::NotDirectory);
        assert_eq!(listed(&dir.path("missing")).unwrap_err(), Kind::NotFound);
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_told_with_replacements() {
        let dir = Scratch::new();
        fs::write(std::path::Path::new(&dir.path("")).join(OsStr::from_bytes(b"a\xffb")), "").unwrap();
        assert_eq!(listed(&dir.path("")).unwrap()[0]["name"], "a\u{fffd}b");
    }

    #[test]
    fn stat_tells_of_the_link_itself() {
        let dir = Scratch::new();
        symlink("../x", dir.path("link")).unwrap();
        fs::write(dir.path("file"), "").unwrap();
        let entry = stated(&dir.path("link")).unwrap();
        assert_eq!((&entry["type"], &entry["symlink_target"]), (&json!("symlink"), &json!("../x")));
        assert_eq!((&entry["name"], &entry["path"]), (&json!("link"), &json!(dir.path("link"))));
        assert!(entry["modified_time"].as_f64().unwrap() > 1e9);
        assert_eq!(stated(&dir.path("file/x")).unwrap_err(), Kind::NotDirectory);
        assert_eq!(stated(&dir.path("missing")).unwrap_err(), Kind::NotFound);
        assert_eq!(stated("/").unwrap()["name"], "/");
    }
}
