//! A compiled document as plain data, for programs that write it in another language.

use crate::guard::{Guard, Names};
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::rules::{Action, Approved, Expression, Join, Matcher, Rule, Rules, TemplatePart};
use crate::selector::LabelSelector;
use regex_syntax::hir::Hir;
use time::Date;

/// The parts of a policy that decide. All patterns are compared with canonical references.
#[derive(Debug, Clone)]
pub struct Outline<'a> {
    /// Which Pods the policy applies to.
    pub scope: ScopeOutline<'a>,
    /// The first that matches and holds decides, unless an exception does.
    pub rules: Vec<RuleOutline<'a>>,
    /// How often rules can move an image, one after the other, at most.
    pub moves: usize,
    /// The targets of rules, which are approved if `approved` is `None`.
    pub targets: Vec<ListedPattern<'a>>,
    /// The only approved images, if listed.
    pub approved: Option<Vec<ListedPattern<'a>>>,
    /// Images that are never approved, unless an exception keeps them.
    pub denied: Vec<DeniedPattern<'a>>,
    /// Images that stay and are approved, up to a day.
    pub exceptions: Vec<ExceptionOutline<'a>>,
}

/// Which Pods a policy applies to; all fields have to match.
#[derive(Debug, Clone)]
pub struct ScopeOutline<'a> {
    /// Patterns of names; `None` means every namespace except
    /// [`EXCLUDED_NAMESPACES`](crate::EXCLUDED_NAMESPACES).
    pub namespaces: Option<Vec<&'a str>>,
    /// Patterns of names that are excluded.
    pub excluded: Vec<&'a str>,
    /// Labels of the namespace.
    pub namespace_selector: &'a LabelSelector,
    /// Labels of the Pod.
    pub object_selector: &'a LabelSelector,
    /// The label that skips the swap, if it is `disabled`.
    pub opt_out: Option<&'a str>,
}

/// Names for which an item of the policy holds; `*` matches any characters, `None` any name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuardOutline<'a> {
    /// Names of namespaces.
    pub namespaces: Option<Vec<&'a str>>,
    /// Names of containers; nothing else has one.
    pub containers: Option<Vec<&'a str>>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct RuleOutline<'a> {
    /// Its name in the document. A rule that moves images follows rules of its name that keep what
    /// lies under its targets.
    pub name: &'a str,
    /// Which images it matches.
    pub matcher: MatcherOutline<'a>,
    /// What happens with them.
    pub action: ActionOutline<'a>,
    /// Whether an image stays if the registry of its result does not have it (`ifMissing: keep`).
    pub conditional: bool,
    /// Where it holds.
    pub guard: GuardOutline<'a>,
}

/// Which images a rule matches.
#[derive(Debug, Clone, Copy)]
pub enum MatcherOutline<'a> {
    /// Those that match a pattern.
    Pattern(&'a Pattern),
    /// Those whose canonical reference matches an expression as a whole: the text as written, and
    /// its syntax tree, which ends with the end of the text.
    Regex(&'a str, &'a Hir),
}

/// What a rule does with an image that it matches.
#[derive(Debug, Clone)]
pub enum ActionOutline<'a> {
    /// It stays, and is approved unless there is a list of approved images.
    Keep,
    /// The same, because it lies under the target of the next rule.
    Rest,
    /// It becomes `prefix`, a `/`, and the canonical path without its first `skip` segments, with
    /// tag and digest.
    Prefix {
        /// Registry and path.
        prefix: &'a str,
        /// Segments that are left out; the pattern fixes them, and one more follows.
        skip: usize,
    },
    /// It becomes `name`, with the image's tag and digest as far as these are true.
    Rename {
        /// A reference.
        name: &'a str,
        /// Whether the tag follows.
        tag: bool,
        /// Whether the digest follows.
        digest: bool,
    },
    /// It becomes these parts in a row.
    Fill(Vec<PartOutline<'a>>),
}

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOutline<'a> {
    /// A text.
    Text(&'a str),
    /// What a group of the expression matched; empty if it took no part.
    Group(usize),
}

/// A pattern and where it holds.
#[derive(Debug, Clone)]
pub struct ListedPattern<'a> {
    /// The pattern.
    pub pattern: &'a Pattern,
    /// Where it holds.
    pub guard: GuardOutline<'a>,
}

/// An entry of `denied`.
#[derive(Debug, Clone)]
pub struct DeniedPattern<'a> {
    /// Its place in the document.
    pub name: &'a str,
    /// The author's message.
    pub message: Option<&'a str>,
    /// Which images, and where.
    pub listed: ListedPattern<'a>,
}

/// An exception.
#[derive(Debug, Clone)]
pub struct ExceptionOutline<'a> {
    /// Its last day, in UTC.
    pub until: Date,
    /// Which images, and where.
    pub listed: ListedPattern<'a>,
}

impl Policy {
    /// The policy as plain data; `None` for a maps file, whose rules are not patterns.
    pub fn outline(&self) -> Option<Outline<'_>> {
        let rules = self.rules_of_document()?;
        let scope = self.scope();
        Some(Outline {
            scope: ScopeOutline {
                namespaces: scope.namespaces.as_ref().map(|it| it.iter().collect()),
                excluded: scope.excluded.iter().flat_map(Names::iter).collect(),
                namespace_selector: &scope.namespace,
                object_selector: &scope.object,
                opt_out: scope.opt_out.as_deref(),
            },
            moves: moves(rules.list()),
            rules: rules.list().iter().map(rule).collect(),
            targets: rules
                .targets()
                .map(|it| listed(&it.pattern, &it.guard))
                .collect(),
            approved: match rules.approval() {
                Approved::ByRules => None,
                Approved::Listed(all) => Some(
                    all.iter()
                        .map(|it| listed(&it.pattern, &it.guard))
                        .collect(),
                ),
            },
            denied: denied(rules),
            exceptions: rules
                .exceptions()
                .iter()
                .map(|it| ExceptionOutline {
                    until: it.until,
                    listed: listed(&it.pattern, &it.guard),
                })
                .collect(),
        })
    }
}

