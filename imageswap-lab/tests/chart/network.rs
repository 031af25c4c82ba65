//! The NetworkPolicies: who may reach what.

use imageswap_lab::require;
use serde_json::{Value, json};

use super::helm::{Helm, NEW, Object, one};

const POLICIES: [(&str, &str); 2] = [
    ("imageswap-webhook", "imageswap-system"),
    ("imageswap-agent", "imageswap-agent"),
];

/// The allowed traffic, by port name: the sources, or null for everyone.
fn let_in(policy: &Value) -> Vec<(String, Value)> {
    let rules = policy["spec"]["ingress"].as_array().unwrap();
    let rules = rules.iter().flat_map(|rule| {
        let ports = rule["ports"].as_array().unwrap().iter();
        ports.map(|port| {
            (
                port["port"].as_str().unwrap().to_owned(),
                rule["from"].clone(),
            )
        })
    });
    rules.collect()
}

fn has_policies(objects: &[Object]) -> bool {
    objects.iter().any(|it| it.kind() == "NetworkPolicy")
}

#[test]
fn admin_ports_are_closed_to_all_but_prometheus_by_default() {
    let helm = require!(Helm::for_test("admin_ports_are_closed_by_default"));
    let objects = helm.render(NEW, &[]).unwrap();
    let prometheus = json!([{
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
    }]);
    for (name, namespace) in POLICIES {
        let policy = one(&objects, "NetworkPolicy", name);
        assert_eq!(policy["metadata"]["namespace"], namespace);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]), "{name}");
        let mut expected = vec![("admin".to_owned(), prometheus.clone())];
        if name == "imageswap-webhook" {
            // No selector can describe the API server's address.
            expected.insert(0, ("https".to_owned(), Value::Null));
        }
        assert_eq!(let_in(policy), expected, "{name}");
    }
}

/// An empty rule would allow everyone.
#[test]
fn admin_ports_are_closed_to_all_where_nobody_is_named() {
    let helm = require!(Helm::for_test(
        "admin_ports_are_closed_where_nobody_is_named"
    ));
    let objects = helm
        .render(NEW, &["--set", "networkPolicy.adminFrom=null"])
        .unwrap();
    let webhook = let_in(one(&objects, "NetworkPolicy", "imageswap-webhook"));
    assert_eq!(webhook, [("https".to_owned(), Value::Null)]);
    let agent = one(&objects, "NetworkPolicy", "imageswap-agent");
    assert_eq!(agent["spec"]["ingress"], json!([]));
    assert_eq!(agent["spec"]["policyTypes"], json!(["Ingress"]));
}

#[test]
fn network_policies_can_be_switched_off() {
    let helm = require!(Helm::for_test("network_policies_can_be_switched_off"));
    assert!(has_policies(&helm.render(NEW, &[]).unwrap()));
    let off = ["--set", "networkPolicy.enabled=false"];
    assert!(!has_policies(&helm.render(NEW, &off).unwrap()));
}

/// Ports are named; a name that no container has would close them.
#[test]
fn policies_name_ports_and_pods_that_exist() {
    let helm = require!(Helm::for_test("policies_name_ports_and_pods_that_exist"));
    let objects = helm
        .render(NEW, &["--set", "networkPolicy.egress=true"])
        .unwrap();
    for ((name, _), kind) in POLICIES.into_iter().zip(["Deployment", "DaemonSet"]) {
        let policy = one(&objects, "NetworkPolicy", name);
        assert_eq!(
            policy["spec"]["policyTypes"],
            json!(["Ingress", "Egress"]),
            "{name}"
        );
        assert!(
            policy["spec"]["egress"].as_array().unwrap().len() >= 2,
            "{name}"
        );
        let template = &one(&objects, kind, name)["spec"]["template"];
        for (label, value) in policy["spec"]["podSelector"]["matchLabels"]
            .as_object()
            .unwrap()
        {
            assert_eq!(template["metadata"]["labels"][label], *value, "{name}");
        }
        let ports = template["spec"]["containers"][0]["ports"]
            .as_array()
            .unwrap();
        for (port, _) in let_in(policy) {
            assert!(ports.iter().any(|it| it["name"] == *port), "{name}: {port}");
        }
    }
}
