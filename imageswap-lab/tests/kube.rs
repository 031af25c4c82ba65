//! The control plane, started for real.

use std::time::Duration;

use imageswap_lab::{ControlPlane, ControlPlaneOptions, require, wait_until};

#[test]
fn objects_survive_the_api_server() {
    let options = ControlPlaneOptions::default();
    let mut cluster = require!(ControlPlane::for_test(
        "objects_survive_the_api_server",
        options
    ));
    cluster
        .apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
        .unwrap();
    cluster.stop_apiserver();
    cluster.start_apiserver().unwrap();
    let names = cluster
        .kubectl(["get", "namespaces", "-o", "name"])
        .unwrap();
    assert!(names.lines().any(|it| it == "namespace/shop"), "{names}");

    let other = cluster.kubeconfig_for("somebody", None).unwrap();
    let mut command = cluster.kubectl_command();
    command
        .arg("--kubeconfig")
        .arg(other)
        .args(["get", "secrets"]);
    let refused = command.output().unwrap();
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.contains("User \"somebody\" cannot list"),
        "{refused}"
    );
}

#[test]
fn a_deployment_gets_its_pods() {
    let options = ControlPlaneOptions {
        controllers: true,
        ..ControlPlaneOptions::default()
    };
    let cluster = require!(ControlPlane::for_test(
        "a_deployment_gets_its_pods",
        options
    ));
    cluster
        .kubectl(["create", "deployment", "web", "--image=nginx"])
        .unwrap();
    let pods = || cluster.kubectl(["get", "pods", "-o", "name"]).unwrap();
    assert!(wait_until(Duration::from_mins(1), || {
        pods().starts_with("pod/web-")
    }));
}
