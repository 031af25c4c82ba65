//! Finds the first rule that matches without trying them all.

use super::patterns::PatternIndex;
use super::regexes::{Regexes, Template};
use super::{Matcher, Rule};
use crate::reference::Reference;

/// Positions of rules, ascending, by what a lookup can find them with.
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

    /// Position of the first rule that matches.
    pub(super) fn first_match(&self, rules: &[Rule], reference: &Reference<'_>) -> Option<usize> {
        let matches = |at: usize| rules[at].matcher.matches(reference);
        let pattern = self.patterns.first(reference, rules.len(), matches);
        let limit = pattern.unwrap_or(rules.len());
        let regex = self.regexes.as_ref();
        regex.and_then(|it| it.first(reference, limit)).or(pattern)
    }

    /// What `template` becomes of a reference that the expression of rule `at` matches.
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
