//! Generated policies and Pods that meet.

use imageswap_policy::document::{self, ImageSwapPolicy};
use imageswap_policy::{Date, Policies, parse_day};
use proptest::prelude::*;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The same policies and Pods in every run.
const SEED: u64 = 20_261_129;
pub(crate) const DIGEST: &str =
    "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NAMESPACES: [&str; 5] = ["shop", "team-a", "bank", "kube-system", "imageswap-agent"];
const CONTAINERS: [&str; 4] = ["app", "app-2", "proxy", "init"];

/// A policy that loads, and Pods for it.
pub(crate) struct Case {
    pub(crate) text: String,
    pub(crate) policies: Policies,
    pub(crate) without_exceptions: Policies,
    pub(crate) pods: Vec<Pod>,
}

/// A Pod of a request.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) namespace: &'static str,
    pub(crate) labels: BTreeMap<String, String>,
    /// List, name and image; volumes are in the list `volumes`.
    pub(crate) images: Vec<(&'static str, String, String)>,
    /// The images before an update.
    pub(crate) stored: Option<Vec<(&'static str, String, String)>>,
}

pub(crate) fn today() -> Date {
    parse_day("2026-11-29").unwrap()
}

/// This many policies, each with this many Pods.
pub(crate) fn cases(policies: usize, pods: usize) -> Vec<Case> {
    let mut runner = runner();
    generate(policies, pods, &mut runner, |runner| {
        vec![pick(&policy(matched()), runner)]
    })
}

/// This many sets of policies, of which the first that applies to a Pod decides.
pub(crate) fn sets(sets: usize, pods: usize) -> Vec<Case> {
    let mut runner = runner();
    // Some have the same priority: then the name decides.
    let priority = prop::sample::select(vec![-5, 0, 0, 3, 20]);
    generate(sets, pods, &mut runner, |runner| {
        let names = pick(
            &prop::sample::subsequence(vec!["a", "b", "c", "d"], 2..5).prop_shuffle(),
            runner,
        );
        let documents = names.into_iter().map(|name| {
            let mut document = pick(&policy(narrow()), runner);
            document["metadata"]["name"] = json!(name);
            document["spec"]["priority"] = json!(pick(&priority, runner));
            document
        });
        documents.collect()
    })
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(SEED),
        ..Config::default()
    })
}

/// Cases whose policies load.
fn generate(
    cases: usize,
    pods: usize,
    runner: &mut TestRunner,
    mut documents: impl FnMut(&mut TestRunner) -> Vec<Value>,
) -> Vec<Case> {
    let mut all = Vec::new();
    while all.len() < cases {
        let documents = documents(runner);
        // Rules that cannot act together do not load.
        let load = |documents: &[Value]| {
            let mut policies = Vec::new();
            for document in documents {
                let loaded = document::load("generated.json", &document.to_string()).ok()?;
                policies.extend(loaded.policies);
            }
            Some(Policies::new(policies))
        };
        let mut without = documents.clone();
        for document in &mut without {
            document["spec"]["exceptions"] = json!([]);
        }
        let (Some(policies), Some(without_exceptions)) = (load(&documents), load(&without)) else {
            continue;
        };
        let typed = documents.iter().map(|it| {
            let typed: ImageSwapPolicy = serde_json::from_value(it.clone()).unwrap();
            images_for(&typed)
        });
        let images = typed.collect::<Vec<_>>().concat();
        let pods = (0..pods).map(|_| pick(&pod(&images), runner)).collect();
        all.push(Case {
            text: serde_json::to_string(&documents).unwrap(),
            policies,
            without_exceptions,
            pods,
        });
    }
    all
}

fn pick<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

