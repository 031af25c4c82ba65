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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Action, Glob, Place};
    use crate::testing::{host, path, reference};
    use proptest::prelude::*;

    fn matcher() -> BoxedStrategy<Matcher> {
        let glob = prop::sample::select(vec!["*nginx*", "quay.io/*", "[a-m]*"])
            .prop_map(|it| Matcher::Glob(Glob::new(it)));
        prop_oneof![
            6 => host().prop_map(Matcher::Registry),
            2 => reference().prop_map(Matcher::Text),
            1 => path().prop_map(Matcher::Text),
            1 => glob,
            1 => path().prop_map(Matcher::Contains),
            1 => host().prop_map(|it| Matcher::Within(it.clone(), Place::named(&it))),
            1 => Just(Matcher::Name),
            1 => Just(Matcher::Any),
        ]
        .boxed()
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_scan_finds(
            matchers in prop::collection::vec(matcher(), 0..12),
            images in prop::collection::vec(reference(), 1..8),
        ) {
            let action = Action::Keep { approved: true };
            let rule = |matcher| Rule { name: String::new(), matcher, action: action.clone() };
            let rules: Vec<_> = matchers.into_iter().map(rule).collect();
            let index = Index::new(&rules);
            for image in &images {
                let reference = Reference::parse(image).unwrap();
                let scan = rules.iter().position(|it| it.matcher.matches(&reference));
                prop_assert_eq!(index.first_match(&rules, &reference), scan);
            }
        }
    }
}
