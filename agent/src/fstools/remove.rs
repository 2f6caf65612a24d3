//! Remove. Every step is taken relative to an open directory and follows no link, so that nobody who moves directories
//! or puts links in their place meanwhile leads it out of the tree.

use super::failure::{Failure, Kind};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// Levels of a tree that are kept open. Above them a directory is closed and found again by "..".
const OPEN_MAX: usize = 64;
/// How often a directory is gone through again because something was made in it meanwhile.
const RESCANS_MAX: u32 = 8;

/// Removes a file, a link itself, an empty directory or, with `recursive`, a whole tree. It stops at the first thing
/// that cannot be removed; what is gone by then stays gone.
///
/// # Errors
/// [`Kind::NotFound`]; [`Kind::DirectoryNotEmpty`]; [`Kind::InvalidInput`] for `/`, `.` and `..`;
/// [`Kind::PermissionDenied`].
pub fn remove(path: &str, recursive: bool) -> Result<(), Failure> {
    let (parent, name) = split(path)?;
    let parent = rustix::fs::openat(CWD, parent, DIRECTORY | OFlags::PATH, Mode::empty())?;
    match remove_one(parent.as_fd(), &name) {
        Err(Errno::NOTEMPTY) if recursive => remove_tree(&parent, name),
        done => Ok(done?),
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

/// The directory and the name in it; slashes at the end ("/tmp/x/") are none of it.
fn split(path: &str) -> Result<(&str, CString), Failure> {
    let refused = || Failure::new(Kind::InvalidInput, "the path must end in a name, not in /, . or ..");
    let path = path.trim_end_matches('/');
    let (parent, name) = match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => (".", path),
    };
    if matches!(name, "" | "." | "..") {
        return Err(refused());
    }
    Ok((parent, CString::new(name).map_err(|_| refused())?))
}

/// A file, a link or an empty directory.
fn remove_one(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        // PERM: what POSIX says of a directory, and some file systems with it.
        Err(errno @ (Errno::ISDIR | Errno::PERM)) => match remove_dir(parent, name) {
            Err(Errno::NOTDIR) => Err(errno),
            done => done,
        },
        done => done,
    }
}

fn remove_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::EXIST) => Err(Errno::NOTEMPTY), // The other word for it that POSIX allows.
        done => done,
    }
}

/// A directory that is being emptied.
struct Level {
    /// Its name in the directory above.
    name: CString,
    /// By these it is known again when it had to be closed.
    id: (u64, u64),
    /// `None`: closed for a while.
    dir: Option<Dir>,
    rescans: u32,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: CString) -> Result<Self, Errno> {
        let fd = rustix::fs::openat(parent, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { name, id: id(&fd)?, dir: Some(Dir::new(fd)?), rescans: 0 })
    }

    /// Opens it again from the directory below, which may have been moved away meanwhile.
    fn reopen(&mut self, below: BorrowedFd<'_>) -> Result<(), Failure> {
        let fd = rustix::fs::openat(below, c"..", DIRECTORY, Mode::empty())?;
        if id(&fd)? != self.id {
            return Err(Failure::new(Kind::Io, "a directory was moved away while its content was removed"));
        }
        self.dir = Some(Dir::new(fd)?);
        Ok(())
    }
}

