//! The filesystem tool as it stands, started by its name as Modal's SDKs start it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandtrail-agent"));
    command.arg0("/__modal/.bin/modal-sandbox-fs-tools").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    tool(args).output().unwrap()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sandtrail-fstools-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir.canonicalize().unwrap())
    }

    fn path(&self, name: &str) -> String {
        let path = if name.is_empty() { self.0.clone() } else { self.0.join(name) };
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A watch that is known to be set.
struct Watch {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Watch {
    /// Writes to `probe` until the watch tells of it, then takes everything up to its end.
    fn start(options: &Value, probe: &str) -> Self {
        let mut child = tool(&[&json!({ "Watch": options }).to_string()]).spawn().unwrap();
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let pid = child.id();
        let mut watch = Self { child, stdin, lines };
        // The kernel shows a queue's watches among its open files.
        let is_set = || {
            let mut files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
            files.any(|file| fs::read_to_string(file.path()).is_ok_and(|info| info.contains("inotify wd:")))
        };
        let until = Instant::now() + Duration::from_secs(30);
        while !is_set() {
            assert!(Instant::now() < until, "the watch was not set");
            std::thread::sleep(Duration::from_millis(1));
        }
        // All is watched when this is told: the tool reads its queue only then.
        fs::write(probe, "").unwrap();
        watch.until(&json!(["Create", [probe]]));
        fs::remove_file(probe).unwrap();
        watch.until(&json!(["Remove", [probe]]));
        watch
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(line.strip_suffix('\n')?).unwrap();
        Some(json!([event["event_type"], event["paths"]]))
    }

    /// Everything up to `last`, without what tells of opening and closing.
    fn until(&mut self, last: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().unwrap_or_else(|| panic!("{last} did not come: {events:?}"));
            let is_last = event == *last;
            if event[0] != "Access" {
                events.push(event);
            }
            if is_last {
                return events;
            }
        }
    }

    /// Ends its stdin; what it still tells, and its exit code.
    fn end(mut self) -> (Vec<Value>, Option<i32>) {
        drop(self.stdin.take());
        let rest = std::iter::from_fn(|| self.next()).collect();
        (rest, self.child.wait().unwrap().code())
    }
}

#[test]
fn called_by_hand_without_a_command_it_says_how() {
    for args in [&[][..], &["{}", "{}"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(64));
        assert!(String::from_utf8(output.stderr).unwrap().starts_with("usage: modal-sandbox-fs-tools JSON"));
    }
}

#[test]
fn an_error_is_one_object_on_stderr_and_exit_1() {
    for (command, kind) in [
        ("nonsense", "InvalidInput"),
        (r#"{"Chmod":{"path":"/"}}"#, "InvalidInput"),
        (r#"{"Stat":{"path":"/missing/x"}}"#, "NotFound"),
        (r#"{ "ReadFile": {"path": "/"} }"#, "IsDirectory"),
        (r#"{"Watch":{"path":"/missing","timeout_secs":0}}"#, "NotFound"),
    ] {
        let output = run(&[command]);
        let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((output.status.code(), &failure["error_kind"]), (Some(1), &json!(kind)), "{command}");
        assert_eq!(failure["version"], 1);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_large_file_passes_in_little_memory() {
    const SIZE: usize = 64 * 1024 * 1024;
    let dir = Scratch::new("large");
    let mut writer =
        tool(&[&json!({ "WriteFile": { "path": dir.path("a/large") } }).to_string()]).spawn().unwrap();
    let mut stdin = writer.stdin.take().unwrap();
    for _ in 0..SIZE / 65_536 {
        stdin.write_all(&[7; 65_536]).unwrap();
    }
    assert!(peak_kib(&writer) < 8 * 1024, "{} KiB", peak_kib(&writer));
    drop(stdin);
    assert!(writer.wait().unwrap().success());

    let mut reader =
        tool(&[&json!({ "ReadFile": { "path": dir.path("a/large") } }).to_string()]).spawn().unwrap();
    let mut stdout = reader.stdout.take().unwrap();
    let mut piece = vec![0; SIZE / 2];
    stdout.read_exact(&mut piece).unwrap();
    assert!(peak_kib(&reader) < 8 * 1024, "{} KiB", peak_kib(&reader));
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(reader.wait().unwrap().success());
    assert_eq!(piece.len() + rest.len(), SIZE);
    assert!(piece.iter().chain(&rest).all(|byte| *byte == 7));
}

/// The most memory that a process had so far.
fn peak_kib(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_watch_tells_what_happens_in_its_order() {
    let dir = Scratch::new("order");
    let mut watch = Watch::start(&json!({ "path": dir.path("") }), &dir.path("probe"));
    let [a, b, sub] = ["a", "b", "sub"].map(|name| dir.path(name));
    fs::write(&a, "x").unwrap();
    fs::rename(&a, &b).unwrap();
    fs::create_dir(&sub).unwrap();
    fs::write(dir.path("sub/inside"), "not told").unwrap();
    fs::remove_file(&b).unwrap();
    let expected =
        json!([["Create", [a]], ["Modify", [a]], ["Rename", [a, b]], ["Create", [sub]], ["Remove", [b]]]);
    assert_eq!(json!(watch.until(&json!(["Remove", [b]]))), expected);
    assert_eq!(watch.end(), (vec![], Some(0)));
}

#[test]
fn what_is_moved_in_and_out_is_a_rename_with_one_path() {
    let (dir, outside) = (Scratch::new("moved"), Scratch::new("outside"));
    let mut watch = Watch::start(&json!({ "path": dir.path(""), "recursive": true }), &dir.path("probe"));
    fs::create_dir(outside.path("tree")).unwrap();
    fs::rename(outside.path("tree"), dir.path("tree")).unwrap();
    assert_eq!(watch.next().unwrap(), json!(["RenameTo", [dir.path("tree")]]));
    fs::write(dir.path("tree/file"), "").unwrap();
    watch.until(&json!(["Create", [dir.path("tree/file")]]));
    fs::rename(dir.path("tree"), outside.path("tree")).unwrap();
    watch.until(&json!(["RenameFrom", [dir.path("tree")]]));
    fs::write(outside.path("tree/file"), "nobody is told").unwrap();
    fs::write(dir.path("last"), "").unwrap();
    assert_eq!(watch.until(&json!(["Create", [dir.path("last")]])).len(), 1);
    assert_eq!(watch.end().1, Some(0));
}

#[test]
fn directories_that_appear_and_move_are_followed_and_their_content_is_told_once() {
    let dir = Scratch::new("follow");
    let mut watch = Watch::start(&json!({ "path": dir.path(""), "recursive": true }), &dir.path("probe"));
    for round in 0..200 {
        let deep = dir.path(&format!("d{round}/a/b"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(format!("{deep}/file"), "").unwrap();
    }
    fs::write(dir.path("last"), "").unwrap();
    let mut created: Vec<_> = watch.until(&json!(["Create", [dir.path("last")]]));
    // What was found by looking may be told after what the kernel told.
    fs::write(dir.path("very-last"), "").unwrap();
    created.extend(watch.until(&json!(["Create", [dir.path("very-last")]])));
    for round in 0..200 {
        for name in ["", "/a", "/a/b", "/a/b/file"] {
            let event = json!(["Create", [dir.path(&format!("d{round}{name}"))]]);
            assert_eq!(created.iter().filter(|told| **told == event).count(), 1, "{event}");
        }
    }
    fs::rename(dir.path("d7"), dir.path("moved")).unwrap();
    watch.until(&json!(["Rename", [dir.path("d7"), dir.path("moved")]]));
    fs::remove_file(dir.path("moved/a/b/file")).unwrap();
    watch.until(&json!(["Remove", [dir.path("moved/a/b/file")]]));
    assert_eq!(watch.end().1, Some(0));
}

#[test]
fn a_file_is_watched_through_its_replacement_and_its_removal() {
    let dir = Scratch::new("file");
    let (file, link) = (dir.path("file"), dir.path("link"));
    fs::write(&file, "").unwrap();
    symlink("file", &link).unwrap();
    let options = json!({ "Watch": { "path": link, "filter": ["Modify", "Remove", "Create", "RenameTo"] } });
    let mut child = tool(&[&options.to_string()]).spawn().unwrap();
    let mut watch =
        Watch { stdin: child.stdin.take(), lines: BufReader::new(child.stdout.take().unwrap()), child };
    // Whenever the watch was set, it tells of one of these.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&file, "x").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        assert_eq!(watch.next().unwrap(), json!(["Modify", [file]]));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    fs::write(dir.path("other"), "not told").unwrap();
    fs::rename(dir.path("other"), &file).unwrap();
    watch.until(&json!(["RenameTo", [file]]));
    fs::remove_file(&file).unwrap();
    watch.until(&json!(["Remove", [file]]));
    fs::write(&file, "").unwrap();
    watch.until(&json!(["Create", [file]]));
    assert_eq!(watch.end().1, Some(0));
}

#[test]
fn a_watch_ends_when_its_path_is_gone() {
    let dir = Scratch::new("gone");
    fs::create_dir(dir.path("sub")).unwrap();
    let options = json!({ "path": dir.path("sub"), "recursive": true });
    let mut watch = Watch::start(&options, &dir.path("sub/probe"));
    fs::remove_dir(dir.path("sub")).unwrap();
    watch.until(&json!(["Remove", [dir.path("sub")]]));
    assert_eq!((watch.next(), watch.child.wait().unwrap().code()), (None, Some(0)));
}

#[test]
fn time_and_a_reader_that_goes_away_end_a_watch() {
    let dir = Scratch::new("ends");
    let zero = run(&[&json!({ "Watch": { "path": dir.path(""), "timeout_secs": 0 } }).to_string()]);
    assert_eq!((zero.status.code(), zero.stdout.len()), (Some(0), 0));
    // With stdin open, so that nothing but the time can end it.
    let command = json!({ "Watch": { "path": dir.path(""), "timeout_secs": 1, "filter": null } }).to_string();
    let mut child = tool(&[&command]).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let mut watch = Watch::start(&json!({ "path": dir.path("") }), &dir.path("probe"));
    drop(std::mem::replace(&mut watch.lines, BufReader::new(tool(&[]).spawn().unwrap().stdout.unwrap())));
    assert_eq!(watch.child.wait().unwrap().code(), Some(0));
}

/// The kernel's queue is full: nothing was read from it while the tool stood still.
#[test]
fn changes_that_the_kernel_lost_are_told() {
    let dir = Scratch::new("lost");
    let options = json!({ "path": dir.path(""), "recursive": true, "filter": ["Create", "Remove"] });
    let mut watch = Watch::start(&options, &dir.path("probe"));
    let queue: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_child(&watch.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    for round in 0..=queue {
        fs::File::create(dir.path(&format!("f{round}"))).unwrap();
    }
    fs::create_dir(dir.path("unseen")).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    watch.until(&json!(["Unknown", [dir.path("")]]));
    // Of the directory that nobody told of the watch tells from now on.
    fs::write(dir.path("unseen/file"), "").unwrap();
    let told = watch.until(&json!(["Create", [dir.path("unseen/file")]]));
    assert!(told.len() <= 2, "{told:?}");
    assert_eq!(watch.end().1, Some(0));
}
