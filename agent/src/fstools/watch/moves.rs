//! The two halves of a move, brought together. The kernel tells of a move by what left and, next or nearly so, by what
//! came; a half alone means that the other end is not watched. Order is kept: what comes behind a half that may still
//! find its other waits with it.

use rustix::fs::inotify::ReadFlags;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a half waits for its other: they are queued by one system call, one right after the other, but on a busy
/// host the kernel may be held up between the two.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many others may come between the two halves.
const BETWEEN_MAX: usize = 64;

/// One record of the kernel's, in our own memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    pub wd: i32,
    pub flags: ReadFlags,
    /// The same for both halves of a move.
    pub cookie: u32,
    /// In the watched directory; `None`: it is about the directory itself.
    pub name: Option<Vec<u8>>,
}

impl Happening {
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.flags.contains(ReadFlags::ISDIR)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    One(Happening),
    Move(Happening, Happening),
}

#[derive(Default)]
pub struct Moves {
    queue: VecDeque<(Instant, Happening)>,
    /// The first in the queue waits for its other half until then.
    waits_until: Option<Instant>,
    /// Nothing more will come: halves wait no longer.
    settled: bool,
}

impl Moves {
    pub fn push(&mut self, happening: Happening, now: Instant) {
        self.queue.push_back((now, happening));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    #[must_use]
    pub fn waits_until(&self) -> Option<Instant> {
        self.waits_until
    }

    pub fn settle(&mut self) {
        self.settled = true;
    }

    /// What is to be told next; `None`: nothing, or not yet (see `waits_until`).
    pub fn next(&mut self, now: Instant) -> Option<Step> {
        self.waits_until = None;
        let (since, first) = self.queue.front()?;
        if first.flags.contains(ReadFlags::MOVED_FROM) {
            let until = *since + PATIENCE;
            let is_other =
                |other: &Happening| other.flags.contains(ReadFlags::MOVED_TO) && other.cookie == first.cookie;
            if let Some(at) = self.queue.iter().take(BETWEEN_MAX).position(|(_, other)| is_other(other)) {
                let (_, other) = self.queue.remove(at)?;
                let (_, first) = self.queue.pop_front()?;
                return Some(Step::Move(first, other));
            }
            if !self.settled && self.queue.len() < BETWEEN_MAX && now < until {
                self.waits_until = Some(until);
                return None;
            }
        }
        self.queue.pop_front().map(|(_, first)| Step::One(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(flags: ReadFlags, cookie: u32) -> Happening {
        Happening { wd: 1, flags, cookie, name: Some(b"x".to_vec()) }
    }
    fn from(cookie: u32) -> Happening {
        happening(ReadFlags::MOVED_FROM, cookie)
    }
    fn to(cookie: u32) -> Happening {
        happening(ReadFlags::MOVED_TO, cookie)
    }
    fn create() -> Happening {
        happening(ReadFlags::CREATE, 0)
    }

    #[test]
    fn halves_meet_over_what_came_between() {
        let now = Instant::now();
        let mut moves = Moves::default();
        for each in [from(1), from(2), create(), to(2), to(1)] {
            moves.push(each, now);
        }
        assert_eq!(moves.next(now), Some(Step::Move(from(1), to(1))));
        assert_eq!(moves.next(now), Some(Step::Move(from(2), to(2))));
        assert_eq!(moves.next(now), Some(Step::One(create())));
        assert_eq!(moves.next(now), None);
        assert_eq!(moves.waits_until(), None);
    }

    #[test]
    fn a_half_alone_waits_a_little_and_nothing_overtakes_it() {
        let now = Instant::now();
        let mut moves = Moves::default();
        moves.push(from(1), now);
        moves.push(create(), now);
        assert_eq!(moves.next(now), None);
        assert_eq!(moves.waits_until(), Some(now + PATIENCE));
        assert_eq!(moves.next(now + PATIENCE), Some(Step::One(from(1))));
        assert_eq!(moves.next(now + PATIENCE), Some(Step::One(create())));
    }

    #[test]
    fn a_half_whose_other_is_far_behind_is_told_alone() {
        let now = Instant::now();
        let mut moves = Moves::default();
        moves.push(from(1), now);
        for _ in 0..BETWEEN_MAX {
            moves.push(create(), now);
        }
        moves.push(to(1), now);
        assert_eq!(moves.next(now), Some(Step::One(from(1))));
    }

    #[test]
    fn at_the_end_nothing_waits() {
        let now = Instant::now();
        let mut moves = Moves::default();
        moves.push(from(1), now);
        moves.settle();
        assert_eq!(moves.next(now), Some(Step::One(from(1))));
        assert_eq!(moves.next(now), None);
    }
}
