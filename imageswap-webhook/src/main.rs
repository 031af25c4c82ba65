//! The `imageswap-webhook` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use imageswap_webhook::cli::{Cli, Command};
use imageswap_webhook::serve;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Cli::parse().command {
        Command::Serve(args) => *args,
        Command::Man(args) => return args.run(Cli::command()),
    };
    match serve::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.report());
            error.exit_code()
        }
    }
}
