//! What only the linter tells.

use super::{first, text};
use crate::Severity;
use crate::document::lint;

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
