//! Logs: one line per event on standard error, as text for people or JSON for programs.
//!
//! Standard output is left alone, for it belongs to what a program was asked for. The level can be changed while the
//! program runs ([`LogLevel`]), which the admin port offers.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

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
        source: ParseError,
    },
    /// A subscriber was installed before.
    #[error("logging is set up twice in one process")]
    Twice,
}

/// What is logged from now on. Clones are the same level.
#[derive(Debug, Clone)]
pub struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Installs the process-wide subscriber. Call it once, before anything is worth saying.
pub fn init(args: &LogArgs) -> Result<LogLevel, LogError> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|source| LogError::Level {
        text: args.log_level.clone(),
        source,
    })?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match args.log_format {
        LogFormat::Text => lines.with_ansi(color(std::env::var_os("NO_COLOR"))).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|_already| LogError::Twice)?;
    Ok(LogLevel { filter: handle })
}

impl LogLevel {
    /// The filter in force, in the form that [`set`](Self::set) takes.
    pub fn get(&self) -> String {
        self.filter
            .with_current(ToString::to_string)
            .unwrap_or_default()
    }

    /// Logs by `filter` from now on; returns what it replaced.
    ///
    /// # Errors
    /// When it is no filter; the one in force stays.
    pub fn set(&self, filter: &str) -> Result<String, ParseError> {
        let new = EnvFilter::try_new(filter)?;
        let old = self.get();
        // Fails only when the subscriber is gone, and with it the log.
        self.filter.reload(new).ok();
        Ok(old)
    }
}

/// An empty `NO_COLOR` counts as unset (<https://no-color.org>).
fn color(no_color: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && io::stderr().is_terminal()
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
