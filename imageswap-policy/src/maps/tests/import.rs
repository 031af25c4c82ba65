//! Imported policies decide like their maps files, except for reported differences.

use super::*;
use crate::document;
use crate::testing::{host, path, reference};
use crate::{Diagnostic, Policies, Selected};
use proptest::prelude::*;
use std::collections::BTreeSet;
use time::Date;

const LARGE: &str = "default::registry.example.com
docker.io::registry.example.com/hub
docker.io/library::registry.example.com/library
quay.io::registry.example.com/quay
gcr.io::mirror.example.com:5000/mirror-
registry.k8s.io::
old.example.org:5000::registry.example.com/old
[EXACT]quay.io/team/tool:1.2::registry.example.com/tools/tool:1.2
[EXACT]quay.io/team/own:1::
[REPLACE]ghcr.io/acme/*::registry.example.com/acme
noswap_wildcards::registry.example.com,mirror.example.com:5000,quay.io/kept,team
";

/// The policy as services load it, and the lines in its report.
fn imported(text: &str) -> (Policies, BTreeSet<usize>, Imported) {
    let imported =
        import("maps.conf", text, "from-maps").unwrap_or_else(|it| panic!("{text}\n{it}"));
    let json = serde_json::to_string(&imported.policy).unwrap();
    let loaded = document::load("from-maps", &json).unwrap_or_else(|it| panic!("{text}\n{it}"));
    let lines = imported.differences.iter().map(|it| it.line).collect();
    (Policies::new(loaded.policies), lines, imported)
}

fn at_node(policies: &Policies) -> Selected<'_> {
    policies.select(Scope::Node, Date::MIN)
}

#[test]
fn the_three_kinds_of_files() {
    for (text, image, result, approved) in [
        (SEED, "nginx:1", "registry.example.com/nginx:1", true),
        (SEED, "quay.io/a/b", "registry.example.com/a/b", true),
        (
            SEED,
            "gitlab.com/a/b",
            "registry.example.com/gitlab/a/b",
            true,
        ),
        (
            SEED,
            "gitlab.com:443/a/b",
            "registry.example.com/gitlab/a/b",
            true,
        ),
        (SEED, "example.com:5000/a", "example.com:5000/a", true),
        (
            SEED,
            "registry.example.com/a/b",
            "registry.example.com/a/b",
            true,
        ),
        ("default::\nquay.io::m.io/q\n", "gcr.io/a", "gcr.io/a", true),
        (
            "default::\nquay.io::m.io/q\n",
            "quay.io/a",
            "m.io/q/a",
            true,
        ),
        (
            "default::d.io/m-\n",
            "quay.io:443/a/b:1",
            "d.io/m-quay.io/quay.io/a/b:1",
            true,
        ),
        (
            "default::d.io/m-\n",
            "nginx",
            "d.io/m-docker.io/nginx",
            true,
        ),
        (
            "default::d.io\nquay.io::m.io/q\n",
            "quay.io/a",
            "m.io/q/a",
            true,
        ),
        ("", "quay.io/a", "quay.io/a", true),
        (LARGE, "nginx", "registry.example.com/library/nginx", true),
        (
            LARGE,
            "bitnami/nginx:1",
            "registry.example.com/hub/bitnami/nginx:1",
            true,
        ),
        (
            LARGE,
            "quay.io/team/app",
            "registry.example.com/quay/team/app",
            true,
        ),
        (
            LARGE,
            "quay.io/team/tool:1.2",
            "registry.example.com/tools/tool:1.2",
            true,
        ),
        (
            LARGE,
            "quay.io/team/tool:1.3",
            "registry.example.com/quay/team/tool:1.3",
            true,
        ),
        (LARGE, "quay.io/team/own:1", "quay.io/team/own:1", true),
        (
            LARGE,
            "gcr.io/p/app",
            "mirror.example.com:5000/mirror-gcr.io/p/app",
            true,
        ),
        (
            LARGE,
            "registry.k8s.io/pause:3.9",
            "registry.k8s.io/pause:3.9",
            true,
        ),
        (
            LARGE,
            "old.example.org:5000/a",
            "registry.example.com/old/a",
            true,
        ),
        (
            LARGE,
            "ghcr.io/acme/x/y/z:1",
            "registry.example.com/acme/z:1",
            true,
        ),
        (LARGE, "example.net/a:1", "registry.example.com/a:1", true),
        (LARGE, "Nginx", "Nginx", false),
    ] {
        let (policies, ..) = imported(text);
        let decision = at_node(&policies).decide(image);
        let got = (decision.result.as_ref(), decision.approved);
        assert_eq!(
            got,
            (result, approved),
            "{image} under\n{text}\n{decision:?}"
        );
        let maps = Policies::one(load("maps", text).unwrap().policy);
        assert_eq!(
            at_node(&maps).decide(image).result,
            result,
            "{image} under\n{text}"
        );
    }
}

#[test]
fn rules_are_named_by_line_and_the_policy_is_for_the_same_pods() {
    let (_, lines, found) = imported(SEED);
    let rules: Vec<_> = found
        .policy
        .spec
        .rules
        .iter()
        .map(|it| it.name.clone().unwrap())
        .collect();
    assert_eq!(
        rules,
        [
            "maps:3 gitlab.com",
            "maps:3 gitlab.com (2)",
            "maps:4 noswap_wildcards example.com",
            "maps:4 noswap_wildcards example.com (2)",
            "maps:1 default",
            "maps:1 default (2)",
        ]
    );
    assert_eq!(found.lines, [3, 3, 4, 4, 1, 1]);
    assert_eq!(lines, BTreeSet::from([1, 4]));
    let spec = &found.policy.spec;
    assert_eq!(spec.enforcement, document::Enforcement::Warn);
    assert!(spec.r#match.allow_opt_out && spec.r#match.node_level);
    assert_eq!(spec.r#match.namespaces.as_deref().unwrap(), ["*"]);
    let selector = spec.r#match.namespace_selector.as_ref().unwrap();
    assert_eq!(selector.match_labels[LABEL], "enabled");
}

#[test]
fn what_cannot_be_said_is_reported_with_its_place() {
    for (text, place, code) in [
        (
            "default::d.io\nnoswap_wildcards::a.io,tag\n",
            (2, 19, 4),
            "substring-item",
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io,docker.io\n",
            (2, 24, 9),
            "not-imported",
        ),
        ("default::\nquay.io::m.io\n", (2, 10, 4), "old-port"),
        ("default::\n[REPLACE]a*::\n", (2, 14, 0), "not-imported"),
        ("default::jms-\n", (1, 10, 4), "not-imported"),
        ("quay.io::m.io\n", (1, 1, 7), "approved-here"),
        (
            "default::\n[EXACT]nginx::m.io/n\n",
            (2, 1, 12),
            "exact-spelling",
        ),
        ("default::d.io\n", (1, 1, 7), "library-spelling"),
    ] {
        let found = import("maps.conf", text, "a").unwrap().differences;
        let first = found.iter().find(|it| it.code == code);
        let first = first.unwrap_or_else(|| panic!("{code}\n{text}\n{found}"));
        assert_eq!((first.line, first.column, first.length), place, "{found}");
    }
    assert!(import("maps.conf", "default:a:1:2\n", "a").is_err());
}

/// The path of a target is a repository outside of it, for the file and for the policy.
#[test]
fn image_called_as_a_target_is_moved_alike() {
    let text = "default::localhost\ndocker.io::gcr.io/mirror\n";
    let (policies, _, found) = imported(text);
    let maps = Policies::one(load("maps", text).unwrap().policy);
    for policies in [&maps, &policies] {
        let decision = at_node(policies).decide("gcr.io/mirror");
        assert_eq!(decision.result, "localhost/mirror", "{found:?}");
    }
}

/// The target of any value stays in the policy, too, even if its line is never used.
#[test]
fn images_under_any_target_stay_in_the_policy() {
    for (text, image) in [
        (
            "docker.io::registry-1.docker.io:443\n[REPLACE]*::docker.io\n",
            "registry-1.docker.io:443/library",
        ),
        (
            "docker.io::REG\n[REPLACE]*/nginx*::docker.io\n",
            "REG/nginx",
        ),
        ("default::d.io\na.io::b.io\nb.io::a.io\n", "b.io/x"),
        ("default::d.io\na.io::b.io\nb.io::a.io\n", "a.io:443/x"),
        ("default::d.io\na.io/org::b.io/org\n", "b.io/org/x"),
        ("default::d.io/a\n[EXACT]nginx::b.io/n:1\n", "b.io/n:1"),
        ("default::d.io/a\n[REPLACE]n*::b.io/m\n", "b.io/m/x"),
        ("default::d.io\na.io::b.io/m-\n", "b.io/m-a.io/x"),
    ] {
        let (policies, ..) = imported(text);
        let decision = at_node(&policies).decide(image);
        assert_eq!(
            (decision.result.as_ref(), decision.approved),
            (image, true),
            "{image} under\n{text}"
        );
    }
}

