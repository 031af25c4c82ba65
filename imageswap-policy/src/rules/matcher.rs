//! Which images a rule speaks of.

use super::{Expression, Glob, Place};
use crate::pattern::Pattern;
use crate::reference::{DEFAULT_REGISTRY, Reference, split_port};

/// Which images a rule speaks of. [`Self::Pattern`] and [`Self::Regex`] look at the canonical reference, the others,
/// but for [`Self::Within`], at the text as written, as ImageSwap does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Matcher {
    /// This very text.
    Text(String),
    /// A text that the pattern matches as a whole.
    Glob(Glob),
    /// This registry; `docker.io` also where none is written. Without a port it matches any.
    Registry(String),
    /// A name alone, without registry and path: `nginx`.
    Name,
    /// A text that holds this part and lies within the place.
    Within(String, Place),
    /// A text that holds this part anywhere.
    Contains(String),
    /// Everything.
    Any,
    /// What the pattern means.
    Pattern(Pattern),
    /// What the expression matches as a whole.
    Regex(Expression),
}

impl Matcher {
    /// Whether it speaks of `reference`; expressions are asked all at once, by the index.
    pub(super) fn matches(&self, reference: &Reference<'_>) -> bool {
        let text = reference.as_str();
        match self {
            Self::Text(key) => text == key,
            Self::Glob(glob) => glob.matches(text),
            Self::Registry(key) => {
                let registry = reference.written_registry().unwrap_or(DEFAULT_REGISTRY);
                registry == key || split_port(registry).0 == key
            }
            Self::Name => !text.contains('/'),
            Self::Within(part, place) => text.contains(part) && place.covers(reference),
            Self::Contains(part) => text.contains(part),
            Self::Any => true,
            Self::Pattern(pattern) => pattern.matches(reference),
            Self::Regex(_) => false,
        }
    }
}
