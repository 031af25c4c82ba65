//! Logs: one line per event on standard error, as text for people or JSON for programs.
//!
//! Standard output is left alone, for it belongs to what a program was asked for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How to log; flatten it into a command's arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// Format of the log lines on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Least level to log, or a filter such as `info,imageswap_webhook=debug`
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Time, level, message and fields; coloured on a terminal unless `NO_COLOR` is set
    Text,
    /// One JSON object
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is no filter.
    #[error("--log-level {text:?} is no level or filter: {source}")]
    Level {
        /// What was given.
        text: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber was installed before.
    #[error("logging is set up twice in one process")]
    Twice,
}

/// Installs the process-wide subscriber. Call it once, before anything is worth saying.
pub fn init(args: &LogArgs) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|source| LogError::Level {
        text: args.log_level.clone(),
        source,
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match args.log_format {
        LogFormat::Text => builder
            .with_ansi(color(std::env::var_os("NO_COLOR")))
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    installed.map_err(|_already| LogError::Twice)
}

/// An empty `NO_COLOR` counts as unset (<https://no-color.org>).
fn color(no_color: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let args = LogArgs {
            log_format: LogFormat::Text,
            log_level: "imageswap=loud".to_owned(),
        };
        let error = init(&args).unwrap_err().to_string();
        assert!(
            error.starts_with("--log-level \"imageswap=loud\" is no level or filter: "),
            "{error}"
        );
    }

    #[test]
    fn no_color_switches_color_off() {
        assert!(!color(Some("1".into())));
    }
}
