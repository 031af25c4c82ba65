//! The Helm chart: every file of `ci/` is rendered, and the result is sent to a real API server and
//! checked against the types of a newer one.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod gitops;
mod helm;
mod network;
mod rights;
mod schemas;
mod security;
mod types;
mod values;

use std::process::Command;

use helm::{Helm, NAMESPACE, RELEASE, chart, output, values_files};
use imageswap_lab::{ControlPlane, ControlPlaneOptions, require};
use serde_json::Value;

/// A control plane that has the resource, and the namespaces that the values files mention.
fn cluster(test: &str) -> Option<ControlPlane> {
    let cluster = ControlPlane::for_test(test, ControlPlaneOptions::default())?;
    cluster.install_definition().unwrap();
    Some(cluster)
}

#[test]
fn the_linter_has_nothing_to_say() {
    let helm = require!(Helm::for_test("the_linter_has_nothing_to_say"));
    for file in values_files() {
        let mut command = helm.command();
        command.args(["lint", "--strict", "--quiet", "--values"]);
        command.arg(&file).arg(chart());
        output(command).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

/// A server-side dry run of an apply: unknown fields, wrong types and failed validation are errors.
#[test]
fn an_api_server_takes_every_object_of_every_mode() {
    let helm = require!(Helm::for_test("an_api_server_takes_every_object"));
    let cluster = require!(cluster("chart-dry-run"));
    for namespace in [NAMESPACE, "imageswap-agent", "corp-config"] {
        cluster.kubectl(["create", "namespace", namespace]).unwrap();
    }
    let version = format!("1.{}.0", cluster.assets().minor_version().unwrap());
    for file in values_files() {
        let objects = helm.render_file(&version, &file);
        // Objects of cert-manager and of the Prometheus operator are checked by their schemas.
        let ours: Vec<_> = objects
            .iter()
            .filter(|it| !it.is_of_another_project())
            .collect();
        let items: Vec<&Value> = ours.iter().map(|it| &it.0).collect();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
        let args = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
        let said = cluster
            .kubectl_with(args, &list.to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let taken = said.lines().filter(|it| it.contains("serverside-applied"));
        assert_eq!(taken.count(), ours.len(), "{}: {said}", file.display());
    }
}

/// Helm installs, upgrades and uninstalls; in between the webhook's writes are imitated.
#[test]
fn a_release_lives_and_leaves() {
    let helm = require!(Helm::for_test("a_release_lives_and_leaves"));
    let cluster = require!(cluster("chart-release"));
    let run = |args: &[&str]| {
        let mut command = helm.command();
        command.env("KUBECONFIG", cluster.kubeconfig());
        command.args(args).args(["--namespace", NAMESPACE]);
        said(command).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    };
    let get = |args: &str| {
        let mut all = vec!["-n", NAMESPACE, "get"];
        all.extend(args.split(' '));
        cluster.kubectl(all).unwrap()
    };
    // Before 1.21 only we set the label that excludes the namespace. Without it the webhook, which
    // does not run, would be called for its own Deployment.
    let labels = r#"{"metadata": {"labels": {"kubernetes.io/metadata.name": "imageswap-system"}}}"#;
    cluster.kubectl(["create", "namespace", NAMESPACE]).unwrap();
    cluster
        .kubectl(["patch", "namespace", NAMESPACE, "-p", labels])
        .unwrap();
    let chart = chart();
    let chart = chart.to_str().unwrap();
    let policies = helm::values_file("policies");
    let policies = ["--values", policies.to_str().unwrap()];
    let install = [
        &["install", RELEASE, chart, "--create-namespace"][..],
        &policies,
    ]
    .concat();
    let notes = run(&install);
    let is_old = cluster.assets().minor_version().unwrap() < 21;
    assert_eq!(notes.contains("before Kubernetes 1.21"), is_old, "{notes}");

    // The webhook fills what it finds empty.
    let bundle =
        r#"{"webhooks": [{"name": "swap.imageswap.io", "clientConfig": {"caBundle": "eA=="}}]}"#;
    let patch = [
        "patch",
        "mutatingwebhookconfiguration",
        RELEASE,
        "--type=strategic",
        "-p",
        bundle,
    ];
    cluster.kubectl(patch).unwrap();
    let data = r#"{"data": {"ca.crt": "eA=="}}"#;
    cluster
        .kubectl([
            "-n",
            NAMESPACE,
            "patch",
            "secret",
            "imageswap-webhook-tls",
            "-p",
            data,
        ])
        .unwrap();
    let texts = r#"{"data": {"maps": "default::x"}}"#;
    cluster
        .kubectl([
            "-n",
            NAMESPACE,
            "patch",
            "configmap",
            "imageswap-last-good",
            "-p",
            texts,
        ])
        .unwrap();

    let upgrade = [
        &[
            "upgrade",
            RELEASE,
            chart,
            "--set",
            "webhook.timeoutSeconds=7",
        ][..],
        &policies,
    ]
    .concat();
    for _ in 0..2 {
        run(&upgrade);
        let of = |path: &str| {
            get(&format!(
                "mutatingwebhookconfiguration imageswap -o jsonpath={{.webhooks[0].{path}}}"
            ))
        };
        assert_eq!(of("timeoutSeconds"), "7");
        assert_eq!(
            of("clientConfig.caBundle"),
            "eA==",
            "an upgrade takes nothing away"
        );
        assert_eq!(
            get("secret imageswap-webhook-tls -o jsonpath={.data.ca\\.crt}"),
            "eA=="
        );
        assert_eq!(
            get("configmap imageswap-last-good -o jsonpath={.data.maps}"),
            "default::x"
        );
    }
    assert_eq!(
        get("imageswappolicies -o jsonpath={.items[*].metadata.name}"),
        "audit corp"
    );

    // Nothing can be started while a configuration points at a webhook that is gone.
    let log = run(&["uninstall", RELEASE, "--debug"]);
    let kinds: Vec<_> = log
        .lines()
        .filter(|it| it.contains("starting delete resource"))
        .filter_map(|it| it.split("kind=").nth(1)?.split([' ', '"']).next())
        .collect();
    let at = |kind: &str| kinds.iter().position(|it| *it == kind);
    let webhook = at("Deployment").unwrap_or_else(|| panic!("{log}"));
    for kind in [
        "MutatingWebhookConfiguration",
        "ValidatingWebhookConfiguration",
    ] {
        let place = at(kind).unwrap_or_else(|| panic!("{log}"));
        assert!(place < webhook, "{kinds:?}");
    }
    assert_eq!(
        get(
            "all,secrets,configmaps -o name --ignore-not-found -l app.kubernetes.io/instance=imageswap"
        ),
        ""
    );
    let crd = get("crd -o name");
    assert!(
        crd.contains("imageswappolicies.imageswap.io"),
        "policies outlive the release: {crd}"
    );
}

/// Both streams of a program that succeeds.
fn said(mut command: Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, log) = (text(&output.stdout), text(&output.stderr));
    output
        .status
        .success()
        .then_some(format!("{out}{log}"))
        .ok_or(log)
}
