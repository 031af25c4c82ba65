//! The set of policies in force, of which one decides for each Pod.

use crate::decision::{Decision, Reason, Scope};
use crate::policy::{Asking, Policy};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use time::Date;

/// Bytes of the hash that the revision shows.
const REVISION_LENGTH: usize = 6;

/// All policies in force. For a Pod the one decides that matches it and has the highest priority; among equals, the
/// first by name. Policies are never merged.
#[derive(Debug, Clone)]
pub struct Policies {
    /// In the order in which they are asked.
    all: Vec<Policy>,
    revision: String,
}

/// The policy that decides for one Pod, or for a container of the node itself.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    policy: Option<&'a Policy>,
    asking: Asking,
    /// Why there is no policy.
    otherwise: Reason,
}

impl Policies {
    /// No policy: everything stays, nothing is approved or drift.
    pub fn none() -> Self {
        Self::new(Vec::new())
    }

    /// One policy.
    pub fn one(policy: Policy) -> Self {
        Self::new(vec![policy])
    }

    /// A set of policies; their names are expected to differ.
    pub fn new(mut all: Vec<Policy>) -> Self {
        all.sort_by(|a, b| {
            let rank = |it: &Policy| (Reverse(it.priority()), it.name().to_owned());
            rank(a).cmp(&rank(b))
        });
        let revision = match all.as_slice() {
            [] => "none".to_owned(),
            [one] => one.revision().to_owned(),
            several => {
                let mut hash = Sha256::new();
                for policy in several {
                    hash.update(policy.revision());
                    hash.update(" ");
                }
                let hash = hash.finalize();
                let bytes = hash.iter().take(REVISION_LENGTH);
                bytes.fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
            }
        };
        Self { all, revision }
    }

    /// The policy that decides for `scope`. `today` is in UTC: exceptions end.
    pub fn select(&self, scope: Scope<'_>, today: Date) -> Selected<'_> {
        Selected::among(&self.all, scope, today)
    }

    /// Short hash of the set, `none` for the empty one; equal revisions decide alike, in every process.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The policies, in the order in which they are asked.
    pub fn iter(&self) -> std::slice::Iter<'_, Policy> {
        self.all.iter()
    }

    /// Whether there is no policy.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Registry hosts that the policies name, canonical; a bounded set for metric labels.
    pub fn registries(&self) -> BTreeSet<&str> {
        self.all.iter().flat_map(Policy::registries).collect()
    }
}

impl Default for Policies {
    fn default() -> Self {
        Self::none()
    }
}

impl<'a> IntoIterator for &'a Policies {
    type Item = &'a Policy;
    type IntoIter = std::slice::Iter<'a, Policy>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Policy {
    /// This policy, if it is one for `scope`; else none. `today` is in UTC.
    pub fn select(&self, scope: Scope<'_>, today: Date) -> Selected<'_> {
        Selected::among(std::slice::from_ref(self), scope, today)
    }
}

impl<'a> Selected<'a> {
    fn among(all: &'a [Policy], scope: Scope<'_>, today: Date) -> Self {
        let policy = all.iter().find(|it| it.scope().covers(scope));
        Self {
            policy,
            asking: Asking {
                today,
                opted_out: policy.is_some_and(|it| it.scope().skips_swap(scope)),
            },
            otherwise: if all.is_empty() {
                Reason::NoPolicy
            } else {
                Reason::OutOfScope
            },
        }
    }

    /// The policy, unless none applies.
    pub fn policy(&self) -> Option<&'a Policy> {
        self.policy
    }

    /// What should run instead of `image`, and whether that is approved. Pure; the result is stable:
    /// deciding it again gives it back.
    pub fn decide<'i>(&self, image: &'i str) -> Decision<'i>
    where
        'a: 'i,
    {
        match self.policy {
            Some(policy) => policy.resolve(self.asking, image),
            None => Decision {
                result: Cow::Borrowed(image),
                rule: None,
                approved: false,
                in_scope: false,
                reason: self.otherwise,
            },
        }
    }

    /// How [`Self::decide`] comes to its result: each rule that moves the image, and where to. Empty when it stays.
    pub fn steps(&self, image: &str) -> Vec<(&'a str, String)> {
        self.policy
            .map_or_else(Vec::new, |it| it.steps(self.asking, image))
    }

    /// The rules that were tried before one spoke of `image`, by name; all of them where none did.
    pub fn tried(&self, image: &str) -> Vec<&'a str> {
        let Some(policy) = self.policy else {
            return Vec::new();
        };
        let mut tried: Vec<_> = policy.rules().take(policy.tried(image)).collect();
        // A rule of a document is two here: what lies under its target, and what it moves.
        tried.dedup();
        tried
    }
}