fn policy(matched: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let exceptions = prop::collection::vec((pattern(), guard(), any::<bool>()), 0..2);
    let secrets = prop::collection::vec(
        prop::sample::select(vec!["r.example.com", "docker.io"]),
        0..2,
    );
    (
        prop::collection::vec(rule(), 1..7),
        prop::option::weighted(0.3, prop::collection::vec(guarded(), 1..4)),
        prop::collection::vec(guarded(), 0..2),
        exceptions,
        matched,
        prop::sample::select(vec!["deny", "deny", "deny", "warn", "audit"]),
        secrets,
    )
        .prop_map(|(rules, approved, denied, exceptions, matched, enforcement, secrets)| {
            let exceptions: Vec<_> = exceptions
                .into_iter()
                .map(|(pattern, guard, ended)| {
                    let until = if ended { "2026-11-28" } else { "2026-11-29" };
                    with(json!({"pattern": pattern, "until": until, "reason": "r"}), guard)
                })
                .collect();
            let secrets: Vec<_> = secrets
                .into_iter()
                .enumerate()
                .map(|(at, it)| json!({"registry": it, "name": format!("pull-{at}")}))
                .collect();
            let mut spec = json!({
                "match": matched, "rules": rules, "denied": denied, "exceptions": exceptions,
                "enforcement": enforcement, "imagePullSecrets": secrets,
            });
            if let Some(approved) = approved {
                spec["approved"] = json!(approved);
            }
            json!({"apiVersion": document::API_VERSION, "kind": document::KIND, "metadata": {"name": "p"}, "spec": spec})
        })
}

fn rule() -> impl Strategy<Value = Value> {
    let to = prop::sample::select(vec![
        "r.example.com",
        "r.example.com/hub",
        "m.example.com:5000/x",
        "quay.io/mirror",
        "docker.io/team",
    ]);
    let regex = prop::sample::select(vec![
        (r"^quay\.io/(.*)$", "r.example.com/quay/$1"),
        (
            r"(?<host>[a-z.]+)/(?<rest>.+)",
            "m.example.com/${host}/${rest}",
        ),
        (r"gcr\.io/([^/]*)/(.*)", "r.example.com/$2"),
        (r"docker\.io/library/(.*):1", "r.example.com/one/$1:one"),
        (r"ghcr\.io/.*", "r.example.com/all"),
        // Its groups cannot be said.
        (r"(.*)/(team|a)/(.*)", "r.example.com/$2/$3"),
        (r"\w+\.io/[a-c]{1,3}(?:/.*)?", "r.example.com/short:1"),
    ]);
    let kind = prop_oneof![
        2 => pattern().prop_map(|it| json!({"keep": it})),
        6 => (pattern(), to.clone()).prop_map(|(from, to)| json!({"from": from, "to": to})),
        2 => (repository(), to, prop::sample::select(vec!["", "", ":2"])).prop_map(|(from, to, tag)| {
            let from = if tag.is_empty() { from } else { format!("{from}:1") };
            json!({"from": from, "to": format!("{to}/renamed{tag}")})
        }),
        2 => regex.prop_map(|(regex, to)| json!({"regex": regex, "to": to})),
    ];
    (kind, guard()).prop_map(|(rule, guard)| with(rule, guard))
}

fn guarded() -> impl Strategy<Value = Value> {
    (pattern(), guard()).prop_map(|(pattern, guard)| with(json!({"pattern": pattern}), guard))
}

fn guard() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => Just(json!({})),
        1 => Just(json!({"namespaces": ["shop", "team-*"]})),
        1 => Just(json!({"namespaces": ["bank"]})),
        1 => Just(json!({"containers": ["app*"]})),
        1 => Just(json!({"containers": ["proxy", "init"], "namespaces": ["*"]})),
    ]
}

fn with(mut item: Value, guard: Value) -> Value {
    if let (Value::Object(item), Value::Object(guard)) = (&mut item, guard) {
        item.extend(guard);
    }
    item
}

