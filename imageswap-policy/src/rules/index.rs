//! Finds the first rule that matches without trying them all.

use super::patterns::{Found, PatternIndex, Sieve};
use super::regexes::{Regexes, Template};
use super::{Matcher, Rule};
use crate::guard::Asking;
use crate::reference::Reference;

/// Positions of rules, ascending, by their lookup keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    patterns: PatternIndex,
    regexes: Option<Regexes>,
}

impl Index {
    /// `regexes` are the expressions of these rules.
    pub(super) fn new(rules: &[Rule], regexes: Option<Regexes>) -> Self {
        let mut index = Self {
            regexes,
            ..Self::default()
        };
        for (at, rule) in rules.iter().enumerate() {
            match &rule.matcher {
                Matcher::Pattern(pattern) => index.patterns.insert(at, pattern),
                Matcher::Regex(_) => {}
            }
        }
        index
    }

    /// The first rule that matches and holds.
    pub(super) fn first_match(
        &self,
        rules: &[Rule],
        asking: Asking<'_>,
        reference: &Reference<'_>,
    ) -> Found {
        let sieve = Sieve::new(asking);
        let holds = |at: usize| sieve.passes(at, &rules[at].guard);
        let matches = |at: usize| rules[at].matcher.matches(reference) && holds(at);
        let pattern = self.patterns.first(reference, rules.len(), matches);
        let limit = pattern.unwrap_or(rules.len());
        let regex = self.regexes.as_ref();
        let found = regex.and_then(|it| it.first(reference, limit, holds));
        sieve.first(found.or(pattern))
    }

    /// Fills `template` for a reference that the expression of rule `at` matches.
    pub(super) fn expand(
        &self,
        at: usize,
        template: &Template,
        reference: &Reference<'_>,
    ) -> String {
        self.regexes
            .as_ref()
            .map_or_else(String::new, |it| it.expand(at, template, reference))
    }
}
