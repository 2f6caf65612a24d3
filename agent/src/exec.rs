//! One exec: a program, its three streams and how it ended.
//!
//! ```text
//!   running -> ended -> drained -> (exit sent) -> acknowledged
//! ```
//! `drained`: both outputs saw their end of file, or 2 s passed while a background child held them.

use crate::frame::Stream;
use crate::message::{ExecSpec, Exit, OpenState, PtySize, StdinState};
use crate::output::Output;
use crate::program::{Program, SpawnError};
use crate::spawn::Spawner;
use crate::stdio::{Ends, winsize};
use crate::stream::{OutputWindow, StdinBuffer, StreamError};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::time::{Duration, Instant};

/// How long after its end what the program left in its pipes is waited for.
pub const DRAIN_MAX: Duration = Duration::from_secs(2);
/// End of file for a terminal (^D).
const VEOF: &[u8] = &[4];

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

    /// When something is due here: the timeout, the end of draining, or output that rests.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let end = match &self.ended {
            None => self.kill_at,
            Some(ended) if !self.drained() && self.is_uncut() => Some(ended.at + DRAIN_MAX),
            Some(_) => None,
        };
        [end, self.stdout.next_deadline(now), self.stderr.next_deadline(now)].into_iter().flatten().min()
    }

    fn is_uncut(&self) -> bool {
        [&self.stdout, &self.stderr].iter().any(|output| output.is_uncut())
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
            stdout_complete: self.stdout.is_complete(),
            stderr_complete: self.stderr.is_complete(),
            ran_ms: millis(ended.at - self.started),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