fn matched() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => Just(json!({})),
        1 => Just(json!({"namespaces": ["*"]})),
        1 => Just(json!({"namespaces": ["team-*", "shop"], "excludeNamespaces": ["*-b"]})),
        1 => Just(json!({"excludeNamespaces": ["bank"]})),
        2 => Just(json!({"allowOptOut": true})),
        1 => Just(json!({"objectSelector": {"matchLabels": {"tier": "web"}}})),
        1 => Just(json!({"objectSelector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web", "x"]}, {"key": "a", "operator": "DoesNotExist"}]}})),
        1 => Just(json!({"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["shop"]}]}})),
    ]
}

/// Parts of the cluster, which overlap.
fn narrow() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(json!({})),
        1 => Just(json!({"namespaces": ["*"]})),
        1 => Just(json!({"namespaces": ["team-*", "kube-system"]})),
        1 => Just(json!({"namespaces": ["shop", "bank"], "excludeNamespaces": ["b*"]})),
        1 => Just(json!({"excludeNamespaces": ["bank", "shop"], "allowOptOut": true})),
        2 => Just(json!({"objectSelector": {"matchLabels": {"tier": "web"}}})),
        1 => Just(json!({"objectSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web", "y"]}]}})),
        1 => Just(json!({"objectSelector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}})),
        1 => Just(json!({"namespaces": ["shop"], "objectSelector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}})),
        1 => Just(json!({"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["shop"]}]}})),
    ]
}

fn host() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "docker.io/",
        "docker.io/",
        "",
        "quay.io/",
        "gcr.io/",
        "eu.gcr.io/",
        "r.example.com/",
        "m.example.com:5000/",
        "localhost/",
        "localhost:5000/",
        "index.docker.io/",
        "[::1]:5000/",
        "REG/",
        "r.example.com:443/",
        "a_b.io/",
    ])
}

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "nginx",
        "library/nginx",
        "team/app",
        "team/a/b",
        "hub/library/nginx",
        "a",
        "a/b",
        "mirror/team/a",
        "x/a",
        "team-x/app",
        "quay/a",
        "renamed",
        "hub/renamed",
        "a_b/c--d.e",
    ])
}

fn pattern() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        8 => host().prop_map(str::to_owned),
        1 => Just("*.gcr.io/".to_owned()),
        1 => Just("**.example.com/".to_owned()),
        1 => Just("*/".to_owned()),
        1 => Just("**/".to_owned()),
        1 => Just("localhost:*/".to_owned()),
    ];
    let path = prop_oneof![
        4 => Just("**"),
        1 => Just("*"),
        1 => Just("library/*"),
        1 => Just("team/**"),
        1 => Just("team-*/**"),
        1 => Just("**/app"),
        1 => Just("*/**/b"),
        2 => path(),
    ];
    let version = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        ":latest",
        ":1*",
        ":*",
        "@sha256:*",
        ":1@sha256:*",
    ]);
    let any =
        (host, path, version).prop_map(|(host, path, version)| format!("{host}{path}{version}"));
    prop_oneof![20 => any, 1 => Just("**".to_owned()), 1 => Just("**:latest".to_owned())]
        .prop_filter("no pattern", |it| {
            imageswap_policy::Pattern::parse(it).is_ok()
        })
}

fn repository() -> impl Strategy<Value = String> {
    (host(), path())
        .prop_map(|(host, path)| format!("{host}{path}"))
        .prop_filter("no pattern", |it| {
            imageswap_policy::Pattern::parse(it).is_ok()
        })
}

/// Images near the patterns of a policy.
fn images_for(policy: &ImageSwapPolicy) -> Vec<String> {
    let rules = policy.spec.rules.iter();
    let patterns = rules.flat_map(|it| [&it.keep, &it.from, &it.to].into_iter().flatten());
    let mut images = Vec::new();
    for text in patterns.filter(|it| !it.contains('$')) {
        for filler in ["a", "team/x", "library"] {
            let text = text.replace("**", filler).replace('*', "x");
            images.push(text.replace("@sha256:x", DIGEST));
        }
        images.push(format!("{text}/a:1"));
        images.push(format!("{text}{DIGEST}"));
    }
    images.retain(|it| !it.contains('*'));
    images
}

