//! Applies rules to an image until it stays, then decides its approval.
//!
//! Guards depend only on namespace and container, so for one container the items that hold form a
//! policy of their own, to which the properties of rules without guards apply: every chain ends,
//! and its end is stable. If it is unknown whether a matching item holds, the answer is unknown.

use super::{Action, Approved, Found, Rules};
use crate::decision::{Decision, Denied, Reason};
use crate::guard::{Asking, Ternary};
use crate::reference::Reference;
use std::borrow::Cow;

/// Least number of times a result may be moved on; more rules allow longer chains. Chains in
/// practice have two links; the bound makes termination independent of any argument about the
/// rules.
const CHAIN_MIN: usize = 8;

/// Which item decides about a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Nobody,
    Rule(usize),
    Exception(usize),
}

/// One rule's effect on one reference.
enum Step {
    /// It stays.
    Stay {
        by: By,
        reason: Reason,
        standing: Standing,
    },
    /// It becomes another text, which may not be a reference.
    Move { rule: usize, to: String },
}

/// Whether a reference that stays is approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Approved,
    NotApproved,
    /// An entry of `denied` matches.
    Denied(usize),
}

/// A matching item of which it is unknown whether it holds.
struct Unknown;

impl Rules {
    /// Applies rules until the image stays. Calls `moved` with each rule that moves it and the
    /// result.
    ///
    /// The result of a rule may match another rule, which moves it again; the chain is followed to
    /// its end, because only that is stable.
    pub(crate) fn resolve<'i, 'p: 'i>(
        &'p self,
        asking: Asking<'_>,
        image: &'i str,
        moved: impl FnMut(&'p str, &str),
    ) -> Decision<'i> {
        self.try_resolve(asking, image, moved)
            .unwrap_or_else(|Unknown| Decision::unknown(image))
    }

    fn try_resolve<'i, 'p: 'i>(
        &'p self,
        asking: Asking<'_>,
        image: &'i str,
        mut moved: impl FnMut(&'p str, &str),
    ) -> Result<Decision<'i>, Unknown> {
        let unchanged = |by: By, reason: Reason, standing: Standing| {
            let denied = self.denial(standing);
            Decision {
                result: Cow::Borrowed(image),
                rule: denied.map_or_else(|| self.name_of(by), |it| Some(it.rule)),
                approved: standing == Standing::Approved,
                in_scope: true,
                reason: if denied.is_some() {
                    Reason::Denied
                } else {
                    reason
                },
                denied,
                conditional: false,
            }
        };
        let Ok(reference) = Reference::parse(image) else {
            return Ok(unchanged(
                By::Nobody,
                Reason::Unparsable,
                Standing::NotApproved,
            ));
        };
        let written = reference;
        let (mut rule, mut current) = match self.step(asking, &reference)? {
            Step::Stay {
                by,
                reason,
                standing,
            } => return Ok(unchanged(by, reason, standing)),
            Step::Move { .. } if asking.opted_out => {
                let standing = self.standing(asking, &reference, false)?;
                return Ok(unchanged(By::Nobody, Reason::OptedOut, standing));
            }
            Step::Move { rule, to } => (rule, to),
        };
        for _ in 0..self.list.len().max(CHAIN_MIN) {
            let Ok(reference) = Reference::parse(&current) else {
                break;
            };
            moved(&self.list[rule].name, &current);
            match self.step(asking, &reference)? {
                Step::Move { rule: next, to } => (rule, current) = (next, to),
                Step::Stay { standing, .. } => {
                    let conditional = self.list[rule].conditional;
                    if conditional && asking.is_missing {
                        let standing = self.standing(asking, &written, false)?;
                        return Ok(unchanged(By::Rule(rule), Reason::NotMirrored, standing));
                    }
                    return Ok(Decision {
                        result: Cow::Owned(current),
                        rule: Some(&self.list[rule].name),
                        approved: standing == Standing::Approved,
                        in_scope: true,
                        reason: Reason::Swapped,
                        denied: self.denial(standing),
                        conditional,
                    });
                }
            }
        }
        let standing = match self.approval {
            Approved::ByRules => Standing::NotApproved,
            Approved::Listed(_) => self.standing(asking, &reference, false)?,
        };
        Ok(unchanged(By::Rule(rule), Reason::InvalidResult, standing))
    }

    /// How many rules are tried before one matches the image and holds; all if none does, and none
    /// if it is not a reference.
    pub(crate) fn tried(&self, asking: Asking<'_>, image: &str) -> usize {
        let Ok(reference) = Reference::parse(image) else {
            return 0;
        };
        match self.index.first_match(&self.list, asking, &reference) {
            Found::At(at) => at,
            Found::Nothing => self.list.len(),
            Found::Unknown => 0,
        }
    }

    fn name_of(&self, by: By) -> Option<&str> {
        match by {
            By::Nobody => None,
            By::Rule(at) => Some(&self.list[at].name),
            By::Exception(at) => Some(&self.exceptions[at].name),
        }
    }

    fn denial(&self, standing: Standing) -> Option<Denied<'_>> {
        let Standing::Denied(at) = standing else {
            return None;
        };
        let denial = &self.denials[at];
        Some(Denied {
            rule: &denial.name,
            pattern: self.denied.pattern(at).as_str(),
            message: denial.message.as_deref(),
        })
    }

    /// The matching exception, or else the first rule that matches.
    fn step(&self, asking: Asking<'_>, reference: &Reference<'_>) -> Result<Step, Unknown> {
        if let Some(at) = self.exception(asking, reference)? {
            return Ok(Step::Stay {
                by: By::Exception(at),
                reason: Reason::Excepted,
                standing: Standing::Approved,
            });
        }
        let stay = |by, reason, approved| {
            Ok(Step::Stay {
                by,
                reason,
                standing: self.standing(asking, reference, approved)?,
            })
        };
        let rule = match self.index.first_match(&self.list, asking, reference) {
            Found::At(rule) => rule,
            Found::Nothing => return stay(By::Nobody, Reason::NoRule, false),
            Found::Unknown => return Err(Unknown),
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
        Ok(Step::Move { rule, to })
    }

    /// The first exception that keeps the reference today.
    fn exception(
        &self,
        asking: Asking<'_>,
        reference: &Reference<'_>,
    ) -> Result<Option<usize>, Unknown> {
        let mut unknown = false;
        for (at, it) in self.exceptions.iter().enumerate() {
            if asking.today <= it.until && it.pattern.matches(reference) {
                match asking.holds(&it.guard) {
                    Ternary::Yes => return Ok(Some(at)),
                    Ternary::Unknown => unknown = true,
                    Ternary::No => {}
                }
            }
        }
        if unknown { Err(Unknown) } else { Ok(None) }
    }

    /// Whether a reference that stays is approved. `by_rule` says whether the rule that keeps it
    /// approves.
    fn standing(
        &self,
        asking: Asking<'_>,
        reference: &Reference<'_>,
        by_rule: bool,
    ) -> Result<Standing, Unknown> {
        match self.denied.find(asking, reference) {
            Found::At(at) => return Ok(Standing::Denied(at)),
            Found::Unknown => return Err(Unknown),
            Found::Nothing => {}
        }
        let found = match &self.approval {
            Approved::ByRules if by_rule => return Ok(Standing::Approved),
            Approved::ByRules => self.targets.find(asking, reference),
            Approved::Listed(patterns) => patterns.find(asking, reference),
        };
        match found {
            Found::At(_) => Ok(Standing::Approved),
            Found::Unknown => Err(Unknown),
            Found::Nothing => Ok(Standing::NotApproved),
        }
    }
}
