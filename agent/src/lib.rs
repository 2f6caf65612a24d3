//! The guest agent's parts; `main.rs` is the program; the tests, and whoever fuzzes the parsers, use the rest from here.

pub mod agent;
pub mod exec;
pub mod execs;
pub mod frame;
pub mod fstools;
pub mod link;
pub mod message;
pub mod mounts;
pub mod output;
pub mod process;
pub mod program;
mod requests;
pub mod shutdown;
pub mod spawn;
pub mod stdio;
pub mod stream;
pub mod syncer;
pub mod user;
