//! The outcome of every rule.

use serde::Serialize;
use std::fmt;

/// The outcome of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The policies decide like the source.
    CarriedOver,
    /// The policies decide differently about some images; the report names one for each reason.
    Differs,
    /// The policies do not contain it.
    LeftOut,
}

/// One image about which source and policies disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The image as written.
    pub image: String,
    /// What the source does with it.
    pub source: String,
    /// What the policies do with it.
    pub ours: String,
}

/// A way in which the policies differ from the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The reason.
    pub message: String,
    /// An image that shows it.
    pub example: Option<Example>,
}

/// One rule of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The file.
    pub source: String,
    /// Line of the rule, from 1.
    pub line: usize,
    /// Column of the rule, from 1.
    pub column: usize,
    /// Kind and name of the document.
    pub policy: String,
    /// Name of the rule in it.
    pub rule: String,
    /// The outcome.
    pub status: Status,
    /// Why it was left out.
    pub reason: Option<String>,
    /// How the policies differ from it.
    pub differences: Vec<Difference>,
    /// Remarks that change no decision about an image.
    pub notes: Vec<String>,
}

/// Something in the input that is not a rule about images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// The file.
    pub source: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Kind and name, or what is wrong with it.
    pub what: String,
    /// Whether it could not be read at all.
    pub unreadable: bool,
}

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Every rule, in the order of the input.
    pub rules: Vec<Item>,
    /// Documents that are not policies of a known kind.
    pub others: Vec<Other>,
}

impl Report {
    /// Whether every rule was carried over exactly, and every document was read.
    pub fn is_exact(&self) -> bool {
        let rules = self.rules.iter().all(|it| it.status == Status::CarriedOver);
        rules && !self.others.iter().any(|it| it.unreadable)
    }

    /// How many rules have this status.
    pub fn count(&self, status: Status) -> usize {
        self.rules.iter().filter(|it| it.status == status).count()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.example {
            Some(it) => write!(
                f,
                ": `{}` {} there and {} here",
                it.image, it.source, it.ours
            ),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Status::CarriedOver => f.write_str("carried over"),
            Status::LeftOut => write!(
                f,
                "left out: {}",
                self.reason.as_deref().unwrap_or("not understood")
            ),
            Status::Differs => {
                let all: Vec<_> = self.differences.iter().map(ToString::to_string).collect();
                write!(f, "carried over, differs: {}", all.join("; "))
            }
        }
    }
}
