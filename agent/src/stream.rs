//! The pure halves of the streams: offsets and bounded buffers, no file descriptors.
//!
//! Both count bytes from the start of the stream and for ever, so a new connection, or a new host process, goes on
//! exactly where the last durable byte ended.

use crate::message::StdinState;
use std::collections::VecDeque;

/// Most bytes of one output stream that are held until the host has them.
pub const OUTPUT_WINDOW: usize = 256 * 1024;
/// Most bytes of one stdin that are held until the program reads them.
pub const STDIN_WINDOW: usize = 256 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum StreamError {
    /// The host speaks of a byte that is not (or no longer) here.
    OutOfRange,
    /// The host sent more than it was allowed to.
    Overrun,
}

/// What a program wrote: `acked <= sent <= received`, and the bytes from `acked` on.
#[derive(Debug, Default)]
pub struct OutputWindow {
    held: VecDeque<u8>,
    acked: u64,
    sent: u64,
}

impl OutputWindow {
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.acked + self.held.len() as u64
    }

    /// How many more bytes may be taken in.
    #[must_use]
    pub fn room(&self) -> usize {
        OUTPUT_WINDOW.saturating_sub(self.held.len())
    }

    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    #[must_use]
    pub fn all_sent(&self) -> bool {
        self.sent == self.received()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend(bytes);
    }

    /// The host has every byte below `offset`. What it got on an earlier connection it may acknowledge on this one
    /// before it was sent again; then it is not.
    ///
    /// # Errors
    /// [`StreamError::OutOfRange`] when `offset` was never received. An old ack is no error.
    pub fn ack(&mut self, offset: u64) -> Result<(), StreamError> {
        if offset > self.received() {
            return Err(StreamError::OutOfRange);
        }
        let gone = usize::try_from(offset.saturating_sub(self.acked)).map_err(|_| StreamError::OutOfRange)?;
        self.held.drain(..gone);
        self.acked += gone as u64;
        self.sent = self.sent.max(self.acked);
        // An idle stream keeps no memory: there may be hundreds.
        if self.held.is_empty() && self.held.capacity() > OUTPUT_WINDOW / 4 {
            self.held = VecDeque::new();
        }
        Ok(())
    }

    /// A new connection: the host has every byte below `offset`, what follows is sent again. Of a host that forgot
    /// what it acknowledged, the rest is all that it can get; it knows from the list where that begins.
    ///
    /// # Errors
    /// [`StreamError::OutOfRange`] when `offset` is above what was received.
    pub fn resume(&mut self, offset: u64) -> Result<(), StreamError> {
        if offset > self.received() {
            return Err(StreamError::OutOfRange);
        }
        self.sent = offset.max(self.acked);
        self.ack(offset)
    }

    /// The next unsent bytes, at most `max`, with their offset, as two slices; then they count as sent.
    pub fn take_unsent(&mut self, max: usize) -> Option<(u64, &[u8], &[u8])> {
        let (offset, start) = (self.sent, usize::try_from(self.sent - self.acked).ok()?);
        let count = (self.held.len() - start).min(max);
        if count == 0 {
            return None;
        }
        self.sent += count as u64;
        let (first, second) = self.held.as_slices();
        let (end, split) = (start + count, first.len());
        let front = &first[start.min(split)..end.min(split)];
        let back = &second[start.saturating_sub(split)..end.saturating_sub(split)];
        Some((offset, front, back))
    }
}

/// What the host sent and the program has not read yet: `written <= accepted <= limit`.
#[derive(Debug, Default)]
pub struct StdinBuffer {
    held: VecDeque<u8>,
    written: u64,
    eof_at: Option<u64>,
    closed: bool,
}

