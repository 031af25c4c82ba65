//! The `imageswap` command: evaluates a policy as the services do, and prints the result.
//!
//! Exit codes: 0 if all is well, 1 if something was found, 2 if the question could not be answered.

mod cases;
mod cli;
mod completions;
mod diff;
mod drift;
mod explain;
mod export;
mod finding;
mod formats;
mod import;
mod init;
mod input;
mod lint;
mod manifest;
mod missing;
mod moment;
mod outcome;
mod policy;
mod report;
mod scan;
mod scope;
mod screen;
mod verdict;
mod verify;
mod wait;

use anyhow::Error;
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use outcome::Outcome;
use screen::report;

fn main() -> ExitCode {
    match cli::parse().run(&mut io::stdout().lock()) {
        Ok(outcome) => outcome.into(),
        // The reader has closed the pipe.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let mut kinds = error.chain().filter_map(|it| {
        let of_json = || it.downcast_ref::<serde_json::Error>()?.io_error_kind();
        it.downcast_ref().map(io::Error::kind).or_else(of_json)
    });
    kinds.any(|it| it == ErrorKind::BrokenPipe)
}
