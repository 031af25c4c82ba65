//! What a policy does about images that are not approved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is done about an image that is not approved after the swap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// The object is refused.
    #[default]
    Deny,
    /// The object is let in with a warning.
    Warn,
    /// The object is let in; it is only counted and logged, and so is the swap.
    Audit,
}

impl Enforcement {
    /// As documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