/// A line that the file never uses has no rule, and is reported once.
#[test]
fn line_that_is_never_used_is_left_out() {
    for (text, line, image) in [
        ("default::\nr.io/org/a::m.io/a\n", 2, "r.io/org/a/x:1"),
        ("default::m.io\n*.r.io::m.io/r\n", 2, "eu.r.io/a"),
        (
            "default::m.io/m\nr.io::m.io/r\nr.io/org/app::\nnoswap_wildcards::m.io\n",
            3,
            "r.io/org/app:1",
        ),
        ("default: m.io\n\"r.io\":: m.io/r\n", 2, "r.io/a"),
        ("default::m.io\nr.io/library::m.io/r\n", 2, "r.io/library/a"),
        ("default::\nlocalhost::m.io\n", 2, "localhost/a"),
        ("default::\nreg::m.io\n", 2, "reg/a"),
    ] {
        let (policies, _, found) = imported(text);
        let named = found.differences.iter();
        let named: Vec<_> = named.filter(|it| it.code == "not-imported").collect();
        assert_eq!(named.len(), 1, "{text}\n{}", found.differences);
        assert_eq!(named[0].line, line, "{text}");
        assert!(
            !found.lines.contains(&line),
            "{:?}",
            found.policy.spec.rules
        );
        let maps = Policies::one(load("maps", text).unwrap().policy);
        assert_eq!(
            at_node(&policies).decide(image).result,
            at_node(&maps).decide(image).result,
            "{image} under\n{text}"
        );
    }
}

