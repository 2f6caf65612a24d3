//! Watch: what happens under a path, told as lines of JSON while it happens.
//!
//! The kernel queues what it sees of each watched directory; this loop takes it from there, pairs the two halves of a
//! move (`moves`), keeps the set of watched directories true (`tree`) and writes lines (`output`). It ends at the
//! timeout, when stdin ends, when nobody reads stdout any more, and when the watched path itself is gone.

mod moves;
mod output;
mod source;
mod tree;

use super::command::{EventType, WatchOptions};
use super::failure::{Failure, Kind};
use crate::agent::timespec;
use moves::{Happening, Moves, Step};
use output::Output;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::fs::inotify::ReadFlags;
use rustix::io::Errno;
use source::Source;
use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tree::{Scope, Tree};

/// How long the last lines may take when the watch ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// # Errors
/// [`Kind::NotFound`] at once; [`Kind::PermissionDenied`]; [`Kind::Io`] when the kernel watches no more directories.
pub fn watch(options: &WatchOptions) -> Result<(), Failure> {
    let path = std::fs::canonicalize(&options.path).map_err(not_found)?;
    let timeout = options.timeout_secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Ok(());
    }
    let source = Source::new(options.filter.as_deref())?;
    let tree = Tree::new(source, Scope::of(path, options.recursive)?)?;
    let output = Output::new(options.filter.clone(), tree.root_path())?;
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut watch = Watch { tree, output, moves: Moves::default() };
    let ended = watch.run(until);
    // What was seen before the end is told, if anybody is there to read it.
    if ended.is_ok() {
        watch.moves.settle();
        let _ = watch.tell();
    }
    watch.output.finish(Instant::now() + LAST_LINES);
    ended
}

/// A part of the path that is no directory makes it a path that does not exist.
fn not_found(error: io::Error) -> Failure {
    match Failure::from(error) {
        Failure { kind: Kind::NotDirectory, .. } => Errno::NOENT.into(),
        failure => failure,
    }
}

struct Watch {
    tree: Tree,
    output: Output,
    moves: Moves,
}