fn image(near: &[String]) -> BoxedStrategy<String> {
    let version = prop::sample::select(vec![
        "",
        "",
        ":1",
        ":1.2",
        ":latest",
        ":x",
        DIGEST,
        ":1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ]);
    let any = (host(), path(), version)
        .prop_map(|(host, path, version)| format!("{host}{path}{version}"));
    let odd = prop::sample::select(vec![
        "Nginx".to_owned(),
        "a b".to_owned(),
        "evil.net/docker.io/nginx".to_owned(),
        "docker.io".to_owned(),
        "docker.io/".to_owned(),
        "quay.io/a@sha256:1".to_owned(),
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef".to_owned(),
        "[20]/a".to_owned(),
        "[AB]/a".to_owned(),
        "a/b:c/d".to_owned(),
        format!("quay.io/{}", "a".repeat(255)),
        format!("docker.io/{}", "a".repeat(250)),
        format!("quay.io/{}", "a".repeat(250)),
        "quay.io/a'b\"".to_owned(),
        "docker.io.evil.net/nginx".to_owned(),
    ]);
    if near.is_empty() {
        return prop_oneof![12 => any, 2 => odd].boxed();
    }
    prop_oneof![10 => any, 2 => odd, 8 => prop::sample::select(near.to_vec())].boxed()
}

fn pod(near: &[String]) -> impl Strategy<Value = Pod> + use<> {
    let containers = prop::collection::vec(image(near), 1..4);
    let init = prop::option::weighted(0.3, image(near));
    let volume = prop::option::weighted(0.3, image(near));
    let labels = prop::sample::select(vec![
        vec![],
        vec![],
        vec![("tier", "web")],
        vec![("a", "b"), ("tier", "y")],
        vec![("k8s.twr.io/imageswap", "disabled")],
        vec![("k8s.twr.io/imageswap", "enabled")],
    ]);
    let update = prop::option::weighted(0.25, prop::collection::vec(image(near), 3));
    let namespace = prop::sample::select(NAMESPACES.to_vec());
    (containers, init, volume, labels, update, namespace).prop_map(
        |(containers, init, volume, labels, update, namespace)| {
            let mut images = Vec::new();
            for (at, image) in containers.into_iter().enumerate() {
                images.push(("containers", CONTAINERS[at].to_owned(), image));
            }
            images.extend(init.map(|it| ("initContainers", CONTAINERS[3].to_owned(), it)));
            images.extend(volume.map(|it| ("volumes", "app".to_owned(), it)));
            // An update changes some of the images.
            let stored = update.map(|others| {
                let mut stored = images.clone();
                for (at, other) in others.into_iter().enumerate() {
                    if let Some(it) = stored.get_mut(at * 2) {
                        it.2 = other;
                    }
                }
                stored
            });
            Pod {
                namespace,
                labels: labels
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
                images,
                stored,
            }
        },
    )
}

impl Pod {
    /// The object with these images.
    pub(crate) fn object(&self, images: &[(&'static str, String, String)]) -> Value {
        let list = |wanted: &str| -> Vec<Value> {
            let all = images.iter().filter(|it| it.0 == wanted);
            all.map(|(_, name, image)| json!({"name": name, "image": image}))
                .collect()
        };
        let volumes: Vec<_> = images
            .iter()
            .filter(|it| it.0 == "volumes")
            .map(|(_, name, image)| json!({"name": name, "image": {"reference": image}}))
            .chain([json!({"name": "empty", "emptyDir": {}})])
            .collect();
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "pod", "namespace": self.namespace, "labels": self.labels},
            "spec": {"containers": list("containers"), "volumes": volumes},
        });
        let init = list("initContainers");
        if !init.is_empty() {
            object["spec"]["initContainers"] = json!(init);
        }
        object
    }
}
