//! How a command ended, which is its exit code.

use std::process::ExitCode;

/// The result of a command that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Clean,
    Findings,
    /// The messages are written already.
    Failed,
}

impl Outcome {
    /// Of a command that could do all or not, and has findings or not.
    pub(crate) fn of(complete: bool, findings: bool) -> Self {
        match (complete, findings) {
            (false, _) => Self::Failed,
            (true, true) => Self::Findings,
            (true, false) => Self::Clean,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Clean => 0,
            Outcome::Findings => 1,
            Outcome::Failed => 2,
        })
    }
}
