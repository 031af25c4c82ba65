//! The set of policies in force; one of them decides for each Pod.

use crate::decision::{Decision, Reason, Scope};
use crate::enforcement::Enforcement;
use crate::guard::{Asking, Name, Ternary};
use crate::policy::Policy;
use crate::revision::{LENGTH, sha256};
use crate::scope::Missing;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use time::Date;

/// All policies in force. Of those that match a Pod, the one with the highest priority decides;
/// among equals, the first by name. Policies are never merged.
#[derive(Debug, Clone)]
pub struct Policies {
    /// In order of precedence.
    all: Vec<Policy>,
    set_revision: String,
}

/// The policy that decides for one Pod, or for a container of the node itself.
///
/// If too little is known about the Pod to choose the policy, there are several candidates. An
/// image about which they agree is decided all the same; for any other the answer is
/// [`Reason::ScopeUnknown`].
#[derive(Debug, Clone)]
pub struct Selected<'a> {
    first: Candidate<'a>,
    /// Policies that decide if the first does not apply; usually empty.
    others: Vec<Candidate<'a>>,
    missing: Missing,
    today: Date,
    namespace: Name<'a>,
    container: Name<'a>,
}

/// A policy that may decide.
#[derive(Debug, Clone, Copy)]
struct Candidate<'a> {
    policy: Option<&'a Policy>,
    /// Whether a label of the Pod skips the swap.
    opted_out: bool,
    /// The reason if no policy applies.
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

    /// A set of policies; names must differ.
    pub fn new(mut all: Vec<Policy>) -> Self {
        let rank = |it: &Policy| Reverse(it.priority());
        all.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.name().cmp(b.name())));
        let set_revision = match all.as_slice() {
            [] => "none".to_owned(),
            [one] => one.revision().to_owned(),
            several => {
                let revisions = several.iter().flat_map(|it| [it.revision(), " "]);
                let mut hash = sha256(revisions.collect::<String>());
                hash.truncate(LENGTH);
                hash
            }
        };
        Self { all, set_revision }
    }

    /// The policy that decides for `scope`. `today` is in UTC: exceptions end.
    pub fn select<'a>(&'a self, scope: Scope<'a>, today: Date) -> Selected<'a> {
        Selected::among(&self.all, scope, today)
    }

    /// Names of the policies that select by namespace labels other than the name.
    pub fn need_namespace_labels(&self) -> impl Iterator<Item = &str> {
        let all = self.all.iter();
        all.filter(|it| it.needs_namespace_labels())
            .map(Policy::name)
    }

    /// Short hash of the whole set, `none` for the empty one; equal sets decide alike, in every process. The revision of
    /// one policy is [`Policy::revision`], which a set of that policy alone has, too.
    pub fn set_revision(&self) -> &str {
        &self.set_revision
    }

    /// The policies, in order of precedence.
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
    /// This policy, if it applies to `scope`. `today` is in UTC.
    pub fn select<'a>(&'a self, scope: Scope<'a>, today: Date) -> Selected<'a> {
        Selected::among(std::slice::from_ref(self), scope, today)
    }
}

