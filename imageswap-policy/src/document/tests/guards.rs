//! Namespaces, containers and denied images.

use super::lint::lint;
use super::{KIND, first, policies, text};
use crate::document::{API_VERSION, ImageSwapPolicy, load};
use crate::testing::TODAY;
use crate::{Date, Decision, PodScope, Policies, Policy, Reason, Scope, Severity};
use std::collections::BTreeMap;

fn pod(namespace: &str) -> Scope<'_> {
    Scope::Pod(PodScope {
        namespace: Some(namespace),
        ..PodScope::default()
    })
}

/// `namespace/container`; `?` means unknown.
fn decide<'a>(policies: &'a Policies, place: &'a str, image: &'a str) -> Decision<'a> {
    let (namespace, container) = place.split_once('/').unwrap();
    let known = |it| Some(it).filter(|it| *it != "?");
    let scope = Scope::Pod(PodScope {
        namespace: known(namespace),
        ..PodScope::default()
    });
    let selected = policies.select(scope, TODAY);
    match known(container) {
        Some(name) => selected.in_container(Some(name)).decide(image),
        None => selected.decide(image),
    }
}

const GUARDED: &str = r#"
rules:
- {name: shop, from: "docker.io/**", to: r.io/shop, namespaces: [shop, "team-*"]}
- {name: init, regex: '^docker\.io/(.*)$', to: "r.io/init/$1", containers: ["init-*"]}
- {name: tools, keep: "t.io/**", namespaces: [ci], containers: [build]}
- {name: rest, from: "docker.io/**", to: r.io/hub}
"#;

#[test]
fn a_rule_holds_where_its_guard_does() {
    let policies = policies(GUARDED);
    for (place, image, result, rule, approved) in [
        ("shop/app", "a/b", "r.io/shop/a/b", Some("shop"), true),
        ("team-a/app", "a/b", "r.io/shop/a/b", Some("shop"), true),
        ("other/app", "a/b", "r.io/hub/a/b", Some("rest"), true),
        ("my-shop/app", "a/b", "r.io/hub/a/b", Some("rest"), true),
        (
            "other/init-db",
            "a/b",
            "r.io/init/docker.io/a/b",
            Some("init"),
            true,
        ),
        ("shop/init-db", "a/b", "r.io/shop/a/b", Some("shop"), true),
        ("ci/build", "t.io/a", "t.io/a", Some("tools"), true),
        ("ci/other", "t.io/a", "t.io/a", None, false),
        ("shop/build", "t.io/a", "t.io/a", None, false),
        // A rule that does not hold approves nothing either.
        ("shop/app", "r.io/shop/a", "r.io/shop/a", Some("shop"), true),
        ("other/app", "r.io/shop/a", "r.io/shop/a", None, false),
        ("other/app", "r.io/hub/a", "r.io/hub/a", Some("rest"), true),
    ] {
        let image = &image.replace("init/docker.io", "init");
        let decision = decide(&policies, place, image);
        let result = result.replace("init/docker.io/", "init/");
        assert_eq!(
            (&*decision.result, decision.rule, decision.approved),
            (result.as_str(), rule, approved),
            "{place} {image}: {decision:?}"
        );
    }
}

