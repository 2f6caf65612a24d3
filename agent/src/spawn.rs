//! Starts a program the way vfork does: the child borrows our memory until it has become the program, so nothing is
//! copied and no pipe is needed to hear why it failed. In gVisor the start is most of what an exec costs.

use crate::message::{ExecSpec, Failure};
use crate::user::{self, Identity, UserError};
use rustix::fd::RawFd;
use rustix::process::Pid;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const STACK_SIZE: usize = 64 * 1024;

/// Everything the child needs, made before it exists: it must not allocate.
pub struct Program {
    paths: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    identity: Option<Identity>,
}

/// A program that never ran.
#[derive(Debug)]
pub enum SpawnError {
    Invalid(&'static str),
    NotFound(String),
    NotExecutable(String, c_int),
    BadCwd(String, c_int),
    UnknownUser(String),
    UnknownGroup(String),
    TooLong,
    /// The kernel has no process, memory or descriptor left for it.
    NoResources(&'static str, c_int),
}

impl SpawnError {
    /// What the host is told, with the exit code that a shell would give.
    #[must_use]
    pub fn failure(self) -> Failure {
        let (code, exit_code, message) = match self {
            Self::Invalid(why) => ("INVALID", 125, why.to_owned()),
            Self::NotFound(name) => ("NOT_FOUND", 127, format!("{name}: no such program")),
            Self::NotExecutable(name, errno) => {
                ("NOT_EXECUTABLE", 126, format!("{name}: {}", describe(errno)))
            }
            Self::BadCwd(dir, errno) => ("BAD_CWD", 126, format!("cannot enter {dir}: {}", describe(errno))),
            Self::UnknownUser(user) => ("UNKNOWN_USER", 126, format!("no user {user}")),
            Self::UnknownGroup(user) => ("UNKNOWN_USER", 126, format!("no such group in {user}")),
            Self::TooLong => ("TOO_LONG", 126, "arguments and environment are too long".to_owned()),
            Self::NoResources(what, errno) => {
                ("NO_RESOURCES", 125, format!("cannot {what}: {}", describe(errno)))
            }
        };
        Failure { code, exit_code, message: shorten(message) }
    }
}

/// Names come from the caller and may be long; a message to the host is one frame.
fn shorten(mut message: String) -> String {
    const MESSAGE_MAX: usize = 500;
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(end);
        message.push_str("...");
    }
    message
}

fn describe(errno: c_int) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

impl Program {
    /// Checks the spec and resolves the user, with the defaults for PATH, HOME and TERM where env has none.
    ///
    /// # Errors
    /// [`SpawnError`] for an empty or impossible spec or an unknown user.
    pub fn prepare(spec: &ExecSpec) -> Result<Self, SpawnError> {
        let Some(name) = spec.argv.first().filter(|name| !name.is_empty()) else {
            return Err(SpawnError::Invalid("argv is empty"));
        };
        let identity = spec.user.as_deref().map(|user| {
            user::lookup(user).map_err(|error| match error {
                UserError::UnknownUser => SpawnError::UnknownUser(user.to_owned()),
                UserError::UnknownGroup => SpawnError::UnknownGroup(user.to_owned()),
            })
        });
        let identity = identity.transpose()?;
        let path = spec.env.get("PATH").map_or(PATH_DEFAULT, String::as_str);
        let mut env = Vec::with_capacity(spec.env.len() + 3);
        for (key, value) in &spec.env {
            if key.is_empty() || key.contains('=') {
                return Err(SpawnError::Invalid("a name in env is empty or has a ="));
            }
            env.push(c_string(format!("{key}={value}"))?);
        }
        let home = identity.as_ref().map_or("/root", |identity| identity.home.as_str());
        let defaults =
            [("PATH", Some(PATH_DEFAULT)), ("HOME", Some(home)), ("TERM", spec.pty.map(|_| "xterm"))];
        for (key, value) in defaults {
            if let Some(value) = value.filter(|_| !spec.env.contains_key(key)) {
                env.push(c_string(format!("{key}={value}"))?);
            }
        }
        Ok(Self {
            paths: candidates(name, path)?,
            argv: spec.argv.iter().map(|arg| c_string(arg.clone())).collect::<Result<_, _>>()?,
            env,
            cwd: c_string(spec.cwd.clone().unwrap_or_else(|| "/".to_owned()))?,
            identity,
        })
    }

    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        self.identity.as_ref().map(|identity| identity.uid)
    }
}

