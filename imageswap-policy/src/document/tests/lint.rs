//! Messages of the linter alone.

use super::{first, text};
use crate::Severity;
use crate::document::lint_all;
use crate::testing::TODAY;
use crate::{Date, Diagnostics};

pub(super) fn lint(source: &str, text: &str) -> Diagnostics {
    let today = Date::from_ordinal_date(2027, 1).unwrap();
    lint_all([(source, text)], today).found
}

#[test]
fn traps_are_named_by_the_linter() {
    for (spec, part, code) in [
        (
            "rules: [{keep: a.io/**}, {from: a.io/x/**, to: r.io}]",
            "a.io/x/**",
            "shadowed-rule",
        ),
        (
            "rules: [{from: '**', to: r.io}]",
            "r.io",
            "merged-registries",
        ),
        (
            "rules: [{from: a.io/**, to: r.io}, {from: b.io/**, to: r.io}]",
            "r.io",
            "merged-registries",
        ),
        (
            "rules: [{regex: 'a.io/(.*)', to: r.io/$1}]",
            "a.io/(.*)",
            "unanchored-regex",
        ),
        ("approved: [r.io/*]", "r.io/*", "shallow-pattern"),
        ("approved: ['*/team/**']", "*/team/**", "any-registry"),
        ("approved: [R.io/**]", "R.io/**", "key-case"),
        ("approved: []", "[]", "approves-nothing"),
        (
            "rules: [{from: a.io/**, to: r.io}]\napproved: [s.io/**]",
            "r.io",
            "target-not-approved",
        ),
        (
            "rules: [{from: b.io/**, to: c.io}, {from: a.io/**, to: b.io/m}]",
            "b.io/m",
            "chained-rules",
        ),
        ("priority: 1", "priority", "approves-nothing"),
    ] {
        let text = text(spec);
        let found = lint("p.yaml", &text);
        assert!(
            found.iter().all(|it| it.severity == Severity::Warning),
            "{found}"
        );
        let (at, found_code, _) = first(&text, &found);
        assert_eq!((at.as_str(), found_code), (part, code), "{found}");
    }
    let clean =
        text("rules: [{keep: r.io/**}, {from: docker.io/**, to: r.io/hub}]\napproved: [r.io/**]");
    assert!(
        lint("p.yaml", &clean).is_empty(),
        "{}",
        lint("p.yaml", &clean)
    );
}

#[test]
fn one_host_with_any_port_merges_no_registries() {
    let merges = |from: &str| {
        let text = text(&format!("rules: [{{from: '{from}', to: r.io}}]"));
        let found = lint("p.yaml", &text);
        found.iter().any(|it| it.code == "merged-registries")
    };
    for (from, expected) in [
        ("a.io:*/**", false),
        ("a.io:*/team/**", false),
        ("a.io:5000/**", false),
        ("*.a.io/**", true),
        ("**.a.io:*/**", true),
        ("a.*.io:*/**", true),
        ("*/team/**", true),
    ] {
        assert_eq!(merges(from), expected, "{from}");
    }
}

#[test]
fn traps_of_a_sound_document_are_reported_at_their_place() {
    for (spec, part, code) in [
        (
            "rules: [{name: legacy, from: docker.io/bitnami/**, to: docker.io/bitnamilegacy}, {from: docker.io/**, to: r.io/hub}]",
            "docker.io/bitnamilegacy",
            "bypassed-rule",
        ),
        (
            "approved: [r.io/**]\ndenied: [latest]",
            "latest",
            "denied-tag",
        ),
        ("rules: [{keep: '**'}]", "**", "keeps-everything"),
        (
            "approved: [r.io/**]\nexceptions: [{pattern: '*/**', until: 2099-01-01, reason: x}]",
            "*/**",
            "excepts-everything",
        ),
        (
            "approved: [r.io/**]\nexceptions: [{pattern: 'a.io/**', until: 2001-01-01, reason: x}]",
            "2001-01-01",
            "ended-exception",
        ),
        ("approved: [docker.io/*]", "docker.io/*", "official-only"),
        (
            "rules: [{regex: '^quay.io/(.*)$', to: r.io/$1}]",
            "^quay.io/(.*)$",
            "unescaped-dot",
        ),
        (
            "approved: [r.io/**]\nmatch: {objectSelector: {matchExpressions: [{key: a, operator: In, values: [x]}, {key: a, operator: In, values: [y]}]}}",
            "matchExpressions",
            "never-selects",
        ),
        (
            "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {a: x}, matchExpressions: [{key: a, operator: DoesNotExist}]}}",
            "matchLabels",
            "never-selects",
        ),
    ] {
        let text = text(spec);
        let found = lint("p.yaml", &text);
        let told = found.iter().find(|it| it.code == code);
        let told = told.unwrap_or_else(|| panic!("{spec}\n{found}"));
        let line = text.lines().nth(told.line - 1).unwrap_or_default();
        let at: String = line
            .chars()
            .skip(told.column - 1)
            .take(told.length)
            .collect();
        assert_eq!(at.trim_matches('\''), part, "{told}");
        assert!(told.help.is_some(), "{told}");
    }
}

