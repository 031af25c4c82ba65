//! The rights of webhook and agent: only those that the mode needs, each with a comment that names
//! the code that uses it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use imageswap_lab::require;
use serde_json::Value;

use super::helm::{Helm, NEW, Object, chart, values_file};

/// Rights as `namespace group/resource/name verb`, from all bindings of the account.
fn rights(objects: &[Object], component: &str) -> BTreeSet<String> {
    let account = objects
        .iter()
        .find(|it| it.kind() == "ServiceAccount" && it.component() == component)
        .unwrap();
    let account = (account.name(), &account.0["metadata"]["namespace"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut out = BTreeSet::new();
    let bindings = objects.iter().filter(|it| it.kind().ends_with("Binding"));
    for binding in bindings {
        let mut subjects = binding.0["subjects"].as_array().unwrap().iter();
        if !subjects.any(|it| it["name"] == account.0 && &it["namespace"] == account.1) {
            continue;
        }
        let role = &binding.0["roleRef"];
        let namespace = &binding.0["metadata"]["namespace"];
        let bound = objects.iter().find(|it| {
            role["kind"] == it.kind()
                && role["name"] == it.name()
                && &it.0["metadata"]["namespace"] == namespace
        });
        let bound = bound.unwrap_or_else(|| panic!("{} binds what is not there", binding.shown()));
        for rule in bound.0["rules"].as_array().unwrap() {
            let all = |key: &str| rule[key].as_array().cloned().unwrap_or_default();
            let mut names: Vec<_> = all("resourceNames").iter().map(text).collect();
            if names.is_empty() {
                names.push("*".to_owned());
            }
            let namespace = namespace.as_str().unwrap_or("cluster");
            for (group, resource) in all("apiGroups").iter().flat_map(|group| {
                all("resources")
                    .into_iter()
                    .map(move |it| (text(group), text(&it)))
            }) {
                for name in &names {
                    for verb in all("verbs") {
                        out.insert(format!(
                            "{namespace} {group}/{resource}/{name} {}",
                            text(&verb)
                        ));
                    }
                }
            }
        }
    }
    out
}

fn expected(rights: &[&str]) -> BTreeSet<String> {
    let each = rights.iter().flat_map(|it| {
        let (what, verbs) = it.rsplit_once(' ').unwrap();
        verbs.split(',').map(move |verb| format!("{what} {verb}"))
    });
    each.collect()
}

const POLICIES: &str = "cluster imageswap.io/imageswappolicies/* list,watch";
const STATUS: &str = "cluster imageswap.io/imageswappolicies/status/* patch";
const NAMESPACES: &str = "cluster /namespaces/* list,watch";
const NAMESPACE: &str = "cluster /namespaces/* get";
const MAPS: &str = "imageswap-system /configmaps/imageswap-maps list,watch";
const KEEPS: &str = "imageswap-system /configmaps/imageswap-last-good get,update";
const READS: &str = "imageswap-system /configmaps/imageswap-last-good get";
const SECRET: &str = "imageswap-system /secrets/imageswap-webhook-tls get,list,watch,update";
const MUTATING: &str =
    "cluster admissionregistration.k8s.io/mutatingwebhookconfigurations/imageswap list,watch,patch";
const VALIDATING: &str = "cluster admissionregistration.k8s.io/validatingwebhookconfigurations/imageswap list,watch,patch";
const PODS: &str = "cluster /pods/* get,list,watch";
const EVENTS: &str = "cluster events.k8s.io/events/* create,patch";

#[test]
fn rights_are_those_of_the_mode() {
    let helm = require!(Helm::for_test("rights_are_those_of_the_mode"));
    let webhook =
        |more: &[&'static str]| [&[POLICIES, STATUS, NAMESPACES, NAMESPACE, KEEPS], more].concat();
    let agent =
        |more: &[&'static str]| [&[POLICIES, NAMESPACES, READS, PODS, EVENTS], more].concat();
    for (file, component, rights_) in [
        (
            "default",
            "webhook",
            webhook(&[MAPS, SECRET, MUTATING, VALIDATING]),
        ),
        // It writes no caBundle, but rules.
        (
            "cert-manager",
            "webhook",
            webhook(&[MAPS, MUTATING, VALIDATING]),
        ),
        ("provided", "webhook", webhook(&[MAPS])),
        (
            "webhook-only",
            "webhook",
            webhook(&[
                SECRET,
                MUTATING,
                VALIDATING,
                "cluster /secrets/corp-pull list,watch",
            ]),
        ),
        (
            "imageswap-compat",
            "webhook",
            webhook(&[MAPS, SECRET, MUTATING, VALIDATING]),
        ),
        (
            "everything",
            "webhook",
            vec![
                POLICIES,
                STATUS,
                NAMESPACES,
                NAMESPACE,
                "corp-config /configmaps/corp-maps list,watch",
                "imageswap-system /configmaps/imageswap-guard-last-good get,update",
                "imageswap-system /secrets/imageswap-guard-webhook-tls get,list,watch,update",
                "cluster admissionregistration.k8s.io/mutatingwebhookconfigurations/imageswap-guard list,watch,patch",
                "cluster admissionregistration.k8s.io/validatingwebhookconfigurations/imageswap-guard list,watch,patch",
            ],
        ),
        ("default", "agent", agent(&[MAPS])),
        (
            "respond-dry-run",
            "agent",
            agent(&[MAPS, "cluster /pods/* create"]),
        ),
        (
            "ignore-respond",
            "agent",
            agent(&[
                MAPS,
                "cluster /pods/* create",
                "cluster /pods/eviction/* create",
                "cluster openreports.io/reports/* list,create,patch,delete",
                "cluster openreports.io/clusterreports/* list,create,patch,delete",
                "cluster wgpolicyk8s.io/policyreports/* list,create,patch,delete",
                "cluster wgpolicyk8s.io/clusterpolicyreports/* list,create,patch,delete",
            ]),
        ),
    ] {
        let objects = helm.render_file(NEW, &values_file(file));
        assert_eq!(
            rights(&objects, component),
            expected(&rights_),
            "{file}: {component}"
        );
    }
    let none = helm.render(NEW, &["--set", "rbac.create=false"]).unwrap();
    assert!(!none.iter().any(|it| it.kind().contains("Role")));
}

/// A rule without a comment above it shares the comment of the rule before.
#[test]
fn every_rule_says_which_code_needs_it() {
    for name in [
        "webhook/rbac.yaml",
        "agent/rbac.yaml",
        "policy/rbac-maps.yaml",
    ] {
        let text = fs::read_to_string(chart().join("templates").join(name)).unwrap();
        for rules in text.split("\nrules:\n").skip(1) {
            let first = rules
                .lines()
                .map(str::trim)
                .find(|it| !it.starts_with("{{"));
            let first = first.unwrap_or_default();
            let says = ["# runtime, ", "# webhook, ", "# agent, "];
            assert!(
                says.iter().any(|it| first.starts_with(it)),
                "{name}: {first}"
            );
        }
        // Named crates and modules exist.
        for line in text.lines().filter(|it| it.trim().starts_with("# ")) {
            let Some((crate_, rest)) = line.trim().trim_start_matches("# ").split_once(", ") else {
                continue;
            };
            if !["runtime", "webhook", "agent"].contains(&crate_) {
                continue;
            }
            let (modules, _) = rest.split_once(": ").unwrap_or((rest, ""));
            for module in modules.split(" and ") {
                let path = format!("../imageswap-{crate_}/src/{}.rs", module.replace("::", "/"));
                assert!(
                    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                        .join(&path)
                        .exists(),
                    "{name}: {path}"
                );
            }
        }
    }
}

/// The types that the sources of some crates request from an API server, as in `Api::<Pod>`.
fn asked_for(crates: &[&str]) -> BTreeSet<String> {
    let mut folders: Vec<PathBuf> = crates
        .iter()
        .map(|it| {
            [env!("CARGO_MANIFEST_DIR"), "..", it, "src"]
                .iter()
                .collect()
        })
        .collect();
    let mut out = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for separator in ["Api::<", "Api<"] {
                    let places = text.split(separator).skip(1);
                    out.extend(places.map(|it| {
                        let it = it.strip_prefix("PartialObjectMeta<").unwrap_or(it);
                        let end = it.find(['>', ',']).unwrap();
                        it[..end].to_owned()
                    }));
                }
            }
        }
    }
    out
}

/// The rights cover exactly what the code asks for: by resource; the table above has the verbs.
#[test]
fn rights_are_those_of_the_code() {
    let helm = require!(Helm::for_test("rights_are_those_of_the_code"));
    let resources = |args: &[&str], component| -> BTreeSet<String> {
        let objects = helm.render(NEW, args).unwrap();
        let resource = |right: String| right.split('/').nth(1).unwrap().to_owned();
        rights(&objects, component)
            .into_iter()
            .map(resource)
            .collect()
    };
    // The Events' recorder and DynamicObject do not name a type. K means both configurations.
    let of = |asked: BTreeSet<String>| -> BTreeSet<String> {
        let resources = asked.iter().flat_map(|it| match it.as_str() {
            "ConfigMap" => &["configmaps"][..],
            "DynamicObject" => &["imageswappolicies"],
            "ReportObject" => &[
                "reports",
                "clusterreports",
                "policyreports",
                "clusterpolicyreports",
            ],
            "K" => &[
                "mutatingwebhookconfigurations",
                "validatingwebhookconfigurations",
            ],
            "MutatingWebhookConfiguration" => &["mutatingwebhookconfigurations"],
            "ValidatingWebhookConfiguration" => &["validatingwebhookconfigurations"],
            "Namespace" => &["namespaces"],
            "Pod" => &["pods"],
            "Secret" => &["secrets"],
            // Whatever the caller of a function watches; and everybody may ask for their own rights.
            "W" | "SelfSubjectAccessReview" => &[],
            other => panic!("the chart gives no right to {other}"),
        });
        resources.map(ToString::to_string).collect()
    };
    let everything = [
        "--set",
        "webhook.pullSecrets={x},agent.respond.enabled=true,agent.respond.dryRun=false,\
         agent.policyReports.enabled=true",
    ];
    let webhook = of(asked_for(&["imageswap-runtime", "imageswap-webhook"]));
    assert_eq!(resources(&everything, "webhook"), webhook);
    // The agent uses all resources of the runtime except the Secrets that policies name.
    let mut agent = of(asked_for(&["imageswap-runtime", "imageswap-agent"]));
    agent.remove("secrets");
    agent.insert("events".to_owned());
    assert_eq!(resources(&everything, "agent"), agent);
}
