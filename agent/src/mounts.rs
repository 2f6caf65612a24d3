//! Binds of directories from the mount slots into the sandbox's tree: volumes come and go in a running sandbox.

use crate::message::Mount;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::fmt;

#[derive(Debug)]
pub enum MountError {
    /// Something else is bound there, and `replace` was not asked for.
    Busy,
    NotBound,
    /// Paths are absolute and have no `..`.
    BadPath,
    Refused(&'static str, Errno),
}

impl MountError {
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy => "TARGET_BUSY",
            Self::NotBound => "NOT_BOUND",
            Self::BadPath => "INVALID",
            Self::Refused(..) => "MOUNT_FAILED",
        }
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another directory is bound there"),
            Self::NotBound => f.write_str("nothing is bound there"),
            Self::BadPath => f.write_str("a path must be absolute and without .."),
            Self::Refused(step, errno) => write!(f, "cannot {step}: {errno}"),
        }
    }
}

#[derive(Default)]
pub struct Mounts {
    bound: Vec<Mount>,
}

impl Mounts {
    #[must_use]
    pub fn list(&self) -> &[Mount] {
        &self.bound
    }

    /// Binds `wanted.source` to `wanted.target`, which is made if missing. The same bind again is no error; with
    /// `replace` the one that is there now goes first.
    ///
    /// # Errors
    /// [`MountError`]; what was half done is undone.
    pub fn bind(&mut self, wanted: Mount, replace: bool) -> Result<(), MountError> {
        if !is_plain(&wanted.source) || !is_plain(&wanted.target) {
            return Err(MountError::BadPath);
        }
        if self.bound.contains(&wanted) {
            return Ok(());
        }
        if self.bound.iter().any(|mount| mount.target == wanted.target) {
            if !replace {
                return Err(MountError::Busy);
            }
            self.unbind(&wanted.target)?;
        }
        std::fs::create_dir_all(&wanted.target)
            .map_err(|error| MountError::Refused("make the target", errno_of(&error)))?;
        rustix::mount::mount_bind(&wanted.source, &wanted.target)
            .map_err(|errno| MountError::Refused("bind", errno))?;
        if wanted.read_only {
            let flags = MountFlags::BIND | MountFlags::RDONLY;
            // The kernel ignores "read-only" in the bind itself; it takes this second step.
            if let Err(errno) = rustix::mount::mount_remount(&wanted.target, flags, c"") {
                let _ = rustix::mount::unmount(&wanted.target, UnmountFlags::DETACH);
                return Err(MountError::Refused("make it read-only", errno));
            }
        }
        self.bound.push(wanted);
        Ok(())
    }

    /// Takes a bind away, also while programs have files open in it: those keep them.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn unbind(&mut self, target: &str) -> Result<(), MountError> {
        let Some(at) = self.bound.iter().position(|mount| mount.target == target) else {
            return Err(MountError::NotBound);
        };
        match rustix::mount::unmount(target, UnmountFlags::DETACH) {
            // Root inside may have unmounted it: then it is gone, as was wanted.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {
                self.bound.remove(at);
                Ok(())
            }
            Err(errno) => Err(MountError::Refused("unmount", errno)),
        }
    }
}

fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "..")
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_and_unknown_targets_are_refused() {
        let mut mounts = Mounts::default();
        for target in ["data", "", "/a/../b", "/a\0b"] {
            let wanted = Mount { source: "/tmp".into(), target: target.into(), read_only: false };
            assert_eq!(mounts.bind(wanted, false).unwrap_err().code(), "INVALID");
        }
        assert_eq!(mounts.unbind("/data").unwrap_err().code(), "NOT_BOUND");
    }
}
