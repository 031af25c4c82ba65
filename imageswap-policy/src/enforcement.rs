//! What a policy does about images that are not approved.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

/// What is done about an image that is not approved after the swap.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    Display,
    IntoStaticStr,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
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
        self.into()
    }
}
