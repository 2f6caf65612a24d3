//! ReadFile and WriteFile: bytes of regular files, piece by piece.

use super::directory;
use super::failure::{Failure, Kind};
use super::stdio::PIECE;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};

/// The SDKs' own limit for a file that is read: 5 GiB.
const READ_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// Writes the file's bytes to `out`. Its size is looked at before the first byte, and again by counting, since the file
/// may grow meanwhile and those of /proc have no size.
///
/// # Errors
/// [`Kind::FileTooLarge`] above 5 GiB; [`Kind::IsDirectory`]; [`Kind::NotSupported`] for what is no regular file.
pub fn read(path: &str, out: &mut impl Write) -> Result<(), Failure> {
    read_up_to(path, READ_MAX, out)
}

fn read_up_to(path: &str, max: u64, out: &mut impl Write) -> Result<(), Failure> {
    refuse_special(&rustix::fs::stat(path)?)?;
    let (mut file, stat) = open_regular(path, OFlags::RDONLY)?;
    let too_large = |size: u64| {
        Failure::new(Kind::FileTooLarge, format!("the file has {size} bytes, at most {max} can be read"))
    };
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if size > max {
        return Err(too_large(size));
    }
    let mut passed = 0;
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        passed += count as u64;
        if passed > max {
            return Err(too_large(passed));
        }
        out.write_all(&piece[..count])?;
    }
}

/// Replaces the file's content by all of `input`, in place: what is written when an error comes stays written. Missing
/// parents are made; an existing file keeps its owner and mode.
///
/// # Errors
/// [`Kind::IsDirectory`]; [`Kind::NotDirectory`] when something above it is a file; [`Kind::NotSupported`] for what is
/// no regular file.
pub fn write(path: &str, input: &mut impl Read) -> Result<(), Failure> {
    match rustix::fs::stat(path) {
        Ok(stat) => refuse_special(&stat)?,
        Err(Errno::NOENT) => directory::make_parents(path)?,
        Err(errno) => return Err(errno.into()),
    }
    let (mut file, stat) = open_regular(path, OFlags::WRONLY | OFlags::CREATE)?;
    if stat.st_size > 0 {
        rustix::fs::ftruncate(&file, 0)?;
    }
    let mut piece = vec![0; PIECE];
    loop {
        match input.read(&mut piece)? {
            0 => return Ok(()),
            count => file.write_all(&piece[..count])?,
        }
    }
}

/// Never waits: opening a FIFO would, for its other end. What was at the path before may be another thing by now, so
/// it is looked at again.
fn open_regular(path: &str, flags: OFlags) -> Result<(File, Stat), Failure> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))?;
    let stat = rustix::fs::fstat(&file)?;
    refuse_special(&stat)?;
    Ok((file.into(), stat))
}

fn refuse_special(stat: &Stat) -> Result<(), Failure> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => return Err(Errno::ISDIR.into()),
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no regular file",
    };
    Err(Failure::new(
        Kind::NotSupported,
        format!("this is {what}; only regular files can be read and written"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstools::testing::Scratch;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn content(path: &str) -> Result<Vec<u8>, Kind> {
        let mut out = Vec::new();
        read(path, &mut out).map(|()| out).map_err(|failure| failure.kind)
    }

    fn written(path: &str, bytes: &[u8]) -> Option<Kind> {
        write(path, &mut &bytes[..]).err().map(|failure| failure.kind)
    }

    #[test]
    fn what_is_written_is_read_whatever_its_length() {
        let dir = Scratch::new();
        for length in [3 * PIECE + 1, PIECE, 5, 0] {
            let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            assert_eq!(written(&dir.path("a/b/file"), &bytes), None);
            assert!(content(&dir.path("a/b/file")).unwrap() == bytes, "{length}");
        }
    }

    #[test]
    fn an_existing_file_keeps_its_mode_and_a_link_is_followed() {
        let dir = Scratch::new();
        fs::write(dir.path("file"), "old").unwrap();
        fs::set_permissions(dir.path("file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", dir.path("link")).unwrap();
        assert_eq!(written(&dir.path("link"), b"new"), None);
        assert_eq!(content(&dir.path("file")).unwrap(), b"new");
        assert_eq!(fs::metadata(dir.path("file")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(dir.path("link")).unwrap().is_symlink());
    }

    #[test]
    fn the_size_is_refused_before_the_first_byte() {
        let dir = Scratch::new();
        File::create(dir.path("sparse")).unwrap().set_len(6 * 1024 * 1024 * 1024).unwrap();
        let mut out = Vec::new();
        assert_eq!(read(&dir.path("sparse"), &mut out).unwrap_err().kind, Kind::FileTooLarge);
        assert!(out.is_empty());
        fs::write(dir.path("exact"), "12345").unwrap();
        assert!(read_up_to(&dir.path("exact"), 5, &mut out).is_ok());
        assert_eq!(read_up_to(&dir.path("exact"), 4, &mut out).unwrap_err().kind, Kind::FileTooLarge);
    }

    #[test]
    fn a_file_without_a_size_is_read_to_its_end() {
        assert!(content("/proc/self/status").unwrap().starts_with(b"Name:"));
        let mut out = Vec::new();
        let failure = read_up_to("/proc/self/status", 10, &mut out).unwrap_err();
        assert_eq!(failure.kind, Kind::FileTooLarge);
    }

    #[test]
    fn directories_and_missing_files_are_told_apart() {
        let dir = Scratch::new();
        fs::write(dir.path("file"), "").unwrap();
        assert_eq!(content(&dir.path("")), Err(Kind::IsDirectory));
        assert_eq!(content(&dir.path("missing")), Err(Kind::NotFound));
        assert_eq!(content(&dir.path("file/x")), Err(Kind::NotDirectory));
        assert_eq!(written(&dir.path(""), b"x"), Some(Kind::IsDirectory));
        assert_eq!(written(&dir.path("new/"), b"x"), Some(Kind::IsDirectory));
        assert_eq!(written(&dir.path("file/x"), b"x"), Some(Kind::NotDirectory));
        assert_eq!(written(&dir.path("file/x/y"), b"x"), Some(Kind::NotDirectory));
    }

    #[test]
    fn special_files_are_refused_without_waiting() {
        let dir = Scratch::new();
        dir.fifo("fifo");
        let _listener = UnixListener::bind(dir.path("socket")).unwrap();
        for path in [dir.path("fifo"), dir.path("socket"), "/dev/zero".to_owned()] {
            assert_eq!(content(&path), Err(Kind::NotSupported), "{path}");
            assert_eq!(written(&path, b"x"), Some(Kind::NotSupported), "{path}");
        }
    }
}
