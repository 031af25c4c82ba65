//! The question and the answer: which image in which context, and what the policy decides.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use strum::{Display, IntoStaticStr};

/// Who asks: a Pod, or the node itself.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// A container of a Pod (or of a workload's Pod template).
    Pod(PodScope<'a>),
    /// A container that no Pod owns: `ctr run`, podman, plain runc.
    Node,
}

/// What is known about the Pod. A field that is `None` is unknown, which is not the same as empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodScope<'a> {
    /// Namespace of the Pod.
    pub namespace: Option<&'a str>,
    /// Labels of that namespace.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// Labels of the object that is asked about.
    pub labels: Option<&'a dyn Labels>,
}

/// Labels of an object, in any form.
pub trait Labels: fmt::Debug {
    /// The value of the label with this name.
    fn value(&self, name: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

/// The reason for the answer. [`Decision::explain`] turns it into text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Reason {
    /// A rule gave another reference.
    Swapped,
    /// A rule keeps the image unchanged.
    Kept,
    /// The image already lies under a target.
    AlreadyTarget,
    /// No rule matches this image.
    NoRule,
    /// The text is not an image reference; never swapped, never approved.
    Unparsable,
    /// A rule matches, but would produce an invalid reference or one that another rule moves; the
    /// image stays.
    InvalidResult,
    /// An exception keeps the image and approves it, for now.
    Excepted,
    /// A label of the Pod skips the swap, as the policy allows; it never skips the approval.
    OptedOut,
    /// A rule would replace the image, but the registry does not have the result; the image stays.
    NotMirrored,
    /// `denied` matches the image, which stays.
    Denied,
    /// Too little is known about the Pod; never swapped, never approved.
    ScopeUnknown,
    /// No policy applies to this scope.
    OutOfScope,
    /// There is no policy.
    NoPolicy,
}

impl Reason {
    /// Stable name, for output that programs read.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The policy's decision about one image. Borrows from the image and from the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The reference that should run; borrowed from the input when nothing changes.
    pub result: Cow<'a, str>,
    /// The name of the rule that decided; if several rules in a row moved the image, the one that
    /// gave `result`.
    pub rule: Option<&'a str>,
    /// Whether `result` comes from an approved place.
    pub approved: bool,
    /// Whether the policy applies to the scope at all; if not, it requires nothing.
    pub in_scope: bool,
    /// Why.
    pub reason: Reason,
    /// The entry of `denied` that matches `result`.
    pub denied: Option<Denied<'a>>,
    /// Whether the image stays if the registry does not have `result`: the rule says `ifMissing: keep`.
    /// [`Selected::decide_missing`](crate::Selected::decide_missing) is the decision in that case.
    pub conditional: bool,
}

/// The entry of `denied` that an image is not approved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied<'a> {
    /// Where it is written, as `denied[0]`.
    pub rule: &'a str,
    /// Its pattern as written.
    pub pattern: &'a str,
    /// The author's message.
    pub message: Option<&'a str>,
}

impl<'a> Decision<'a> {
    /// The decision if too little is known about the Pod.
    pub(crate) fn unknown(image: &'a str) -> Self {
        Self {
            result: Cow::Borrowed(image),
            rule: None,
            approved: false,
            in_scope: true,
            reason: Reason::ScopeUnknown,
            denied: None,
            conditional: false,
        }
    }

    /// Whether both have the same effect: the same image runs, and is let in or not.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let known = |it: &Self| it.reason != Reason::ScopeUnknown;
        let refused = |it: &Self| it.in_scope && !it.approved;
        known(self)
            && known(other)
            && self.result == other.result
            && self.conditional == other.conditional
            && refused(self) == refused(other)
    }
}

impl Decision<'_> {
    /// Whether the policy would replace the image.
    pub fn swapped(&self) -> bool {
        matches!(self.reason, Reason::Swapped)
    }

    /// Whether a container that runs `image` (the one asked about) is drift: in scope, and either
    /// replaced or not approved.
    pub fn is_drift(&self) -> bool {
        self.in_scope && (self.swapped() || !self.approved)
    }

    /// One sentence for people: what happens to the image and why. Without a final period.
    pub fn explain(&self) -> String {
        let rule = self.rule.map(|it| format!("rule `{it}`"));
        let rule = rule.as_deref().unwrap_or("the policy");
        let approval = match self.denied {
            Some(it) => format!("denied by `{}` ({})", it.rule, it.pattern),
            None if self.approved => "approved".to_owned(),
            None => "not approved".to_owned(),
        };
        match self.reason {
            Reason::Swapped => {
                let unless = if self.conditional {
                    ", unless the registry does not have that"
                } else {
                    ""
                };
                format!(
                    "{rule} replaces it by {}, which is {approval}{unless}",
                    self.result
                )
            }
            Reason::NotMirrored => format!(
                "{rule} would replace it, but the registry does not have the result, so it stays and is {approval}"
            ),
            Reason::Kept => format!("{rule} keeps it, and it is {approval}"),
            Reason::AlreadyTarget => {
                format!("it lies under a target already, so it stays and is {approval}")
            }
            Reason::NoRule => format!("no rule matches, so it stays and is {approval}"),
            Reason::Unparsable => {
                "it is not an image reference: never swapped, never approved".to_owned()
            }
            Reason::InvalidResult => {
                format!(
                    "{rule} would produce an image reference that is invalid or does not stay, so the image stays and is {approval}"
                )
            }
            Reason::Excepted => format!(
                "an exception keeps it and approves it: {}",
                self.rule.unwrap_or_default()
            ),
            Reason::OptedOut => {
                format!("a label of the Pod skips the swap, so it stays and is {approval}")
            }
            Reason::Denied => format!("it stays and is {approval}"),
            Reason::ScopeUnknown => {
                "too little is known about the Pod, so it is not approved".to_owned()
            }
            Reason::OutOfScope => "no policy applies here, so it stays".to_owned(),
            Reason::NoPolicy => "no policy is in force, so it stays".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_what_the_policy_would_not_leave_as_it_is() {
        let decision = |reason, approved, in_scope| Decision {
            result: Cow::Borrowed("x"),
            rule: None,
            approved,
            in_scope,
            reason,
            denied: None,
            conditional: false,
        };
        assert!(decision(Reason::Swapped, true, true).is_drift());
        assert!(decision(Reason::Unparsable, false, true).is_drift());
        assert!(!decision(Reason::Kept, true, true).is_drift());
        assert!(!decision(Reason::OutOfScope, false, false).is_drift());
    }
}