impl StdinBuffer {
    #[must_use]
    pub fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }

    #[must_use]
    pub fn state(&self) -> StdinState {
        StdinState {
            accepted: self.accepted(),
            limit: self.written + STDIN_WINDOW as u64,
            closed: self.closed || self.eof_at.is_some(),
        }
    }

    fn accepted(&self) -> u64 {
        self.written + self.held.len() as u64
    }

    /// Takes the bytes over. Those below what was accepted are a repetition and skipped.
    ///
    /// # Errors
    /// [`StreamError::OutOfRange`] for a gap, [`StreamError::Overrun`] past the limit.
    pub fn receive(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StreamError> {
        // What the host sent before it heard of the end: not a byte of it is taken, so the next seems to leave a gap.
        if self.closed {
            return Ok(());
        }
        let accepted = self.accepted();
        if offset > accepted {
            return Err(StreamError::OutOfRange);
        }
        let known = usize::try_from(accepted - offset).unwrap_or(usize::MAX);
        let fresh = bytes.get(known..).unwrap_or_default();
        if self.eof_at.is_some() {
            return Ok(());
        }
        if self.held.len() + fresh.len() > STDIN_WINDOW {
            return Err(StreamError::Overrun);
        }
        self.held.extend(fresh);
        Ok(())
    }

    /// The stream ends at `offset`, which must be what was accepted; asking twice is no error.
    ///
    /// # Errors
    /// [`StreamError::OutOfRange`] for any other offset.
    pub fn end(&mut self, offset: u64) -> Result<(), StreamError> {
        match self.eof_at {
            None if self.closed || offset == self.accepted() => {
                self.eof_at = Some(offset);
                Ok(())
            }
            Some(at) if at == offset => Ok(()),
            _ => Err(StreamError::OutOfRange),
        }
    }

    /// The bytes to write next.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.held.as_slices().0
    }

    pub fn wrote(&mut self, count: usize) {
        self.held.drain(..count);
        self.written += count as u64;
    }

    /// All was written and no more will come.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.held.is_empty() && self.eof_at.is_some()
    }

    /// Nobody reads any more: what was accepted is dropped, as a broken pipe does.
    pub fn close(&mut self) {
        self.written += self.held.len() as u64;
        self.held = VecDeque::new();
        self.closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsent(window: &mut OutputWindow, max: usize) -> Option<(u64, Vec<u8>)> {
        window.take_unsent(max).map(|(offset, front, back)| (offset, [front, back].concat()))
    }

    #[test]
    fn output_is_sent_once_and_again_from_where_the_host_says() {
        let mut window = OutputWindow::default();
        window.push(b"abcdef");
        assert_eq!(unsent(&mut window, 4), Some((0, b"abcd".to_vec())));
        assert_eq!(unsent(&mut window, 4), Some((4, b"ef".to_vec())));
        assert_eq!(unsent(&mut window, 4), None);
        assert_eq!(window.ack(2), Ok(()));
        assert_eq!(window.resume(3), Ok(()));
        assert_eq!(unsent(&mut window, 9), Some((3, b"def".to_vec())));
    }

    #[test]
    fn every_cut_of_a_stream_gives_the_same_bytes() {
        let mut window = OutputWindow::default();
        let mut seen = Vec::new();
        // The ring wraps around many times, at odd places.
        for round in 0..5_000u32 {
            window.push(&round.to_le_bytes()[..(round % 4 + 1) as usize]);
            if round % 3 == 0 {
                while let Some((offset, bytes)) = unsent(&mut window, 7) {
                    assert_eq!(offset, seen.len() as u64);
                    seen.extend(bytes);
                }
                window.ack(seen.len() as u64 - u64::from(round % 2)).unwrap();
            }
        }
        let expected: Vec<u8> =
            (0..5_000u32).flat_map(|n| n.to_le_bytes()[..(n % 4 + 1) as usize].to_vec()).collect();
        assert_eq!(seen, expected[..seen.len()]);
    }

    #[test]
    fn an_ack_or_a_resume_outside_what_is_held_is_refused() {
        let mut window = OutputWindow::default();
        window.push(b"abc");
        assert_eq!(window.ack(4), Err(StreamError::OutOfRange));
        window.ack(2).unwrap();
        assert_eq!(window.ack(1), Ok(()));
        assert_eq!(unsent(&mut window, 3), Some((2, b"c".to_vec())));
        assert_eq!(window.resume(4), Err(StreamError::OutOfRange));
        assert_eq!(window.resume(1), Ok(()));
        assert_eq!(unsent(&mut window, 3), Some((2, b"c".to_vec())));
    }

    #[test]
    fn the_window_is_bounded() {
        let mut window = OutputWindow::default();
        window.push(&vec![0; OUTPUT_WINDOW]);
        assert_eq!(window.room(), 0);
    }

    #[test]
    fn stdin_skips_what_it_has_and_refuses_gaps() {
        let mut stdin = StdinBuffer::default();
        stdin.receive(0, b"abc").unwrap();
        stdin.receive(1, b"bcd").unwrap();
        stdin.receive(0, b"ab").unwrap();
        assert_eq!(stdin.pending(), b"abcd");
        assert_eq!(stdin.receive(5, b"x"), Err(StreamError::OutOfRange));
        stdin.wrote(4);
        assert_eq!(stdin.state(), StdinState { accepted: 4, limit: 4 + STDIN_WINDOW as u64, closed: false });
    }

    #[test]
    fn stdin_refuses_more_than_its_window() {
        let mut stdin = StdinBuffer::default();
        stdin.receive(0, &vec![0; STDIN_WINDOW]).unwrap();
        assert_eq!(stdin.receive(STDIN_WINDOW as u64, b"x"), Err(StreamError::Overrun));
    }

    #[test]
    fn stdin_that_nobody_reads_swallows_what_was_under_way() {
        let mut stdin = StdinBuffer::default();
        stdin.receive(0, b"abc").unwrap();
        stdin.close();
        stdin.receive(3, b"def").unwrap();
        stdin.receive(6, b"ghi").unwrap();
        assert_eq!(stdin.state().accepted, 3);
    }

    #[test]
    fn stdin_ends_once_at_one_offset() {
        let mut stdin = StdinBuffer::default();
        stdin.receive(0, b"ab").unwrap();
        assert_eq!(stdin.end(1), Err(StreamError::OutOfRange));
        stdin.end(2).unwrap();
        stdin.end(2).unwrap();
        assert!(!stdin.finished());
        stdin.wrote(2);
        assert!(stdin.finished());
        // A repetition from before the end is harmless.
        stdin.receive(0, b"ab").unwrap();
        assert_eq!(stdin.state().accepted, 2);
    }
}
