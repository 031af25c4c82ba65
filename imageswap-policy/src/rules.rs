//! The compiled form that every policy format becomes.

use crate::decision::{Decision, Reason, Scope};
use std::borrow::Cow;

/// A compiled policy: immutable, cheap to share, and the only thing that decides.
#[derive(Debug, Clone)]
pub struct Policy {
    name: String,
    revision: String,
}

impl Policy {
    /// The policy that has no opinion: everything stays, nothing is approved or drift (`in_scope` is false).
    pub fn none() -> Self {
        Self {
            name: "none".to_owned(),
            revision: "none".to_owned(),
        }
    }

    /// Name of the policy, for findings and metrics.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Short hash of the compiled set; equal revisions decide alike, in every process.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Registry hosts that the policy names, canonical; a bounded set for metric labels.
    pub fn registries(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// What should run instead of `image`, and whether that is approved. Pure; the result is stable:
    /// deciding it again gives it back.
    pub fn decide<'a>(&'a self, scope: Scope<'_>, image: &'a str) -> Decision<'a> {
        let _ = scope;
        Decision {
            result: Cow::Borrowed(image),
            rule: None,
            approved: false,
            in_scope: false,
            reason: Reason::NoRule,
        }
    }
}
