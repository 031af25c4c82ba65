//! Rules that are easy to get wrong. Each is written down a second time, as a function of the test: a rule that is
//! carried over decides as this function does, unless the report shows an image about which it does not.

use super::cel::{change, demand, native};
use super::helpers::{ALL_PODS, approved, constraint, imported, result, rule};
use imageswap_import::{Import, Status};

const IMAGES: [&str; 22] = [
    "reg.example.com/a:1",
    "reg.example.com/a/b:2",
    "reg.example.com/team/app:latest",
    "reg.example.com/a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "reg.example.com.evil.net/a:1",
    "regxexample.com/a:1",
    "sub.reg.example.com/a:1",
    "reg.example.com:5000/a:1",
    "quay.io/acme/x:1",
    "quay.io/acme-x/y:1",
    "quay.io/acmex:1",
    "quay.io/other/x:1",
    "docker.io/library/nginx:1",
    "docker.io/bitnami/redis:7",
    "ghcr.io/o/p:latest",
    "localhost:5000/a:1",
    "10.0.0.1:5000/x/y:1",
    "evil.net/reg.example.com/a:1",
    "evil.net/quay.io/acme/x:1",
    "a.io/x:v1.2.3",
    "registry.k8s.io/pause:3.9",
    "us-docker.pkg.dev/p/q/r:1",
];

/// Compares the imported policy with what the rule means.
fn checks(name: &str, it: &Import, means: &dyn Fn(&str) -> bool) -> Status {
    let rule = &it.report.rules[0];
    if rule.status == Status::CarriedOver {
        for image in IMAGES {
            assert_eq!(
                approved(it, "any", image),
                Some(means(image)),
                "{name}: {image}"
            );
        }
    }
    if rule.status == Status::LeftOut {
        assert!(it.policies.is_empty(), "{name}");
    }
    rule.status
}

