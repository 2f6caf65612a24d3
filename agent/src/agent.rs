//! The loop: one thread waits for the host, the programs and the clock, and never for one of them alone.

use crate::exec::Exec;
use crate::execs::Execs;
use crate::frame::{self, DATA_MAX, Frame, Stream};
use crate::link::{Link, next_frame};
use crate::message::{Answer, Assembler, FromHost, PROTOCOL, ToHost};
use crate::mounts::Mounts;
use crate::process;
use crate::shutdown::Shutdown;
use crate::spawn::Spawner;
use crate::stdio::PIPE_CAPACITY;
use crate::syncer::Syncer;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::WaitOptions;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// When all execs together hold more unacknowledged output than this, memory is scarce.
const HELD_MAX: usize = 32 * 1024 * 1024;
/// What one read takes at most: all that a pipe of ours holds.
const SCRATCH: usize = PIPE_CAPACITY;
/// Streams that outlived their exec and are read to nowhere, so that a daemon's prints do not kill it.
const DISCARDED_MAX: usize = 256;
/// SIGTERM to us asks for an end with this grace.
const TERM_GRACE: Duration = Duration::from_secs(10);

pub struct Agent {
    link: Link,
    token: String,
    boot: String,
    /// The host has answered our hello on this connection.
    greeted: bool,
    assembler: Assembler,
    pub(crate) execs: Execs,
    discarded: Vec<OwnedFd>,
    pub(crate) mounts: Mounts,
    pub(crate) syncer: Syncer,
    signals: OwnedFd,
    pub(crate) shutdown: Option<Shutdown>,
    /// All execs together hold more than `HELD_MAX`.
    scarce: bool,
    /// Whose output was queued last.
    served_last: u32,
    scratch: Vec<u8>,
}

/// What a descriptor that became ready belongs to.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Syncer,
    Link,
    Output(u32, Stream),
    Stdin(u32),
    Discarded(usize),
}

/// The host broke the protocol: the connection goes, the next one starts clean.
pub(crate) struct Violation;

impl Agent {
    /// `token` is what the host knows us by; it stays in memory for each reconnect.
    ///
    /// # Errors
    /// The socket's path is too long, or the kernel lacks what we need.
    pub fn new(socket: &Path, token: String) -> Result<Self, Errno> {
        let null = process::open_null()?;
        Ok(Self {
            link: Link::new(socket)?,
            token,
            boot: process::random_id()?,
            greeted: false,
            assembler: Assembler::default(),
            execs: Execs::new(Spawner::new(process::raise_file_limit()), null),
            discarded: Vec::new(),
            mounts: Mounts::default(),
            syncer: Syncer::new()?,
            signals: process::signals()?,
            shutdown: None,
            scarce: false,
            served_last: 0,
            scratch: vec![0; SCRATCH],
        })
    }

    /// Runs until a shutdown is complete.
    #[must_use]
    pub fn run(mut self) -> ExitCode {
        loop {
            if self.link.connect_if_due(Instant::now()) {
                let (version, token, boot) = (env!("CARGO_PKG_VERSION"), &*self.token, &*self.boot);
                self.link.send(&ToHost::Hello { protocol: PROTOCOL, version, token, boot });
            }
            for (source, flags) in self.wait() {
                self.on_ready(source, flags);
            }
            let over = self.on_time(Instant::now());
            self.speak();
            if over {
                return ExitCode::SUCCESS;
            }
        }
    }

