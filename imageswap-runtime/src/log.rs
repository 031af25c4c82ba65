//! Logs: one line per event on standard error, as text for people or JSON for programs.
//!
//! Standard output is left to the program's actual output. The level can be changed while the
//! program runs ([`LogLevel`]), through the admin port.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, reload};

use crate::text::{Escaping, escape, every_byte};

/// How to log; flatten it into a command's arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// Format of the log lines on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Minimum level to log, or a filter such as `info,imageswap_webhook=debug`
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
}

/// Format of a log line.
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
    /// The level is not a filter.
    #[error("--log-level {text:?} is not a level or filter: {source}")]
    Level {
        /// The argument.
        text: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// A subscriber was installed before.
    #[error("logging is set up twice in one process")]
    Twice,
}

/// The present log level. Clones share it.
#[derive(Debug, Clone)]
pub struct LogLevel {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Installs the process-wide subscriber. Call it once, before anything is logged.
pub fn init(args: &LogArgs) -> Result<LogLevel, LogError> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|source| LogError::Level {
        text: args.log_level.clone(),
        source,
    })?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer();
    let lines = match args.log_format {
        LogFormat::Text => {
            let coloured = color(std::env::var_os("NO_COLOR"));
            lines
                .with_ansi(coloured)
                .fmt_fields(Fields)
                .with_writer(move || Lines::of(io::stderr(), coloured))
                .boxed()
        }
        LogFormat::Json => lines
            .with_writer(|| Escaping::new(io::stderr()))
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

    /// Changes the filter; returns the previous one.
    ///
    /// # Errors
    /// If it is not a filter; the present one stays.
    pub fn set(&self, filter: &str) -> Result<String, ParseError> {
        let new = EnvFilter::try_new(filter)?;
        let old = self.get();
        // Fails only if the subscriber, and so the log, is gone.
        self.filter.reload(new).ok();
        Ok(old)
    }
}

/// Writes fields as `name=value`, without control characters. The subscriber's own formatter lets
/// those of `Display` through.
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line {
            writer,
            first: true,
            result: Ok(()),
        };
        fields.record(&mut line);
        line.result
    }
}

/// The fields of one event.
struct Line<'w> {
    writer: Writer<'w>,
    first: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_err() {
            return;
        }
        if !std::mem::take(&mut self.first) {
            self.result = self.writer.write_char(' ');
        }
        if field.name() != "message" {
            let name = self.writer.write_str(field.name());
            self.result = self.result.and(name).and(self.writer.write_char('='));
        }
        self.result = self.result.and(value(&mut self.writer));
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.field(field, |out| out.write_str(&escape(&text, |c| c == '\n')));
    }

    /// Most texts need no escapes, and then no copy either.
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |it: u8| matches!(it, b' '..=b'~') && it != b'"' && it != b'\\';
        if !every_byte(value, is_plain) {
            return self.record_debug(field, &value);
        }
        self.field(field, |out| {
            out.write_char('"')?;
            out.write_str(value)?;
            out.write_char('"')
        });
    }
}

/// Writes events as text, and indents all lines but the first, so that foreign text never begins a
/// line.
struct Lines<W>(Escaping<W>);

impl<W: Write> Lines<W> {
    fn of(out: W, coloured: bool) -> Self {
        Self(if coloured {
            // It contains no foreign text: see `fields`.
            Escaping::coloured(out)
        } else {
            Escaping::new(out)
        })
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let body = event.strip_suffix(b"\n").unwrap_or(event);
        if body.len() < event.len() && !body.contains(&b'\n') {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let text = String::from_utf8_lossy(body);
        let text = text.replace('\n', "\n  ") + "\n";
        self.0.write_all(text.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An empty `NO_COLOR` counts as unset (<https://no-color.org>).
fn color(no_color: Option<std::ffi::OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_bad_filter_is_named() {
        let args = LogArgs {
            log_format: LogFormat::Text,
            log_level: "imageswap=loud".to_owned(),
        };
        let error = init(&args).unwrap_err().to_string();
        assert!(
            error.starts_with("--log-level \"imageswap=loud\" is not a level or filter: "),
            "{error}"
        );
    }

    #[test]
    fn what_others_wrote_is_escaped_in_the_log() {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for coloured in [false, true] {
            let kept = Kept::default();
            let out = kept.clone();
            let writer = move || Lines::of(out.clone(), coloured);
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(coloured)
                .fmt_fields(Fields);
            let layer = layer.with_writer(writer);
            let evil = "x\x1b[7mBOO\x1b]0;t\x07\u{202e}\u{9b}7m\r\nfake line";
            tracing::subscriber::with_default(Registry::default().with(layer), || {
                tracing::warn!(image = %evil, debug = ?evil, "message {evil}");
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            let of_others = [
                "\x1b[7m", "\x1b]0", "\x07", "\u{202e}", "\u{9b}", "\r", "\nfake",
            ];
            for obeyed in of_others {
                assert!(!text.contains(obeyed), "{obeyed:?} in {text:?}");
            }
            assert_eq!(text.contains('\x1b'), coloured, "{text:?}");
        }
    }

    #[test]
    fn no_color_switches_color_off() {
        assert!(!color(Some("1".into())));
    }
}