fn denied(rules: &Rules) -> Vec<DeniedPattern<'_>> {
    let all = rules.denied();
    all.map(|(it, denial)| DeniedPattern {
        name: &denial.name,
        message: denial.message.as_deref(),
        listed: listed(&it.pattern, &it.guard),
    })
    .collect()
}

fn rule(rule: &Rule) -> RuleOutline<'_> {
    RuleOutline {
        name: &rule.name,
        matcher: match &rule.matcher {
            Matcher::Pattern(pattern) => MatcherOutline::Pattern(pattern),
            Matcher::Regex(regex) => MatcherOutline::Regex(regex.as_str(), regex.hir()),
        },
        action: match &rule.action {
            Action::Keep => ActionOutline::Keep,
            Action::Rest => ActionOutline::Rest,
            Action::Replace(target) => match target.join {
                Join::Path(skip) => ActionOutline::Prefix {
                    prefix: &target.prefix,
                    skip,
                },
                Join::Rename { tag, digest } => ActionOutline::Rename {
                    name: &target.prefix,
                    tag,
                    digest,
                },
            },
            Action::Fill(template) => ActionOutline::Fill(
                template
                    .parts()
                    .iter()
                    .map(|it| match it {
                        TemplatePart::Literal(text) => PartOutline::Text(text),
                        TemplatePart::Group(at) => PartOutline::Group(*at),
                    })
                    .collect(),
            ),
        },
        conditional: rule.conditional,
        guard: guard(&rule.guard),
    }
}

fn listed<'a>(pattern: &'a Pattern, it: &'a Guard) -> ListedPattern<'a> {
    ListedPattern {
        pattern,
        guard: guard(it),
    }
}

fn guard(guard: &Guard) -> GuardOutline<'_> {
    GuardOutline {
        namespaces: guard.namespaces.as_ref().map(|it| it.iter().collect()),
        containers: guard.containers.as_ref().map(|it| it.iter().collect()),
    }
}

/// The length of the longest chain that rules can form. Each move is by an earlier rule than the
/// last, because a rule before it keeps the images under its target.
fn moves(rules: &[Rule]) -> usize {
    // For each rule so far that moves images, itself and the chain that begins with it.
    let mut chains: Vec<(&Matcher, usize)> = Vec::new();
    let mut targets: Vec<&Pattern> = Vec::new();
    for rule in rules {
        match (&rule.action, &rule.matcher) {
            (Action::Rest, Matcher::Pattern(target)) => targets.push(target),
            (Action::Rest | Action::Keep, _) => {}
            (Action::Replace(_) | Action::Fill(_), matcher) => {
                let next = chains.iter().filter(|it| may_match(it.0, &targets));
                let length = 1 + next.map(|it| it.1).max().unwrap_or(0);
                chains.push((matcher, length));
                targets.clear();
            }
        }
    }
    chains.iter().map(|it| it.1).max().unwrap_or(0)
}

/// Whether some image under one of the targets may match. May return true in doubt.
fn may_match(matcher: &Matcher, targets: &[&Pattern]) -> bool {
    let near = |regex: &Expression, target: &Pattern| {
        let (target, _) = target.beginning();
        let prefixes = regex.prefixes();
        let meets = |it: &String| it.starts_with(&target) || target.starts_with(it.as_str());
        prefixes.is_empty() || prefixes.iter().any(meets)
    };
    targets
        .iter()
        .any(|target| match (matcher, target.registry()) {
            (_, None) => true,
            (Matcher::Pattern(pattern), Some(registry)) => {
                let path: Vec<_> = target.fixed_path().collect();
                pattern.may_meet(registry, &path.join("/"))
            }
            (Matcher::Regex(regex), Some(_)) => near(regex, target),
        })
}

#[cfg(test)]
mod tests {
    use crate::document;

    fn longest(rules: &str) -> usize {
        let text = format!(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: p}}\nspec: {{rules: [{rules}]}}"
        );
        let policies = document::load("p.yaml", &text).unwrap().policies;
        policies[0].outline().unwrap().moves
    }

    #[test]
    fn the_longest_chain_of_rules() {
        for (rules, expected) in [
            ("{keep: 'a.io/**'}", 0),
            ("{from: 'a.io/**', to: b.io}", 1),
            (
                "{from: 'a.io/**', to: b.io}, {from: 'c.io/**', to: d.io}",
                1,
            ),
            // The target of the second matches the first.
            (
                "{from: 'a.io/**', to: b.io}, {from: 'c.io/**', to: a.io}",
                2,
            ),
            (
                "{from: 'a.io/x/**', to: b.io}, {from: 'c.io/**', to: a.io/y}",
                1,
            ),
            (
                "{regex: 'a\\.io/(.*)', to: b.io/$1}, {from: 'c.io/**', to: a.io}",
                2,
            ),
            (
                "{regex: 'a\\.io/(.*)', to: b.io/$1}, {from: 'c.io/**', to: d.io}",
                1,
            ),
            (
                "{regex: '.*/(x)', to: b.io/$1}, {from: 'c.io/**', to: d.io}",
                2,
            ),
            (
                "{from: 'a.io/**', to: b.io}, {from: 'c.io/**', to: a.io}, {from: 'd.io/**', to: c.io}",
                3,
            ),
        ] {
            assert_eq!(longest(rules), expected, "{rules}");
        }
    }
}