fn c_string(text: String) -> Result<CString, SpawnError> {
    CString::new(text).map_err(|_| SpawnError::Invalid("a NUL byte in argv, env or cwd"))
}

/// Where a program may be: a name with a slash is a path, else each directory of PATH in turn.
fn candidates(name: &str, path: &str) -> Result<Vec<CString>, SpawnError> {
    if name.contains('/') {
        return Ok(vec![c_string(name.to_owned())?]);
    }
    let directories = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    directories.map(|dir| c_string(format!("{dir}/{name}"))).collect()
}

/// What the child reads and, when it fails, writes. It lives in the parent's frame.
struct Shared {
    paths: *const *const c_char,
    argv: *const *const c_char,
    env: *const *const c_char,
    cwd: *const c_char,
    stdio: [RawFd; 3],
    controlling_tty: bool,
    identity: Option<Ids>,
    no_file: Option<libc::rlimit>,
    failed: Option<(Step, c_int)>,
}

struct Ids {
    uid: u32,
    gid: u32,
    groups: *const u32,
    groups_len: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Session,
    Stdio,
    Identity,
    Cwd,
    Exec,
}

/// Starts programs; keeps the child's stack and what a child gets back of our own limits.
pub struct Spawner {
    stack: Vec<u128>,
    no_file: Option<libc::rlimit>,
}

impl Spawner {
    /// `no_file`: the limit of open files for programs, where the agent raised its own.
    #[must_use]
    pub fn new(no_file: Option<libc::rlimit>) -> Self {
        Self { stack: vec![0; STACK_SIZE / size_of::<u128>()], no_file }
    }

