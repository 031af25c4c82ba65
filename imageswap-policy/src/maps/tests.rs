use super::*;
use crate::testing::TODAY;
use crate::{PodScope, Reason, Reference, Scope};
use serde_json::Value;
use std::collections::BTreeMap;

mod documented;
mod import;
mod lint;
mod mending;
mod messages;
mod properties;

const SEED: &str = "default:registry.example.com\n#gcr.io: # This is a comment\n\
                    gitlab.com:registry.example.com/gitlab\nnoswap_wildcards:example.com\n";

fn tolerant() -> Options {
    Options {
        tolerate_unusable_lines: true,
        ..Options::default()
    }
}

/// Loads a row's policy in ImageSwap's mode.
fn load_row(row: &Value) -> Policy {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let loaded = if text("mode").eq_ignore_ascii_case("maps") {
        load_with("row", text("maps"), &tolerant())
    } else {
        load_prefix_with("row", text("image_prefix"), &tolerant())
    };
    loaded.unwrap_or_else(|it| panic!("{row}\n{it}")).policy
}

#[test]
fn answers_are_imageswaps_where_those_are_sound() {
    let Some(rows) = crate::testing::rows("imageswap_maps.jsonl") else {
        return;
    };
    assert!(rows.len() > 500);
    let mut wrong = Vec::new();
    for row in &rows {
        let policy = load_row(row);
        let decision = policy
            .select(Scope::Node, TODAY)
            .decide(row["image"].as_str().unwrap());
        if decision.result != row["expected"].as_str().unwrap() {
            wrong.push(format!("{row}\n  got {}", decision.result));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn answers_are_sound_where_imageswaps_are_not() {
    let Some(rows) = crate::testing::rows("imageswap_maps_invariants.jsonl") else {
        return;
    };
    assert!(rows.len() > 100);
    for row in &rows {
        let policy = load_row(row);
        let image = row["image"].as_str().unwrap();
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        assert_eq!(
            policy
                .select(Scope::Node, TODAY)
                .decide(&decision.result)
                .result,
            decision.result,
            "{row}"
        );
        if Reference::parse(image).is_ok() {
            assert!(
                Reference::parse(&decision.result).is_ok(),
                "{row}\n  got {}",
                decision.result
            );
        } else {
            assert_eq!(
                (decision.result.as_ref(), decision.approved),
                (image, false),
                "{row}"
            );
        }
    }
}

/// The first pass alone, mistakes and failures included.
#[test]
fn first_pass_is_the_measured_one() {
    let mut seen = 0;
    for file in ["imageswap_maps.jsonl", "imageswap_maps_invariants.jsonl"] {
        for row in crate::testing::rows(file).unwrap_or_default() {
            let text = |key: &str| row[key].as_str().map(str::to_owned);
            let note = text("note").unwrap_or_default();
            if text("mode").as_deref() != Some("maps") {
                continue;
            }
            let mut measured = text("expected").or(text("peer_result"));
            // An image that stays here is moved by ImageSwap, as the note says.
            if let Some((_, moved)) = note.split_once("it rests there (ImageSwap moves it to ") {
                measured = moved.split(')').next().map(str::to_owned);
            }
            let maps = text("maps").unwrap();
            let first = imageswap(&maps, &text("image").unwrap());
            // A template that fails never gives a reference either.
            if !note.contains("invalid group reference") {
                assert_eq!(first, measured, "{row}");
            }
            seen += 1;
            if let Some((_, again)) = note.split_once("a second pass gives ") {
                let again = again.split("; ").next().unwrap();
                assert_eq!(
                    imageswap(&maps, &first.unwrap()).as_deref(),
                    Some(again),
                    "{row}"
                );
            }
        }
    }
    assert!(seen == 0 || seen > 500, "{seen} rows");
}

/// ImageSwap's answer for an image.
fn imageswap(maps: &str, image: &str) -> Option<String> {
    let entries: Vec<_> = lines::lines(maps)
        .filter_map(|it| it.entry().ok())
        .collect();
    let effective = compile::Effective::of(&entries);
    compile::maps(&effective, &Options::default())
        .1
        .imageswap(image)
}

#[test]
fn approval_and_reason() {
    use Reason::{AlreadyTarget, InvalidResult, Kept, NoRule, Swapped, Unparsable};
    let two = "default::d.io\nquay.io::m.io/q\n";
    for (maps, image, result, approved, reason) in [
        (SEED, "nginx", "registry.example.com/nginx", true, Swapped),
        (
            SEED,
            "gitlab.com/a/b",
            "registry.example.com/gitlab/a/b",
            true,
            Swapped,
        ),
        (
            SEED,
            "registry.example.com/gitlab/a",
            "registry.example.com/gitlab/a",
            true,
            AlreadyTarget,
        ),
        (SEED, "example.com/a", "example.com/a", true, Kept),
        (SEED, "example.com:5000/a", "example.com:5000/a", true, Kept),
        (SEED, "my.example.com/a", "my.example.com/a", false, Kept),
        (
            SEED,
            "example.com.evil.net/a",
            "example.com.evil.net/a",
            false,
            Kept,
        ),
        (
            SEED,
            "evil.net/example.com/a",
            "evil.net/example.com/a",
            false,
            Kept,
        ),
        (SEED, "Nginx", "Nginx", false, Unparsable),
        (SEED, "", "", false, Unparsable),
        ("default::d.io\n", "d.io/x", "d.io/x", true, AlreadyTarget),
        (
            "default::d.io\n",
            "d.io.evil.net/x",
            "d.io/x",
            true,
            Swapped,
        ),
        (
            "default::d.io/p\n",
            "d.io/p/x",
            "d.io/p/x",
            true,
            AlreadyTarget,
        ),
        (
            "default::d.io/p\n",
            "d.io/pevil/x",
            "d.io/p/pevil/x",
            true,
            Swapped,
        ),
        (
            "default::d.io/m-\n",
            "d.io/m-docker.io/x",
            "d.io/m-docker.io/x",
            true,
            AlreadyTarget,
        ),
        (
            "default::d.io/m-\n",
            "q.io:5000/a/x",
            "d.io/m-q.io/q.io/a/x",
            true,
            Swapped,
        ),
        ("default::jms\n", "jms/x", "jms/x", true, AlreadyTarget),
        (
            "default::jms\n",
            "docker.io/jms/x",
            "docker.io/jms/x",
            true,
            AlreadyTarget,
        ),
        (
            "default::d.io\n",
            "localhost:5000/a/x:1",
            "d.io/a/x:1",
            true,
            Swapped,
        ),
        (
            "default::d.io\nmyreg:5000::l.io\nl.io::\n",
            "myreg:5000/x",
            "l.io/x",
            true,
            Swapped,
        ),
        // An image under a target stays, whatever else names it.
        (two, "quay.io/x", "m.io/q/x", true, Swapped),
        (two, "m.io/q/x", "m.io/q/x", true, AlreadyTarget),
        (two, "m.io/x", "d.io/x", true, Swapped),
        (
            "default::\na.io::b.io\nb.io::a.io\n",
            "a.io/x",
            "a.io/x",
            true,
            AlreadyTarget,
        ),
        (
            "default::\nquay.io::quay.io/m\n",
            "quay.io/x",
            "quay.io/m/x",
            true,
            Swapped,
        ),
        (
            "default::\nquay.io::quay.io/m\n",
            "quay.io/m/x",
            "quay.io/m/x",
            true,
            AlreadyTarget,
        ),
        // An empty or missing default approves exactly the images that no key names.
        (
            "default::\nquay.io::m.io\n",
            "gcr.io/x",
            "gcr.io/x",
            true,
            NoRule,
        ),
        ("quay.io::m.io\n", "gcr.io/x", "gcr.io/x", true, NoRule),
        ("quay.io::m.io\n", "quay.io/x", "quay.io/x", false, Kept),
        ("quay.io::\n", "quay.io/x", "quay.io/x", true, Kept),
        (
            "default::d.io\nquay.io::\n",
            "quay.io:443/x",
            "quay.io:443/x",
            true,
            Kept,
        ),
        (
            "default::\nquay.io::m.io/p:443\n",
            "quay.io/x",
            "quay.io/x",
            false,
            InvalidResult,
        ),
        // Items of noswap_wildcards.
        (
            "default::d.io\nnoswap_wildcards::q.io/team\n",
            "q.io/team/x",
            "q.io/team/x",
            true,
            Kept,
        ),
        (
            "default::d.io\nnoswap_wildcards::q.io/team\n",
            "q.io/teams/x",
            "q.io/teams/x",
            false,
            Kept,
        ),
        (
            "default::d.io\nnoswap_wildcards::istio\n",
            "istio/pilot",
            "istio/pilot",
            true,
            Kept,
        ),
        (
            "default::d.io\nnoswap_wildcards::istio\n",
            "q.io/istio/pilot",
            "q.io/istio/pilot",
            false,
            Kept,
        ),
        (
            "default::d.io\nnoswap_wildcards::,\n",
            "q.io/x",
            "q.io/x",
            false,
            Kept,
        ),
        // Exact keys and patterns.
        (
            "[EXACT]nginx::\ndefault::d.io\n",
            "nginx",
            "nginx",
            true,
            Kept,
        ),
        (
            "[EXACT]nginx::q.io/n:1\n",
            "q.io/n:2",
            "q.io/n:2",
            true,
            NoRule,
        ),
        (
            "[EXACT]nginx::q.io/n:1\nq.io::x.io\n",
            "q.io/n:1",
            "q.io/n:1",
            true,
            AlreadyTarget,
        ),
        (
            "[EXACT]nginx::q.io/n:1\nq.io::x.io\n",
            "q.io/n:2",
            "q.io/n:2",
            false,
            Kept,
        ),
        (
            "[REPLACE]quay.io/*::r.io/q\ndefault::\n",
            "quay.io/a/b:1",
            "r.io/q/b:1",
            true,
            Swapped,
        ),
        (
            "[EXACT]Nginx::q.io/n:1\n",
            "Nginx",
            "Nginx",
            false,
            Unparsable,
        ),
    ] {
        let policy = load_with("maps", maps, &tolerant()).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        let got = (decision.result.as_ref(), decision.approved, decision.reason);
        assert_eq!(got, (result, approved, reason), "{image} under\n{maps}");
        assert!(decision.in_scope);
    }
}

#[test]
fn the_legacy_prefix() {
    let decide = |prefix: &str, image: &str| {
        let policy = load_prefix("IMAGE_PREFIX", prefix).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide(image);
        (decision.result.into_owned(), decision.approved)
    };
    for (prefix, image, result, approved) in [
        ("", "nginx", "nginx", true),
        ("r.io", "q.io/a/b:1", "r.io/b:1", true),
        ("r.io", "r.io/a/b:1", "r.io/a/b:1", true),
        ("r.io", "evil.net/r.io/b", "evil.net/r.io/b", false),
        ("r.io/", "q.io/a/b:1", "r.io/b:1", true),
        ("r.io/p", "r.io/b", "r.io/p/b", true),
        ("jms-", "q.io/a", "jms-q.io/a", true),
        (
            "jms-",
            "docker.io/library/jms-nginx",
            "docker.io/library/jms-nginx",
            true,
        ),
        ("jms-", "evil.net/jms-nginx", "evil.net/jms-nginx", false),
        ("jms-", "Nginx", "Nginx", false),
    ] {
        assert_eq!(
            decide(prefix, image),
            (result.to_owned(), approved),
            "{image} under {prefix}"
        );
    }
    let error = load_prefix("IMAGE_PREFIX", "https://r.io").unwrap_err();
    assert_eq!(
        (error.0[0].line, error.0[0].column, error.0[0].code),
        (1, 1, "unusable-value")
    );
}

#[test]
fn labels_decide_the_scope() {
    let labels = |value: &str| BTreeMap::from([(LABEL.to_owned(), value.to_owned())]);
    let policy = load("maps", SEED).unwrap().policy;
    let other = BTreeMap::new();
    for (namespace, object, in_scope) in [
        (None, None, true),
        (Some("enabled"), None, true),
        (Some("disabled"), None, false),
        (Some(""), None, false),
        (None, Some("disabled"), false),
        (None, Some("enabled"), true),
        (Some("enabled"), Some("disabled"), false),
    ] {
        let (namespace, object) = (namespace.map(labels), object.map(labels));
        let pod = PodScope {
            namespace: Some("a"),
            namespace_labels: namespace.as_ref(),
            labels: object.as_ref().map(|it| it as _),
        };
        let decision = policy.select(Scope::Pod(pod), TODAY).decide("nginx");
        assert_eq!(decision.in_scope, in_scope, "{pod:?}");
        assert_eq!(decision.swapped(), in_scope, "{pod:?}");
        assert_eq!(decision.reason == Reason::OutOfScope, !in_scope);
        assert!(in_scope == decision.is_drift());
    }
    let unlabelled = PodScope {
        namespace_labels: Some(&other),
        ..PodScope::default()
    };
    assert!(
        !policy
            .select(Scope::Pod(unlabelled), TODAY)
            .decide("nginx")
            .in_scope
    );
    assert!(policy.select(Scope::Node, TODAY).decide("nginx").in_scope);
    let none = crate::Policies::none();
    assert_eq!(
        none.select(Scope::Node, TODAY).decide("nginx").reason,
        Reason::NoPolicy
    );
    assert!(!none.select(Scope::Node, TODAY).decide("nginx").in_scope);

    let options = Options {
        disable_label: "corp/skip".to_owned(),
        ..Options::default()
    };
    let policy = load_with("maps", SEED, &options).unwrap().policy;
    let skip = BTreeMap::from([("corp/skip".to_owned(), "disabled".to_owned())]);
    let pod = |labels| {
        Scope::Pod(PodScope {
            labels: Some(labels),
            ..PodScope::default()
        })
    };
    assert!(!policy.select(pod(&skip), TODAY).decide("nginx").in_scope);
    assert!(
        policy
            .select(pod(&labels("disabled")), TODAY)
            .decide("nginx")
            .in_scope
    );
}

#[test]
fn rules_are_named_by_line_and_key() {
    let maps = "[EXACT]a::b.io/a\n\ndefault::d.io # c\n[REPLACE]x*::\nquay.io::\nnoswap_wildcards::n.io, o.io\n";
    let policy = load("maps", maps).unwrap().policy;
    for (image, rule) in [
        ("b.io/z", Some("maps:3 default")),
        ("d.io/z", None),
        ("xyz", Some("maps:4 [REPLACE]x*")),
        ("quay.io/a", Some("maps:5 quay.io")),
        ("o.io/a", Some("maps:6 noswap_wildcards o.io")),
        ("a", Some("maps:1 [EXACT]a")),
        ("Xyz", None),
    ] {
        assert_eq!(
            policy.select(Scope::Node, TODAY).decide(image).rule,
            rule,
            "{image}"
        );
    }
    let steps: Vec<_> = policy
        .select(Scope::Node, TODAY)
        .steps("a")
        .into_iter()
        .map(|(rule, to)| format!("{rule} -> {to}"))
        .collect();
    assert_eq!(steps, ["maps:1 [EXACT]a -> b.io/a"]);
    assert!(
        policy
            .select(Scope::Node, TODAY)
            .steps("quay.io/a")
            .is_empty()
    );
    assert_eq!(policy.name(), "maps");
    assert_eq!(
        policy.registries().collect::<Vec<_>>(),
        ["b.io", "d.io", "docker.io", "n.io", "o.io", "quay.io"]
    );
}

#[test]
fn the_revision_is_of_what_decides() {
    let revision = |text: &str| load("maps", text).unwrap().policy.revision().to_owned();
    let plain = revision("default::d.io\nquay.io::q.io\n");
    // Pinned: must not change with the compiler, the process or the build.
    assert_eq!(plain, "08b81b1e24b1");
    assert_eq!(revision("# c\n\nquay.io: q.io # x\ndefault:d.io\n"), plain);
    for other in [
        "default::d.io\n",
        "default::d.io\nquay.io::\n",
        "default::d.io\nquay.io::q.io/\nx.io::\n",
        "",
    ] {
        assert_ne!(revision(other), plain, "{other}");
    }
    let options = Options {
        disable_label: "x".to_owned(),
        ..Options::default()
    };
    let text = "default::d.io\nquay.io::q.io\n";
    assert_ne!(
        load_with("maps", text, &options).unwrap().policy.revision(),
        plain
    );
    let patterns = |text: &str| revision(&format!("[REPLACE]{text}"));
    assert_ne!(
        patterns("a*::x.io\n[REPLACE]ab*::y.io\n"),
        patterns("ab*::y.io\n[REPLACE]a*::x.io\n")
    );
}
