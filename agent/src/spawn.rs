//! Starts a program the way vfork does: the child borrows our memory until it has become the program, so nothing is
//! copied and no pipe is needed to hear why it failed. In gVisor the start is most of what an exec costs.

use crate::program::{Program, SpawnError};
use rustix::fd::RawFd;
use rustix::process::Pid;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

const STACK_SIZE: usize = 64 * 1024;

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
