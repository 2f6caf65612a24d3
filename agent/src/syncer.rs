//! sync(2) with a time limit: it may hang as long as the storage does, so it runs on a thread of its own.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

struct Waiting {
    id: u64,
    until: Instant,
    /// The run that covers everything written before the request.
    run: u64,
}

pub struct Syncer {
    waiting: Vec<Waiting>,
    /// Runs that were started, and that have ended. At most one is under way.
    started: u64,
    ended: u64,
    done: OwnedFd,
    tell: OwnedFd,
}

impl Syncer {
    /// # Errors
    /// No descriptor is left for the pipe.
    pub fn new() -> Result<Self, Errno> {
        let (done, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok(Self { waiting: Vec::new(), started: 0, ended: 0, done, tell })
    }

    /// Becomes readable when a run ends.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Asks for a sync. A run under way began before and may have passed by what was written since: the request
    /// waits for the next one.
    pub fn request(&mut self, id: u64, timeout: Duration, now: Instant) {
        let until = now.checked_add(timeout).unwrap_or(now);
        self.waiting.push(Waiting { id, until, run: self.started + 1 });
        self.start_if_idle();
    }

    fn start_if_idle(&mut self) {
        let wanted = self.waiting.iter().any(|waiting| waiting.run > self.started);
        if !wanted || self.started > self.ended {
            return;
        }
        let Ok(tell) = self.tell.try_clone() else {
            return;
        };
        let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            rustix::fs::sync();
            let _ = rustix::io::write(&tell, b"x");
        });
        if thread.is_ok() {
            self.started += 1;
        }
    }

    /// A run has ended; returns the requests that it satisfies.
    pub fn on_ready(&mut self) -> Vec<u64> {
        let mut byte = [0];
        if !matches!(rustix::io::read(&self.done, &mut byte), Ok(1)) {
            return Vec::new();
        }
        self.ended += 1;
        let ended = self.ended;
        let satisfied = self.take(|waiting| waiting.run <= ended);
        self.start_if_idle();
        satisfied
    }

    /// Returns the requests whose time is over; their run goes on without them.
    pub fn on_time(&mut self, now: Instant) -> Vec<u64> {
        self.take(|waiting| waiting.until <= now)
    }

    /// The connection that asked is gone.
    pub fn forget(&mut self) {
        self.waiting.clear();
    }

    fn take(&mut self, which: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        let (taken, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting| which(waiting));
        self.waiting = kept;
        taken.iter().map(|waiting: &Waiting| waiting.id).collect()
    }
}
