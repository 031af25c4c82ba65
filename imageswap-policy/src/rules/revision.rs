//! The parts of the rules that the policy's revision covers.

use super::{Action, Approved, Join, Matcher, Rule, Rules};
use crate::revision::Fields;

/// Hashes everything that affects decisions. Names of rules do not: they carry positions, which
/// other rules change.
pub(super) fn add(rules: &Rules, hash: &mut Fields) {
    match &rules.approval {
        Approved::ByRules => hash.field("refuse"),
        Approved::Listed(patterns) => {
            hash.field("listed");
            for pattern in patterns.iter() {
                hash.fields(&["approved", pattern.pattern.as_str()]);
                hash.guard(&pattern.guard);
            }
        }
    }
    for denied in rules.denied.iter() {
        hash.fields(&["denied", denied.pattern.as_str()]);
        hash.guard(&denied.guard);
    }
    for exception in &rules.exceptions {
        hash.fields(&[
            "exception",
            exception.pattern.as_str(),
            &exception.until.to_julian_day().to_string(),
        ]);
        hash.guard(&exception.guard);
    }
    for rule in &rules.list {
        one(rule, hash);
    }
    for target in rules.targets.iter() {
        hash.fields(&["pattern", target.pattern.as_str()]);
    }
}

fn one(rule: &Rule, hash: &mut Fields) {
    hash.guard(&rule.guard);
    if rule.conditional {
        hash.field("keep if missing");
    }
    match &rule.matcher {
        Matcher::Pattern(pattern) => hash.fields(&["pattern", pattern.as_str()]),
        Matcher::Regex(expression) => hash.fields(&["regex", expression.as_str()]),
    }
    match &rule.action {
        Action::Keep => hash.field("approve"),
        Action::Rest => hash.field("rest"),
        Action::Fill(template) => hash.fields(&["fill", template.as_str()]),
        Action::Replace(target) => {
            let join = match target.join {
                Join::Path(skip) => format!("path from {skip}"),
                Join::Rename { tag, digest } => format!("rename {tag} {digest}"),
            };
            hash.fields(&["replace", &join, &target.prefix, ""]);
        }
    }
}
