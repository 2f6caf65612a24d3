//! Every exec that this agent was ever asked for. An id is never forgotten and never run twice.

use crate::exec::Exec;
use crate::message::{ExecSpec, ExecState, Exit, Failure};
use crate::spawn::Spawner;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Pid;
use std::collections::{BTreeMap, HashMap};

/// Each open exec holds up to five descriptors and half a megabyte.
const OPEN_MAX: usize = 512;
/// Two low bits of a channel are the stream's.
const HANDLE_MAX: u32 = u32::MAX >> 2;
pub const ID_MAX: usize = 128;

enum Known {
    Open(u32),
    Exited(Box<Exit>),
    Failed(Box<Failure>),
}

pub struct Execs {
    known: HashMap<String, Known>,
    open: BTreeMap<u32, Exec>,
    next_handle: u32,
    spawner: Spawner,
    null: OwnedFd,
}

impl Execs {
    #[must_use]
    pub fn new(spawner: Spawner, null: OwnedFd) -> Self {
        Self { known: HashMap::new(), open: BTreeMap::new(), next_handle: 1, spawner, null }
    }

    /// Starts the exec unless its id is known; either way the answer is its state.
    /// `refusal`: why nothing may start now.
    pub fn start(&mut self, id: &str, spec: &ExecSpec, refusal: Option<&str>) -> ExecState {
        if !self.known.contains_key(id) {
            let known = match self.refusal(refusal) {
                Some(failure) => Known::Failed(Box::new(failure)),
                None => self.run(id, spec),
            };
            self.known.insert(id.to_owned(), known);
        }
        self.state(id)
    }

    fn refusal(&self, given: Option<&str>) -> Option<Failure> {
        let refused =
            |code, message: &str| Some(Failure { code, exit_code: 125, message: message.to_owned() });
        match given {
            Some(why) => refused("SHUTTING_DOWN", why),
            None if self.open.len() >= OPEN_MAX || self.next_handle > HANDLE_MAX => {
                refused("NO_RESOURCES", "too many execs are open")
            }
            None => None,
        }
    }

    fn run(&mut self, id: &str, spec: &ExecSpec) -> Known {
        let handle = self.next_handle;
        match Exec::start(id.to_owned(), handle, spec, &mut self.spawner, self.null.as_fd()) {
            Ok(exec) => {
                self.next_handle += 1;
                self.open.insert(handle, exec);
                Known::Open(handle)
            }
            Err(error) => Known::Failed(Box::new(error.failure())),
        }
    }

    pub fn state(&mut self, id: &str) -> ExecState {
        match self.known.get(id) {
            None => ExecState::Unknown,
            Some(Known::Exited(exit)) => ExecState::Exited { exit: (**exit).clone() },
            Some(Known::Failed(failure)) => ExecState::Failed((**failure).clone()),
            Some(Known::Open(handle)) => {
                self.open.get_mut(handle).map_or(ExecState::Unknown, |exec| ExecState::Open(exec.state()))
            }
        }
    }

    pub fn by_id(&mut self, id: &str) -> Option<&mut Exec> {
        match self.known.get(id) {
            Some(Known::Open(handle)) => self.open.get_mut(handle),
            _ => None,
        }
    }

    pub fn by_handle(&mut self, handle: u32) -> Option<&mut Exec> {
        self.open.get_mut(&handle)
    }

    pub fn by_pid(&mut self, pid: Pid) -> Option<&mut Exec> {
        self.open.values_mut().find(|exec| exec.is_running(pid))
    }

    /// The host has the exit on its disk: only the fact stays. `false`: there is no such exit (yet).
    /// An exit counts from when the streams are drained, whether or not this connection told it.
    pub fn acknowledge(&mut self, id: &str) -> bool {
        let (handle, exit) = match self.known.get(id) {
            Some(Known::Exited(_) | Known::Failed(_)) => return true,
            Some(Known::Open(handle)) => (*handle, self.open.get(handle).and_then(Exec::exit)),
            None => return false,
        };
        let Some(exit) = exit else {
            return false;
        };
        self.open.remove(&handle);
        self.known.insert(id.to_owned(), Known::Exited(Box::new(exit)));
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = &Exec> {
        self.open.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Exec> {
        self.open.values_mut()
    }

    /// The open handles, those above `last` first: who was served last comes last.
    #[must_use]
    pub fn turns_after(&self, last: u32) -> Vec<u32> {
        let (later, sooner) = (self.open.range(last.saturating_add(1)..), self.open.range(..=last));
        later.chain(sooner).map(|(handle, _)| *handle).collect()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
