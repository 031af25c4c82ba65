//! The one engine: rules applied to an image until it rests, then the approval of where it rests.

use super::{Action, Approved, Policy};
use crate::decision::{Decision, Reason};
use crate::reference::Reference;
use std::borrow::Cow;
use time::Date;

/// How often a result may be moved on at least; more rules can make longer chains. Chains that people write have two
/// links; the bound is there so that termination does not depend on an argument about the rules.
const CHAIN_MIN: usize = 8;

/// What of the asker matters once the policy is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking {
    /// In UTC; exceptions end.
    pub(crate) today: Date,
    /// Whether a label of the Pod skips the swap.
    pub(crate) opted_out: bool,
}

/// Who speaks of a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Nobody,
    Rule(usize),
    Exception(usize),
}

/// What one rule makes of one reference.
enum Step {
    /// It stays.
    Stay {
        by: By,
        reason: Reason,
        approved: bool,
    },
    /// It becomes another text, which may be no reference.
    Move { rule: usize, to: String },
}

impl Policy {
    /// Applies rules until the image stays where it is. Calls `moved` with the position of each rule that
    /// moves it, and where to.
    ///
    /// What moves an image may lead to a place that another rule moves again; the chain is followed to its end, for
    /// only that is stable. As in ImageSwap's files nothing says what stays, an image under a target moves on there only
    /// to where it would stay: rules that feed themselves or each other thus end at the first target.
    pub(crate) fn resolve<'a>(
        &'a self,
        asking: Asking,
        image: &'a str,
        mut moved: impl FnMut(usize, &str),
    ) -> Decision<'a> {
        let unchanged = |by: By, reason: Reason, approved: bool| Decision {
            result: Cow::Borrowed(image),
            rule: self.name_of(by),
            approved,
            in_scope: true,
            reason,
        };
        let Ok(reference) = Reference::parse(image) else {
            return unchanged(By::Nobody, Reason::Unparsable, false);
        };
        let (mut rule, mut current) = match self.settle(asking, &reference) {
            Step::Stay {
                by,
                reason,
                approved,
            } => return unchanged(by, reason, approved),
            Step::Move { .. } if asking.opted_out => {
                let approved = self.approves(&reference, false);
                return unchanged(By::Nobody, Reason::OptedOut, approved);
            }
            Step::Move { rule, to } => (rule, to),
        };
        for _ in 0..self.rules.len().max(CHAIN_MIN) {
            let Ok(reference) = Reference::parse(&current) else {
                break;
            };
            moved(rule, &current);
            match self.settle(asking, &reference) {
                Step::Move { rule: next, to } => (rule, current) = (next, to),
                Step::Stay { approved, .. } => {
                    let unchanged = unchanged(By::Rule(rule), Reason::Swapped, approved);
                    return Decision {
                        result: Cow::Owned(current),
                        ..unchanged
                    };
                }
            }
        }
        let approved =
            matches!(self.approval, Approved::Listed(_)) && self.approves(&reference, false);
        unchanged(By::Rule(rule), Reason::InvalidResult, approved)
    }

    /// How many rules are tried before one speaks of the image; all where none does, none for what is no reference.
    pub(crate) fn tried(&self, image: &str) -> usize {
        Reference::parse(image).map_or(0, |it| {
            self.index
                .first_match(&self.rules, &it)
                .unwrap_or(self.rules.len())
        })
    }

    fn name_of(&self, by: By) -> Option<&str> {
        match by {
            By::Nobody => None,
            By::Rule(at) => Some(&self.rules[at].name),
            By::Exception(at) => Some(&self.exceptions[at].name),
        }
    }

    /// One step, unless the reference lies under a target already and the step leads to no rest.
    fn settle(&self, asking: Asking, reference: &Reference<'_>) -> Step {
        let step = self.step(asking, reference);
        let Step::Move { rule, to } = &step else {
            return step;
        };
        if !self.as_imageswap || !self.targets.cover(reference) {
            return step;
        }
        if Reference::parse(to).is_ok_and(|it| self.rests(asking, &it))
            && !self.rules[*rule].mends(reference)
        {
            return step;
        }
        Step::Stay {
            by: By::Rule(*rule),
            reason: Reason::AlreadyTarget,
            approved: self.approves(reference, false),
        }
    }

    /// Whether the reference stays, and would under ImageSwap, which takes a registry without a dot for a path.
    fn rests(&self, asking: Asking, reference: &Reference<'_>) -> bool {
        let step = self.step(asking, reference);
        if !reference.has_registry_without_dot() {
            return matches!(step, Step::Stay { .. });
        }
        let seen = reference.without_registry();
        let rule = self.index.first_match(&self.rules, &seen);
        let seen_rests = rule.is_none_or(|it| match &self.rules[it].action {
            Action::Replace(target) => target.apply(&seen).spell(seen.as_str()),
            Action::Keep { .. } | Action::Rest | Action::Fill(_) => true,
        });
        // Under a target it stays here too, see `mends`.
        seen_rests && (matches!(step, Step::Stay { .. }) || self.targets.cover(reference))
    }

    /// What an exception says, or else the first rule that matches.
    fn step(&self, asking: Asking, reference: &Reference<'_>) -> Step {
        let mut exceptions = self.exceptions.iter();
        if let Some(at) =
            exceptions.position(|it| asking.today <= it.until && it.pattern.matches(reference))
        {
            return Step::Stay {
                by: By::Exception(at),
                reason: Reason::Excepted,
                approved: true,
            };
        }
        let stay = |by, reason, approved| Step::Stay {
            by,
            reason,
            approved: self.approves(reference, approved),
        };
        let Some(rule) = self.index.first_match(&self.rules, reference) else {
            let reason = if self.targets.cover(reference) {
                Reason::AlreadyTarget
            } else {
                Reason::NoRule
            };
            let rest = matches!(self.approval, Approved::ByRules { rest: true });
            return stay(By::Nobody, reason, rest);
        };
        let to = match &self.rules[rule].action {
            Action::Keep { approved } => return stay(By::Rule(rule), Reason::Kept, *approved),
            Action::Rest => return stay(By::Rule(rule), Reason::AlreadyTarget, true),
            Action::Replace(target) => {
                let pieces = target.apply(reference);
                if pieces.spell(reference.as_str()) {
                    return stay(By::Rule(rule), Reason::AlreadyTarget, false);
                }
                pieces.concat()
            }
            Action::Fill(template) => {
                let to = self.index.expand(rule, template, reference);
                if to == reference.as_str() {
                    return stay(By::Rule(rule), Reason::AlreadyTarget, false);
                }
                to
            }
        };
        Step::Move { rule, to }
    }

    /// Whether a reference that stays is approved. `by_rule`: what the rule that keeps it says.
    fn approves(&self, reference: &Reference<'_>, by_rule: bool) -> bool {
        match &self.approval {
            Approved::ByRules { .. } => by_rule || self.targets.cover(reference),
            Approved::Listed(patterns) => patterns.matches(reference),
        }
    }
}
