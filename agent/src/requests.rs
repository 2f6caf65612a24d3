//! What the host asks for, and the answers.

use crate::agent::{Agent, Violation};
use crate::execs::ID_MAX;
use crate::message::{Answer, ExecState, FromHost, Mount, PtySize};
use crate::mounts::MountError;
use std::time::{Duration, Instant};

impl Agent {
    /// Carries out one message of a host that was greeted.
    pub(crate) fn on_message(&mut self, message: FromHost) -> Result<(), Violation> {
        match message {
            FromHost::Hello { .. } => return Err(Violation),
            FromHost::Resume { exec, stdout, stderr } => {
                if let Some(exec) = self.execs.by_id(&exec) {
                    exec.resume(stdout, stderr).map_err(|_| Violation)?;
                }
            }
            FromHost::Exec { id, exec, .. } if exec.is_empty() || exec.len() > ID_MAX => {
                self.refused(id, "INVALID", "the exec's id is empty or too long");
            }
            FromHost::Exec { id, exec, spec, stdout, stderr } => {
                let refusal = self.shutdown.as_ref().map(|_| "the sandbox is shutting down");
                let state = self.execs.start(&exec, &spec, refusal);
                if let Some(exec) = self.execs.by_id(&exec) {
                    exec.resume(stdout, stderr).map_err(|_| Violation)?;
                }
                self.answer(id, Answer::State(state));
            }
            FromHost::State { id, exec } => {
                let state = self.execs.state(&exec);
                self.answer(id, Answer::State(state));
            }
            FromHost::StdinEof { id, exec, offset } => self.on_stdin_eof(id, &exec, offset),
            FromHost::Resize { id, exec, rows, cols } => {
                let size = PtySize { rows, cols };
                match self.execs.by_id(&exec).map(|exec| exec.resize(size)) {
                    None => self.no_exec(id, &exec),
                    Some(Ok(())) => self.done(id),
                    Some(Err(None)) => self.refused(id, "NO_TERMINAL", "the exec has no terminal"),
                    Some(Err(Some(errno))) => self.refused(id, "RESIZE_FAILED", &errno.to_string()),
                }
            }
            FromHost::Signal { id, exec, signal } => self.on_signal_request(id, &exec, signal),
            FromHost::AckExit { id, exec } => {
                if self.execs.acknowledge(&exec) {
                    self.done(id);
                } else {
                    self.refused(id, "NOT_EXITED", "the exec has not ended");
                }
            }
            FromHost::Sync { id, timeout_ms } => {
                self.syncer.request(id, Duration::from_millis(timeout_ms), Instant::now());
            }
            FromHost::Bind { id, source, target, read_only, replace } => {
                let bound = self.mounts.bind(Mount { source, target, read_only }, replace);
                self.mounted(id, bound);
            }
            FromHost::Unbind { id, target } => {
                let unbound = self.mounts.unbind(&target);
                self.mounted(id, unbound);
            }
            FromHost::Mounts { id } => {
                let mounts = self.mounts.list().to_vec();
                self.answer(id, Answer::Mounts { mounts });
            }
            FromHost::Ping { id } => self.done(id),
            FromHost::Shutdown { id, grace_ms } => {
                self.shut_down(Some(id), Duration::from_millis(grace_ms));
            }
        }
        Ok(())
    }

    fn on_stdin_eof(&mut self, id: u64, exec_id: &str, offset: u64) {
        let Some(exec) = self.execs.by_id(exec_id) else {
            return self.no_exec(id, exec_id);
        };
        let ended = exec.stdin.end(offset);
        exec.write_stdin();
        match ended {
            Ok(()) => self.done(id),
            Err(_) => self.refused(id, "BAD_OFFSET", "stdin does not end at this offset"),
        }
    }

    fn on_signal_request(&mut self, id: u64, exec_id: &str, number: i32) {
        if !(1..=64).contains(&number) {
            return self.refused(id, "INVALID", "there is no such signal");
        }
        match self.execs.by_id(exec_id) {
            None => self.no_exec(id, exec_id),
            Some(exec) if exec.signal(number) => self.done(id),
            Some(_) => self.refused(id, "EXEC_ENDED", "the program has ended"),
        }
    }

    fn mounted(&mut self, id: u64, outcome: Result<(), MountError>) {
        match outcome {
            Ok(()) => self.done(id),
            Err(error) => self.refused(id, error.code(), &error.to_string()),
        }
    }

    fn no_exec(&mut self, id: u64, exec: &str) {
        match self.execs.state(exec) {
            ExecState::Unknown => self.refused(id, "EXEC_NOT_FOUND", "no exec has this id"),
            _ => self.refused(id, "EXEC_ENDED", "the program has ended"),
        }
    }
}
