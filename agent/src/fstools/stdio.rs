//! The standard streams without the standard library's line buffers.

use super::failure::Failure;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// What is moved at once: files of any size pass through this much memory.
pub const PIECE: usize = 64 * 1024;

/// # Errors
/// There is no stdin.
pub fn input() -> Result<File, Failure> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// # Errors
/// There is no stdout.
pub fn output() -> Result<File, Failure> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}
