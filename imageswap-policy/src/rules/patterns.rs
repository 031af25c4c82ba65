//! Matches many patterns at once.

use crate::guard::{Asking, Guard, Ternary};
use crate::pattern::Pattern;
use crate::reference::{Reference, split_port};
use foldhash::HashMap;
use std::cell::Cell;

/// Positions of patterns by their fixed parts: the registry and the first path segments, or the end
/// of the host. Only patterns that may match are tried.
#[derive(Debug, Clone, Default)]
pub(super) struct PatternIndex {
    by_registry: HashMap<String, Node>,
    by_suffix: HashMap<String, Vec<usize>>,
    others: Vec<usize>,
}

/// Patterns by path segments: those that fix no further segment, and the next segments.
#[derive(Debug, Clone, Default)]
struct Node {
    here: Vec<usize>,
    below: HashMap<String, Node>,
}

/// A pattern and its guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guarded {
    pub(crate) pattern: Pattern,
    pub(crate) guard: Guard,
}

/// Patterns of which any may match.
#[derive(Debug, Clone, Default)]
pub(crate) struct PatternSet {
    items: Vec<Guarded>,
    index: PatternIndex,
}

/// The result of a search among items with guards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    At(usize),
    /// A matching item of which it is unknown whether it holds.
    Unknown,
}

/// Accepts items that hold, and remembers the first of which that is unknown.
pub(super) struct Sieve<'a> {
    asking: Asking<'a>,
    unknown: Cell<Option<usize>>,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(asking: Asking<'a>) -> Self {
        Self {
            asking,
            unknown: Cell::new(None),
        }
    }

    /// Whether the matching item at `at` holds.
    pub(super) fn passes(&self, at: usize, guard: &Guard) -> bool {
        match self.asking.holds(guard) {
            Ternary::Yes => true,
            Ternary::No => false,
            Ternary::Unknown => {
                let first = self.unknown.get().map_or(at, |it| it.min(at));
                self.unknown.set(Some(first));
                false
            }
        }
    }

    /// For items of which the first decides.
    pub(super) fn first(&self, found: Option<usize>) -> Found {
        match (self.unknown.get(), found) {
            (Some(unknown), Some(at)) if unknown < at => Found::Unknown,
            (_, Some(at)) => Found::At(at),
            (Some(_), None) => Found::Unknown,
            (None, None) => Found::Nothing,
        }
    }

    /// For items of which any is enough.
    pub(super) fn any(&self, found: Option<usize>) -> Found {
        match (self.unknown.get(), found) {
            (_, Some(at)) => Found::At(at),
            (Some(_), None) => Found::Unknown,
            (None, None) => Found::Nothing,
        }
    }
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

    /// The lowest position before `limit` for which `matches` returns true; it is called only for
    /// possible ones.
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
            // For a pattern such as `example.com:*` the suffix is the whole host.
            if let Some(positions) = self.by_suffix.get(split_port(reference.registry()).0) {
                look(positions);
            }
        }
        look(&self.others);
        (best < limit).then_some(best)
    }
}

impl PatternSet {
    pub(super) fn new(items: Vec<Guarded>) -> Self {
        let mut index = PatternIndex::default();
        for (at, it) in items.iter().enumerate() {
            index.insert(at, &it.pattern);
        }
        Self { items, index }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Guarded> {
        self.items.iter()
    }

    pub(super) fn pattern(&self, at: usize) -> &Pattern {
        &self.items[at].pattern
    }

    /// The first that matches and holds.
    pub(super) fn find(&self, asking: Asking<'_>, reference: &Reference<'_>) -> Found {
        let sieve = Sieve::new(asking);
        let matches = |at: usize| {
            let it = &self.items[at];
            it.pattern.matches(reference) && sieve.passes(at, &it.guard)
        };
        sieve.any(self.index.first(reference, self.items.len(), matches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Name;
    use crate::testing::{TODAY, pattern, reference};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_scan_finds(
            patterns in prop::collection::vec(pattern(), 0..12),
            images in prop::collection::vec(reference(), 1..8),
        ) {
            let patterns: Vec<_> = patterns.iter().map(|it| Pattern::parse(it).unwrap()).collect();
            let open = |it: &Pattern| Guarded { pattern: it.clone(), guard: Guard::default() };
            let set = PatternSet::new(patterns.iter().map(open).collect());
            let asking = Asking { today: TODAY, opted_out: false, is_missing: false, namespace: Name::Unknown, container: Name::Unknown };
            for image in &images {
                let reference = Reference::parse(image).unwrap();
                let scan = patterns.iter().position(|it| it.matches(&reference));
                let found = set.index.first(&reference, patterns.len(), |at| patterns[at].matches(&reference));
                prop_assert_eq!(found, scan, "{}", image);
                prop_assert_eq!(set.find(asking, &reference), scan.map_or(Found::Nothing, Found::At));
            }
        }
    }
}
