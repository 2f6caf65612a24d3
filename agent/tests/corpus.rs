//! Replays what the fuzzers kept (`agent/fuzz/corpus`), and near misses of it, without their instruments: any cargo can.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Changed copies of each kept input; the same ones each time.
const NEAR_MISSES: u64 = 20;

#[test]
fn frames_of_the_corpus_keep_their_promises() {
    replay("frames", targets::frames);
}

#[test]
fn messages_of_the_corpus_keep_their_promises() {
    replay("messages", targets::messages);
}

#[test]
fn streams_of_the_corpus_keep_their_promises() {
    replay("streams", targets::streams);
}

#[test]
fn users_of_the_corpus_keep_their_promises() {
    replay("users", targets::users);
}

fn replay(name: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{} is no corpus", dir.display());
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for file in files {
        let input = std::fs::read(&file).unwrap();
        assert!(catch_unwind(|| target(&input)).is_ok(), "{}", file.display());
        for _ in 0..NEAR_MISSES {
            let changed = near_miss(&input, &mut seed);
            assert!(
                catch_unwind(|| target(&changed)).is_ok(),
                "{}, changed to {changed:02x?}",
                file.display()
            );
        }
    }
}

/// A byte changed, removed or put in, or the end cut off.
fn near_miss(input: &[u8], seed: &mut u64) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let (kind, byte) = (next(seed) % 4, next(seed) as u8);
    let at = usize::try_from(next(seed)).unwrap() % (bytes.len() + 1);
    match kind {
        0 if at < bytes.len() => bytes[at] = byte,
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 => bytes.insert(at, byte),
        _ => bytes.truncate(at),
    }
    bytes
}

/// xorshift64
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
