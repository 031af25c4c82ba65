//! The control plane, started for real.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use imageswap_lab::{ControlPlane, ControlPlaneOptions, Kubelet, KubeletOptions, wait_until};

#[test]
fn objects_survive_the_api_server() {
    let options = ControlPlaneOptions::default();
    let Some(mut cluster) = ControlPlane::for_test("objects_survive_the_api_server", options)
    else {
        return;
    };
    cluster
        .apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
        .unwrap();
    cluster.restart_apiserver().unwrap();
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
    let Some(cluster) = ControlPlane::for_test("a_deployment_gets_its_pods", options) else {
        return;
    };
    cluster
        .kubectl(["create", "deployment", "web", "--image=nginx"])
        .unwrap();
    let pods = || cluster.kubectl(["get", "pods", "-o", "name"]).unwrap();
    assert!(wait_until(Duration::from_mins(1), || {
        pods().starts_with("pod/web-")
    }));
}

/// The control plane's own controllers roll out, delete and restart; only the processes are ours.
#[test]
fn a_kubelet_runs_pods_as_processes() {
    let options = ControlPlaneOptions {
        controllers: true,
        ..ControlPlaneOptions::default()
    };
    let Some(cluster) = ControlPlane::for_test("a_kubelet_runs_pods_as_processes", options) else {
        return;
    };
    let kubelet = Kubelet::start(
        &cluster,
        KubeletOptions {
            namespace: "default".to_owned(),
            addresses: vec![Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)],
            command: Box::new(|pod| {
                let mut command = Command::new("sleep");
                command.args(&pod.args).envs(pod.env.iter().cloned());
                command
            }),
        },
    )
    .unwrap();
    cluster.apply(SLEEPERS).unwrap();
    cluster
        .kubectl(["rollout", "status", "deployment/sleeper", "--timeout=60s"])
        .unwrap();
    let addresses = || {
        let path = "jsonpath={.subsets[*].addresses[*].ip}";
        let found = cluster.kubectl(["get", "endpoints", "sleeper", "-o", path]);
        let mut found: Vec<_> = found
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        found.sort();
        found
    };
    let both = ["192.0.2.1", "192.0.2.2"];
    assert!(wait_until(Duration::from_mins(1), || addresses() == both));

    let killed = kubelet.pods().remove(0);
    let environment = fs::read(format!("/proc/{}/environ", killed.pid.unwrap())).unwrap();
    let own = format!("POD_NAME={}\0", killed.name);
    assert!(String::from_utf8_lossy(&environment).contains(&own));
    kubelet.kill(&killed.name);
    assert!(wait_until(Duration::from_mins(1), || {
        let pods = kubelet.pods();
        let again = pods.iter().find(|it| it.name == killed.name).unwrap();
        again.restarts == 1 && again.ready && again.pid != killed.pid
    }));

    // Its successor finds the address free once the process has ended.
    cluster.kubectl(["delete", "pod", &killed.name]).unwrap();
    assert!(wait_until(Duration::from_mins(1), || {
        let pods = kubelet.pods();
        pods.len() == 2 && pods.iter().all(|it| it.ready && it.name != killed.name)
    }));
    assert!(wait_until(Duration::from_mins(1), || addresses() == both));
    let pids: Vec<_> = kubelet.pods().iter().filter_map(|it| it.pid).collect();
    drop(kubelet);
    for pid in pids {
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
    }
}

const SLEEPERS: &str = "
apiVersion: v1
kind: Service
metadata: {name: sleeper}
spec:
  selector: {app: sleeper}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper}
spec:
  replicas: 2
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec:
      containers:
        - name: sleeper
          image: sleeper
          args: ['600']
          env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
";
