//! One exec: a program, its three streams and how it ended.
//!
//! ```text
//!   running -> ended -> drained -> (exit sent) -> acknowledged
//! ```
//! `drained`: both outputs saw their end of file, or 2 s passed while a background child held them.

use crate::frame::Stream;
use crate::message::{ExecSpec, Exit, OpenState, PtySize, StdinState};
use crate::spawn::{Program, SpawnError, Spawner};
use crate::stream::{OutputWindow, StdinBuffer, StreamError};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::time::{Duration, Instant};

/// How long after its end what the program left in its pipes is waited for.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);
/// What a stream may hold when memory is scarce, so that each still moves on.
const PAGE: usize = 4096;
/// End of file for a terminal (^D).
const VEOF: &[u8] = &[4];

/// One output: the descriptor that it is read from until its end, and what was read.
#[derive(Default)]
pub struct Output {
    source: Option<OwnedFd>,
    pub window: OutputWindow,
    complete: bool,
    /// After the drain limit: what was in the pipe then, and is still taken.
    last: Option<usize>,
}

impl Output {
    fn open(source: OwnedFd) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// A terminal has no stderr: complete, and empty.
    fn absent() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// The descriptor to wait on, while there is room for more. `scarce`: all streams together hold too much.
    #[must_use]
    pub fn wants(&self, scarce: bool) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().filter(|_| self.room(scarce) > 0).map(AsFd::as_fd)
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
    fn cut(&mut self) {
        if let Some(source) = self.source.as_ref().filter(|_| self.last.is_none()) {
            let waiting = rustix::io::ioctl_fionread(source).unwrap_or(0);
            self.last = Some(usize::try_from(waiting).unwrap_or(0));
        }
    }

    /// Takes the last bytes of a cut stream, and when there are none left, its descriptor out.
    fn take_cut(&mut self, scratch: &mut [u8], scarce: bool) -> Option<OwnedFd> {
        if self.last.is_some() {
            self.read(scratch, scarce);
        }
        if self.last == Some(0) { self.source.take() } else { None }
    }

    fn closed(&self) -> bool {
        self.source.is_none()
    }
}

struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    at: Instant,
}

pub struct Exec {
    pub id: String,
    pub handle: u32,
    pid: Pid,
    started: Instant,
    kill_at: Option<Instant>,
    timed_out: bool,
    ended: Option<Ended>,
    pub stdin: StdinBuffer,
    stdin_sink: Option<OwnedFd>,
    pub stdout: Output,
    pub stderr: Output,
    pty: Option<OwnedFd>,
    /// This connection's host said where to go on; before that nothing is sent.
    resumed: bool,
    exit_sent: bool,
    /// What this connection's host knows of stdin.
    stdin_told: StdinState,
}

impl Exec {
    /// Starts the program.
    ///
    /// # Errors
    /// [`SpawnError`] tells why it never ran.
    pub fn start(
        id: String,
        handle: u32,
        spec: &ExecSpec,
        spawner: &mut Spawner,
        null: BorrowedFd<'_>,
    ) -> Result<Self, SpawnError> {
        let program = Program::prepare(spec)?;
        let ends = match spec.pty {
            Some(size) => Ends::terminal(size, program.uid()),
            None => Ends::pipes(spec.stdin, null),
        };
        let ends = ends.map_err(|errno| SpawnError::NoResources("make the streams", errno.raw_os_error()))?;
        let stdio = ends.child.each_ref().map(|end| end.as_raw_fd());
        let started = Instant::now();
        let pid = spawner.spawn(&program, stdio, ends.pty.is_some())?;
        let stdin = if ends.stdin.is_some() { StdinBuffer::default() } else { StdinBuffer::closed() };
        Ok(Self {
            id,
            handle,
            pid,
            started,
            kill_at: spec.timeout_ms.and_then(|ms| started.checked_add(Duration::from_millis(ms))),
            timed_out: false,
            ended: None,
            stdin_told: stdin.state(),
            stdin,
            stdin_sink: ends.stdin,
            stdout: Output::open(ends.stdout),
            stderr: ends.stderr.map_or_else(Output::absent, Output::open),
            pty: ends.pty,
            resumed: true, // The request that starts it says where: at 0.
            exit_sent: false,
        })
    }

