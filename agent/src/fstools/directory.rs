//! MakeDirectory, and the parents of a file that is to be written.

use super::failure::{Failure, Kind};
use rustix::io::Errno;
use std::fs::DirBuilder;
use std::path::Path;

/// With `parents` as `mkdir -p`: a directory that is there is no error.
///
/// # Errors
/// [`Kind::PathAlreadyExists`]; [`Kind::NotDirectory`] when something above it is a file; [`Kind::NotFound`] when
/// something above it is missing and `parents` was not asked for.
pub fn make(path: &str, parents: bool) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(parents).create(path);
    match made.map_err(Failure::from) {
        // It may have been an ancestor that exists and is no directory: a link to nowhere.
        Err(failure) if failure.kind == Kind::PathAlreadyExists && !exists(path)? => {
            Err(Errno::NOTDIR.into())
        }
        made => made,
    }
}

/// Makes what is missing above `path`.
///
/// # Errors
/// As [`make`].
pub fn make_parents(path: &str) -> Result<(), Failure> {
    match Path::new(path).parent().and_then(Path::to_str) {
        None | Some("") => Ok(()),
        Some(parent) => make(parent, true).map_err(|failure| match failure.kind {
            Kind::PathAlreadyExists => Errno::NOTDIR.into(),
            _ => failure,
        }),
    }
}

fn exists(path: &str) -> Result<bool, Failure> {
    match rustix::fs::lstat(path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fstools::testing::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn kind(path: &str, parents: bool) -> Option<Kind> {
        make(path, parents).err().map(|failure| failure.kind)
    }

    #[test]
    fn parents_are_made_and_a_directory_that_is_there_is_no_error() {
        let dir = Scratch::new();
        for _ in 0..2 {
            assert_eq!(kind(&dir.path("a/b/c"), true), None);
        }
        assert!(fs::metadata(dir.path("a/b/c")).unwrap().is_dir());
        symlink("a", dir.path("link")).unwrap();
        assert_eq!(kind(&dir.path("link"), true), None);
        assert_eq!(kind(&dir.path("link/d/"), true), None);
    }

    #[test]
    fn without_parents_only_the_last_part_is_made() {
        let dir = Scratch::new();
        assert_eq!(kind(&dir.path("a/b"), false), Some(Kind::NotFound));
        assert_eq!(kind(&dir.path("a"), false), None);
        assert_eq!(kind(&dir.path("a"), false), Some(Kind::PathAlreadyExists));
        assert_eq!(kind("/", false), Some(Kind::PathAlreadyExists));
        assert_eq!(kind("/", true), None);
    }

    #[test]
    fn files_and_links_to_nowhere_are_in_the_way() {
        let dir = Scratch::new();
        fs::write(dir.path("file"), "").unwrap();
        symlink("nowhere", dir.path("link")).unwrap();
        for parents in [false, true] {
            assert_eq!(kind(&dir.path("file"), parents), Some(Kind::PathAlreadyExists));
            assert_eq!(kind(&dir.path("link"), parents), Some(Kind::PathAlreadyExists));
            assert_eq!(kind(&dir.path("file/x"), parents), Some(Kind::NotDirectory));
        }
        assert_eq!(kind(&dir.path("file/x/y"), true), Some(Kind::NotDirectory));
        assert_eq!(kind(&dir.path("link/x"), true), Some(Kind::NotDirectory));
    }
}
