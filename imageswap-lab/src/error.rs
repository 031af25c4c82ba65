//! Errors of starting and using parts.

use std::io;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Names the part that failed and, for a process, what it wrote.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, folder or process could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path or the program.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A command ended with an error.
    #[error("{command}: {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// The exit status.
        status: std::process::ExitStatus,
        /// What it wrote to its standard error, trimmed.
        stderr: String,
    },
    /// A process did not come up, or something did not happen in time.
    #[error("{what} did not happen in {seconds} s{log}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// The end of the process's log, on lines of its own; may be empty.
        log: String,
    },
    /// A gRPC call failed.
    #[error("{call}: {source}")]
    Rpc {
        /// The method's name.
        call: &'static str,
        /// The runtime's answer.
        source: Box<tonic::Status>,
    },
    /// An HTTP exchange failed or was answered with an unexpected status.
    #[error("{request}: {problem}")]
    Http {
        /// Method and address.
        request: String,
        /// What was wrong.
        problem: String,
    },
    /// The API server could not be asked, or refused.
    #[error("{what}: {source}")]
    Api {
        /// What was being done.
        what: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// The request cannot work on this machine.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    /// Wraps an error of the API server, or of the way to it, with what was being done.
    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api {
            what,
            source: Box::new(source),
        }
    }

    /// Wraps a system error with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
