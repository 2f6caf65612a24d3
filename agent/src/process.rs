//! What the agent is as a process: its token taken out of sight, its signals as a descriptor, its limits.

use rustix::fd::{FromRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid};
use std::ffi::CStr;

const TOKEN_NAME: &[u8] = b"SANDTRAIL_AGENT_TOKEN=";

unsafe extern "C" {
    static environ: *const *mut libc::c_char;
}

/// Takes the token out of the environment and overwrites every variable where it stood, so that
/// `/proc/1/environ` shows none of them.
#[must_use]
pub fn take_token() -> Option<String> {
    let mut token = None;
    // SAFETY: called first in `main`, when there is one thread and nobody holds a reference into the environment.
    // `environ` is the null-terminated array that the C runtime set up; each entry is a writable C string on the
    // initial stack.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            if let Some(value) = text.strip_prefix(TOKEN_NAME) {
                token = String::from_utf8(value.to_vec()).ok();
            }
            let len = text.len();
            std::ptr::write_bytes(*entry, 0, len);
            entry = entry.add(1);
        }
        libc::clearenv();
    }
    token.filter(|token| !token.is_empty())
}

/// No other process inside may read or trace us unless it has the capability to; orphans become our children; a
/// descriptor that we were started with does not reach programs.
pub fn seclude() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = rustix::process::set_child_subreaper(Some(Pid::INIT));
    // SAFETY: a plain system call; it closes nothing, so no descriptor that someone owns becomes invalid.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Opens /dev/null above the standard descriptors, which are made sure to exist.
///
/// # Errors
/// There is no /dev/null.
pub fn open_null() -> Result<OwnedFd, Errno> {
    loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        if rustix::fd::AsRawFd::as_raw_fd(&null) > 2 {
            return Ok(null);
        }
        // A standard descriptor was missing: this fills it for good.
        std::mem::forget(null);
    }
}

/// Raises our limit of open files to the allowed maximum; returns the one that programs get instead.
#[must_use]
pub fn raise_file_limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls with a valid struct.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 || limit.rlim_cur == limit.rlim_max {
            return None;
        }
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        (libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) == 0).then_some(limit)
    }
}

/// Signals as a descriptor: SIGCHLD, and SIGTERM as a request to shut down. A program gets an empty mask again.
///
/// # Errors
/// The kernel has no signalfd.
pub fn signals() -> Result<OwnedFd, Errno> {
    // SAFETY: plain system calls on a local set; the new descriptor is ours alone.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Empties the signal descriptor. `true`: SIGTERM was among them.
pub fn drain_signals(fd: &OwnedFd) -> bool {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut buffer = [0u8; SIZE * 8];
    let mut term = false;
    while let Ok(count) = rustix::io::read(fd, &mut buffer) {
        // The number is the record's first field.
        term |= buffer[..count].chunks_exact(SIZE).any(|record| i32::from(record[0]) == libc::SIGTERM);
        if count < buffer.len() {
            break;
        }
    }
    term
}

/// 128 random bits as hex.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn random_id() -> Result<String, Errno> {
    let mut bytes = [0u8; 16];
    // SAFETY: the buffer is valid for its length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != 16 {
        return Err(last_errno());
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