impl Watch {
    fn run(&mut self, until: Option<Instant>) -> Result<(), Failure> {
        let stdin = io::stdin();
        loop {
            if self.take()?.is_break() {
                return Ok(());
            }
            self.output.write();
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(());
            }
            let wake = [until, self.moves.waits_until()].into_iter().flatten().min();
            let timeout = wake.map(|at| timespec(at.saturating_duration_since(now)));
            let stdout = if self.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = [
                PollFd::from_borrowed_fd(self.tree.fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.output.fd(), stdout),
            ];
            if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
                continue; // Interrupted.
            }
            let [_, input, output] = fds.map(|fd| fd.revents());
            let nobody_reads = output.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
            if nobody_reads || !input.is_empty() && has_ended(&stdin) {
                return Ok(());
            }
        }
    }

    /// Takes everything that the kernel has. `Break`: the watched path itself is gone.
    fn take(&mut self) -> Result<ControlFlow<()>, Failure> {
        loop {
            let taken = self.tree.read(&mut self.moves)?;
            if self.tell()?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if taken == 0 {
                if self.moves.is_empty() {
                    self.tree.caught_up();
                }
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    fn tell(&mut self) -> Result<ControlFlow<()>, Failure> {
        while let Some(step) = self.moves.next(Instant::now()) {
            let flow = match step {
                Step::One(happening) => self.tell_one(&happening)?,
                Step::Move(from, to) => self.tell_move(&from, &to)?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn tell_move(&mut self, from: &Happening, to: &Happening) -> Result<ControlFlow<()>, Failure> {
        match (self.tree.path_of(from), self.tree.path_of(to)) {
            (Some(old), Some(new)) => {
                self.output.tell(EventType::Rename, &[&old, &new]);
                self.tree.forget_told(&old);
                if to.is_dir() {
                    self.tree.rename(&old, &new);
                    // Not watched so far if it was new a moment ago.
                    self.enter(&new, true)?;
                }
                Ok(ControlFlow::Continue(()))
            }
            (Some(_), None) => self.tell_one(from),
            (None, Some(_)) => self.tell_one(to),
            (None, None) => Ok(ControlFlow::Continue(())),
        }
    }

    fn tell_one(&mut self, happening: &Happening) -> Result<ControlFlow<()>, Failure> {
        let flags = happening.flags;
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.output.lost();
            self.tree.watch_all()?;
            return Ok(ControlFlow::Continue(()));
        }
        if happening.name.is_none() {
            return Ok(self.tell_of_itself(happening));
        }
        let Some(path) = self.tree.path_of(happening) else {
            return Ok(ControlFlow::Continue(()));
        };
        let is_dir = happening.is_dir();
        if flags.contains(ReadFlags::CREATE) {
            if !self.tree.forget_told(&path) {
                self.output.tell(EventType::Create, &[&path]);
            }
            if is_dir {
                self.enter(&path, true)?;
            }
        } else if flags.contains(ReadFlags::MOVED_TO) {
            self.output.tell(EventType::RenameTo, &[&path]);
            if is_dir {
                self.enter(&path, false)?;
            }
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            self.output.tell(EventType::RenameFrom, &[&path]);
            self.tree.forget_told(&path);
            if is_dir {
                self.tree.leave(&path);
            }
        } else if flags.contains(ReadFlags::DELETE) {
            self.output.tell(EventType::Remove, &[&path]);
            self.tree.forget_told(&path);
        } else if flags.intersects(ReadFlags::MODIFY | ReadFlags::ATTRIB) {
            self.output.tell(EventType::Modify, &[&path]);
        } else if flags.intersects(ACCESS) && !is_dir {
            // Of directories it would be this watch's own looking around, among others.
            self.output.tell(EventType::Access, &[&path]);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Something happened to a watched directory itself. Of all but the root the directory above tells.
    fn tell_of_itself(&mut self, happening: &Happening) -> ControlFlow<()> {
        let flags = happening.flags;
        if flags.contains(ReadFlags::IGNORED) {
            let was_root = self.tree.is_root(happening.wd);
            self.tree.drop_watch(happening.wd);
            return if was_root { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        if !self.tree.is_root(happening.wd) {
            return ControlFlow::Continue(());
        }
        let (event, ends) = if flags.contains(ReadFlags::DELETE_SELF) {
            (Some(EventType::Remove), true)
        } else if flags.contains(ReadFlags::MOVE_SELF) {
            (Some(EventType::RenameFrom), true)
        } else if flags.contains(ReadFlags::UNMOUNT) {
            (Some(EventType::Unknown), true)
        } else if flags.contains(ReadFlags::ATTRIB) {
            (Some(EventType::Modify), false)
        } else {
            (None, false)
        };
        // Of a file's directory only what takes the file away is told, and its removal was told before.
        let told = event.filter(|event| match event {
            EventType::Remove | EventType::Modify => self.tree.is_of_directory(),
            _ => true,
        });
        if let Some(event) = told {
            self.output.tell(event, &[&self.tree.root_path()]);
        }
        if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// A directory appeared. What is in it already appeared before it was watched: with `new` that is told.
    fn enter(&mut self, path: &[u8], new: bool) -> Result<(), Failure> {
        let output = &mut self.output;
        self.tree.enter(path, &mut |path| {
            if new {
                output.tell(EventType::Create, &[path]);
            }
            new
        })
    }
}

const ACCESS: ReadFlags = ReadFlags::OPEN.union(ReadFlags::CLOSE_WRITE).union(ReadFlags::CLOSE_NOWRITE);

/// Bytes on stdin mean nothing; its end does.
fn has_ended(stdin: &io::Stdin) -> bool {
    let mut bytes = [0; 256];
    match rustix::io::read(stdin, &mut bytes) {
        Ok(count) => count == 0,
        Err(Errno::AGAIN | Errno::INTR) => false,
        Err(_) => true,
    }
}
