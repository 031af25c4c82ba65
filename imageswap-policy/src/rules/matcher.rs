//! Which images a rule matches.

use super::Expression;
use crate::pattern::Pattern;
use crate::reference::Reference;

/// Which images a rule matches, by their canonical references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Matcher {
    /// What the pattern means.
    Pattern(Pattern),
    /// What the expression matches as a whole.
    Regex(Expression),
}

impl Matcher {
    /// Whether it matches `reference`; expressions are asked all at once, by the index.
    pub(super) fn matches(&self, reference: &Reference<'_>) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.matches(reference),
            Self::Regex(_) => false,
        }
    }
}
