//! One output stream of a program, from the descriptor to the window that the host takes it from.

use crate::stream::OutputWindow;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::time::{Duration, Instant};

/// So much of a stream is taken the moment it comes: what most programs print in all, and all that a pipe holds unless it
/// is made larger.
const EAGER: u64 = 64 * 1024;
/// After that a stream is left alone for so long after a read that emptied it: a program that prints much in small
/// pieces is woken for a heap of them and not for each. The pipe holds what it writes meanwhile: 256 KiB in each
/// millisecond are 256 MiB/s, above what gVisor carries (60 measured).
const REST: Duration = Duration::from_millis(1);
/// What a stream may hold when memory is scarce, so that each still moves on.
const PAGE: usize = 4096;

/// One output: the descriptor that it is read from until its end, and what was read.
#[derive(Default)]
pub struct Output {
    source: Option<OwnedFd>,
    pub window: OutputWindow,
    complete: bool,
    /// After the drain limit: what was in the pipe then, and is still taken.
    last: Option<usize>,
    rests_until: Option<Instant>,
}

impl Output {
    #[must_use]
    pub fn open(source: OwnedFd) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// A terminal has no stderr: complete, and empty.
    #[must_use]
    pub fn absent() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// The descriptor to wait on, while there is room for more. `scarce`: all streams together hold too much.
    #[must_use]
    pub fn wants(&self, scarce: bool, now: Instant) -> Option<BorrowedFd<'_>> {
        let rests = self.rests_until.is_some_and(|until| until > now);
        self.source.as_ref().filter(|_| !rests && self.room(scarce) > 0).map(AsFd::as_fd)
    }

    /// When it wants to be read again.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| self.source.is_some() && *until > now)
    }

    fn room(&self, scarce: bool) -> usize {
        let room = if scarce { PAGE.saturating_sub(self.window.held()) } else { self.window.room() };
        room.min(self.last.unwrap_or(usize::MAX))
    }

    /// Reads once into the window.
    pub fn read(&mut self, scratch: &mut [u8], scarce: bool) {
        let most = scratch.len().min(self.room(scarce));
        let Some(source) = self.source.as_ref().filter(|_| most > 0) else {
            return;
        };
        match rustix::io::read(source, &mut scratch[..most]) {
            Ok(count) if count > 0 => {
                self.window.push(&scratch[..count]);
                let rests = count < most && self.window.received() > EAGER;
                self.rests_until = rests.then(|| Instant::now() + REST);
                if let Some(last) = &mut self.last {
                    *last -= count;
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {
                // Of a cut stream someone else took the rest.
                self.last = self.last.map(|_| 0);
            }
            // A terminal whose last program is gone answers EIO: that is its end of file.
            Ok(_) | Err(_) => self.end(),
        }
    }

    /// The end of file was seen.
    pub fn end(&mut self) {
        self.source = None;
        self.complete = true;
    }

    /// The drain limit passed: what is in the pipe now is the last that is taken.
    pub fn cut(&mut self) {
        if let Some(source) = self.source.as_ref().filter(|_| self.last.is_none()) {
            let waiting = rustix::io::ioctl_fionread(source).unwrap_or(0);
            self.last = Some(usize::try_from(waiting).unwrap_or(0));
        }
    }

    /// Takes the last bytes of a cut stream, and when there are none left, its descriptor out.
    pub fn take_cut(&mut self, scratch: &mut [u8], scarce: bool) -> Option<OwnedFd> {
        if self.last.is_some() {
            self.read(scratch, scarce);
        }
        if self.last != Some(0) {
            return None;
        }
        // A slow host can bring a stream to its limit that nobody holds any more: then this was all of it.
        if self.source.as_ref().is_some_and(is_at_end) {
            self.end();
        }
        self.source.take()
    }

    /// The end of file was seen, so every byte was taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Still read, with no limit to what is taken.
    #[must_use]
    pub fn is_uncut(&self) -> bool {
        self.source.is_some() && self.last.is_none()
    }

    #[must_use]
    pub fn closed(&self) -> bool {
        self.source.is_none()
    }
}

/// Whether every writer is gone and nothing is left to read.
fn is_at_end(source: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(source, PollFlags::IN)];
    let polled = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && fds[0].revents().contains(PollFlags::HUP) && !fds[0].revents().contains(PollFlags::IN)
}