impl<'a> Selected<'a> {
    fn among(all: &'a [Policy], scope: Scope<'a>, today: Date) -> Self {
        let otherwise = if all.is_empty() {
            Reason::NoPolicy
        } else {
            Reason::OutOfScope
        };
        let candidate = |policy: Option<&'a Policy>| Candidate {
            policy,
            opted_out: policy.is_some_and(|it| it.scope().skips_swap(scope)),
            otherwise,
        };
        let mut missing = Missing::default();
        let mut perhaps = Vec::new();
        let mut certain = None;
        for policy in all {
            match policy.scope().covers(scope) {
                Ternary::No => {}
                Ternary::Yes => {
                    certain = Some(policy);
                    break;
                }
                Ternary::Unknown => {
                    missing = missing.or(policy.scope().missing(scope));
                    perhaps.push(candidate(Some(policy)));
                }
            }
        }
        let last = candidate(certain);
        let (first, others) = if perhaps.is_empty() {
            (last, perhaps)
        } else {
            let first = perhaps.remove(0);
            perhaps.push(last);
            (first, perhaps)
        };
        Self {
            first,
            others,
            missing,
            today,
            namespace: match scope {
                Scope::Node => Name::Absent,
                Scope::Pod(pod) => pod.namespace.map_or(Name::Unknown, Name::Known),
            },
            container: match scope {
                Scope::Node => Name::Absent,
                Scope::Pod(_) => Name::Unknown,
            },
        }
    }

    /// The same for one container of the Pod; `None` for an image that is not a container's, such as a volume's.
    #[must_use]
    pub fn in_container(&self, name: Option<&'a str>) -> Self {
        Self {
            container: name.map_or(Name::Absent, Name::Known),
            ..self.clone()
        }
    }

    /// The policy that decides; `None` if no policy applies, or if it is unknown which one does.
    pub fn policy(&self) -> Option<&'a Policy> {
        self.first.policy.filter(|_| self.is_certain())
    }

    /// Whether it is known which policy decides, if any.
    pub fn is_certain(&self) -> bool {
        self.others.is_empty()
    }

    /// The policies of which one decides, in order of precedence. If the choice is uncertain,
    /// perhaps none of them applies.
    pub fn candidates(&self) -> impl Iterator<Item = &'a Policy> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .filter_map(|it| it.policy)
    }

    /// What would have to be known to decide about every image.
    pub fn missing(&self) -> Missing {
        let guards = || self.candidates().map(Policy::guards);
        Missing {
            namespace: self.missing.namespace
                || self.namespace == Name::Unknown && guards().any(|it| it.namespace),
            container: self.container == Name::Unknown && guards().any(|it| it.container),
            ..self.missing
        }
    }

    /// What to do about an image that is not approved: the strictest candidate's enforcement.
    pub fn enforcement(&self) -> Enforcement {
        let all = self.candidates().map(Policy::enforcement);
        all.min_by_key(|it| match it {
            Enforcement::Deny => 0,
            Enforcement::Warn => 1,
            Enforcement::Audit => 2,
        })
        .unwrap_or_default()
    }

    /// Whether admission changes images; only if every candidate does.
    pub fn swaps(&self) -> bool {
        let mut all = std::iter::once(&self.first).chain(&self.others);
        all.all(|it| it.policy.is_some_and(Policy::swaps))
    }

    /// What should run instead of `image`, and whether that is approved. Pure; the result is stable:
    /// deciding it again gives it back.
    pub fn decide<'i>(&self, image: &'i str) -> Decision<'i>
    where
        'a: 'i,
    {
        self.decide_if(image, false)
    }

    /// [`Self::decide`] if a registry was asked about the result of a conditional decision, and does not have it:
    /// the image stays, and is judged unchanged.
    pub fn decide_missing<'i>(&self, image: &'i str) -> Decision<'i>
    where
        'a: 'i,
    {
        self.decide_if(image, true)
    }

    fn decide_if<'i>(&self, image: &'i str, is_missing: bool) -> Decision<'i>
    where
        'a: 'i,
    {
        let ask = |candidate: &Candidate<'a>| self.ask(candidate, image, is_missing);
        let first = ask(&self.first);
        let agree = |it: &Candidate<'a>| ask(it).agrees(&first);
        if self.others.iter().all(agree) {
            first
        } else {
            Decision::unknown(image)
        }
    }

    fn ask<'i>(&self, candidate: &Candidate<'a>, image: &'i str, is_missing: bool) -> Decision<'i>
    where
        'a: 'i,
    {
        let asking = Asking {
            is_missing,
            ..self.asking(candidate)
        };
        match candidate.policy {
            Some(policy) => policy.resolve(asking, image),
            None => Decision {
                result: Cow::Borrowed(image),
                rule: None,
                approved: false,
                in_scope: false,
                reason: candidate.otherwise,
                denied: None,
                conditional: false,
            },
        }
    }

    fn asking(&self, candidate: &Candidate<'a>) -> Asking<'a> {
        Asking {
            today: self.today,
            opted_out: candidate.opted_out,
            is_missing: false,
            namespace: self.namespace,
            container: self.container,
        }
    }

    /// The steps to the result of [`Self::decide`]: each rule that moves the image, and its result.
    /// Empty if the image stays.
    pub fn steps(&self, image: &str) -> Vec<(&'a str, String)> {
        let asking = self.asking(&self.first);
        let policy = self.first.policy;
        policy.map_or_else(Vec::new, |it| it.steps(asking, image))
    }

    /// The rules that were tried before one matched `image`, by name; all of them if none did.
    pub fn tried(&self, image: &str) -> Vec<&'a str> {
        let Some(policy) = self.first.policy else {
            return Vec::new();
        };
        let count = policy.tried(self.asking(&self.first), image);
        let mut tried: Vec<_> = policy.rules().take(count).collect();
        // A rule of a document is two here: one that keeps what lies under its target, and one that
        // moves.
        tried.dedup();
        tried
    }

    /// Whether `image` lies under a target of the policy's rules.
    pub fn is_under_target(&self, image: &str) -> bool {
        let asking = self.asking(&self.first);
        let policy = self.first.policy;
        policy.is_some_and(|it| it.is_under_target(asking, image))
    }
}
