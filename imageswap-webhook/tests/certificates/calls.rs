//! The API server calls two webhooks for every ConfigMap, with failurePolicy Fail, while their certificates are
//! replaced.
//!
//! A ConfigMap has no images, so no patch is answered: an API server of Kubernetes 1.20 built by a
//! recent Go crashes on patches, because its JSON library reads the runtime's maps by their layout
//! before Go 1.24.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use imageswap_lab::require;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::replica::{SECRET, eventually};

/// An authority is replaced every half minute; an API server uses a new caBundle within two
/// seconds.
const TIMES: [&str; 3] = [
    "--tls-leaf-lifetime=9s",
    "--tls-ca-lifetime=45s",
    "--tls-propagation=3s",
];

struct Webhook {
    process: Child,
    port: u16,
}

impl Webhook {
    fn start(cluster: &Cluster, maps: &Path) -> Self {
        let port = free_port();
        let process = Command::new(env!("CARGO_BIN_EXE_imageswap-webhook"))
            .arg("serve")
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--admin=127.0.0.1:{}", free_port()))
            .arg(format!("--maps={}", maps.display()))
            .arg(format!("--kubeconfig={}", cluster.account.display()))
            .arg(format!("--tls-secret=imageswap-system/{SECRET}"))
            .arg("--tls-san=127.0.0.1")
            .args(TIMES)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, port }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_never_refused_while_authorities_are_replaced() {
    let cluster = require!(Cluster::start("certificates-calls").await);
    let dir = tempfile::tempdir().unwrap();
    let maps = dir.path().join("maps.conf");
    std::fs::write(&maps, "default: registry.example.com\n").unwrap();
    cluster.secret("");
    let webhooks = [
        Webhook::start(&cluster, &maps),
        Webhook::start(&cluster, &maps),
    ];
    cluster.plane.apply(&configuration(&webhooks)).unwrap();

    let objects = Api::<ConfigMap>::namespaced(cluster.client.clone(), "default");
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "web"}})).unwrap();
    let create = async || objects.create(&params, &object).await;
    eventually("an answer", async || create().await.is_ok()).await;
    // An API server may call the one webhook before it knows the caBundle of the other.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let (mut calls, mut authorities) = (0, BTreeSet::new());
    let deadline = Instant::now() + Duration::from_mins(3);
    while authorities.len() < 3 && Instant::now() < deadline {
        if let Err(error) = create().await {
            panic!("call {calls}, authority {}: {error}", authorities.len());
        }
        calls += webhooks.len();
        let bundle = String::from_utf8(cluster.bundles().await.remove(0)).unwrap();
        authorities.insert(
            bundle
                .split_inclusive("-----END")
                .next()
                .unwrap()
                .to_owned(),
        );
    }
    eprintln!("{calls} calls, {} authorities", authorities.len());
    assert_eq!(authorities.len(), 3, "rotations of the authority");
}

/// Both are called for every ConfigMap, by their addresses, because there are no Services here.
fn configuration(webhooks: &[Webhook]) -> String {
    let webhooks: Vec<_> = webhooks
        .iter()
        .map(|webhook| {
            json!({
                "name": format!("w{}.imageswap.io", webhook.port),
                "clientConfig": {"url": format!("https://127.0.0.1:{}/mutate", webhook.port)},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
                "failurePolicy": "Fail",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            })
        })
        .collect();
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "imageswap"},
        "webhooks": webhooks,
    });
    object.to_string()
}

fn free_port() -> u16 {
    let address = imageswap_lab::free_address(Ipv4Addr::LOCALHOST);
    address.unwrap().port()
}
