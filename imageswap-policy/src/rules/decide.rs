//! The one engine: rules applied to an image until it rests, then the approval of where it rests.

use super::{Action, Approved, Rules};
use crate::decision::{Decision, Reason};
use crate::policy::Asking;
use crate::reference::Reference;
use std::borrow::Cow;

/// How often a result may be moved on at least; more rules can make longer chains. Chains that people write have two
/// links; the bound is there so that termination does not depend on an argument about the rules.
const CHAIN_MIN: usize = 8;

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

impl Rules {
    /// Applies rules until the image stays where it is. Calls `moved` with the name of each rule that moves it, and
    /// where to.
    ///
    /// What moves an image may lead to a place that another rule moves again; the chain is followed to its end, because
    /// only that is stable.
    pub(crate) fn resolve<'i, 'p: 'i>(
        &'p self,
        asking: Asking,
        image: &'i str,
        mut moved: impl FnMut(&'p str, &str),
    ) -> Decision<'i> {
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
        let (mut rule, mut current) = match self.step(asking, &reference) {
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
        for _ in 0..self.list.len().max(CHAIN_MIN) {
            let Ok(reference) = Reference::parse(&current) else {
                break;
            };
            moved(&self.list[rule].name, &current);
            match self.step(asking, &reference) {
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
                .first_match(&self.list, &it)
                .unwrap_or(self.list.len())
        })
    }

    fn name_of(&self, by: By) -> Option<&str> {
        match by {
            By::Nobody => None,
            By::Rule(at) => Some(&self.list[at].name),
            By::Exception(at) => Some(&self.exceptions[at].name),
        }
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
        let Some(rule) = self.index.first_match(&self.list, reference) else {
            return stay(By::Nobody, Reason::NoRule, false);
        };
        let to = match &self.list[rule].action {
            Action::Keep => return stay(By::Rule(rule), Reason::Kept, true),
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
            Approved::ByRules => by_rule || self.targets.matches(reference),
            Approved::Listed(patterns) => patterns.matches(reference),
        }
    }
}