    /// Waits until a descriptor is ready or a deadline is due.
    fn wait(&mut self) -> Vec<(Source, PollFlags)> {
        let held = |exec: &Exec| exec.stdout.window.held() + exec.stderr.window.held();
        self.scarce = self.execs.iter().map(held).sum::<usize>() > HELD_MAX;
        let (scarce, now) = (self.scarce, Instant::now());
        let mut sources = vec![Source::Signals, Source::Syncer];
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.syncer.fd(), PollFlags::IN),
        ];
        let mut add = |source, fd, flags| {
            sources.push(source);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        if let Some(fd) = self.link.fd() {
            let out = if self.link.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            add(Source::Link, fd, PollFlags::IN | out);
        }
        for exec in self.execs.iter() {
            for (stream, output) in [(Stream::Stdout, &exec.stdout), (Stream::Stderr, &exec.stderr)] {
                if let Some(fd) = output.wants(scarce, now) {
                    add(Source::Output(exec.handle, stream), fd, PollFlags::IN);
                }
            }
            if let Some(fd) = exec.wants_stdin() {
                add(Source::Stdin(exec.handle), fd, PollFlags::OUT);
            }
        }
        for (at, fd) in self.discarded.iter().enumerate() {
            add(Source::Discarded(at), fd.as_fd(), PollFlags::IN);
        }
        let timeout = self.next_deadline(now).map(|at| timespec(at.saturating_duration_since(now)));
        if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new(); // Interrupted: the next round asks again.
        }
        let ready = fds.iter().map(PollFd::revents);
        sources.into_iter().zip(ready).filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let shutdown = self.shutdown.as_ref().map(|shutdown| shutdown.next_deadline(now));
        let execs = self.execs.iter().filter_map(|exec| exec.next_deadline(now)).min();
        [self.link.next_deadline(), self.syncer.next_deadline(), shutdown, execs].into_iter().flatten().min()
    }

    fn on_ready(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Signals => self.on_signals(),
            Source::Syncer => {
                for id in self.syncer.on_ready() {
                    self.done(id);
                }
            }
            Source::Link => self.on_link(flags),
            Source::Output(handle, stream) => self.on_output(handle, stream, flags),
            Source::Stdin(handle) => {
                if let Some(exec) = self.execs.by_handle(handle) {
                    exec.write_stdin();
                }
            }
            Source::Discarded(at) => {
                if let Some(fd) = self.discarded.get(at)
                    && matches!(rustix::io::read(fd, &mut self.scratch), Ok(0) | Err(Errno::IO))
                {
                    // The last one takes its place, and is looked at in the next round.
                    self.discarded.swap_remove(at);
                }
            }
        }
    }

    fn on_output(&mut self, handle: u32, stream: Stream, flags: PollFlags) {
        let scarce = self.scarce;
        let Some(exec) = self.execs.by_handle(handle) else {
            return;
        };
        // A pipe whose writers are gone and that is empty needs no read to say so; a terminal does.
        let at_end = !flags.contains(PollFlags::IN) && !exec.has_terminal();
        let output = if stream == Stream::Stdout { &mut exec.stdout } else { &mut exec.stderr };
        if at_end {
            output.end();
        } else {
            output.read(&mut self.scratch, scarce);
        }
    }

    /// Reaps every process that has ended, orphans of the sandbox included.
    fn on_signals(&mut self) {
        if process::drain_signals(&self.signals) {
            self.shut_down(None, TERM_GRACE);
        }
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some(exec) = self.execs.by_pid(pid) {
                exec.end(status.exit_status(), status.terminating_signal());
            }
        }
    }

    fn on_link(&mut self, flags: PollFlags) {
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let alive = self.link.read(&mut self.scratch);
        let bytes = self.link.take_incoming();
        let mut used = 0;
        let outcome = loop {
            match next_frame(&bytes, &mut used) {
                Ok(Some(frame)) => {
                    if self.on_frame(frame).is_err() {
                        break Err(Violation);
                    }
                }
                Ok(None) => break Ok(()),
                Err(_) => break Err(Violation),
            }
        };
        self.link.put_back(bytes, used);
        if !alive || outcome.is_err() {
            self.lose();
        }
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        match frame.channel {
            frame::CONTROL_PART => self.assembler.part(frame.payload).map_err(|_| Violation),
            frame::CONTROL => match self.assembler.end(frame.payload).map_err(|_| Violation)? {
                FromHost::Hello { protocol } if protocol == PROTOCOL && !self.greeted => {
                    self.list();
                    Ok(())
                }
                _ if !self.greeted => Err(Violation),
                message => self.on_message(message),
            },
            channel if self.greeted => self.on_data(channel, frame.payload),
            _ => Err(Violation),
        }
    }

    /// The host has accepted us: it hears of every exec whose exit it has not acknowledged.
    fn list(&mut self) {
        self.greeted = true;
        self.link.established();
        let mut count = 0;
        for exec in self.execs.iter_mut() {
            let open = exec.state();
            self.link.send(&ToHost::Open { exec: &exec.id, open });
            count += 1;
        }
        self.link.send(&ToHost::Listed { count });
    }

    fn on_data(&mut self, channel: u32, payload: &[u8]) -> Result<(), Violation> {
        let (handle, stream) = frame::split_channel(channel).ok_or(Violation)?;
        let (offset, bytes) = frame::split_data(payload).ok_or(Violation)?;
        let Some(exec) = self.execs.by_handle(handle) else {
            return Ok(()); // Its exit was acknowledged meanwhile.
        };
        match exec.output_to_send(stream) {
            Some(window) => window.ack(offset).map(drop).map_err(|_| Violation),
            None if stream == Stream::Stdin => {
                exec.stdin.receive(offset, bytes).map_err(|_| Violation)?;
                exec.write_stdin();
                Ok(())
            }
            None => Err(Violation),
        }
    }

    pub(crate) fn shut_down(&mut self, request: Option<u64>, grace: Duration) {
        let now = Instant::now();
        let shutdown = match &mut self.shutdown {
            Some(shutdown) => {
                shutdown.again(grace, now);
                shutdown
            }
            None => self.shutdown.insert(Shutdown::begin(&self.execs, grace, now)),
        };
        shutdown.requests.extend(request);
    }

    /// Does what is due. `true`: a shutdown is complete.
    fn on_time(&mut self, now: Instant) -> bool {
        let scarce = self.scarce;
        for exec in self.execs.iter_mut() {
            self.discarded.extend(exec.on_time(now, &mut self.scratch, scarce));
        }
        let surplus = self.discarded.len().saturating_sub(DISCARDED_MAX);
        self.discarded.drain(..surplus);
        for id in self.syncer.on_time(now) {
            self.refused(id, "SYNC_TIMEOUT", "the sync did not end in time");
        }
        let over = self.shutdown.as_mut().is_some_and(|shutdown| shutdown.advance(&self.execs, now));
        if over && let Some(shutdown) = self.shutdown.take() {
            for id in shutdown.requests {
                self.done(id);
            }
        }
        over
    }

    /// Queues what the host should hear, each exec in turn so that none fills the queue for good, and sends what the
    /// socket takes.
    fn speak(&mut self) {
        loop {
            let mut had_output = false;
            let turns = if self.greeted { self.execs.turns_after(self.served_last) } else { Vec::new() };
            for handle in turns {
                if let Some(exec) = self.execs.by_handle(handle)
                    && tell(&mut self.link, exec)
                {
                    self.served_last = handle;
                    had_output = true;
                }
            }
            if !self.link.flush() {
                return self.lose();
            }
            // What is left waits for the socket; if all went out, there may have been more than the queue holds.
            if !had_output || self.link.wants_write() {
                return;
            }
        }
    }

    fn lose(&mut self) {
        self.link.lose();
        self.greeted = false;
        self.assembler = Assembler::default();
        self.syncer.forget();
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.requests.clear();
        }
        for exec in self.execs.iter_mut() {
            exec.suspend();
        }
    }

    pub(crate) fn done(&mut self, id: u64) {
        self.answer(id, Answer::Nothing {});
    }

    pub(crate) fn answer(&mut self, id: u64, result: Answer) {
        self.link.send(&ToHost::Done { id, result });
    }

    pub(crate) fn refused(&mut self, id: u64, code: &str, message: &str) {
        self.link.send(&ToHost::Refused { id, code, message });
    }
}

