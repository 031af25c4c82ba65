//! Texts that match at any place of an image: host, port, path or tag.

use super::cel::demand;
use super::helpers::{self, ALL_PODS, approved, check, imported};
use imageswap_import::Import;

const PODS: &str = "match: {any: [{resources: {kinds: [Pod]}}]}";

fn demanded(expression: &str) -> Import {
    demand("", &format!("object.spec.containers.all(c, {expression})"))
}

fn constraint(kind: &str, repos: &[String]) -> Import {
    let repos = format!("{{repos: [{}]}}", repos.join(", "));
    imported(&helpers::constraint(kind, ALL_PODS, &repos))
}

/// What the source refuses is refused here, or the rule is not carried over.
#[test]
fn what_a_text_refuses_is_refused_at_every_place() {
    let repos = |it: &str| constraint("K8sDisallowedRepos", &[format!("'{it}'")]);
    let rows: [(Import, &[&str], &[&str]); 18] = [
        (
            check(PODS, "!*-NIGHTLY"),
            &["a.io/x:1-NIGHTLY"],
            &["a.io/x:1"],
        ),
        (
            check(PODS, "!*trace*"),
            &[
                "x:1-trace-2",
                "trace.io/x:1",
                "a.trace.io:5000/x",
                "a.io/m/xtrace/y",
            ],
            &["a.io/x:1"],
        ),
        (
            check(PODS, "!*-beta & !*:latest"),
            &["x:v2-beta", "x:latest"],
            &["x:1"],
        ),
        (
            check(PODS, "!*-trace"),
            &["x:1-trace", "x-trace:1-trace"],
            &["x-trace:1"],
        ),
        (
            check(PODS, "!*.reg.eu.*"),
            &["1.reg.eu.a.example.com/x:1"],
            &["a.io/x:1"],
        ),
        (
            check(PODS, "!*.corp.example/*"),
            &["evil.io/y.corp.example/x:1", "a.b.corp.example/x"],
            &["corp.example/x:1"],
        ),
        (
            check(PODS, "!*corp.example/a/b*"),
            &["sub.corp.example/a/b/x:1", "evil.io/corp.example/a/b:1"],
            &["corp.example/a/c:1"],
        ),
        (
            check(PODS, "!reg.corp?*"),
            &["reg.corp.net:5000/x:1"],
            &["a.io/x:1"],
        ),
        (
            repos("old.corp"),
            &["old.corp.net:5000/x:1", "old.corp/x"],
            &["a.io/x:1"],
        ),
        (
            repos("172."),
            &["172.16.0.5/x:1", "172.16.0.5:80/x"],
            &["17.0.0.1/x:1"],
        ),
        (
            demanded("!c.image.contains('trace')"),
            &["x:1-trace-2", "xtracex:5000/y", "trace.io/x:1"],
            &["a.io/x:1"],
        ),
        (
            demanded("!c.image.matches(':(latest|dev|test)$')"),
            &["a.io/x:dev", "a.io/x:latest"],
            &["a.io/x:1"],
        ),
        (
            demanded("c.image.matches('^[^/]+[.]corp[.]example/')"),
            &["corp.example/x", "evil.io/a.corp.example/x"],
            &["a.corp.example/x:1", "eu.corp.example/a/b"],
        ),
        // What is refused among images that are let in.
        (
            check(PODS, "a.corp/* & !*trace*"),
            &[
                "a.corp/x:1-trace",
                "a.corp/x:trace",
                "a.corp/xtrace/y:1",
                "b.corp/x:1",
            ],
            &["a.corp/x:1"],
        ),
        (
            check(PODS, "a.corp:5000/* & !*-rc*"),
            &["a.corp:5000/t/x:1-rc", "a.corp:5000/x-rc:1"],
            &["a.corp:5000/x:1"],
        ),
        (
            demanded("c.image.startsWith('a.corp/') && !c.image.endsWith('-dbg')"),
            &["a.corp/x:1-dbg", "b.corp/x:1"],
            &["a.corp/x:1"],
        ),
        (
            demanded("!c.image.startsWith('192.168.')"),
            &["192.168.1.1:5000/x:1", "192.168.0.5/x"],
            &["192.16.0.1/x:1"],
        ),
        (
            check(PODS, "!*-dbg & !*-dev"),
            &["a.corp/x-dbg", "a.corp/x:1-dev"],
            &["a.corp/x-dbg:1"],
        ),
    ];
    for (at, (it, refused, let_in)) in rows.iter().enumerate() {
        let rule = &it.report.rules[0];
        for (images, expected) in [(refused, false), (let_in, true)] {
            for image in *images {
                assert_eq!(
                    approved(it, "a", image),
                    Some(expected),
                    "{at}: {image}: {rule:?}"
                );
            }
        }
    }
}

#[test]
fn the_last_of_many_names_counts_like_the_first() {
    let names: Vec<String> = (b'a'..=b'p')
        .map(|it| format!("{0}{0}{0}", char::from(it)))
        .collect();
    let quoted = |mark: &str| {
        names
            .iter()
            .map(|it| format!("{mark}a.io/team/{it}*"))
            .collect::<Vec<_>>()
    };
    let repos: Vec<_> = names.iter().map(|it| format!("a.io/team/{it}")).collect();
    let refusing = check(PODS, &quoted("!").join(" & "));
    let disallowed = constraint("K8sDisallowedRepos", &repos);
    let approving = check(PODS, &quoted("").join(" | "));
    let allowed = constraint("K8sAllowedRepos", &repos);
    for name in &names {
        let image = format!("a.io/team/{name}x:3");
        for (it, expected) in [
            (&refusing, false),
            (&disallowed, false),
            (&approving, true),
            (&allowed, true),
        ] {
            let rule = &it.report.rules[0];
            assert_eq!(
                approved(it, "a", &image),
                Some(expected),
                "{image}: {rule:?}"
            );
        }
    }
}

/// Patterns know a digest or all digests.
#[test]
fn what_may_be_in_a_digest_is_not_let_in() {
    for text in ["!*@sha256:dead*", "!*dead*", "!*:dead*", "!*dead"] {
        let it = check(PODS, text);
        let digest = "dead".repeat(16);
        let image = format!("a.io/x@sha256:{digest}");
        assert_ne!(
            approved(&it, "a", &image),
            Some(true),
            "{text}: {:?}",
            it.report
        );
    }
}
