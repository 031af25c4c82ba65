//! Finds the first rule that matches without trying them all.

use super::patterns::PatternIndex;
use super::regexes::{Regexes, Template};
use super::{Matcher, Rule};
use crate::reference::{DEFAULT_REGISTRY, Reference, split_port};
use std::collections::HashMap;

/// Positions of rules, ascending, by what a lookup can find them with.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    by_text: HashMap<String, usize>,
    by_registry: HashMap<String, usize>,
    patterns: PatternIndex,
    regexes: Option<Regexes>,
    /// Rules that have to be tried.
    others: Vec<usize>,
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
                Matcher::Text(key) => _ = index.by_text.entry(key.clone()).or_insert(at),
                Matcher::Registry(key) => _ = index.by_registry.entry(key.clone()).or_insert(at),
                Matcher::Pattern(pattern) => index.patterns.insert(at, pattern),
                Matcher::Regex(_) => {}
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
        let mut found = [text, exact, any_port]
            .into_iter()
            .flatten()
            .fold(rules.len(), |found, at| found.min(*at));
        let matches = |at: usize| rules[at].matcher.matches(reference);
        if let Some(at) = self.patterns.first(reference, found, matches) {
            found = at;
        }
        if let Some(at) = self
            .regexes
            .as_ref()
            .and_then(|it| it.first(reference, found))
        {
            found = at;
        }
        let mut earlier = self.others.iter().copied().take_while(|&at| at < found);
        earlier
            .find(|&at| matches(at))
            .or((found < rules.len()).then_some(found))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;
    use crate::rules::{Action, Glob, Place};
    use crate::testing::{host, path, pattern, reference};
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
            2 => pattern().prop_map(|it| Matcher::Pattern(Pattern::parse(&it).unwrap())),
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
            let index = Index::new(&rules, None);
            for image in &images {
                let reference = Reference::parse(image).unwrap();
                let scan = rules.iter().position(|it| it.matcher.matches(&reference));
                prop_assert_eq!(index.first_match(&rules, &reference), scan);
            }
        }
    }
}