#[test]
fn a_guard_that_is_not_known_is_not_guessed() {
    let policies = policies(&format!(
        "{GUARDED}denied: [{{pattern: 'r.io/hub/bad', namespaces: [prod]}}]\n\
         exceptions: [{{pattern: 'x.io/**', containers: [debug], until: 2027-01-31, reason: x}}]"
    ));
    for (place, image, known) in [
        ("shop/?", "a/b", true),
        ("other/?", "a/b", false),
        ("?/app", "a/b", false),
        ("other/?", "t.io/a", true),
        ("ci/?", "t.io/a", false),
        ("other/?", "quay.io/a", true),
        ("?/?", "quay.io/a", true),
        ("?/app", "r.io/hub/bad", false),
        ("dev/app", "r.io/hub/bad", true),
        ("dev/?", "x.io/a", false),
        ("dev/debug", "x.io/a", true),
    ] {
        let decision = decide(&policies, place, image);
        assert_eq!(
            decision.reason != Reason::ScopeUnknown,
            known,
            "{place} {image}: {decision:?}"
        );
        assert!(known || !decision.approved && !decision.swapped() && decision.is_drift());
    }
    let selected = policies.select(pod("other"), TODAY);
    assert_eq!(selected.missing().to_string(), "the name of the container");
    // A volume is not a container, and a container of the node has neither name.
    let volume = policies.select(pod("ci"), TODAY).in_container(None);
    assert_eq!(volume.decide("t.io/a").reason, Reason::NoRule);
    let node = policies.select(Scope::Node, TODAY);
    assert_eq!(node.decide("a/b").rule, Some("rest"));
}

