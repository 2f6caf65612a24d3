//! Frames: how both sides cut the byte stream. Parsing is a pure function of bytes and the fuzz target.
//!
//! Wire form: `len: u32 | channel: u32 | payload`, little endian; `len` counts what follows it.
//! The two low bits of a channel name the stream, the rest the exec's handle; handle 0 is control.

use std::fmt;

/// Most bytes of one frame's payload that are data; offset and channel come on top.
pub const DATA_MAX: usize = 64 * 1024;
const CHANNEL_SIZE: usize = 4;
const HEADER_MAX: usize = 64;
/// Most that `len` may say.
pub const BODY_MAX: usize = DATA_MAX + HEADER_MAX;

/// A whole JSON message, or the last piece of one.
pub const CONTROL: u32 = 0;
/// A piece of a JSON message that goes on in the next control frame.
pub const CONTROL_PART: u32 = 1;

#[derive(Debug, PartialEq, Eq)]
pub enum FrameError {
    BadLength { len: usize },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::BadLength { len } = self;
        write!(f, "a frame says {len} bytes, allowed are {CHANNEL_SIZE} to {BODY_MAX}")
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Frame<'a> {
    pub channel: u32,
    pub payload: &'a [u8],
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// Parses one frame from the front of `input`; `Ok(None)`: more bytes are needed.
/// With the frame comes the number of bytes that it took.
///
/// # Errors
/// [`FrameError::BadLength`] unless `CHANNEL_SIZE <= len <= BODY_MAX`.
pub fn parse(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((len, rest)) = input.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_le_bytes(*len) as usize;
    // Checked before waiting for the body: a liar cannot make us buffer without end.
    if !(CHANNEL_SIZE..=BODY_MAX).contains(&len) {
        return Err(FrameError::BadLength { len });
    }
    let Some((channel, payload)) = rest.get(..len).and_then(|body| body.split_first_chunk()) else {
        return Ok(None);
    };
    let channel = u32::from_le_bytes(*channel);
    Ok(Some((Frame { channel, payload }, 4 + len)))
}

/// Appends one frame whose payload is `parts` in a row; together at most `BODY_MAX - 4` bytes.
pub fn write(out: &mut Vec<u8>, channel: u32, parts: &[&[u8]]) {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(payload <= BODY_MAX - CHANNEL_SIZE);
    let len = u32::try_from(CHANNEL_SIZE + payload).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&channel.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[must_use]
pub fn data_channel(handle: u32, stream: Stream) -> u32 {
    let low = match stream {
        Stream::Stdin => 0,
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    handle << 2 | low
}

/// The exec's handle and the stream of a data channel; `None` for any other channel.
#[must_use]
pub fn split_channel(channel: u32) -> Option<(u32, Stream)> {
    let stream = match channel & 3 {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return None,
    };
    match channel >> 2 {
        0 => None,
        handle => Some((handle, stream)),
    }
}

/// A data payload: the offset of its first byte, and the bytes.
#[must_use]
pub fn split_data(payload: &[u8]) -> Option<(u64, &[u8])> {
    let (offset, bytes) = payload.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*offset), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames_of(chunks: &[&[u8]]) -> Vec<(u32, Vec<u8>)> {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while let Some((frame, used)) = parse(&buffer).unwrap() {
                found.push((frame.channel, frame.payload.to_vec()));
                buffer.drain(..used);
            }
        }
        assert!(buffer.is_empty());
        found
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_frames() {
        let mut wire = Vec::new();
        write(&mut wire, CONTROL, &[b"{}"]);
        write(&mut wire, data_channel(7, Stream::Stderr), &[&9u64.to_le_bytes(), b"abc"]);
        write(&mut wire, CONTROL_PART, &[]);
        let whole = frames_of(&[&wire]);
        assert_eq!(whole.len(), 3);
        for at in 0..=wire.len() {
            assert_eq!(frames_of(&[&wire[..at], &wire[at..]]), whole);
        }
        assert_eq!(frames_of(&wire.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn a_length_outside_the_limits_is_refused_before_its_body_came() {
        for len in [0usize, 3, BODY_MAX + 1, u32::MAX as usize] {
            let wire = u32::try_from(len).unwrap().to_le_bytes();
            assert_eq!(parse(&wire), Err(FrameError::BadLength { len }));
        }
        assert_eq!(parse(&(BODY_MAX as u32).to_le_bytes()), Ok(None));
    }

    #[test]
    fn a_channel_names_handle_and_stream() {
        for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr] {
            assert_eq!(split_channel(data_channel(5, stream)), Some((5, stream)));
        }
        for channel in [0, 1, 2, 3, 7] {
            assert_eq!(split_channel(channel), None);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut bytes = [0u8; 24];
            for byte in &mut bytes {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                *byte = seed as u8;
            }
            bytes[2] &= (seed >> 40) as u8 & 1;
            bytes[3] = 0;
            if let Ok(Some((frame, used))) = parse(&bytes) {
                assert!(used <= bytes.len());
                let _ = (split_channel(frame.channel), split_data(frame.payload));
            }
        }
    }
}