    /// Starts the program in a session and process group of its own; with `controlling_tty` its stdin becomes the
    /// session's terminal. The descriptors in `stdio` must be above 2 and stay the caller's.
    ///
    /// # Errors
    /// [`SpawnError`] tells why it never ran; nothing is left of it then.
    pub fn spawn(
        &mut self,
        program: &Program,
        stdio: [RawFd; 3],
        controlling_tty: bool,
    ) -> Result<Pid, SpawnError> {
        let (paths, argv, env) = (pointers(&program.paths), pointers(&program.argv), pointers(&program.env));
        let mut shared = Shared {
            paths: paths.as_ptr(),
            argv: argv.as_ptr(),
            env: env.as_ptr(),
            cwd: program.cwd.as_ptr(),
            stdio,
            controlling_tty,
            identity: program.identity.as_ref().map(|identity| Ids {
                uid: identity.uid,
                gid: identity.gid,
                groups: identity.groups.as_ptr(),
                groups_len: identity.groups.len(),
            }),
            no_file: self.no_file,
            failed: None,
        };
        let shared_ptr = ptr::addr_of_mut!(shared);
        // SAFETY: the stack outlives the child's use of it: CLONE_VFORK stops this thread until the child has
        // exec'd or exited. `as_mut_ptr_range().end` is 16-byte aligned (u128), as the ABI wants. The child only
        // calls async-signal-safe functions, and `shared` lives in this frame.
        let pid = unsafe {
            let top = self.stack.as_mut_ptr_range().end.cast::<c_void>();
            libc::clone(
                child,
                top,
                libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
                shared_ptr.cast::<c_void>(),
            )
        };
        let Some(pid) = Pid::from_raw(pid.max(0)) else {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
            return Err(SpawnError::NoResources("make a process", errno));
        };
        // SAFETY: the child is past exec or dead, nobody else writes; volatile, since the compiler saw no writer.
        let failed = unsafe { ptr::read_volatile(ptr::addr_of!((*shared_ptr).failed)) };
        let Some((step, errno)) = failed else {
            return Ok(pid);
        };
        // It has exited already: this does not wait.
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        Err(explain(step, errno, program))
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

fn explain(step: Step, errno: c_int, program: &Program) -> SpawnError {
    let name = || lossy(program.argv.first().map_or(c"", CString::as_c_str));
    match (step, errno) {
        (_, libc::EAGAIN | libc::ENOMEM | libc::ENFILE) => {
            SpawnError::NoResources("start the program", errno)
        }
        (Step::Exec, libc::ENOENT | libc::ENOTDIR) => SpawnError::NotFound(name()),
        (Step::Exec, libc::E2BIG) => SpawnError::TooLong,
        (Step::Exec, _) => SpawnError::NotExecutable(name(), errno),
        (Step::Cwd, _) => SpawnError::BadCwd(lossy(&program.cwd), errno),
        (Step::Identity, _) => SpawnError::NoResources("change the user", errno),
        (Step::Session | Step::Stdio, _) => SpawnError::NoResources("set up the session", errno),
    }
}

fn lossy(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

/// The child's whole life before the program: it runs in the parent's memory on a stack of its own.
extern "C" fn child(arg: *mut c_void) -> c_int {
    let shared = arg.cast::<Shared>();
    // SAFETY: the parent is stopped and gave a valid `Shared`; nobody else touches it.
    unsafe {
        let failed = become_program(&*shared);
        ptr::write_volatile(ptr::addr_of_mut!((*shared).failed), Some(failed));
        libc::_exit(127)
    }
}

/// Returns only when a step failed.
///
/// # Safety
/// Only in a vfork child: it changes the process's identity, signals and descriptors.
unsafe fn become_program(shared: &Shared) -> (Step, c_int) {
    // SAFETY: plain system calls with pointers that the parent keeps alive. Raw where glibc's wrapper would signal
    // every thread of ours (setgroups, setgid, setuid). Signals: our masks and the ignored SIGPIPE must not leak
    // into the program; dispositions are not shared (no CLONE_SIGHAND).
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if libc::setsid() < 0 {
            return (Step::Session, errno());
        }
        for (target, source) in (0..).zip(shared.stdio) {
            if libc::dup2(source, target) < 0 {
                return (Step::Stdio, errno());
            }
        }
        if shared.controlling_tty && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
            return (Step::Session, errno());
        }
        if let Some(limit) = &shared.no_file {
            libc::setrlimit(libc::RLIMIT_NOFILE, limit);
        }
        if let Some(ids) = &shared.identity {
            let changed = libc::syscall(libc::SYS_setgroups, ids.groups_len, ids.groups) == 0
                && libc::syscall(libc::SYS_setgid, ids.gid) == 0
                && libc::syscall(libc::SYS_setuid, ids.uid) == 0;
            if !changed {
                return (Step::Identity, errno());
            }
        }
        // As the user, so that a directory closed to it is refused.
        if libc::chdir(shared.cwd) < 0 {
            return (Step::Cwd, errno());
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        (Step::Exec, exec(shared))
    }
}

/// Tries each path; as execvp does, "permission denied" is told only if no other path works.
///
/// # Safety
/// The pointers in `shared` must be valid, null-terminated arrays.
unsafe fn exec(shared: &Shared) -> c_int {
    let (mut path, mut told) = (shared.paths, libc::ENOENT);
    // SAFETY: the arrays end with a null pointer, each other one is a C string.
    unsafe {
        while !(*path).is_null() {
            libc::execve(*path, shared.argv, shared.env);
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => told = libc::EACCES,
                other => return other,
            }
            path = path.add(1);
        }
    }
    told
}

fn errno() -> c_int {
    // SAFETY: a thread always has an errno.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(argv: &[&str]) -> ExecSpec {
        ExecSpec {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            env: [("PATH".to_owned(), "/bin::/usr/bin".to_owned())].into(),
            cwd: None,
            user: None,
            pty: None,
            stdin: false,
            timeout_ms: None,
        }
    }

    #[test]
    fn a_name_is_looked_for_in_each_directory_of_path() {
        let program = Program::prepare(&spec(&["ls"])).unwrap();
        let paths: Vec<_> = program.paths.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/bin/ls", "./ls", "/usr/bin/ls"]);
        assert_eq!(Program::prepare(&spec(&["./ls"])).unwrap().paths.len(), 1);
    }

    #[test]
    fn impossible_specs_are_refused() {
        for argv in [&[][..], &[""], &["a\0b"], &["a", "\0"]] {
            assert!(matches!(Program::prepare(&spec(argv)), Err(SpawnError::Invalid(_))));
        }
        let mut bad = spec(&["x"]);
        bad.env.insert("A=B".into(), String::new());
        assert!(matches!(Program::prepare(&bad), Err(SpawnError::Invalid(_))));
    }

    #[test]
    fn a_long_name_makes_a_short_message() {
        let failure = SpawnError::NotFound("ä".repeat(100_000)).failure();
        assert!(failure.message.len() < 600);
    }
}