#[test]
fn what_is_meant_gets_no_warning() {
    for spec in [
        // A rule for the rest does not shadow rules before it.
        "rules: [{from: quay.io/**, to: r.io/q}, {from: '**', to: s.io}]",
        "rules: [{from: docker.io/a/**, to: r.io/hub/b}, {from: docker.io/**, to: r.io/hub}]",
        "rules: [{keep: '**'}]\napproved: [r.io/**]",
        "approved: [r.io/**]\nexceptions: [{pattern: 'a.io/**', until: 2099-01-01, reason: x}]",
        "approved: [docker.io/library/*, 'library/*', 'bitnami/*']",
        "rules: [{regex: '^[a-z.]+/.*x(.*)$', to: r.io/$1}]",
        "rules: [{regex: '^quay\\.io/(.*)$', to: r.io/$1}]",
        "approved: [r.io/**]\nmatch: {objectSelector: {matchLabels: {a: x}, matchExpressions: [{key: a, operator: In, values: [x, y]}, {key: a, operator: NotIn, values: [y]}]}}",
    ] {
        let found = lint("p.yaml", &text(spec));
        let ours = ["merged-registries", "shallow-pattern"];
        assert!(
            found.iter().all(|it| ours.contains(&it.code)),
            "{spec}\n{found}"
        );
    }
}

#[test]
fn a_policy_that_is_never_chosen_is_found_across_files() {
    let policy = |name: &str, spec: &str| text(spec).replace("corp", name);
    let never = |first: &str, second: &str| {
        let (first, second) = (policy("a", first), policy("b", second));
        let linted = lint_all([("a.yaml", &*first), ("b.yaml", &*second)], TODAY);
        assert_eq!(linted.policies, 2);
        let found = linted.found.iter().find(|it| it.code == "never-chosen");
        found.map(|it| it.source.clone())
    };
    let own = "match: {namespaceSelector: {matchLabels: {team: x}}}\napproved: [r.io/**]";
    let all = "approved: [r.io/**]";
    assert_eq!(never(all, own).as_deref(), Some("b.yaml"));
    assert_eq!(never(own, all), None);
    assert_eq!(never(own, own).as_deref(), Some("b.yaml"));
    assert_eq!(never(all, &format!("priority: 1\n{own}")), None);
    assert_eq!(
        never(&format!("priority: -1\n{all}"), all).as_deref(),
        Some("a.yaml")
    );
    // Containers without a Pod are left to the second.
    assert_eq!(
        never("match: {nodeLevel: false}\napproved: [r.io/**]", all),
        None
    );
}

#[test]
fn files_that_repeat_a_name_are_not_one_set() {
    let (first, second) = (text("approved: [r.io/**]"), text("approved: [s.io/**]"));
    let linted = lint_all([("a.yaml", &*first), ("b.yaml", &*second)], TODAY);
    assert!(linted.found.is_empty(), "{}", linted.found);
}

#[test]
fn an_exception_holds_through_its_day() {
    let text = text(
        "approved: [r.io/**]\nexceptions: [{pattern: 'a.io/**', until: 2027-01-31, reason: x}]",
    );
    let ended = |day| {
        let day = Date::from_ordinal_date(2027, day).unwrap();
        let linted = lint_all([("p.yaml", &*text)], day);
        linted.found.iter().any(|it| it.code == "ended-exception")
    };
    assert!(!ended(31) && ended(32));
}
