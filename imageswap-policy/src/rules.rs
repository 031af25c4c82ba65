//! The compiled form that every policy format becomes, and the one engine that decides by it.
//!
//! A policy is an ordered list of rules, of which the first that matches speaks, and the places that its rules
//! lead to. Formats differ in the rules that they compile to, never in how rules are applied.

use crate::decision::{Decision, Reason, Scope};
use crate::reference::Reference;
use std::borrow::Cow;
use std::collections::BTreeSet;

mod action;
mod glob;
mod index;
mod matcher;
mod place;
mod revision;
mod scope;

pub(crate) use action::{Action, Join, Target};
pub(crate) use glob::Glob;
use index::Index;
pub(crate) use matcher::Matcher;
pub(crate) use place::Place;
use place::Places;
pub(crate) use scope::ScopeRule;

/// How often a result may be moved on. Chains in files that people write have two links; the bound is there so that
/// termination does not depend on an argument about the rules.
const CHAIN_MAX: usize = 8;

/// One compiled rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// The name that its file gives it.
    pub(crate) name: String,
    pub(crate) matcher: Matcher,
    pub(crate) action: Action,
}

/// What a format hands over to become a [`Policy`].
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) scope: ScopeRule,
    /// First match wins.
    pub(crate) rules: Vec<Rule>,
    /// What is approved beside what a rule keeps as approved: the targets.
    pub(crate) targets: Vec<Place>,
    /// Whether an image that no rule speaks of is approved.
    pub(crate) approve_rest: bool,
    /// Registry hosts that the text names.
    pub(crate) registries: BTreeSet<String>,
}

/// A compiled policy: immutable, cheap to share, and the only thing that decides.
#[derive(Debug, Clone)]
pub struct Policy {
    name: String,
    revision: String,
    scope: ScopeRule,
    rules: Vec<Rule>,
    index: Index,
    targets: Places,
    approve_rest: bool,
    registries: BTreeSet<String>,
}

/// What one rule makes of one reference.
enum Step {
    /// It stays.
    Stay {
        rule: Option<usize>,
        reason: Reason,
        approved: bool,
    },
    /// It becomes another text, which may be no reference.
    Move { rule: usize, to: String },
}

impl Policy {
    /// The policy that has no opinion: everything stays, nothing is approved or drift (`in_scope` is false).
    pub fn none() -> Self {
        let mut none = Self::compile(Draft {
            name: "none".to_owned(),
            scope: ScopeRule::Nothing,
            rules: Vec::new(),
            targets: Vec::new(),
            approve_rest: false,
            registries: BTreeSet::new(),
        });
        "none".clone_into(&mut none.revision);
        none
    }

