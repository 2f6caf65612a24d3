//! The kernel's queue of what happened, and which directories it looks at.

use super::super::command::EventType;
use super::super::failure::{Failure, Kind};
use super::moves::{Happening, Moves};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::Access;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::time::Instant;

/// Room for at least 200 records of the longest names.
const BUFFER: usize = 64 * 1024;

pub struct Source {
    inotify: OwnedFd,
    /// Of every watched directory.
    flags: WatchFlags,
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Source {
    /// Only what `filter` lets through is asked for, and what the set of directories hangs on.
    ///
    /// # Errors
    /// The kernel gives no more queues.
    pub fn new(filter: Option<&[EventType]>) -> Result<Self, Failure> {
        let wants = |event| filter.is_none_or(|filter| filter.contains(&event));
        let mut flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::EXCL_UNLINK;
        if wants(EventType::Modify) {
            flags |= WatchFlags::MODIFY | WatchFlags::ATTRIB;
        }
        if wants(EventType::Access) {
            // Not each read, which would push everything else out of the queue.
            flags |= WatchFlags::OPEN | WatchFlags::CLOSE;
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, flags, buffer: vec![MaybeUninit::uninit(); BUFFER].into() })
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// The number by which the kernel tells of `dir` from now on. The same for the same directory.
    pub fn add(&self, dir: &CStr, is_root: bool) -> Result<i32, Errno> {
        // Linux asks for this right by itself, gVisor does not.
        rustix::fs::access(dir, Access::READ_OK)?;
        let more =
            if is_root { WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF } else { WatchFlags::DONT_FOLLOW };
        inotify::add_watch(&self.inotify, dir, self.flags | WatchFlags::ONLYDIR | more)
    }

    pub fn remove(&self, wd: i32) {
        let _ = inotify::remove_watch(&self.inotify, wd); // It may be gone with its directory.
    }

    /// Takes one buffer full at most; returns how many there were.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn read(&mut self, moves: &mut Moves) -> Result<usize, Failure> {
        let now = Instant::now();
        let mut reader = inotify::Reader::new(&self.inotify, &mut self.buffer);
        let mut count = 0;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(count),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            moves.push(
                Happening {
                    wd: event.wd(),
                    flags: event.events(),
                    cookie: event.cookie(),
                    name: event
                        .file_name()
                        .filter(|name| !name.is_empty())
                        .map(|name| name.to_bytes().to_vec()),
                },
                now,
            );
            count += 1;
            if reader.is_buffer_empty() {
                return Ok(count);
            }
        }
    }
}

/// What it means when a directory cannot be watched.
#[must_use]
pub fn refusal(errno: Errno) -> Failure {
    match errno {
        Errno::NOSPC => Failure::new(
            Kind::Io,
            "too many directories to watch: watch fewer, or raise fs.inotify.max_user_watches",
        ),
        other => other.into(),
    }
}
