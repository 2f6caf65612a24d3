//! Lines to stdout, without ever waiting for the reader: what does not fit is dropped, and that is told.

use super::super::command::EventType;
use super::super::failure::Failure;
use crate::agent::timespec;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;
use std::borrow::Cow;
use std::io;
use std::time::Instant;

/// What may wait for a reader that is slow: some ten thousand lines.
const PENDING_MAX: usize = 1024 * 1024;

#[derive(Serialize)]
struct Line<'a> {
    event_type: EventType,
    paths: Vec<Cow<'a, str>>,
}

pub struct Output {
    fd: OwnedFd,
    /// Its flags as they were.
    flags: OFlags,
    pending: Vec<u8>,
    filter: Option<Vec<EventType>>,
    root: Vec<u8>,
    /// Something was dropped, here or by the kernel, and not told yet.
    lost: bool,
}

impl Output {
    /// # Errors
    /// There is no stdout.
    pub fn new(filter: Option<Vec<EventType>>, root: Vec<u8>) -> Result<Self, Failure> {
        Self::to(io::stdout().as_fd().try_clone_to_owned()?, filter, root)
    }

    fn to(fd: OwnedFd, filter: Option<Vec<EventType>>, root: Vec<u8>) -> Result<Self, Failure> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self { fd, flags, pending: Vec::new(), filter, root, lost: false })
    }

    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub fn tell(&mut self, event_type: EventType, paths: &[&[u8]]) {
        if self.filter.as_ref().is_none_or(|filter| filter.contains(&event_type)) {
            self.push(event_type, paths);
        }
    }

    /// Changes were lost. The reader learns it by an Unknown of the watched path, unless it wants nothing at all: no
    /// filter is meant to keep that from it.
    pub fn lost(&mut self) {
        self.lost |= self.filter.as_ref().is_none_or(|filter| !filter.is_empty());
    }

    fn push(&mut self, event_type: EventType, paths: &[&[u8]]) {
        if self.lost || self.pending.len() > PENDING_MAX {
            self.lost = true;
            return;
        }
        let line =
            Line { event_type, paths: paths.iter().map(|path| String::from_utf8_lossy(path)).collect() };
        if serde_json::to_writer(&mut self.pending, &line).is_ok() {
            self.pending.push(b'\n');
        }
    }

    /// Writes what the reader takes now. That nobody reads any more is seen by polling.
    pub fn write(&mut self) {
        loop {
            if self.lost && self.pending.len() <= PENDING_MAX {
                self.lost = false;
                let root = std::mem::take(&mut self.root);
                self.push(EventType::Unknown, &[&root]);
                self.root = root;
            }
            if self.pending.is_empty() {
                return;
            }
            match rustix::io::write(&self.fd, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Writes the rest, until `until` at most, and leaves stdout as it was.
    pub fn finish(&mut self, until: Instant) {
        self.write();
        while !self.pending.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), PollFlags::OUT)];
            let polled = rustix::event::poll(&mut fds, Some(&timespec(left)));
            let ready = fds[0].revents();
            if left.is_zero() || !matches!(polled, Ok(1) | Err(Errno::INTR)) || ready.contains(PollFlags::ERR)
            {
                break;
            }
            self.write();
        }
        let _ = rustix::fs::fcntl_setfl(&self.fd, self.flags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe(filter: Option<Vec<EventType>>) -> (std::fs::File, Output) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (reader.into(), Output::to(writer, filter, b"/root".to_vec()).unwrap())
    }

    fn read_all(mut reader: std::fs::File, output: Output) -> String {
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_is_an_object_and_the_filter_decides() {
        let (reader, mut output) = pipe(Some(vec![EventType::Rename]));
        output.tell(EventType::Create, &[b"/root/a"]);
        output.tell(EventType::Rename, &[b"/root/a", b"/root/\xff\""]);
        output.write();
        assert_eq!(
            read_all(reader, output),
            "{\"event_type\":\"Rename\",\"paths\":[\"/root/a\",\"/root/\u{fffd}\\\"\"]}\n"
        );
    }

    #[test]
    fn a_slow_reader_learns_that_lines_were_dropped_and_memory_stays_bounded() {
        let (mut reader, mut output) = pipe(Some(vec![EventType::Create]));
        let name = [b'x'; 4096];
        for _ in 0..1000 {
            output.tell(EventType::Create, &[&name]);
            output.write();
        }
        assert!(output.pending.len() < PENDING_MAX + 10_000);
        let mut taken = Vec::new();
        while !output.is_empty() {
            let mut piece = vec![0; 65_536];
            let count = reader.read(&mut piece).unwrap();
            taken.extend_from_slice(&piece[..count]);
            output.write();
        }
        output.tell(EventType::Create, &[b"/root/later"]);
        output.write();
        let text = String::from_utf8(taken).unwrap() + &read_all(reader, output);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() < 1000);
        assert_eq!(
            lines[lines.len() - 2..],
            [
                r#"{"event_type":"Unknown","paths":["/root"]}"#,
                r#"{"event_type":"Create","paths":["/root/later"]}"#
            ]
        );
    }

    #[test]
    fn an_empty_filter_wants_to_know_nothing() {
        let (reader, mut output) = pipe(Some(vec![]));
        output.tell(EventType::Create, &[b"/root/a"]);
        output.lost();
        output.write();
        assert_eq!(read_all(reader, output), "");
    }
}
