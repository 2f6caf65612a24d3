//! The descriptors of an exec's streams: pipes, or a terminal.

use crate::message::PtySize;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// What a pipe holds, where the kernel allows it.
pub const PIPE_CAPACITY: usize = 256 * 1024;

/// Both ends of an exec's streams. What the child gets is closed here when this is dropped.
pub struct Ends<'a> {
    pub child: [ChildEnd<'a>; 3],
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: Option<OwnedFd>,
    pub pty: Option<OwnedFd>,
}

pub enum ChildEnd<'a> {
    Own(OwnedFd),
    Shared(BorrowedFd<'a>),
}

impl ChildEnd<'_> {
    #[must_use]
    pub fn as_raw_fd(&self) -> i32 {
        match self {
            Self::Own(fd) => fd.as_raw_fd(),
            Self::Shared(fd) => fd.as_raw_fd(),
        }
    }
}

impl<'a> Ends<'a> {
    /// Pipes; without stdin the child gets `null` there.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn pipes(with_stdin: bool, null: BorrowedFd<'a>) -> Result<Self, Errno> {
        let (stdout, stdout_child) = pipe()?;
        let (stderr, stderr_child) = pipe()?;
        // Only our ends: a program expects its own to block. Also for reading, since root inside could read from
        // our end through /proc and leave us waiting for bytes that poll had promised.
        rustix::fs::fcntl_setfl(&stdout, OFlags::NONBLOCK)?;
        rustix::fs::fcntl_setfl(&stderr, OFlags::NONBLOCK)?;
        let (stdin_child, stdin) = if with_stdin {
            let (read, write) = pipe()?;
            rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK)?;
            (ChildEnd::Own(read), Some(write))
        } else {
            (ChildEnd::Shared(null), None)
        };
        Ok(Self {
            child: [stdin_child, ChildEnd::Own(stdout_child), ChildEnd::Own(stderr_child)],
            stdin,
            stdout,
            stderr: Some(stderr),
            pty: None,
        })
    }

    /// A terminal, which is the user's.
    ///
    /// # Errors
    /// No descriptors or no terminals are left, or there is no /dev/ptmx.
    pub fn terminal(size: PtySize, uid: Option<u32>) -> Result<Self, Errno> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
        rustix::termios::tcsetwinsize(&master, winsize(size))?;
        if let Some(uid) = uid {
            // So that the user's programs can open their own terminal by name; without it they still run.
            let _ = rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        let copy = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        let (stdin, pty) = (copy(&master)?, copy(&master)?);
        let child = [ChildEnd::Own(copy(&slave)?), ChildEnd::Own(copy(&slave)?), ChildEnd::Own(slave)];
        Ok(Self { child, stdin: Some(stdin), stdout: master, stderr: None, pty: Some(pty) })
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let ends = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // A smaller one is as right, only slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&ends.0, PIPE_CAPACITY);
    Ok(ends)
}

#[must_use]
pub fn winsize(size: PtySize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