/// Lines of random maps files.
fn line() -> BoxedStrategy<String> {
    let target = || {
        prop_oneof![
            2 => host(),
            3 => (host(), path()).prop_map(|(host, path)| format!("{host}/{path}")),
            1 => (host(), path()).prop_map(|(host, path)| format!("{host}/{path}-")),
            1 => Just(String::new()),
        ]
        .boxed()
    };
    let globs = [
        "*",
        "*/nginx*",
        "quay.io/*",
        "?ginx",
        "nginx*",
        "*:[a-z]*",
        "[!q]*",
        "m.example.com/*",
    ];
    let item = prop_oneof![
        host(),
        (host(), path()).prop_map(|(host, path)| format!("{host}/{path}")),
        path()
    ];
    prop_oneof![
        6 => (host(), target()).prop_map(|(key, value)| format!("{key}::{value}")),
        1 => target().prop_map(|value| format!("docker.io/library::{value}")),
        1 => (reference(), prop_oneof![3 => reference(), 1 => Just(String::new())])
            .prop_map(|(key, value)| format!("[EXACT]{key}::{value}")),
        1 => (prop::sample::select(globs.to_vec()), target()).prop_map(|(key, value)| format!("[REPLACE]{key}::{value}")),
        1 => prop::collection::vec(item, 1..3).prop_map(|it| format!("noswap_wildcards::{}", it.join(","))),
        2 => target().prop_map(|value| format!("default::{value}")),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// The result is the same image, or the report names a line that was involved in the file's or
    /// the policy's answer.
    #[test]
    fn results_are_the_files_or_reported(lines in prop::collection::vec(line(), 0..6), image in reference()) {
        let text = format!("{}\n", lines.join("\n"));
        let Ok(loaded) = load("maps", &text) else { return Ok(()) };
        let Ok(found) = import("maps", &text, "a") else { return Ok(()) };
        let json = serde_json::to_string(&found.policy).unwrap();
        let policies = Policies::new(document::load("a", &json).unwrap().policies);
        let maps = Policies::one(loaded.policy);
        let (old, new) = (at_node(&maps).decide(&image), at_node(&policies).decide(&image));
        let canonical = |text: &str| Reference::parse(text).map(|it| it.canonical());
        if canonical(&old.result) == canonical(&new.result) {
            return Ok(());
        }
        let line = |rule: &str| rule.strip_prefix("maps:").and_then(|it| it.split(' ').next()?.parse().ok());
        let steps = at_node(&maps).steps(&image);
        let said: BTreeSet<usize> = steps.iter().map(|it| it.0).chain(old.rule).chain(new.rule).filter_map(line).collect();
        let reference = Reference::parse(&image).unwrap();
        // A reported difference has to apply to this image; some are reported at the first line
        // only.
        let written = reference.written_registry().unwrap_or("docker.io");
        let host = written.split(':').next().unwrap();
        let of_many = ["library-spelling", "repeated-name", "dotless-registry"];
        let explains = |it: &Diagnostic| match it.code {
            "library-spelling" => reference.registry() == "docker.io",
            "repeated-name" => image.matches(host).count() > 1,
            "dotless-registry" => !host.contains('.'),
            "mirror-port" | "old-port" => image.contains(":443/") || image.contains(":5000/"),
            _ => true,
        };
        let reported = found.differences.iter().any(|it| {
            (of_many.contains(&it.code) || said.contains(&it.line)) && explains(it)
        });
        prop_assert!(
            reported,
            "{image} under\n{text}\nmaps {old:?}\npolicy {new:?}\n{}\n{:#?}", found.differences, found.policy.spec.rules
        );
    }
}
