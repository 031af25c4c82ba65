//! The outcome of every part of a policy.

use serde::Serialize;
use std::fmt;

/// The outcome for one part of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The output decides like the policy.
    Exported,
    /// The output contains the part, and decides differently about some images.
    Differs,
    /// The output does not contain the part.
    LeftOut,
}

/// A part of a policy, such as a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Name of the policy.
    pub policy: String,
    /// The part: `rule hub`, `denied[0]`.
    pub part: String,
    /// The outcome.
    pub status: Status,
    /// How the output differs, or why it does not contain the part.
    pub reason: Option<String>,
}

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every part, in the order of the policies.
    pub items: Vec<Item>,
}

impl Report {
    /// Whether every part was exported exactly.
    pub fn is_exact(&self) -> bool {
        self.items.iter().all(|it| it.status == Status::Exported)
    }

    /// How many parts have this status.
    pub fn count(&self, status: Status) -> usize {
        self.items.iter().filter(|it| it.status == status).count()
    }
}

/// The parts of one policy, while it is exported.
#[derive(Debug)]
pub(crate) struct Parts<'r> {
    pub(crate) policy: &'r str,
    pub(crate) report: &'r mut Report,
}

impl Parts<'_> {
    pub(crate) fn exported(&mut self, part: impl Into<String>) {
        self.add(part, Status::Exported, None);
    }

    pub(crate) fn differs(&mut self, part: impl Into<String>, how: impl Into<String>) {
        self.add(part, Status::Differs, Some(how.into()));
    }

    pub(crate) fn left_out(&mut self, part: impl Into<String>, why: impl Into<String>) {
        self.add(part, Status::LeftOut, Some(why.into()));
    }

    fn add(&mut self, part: impl Into<String>, status: Status, reason: Option<String>) {
        self.report.items.push(Item {
            policy: self.policy.to_owned(),
            part: part.into(),
            status,
            reason,
        });
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.policy, self.part)?;
        let reason = self.reason.as_deref().unwrap_or("the output cannot say it");
        match self.status {
            Status::Exported => f.write_str("exported"),
            Status::Differs => write!(f, "exported, differs: {reason}"),
            Status::LeftOut => write!(f, "left out: {reason}"),
        }
    }
}
