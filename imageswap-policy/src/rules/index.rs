//! Finds the first rule that matches without trying them all.

use super::{Matcher, Rule};
use crate::reference::{DEFAULT_REGISTRY, Reference, split_port};
use std::collections::HashMap;

/// Positions of rules, ascending, by what a lookup can find them with.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    by_text: HashMap<String, usize>,
    by_registry: HashMap<String, usize>,
    /// Rules that have to be tried.
    others: Vec<usize>,
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            match &rule.matcher {
                Matcher::Text(key) => _ = index.by_text.entry(key.clone()).or_insert(at),
                Matcher::Registry(key) => _ = index.by_registry.entry(key.clone()).or_insert(at),
                _ => index.others.push(at),
            }
        }
        index
    }

    /// Position of the first rule that matches.
    pub(super) fn first_match(&self, rules: &[Rule], reference: &Reference<'_>) -> Option<usize> {
        let registry = reference.written_registry().unwrap_or(DEFAULT_REGISTRY);
        let host = split_port(registry).0;
        let text = self.by_text.get(reference.as_str());
        let exact = self.by_registry.get(registry);
        let any_port = if host == registry {
            None
        } else {
            self.by_registry.get(host)
        };
        let found = [text, exact, any_port].into_iter().flatten().min().copied();
        let earlier = self
            .others
            .iter()
            .take_while(|&&at| found.is_none_or(|found| at < found));
        earlier
            .copied()
            .find(|&at| rules[at].matcher.matches(reference))
            .or(found)
    }
}
