//! The engine of documents: an ordered list of rules, of which the first that matches decides, and the places that
//! its rules lead to.

use crate::pattern::Pattern;
use crate::policy::Fields;
use crate::reference::Reference;
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
use patterns::PatternSet;
pub(crate) use regexes::{Expression, MAX_SIZE_OF_ALL, RegexError, Regexes, Template};

/// One compiled rule.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// The name that its file gives it.
    pub(crate) name: String,
    pub(crate) matcher: Matcher,
    pub(crate) action: Action,
}

/// What is approved.
#[derive(Debug, Clone)]
pub(crate) enum Approval {
    /// Where rules lead to, and what rules keep.
    ByRules,
    /// What one of these patterns means, and nothing else.
    Listed(Vec<Pattern>),
}

/// An image that stays and is approved through a day.
#[derive(Debug, Clone)]
pub(crate) struct Exception {
    /// For messages: where it is written, its end and its reason.
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    /// The last day, in UTC.
    pub(crate) until: Date,
}

/// What a document hands over to become [`Rules`].
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// First match wins.
    pub(crate) rules: Vec<Rule>,
    /// Where the rules lead to.
    pub(crate) targets: Vec<Pattern>,
    pub(crate) approval: Approval,
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
    exceptions: Vec<Exception>,
}

/// [`Approval`], compiled.
#[derive(Debug, Clone)]
enum Approved {
    ByRules,
    Listed(PatternSet),
}

impl Rules {
    pub(crate) fn compile(draft: Draft) -> Self {
        Self {
            index: Index::new(&draft.rules, draft.regexes),
            targets: PatternSet::new(draft.targets),
            list: draft.rules,
            approval: match draft.approval {
                Approval::ByRules => Approved::ByRules,
                Approval::Listed(patterns) => Approved::Listed(PatternSet::new(patterns)),
            },
            exceptions: draft.exceptions,
        }
    }

    pub(crate) fn exceptions(&self) -> &[Exception] {
        &self.exceptions
    }

    pub(crate) fn is_under_target(&self, reference: &Reference<'_>) -> bool {
        self.targets.matches(reference)
    }

    /// Names of the rules, in the order in which they are tried.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|it| it.name.as_str())
    }

    /// Adds what decides. Names of rules do not.
    pub(crate) fn hash(&self, hash: &mut Fields) {
        revision::add(self, hash);
    }
}

impl Draft {
    /// Patterns of what is approved, each once, in the order of the rules.
    pub(crate) fn places(&self) -> Vec<String> {
        let mut places = Vec::new();
        let mut add = |pattern: &Pattern| {
            if !places.iter().any(|it| it == pattern.as_str()) {
                places.push(pattern.as_str().to_owned());
            }
        };
        match &self.approval {
            Approval::Listed(patterns) => patterns.iter().for_each(add),
            Approval::ByRules => {
                self.targets.iter().for_each(&mut add);
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
