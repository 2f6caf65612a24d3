//! The stream to the host: connects out, again and again, and cuts what comes into frames.
//!
//! A lost stream is normal (the worker restarts, a checkpoint closes it): nothing that matters lives here.

use crate::frame::{self, Frame, FrameError};
use crate::message::ToHost;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::path::Path;
use std::time::{Duration, Instant};

const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// No more data is queued above this; control messages still are, and those are few.
const QUEUE_MAX: usize = 256 * 1024;

pub struct Link {
    address: SocketAddrUnix,
    connection: Option<Connection>,
    backoff: Duration,
    retry_at: Instant,
}

struct Connection {
    socket: OwnedFd,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
}

impl Connection {
    /// A host that always has some bytes left to take would otherwise let what it took pile up for ever. Not at each
    /// call: so a byte is moved once at most.
    fn forget_sent(&mut self) {
        if self.sent >= QUEUE_MAX {
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
    }
}

impl Link {
    /// # Errors
    /// The path is too long for a Unix socket's name.
    pub fn new(socket: &Path) -> Result<Self, Errno> {
        let address = SocketAddrUnix::new(socket)?;
        Ok(Self { address, connection: None, backoff: BACKOFF_FIRST, retry_at: Instant::now() })
    }

    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(|connection| connection.socket.as_fd())
    }

    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.outgoing.is_empty())
    }

    /// When to try again; `None` while connected.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.connection.is_some() { None } else { Some(self.retry_at) }
    }

    /// Connects if it is time to. `true`: there is a new connection, on which nothing was said yet.
    pub fn connect_if_due(&mut self, now: Instant) -> bool {
        if self.connection.is_some() || now < self.retry_at {
            return false;
        }
        let Ok(socket) = self.connect() else {
            self.retry_at = now + self.backoff;
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
            return false;
        };
        self.connection = Some(Connection { socket, incoming: Vec::new(), outgoing: Vec::new(), sent: 0 });
        true
    }

    fn connect(&self) -> Result<OwnedFd, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &self.address)?;
        Ok(socket)
    }

    /// The host has accepted us: the next loss starts with a short wait again.
    pub fn established(&mut self) {
        self.backoff = BACKOFF_FIRST;
    }

    /// Drops the connection; the next one comes after the backoff.
    pub fn lose(&mut self) {
        self.connection = None;
        self.retry_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// Reads what has come. `false`: the connection is lost.
    pub fn read(&mut self, scratch: &mut [u8]) -> bool {
        let Some(connection) = &mut self.connection else {
            return true;
        };
        match rustix::io::read(&connection.socket, &mut *scratch) {
            Ok(0) => false,
            Ok(count) => {
                connection.incoming.extend_from_slice(&scratch[..count]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// Takes the bytes that came; the unused rest is given back by [`Link::put_back`].
    pub fn take_incoming(&mut self) -> Vec<u8> {
        self.connection
            .as_mut()
            .map(|connection| std::mem::take(&mut connection.incoming))
            .unwrap_or_default()
    }

    pub fn put_back(&mut self, mut bytes: Vec<u8>, used: usize) {
        if let Some(connection) = &mut self.connection {
            bytes.drain(..used);
            connection.incoming = bytes;
        }
    }

    /// Whether more data may be queued.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.outgoing.len() - connection.sent < QUEUE_MAX)
    }

    pub fn send(&mut self, message: &ToHost<'_>) {
        // Only maps with odd keys and failing writers can fail here, and there are none.
        if let Ok(text) = serde_json::to_vec(message) {
            self.send_frame(frame::CONTROL, &[&text]);
        }
    }

    pub fn send_frame(&mut self, channel: u32, parts: &[&[u8]]) {
        if let Some(connection) = &mut self.connection {
            frame::write(&mut connection.outgoing, channel, parts);
        }
    }

    /// Sends what the socket takes. `false`: the connection is lost.
    pub fn flush(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return true;
        };
        while connection.sent < connection.outgoing.len() {
            let rest = &connection.outgoing[connection.sent..];
            match rustix::net::send(&connection.socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => connection.sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    connection.forget_sent();
                    return true;
                }
                Err(_) => return false,
            }
        }
        connection.outgoing.clear();
        connection.sent = 0;
        true
    }
}

/// The next frame of `bytes` from `used` on, which it moves.
///
/// # Errors
/// As [`frame::parse`].
pub fn next_frame<'a>(bytes: &'a [u8], used: &mut usize) -> Result<Option<Frame<'a>>, FrameError> {
    let found = frame::parse(bytes.get(*used..).unwrap_or_default())?;
    Ok(found.map(|(frame, size)| {
        *used += size;
        frame
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_host_that_always_leaves_some_bytes_makes_no_queue_grow() {
        let path = std::env::temp_dir().join(format!("sandtrail-link-{}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let mut link = Link::new(&path).unwrap();
        assert!(link.connect_if_due(Instant::now()));
        let (mut host, _) = listener.accept().unwrap();
        std::fs::remove_file(&path).unwrap();
        let (mut chunk, mut taken) = (vec![0; 64 * 1024], 0);
        while taken < 32 * QUEUE_MAX {
            while link.has_room() {
                link.send_frame(frame::data_channel(0, frame::Stream::Stdout), &[&[7; 60 * 1024]]);
            }
            assert!(link.flush());
            taken += host.read(&mut chunk).unwrap();
            let queued = link.connection.as_ref().unwrap().outgoing.len();
            assert!(queued <= 3 * QUEUE_MAX, "{queued} bytes are kept");
        }
    }
}
