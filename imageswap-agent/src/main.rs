//! `imageswap-agent`: wires the command line to the library.

use clap::{CommandFactory as _, Parser as _};
use imageswap_agent::cli::{Cli, Command, RunArgs};
use imageswap_agent::doctor::examine;
use imageswap_agent::run::run;
use imageswap_runtime::source::SourceError;
use imageswap_runtime::{log, metrics::Exporter};
use std::process::ExitCode;

/// Exit code for an invalid configuration.
const INVALID: u8 = 2;

fn main() -> ExitCode {
    let args = match Cli::parse().command {
        Command::Run(args) => *args,
        Command::Doctor(args) => return examine(args),
        Command::Man(args) => return args.run(Cli::command()),
    };
    if let Err(error) = log::init(&args.log) {
        eprintln!("error: {error}");
        return ExitCode::from(INVALID);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(start(args));
            // A thread may still read a file that never answers.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(anyhow::Error::new(error).context("cannot start the runtime")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<SourceError>() {
            // Diagnostics print their own severity.
            Ok(error) => {
                eprintln!("{error}");
                ExitCode::from(INVALID)
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

async fn start(args: RunArgs) -> anyhow::Result<()> {
    let client = if args.wants_cluster() {
        Some(args.cluster.client().await?)
    } else {
        None
    };
    let policy = args.policy().load(client.as_ref())?;
    run(args, policy, client, Exporter::new()).await
}
