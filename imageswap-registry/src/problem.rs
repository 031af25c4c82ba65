//! Why a registry gave no answer that counts.

use std::time::Duration;

use http::StatusCode;

/// Why a registry gave no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The image is not a reference, or its registry is not a host that can be asked.
    #[error("{0} is not the address of an image")]
    Address(String),
    /// No connection, or it broke.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// The host, with its port if it has one.
        host: String,
        /// The system's or the library's reason.
        why: String,
    },
    /// The answer took too long.
    #[error("{host} did not answer within {}", millis(.limit))]
    TimedOut {
        /// The host that was asked.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// The host failed a moment ago and is not asked again yet.
    #[error("{host} failed a moment ago: {why}")]
    Paused {
        /// The host.
        host: String,
        /// What happened then.
        why: String,
    },
    /// Too many questions wait.
    #[error("too many images are asked about at a time")]
    Crowded,
    /// The registry refuses to answer without credentials, or with those that it got.
    #[error("{host} refuses to answer: {}", refusal(*.with_credentials, .withheld_from.as_deref()))]
    Refused {
        /// The registry.
        host: String,
        /// Whether credentials were sent.
        with_credentials: bool,
        /// The other host that wanted the credentials, and did not get them.
        withheld_from: Option<String>,
    },
    /// Credentials would be readable on the way.
    #[error("{0} wants credentials, which are not sent without TLS")]
    Clear(String),
    /// A redirect names another host, or in circles.
    #[error("{host} redirects to {to}, which is not followed")]
    Redirect {
        /// The registry.
        host: String,
        /// The address that it named, shortened.
        to: String,
    },
    /// A status that is not an answer.
    #[error("{host} answered {status}")]
    Status {
        /// The registry.
        host: String,
        /// Its status.
        status: StatusCode,
    },
    /// The answer is not one of the distribution protocol.
    #[error("{host} does not answer as a registry does: {what}")]
    Protocol {
        /// The host.
        host: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The answer is larger than it can be.
    #[error("{host} sends more than {limit} bytes of {what}")]
    TooLarge {
        /// The host.
        host: String,
        /// The largest size.
        limit: usize,
        /// The part of the answer.
        what: &'static str,
    },
    /// The content is not that of the digest.
    #[error("{0} has another content under this digest")]
    Digest(String),
}

impl Problem {
    /// Whether the next question to the same host is likely to end the same way.
    pub(crate) fn concerns_host(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }
}

fn millis(limit: &Duration) -> String {
    format!("{} ms", limit.as_millis())
}

fn refusal(with_credentials: bool, withheld_from: Option<&str>) -> String {
    match withheld_from {
        Some(other) => format!(
            "its credentials are not sent to {other}, where its tokens come from; give credentials for {other}"
        ),
        None if with_credentials => "the credentials are wrong, or do not allow reading".to_owned(),
        None => "it wants credentials, and this host has no entry".to_owned(),
    }
}
