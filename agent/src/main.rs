//! `sandtrail-agent --socket PATH`, with SANDTRAIL_AGENT_TOKEN in the environment: PID 1 of a sandbox.
//! Started as `modal-sandbox-fs-tools` it is that program instead.

use sandtrail_agent::agent::Agent;
use sandtrail_agent::{fstools, process};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: u8 = 64;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if fstools::is_named_by(args.next().as_deref()) {
        return fstools::main(args);
    }
    let token = process::take_token();
    process::seclude();
    let (flag, socket, rest) = (args.next(), args.next().map(PathBuf::from), args.next());
    let (Some(token), Some(socket), true, None) =
        (token, socket, flag.is_some_and(|f| f == "--socket"), rest)
    else {
        eprintln!("usage: sandtrail-agent --socket PATH, with SANDTRAIL_AGENT_TOKEN in the environment");
        return ExitCode::from(USAGE);
    };
    match Agent::new(&socket, token) {
        Ok(agent) => agent.run(),
        Err(errno) => {
            eprintln!("sandtrail-agent: cannot start: {errno}");
            ExitCode::FAILURE
        }
    }
}
