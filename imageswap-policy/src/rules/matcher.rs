//! Which images a rule matches.

use super::Expression;
use crate::pattern::Pattern;
use crate::reference::Reference;

/// Which images a rule matches, by their canonical references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Matcher {
    /// References that match the pattern.
    Pattern(Pattern),
    /// References that the expression matches as a whole.
    Regex(Expression),
}

impl Matcher {
    /// Whether it matches `reference`; the index searches all expressions at once.
    pub(super) fn matches(&self, reference: &Reference<'_>) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.matches(reference),
            Self::Regex(_) => false,
        }
    }
}