/// One exec's news: room in its stdin, its output as long as the queue has room, then its exit.
/// `true`: there was output.
fn tell(link: &mut Link, exec: &mut Exec) -> bool {
    let mut had_output = false;
    if let Some(stdin) = exec.stdin_news() {
        let channel = frame::data_channel(exec.handle, Stream::Stdin);
        let (accepted, limit) = (stdin.accepted.to_le_bytes(), stdin.limit.to_le_bytes());
        link.send_frame(channel, &[&accepted, &limit, &[u8::from(stdin.closed)]]);
    }
    for stream in [Stream::Stdout, Stream::Stderr] {
        let channel = frame::data_channel(exec.handle, stream);
        while link.has_room()
            && let Some(window) = exec.output_to_send(stream)
            && let Some((offset, front, back)) = window.take_unsent(DATA_MAX)
        {
            link.send_frame(channel, &[&offset.to_le_bytes(), front, back]);
            had_output = true;
        }
    }
    if let Some(exit) = exec.due_exit() {
        link.send(&ToHost::Exit { exec: &exec.id, exit });
    }
    had_output
}

pub(crate) fn timespec(duration: Duration) -> Timespec {
    // Rounded up: waking a moment too early would spin until the deadline.
    let duration = duration + Duration::from_micros(50);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
