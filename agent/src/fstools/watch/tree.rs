//! The watched directories: one, or with `recursive` all below it as they come and go.

use super::super::failure::Failure;
use super::moves::{Happening, Moves};
use super::source::{self, Source};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Kernel's views, not files: nothing that changes there is told, and they have a directory for every thread.
const VIEWS: [&[u8]; 2] = [b"/proc", b"/sys"];

pub enum Scope {
    Directory {
        path: PathBuf,
        recursive: bool,
    },
    /// A file is watched by its directory: it may be replaced by another of its name, as editors do.
    File {
        path: PathBuf,
    },
}

impl Scope {
    /// # Errors
    /// The path is gone by now.
    pub fn of(path: PathBuf, recursive: bool) -> Result<Self, Failure> {
        let is_dir = std::fs::metadata(&path)?.is_dir();
        Ok(if is_dir { Self::Directory { path, recursive } } else { Self::File { path } })
    }
}

pub struct Tree {
    source: Source,
    scope: Scope,
    /// By the kernel's number; every path begins with the root's.
    dirs: HashMap<i32, Vec<u8>>,
    root: i32,
    /// What was told when a new directory was looked through. If it appeared after the watch was set the kernel tells
    /// of it as well; kept until everything that it had by then was taken.
    told: HashSet<Vec<u8>>,
}

impl Tree {
    /// # Errors
    /// The root cannot be watched, or the kernel watches no more directories.
    pub fn new(source: Source, scope: Scope) -> Result<Self, Failure> {
        let dir = match &scope {
            Scope::Directory { path, .. } => path.as_path(),
            Scope::File { path } => path.parent().unwrap_or(Path::new("/")),
        };
        let dir = dir.as_os_str().as_bytes().to_vec();
        let root = source.add(&c_path(&dir)?, true).map_err(source::refusal)?;
        let dirs = HashMap::from([(root, dir)]);
        let mut tree = Self { source, scope, dirs, root, told: HashSet::new() };
        tree.watch_all()?;
        Ok(tree)
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.source.fd()
    }

    /// # Errors
    /// As [`Source::read`].
    pub fn read(&mut self, moves: &mut Moves) -> Result<usize, Failure> {
        self.source.read(moves)
    }

    /// What is watched, as it is told.
    #[must_use]
    pub fn root_path(&self) -> Vec<u8> {
        let (Scope::Directory { path, .. } | Scope::File { path }) = &self.scope;
        path.as_os_str().as_bytes().to_vec()
    }

    #[must_use]
    pub fn is_root(&self, wd: i32) -> bool {
        wd == self.root
    }

    #[must_use]
    pub fn is_of_directory(&self) -> bool {
        matches!(self.scope, Scope::Directory { .. })
    }

    /// `None`: it is not in the scope, or of a directory that is watched no more.
    #[must_use]
    pub fn path_of(&self, happening: &Happening) -> Option<Vec<u8>> {
        let dir = self.dirs.get(&happening.wd)?;
        let path = join(dir, happening.name.as_deref()?);
        match &self.scope {
            Scope::File { path: only } if only.as_os_str().as_bytes() != path => None,
            _ => Some(path),
        }
    }

    /// Watches all that is there and not watched yet, and tells of nothing.
    ///
    /// # Errors
    /// As [`Self::enter`].
    pub fn watch_all(&mut self) -> Result<(), Failure> {
        if !matches!(self.scope, Scope::Directory { recursive: true, .. }) {
            return Ok(());
        }
        self.look_through(vec![self.root_path()], &mut |_| false)
    }

    /// A directory appeared: watches it and all below it. `appeared` is called with each path that is in it already
    /// unless it was watched before; it says whether it told of it.
    ///
    /// # Errors
    /// The kernel watches no more directories. One that is gone again, or may not be read, is passed over.
    pub fn enter(&mut self, dir: &[u8], appeared: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Failure> {
        if !matches!(self.scope, Scope::Directory { recursive: true, .. }) {
            return Ok(());
        }
        match self.add(dir)? {
            Added::New => self.look_through(vec![dir.to_vec()], appeared),
            Added::Known | Added::Gone => Ok(()),
        }
    }

    fn look_through(
        &mut self,
        mut dirs: Vec<Vec<u8>>,
        appeared: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), Failure> {
        while let Some(dir) = dirs.pop() {
            let Ok(entries) = std::fs::read_dir(OsStr::from_bytes(&dir)) else {
                continue;
            };
            for entry in entries.flatten() {
                let path = join(&dir, entry.file_name().as_bytes());
                if appeared(&path) {
                    self.told.insert(path.clone());
                }
                let is_dir = entry.file_type().is_ok_and(|file_type| file_type.is_dir());
                if is_dir && !VIEWS.contains(&path.as_slice()) && !matches!(self.add(&path)?, Added::Gone) {
                    dirs.push(path);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, dir: &[u8]) -> Result<Added, Failure> {
        match self.source.add(&c_path(dir)?, false) {
            Ok(wd) if wd == self.root => Ok(Added::Known), // Bound into itself.
            Ok(wd) => {
                // With another path before, moves were faster than us: what is below is looked through again.
                let before = self.dirs.insert(wd, dir.to_vec());
                Ok(if before.as_deref() == Some(dir) { Added::Known } else { Added::New })
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NAMETOOLONG) => {
                Ok(Added::Gone)
            }
            Err(errno) => Err(source::refusal(errno)),
        }
    }

    /// A directory has another name, and with it everything below.
    pub fn rename(&mut self, old: &[u8], new: &[u8]) {
        for path in self.dirs.values_mut() {
            if is_within(path, old) {
                path.splice(..old.len(), new.iter().copied());
            }
        }
    }

    /// A directory was moved out: nothing in it is told any more.
    pub fn leave(&mut self, dir: &[u8]) {
        let gone: Vec<i32> =
            self.dirs.iter().filter(|(_, path)| is_within(path, dir)).map(|(wd, _)| *wd).collect();
        for wd in gone {
            self.source.remove(wd);
            self.dirs.remove(&wd);
        }
    }

    /// The kernel watches it no more.
    pub fn drop_watch(&mut self, wd: i32) {
        self.dirs.remove(&wd);
    }

    /// Whether it was told already, when its directory was looked through.
    pub fn forget_told(&mut self, path: &[u8]) -> bool {
        self.told.remove(path)
    }

    /// Everything that the kernel had is taken.
    pub fn caught_up(&mut self) {
        self.told = HashSet::new();
    }
}

enum Added {
    New,
    Known,
    /// Or not to be read.
    Gone,
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if dir == b"/" { b"" } else { b"/" };
    [dir, separator, name].concat()
}

fn is_within(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn c_path(path: &[u8]) -> Result<CString, Failure> {
    CString::new(path).map_err(|_| Errno::NOENT.into())
}
