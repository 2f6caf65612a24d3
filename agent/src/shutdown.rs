//! The end of the sandbox: SIGTERM to everyone, after the grace SIGKILL, then the last exits are handed over.

use crate::execs::Execs;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::time::{Duration, Instant};

/// After the kill the host has this long to take over outputs and exits; it has its own limits besides.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// How often to look whether everyone is gone, besides each SIGCHLD.
const LOOK_EVERY: Duration = Duration::from_millis(50);

enum Phase {
    Asked { kill_at: Instant },
    Killed { over_at: Instant },
}

/// A shutdown under way.
pub struct Shutdown {
    phase: Phase,
    /// The requests to answer at the end, on the present connection.
    pub requests: Vec<u64>,
}

impl Shutdown {
    #[must_use]
    pub fn begin(execs: &Execs, grace: Duration, now: Instant) -> Self {
        signal_all(execs, libc::SIGTERM);
        let kill_at = now.checked_add(grace).unwrap_or(now);
        Self { phase: Phase::Asked { kill_at }, requests: Vec::new() }
    }

    /// A second request may shorten the grace, not lengthen it.
    pub fn again(&mut self, grace: Duration, now: Instant) {
        if let Phase::Asked { kill_at } = &mut self.phase {
            *kill_at = now.checked_add(grace).map_or(*kill_at, |at| at.min(*kill_at));
        }
    }

    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Instant {
        let due = match self.phase {
            Phase::Asked { kill_at } => kill_at,
            Phase::Killed { over_at } => over_at,
        };
        due.min(now + LOOK_EVERY)
    }

    /// Does what is due. `true`: everyone is gone and every exit was acknowledged, or the time is over.
    pub fn advance(&mut self, execs: &Execs, now: Instant) -> bool {
        let empty = !has_children();
        match self.phase {
            Phase::Asked { kill_at } if empty || kill_at <= now => {
                signal_all(execs, libc::SIGKILL);
                self.phase = Phase::Killed { over_at: now + HAND_OVER_MAX };
                false
            }
            Phase::Asked { .. } => false,
            Phase::Killed { over_at } => (empty && execs.is_empty()) || over_at <= now,
        }
    }
}

/// As PID 1: every process of the sandbox but us. Else (in tests) only the groups of our execs.
fn signal_all(execs: &Execs, signal: i32) {
    if rustix::process::getpid() == Pid::INIT {
        // SAFETY: a plain system call; rustix has no form for "everyone".
        unsafe { libc::kill(-1, signal) };
        return;
    }
    for exec in execs.iter() {
        exec.signal(signal);
    }
}

fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}
