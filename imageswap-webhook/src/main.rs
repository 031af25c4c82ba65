//! The `imageswap-webhook` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use imageswap_webhook::cli::{Cli, Command};
use imageswap_webhook::serve;

#[tokio::main]
async fn main() -> ExitCode {
    let Cli {
        command: Command::Serve(args),
    } = Cli::parse();
    match serve::run(*args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            error.exit_code()
        }
    }
}