    /// For the host, which then knows it.
    pub fn state(&mut self) -> OpenState {
        self.stdin_told = self.stdin.state();
        OpenState {
            handle: self.handle,
            pid: self.pid.as_raw_nonzero().get(),
            started_ago_ms: millis(self.started.elapsed()),
            ended: self.ended.is_some(),
            stdin: self.stdin.state(),
            stdout_from: self.stdout.window.acked(),
            stderr_from: self.stderr.window.acked(),
        }
    }

    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.pty.is_some()
    }

    /// The connection is gone: the next host says first where it wants to go on.
    pub fn suspend(&mut self) {
        self.resumed = false;
        self.exit_sent = false;
    }

    /// The host has every byte below these offsets; the rest is sent again.
    ///
    /// # Errors
    /// [`StreamError::OutOfRange`] when an offset is not between what is held first and last.
    pub fn resume(&mut self, stdout: u64, stderr: u64) -> Result<(), StreamError> {
        if !self.resumed {
            self.stdout.window.resume(stdout)?;
            self.stderr.window.resume(stderr)?;
            self.resumed = true;
        }
        Ok(())
    }

    /// The output of a data channel, while this connection may have it.
    pub fn output_to_send(&mut self, stream: Stream) -> Option<&mut OutputWindow> {
        match stream {
            Stream::Stdout if self.resumed => Some(&mut self.stdout.window),
            Stream::Stderr if self.resumed => Some(&mut self.stderr.window),
            _ => None,
        }
    }

    /// The state of stdin, when the host has not been told of it.
    pub fn stdin_news(&mut self) -> Option<StdinState> {
        let state = self.stdin.state();
        let news = self.resumed && state != self.stdin_told;
        self.stdin_told = if self.resumed { state } else { self.stdin_told };
        news.then_some(state)
    }

    #[must_use]
    pub fn is_running(&self, pid: Pid) -> bool {
        self.pid == pid && self.ended.is_none()
    }

    /// Signals the whole process group with any number from 1 to 64.
    /// `false`: the program has ended, and its number may be another's by now.
    pub fn signal(&self, number: i32) -> bool {
        // SAFETY: a plain system call; the leader is not reaped yet, so the group is its own.
        self.ended.is_none() && unsafe { libc::kill(-self.pid.as_raw_nonzero().get(), number) } == 0
    }

    /// # Errors
    /// `None`: it has no terminal; else the kernel's refusal.
    pub fn resize(&self, size: PtySize) -> Result<(), Option<Errno>> {
        let pty = self.pty.as_ref().ok_or(None)?;
        rustix::termios::tcsetwinsize(pty, winsize(size)).map_err(Some)
    }

    /// The program was reaped.
    pub fn end(&mut self, code: Option<i32>, signal: Option<i32>) {
        self.ended = Some(Ended { code, signal, at: Instant::now() });
        self.close_stdin();
    }

    /// The descriptor to wait on while stdin has bytes to write.
    #[must_use]
    pub fn wants_stdin(&self) -> Option<BorrowedFd<'_>> {
        self.stdin_sink.as_ref().filter(|_| !self.stdin.pending().is_empty()).map(AsFd::as_fd)
    }

    /// Writes what the program's stdin takes now, and its end when that is due.
    pub fn write_stdin(&mut self) {
        while let Some(sink) = self.stdin_sink.as_ref() {
            let pending = self.stdin.pending();
            if pending.is_empty() {
                break;
            }
            match rustix::io::write(sink, pending) {
                Ok(count) => self.stdin.wrote(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.close_stdin(),
            }
        }
        if self.stdin.finished()
            && let Some(sink) = self.stdin_sink.take()
            && self.pty.is_some()
        {
            let _ = rustix::io::write(sink, VEOF);
        }
    }

    fn close_stdin(&mut self) {
        self.stdin_sink = None;
        self.stdin.close();
    }

    /// When something is due here: the timeout, or the end of draining.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.ended {
            None => self.kill_at,
            Some(ended) if !self.drained() && self.is_uncut() => Some(ended.at + DRAIN_MAX),
            Some(_) => None,
        }
    }

    fn is_uncut(&self) -> bool {
        [&self.stdout, &self.stderr].iter().any(|output| !output.closed() && output.last.is_none())
    }

    /// Does what is due, and hands back the descriptors of streams that were cut off.
    pub fn on_time(&mut self, now: Instant, scratch: &mut [u8], scarce: bool) -> Vec<OwnedFd> {
        if self.ended.is_none() && self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.timed_out = self.signal(libc::SIGKILL);
        }
        if self.ended.as_ref().is_some_and(|ended| ended.at + DRAIN_MAX <= now) {
            self.stdout.cut();
            self.stderr.cut();
        }
        let outputs = [&mut self.stdout, &mut self.stderr];
        outputs.into_iter().filter_map(|output| output.take_cut(scratch, scarce)).collect()
    }

    fn drained(&self) -> bool {
        self.stdout.closed() && self.stderr.closed()
    }

    /// The exit, told once per connection, when nothing more will come and all of it was sent.
    pub fn due_exit(&mut self) -> Option<Exit> {
        let sent = self.stdout.window.all_sent() && self.stderr.window.all_sent();
        let exit = if self.resumed && !self.exit_sent && sent { self.exit() } else { None };
        self.exit_sent |= exit.is_some();
        exit
    }

    /// How it ended; `None` while the program runs or its streams are drained.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let ended = self.ended.as_ref().filter(|_| self.drained())?;
        Some(Exit {
            code: ended.code,
            signal: ended.signal,
            timed_out: self.timed_out,
            stdout_bytes: self.stdout.window.received(),
            stderr_bytes: self.stderr.window.received(),
            stdout_complete: self.stdout.complete,
            stderr_complete: self.stderr.complete,
            ran_ms: millis(ended.at - self.started),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Both ends of an exec's streams. What the child gets is closed here when this is dropped.
struct Ends<'a> {
    child: [ChildEnd<'a>; 3],
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    pty: Option<OwnedFd>,
}

enum ChildEnd<'a> {
    Own(OwnedFd),
    Shared(BorrowedFd<'a>),
}

impl ChildEnd<'_> {
    fn as_raw_fd(&self) -> i32 {
        match self {
            Self::Own(fd) => fd.as_raw_fd(),
            Self::Shared(fd) => fd.as_raw_fd(),
        }
    }
}

impl<'a> Ends<'a> {
    fn pipes(with_stdin: bool, null: BorrowedFd<'a>) -> Result<Self, Errno> {
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

    fn terminal(size: PtySize, uid: Option<u32>) -> Result<Self, Errno> {
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
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
}

fn winsize(size: PtySize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
