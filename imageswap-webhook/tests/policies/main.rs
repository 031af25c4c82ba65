//! Follows policies of a real API server, with exactly the rights of the manifests.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use imageswap_lab::{ControlPlane, ControlPlaneOptions, require};
use imageswap_policy::Policy;
use imageswap_runtime::admin::Readiness;
use imageswap_runtime::cluster::ClusterArgs;
use imageswap_runtime::drain::Drain;
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::{Namespaces, PolicyArgs, PolicySource, PullSecrets};
use kube::Client;

/// How long to wait for something that must happen; a failed watch is retried after half a minute.
const PATIENCE: Duration = Duration::from_mins(1);
const GARBAGE: &str = "this is no maps file";

/// A process that follows the cluster.
struct Follower {
    source: PolicySource,
    readiness: Readiness,
    exporter: Exporter,
    drain: Drain,
}

struct Cluster {
    plane: ControlPlane,
    account: PathBuf,
}

impl Cluster {
    fn start(test: &str) -> Option<Self> {
        let plane = ControlPlane::for_test(test, ControlPlaneOptions::default())?;
        let account = plane.install_rights().unwrap();
        Some(Self { plane, account })
    }

    async fn client(&self) -> Client {
        let args = ClusterArgs {
            kubeconfig: Some(self.account.clone()),
            context: None,
        };
        args.client().await.unwrap()
    }

    async fn follow(&self) -> Follower {
        let args = PolicyArgs {
            policy_from_cluster: true,
            maps_configmap: Some("imageswap-system/imageswap-maps".parse().unwrap()),
            last_good_configmap: Some("imageswap-system/imageswap-last-good".parse().unwrap()),
            ..PolicyArgs::default()
        };
        let source = args.load(Some(&self.client().await)).unwrap();
        let (readiness, exporter, drain) = (Readiness::new(), Exporter::new(), Drain::new());
        let ready = readiness.condition("policy");
        let metrics = exporter.policy_metrics();
        tokio::spawn(source.clone().watch(drain.clone(), metrics, ready));
        Follower {
            source,
            readiness,
            exporter,
            drain,
        }
    }

    fn maps(&self, text: &str) {
        let text = serde_json::Value::from(text);
        let map = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: imageswap-maps, namespace: imageswap-system}}\n\
             data: {{maps: {text}}}"
        );
        self.plane.apply(&map).unwrap();
    }

    fn policy(&self, name: &str, spec: &str) {
        let policy = format!(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}"
        );
        self.plane.apply(&policy).unwrap();
    }

    fn get(&self, path: &str) -> String {
        let args = ["get", "isp", "corp", "-o", &format!("jsonpath={path}")];
        self.plane.kubectl(args).unwrap()
    }
}

impl Follower {
    fn in_force(&self) -> Vec<String> {
        let policies = self.source.current();
        policies
            .iter()
            .map(Policy::name)
            .map(str::to_owned)
            .collect()
    }

    fn set_revision(&self) -> String {
        self.source.current().set_revision().to_owned()
    }