    pub(crate) fn compile(draft: Draft) -> Self {
        Self {
            revision: revision::of(&draft),
            index: Index::new(&draft.rules),
            targets: Places::new(draft.targets),
            name: draft.name,
            scope: draft.scope,
            rules: draft.rules,
            approve_rest: draft.approve_rest,
            registries: draft.registries,
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
        self.registries.iter().map(String::as_str)
    }

    /// What should run instead of `image`, and whether that is approved. Pure; the result is stable:
    /// deciding it again gives it back.
    pub fn decide<'a>(&'a self, scope: Scope<'_>, image: &'a str) -> Decision<'a> {
        self.resolve(scope, image, |_, _| ())
    }

    /// Whether `image` lies under a target: a place that the policy's own rules lead to.
    pub fn is_under_target(&self, image: &str) -> bool {
        Reference::parse(image).is_ok_and(|it| self.targets.cover(&it))
    }

    /// How [`Self::decide`] comes to its result: each rule that moves the image, and where to. Empty when it stays.
    pub fn steps<'a>(&'a self, scope: Scope<'_>, image: &'a str) -> Vec<(&'a str, String)> {
        let mut steps = Vec::new();
        let decision = self.resolve(scope, image, |rule, to| steps.push((rule, to.to_owned())));
        if !decision.swapped() {
            steps.clear();
        }
        steps
    }

    /// Applies rules until the image stays where it is.
    ///
    /// What moves an image may lead to a place that another rule moves again; the chain is followed to its end, for
    /// only that is stable. An image that lies under a target already moves on only to where it would stay: rules
    /// that feed themselves or each other thus end at the first target.
    fn resolve<'a>(
        &'a self,
        scope: Scope<'_>,
        image: &'a str,
        mut moved: impl FnMut(&'a str, &str),
    ) -> Decision<'a> {
        let unchanged = |rule: Option<usize>, reason: Reason, approved: bool| Decision {
            result: Cow::Borrowed(image),
            rule: rule.map(|it| self.rules[it].name.as_str()),
            approved,
            in_scope: reason != Reason::OutOfScope,
            reason,
        };
        match &self.scope {
            ScopeRule::Nothing => {
                return Decision {
                    in_scope: false,
                    ..unchanged(None, Reason::NoRule, false)
                };
            }
            limits if !limits.covers(scope) => return unchanged(None, Reason::OutOfScope, false),
            ScopeRule::Labels { .. } => {}
        }
        let Ok(reference) = Reference::parse(image) else {
            return unchanged(None, Reason::Unparsable, false);
        };
        let (mut rule, mut current) = match self.settle(&reference) {
            Step::Stay {
                rule,
                reason,
                approved,
            } => return unchanged(rule, reason, approved),
            Step::Move { rule, to } => (rule, to),
        };
        for _ in 0..CHAIN_MAX {
            let Ok(reference) = Reference::parse(&current) else {
                break;
            };
            moved(&self.rules[rule].name, &current);
            match self.settle(&reference) {
                Step::Move { rule: next, to } => (rule, current) = (next, to),
                Step::Stay { approved, .. } => {
                    let unchanged = unchanged(Some(rule), Reason::Swapped, approved);
                    return Decision {
                        result: Cow::Owned(current),
                        ..unchanged
                    };
                }
            }
        }
        unchanged(Some(rule), Reason::InvalidResult, false)
    }

    /// One step, unless the reference lies under a target already and the step leads to no rest.
    fn settle(&self, reference: &Reference<'_>) -> Step {
        let step = self.step(reference);
        let Step::Move { rule, to } = &step else {
            return step;
        };
        if !self.targets.cover(reference) {
            return step;
        }
        if Reference::parse(to).is_ok_and(|it| self.rests(&it))
            && !self.rules[*rule].mends(reference)
        {
            return step;
        }
        Step::Stay {
            rule: Some(*rule),
            reason: Reason::AlreadyTarget,
            approved: true,
        }
    }

    /// Whether the reference stays, and would under ImageSwap, which takes a registry without a dot for a path.
    fn rests(&self, reference: &Reference<'_>) -> bool {
        let step = self.step(reference);
        if !reference.has_registry_without_dot() {
            return matches!(step, Step::Stay { .. });
        }
        let seen = reference.without_registry();
        let rule = self.index.first_match(&self.rules, &seen);
        let seen_rests = rule.is_none_or(|it| match &self.rules[it].action {
            Action::Keep { .. } => true,
            Action::Replace(target) => target.apply(&seen).spell(seen.as_str()),
        });
        // Under a target it stays here too, see `mends`.
        seen_rests && (matches!(step, Step::Stay { .. }) || self.targets.cover(reference))
    }

    /// What the first rule that matches says.
    fn step(&self, reference: &Reference<'_>) -> Step {
        let stay = |rule, reason, approved| {
            let target = self.targets.cover(reference);
            let reason = match reason {
                Reason::NoRule if target => Reason::AlreadyTarget,
                other => other,
            };
            Step::Stay {
                rule,
                reason,
                approved: approved || target,
            }
        };
        let Some(rule) = self.index.first_match(&self.rules, reference) else {
            return stay(None, Reason::NoRule, self.approve_rest);
        };
        match &self.rules[rule].action {
            Action::Keep { approved } => stay(Some(rule), Reason::Kept, *approved),
            Action::Replace(target) => {
                let pieces = target.apply(reference);
                if pieces.spell(reference.as_str()) {
                    return stay(Some(rule), Reason::AlreadyTarget, false);
                }
                Step::Move {
                    rule,
                    to: pieces.concat(),
                }
            }
        }
    }
}