#[test]
fn denied_beats_approval_and_an_exception_beats_it() {
    let policies = policies(
        r#"
rules:
- {name: keep, keep: "k.io/**"}
- {name: hub, from: "docker.io/**", to: r.io/hub}
approved: ["r.io/**", "k.io/**", {pattern: "ci.io/**", namespaces: [ci]}]
denied:
- {pattern: "**:latest", message: "pin a version"}
- r.io/hub/old/**
- {pattern: "k.io/**", namespaces: ["prod-*"], message: "not in production"}
exceptions: [{pattern: "r.io/hub/old/tool:*", until: 2027-01-31, reason: x}]"#,
    );
    for (place, image, approved, reason, denied) in [
        ("dev/app", "a/b:1", true, Reason::Swapped, None),
        ("dev/app", "a/b", false, Reason::Swapped, Some("denied[0]")),
        (
            "dev/app",
            "a/b:latest",
            false,
            Reason::Swapped,
            Some("denied[0]"),
        ),
        (
            "dev/app",
            "k.io/a",
            false,
            Reason::Denied,
            Some("denied[0]"),
        ),
        ("dev/app", "k.io/a:1", true, Reason::Kept, None),
        (
            "prod-1/app",
            "k.io/a:1",
            false,
            Reason::Denied,
            Some("denied[2]"),
        ),
        (
            "dev/app",
            "old/x:1",
            false,
            Reason::Swapped,
            Some("denied[1]"),
        ),
        (
            "dev/app",
            "r.io/hub/old/x:1",
            false,
            Reason::Denied,
            Some("denied[1]"),
        ),
        (
            "dev/app",
            "r.io/hub/old/tool:1",
            true,
            Reason::Excepted,
            None,
        ),
        ("dev/app", "old/tool:1", true, Reason::Swapped, None),
        ("ci/app", "ci.io/a:1", true, Reason::NoRule, None),
        ("dev/app", "ci.io/a:1", false, Reason::NoRule, None),
    ] {
        let decision = decide(&policies, place, image);
        assert_eq!(
            (
                decision.approved,
                decision.reason,
                decision.denied.map(|it| it.rule)
            ),
            (approved, reason, denied),
            "{place} {image}: {decision:?}"
        );
        let rule = decision.rule.unwrap_or_default();
        assert_eq!(
            decision.reason == Reason::Denied,
            rule.starts_with("denied[")
        );
    }
    let decision = decide(&policies, "dev/app", "k.io/a");
    assert_eq!(decision.denied.unwrap().message, Some("pin a version"));
    assert_eq!(
        decision.explain(),
        "it stays and is denied by `denied[0]` (**:latest)"
    );
    // An exception that has ended has no effect.
    let later = Date::from_calendar_date(2027, time::Month::February, 1).unwrap();
    let later = policies.select(pod("dev"), later);
    assert!(!later.decide("r.io/hub/old/tool:1").approved);
}

#[test]
fn denied_alone_has_everything_else_approved() {
    let policies = policies("rules: [{keep: '**'}]\ndenied: ['old.example.com/**']");
    assert!(decide(&policies, "a/b", "nginx").approved);
    assert!(!decide(&policies, "a/b", "old.example.com/x").approved);
}

#[test]
fn guards_and_denials_decide_the_revision() {
    let revision = |spec: &str| policies(spec).set_revision().to_owned();
    let all = [
        "approved: [r.io/**]",
        "approved: [{pattern: r.io/**, namespaces: [a]}]",
        "approved: [{pattern: r.io/**, containers: [a]}]",
        "approved: [{pattern: r.io/**, namespaces: [a, b]}]",
        "approved: [r.io/**]\ndenied: [r.io/a]",
        "approved: [r.io/**]\ndenied: [{pattern: r.io/a, namespaces: [a]}]",
        "approved: [r.io/**]\nmatch: {namespaces: [a]}",
        "approved: [r.io/**]\nmatch: {excludeNamespaces: [a]}",
        "approved: [r.io/**]\nmatch: {namespaceSelector: {}}",
    ];
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for spec in all {
        let earlier = seen.insert(revision(spec), spec);
        let same = spec.contains("namespaceSelector: {}");
        assert!(earlier.is_none() || same, "{spec} and {earlier:?}");
    }
    assert_eq!(
        revision("approved: [{pattern: r.io/**}]"),
        revision("approved: [r.io/**]")
    );
}

#[test]
fn a_text_and_a_mapping_are_written_as_they_are_read() {
    let text = text(
        "rules: [{keep: '**', namespaces: [a]}]\n\
         approved: [r.io/**, {pattern: s.io/**, namespaces: [a]}]\n\
         denied: ['**:latest', {pattern: t.io/**, message: no, containers: ['init-*']}]",
    );
    let value = crate::yaml::parse("p", &text).unwrap()[0].to_json();
    let document: ImageSwapPolicy = serde_json::from_value(value.clone()).unwrap();
    let mut again = serde_json::to_value(&document).unwrap();
    again["spec"].as_object_mut().unwrap().remove("enforcement");
    assert_eq!(again, value);
}

#[test]
fn mistakes_in_names_are_told_with_their_place() {
    for (spec, part, code, help) in [
        (
            "approved: [{patern: r.io/**}]",
            "patern",
            "unknown-field",
            Some("write `pattern`"),
        ),
        (
            "denied: [{pattern: r.io/**, mesage: x}]",
            "mesage",
            "unknown-field",
            Some("write `message`"),
        ),
        (
            "denied: ['https://r.io/**']",
            "https://",
            "scheme",
            Some("write `r.io/**`"),
        ),
        (
            "denied: [{pattern: 'https://r.io/**'}]",
            "https://",
            "scheme",
            Some("write `r.io/**`"),
        ),
        (
            "approved: ['!old.example.com/**']",
            "!",
            "pattern-syntax",
            Some("list `old.example.com/**` under `denied` to refuse its images"),
        ),
        (
            "denied: [[r.io/**]]",
            "[r.io/**]",
            "field",
            Some("write `\"r.io/**\"`"),
        ),
        (
            "rules: [{keep: '**', namespaces: []}]",
            "[]",
            "field",
            Some("leave `namespaces` out to mean all of them, or name them"),
        ),
        (
            "match: {namespaces: [Shop]}",
            "Shop",
            "name",
            Some("write `shop`"),
        ),
        (
            "match: {namespaces: ['!kube-system']}",
            "!kube-system",
            "name",
            Some(
                "there is no negation here; `match.excludeNamespaces: [kube-system]` leaves it out",
            ),
        ),
        (
            "rules: [{keep: '**', containers: ['a?']}]",
            "a?",
            "name",
            Some("only `*` is a wildcard: write one name for each case"),
        ),
        ("match: {excludeNamespaces: [a_b]}", "a_b", "name", None),
        (
            "rules: [{from: docker.io/**, to: r.io/hub}]\ndenied: [r.io/**]",
            "r.io/hub",
            "denied-target",
            Some("move them elsewhere, or deny less"),
        ),
        (
            "match: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}\napproved: [r.io/**]",
            "matchLabels",
            "excluded-namespace",
            Some("write `namespaces: [kube-system]` instead"),
        ),
    ] {
        let text = text(spec);
        let found = load("p.yaml", &text).map_or_else(|it| it, |it| it.warnings);
        assert_eq!(
            first(&text, &found),
            (part.to_owned(), code, help.map(str::to_owned)),
            "{found}"
        );
    }
}

#[test]
fn a_rule_with_a_guard_conflicts_only_where_both_hold() {
    let loads = |spec: &str| load("p.yaml", &text(spec)).is_ok();
    let rules = |first: &str, second: &str| {
        loads(&format!(
            "rules: [{{from: a.io/**, to: b.io{first}}}, {{from: b.io/**, to: c.io{second}}}]"
        ))
    };
    assert!(!rules("", ""));
    assert!(!rules("", ", namespaces: [x]"));
    assert!(rules(", namespaces: [x]", ""));
    assert!(rules(", namespaces: [x]", ", namespaces: [y]"));
    assert!(!rules(", namespaces: ['x*']", ", namespaces: [xy]"));
    let denied = |rule: &str, denied: &str| {
        loads(&format!(
            "rules: [{{from: a.io/**, to: b.io{rule}}}]\ndenied: [{{pattern: b.io/**{denied}}}]"
        ))
    };
    assert!(!denied("", "") && !denied(", containers: [x]", ""));
    assert!(denied("", ", namespaces: [x]"));
    assert!(!denied(", namespaces: [x]", ", namespaces: [x]"));
    let excepted = "rules: [{from: a.io/**, to: b.io}]\ndenied: [b.io/**]\n\
                    exceptions: [{pattern: b.io/x, until: 2027-01-31, reason: x}]";
    assert!(loads(excepted));
}

#[test]
fn the_linter_takes_guards_into_account() {
    for (spec, code) in [
        (
            "rules: [{keep: a.io/**}, {keep: a.io/x/**, namespaces: [y]}]",
            Some("shadowed-rule"),
        ),
        (
            "rules: [{keep: a.io/**, namespaces: [y]}, {keep: a.io/x/**}]",
            None,
        ),
        (
            "rules: [{from: a.io/**, to: b.io}]\napproved: [{pattern: b.io/**, namespaces: [y]}]",
            Some("target-not-approved"),
        ),
        (
            "rules: [{from: a.io/**, to: b.io, namespaces: [y]}]\napproved: [{pattern: b.io/**, namespaces: ['*']}]",
            None,
        ),
        (
            "rules: [{keep: a.io/**}]\ndenied: ['a.io/**']",
            Some("always-denied"),
        ),
        (
            "approved: ['a.io/x/**', b.io/**]\ndenied: ['a.io/**']",
            Some("always-denied"),
        ),
        ("approved: ['a.io/**']\ndenied: ['a.io/x/**']", None),
        (
            "approved: ['a.io/**']\ndenied: [{pattern: 'a.io/**', namespaces: [x]}]",
            None,
        ),
    ] {
        let found = lint("p.yaml", &text(spec));
        assert!(
            found.iter().all(|it| it.severity == Severity::Warning),
            "{found}"
        );
        let codes = ["shadowed-rule", "target-not-approved", "always-denied"];
        let mut told = found.iter().map(|it| it.code);
        let told = told.find(|it| codes.contains(it));
        assert_eq!(told, code, "{spec}: {found}");
    }
}

fn several(specs: &[(&str, &str)]) -> Policies {
    let document = |(name, spec): &(&str, &str)| {
        format!(
            "---\napiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let text: String = specs.iter().map(document).collect();
    Policies::new(
        load("p.yaml", &text)
            .unwrap_or_else(|it| panic!("{it}"))
            .policies,
    )
}

/// `corp` moves and denies; `exempt` keeps everything in namespaces with a label.
fn corp_and_exempt() -> Policies {
    several(&[
        (
            "corp",
            "{rules: [{name: hub, from: docker.io/**, to: r.io/hub}]}",
        ),
        (
            "exempt",
            "{priority: 10, enforcement: warn, match: {namespaceSelector: {matchLabels: {exempt: 'yes'}}}, rules: [{name: all, keep: '**'}]}",
        ),
    ])
}

#[test]
fn unknown_labels_do_not_choose_the_convenient_policy() {
    let policies = corp_and_exempt();
    assert_eq!(
        policies.need_namespace_labels().collect::<Vec<_>>(),
        ["exempt"]
    );
    let unknown = policies.select(pod("shop"), TODAY);
    assert!(!unknown.is_certain() && unknown.policy().is_none());
    let names: Vec<_> = unknown.candidates().map(Policy::name).collect();
    assert_eq!(names, ["exempt", "corp"]);
    assert_eq!(unknown.missing().to_string(), "the labels of the namespace");
    assert_eq!(unknown.enforcement(), crate::document::Enforcement::Deny);
    for image in ["evil.example.net/x", "nginx"] {
        let decision = unknown.decide(image);
        assert_eq!(
            (decision.reason, decision.approved),
            (Reason::ScopeUnknown, false)
        );
        assert_eq!(decision.result, image);
    }
    // They agree about images that both would leave and let in.
    let decision = unknown.decide("r.io/hub/library/nginx");
    assert!(decision.approved && !decision.swapped(), "{decision:?}");
    for (label, policy, approved) in [("yes", "exempt", true), ("no", "corp", false)] {
        let labels = BTreeMap::from([("exempt".to_owned(), label.to_owned())]);
        let scope = Scope::Pod(PodScope {
            namespace: Some("shop"),
            namespace_labels: Some(&labels),
            labels: None,
        });
        let selected = policies.select(scope, TODAY);
        assert_eq!(selected.policy().map(Policy::name), Some(policy));
        assert_eq!(selected.decide("evil.example.net/x").approved, approved);
    }
    // For a Pod of an excluded namespace, and for the node, the choice of policy does not matter.
    assert!(policies.select(pod("kube-system"), TODAY).is_certain());
    assert_eq!(
        policies.select(Scope::Node, TODAY).policy().unwrap().name(),
        "exempt"
    );
}

#[test]
fn a_policy_that_may_not_apply_does_not_approve() {
    let policies = several(&[(
        "team",
        "{match: {namespaceSelector: {matchLabels: {team: a}}}, rules: [{from: docker.io/**, to: r.io}]}",
    )]);
    let unknown = policies.select(pod("shop"), TODAY);
    for (image, reason) in [
        ("nginx", Reason::ScopeUnknown),
        ("evil.io/x", Reason::ScopeUnknown),
        // It runs unchanged, whether the policy applies or not.
        ("r.io/library/nginx", Reason::AlreadyTarget),
    ] {
        assert_eq!(unknown.decide(image).reason, reason, "{image}");
    }
}

#[test]
fn the_first_certain_policy_ends_the_question() {
    let policies = several(&[
        (
            "a",
            "{priority: 3, match: {namespaces: [shop]}, approved: [a.io/**]}",
        ),
        (
            "b",
            "{priority: 2, match: {namespaceSelector: {matchLabels: {b: x}}}, approved: [b.io/**]}",
        ),
        ("c", "{priority: 1, approved: [c.io/**]}"),
        (
            "d",
            "{match: {namespaceSelector: {matchLabels: {d: x}}}, approved: [d.io/**]}",
        ),
    ]);
    let names = |namespace| {
        let selected = policies.select(pod(namespace), TODAY);
        let names: Vec<_> = selected.candidates().map(Policy::name).collect();
        names.join(" ")
    };
    assert_eq!(names("shop"), "a");
    assert_eq!(names("other"), "b c");
    let nothing = policies.select(Scope::Pod(PodScope::default()), TODAY);
    assert_eq!(nothing.candidates().count(), 3);
    assert_eq!(
        nothing.missing().to_string(),
        "the name of the namespace and the labels of the namespace"
    );
}