    async fn until(&self, names: &[&str]) {
        eventually(&format!("{names:?} in force"), || {
            self.in_force() == names && self.readiness.missing().is_empty()
        })
        .await;
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never seen: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("{what}: after {} ms", start.elapsed().as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_outlive_bad_edits_restarts_and_the_api_server() {
    let mut cluster = require!(Cluster::start("policies-outlive"));
    // A maps file alone, in a cluster without the ImageSwapPolicy resource.
    cluster.maps("default::r.io");
    let first = cluster.follow().await;
    first.until(&["maps"]).await;
    cluster.plane.install_definition().unwrap();
    cluster.policy("corp", "rules: [{from: '**', to: r.io}]");
    first.until(&["corp", "maps"]).await;
    let corp = first.set_revision();

    // Bad edits change nothing, and are reported in the object's status.
    cluster.policy("corp", "rules: [{from: '**', to: nowhere}]");
    eventually("the status says why", || {
        cluster.get("{.status.conditions[0].status}") == "False"
    })
    .await;
    let message = cluster.get("{.status.conditions[0].message}");
    assert!(message.starts_with("spec.rules[0].to: error["), "{message}");
    // A field that the schema does not know reaches our reader, and is reported.
    cluster.policy(
        "corp",
        "rules: [{from: '**', to: nowhere}], enforcment: deny",
    );
    eventually("and says it of the next mistake", || {
        let message = cluster.get("{.status.conditions[0].message}");
        message.starts_with("spec.enforcment: error[unknown-field]: ")
    })
    .await;
    cluster.maps(GARBAGE);
    eventually("both are counted", || {
        let line = "imageswap_policy_reload_failures_total 3";
        first.exporter.render().lines().any(|it| it == line)
    })
    .await;
    assert_eq!(first.set_revision(), corp);

    // A restart at this point.
    first.drain.start();
    let second = cluster.follow().await;
    second.until(&["corp", "maps"]).await;
    assert_eq!(second.set_revision(), corp);

    // The API server stops, and starts again.
    cluster.plane.stop_apiserver();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(second.set_revision(), corp);
    cluster.plane.start_apiserver().unwrap();
    cluster.policy("corp", "rules: [{from: '**', to: s.io}]");
    eventually("an edit after that", || second.set_revision() != corp).await;
    eventually("the status is good again", || {
        cluster.get("{.status.conditions[0].status}") == "True"
    })
    .await;
    let shown = cluster.plane.kubectl(["get", "isp"]).unwrap();
    let head: Vec<_> = shown.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        head.join(" "),
        "NAME ENFORCEMENT PRIORITY ACCEPTED REVISION AGE"
    );

    // A deleted policy goes out of force, and stays out.
    cluster.plane.kubectl(["delete", "isp", "corp"]).unwrap();
    second.until(&["maps"]).await;
    let last_good = || {
        let args = "get configmap -n imageswap-system imageswap-last-good -o json".split(' ');
        let map = cluster.plane.kubectl(args).unwrap();
        let map: serde_json::Value = serde_json::from_str(&map).unwrap();
        map["data"].clone()
    };
    eventually("it is no longer kept", || {
        last_good() == serde_json::json!({"maps": "default::r.io"})
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_in_force_within_a_second() {
    let cluster = require!(Cluster::start("policies-edit"));
    cluster.plane.install_definition().unwrap();
    let follower = cluster.follow().await;
    eventually("ready without a policy", || {
        follower.readiness.missing().is_empty()
    })
    .await;
    assert!(follower.in_force().is_empty());
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let before = follower.set_revision();
        cluster.policy("corp", &format!("rules: [{{from: '**', to: r{round}.io}}]"));
        let start = Instant::now();
        eventually("the edit", || follower.set_revision() != before).await;
        slowest = slowest.max(start.elapsed());
    }
    eprintln!(
        "slowest of 5 edits in force after {} ms",
        slowest.as_millis()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_and_pull_secrets_are_known() {
    let cluster = require!(Cluster::start("policies-known"));
    cluster.plane.install_definition().unwrap();
    let follower = cluster.follow().await;
    let client = cluster.client().await;
    let (namespaces, secrets) = (Namespaces::unknown(), PullSecrets::unknown());
    let drain = Drain::new();
    let synced = follower.readiness.condition("namespaces");
    tokio::spawn(
        namespaces
            .clone()
            .watch(client.clone(), synced, drain.clone()),
    );
    tokio::spawn(
        secrets
            .clone()
            .watch(client, follower.source.clone(), drain.clone()),
    );
    let label = |name: &str| {
        namespaces
            .labels(name)
            .and_then(|it| it.get("team").cloned())
    };

    let kubectl = |words: &str| cluster.plane.kubectl(words.split(' ')).unwrap();
    kubectl("create namespace shop");
    kubectl("label namespace shop team=a");
    eventually("the label", || label("shop").as_deref() == Some("a")).await;
    kubectl("label namespace shop team-");
    eventually("its end", || {
        namespaces.labels("shop").is_some() && label("shop").is_none()
    })
    .await;

    cluster.policy(
        "corp",
        "rules: [{from: '**', to: r.io}], imagePullSecrets: [{registry: r.io, name: corp-pull}]",
    );
    follower.until(&["corp"]).await;
    // It may not read Secrets, which is not the same as a missing Secret.
    assert_eq!(secrets.exists("shop", "corp-pull"), None);
    let rights = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/examples/pull-secrets.yaml"
    );
    cluster.plane.kubectl(["apply", "-f", rights]).unwrap();
    eventually("it may look", || {
        secrets.exists("shop", "corp-pull") == Some(false)
    })
    .await;
    kubectl("create secret generic corp-pull -n shop");
    eventually("the Secret", || {
        secrets.exists("shop", "corp-pull") == Some(true)
    })
    .await;
}
