//! Many patterns, asked at once.

use crate::pattern::Pattern;
use crate::reference::{Reference, split_port};
use std::collections::HashMap;

/// Positions of patterns by what they fix: the registry and the first path segments, or the end of the host. Only
/// what may match is tried.
#[derive(Debug, Clone, Default)]
pub(super) struct PatternIndex {
    by_registry: HashMap<String, Node>,
    by_suffix: HashMap<String, Vec<usize>>,
    others: Vec<usize>,
}

/// Patterns by path segments: those that fix no further one, and the next segments.
#[derive(Debug, Clone, Default)]
struct Node {
    here: Vec<usize>,
    below: HashMap<String, Node>,
}

/// Patterns of which any may match.
#[derive(Debug, Clone, Default)]
pub(super) struct PatternSet {
    patterns: Vec<Pattern>,
    index: PatternIndex,
}

impl PatternIndex {
    /// Adds the pattern at position `at`; positions ascend.
    pub(super) fn insert(&mut self, at: usize, pattern: &Pattern) {
        if let Some(registry) = pattern.registry() {
            let mut node = self.by_registry.entry(registry.to_owned()).or_default();
            for segment in pattern.fixed_path() {
                node = node.below.entry(segment.to_owned()).or_default();
            }
            node.here.push(at);
        } else if let Some(suffix) = pattern.host_suffix() {
            self.by_suffix.entry(suffix).or_default().push(at);
        } else {
            self.others.push(at);
        }
    }

    /// The lowest position before `limit` of which `matches` is true; it is asked only about what may be.
    pub(super) fn first(
        &self,
        reference: &Reference<'_>,
        limit: usize,
        matches: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best = limit;
        let mut look = |positions: &[usize]| {
            let mut earlier = positions.iter().take_while(|&&at| at < best);
            if let Some(&at) = earlier.find(|&&at| matches(at)) {
                best = at;
            }
        };
        if let Some(node) = self.by_registry.get(reference.registry()) {
            look(&node.here);
            let official = reference.is_official_by_omission().then_some("library");
            let segments = official.into_iter().chain(reference.path().split('/'));
            let mut node = node;
            for segment in segments {
                match node.below.get(segment) {
                    Some(next) => node = next,
                    None => break,
                }
                look(&node.here);
            }
        }
        if !self.by_suffix.is_empty() {
            let mut suffix = split_port(reference.registry()).0;
            while let Some((_, rest)) = suffix.split_once('.') {
                suffix = rest;
                if let Some(positions) = self.by_suffix.get(suffix) {
                    look(positions);
                }
            }
            // A pattern such as `example.com:*` has the whole host for its suffix.
            if let Some(positions) = self.by_suffix.get(split_port(reference.registry()).0) {
                look(positions);
            }
        }
        look(&self.others);
        (best < limit).then_some(best)
    }
}

impl PatternSet {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        let mut index = PatternIndex::default();
        for (at, pattern) in patterns.iter().enumerate() {
            index.insert(at, pattern);
        }
        Self { patterns, index }
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Pattern> {
        self.patterns.iter()
    }

    /// Whether any of them matches.
    pub(super) fn matches(&self, reference: &Reference<'_>) -> bool {
        let matches = |at: usize| self.patterns[at].matches(reference);
        self.index
            .first(reference, self.patterns.len(), matches)
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{pattern, reference};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_scan_finds(
            patterns in prop::collection::vec(pattern(), 0..12),
            images in prop::collection::vec(reference(), 1..8),
        ) {
            let patterns: Vec<_> = patterns.iter().map(|it| Pattern::parse(it).unwrap()).collect();
            let set = PatternSet::new(patterns.clone());
            for image in &images {
                let reference = Reference::parse(image).unwrap();
                let scan = patterns.iter().position(|it| it.matches(&reference));
                let found = set.index.first(&reference, patterns.len(), |at| patterns[at].matches(&reference));
                prop_assert_eq!(found, scan, "{}", image);
                prop_assert_eq!(set.matches(&reference), scan.is_some());
            }
        }
    }
}