/// Demands on a container `c`, their meaning, and the worst outcome that is accepted.
type Demand = (&'static str, fn(&str) -> bool, Option<Status>);

const CARRIED: Option<Status> = Some(Status::CarriedOver);
const LEFT_OUT: Option<Status> = Some(Status::LeftOut);

const DEMANDS: [Demand; 24] = [
    (
        "c.image.startsWith('reg.example.com')",
        |it| it.starts_with("reg.example.com"),
        None,
    ),
    (
        "c.image.matches('reg.example.com/')",
        |it| it.contains("reg.example.com/") || it.contains("regxexample.com/"),
        None,
    ),
    (
        "c.image.matches('^reg[.]example[.]com/[^/]+$')",
        |it| it.starts_with("reg.example.com/") && it.matches('/').count() == 1,
        None,
    ),
    (
        "c.image.matches('^(reg[.]example[.]com|quay[.]io/acme)/')",
        |it| it.starts_with("reg.example.com/") || it.starts_with("quay.io/acme/"),
        None,
    ),
    (
        "c.image.split('/')[0] == 'reg.example.com'",
        |it| it.starts_with("reg.example.com/"),
        CARRIED,
    ),
    (
        "c.image.split('/')[0] in ['reg.example.com', 'quay.io']",
        |it| it.starts_with("reg.example.com/") || it.starts_with("quay.io/"),
        CARRIED,
    ),
    (
        "c.image.split('/').size() > 2",
        |it| it.matches('/').count() > 1,
        None,
    ),
    (
        "c.image.lowerAscii().startsWith('reg.example.com/')",
        |it| it.starts_with("reg.example.com/"),
        None,
    ),
    (
        "'reg.example.com/' in [c.image.substring(0, c.image.indexOf('/') + 1)]",
        |it| it.starts_with("reg.example.com/"),
        CARRIED,
    ),
    (
        "!c.image.startsWith('docker.io/') && !c.image.endsWith(':latest')",
        |it| !it.starts_with("docker.io/") && !it.ends_with(":latest"),
        None,
    ),
    (
        "c.image.startsWith('reg.example.com/') && !c.image.endsWith(':latest')",
        |it| it.starts_with("reg.example.com/") && !it.ends_with(":latest"),
        None,
    ),
    (
        "c.image.startsWith('reg.example.com/') ? c.image.contains('@sha256:') : c.image.startsWith('quay.io/acme/')",
        |it| {
            if it.starts_with("reg.example.com/") {
                it.contains("@sha256:")
            } else {
                it.starts_with("quay.io/acme/")
            }
        },
        CARRIED,
    ),
    (
        "c.image.endsWith('/nginx:1')",
        |it| it.ends_with("/nginx:1"),
        None,
    ),
    (
        "c.image == 'quay.io/acme/x:1' || c.image == 'a.io/x:v1.2.3'",
        |it| it == "quay.io/acme/x:1" || it == "a.io/x:v1.2.3",
        CARRIED,
    ),
    ("c.image.size() < 22", |it| it.len() < 22, LEFT_OUT),
    ("c.image > 'm'", |it| it > "m", None),
    (
        "[1, 2].exists(i, i == 2) && c.image.startsWith('reg.example.com/')",
        |it| it.starts_with("reg.example.com/"),
        CARRIED,
    ),
    (
        "{'a': 'reg.example.com/', 'b': 'quay.io/acme/'}.exists(k, c.image.startsWith({'a': 'reg.example.com/', 'b': 'quay.io/acme/'}[k]))",
        |it| it.starts_with("reg.example.com/") || it.starts_with("quay.io/acme/"),
        CARRIED,
    ),
    (
        "['reg.example.com/', 'quay.io/acme/'].filter(r, c.image.startsWith(r)).size() == 1",
        |it| it.starts_with("reg.example.com/") || it.starts_with("quay.io/acme/"),
        CARRIED,
    ),
    (
        "['reg.example.com/', 'reg.example.com/a'].exists_one(r, c.image.startsWith(r))",
        |it| it.starts_with("reg.example.com/") && !it.starts_with("reg.example.com/a"),
        None,
    ),
    (
        "c.image.replace('reg.example.com/', '') != c.image",
        |it| it.contains("reg.example.com/"),
        None,
    ),
    (
        "c.image.find('^[^/]+/') == 'reg.example.com/'",
        |it| it.starts_with("reg.example.com/"),
        CARRIED,
    ),
    (
        "c.?image.orValue('').startsWith('reg.example.com/')",
        |it| it.starts_with("reg.example.com/"),
        CARRIED,
    ),
    (
        "(c.image + '').startsWith('reg.example.com' + '/')",
        |it| it.starts_with("reg.example.com/"),
        CARRIED,
    ),
];

#[test]
fn demands_mean_what_they_say() {
    for (text, means, expected) in DEMANDS {
        let whole = format!("object.spec.containers.all(c, {text})");
        let negated = format!("!object.spec.containers.exists(c, !({text}))");
        for it in [demand("", &whole), native("", &negated)] {
            let status = checks(text, &it, &means);
            if let Some(expected) = expected {
                assert_eq!(status, expected, "{text}: {}", it.report.rules[0]);
            }
        }
    }
}

#[test]
fn long_lists_are_complete() {
    for count in [9, 30] {
        let hosts: Vec<_> = (0..count).map(|it| format!("h{it}.example/")).collect();
        let paths: Vec<_> = (0..count)
            .map(|it| format!("reg.example.com/t{it}/"))
            .collect();
        for list in [hosts, paths] {
            let it = imported(&format!(
                "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nmetadata: {{name: g}}\nspec: {{parameters: {{repos: {list:?}}}}}\n"
            ));
            let rule = &it.report.rules[0];
            assert_eq!(rule.status, Status::CarriedOver, "{rule}");
            for it_is in &list {
                assert_eq!(
                    approved(&it, "any", &format!("{it_is}a:1")),
                    Some(true),
                    "{it_is}"
                );
            }
            assert_eq!(approved(&it, "any", "quay.io/x:1"), Some(false));
        }
    }
    let many: Vec<_> = (0..200).map(|it| format!("h{it}.example/")).collect();
    let it = imported(&format!(
        "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nmetadata: {{name: g}}\nspec: {{parameters: {{repos: {many:?}}}}}\n"
    ));
    assert_eq!(it.report.rules[0].status, Status::LeftOut);
}

#[test]
fn rules_of_a_whole_pod_are_left_out() {
    for text in [
        "object.spec.containers.exists_one(c, c.image.startsWith('reg.example.com/'))",
        "object.spec.containers.filter(c, c.image.startsWith('reg.example.com/')).size() > 0",
        "object.spec.containers.map(c, c.image).join(',').startsWith('reg.example.com/')",
        "object.spec.containers.all(c, c.image == object.spec.containers[0].image || c.image.startsWith('a.io/'))",
        "object.spec.containers.all(c, c.image.startsWith('a.io/')) || object.spec.?initContainers.orValue([]).all(c, c.image.startsWith('a.io/'))",
        "has(object.spec.initContainers) || object.spec.containers.all(c, c.image.startsWith('a.io/'))",
        "size(object.spec.containers) == 1 && object.spec.containers.all(c, c.image.startsWith('a.io/'))",
        "object.spec.containers.all(c, c.image.startsWith(oldObject.spec.containers[0].image))",
        "request.operation == 'UPDATE' || object.spec.containers.all(c, c.image.startsWith('a.io/'))",
        "object.metadata.name.startsWith('x') || object.spec.containers.all(c, c.image.startsWith('a.io/'))",
        "object.spec.containers.all(c, c.image.startsWith('a.io/')) && authorizer.group('').resource('pods').check('create').allowed()",
        "object.spec.containers.all(i, c, c.image.startsWith('a.io/'))",
        "true",
        "object.metadata.namespace == 'shop'",
    ] {
        let it = demand("", text);
        assert_eq!(
            it.report.count(Status::LeftOut),
            it.report.rules.len(),
            "{text}: {}",
            it.report.rules[0]
        );
        assert!(it.policies.is_empty(), "{text}");
    }
}

#[test]
fn changes_mean_what_they_say() {
    type Change = (&'static str, fn(&str) -> String);
    let changes: [Change; 8] = [
        ("'m.io/' + c.image", |it| format!("m.io/{it}")),
        ("c.image.replace('quay.io/', 'm.io/quay/')", |it| {
            it.replace("quay.io/", "m.io/quay/")
        }),
        ("c.image.replace('docker.io', 'm.io', 1)", |it| {
            it.replacen("docker.io", "m.io", 1)
        }),
        (
            "c.image.startsWith('quay.io/acme') ? 'm.io/' + c.image : c.image",
            |it| {
                if it.starts_with("quay.io/acme") {
                    format!("m.io/{it}")
                } else {
                    it.to_owned()
                }
            },
        ),
        (
            "c.image.split('/')[0] == 'quay.io' ? 'm.io/' + c.image.split('/', 2)[1] : c.image",
            |it| {
                it.strip_prefix("quay.io/")
                    .map_or(it.to_owned(), |it| format!("m.io/{it}"))
            },
        ),
        (
            "c.image.startsWith('m.io/') ? c.image : 'm.io/' + c.image.split('/')[c.image.split('/').size() - 1]",
            |it| format!("m.io/{}", it.rsplit('/').next().unwrap()),
        ),
        (
            "c.image.endsWith(':latest') ? 'm.io/' + c.image : c.image",
            |it| {
                if it.ends_with(":latest") {
                    format!("m.io/{it}")
                } else {
                    it.to_owned()
                }
            },
        ),
        ("c.image.lowerAscii()", |it| it.to_ascii_lowercase()),
    ];
    for (text, means) in changes {
        let it = change("", "containers", text);
        let rule = &it.report.rules[0];
        let shown = !rule.differences.is_empty();
        if rule.status == Status::LeftOut {
            continue;
        }
        let wrong: Vec<_> = IMAGES
            .iter()
            .filter(|image| result(&it, image) != means(image))
            .collect();
        assert!(wrong.is_empty() || shown, "{text}: {wrong:?}");
        // What a difference shows is of the kinds that the documentation names.
        assert!(wrong.len() < IMAGES.len() / 3, "{text}: {wrong:?} {rule}");
    }
}

#[test]
fn patterns_of_kyverno_and_lists_of_gatekeeper_mean_what_they_say() {
    type Pattern = (&'static str, fn(&str) -> bool);
    type List = (&'static str, &'static str, fn(&str) -> bool);
    let patterns: [Pattern; 6] = [
        ("reg.example.com/* & !*:latest", |it| {
            it.starts_with("reg.example.com/") && !it.ends_with(":latest")
        }),
        ("!docker.io/*", |it| !it.starts_with("docker.io/")),
        ("*.example.com/*", |it| it.find(".example.com/").is_some()),
        ("quay.io/acme/* | reg.example.com/* & !*:latest", |it| {
            it.starts_with("quay.io/acme/")
                || it.starts_with("reg.example.com/") && !it.ends_with(":latest")
        }),
        ("reg.example.com/?*", |it| {
            it.starts_with("reg.example.com/")
        }),
        ("reg?example.com/*", |it| {
            it.starts_with("reg") && it[4..].starts_with("example.com/")
        }),
    ];
    for (text, means) in patterns {
        let it = rule(&format!(
            "match: {{any: [{{resources: {{kinds: [Pod]}}}}]}}\nvalidate: {{pattern: {{spec: {{containers: [{{image: \"{text}\"}}]}}}}}}"
        ));
        checks(text, &it, &means);
    }
    let lists: [List; 5] = [
        (
            "K8sAllowedRepos",
            "{repos: [reg.example.com, quay.io/acme]}",
            |it| it.starts_with("reg.example.com") || it.starts_with("quay.io/acme"),
        ),
        ("K8sDisallowedRepos", "{repos: [quay.io/acme]}", |it| {
            !it.starts_with("quay.io/acme")
        }),
        (
            "K8sAllowedReposv2",
            "{allowedImages: [\"reg.example.com/a*\", \"quay.io/acme/x:1\"]}",
            |it| it.starts_with("reg.example.com/a") || it == "quay.io/acme/x:1",
        ),
        ("K8sDisallowedTags", "{tags: [latest, \"1\"]}", |it| {
            !it.ends_with(":latest") && !it.ends_with(":1")
        }),
        ("K8sImageDigests", "{}", |it| it.contains('@')),
    ];
    for (kind, parameters, means) in lists {
        let it = imported(&constraint(kind, ALL_PODS, parameters));
        checks(kind, &it, &means);
    }
}