fn id(fd: &OwnedFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn remove_tree(parent: &OwnedFd, name: CString) -> Result<(), Failure> {
    let mut levels = match Level::open(parent.as_fd(), name) {
        Ok(level) => vec![level],
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    while let Some(mut level) = levels.pop() {
        let Some(dir) = level.dir.as_mut() else {
            return Err(Failure::new(Kind::Io, "a directory was closed while it was needed"));
        };
        if let Some(below) = empty(dir)? {
            levels.push(level);
            close_far_ones(&mut levels);
            levels.push(below);
            continue;
        }
        if let Some(above) = levels.last_mut()
            && above.dir.is_none()
        {
            above.reopen(dir.fd()?)?;
        }
        let above = match levels.last().and_then(|above| above.dir.as_ref()) {
            Some(dir) => dir.fd()?,
            None => parent.as_fd(),
        };
        match remove_dir(above, &level.name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY) if level.rescans < RESCANS_MAX => {
                let again = Level::open(above, level.name)?;
                levels.push(Level { rescans: level.rescans + 1, ..again });
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Removes what is in a directory, up to a subdirectory with something in it, which is returned.
fn empty(dir: &mut Dir) -> Result<Option<Level>, Failure> {
    while let Some(entry) = dir.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let fd = dir.fd()?;
        let removed = match entry.file_type() {
            FileType::Directory => remove_dir(fd, name),
            _ => remove_one(fd, name),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY) => match Level::open(fd, name.to_owned()) {
                Ok(level) => return Ok(Some(level)),
                Err(Errno::NOENT) => {}
                // A link or a file took its place.
                Err(Errno::NOTDIR | Errno::LOOP) => remove_one(fd, name)?,
                Err(errno) => return Err(errno.into()),
            },
            // A file or a link took its place.
            Err(Errno::NOTDIR) => remove_one(fd, name)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

fn close_far_ones(levels: &mut [Level]) {
    if let Some(far) = levels.len().checked_sub(OPEN_MAX) {
        levels[far].dir = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstools::testing::Scratch;
    use rustix::fs::RenameFlags;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn kind(path: &str, recursive: bool) -> Option<Kind> {
        remove(path, recursive).err().map(|failure| failure.kind)
    }

    #[test]
    fn files_links_and_empty_directories_go() {
        let dir = Scratch::new();
        fs::write(dir.path("kept"), "kept").unwrap();
        fs::write(dir.path("file"), "").unwrap();
        symlink("kept", dir.path("link")).unwrap();
        symlink("nowhere", dir.path("dangling")).unwrap();
        fs::create_dir(dir.path("empty")).unwrap();
        for name in ["file", "link", "dangling", "empty/"] {
            assert_eq!(kind(&dir.path(name), false), None, "{name}");
            assert_eq!(kind(&dir.path(name), false), Some(Kind::NotFound), "{name}");
        }
        assert_eq!(fs::read(dir.path("kept")).unwrap(), b"kept");
    }

    #[test]
    fn a_full_directory_needs_recursive() {
        let dir = Scratch::new();
        fs::create_dir_all(dir.path("tree/a/b")).unwrap();
        fs::write(dir.path("tree/a/file"), "").unwrap();
        fs::create_dir(dir.path("kept")).unwrap();
        fs::write(dir.path("kept/file"), "").unwrap();
        symlink(dir.path("kept"), dir.path("tree/link")).unwrap();
        assert_eq!(kind(&dir.path("tree"), false), Some(Kind::DirectoryNotEmpty));
        assert_eq!(kind(&dir.path("tree"), true), None);
        assert!(!fs::exists(dir.path("tree")).unwrap() && fs::exists(dir.path("kept/file")).unwrap());
    }

    #[test]
    fn a_link_at_the_end_is_removed_and_not_followed_also_with_a_slash() {
        let dir = Scratch::new();
        fs::create_dir(dir.path("kept")).unwrap();
        fs::write(dir.path("kept/file"), "").unwrap();
        for name in ["link", "link/"] {
            symlink("kept", dir.path("link")).unwrap();
            assert_eq!(kind(&dir.path(name), true), None);
            assert!(fs::exists(dir.path("kept/file")).unwrap());
        }
    }

    #[test]
    fn what_has_no_name_of_its_own_is_refused() {
        let dir = Scratch::new();
        for path in ["/", "//", ".", "..", &dir.path("."), &dir.path("..")] {
            assert_eq!(kind(path, true), Some(Kind::InvalidInput), "{path}");
        }
        fs::write(dir.path("file"), "").unwrap();
        assert_eq!(kind(&dir.path("file/x"), true), Some(Kind::NotDirectory));
    }

    #[test]
    fn a_tree_may_be_deeper_than_any_path_and_any_number_of_open_files() {
        let dir = Scratch::new();
        fs::create_dir(dir.path("deep")).unwrap();
        let mut at = rustix::fs::open(dir.path("deep"), DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            for name in [c"a-file", c"z-file"] {
                rustix::fs::openat(&at, name, OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
            }
            rustix::fs::mkdirat(&at, c"d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, c"d", DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        assert_eq!(kind(&dir.path("deep"), true), None);
        assert!(!fs::exists(dir.path("deep")).unwrap());
    }

    /// Somebody swaps a directory for a link out of the tree, over and over, while the tree is removed.
    #[test]
    fn a_link_that_takes_a_directorys_place_leads_nowhere() {
        let dir = Scratch::new();
        fs::create_dir(dir.path("kept")).unwrap();
        fs::create_dir(dir.path("tree")).unwrap();
        symlink(dir.path("kept"), dir.path("link")).unwrap();
        let stop = AtomicBool::new(false);
        let (victim, link) = (dir.path("tree/victim"), dir.path("link"));
        let swapped = std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let mut swapped = 0;
                while !stop.load(Ordering::Relaxed) {
                    let done = rustix::fs::renameat_with(CWD, &victim, CWD, &link, RenameFlags::EXCHANGE);
                    swapped += u32::from(done.is_ok());
                }
                swapped
            });
            for round in 0..300 {
                fs::write(dir.path("kept/file"), "kept").unwrap();
                let _ = fs::create_dir_all(dir.path("tree/victim/below"));
                let _ = fs::write(dir.path("tree/victim/file"), "");
                let _ = remove(&dir.path("tree"), true);
                // What was swapped in as "link" may be the directory by now; "kept" itself is never in the tree.
                assert!(fs::exists(dir.path("kept/file")).unwrap(), "round {round}");
                let _ = fs::create_dir(dir.path("tree"));
                if fs::symlink_metadata(dir.path("link")).is_ok_and(|meta| !meta.is_symlink()) {
                    let _ = fs::remove_dir_all(dir.path("link"));
                }
                if !fs::exists(dir.path("link")).unwrap() {
                    let _ = symlink(dir.path("kept"), dir.path("link"));
                }
            }
            stop.store(true, Ordering::Relaxed);
            swapper.join().unwrap()
        });
        assert!(swapped > 20, "only {swapped} swaps: the test proved nothing");
    }
}
