//! Control messages: one JSON object each, on channel 0. docs/agent-protocol.md lists them for both sides.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const PROTOCOL: u32 = 1;
/// Most bytes of one message from the host, its pieces together: argv and env of an exec may be long.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum FromHost {
    Hello { protocol: u32 },
    Resume { exec: String, stdout: u64, stderr: u64 },
    Exec { id: u64, exec: String, spec: ExecSpec, stdout: u64, stderr: u64 },
    State { id: u64, exec: String },
    StdinEof { id: u64, exec: String, offset: u64 },
    Resize { id: u64, exec: String, rows: u16, cols: u16 },
    Signal { id: u64, exec: String, signal: i32 },
    AckExit { id: u64, exec: String },
    Sync { id: u64, timeout_ms: u64 },
    Bind { id: u64, source: String, target: String, read_only: bool, replace: bool },
    Unbind { id: u64, target: String },
    Mounts { id: u64 },
    Ping { id: u64 },
    Shutdown { id: u64, grace_ms: u64 },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecSpec {
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    pub user: Option<String>,
    pub pty: Option<PtySize>,
    /// Whether bytes will come; else the program reads the end of file at once.
    #[serde(default)]
    pub stdin: bool,
    pub timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize, Clone, Copy)]
pub struct PtySize {
    pub rows: u16,
    pub cols: u16,
}

#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ToHost<'a> {
    Hello {
        protocol: u32,
        version: &'a str,
        token: &'a str,
        boot: &'a str,
    },
    /// An exec whose exit the host has not acknowledged; sent for each after the hellos.
    Open {
        exec: &'a str,
        #[serde(flatten)]
        open: OpenState,
    },
    Listed {
        count: usize,
    },
    Exit {
        exec: &'a str,
        exit: Exit,
    },
    Done {
        id: u64,
        result: Answer,
    },
    Refused {
        id: u64,
        code: &'a str,
        message: &'a str,
    },
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    State(ExecState),
    Mounts { mounts: Vec<Mount> },
    Nothing {},
}

#[derive(Debug, Serialize, Clone)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ExecState {
    Unknown,
    /// Running, or ended with an exit that the host has not acknowledged: that exit is (or will be) sent.
    Open(OpenState),
    Exited {
        exit: Exit,
    },
    Failed(Failure),
}

#[derive(Debug, Serialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct OpenState {
    pub handle: u32,
    pub pid: i32,
    pub started_ago_ms: u64,
    pub ended: bool,
    pub stdin: StdinState,
    /// The first byte of each stream that is still held here.
    pub stdout_from: u64,
    pub stderr_from: u64,
}

#[derive(Debug, Serialize, Clone, Copy, PartialEq, Eq)]
pub struct StdinState {
    /// Every byte below has been taken over.
    pub accepted: u64,
    /// The host may send up to here.
    pub limit: u64,
    /// Nobody reads it any more, or its end was given.
    pub closed: bool,
}

/// How an exec ended. A stream is complete when its end of file was seen.
#[derive(Debug, Serialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub timed_out: bool,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub stdout_complete: bool,
    pub stderr_complete: bool,
    /// From the start of the process to its end.
    pub ran_ms: u64,
}

/// It never ran. 127: not found, 126: found but not to be run so, 125: refused by the agent.
#[derive(Debug, Serialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    pub code: &'static str,
    pub exit_code: i32,
    pub message: String,
}

#[derive(Debug, Serialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// Joins the pieces of a message.
#[derive(Default)]
pub struct Assembler {
    pieces: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum MessageError {
    TooLong,
    Malformed,
}

impl Assembler {
    /// Keeps a piece that goes on in the next frame.
    ///
    /// # Errors
    /// [`MessageError::TooLong`] when the pieces exceed [`MESSAGE_MAX`].
    pub fn part(&mut self, payload: &[u8]) -> Result<(), MessageError> {
        if self.pieces.len() + payload.len() > MESSAGE_MAX {
            return Err(MessageError::TooLong);
        }
        self.pieces.extend_from_slice(payload);
        Ok(())
    }

    /// The message that ends with `payload`.
    ///
    /// # Errors
    /// [`MessageError::Malformed`] unless it is one JSON object of the protocol.
    pub fn end(&mut self, payload: &[u8]) -> Result<FromHost, MessageError> {
        if self.pieces.is_empty() {
            return serde_json::from_slice(payload).map_err(|_| MessageError::Malformed);
        }
        self.part(payload)?;
        let whole = std::mem::take(&mut self.pieces);
        serde_json::from_slice(&whole).map_err(|_| MessageError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_pieces_is_the_message() {
        let text = br#"{"op":"resize","id":3,"exec":"e","rows":24,"cols":80}"#;
        for at in 0..text.len() {
            let mut assembler = Assembler::default();
            assembler.part(&text[..at]).unwrap();
            let message = assembler.end(&text[at..]).unwrap();
            assert!(matches!(message, FromHost::Resize { id: 3, rows: 24, cols: 80, .. }));
        }
    }

    #[test]
    fn pieces_without_end_are_refused() {
        let mut assembler = Assembler::default();
        let piece = vec![b' '; 64 * 1024];
        let refused = (0..=MESSAGE_MAX / piece.len()).find_map(|_| assembler.part(&piece).err());
        assert_eq!(refused, Some(MessageError::TooLong));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for text in
            ["", "[]", "{}", r#"{"op":"nope"}"#, r#"{"op":"ping"}"#, r#"{"op":"ping","id":-1}"#, "\u{0}"]
        {
            assert_eq!(
                Assembler::default().end(text.as_bytes()).err(),
                Some(MessageError::Malformed),
                "{text}"
            );
        }
    }

    #[test]
    fn states_are_told_by_name() {
        let state = ExecState::Failed(Failure { code: "NOT_FOUND", exit_code: 127, message: "x".into() });
        let text = serde_json::to_string(&ToHost::Done { id: 1, result: Answer::State(state) }).unwrap();
        assert_eq!(
            text,
            r#"{"op":"done","id":1,"result":{"state":"failed","code":"NOT_FOUND","exitCode":127,"message":"x"}}"#
        );
    }
}
