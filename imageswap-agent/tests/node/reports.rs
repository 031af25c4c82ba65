//! Policy reports in a real API server, by the schemas that the projects publish.

use crate::cluster::{Cluster, NODE, spec};
use crate::harness::{EVIL, PATIENCE};
use imageswap_lab::{
    ControlPlane, openreports_definitions, policy_report_definitions, require, wait_until,
};
use serde_json::Value;
use std::time::Instant;

const NAME: &str = "imageswap-node-1";

/// The results of the node's report, if there is one.
fn report(cluster: &Cluster, resource: &str, namespace: &str) -> Option<Value> {
    let get = ["-n", namespace, "get", resource, NAME, "-o", "json"];
    let text = cluster.plane.kubectl(get).ok()?;
    serde_json::from_str(&text).ok()
}

fn drift_is_reported(test: &str, resource: &str, definitions: &[String]) {
    let prepare = |plane: &ControlPlane| {
        for definition in definitions {
            plane.apply(definition).unwrap();
        }
    };
    let cluster = require!(Cluster::with(test, &["--policy-reports"], prepare));
    let cri = cluster.node.containerd.cri().unwrap();
    let uid = cluster.pod("team-a", "skipped", EVIL, None);
    let began = Instant::now();
    let pod = cri
        .run_pod(&spec("team-a", "skipped", "app", EVIL), &uid)
        .unwrap();
    let there = || report(&cluster, resource, "team-a").is_some();
    assert!(wait_until(PATIENCE, there), "{}", cluster.agent.log());
    println!("{test}: reported after {:?}", began.elapsed());
    let found = report(&cluster, resource, "team-a").unwrap();
    assert_eq!(found["summary"]["fail"], 1, "{found:#}");
    let result = &found["results"][0];
    assert_eq!(result["result"], "fail", "{found:#}");
    assert_eq!(result["policy"], "corp", "{found:#}");
    assert_eq!(result["properties"]["reason"], "webhook-skipped");
    assert_eq!(result["properties"]["image"], EVIL);
    assert_eq!(result["properties"]["node"], NODE);
    let about = &result["resources"][0];
    assert_eq!(
        (&about["kind"], &about["uid"]),
        (&"Pod".into(), &uid.clone().into())
    );
    assert_eq!(found["metadata"]["ownerReferences"][0]["uid"], uid);
    let listed = ["-n", "team-a", "get", resource];
    let listed = cluster.plane.kubectl(listed).unwrap();
    assert!(listed.contains(NAME), "{listed}");

    // What no Pod owns is reported about the node.
    let id = format!("alone-{test}");
    cluster.node.images("default");
    cluster.node.run(EVIL, &id);
    let of_node = format!("cluster{resource}");
    // The node may run containers of others, of which the agent knows no image.
    let alone = || {
        let found = report(&cluster, &of_node, "team-a")?;
        let mut results = found["results"].as_array()?.iter();
        let result = results.find(|it| it["properties"]["image"] == EVIL)?;
        Some(result.clone())
    };
    let there = || alone().is_some();
    if !wait_until(PATIENCE, there) {
        let of_node = report(&cluster, &of_node, "team-a");
        let said = cluster.agent.said_of(&id);
        panic!("{said:#?}\n{of_node:#?}\n{}", cluster.agent.log());
    }
    let result = alone().unwrap();
    assert_eq!(result["resources"][0]["name"], NODE, "{result:#}");
    cluster.node.remove(&id);

    let ended = Instant::now();
    cri.remove(&pod).unwrap();
    let gone = || report(&cluster, resource, "team-a").is_none() && alone().is_none();
    assert!(wait_until(2 * PATIENCE, gone), "{}", cluster.agent.log());
    println!("{test}: gone after {:?}", ended.elapsed());
}

#[test]
fn drift_is_in_openreports_while_it_runs() {
    // With both APIs, the newer one is used.
    let definitions = [openreports_definitions(), policy_report_definitions()];
    drift_is_reported("openreports", "reports.openreports.io", &definitions);
}

#[test]
fn drift_is_in_policy_reports_while_it_runs() {
    let definitions = [policy_report_definitions()];
    drift_is_reported(
        "policyreports",
        "policyreports.wgpolicyk8s.io",
        &definitions,
    );
}

/// A report of an agent that was killed is deleted by the next one, if nothing drifts any more.
#[test]
fn a_report_that_was_left_behind_is_deleted() {
    let left = serde_json::json!({
        "apiVersion": "wgpolicyk8s.io/v1alpha2",
        "kind": "PolicyReport",
        "metadata": {"name": NAME, "namespace": "default", "labels": {"imageswap.io/node": NODE}},
    });
    let other = left.to_string().replace(NODE, "node-2");
    let prepare = |plane: &ControlPlane| {
        plane.apply(&policy_report_definitions()).unwrap();
        let is_served = || plane.apply(&left.to_string()).is_ok();
        assert!(wait_until(PATIENCE, is_served));
        plane.apply(&other).unwrap();
    };
    let cluster = require!(Cluster::with("leftreport", &["--policy-reports"], prepare));
    let gone = || report(&cluster, "policyreports", "default").is_none();
    assert!(wait_until(2 * PATIENCE, gone), "{}", cluster.agent.log());
    let all = ["-n", "default", "get", "policyreports", "-o", "name"];
    let all = cluster.plane.kubectl(all).unwrap();
    assert!(all.contains("imageswap-node-2"), "{all}");
}
