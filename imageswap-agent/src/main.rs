//! `imageswap-agent`: wires the command line to the library.

use clap::Parser as _;
use imageswap_agent::cli::{Cli, Command};
use imageswap_agent::run::run;
use imageswap_runtime::{log, metrics::Exporter};
use std::process::ExitCode;

/// Exit code of a configuration that is not valid.
const INVALID: u8 = 2;

fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command;
    if let Err(error) = log::init(&args.log) {
        eprintln!("error: {error}");
        return ExitCode::from(INVALID);
    }
    let policy = match args.policy.clone().load() {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(INVALID);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(args, policy, Exporter::new())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
