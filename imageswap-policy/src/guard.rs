//! Names of namespaces and containers, the guards that limit an item of a policy to some of them,
//! and the request that guards are compared with.

use crate::pattern::Wild;
use time::Date;

/// An answer that may be unknown. `min` is "and".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ternary {
    No,
    Unknown,
    Yes,
}

/// A name that a guard is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Known(&'a str),
    /// There is no name: a container of the node has no namespace, and a volume is not a container.
    Absent,
    Unknown,
}

/// Patterns of names; one has to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names(Vec<Wild>);

/// Where an item of a policy holds; everywhere by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) namespaces: Option<Names>,
    pub(crate) containers: Option<Names>,
}

/// The parts of the request that affect a decision once the policy is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// In UTC; exceptions end.
    pub(crate) today: Date,
    /// Whether a label of the Pod skips the swap.
    pub(crate) opted_out: bool,
    /// Whether the registry does not have the result of a conditional swap.
    pub(crate) is_missing: bool,
    pub(crate) namespace: Name<'a>,
    pub(crate) container: Name<'a>,
}

impl Asking<'_> {
    /// Whether an item with this guard holds.
    pub(crate) fn holds(&self, guard: &Guard) -> Ternary {
        guard.holds(self.namespace, self.container)
    }
}

impl From<bool> for Ternary {
    fn from(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }
}

impl Names {
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self(patterns.into_iter().map(Wild::new).collect())
    }

    /// The patterns as written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Wild::as_str)
    }

    pub(crate) fn contain(&self, name: Name<'_>) -> Ternary {
        match name {
            Name::Known(name) => self.0.iter().any(|it| it.matches(name)).into(),
            Name::Absent => Ternary::No,
            Name::Unknown if self.0.iter().any(Wild::is_any) => Ternary::Yes,
            Name::Unknown => Ternary::Unknown,
        }
    }

    /// Whether these contain every name that `other` contains. May return false in doubt.
    pub(crate) fn cover(&self, other: &Self) -> bool {
        let one = |it: &Wild| self.0.iter().any(|mine| mine.covers(it));
        other.0.iter().all(one)
    }
}

impl Guard {
    /// Whether the item holds for this container in this namespace.
    pub(crate) fn holds(&self, namespace: Name<'_>, container: Name<'_>) -> Ternary {
        let one = |names: &Option<Names>, name| {
            names
                .as_ref()
                .map_or(Ternary::Yes, |names| names.contain(name))
        };
        one(&self.namespaces, namespace).min(one(&self.containers, container))
    }

    /// Whether an item with this guard holds wherever one with `other` does. May return false in
    /// doubt.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let one = |mine: &Option<Names>, theirs: &Option<Names>| match (mine, theirs) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(theirs)) => mine.cover(theirs),
        };
        one(&self.namespaces, &other.namespaces) && one(&self.containers, &other.containers)
    }

    /// Whether an item with this guard and one with `other` certainly hold together somewhere. May
    /// return false in doubt.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(namespaces: &[&str], containers: &[&str]) -> Guard {
        let names = |it: &[&str]| (!it.is_empty()).then(|| Names::new(it.iter().copied()));
        Guard {
            namespaces: names(namespaces),
            containers: names(containers),
        }
    }

    #[test]
    fn a_guard_holds_where_both_names_match() {
        use Name::{Absent, Known, Unknown};
        let both = guard(&["shop", "team-*"], &["app"]);
        for (namespace, container, expected) in [
            (Known("shop"), Known("app"), Ternary::Yes),
            (Known("team-a"), Known("app"), Ternary::Yes),
            (Known("my-shop"), Known("app"), Ternary::No),
            (Known("shop"), Known("init"), Ternary::No),
            (Known("shop"), Unknown, Ternary::Unknown),
            (Known("other"), Unknown, Ternary::No),
            (Unknown, Known("init"), Ternary::No),
            (Unknown, Unknown, Ternary::Unknown),
            (Absent, Known("app"), Ternary::No),
            (Known("shop"), Absent, Ternary::No),
        ] {
            let found = both.holds(namespace, container);
            assert_eq!(found, expected, "{namespace:?} {container:?}");
        }
        assert_eq!(Guard::default().holds(Unknown, Absent), Ternary::Yes);
    }

    #[test]
    fn a_wider_guard_covers_a_narrower_one() {
        let open = Guard::default();
        let team = guard(&["team-*"], &[]);
        let one = guard(&["team-a"], &["app"]);
        for (wide, narrow, expected) in [
            (&open, &one, true),
            (&team, &one, true),
            (&one, &team, false),
            (&team, &open, false),
            (&team, &team, true),
        ] {
            assert_eq!(wide.covers(narrow), expected, "{wide:?} {narrow:?}");
        }
    }
}
