//! What is fuzzed: one function of bytes per target, which panics where a promise is broken. The fuzzers in `bin/`
//! search for such bytes; `agent/tests/corpus.rs` replays what they kept, and this file is a module of it.

use sandtrail_agent::frame::{self, BODY_MAX};
use sandtrail_agent::message::{Assembler, FromHost, MESSAGE_MAX, MessageError};
use sandtrail_agent::stream::{OUTPUT_WINDOW, OutputWindow, STDIN_WINDOW, StdinBuffer};
use sandtrail_agent::user;

type Frames = Vec<(u32, Vec<u8>)>;

/// Any bytes: frames or a refusal, the same however the bytes are split, and frames that were read are written alike.
pub fn frames(input: &[u8]) {
    let whole = cut(&[input]);
    let at = input.first().map_or(0, |byte| usize::from(*byte) % (input.len() + 1));
    assert_eq!(cut(&[&input[..at], &input[at..]]), whole);
    assert_eq!(cut(&input.chunks(3).collect::<Vec<_>>()), whole);

    let mut again = Vec::new();
    for (channel, payload) in &whole.0 {
        frame::write(&mut again, *channel, &[payload]);
        if let Some((handle, stream)) = frame::split_channel(*channel) {
            assert_eq!(frame::data_channel(handle, stream), *channel);
        }
        if let Some((offset, bytes)) = frame::split_data(payload) {
            assert_eq!([&offset.to_le_bytes()[..], bytes].concat(), *payload);
        }
    }
    assert_eq!(again, input[..again.len()]);
}

/// The frames of the chunks, and whether the peer broke the protocol after them. As [`sandtrail_agent::link`] reads.
fn cut(chunks: &[&[u8]]) -> (Frames, bool) {
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match frame::parse(&buffer) {
                Ok(Some((frame, used))) => {
                    assert!(frame.payload.len() <= BODY_MAX - 4);
                    found.push((frame.channel, frame.payload.to_vec()));
                    buffer.drain(..used);
                }
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
        // What waits for its rest is less than one frame: nobody makes us hold more.
        assert!(buffer.len() < 4 + BODY_MAX);
    }
    (found, false)
}

/// Bytes as the control frames of a host: each message is one of the protocol or refused, and a message in pieces is
/// the message.
pub fn messages(input: &[u8]) {
    let mut assembler = Assembler::default();
    let mut held = 0;
    for (channel, payload) in cut(&[input]).0 {
        match channel {
            frame::CONTROL_PART => match assembler.part(&payload) {
                Ok(()) => held += payload.len(),
                Err(error) => {
                    assert_eq!(error, MessageError::TooLong);
                    assert!(held + payload.len() > MESSAGE_MAX);
                }
            },
            frame::CONTROL => {
                let _ = assembler.end(&payload);
                assembler = Assembler::default();
                held = 0;
            }
            _ => {}
        }
    }

    let whole = Assembler::default().end(input);
    let at = input.len() / 2;
    let mut pieces = Assembler::default();
    assert_eq!(pieces.part(&input[..at]), Ok(()));
    assert_eq!(told(pieces.end(&input[at..])), told(whole));
}

fn told(message: Result<FromHost, MessageError>) -> String {
    format!("{message:?}")
}

/// Bytes as steps of a host and a program on both kinds of stream: offsets and counts hold whatever the host says, no
/// window grows beyond its limit, and no byte is lost, doubled or moved.
pub fn streams(input: &[u8]) {
    let (mut output, mut stdin) = (OutputWindow::default(), StdinBuffer::default());
    let (mut written, mut taken) = (0u64, 0u64);
    for step in input.chunks_exact(4) {
        let [kind, low, high, shift] = [step[0], step[1], step[2], step[3]];
        let near = u64::from(u16::from_le_bytes([low, high])) << (shift % 5);
        let offset = if shift == 255 { u64::MAX - near } else { near };
        let size = usize::try_from(near).unwrap_or(0);
        match kind % 8 {
            0 => {
                let count = size.min(output.room());
                let bytes: Vec<u8> = (written..written + count as u64).map(byte_at).collect();
                output.push(&bytes);
                written += count as u64;
            }
            1 => {
                let known = output.received();
                assert_eq!(output.ack(offset).is_ok(), offset <= known);
            }
            2 => {
                let known = output.received();
                assert_eq!(output.resume(offset).is_ok(), offset <= known);
            }
            3 => {
                if let Some((from, front, back)) = output.take_unsent(size) {
                    for (n, byte) in front.iter().chain(back).enumerate() {
                        assert_eq!(*byte, byte_at(from + n as u64));
                    }
                    assert!(front.len() + back.len() <= size);
                }
            }
            4 => {
                let bytes: Vec<u8> =
                    (0..size.min(4096) as u64).map(|n| byte_at(offset.wrapping_add(n))).collect();
                let _ = stdin.receive(offset, &bytes);
            }
            5 => {
                let _ = stdin.end(offset);
            }
            6 => {
                let pending = stdin.pending();
                let count = size.min(pending.len());
                for (n, byte) in pending[..count].iter().enumerate() {
                    assert_eq!(*byte, byte_at(taken + n as u64));
                }
                stdin.wrote(count);
                taken += count as u64;
            }
            _ if shift == 7 => {
                stdin.close();
                taken = stdin.state().accepted;
            }
            _ => {}
        }
        assert_eq!(output.received(), written);
        assert!(output.acked() <= written && output.held() <= OUTPUT_WINDOW);
        let state = stdin.state();
        assert!(state.accepted <= state.limit && state.limit - taken == STDIN_WINDOW as u64);
    }
}

/// The byte that stands at an offset of every stream here.
fn byte_at(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// Bytes as a user's name and the guest's own two files, divided by NUL: an identity or a refusal.
pub fn users(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.splitn(3, '\0');
    let mut next = || parts.next().unwrap_or("");
    let (name, passwd, group) = (next(), next(), next());
    if let Ok(identity) = user::resolve(name, passwd, group) {
        assert_ne!(identity.uid, u32::MAX);
        assert_ne!(identity.gid, u32::MAX);
        assert!(!identity.groups.is_empty() && identity.groups.len() <= 1024);
        assert!(identity.groups.iter().all(|group| *group != u32::MAX));
        assert!(identity.home.starts_with('/'));
    }
}
