//! The engine of documents: an ordered list of rules, of which the first that matches decides, and
//! the targets of its rules.

use crate::guard::{Asking, Guard};
use crate::pattern::Pattern;
use crate::reference::Reference;
use crate::revision::Fields;
use crate::scope::Missing;
use std::collections::HashSet;
use time::Date;

mod action;
mod decide;
mod index;
mod matcher;
mod patterns;
mod regexes;
mod revision;

pub(crate) use action::{Action, Join, Target};
use index::Index;
pub(crate) use matcher::Matcher;
use patterns::Found;
pub(crate) use patterns::Guarded;
pub(crate) use patterns::PatternSet;
pub(crate) use regexes::{
    Expression, MAX_SIZE_OF_ALL, Part as TemplatePart, RegexError, Regexes, Template,
};

/// One compiled rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// The rule's name in its file.
    pub(crate) name: String,
    pub(crate) matcher: Matcher,
    pub(crate) action: Action,
    pub(crate) guard: Guard,
    /// Whether images stay if the registry does not have the rule's result.
    pub(crate) conditional: bool,
}

/// How approval is decided.
#[derive(Debug, Clone)]
pub(crate) enum Approval {
    /// Targets of rules, and images that rules keep.
    ByRules,
    /// Images that match one of these patterns, and no others.
    Listed(Vec<Guarded>),
}

/// An image that stays and is approved through a day.
#[derive(Debug, Clone)]
pub(crate) struct Exception {
    /// For messages: where it is written, its end and its reason.
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    pub(crate) guard: Guard,
    /// The last day, in UTC.
    pub(crate) until: Date,
}

/// An entry of `denied`.
#[derive(Debug, Clone)]
pub(crate) struct Denial {
    /// Its place in the document.
    pub(crate) name: String,
    pub(crate) message: Option<String>,
}

/// The input for [`Rules`] from a document.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// First match wins.
    pub(crate) rules: Vec<Rule>,
    /// The targets of the rules.
    pub(crate) targets: Vec<Guarded>,
    pub(crate) approval: Approval,
    /// Images that are never approved, unless an exception keeps them.
    pub(crate) denied: Vec<(Guarded, Denial)>,
    pub(crate) exceptions: Vec<Exception>,
    /// The expressions of the rules, by the rules' positions.
    pub(crate) regexes: Option<Regexes>,
}

/// Compiled rules.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    list: Vec<Rule>,
    index: Index,
    targets: PatternSet,
    approval: Approved,
    denied: PatternSet,
    /// The messages for each of `denied`.
    denials: Vec<Denial>,
    exceptions: Vec<Exception>,
    guards: Missing,
}

/// [`Approval`], compiled.
#[derive(Debug, Clone)]
pub(crate) enum Approved {
    ByRules,
    Listed(PatternSet),
}

impl Rules {
    pub(crate) fn compile(draft: Draft) -> Self {
        let guards = draft.guards();
        let (denied, denials) = draft.denied.into_iter().unzip();
        Self {
            guards,
            index: Index::new(&draft.rules, draft.regexes),
            targets: PatternSet::new(draft.targets),
            list: draft.rules,
            approval: match draft.approval {
                Approval::ByRules => Approved::ByRules,
                Approval::Listed(patterns) => Approved::Listed(PatternSet::new(patterns)),
            },
            denied: PatternSet::new(denied),
            denials,
            exceptions: draft.exceptions,
        }
    }

    /// The rules, in the order in which they are tried.
    pub(crate) fn list(&self) -> &[Rule] {
        &self.list
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = &Guarded> {
        self.targets.iter()
    }

    pub(crate) fn approval(&self) -> &Approved {
        &self.approval
    }

    /// The entries of `denied`.
    pub(crate) fn denied(&self) -> impl Iterator<Item = (&Guarded, &Denial)> {
        self.denied.iter().zip(&self.denials)
    }

    pub(crate) fn exceptions(&self) -> &[Exception] {
        &self.exceptions
    }

    /// Whether `reference` lies under the target of a rule that holds.
    pub(crate) fn is_under_target(&self, asking: Asking<'_>, reference: &Reference<'_>) -> bool {
        matches!(self.targets.find(asking, reference), Found::At(_))
    }

    /// The names that guards need.
    pub(crate) fn guards(&self) -> Missing {
        self.guards
    }

    /// Whether a swap depends on what a registry has.
    pub(crate) fn asks_registries(&self) -> bool {
        self.list.iter().any(|it| it.conditional)
    }

    /// Names of the rules, in the order in which they are tried.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|it| it.name.as_str())
    }

    /// Hashes everything that affects decisions. Names of rules do not.
    pub(crate) fn hash(&self, hash: &mut Fields) {
        revision::add(self, hash);
    }
}

impl Draft {
    /// The names that guards need.
    fn guards(&self) -> Missing {
        let approved = match &self.approval {
            Approval::ByRules => &[],
            Approval::Listed(patterns) => patterns.as_slice(),
        };
        let rules = self.rules.iter().map(|it| &it.guard);
        let approved = approved.iter().map(|it| &it.guard);
        let denied = self.denied.iter().map(|it| &it.0.guard);
        let exceptions = self.exceptions.iter().map(|it| &it.guard);
        let all = rules.chain(approved).chain(denied).chain(exceptions);
        all.fold(Missing::default(), |guards, it| Missing {
            namespace: guards.namespace || it.namespaces.is_some(),
            container: guards.container || it.containers.is_some(),
            ..guards
        })
    }

    /// Patterns of approved images, each once, in the order of the rules.
    pub(crate) fn places(&self) -> Vec<String> {
        let (mut places, mut known) = (Vec::new(), HashSet::new());
        let mut add = |pattern: &Pattern| {
            if known.insert(pattern.as_str().to_owned()) {
                places.push(pattern.as_str().to_owned());
            }
        };
        match &self.approval {
            Approval::Listed(patterns) => patterns.iter().for_each(|it| add(&it.pattern)),
            Approval::ByRules => {
                self.targets.iter().for_each(|it| add(&it.pattern));
                let kept = self.rules.iter().filter(|it| it.action == Action::Keep);
                kept.filter_map(|it| match &it.matcher {
                    Matcher::Pattern(pattern) => Some(pattern),
                    Matcher::Regex(_) => None,
                })
                .for_each(add);
            }
        }
        places
    }
}
