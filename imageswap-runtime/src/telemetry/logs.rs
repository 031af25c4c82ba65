//! Log records for events that a service reports, apart from its own log.

use std::time::{Duration, SystemTime};

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};

/// How long sending the last records may take at the end of the process.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// Sends records; clones send to the same collector.
#[derive(Debug, Clone)]
pub struct Logs {
    provider: SdkLoggerProvider,
    logger: SdkLogger,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the event, such as `imageswap.finding`.
    pub event: &'static str,
    /// Whether somebody should look at it: `WARN` in place of `INFO`.
    pub warns: bool,
    /// When it happened.
    pub time: SystemTime,
    /// One sentence for people.
    pub body: String,
    /// Attributes, named by the semantic conventions where these have a name.
    pub attributes: Vec<(&'static str, Value)>,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
    /// An integer.
    Number(i64),
}

impl Logs {
    pub(super) fn new(provider: SdkLoggerProvider) -> Self {
        let logger = provider.logger("imageswap");
        Self { provider, logger }
    }

    /// Sends a record with the next batch. Never waits: if the queue is full, the SDK drops the
    /// record and logs it.
    pub fn emit(&self, entry: Entry) {
        let Entry {
            event,
            warns,
            time,
            body,
            attributes,
        } = entry;
        let mut record = self.logger.create_log_record();
        record.set_event_name(event);
        record.set_timestamp(time);
        record.set_observed_timestamp(SystemTime::now());
        let (number, text) = if warns {
            (Severity::Warn, "WARN")
        } else {
            (Severity::Info, "INFO")
        };
        record.set_severity_number(number);
        record.set_severity_text(text);
        record.set_body(AnyValue::from(body));
        record.add_attributes(attributes);
        self.logger.emit(record);
    }

    /// Sends what is left. Blocks for a few seconds at most.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SHUTDOWN) {
            tracing::debug!(%error, "the last log records were not sent");
        }
    }
}

impl From<Value> for AnyValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Text(text) => text.into(),
            Value::Texts(texts) => texts.into_iter().map(Self::from).collect(),
            Value::Number(number) => Self::Int(number),
        }
    }
}
