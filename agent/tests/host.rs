//! The program as it stands, as a plain process, against a host that is played here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use sandtrail_agent::frame::{self, Stream};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

const TOKEN: &str = "a token for tests, 32 bytes long.";

/// One agent and the socket that it comes to.
struct Host {
    dir: PathBuf,
    listener: UnixListener,
    agent: Child,
}

impl Host {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sandtrail-agent-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = dir.join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_sandtrail-agent"))
            .arg("--socket")
            .arg(&socket)
            .env_clear()
            .env("SANDTRAIL_AGENT_TOKEN", TOKEN)
            .spawn()
            .unwrap();
        Self { dir, listener, agent }
    }

    /// The agent's next connection, after its hello and ours; with the execs that it lists.
    fn accept(&self) -> (Connection, Vec<Value>) {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut connection = Connection { stream, bytes: Vec::new() };
        let hello = connection.message("hello");
        assert_eq!((&hello["protocol"], &hello["token"]), (&json!(1), &json!(TOKEN)));
        connection.say(&json!({"op": "hello", "protocol": 1}));
        let mut open = Vec::new();
        loop {
            let message = connection.control();
            if message["op"] == "listed" {
                assert_eq!(message["count"], open.len());
                return (connection, open);
            }
            open.push(message);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

struct Connection {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Connection {
    fn say(&mut self, message: &Value) {
        self.frame(frame::CONTROL, &[message.to_string().as_bytes()]);
    }

    fn frame(&mut self, channel: u32, parts: &[&[u8]]) {
        let mut out = Vec::new();
        frame::write(&mut out, channel, parts);
        self.stream.write_all(&out).unwrap();
    }

    /// The next frame; `None` when the agent has closed the stream.
    fn next(&mut self) -> Option<(u32, Vec<u8>)> {
        loop {
            if let Some((frame, used)) = frame::parse(&self.bytes).unwrap() {
                let found = (frame.channel, frame.payload.to_vec());
                self.bytes.drain(..used);
                return Some(found);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                // A read with a time limit is not taken up again by the kernel.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => panic!("the agent's stream failed: {error}"),
            }
        }
    }

    fn control(&mut self) -> Value {
        loop {
            let (channel, payload) = self.next().unwrap();
            if channel == frame::CONTROL {
                return serde_json::from_slice(&payload).unwrap();
            }
        }
    }

    fn message(&mut self, op: &str) -> Value {
        let message = self.control();
        assert_eq!(message["op"], op, "{message}");
        message
    }

    /// Starts a shell with `script` as exec `id`; returns its state.
    fn exec(&mut self, id: &str, script: &str) -> Value {
        let spec = json!({"argv": ["sh", "-c", script], "stdin": true});
        self.say(&json!({"op": "exec", "id": 1, "exec": id, "spec": spec, "stdout": 0, "stderr": 0}));
        self.message("done")["result"].clone()
    }

    /// Takes output until the exit comes; returns the stdout from `offset` on, and the exit.
    fn output(&mut self, handle: u32, mut offset: u64) -> (Vec<u8>, Value) {
        let mut seen = Vec::new();
        loop {
            let (channel, payload) = self.next().unwrap();
            if channel == frame::CONTROL {
                let message: Value = serde_json::from_slice(&payload).unwrap();
                assert_eq!(message["op"], "exit", "{message}");
                return (seen, message["exit"].clone());
            }
            if channel == frame::data_channel(handle, Stream::Stdin) {
                continue; // That nobody reads it any more.
            }
            assert_eq!(frame::split_channel(channel), Some((handle, Stream::Stdout)));
            let (at, bytes) = frame::split_data(&payload).unwrap();
            assert_eq!(at, offset);
            seen.extend_from_slice(bytes);
            offset += bytes.len() as u64;
            self.frame(channel, &[&offset.to_le_bytes()]);
        }
    }

    fn is_closed(&mut self) -> bool {
        while let Ok(Some(_)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.next())) {}
        self.stream.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

fn handle_of(state: &Value) -> u32 {
    u32::try_from(state["handle"].as_u64().unwrap()).unwrap()
}

#[test]
fn output_goes_on_at_the_byte_that_the_next_host_asks_for() {
    let host = Host::new("resume");
    let (mut first, open) = host.accept();
    assert!(open.is_empty());
    let state = first.exec("e", "printf 0123456789; read x; printf abc");
    let handle = handle_of(&state);
    let (channel, payload) = first.next().unwrap();
    assert_eq!((channel, &payload[8..]), (frame::data_channel(handle, Stream::Stdout), &b"0123456789"[..]));
    first.frame(channel, &[&4u64.to_le_bytes()]);
    drop(first);

    let (mut second, open) = host.accept();
    assert_eq!(
        (&open[0]["exec"], &open[0]["stdoutFrom"], &open[0]["handle"]),
        (&json!("e"), &json!(4), &json!(handle))
    );
    second.say(&json!({"op": "resume", "exec": "e", "stdout": 7, "stderr": 0}));
    let stdin = frame::data_channel(handle, Stream::Stdin);
    second.frame(stdin, &[&0u64.to_le_bytes(), b"\n"]);
    let mut seen = Vec::new();
    let exit = loop {
        let (channel, payload) = second.next().unwrap();
        if channel == frame::CONTROL {
            break serde_json::from_slice::<Value>(&payload).unwrap()["exit"].clone();
        }
        if channel != stdin {
            seen.extend_from_slice(&payload[8..]);
        }
    };
    assert_eq!(seen, b"789abc");
    assert_eq!((&exit["code"], &exit["stdoutBytes"]), (&json!(0), &json!(13)));
    drop(second);

    // Not acknowledged: the exit comes again, and what was not acknowledged too.
    let (mut third, open) = host.accept();
    assert_eq!(open[0]["ended"], true);
    third.say(&json!({"op": "resume", "exec": "e", "stdout": 13, "stderr": 0}));
    assert_eq!(third.output(handle, 13), (Vec::new(), exit.clone()));
    third.say(&json!({"op": "ack-exit", "id": 2, "exec": "e"}));
    third.message("done");
    drop(third);

    let (mut last, open) = host.accept();
    assert!(open.is_empty());
    assert_eq!(last.exec("e", "echo never"), json!({"state": "exited", "exit": exit}));
}

#[test]
fn nothing_is_said_before_the_host_has_said_where_to_go_on() {
    let host = Host::new("silent");
    let (mut first, _) = host.accept();
    let handle = handle_of(&first.exec("e", "seq 1 1000"));
    drop(first);
    let (mut second, _) = host.accept();
    second.say(&json!({"op": "ping", "id": 5}));
    assert_eq!(second.message("done")["id"], 5);
    second.say(&json!({"op": "resume", "exec": "e", "stdout": 0, "stderr": 0}));
    let (seen, _) = second.output(handle, 0);
    assert_eq!(seen.iter().filter(|byte| **byte == b'\n').count(), 1000);
}

#[test]
fn a_host_that_breaks_the_protocol_loses_its_connection_and_no_exec() {
    let host = Host::new("violation");
    let (mut first, _) = host.accept();
    let handle = handle_of(&first.exec("e", "cat"));
    let stdin = frame::data_channel(handle, Stream::Stdin);
    let stdout = frame::data_channel(handle, Stream::Stdout);
    drop(first);
    let gap = [&1u64.to_le_bytes()[..], b"x"].concat();
    let ack_of_nothing = 9u64.to_le_bytes().to_vec();
    let attacks: [(u32, &[u8]); 6] = [
        (frame::CONTROL, b"{"),
        (frame::CONTROL, br#"{"op":"hello","protocol":1}"#),
        (2, b""),
        (stdin, &gap),
        (stdin, b"short"),
        (stdout, &ack_of_nothing),
    ];
    for (channel, payload) in attacks {
        let (mut connection, open) = host.accept();
        assert_eq!(open.len(), 1);
        connection.say(&json!({"op": "resume", "exec": "e", "stdout": 0, "stderr": 0}));
        connection.frame(channel, &[payload]);
        assert!(connection.is_closed());
    }
    let (mut connection, open) = host.accept();
    assert_eq!(open[0]["ended"], false);
    connection.stream.write_all(&[0xff; 64]).unwrap();
    assert!(connection.is_closed());
}

#[test]
fn one_mebibyte_without_an_ack_is_held_back_at_the_window() {
    let host = Host::new("window");
    let (mut connection, _) = host.accept();
    let handle = handle_of(&connection.exec("e", "head -c 1048576 /dev/zero"));
    let mut got = 0;
    while got < 256 * 1024 {
        got += connection.next().unwrap().1.len() - 8;
    }
    assert_eq!(got, 256 * 1024);
    connection.say(&json!({"op": "ping", "id": 1}));
    assert_eq!(connection.message("done")["id"], 1);
    let offset = got as u64;
    connection.frame(frame::data_channel(handle, Stream::Stdout), &[&offset.to_le_bytes()]);
    let (rest, exit) = connection.output(handle, offset);
    assert_eq!(got + rest.len(), 1024 * 1024);
    assert_eq!(exit["stdoutComplete"], true);
}

#[test]
fn a_slow_host_makes_no_stream_incomplete() {
    let host = Host::new("slow");
    let (mut connection, _) = host.accept();
    let handle = handle_of(&connection.exec("e", "head -c 300000 /dev/zero"));
    let mut got = 0;
    while got < 256 * 1024 {
        let (channel, payload) = connection.next().unwrap();
        got += if channel == frame::data_channel(handle, Stream::Stdout) { payload.len() - 8 } else { 0 };
    }
    // Longer than the agent waits for the end of a stream that someone holds.
    let (cut, patience) =
        (std::time::Instant::now(), sandtrail_agent::exec::DRAIN_MAX + Duration::from_millis(200));
    while cut.elapsed() < patience {
        connection.say(&json!({"op": "ping", "id": 1}));
        while connection.control()["op"] != "done" {}
    }
    let offset = got as u64;
    connection.frame(frame::data_channel(handle, Stream::Stdout), &[&offset.to_le_bytes()]);
    let (rest, exit) = connection.output(handle, offset);
    assert_eq!((got + rest.len(), &exit["stdoutComplete"]), (300_000, &json!(true)));
}

#[test]
fn without_a_token_or_a_socket_it_does_not_start() {
    let run = |args: &[&str], token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandtrail-agent"));
        command.args(args).env_clear().env("SANDTRAIL_AGENT_TOKEN", token).output().unwrap().status.code()
    };
    assert_eq!(run(&["--socket", "/tmp/x"], ""), Some(64));
    assert_eq!(run(&["--socket"], TOKEN), Some(64));
    assert_eq!(run(&["--other", "/tmp/x"], TOKEN), Some(64));
    assert_eq!(run(&["--socket", &"x".repeat(200)], TOKEN), Some(1));
}
