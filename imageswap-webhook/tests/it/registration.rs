//! The API server calls the webhook for Pods while a policy is in force, and not before: with the
//! chart's configurations, its rights, and a real API server.

use std::path::PathBuf;
use std::time::Duration;

use imageswap_lab::{ControlPlane, ControlPlaneOptions, require, shipped, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, Serving, admin, serve};

/// The API server uses a configuration a second or so after it is stored.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than an API server takes to use a configuration.
const SETTLED: Duration = Duration::from_secs(3);
const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";
const POLICY: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  rules: [{name: hub, from: 'docker.io/**', to: registry.example.com/hub}]
";
/// It does not load: a rule needs a target.
const BAD_POLICY: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  rules: [{name: hub, from: 'docker.io/**'}]
";
const SWAPPED: &str = "registry.example.com/hub/library/nginx";

struct Cluster {
    plane: ControlPlane,
    account: PathBuf,
    folder: TempDir,
}

impl Cluster {
    /// What the chart installs, but for the webhook's Pods.
    fn start(test: &str) -> Option<Self> {
        let plane = ControlPlane::for_test(test, ControlPlaneOptions::default())?;
        plane.install_definition().unwrap();
        let account = plane.install_rights().unwrap();
        let folder = tempfile::tempdir().unwrap();
        Some(Self {
            plane,
            account,
            folder,
        })
    }

    /// Applies the chart's configurations, as calls of `webhook`. `change` changes them first.
    fn configure(&self, webhook: &Serving, change: impl Fn(&mut Value)) {
        for mut object in shipped(&[MUTATING, VALIDATING]).unwrap() {
            webhook.is_called_by(&mut object, self.folder.path());
            for hook in object["webhooks"].as_array_mut().unwrap() {
                // An API server before 1.28 does not know them.
                hook.as_object_mut().unwrap().remove("matchConditions");
            }
            change(&mut object);
            let args = ["apply", "--server-side", "-f", "-"];
            self.plane.kubectl_with(args, &object.to_string()).unwrap();
        }
    }

    async fn webhook(&self) -> Serving {
        let mut command = process::serving(self.folder.path(), "127.0.0.1:0", "127.0.0.1:0");
        command.arg("--kubeconfig").arg(&self.account);
        command.args([
            "--policy-from-cluster",
            "--maps-configmap=imageswap-system/imageswap-maps",
            "--last-good-configmap=imageswap-system/imageswap-last-good",
            "--register-mutating=imageswap",
            "--register-validating=imageswap",
        ]);
        serve(command).await
    }

    /// The image of a Pod that is created as a dry run, or why it is refused.
    fn pod(&self, image: &str) -> Result<String, String> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"},
            "spec": {"containers": [{"name": "app", "image": image}]}});
        let args = ["create", "--dry-run=server", "-f", "-", "-o"];
        let args = args.iter().chain(&["jsonpath={.spec.containers[0].image}"]);
        let answer = self.plane.kubectl_with(args, &pod.to_string());
        answer.map_err(|error| error.stderr().to_owned())
    }

    /// How many rules for Pods each configuration has.
    fn rules(&self) -> [usize; 2] {
        [MUTATING, VALIDATING].map(|kind| {
            let args = ["get", kind, "imageswap", "-o", "json"];
            let object: Value = serde_json::from_str(&self.plane.kubectl(args).unwrap()).unwrap();
            let rules = object["webhooks"][0]["rules"].as_array();
            rules.map_or(0, Vec::len)
        })
    }

    /// They change with any change of a configuration.
    fn versions(&self) -> [String; 2] {
        [MUTATING, VALIDATING].map(|kind| {
            let path = "jsonpath={.metadata.resourceVersion}";
            let args = ["get", kind, "imageswap", "-o", path];
            self.plane.kubectl(args).unwrap()
        })
    }

    fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(
            wait_until(PATIENCE, holds),
            "never: {what}\n{}",
            self.plane.apiserver_log()
        );
    }

    fn is_swapped(&self) -> bool {
        self.pod("nginx").is_ok_and(|it| it == SWAPPED)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_sent_to_the_webhook_only_while_a_policy_is_in_force() {
    let cluster = require!(Cluster::start("registration"));
    // The chart is installed, and the webhook cannot be reached.
    let mut gone = cluster.webhook().await;
    gone.child.kill().await.unwrap();
    cluster.configure(&gone, |_| {});
    tokio::time::sleep(SETTLED).await;
    assert_eq!(cluster.rules(), [0, 0]);
    assert_eq!(cluster.pod("nginx").as_deref(), Ok("nginx"));

    // It can be called, but no policy is in force.
    let mut webhook = cluster.webhook().await;
    cluster.configure(&webhook, |_| {});
    // Longer than the webhook waits with rules that it would remove.
    tokio::time::sleep(SETTLED * 2).await;
    assert_eq!(cluster.pod("nginx").as_deref(), Ok("nginx"));
    assert_eq!((cluster.rules(), webhook.reviews().await), ([0, 0], 0));
    // Policies are validated already.
    cluster.until("a policy that is refused", || {
        let args = ["create", "--dry-run=server", "-f", "-"];
        let answer = cluster.plane.kubectl_with(args, BAD_POLICY);
        answer.is_err_and(|error| error.stderr().contains("does not load"))
    });
    assert_eq!(cluster.rules(), [0, 0]);

    // A policy.
    cluster.plane.apply(POLICY).unwrap();
    cluster.until("a swapped Pod", || cluster.is_swapped());
    cluster.until("a refused Pod", || cluster.pod("evil.io/x").is_err());
    assert_eq!(cluster.rules(), [2, 5]);

    // Another apply of the chart, and somebody who removes the rules.
    let before = cluster.versions();
    cluster.configure(&webhook, |_| {});
    assert_eq!((cluster.rules(), cluster.versions()), ([2, 5], before));
    for kind in [MUTATING, VALIDATING] {
        let patch = r#"[{"op": "replace", "path": "/webhooks/0/rules", "value": []}]"#;
        let args = ["patch", kind, "imageswap", "--type=json", "-p", patch];
        cluster.plane.kubectl(args).unwrap();
    }
    cluster.until("the rules again", || cluster.rules() == [2, 5]);
    // A release that is about other resources.
    cluster.configure(&webhook, |object| {
        let annotations = &mut object["metadata"]["annotations"]["imageswap.io/rules"];
        let text = annotations.as_str().unwrap();
        let mut rules: Value = serde_json::from_str(text).unwrap();
        if let Some(rules) = rules.get_mut("validate.imageswap.io") {
            rules.as_array_mut().unwrap().truncate(2);
        }
        *annotations = json!(rules.to_string());
    });
    cluster.until("the rules of the other release", || {
        cluster.rules() == [2, 2]
    });

    // With another policy in its place, the rules stay all the time.
    let (delete, create) = (["delete", "isp", "corp"], POLICY.replace("corp", "other"));
    cluster.plane.kubectl(delete).unwrap();
    cluster.plane.apply(&create).unwrap();
    for _ in 0..30 {
        assert_eq!(cluster.rules(), [2, 2]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(cluster.is_swapped());

    // While there is a policy, failurePolicy counts.
    webhook.child.kill().await.unwrap();
    let refused = cluster.pod("nginx").unwrap_err();
    assert!(refused.contains("swap.imageswap.io"), "{refused}");

    // No policy.
    cluster.plane.kubectl(["delete", "isp", "other"]).unwrap();
    let mut webhook = cluster.webhook().await;
    cluster.until("no rules", || cluster.rules() == [0, 0]);
    webhook.child.kill().await.unwrap();
    cluster.until("a Pod as it is written", || {
        cluster.pod("nginx").is_ok_and(|it| it == "nginx")
    });
}

/// Rules that cannot be written are reported: a policy that nobody asks for is not a quiet failure.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_cannot_be_written_are_reported() {
    let cluster = require!(Cluster::start("registration-fails"));
    let webhook = cluster.webhook().await;
    let failing = async || {
        let metrics = admin(webhook.admin, "/metrics").await;
        let kinds = ["mutating", "validating"];
        kinds.map(|kind| {
            let series =
                format!("imageswap_admission_unregistered{{configuration=\"{kind}\"}} 1\n");
            metrics.contains(&series)
        })
    };
    let until = async |what: &str, expected: [bool; 2]| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while failing().await != expected {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(failing().await, [false, false]);
    // The configurations are missing.
    cluster.plane.apply(POLICY).unwrap();
    until("both are missing", [true, true]).await;
    // One cannot be verified, because whoever keeps the caBundle has not written it yet.
    cluster.configure(&webhook, |object| {
        if object["kind"] == MUTATING {
            for hook in object["webhooks"].as_array_mut().unwrap() {
                hook["clientConfig"]
                    .as_object_mut()
                    .unwrap()
                    .remove("caBundle");
            }
        }
    });
    until("one is there", [true, false]).await;
    assert_eq!(cluster.rules(), [0, 5]);
    cluster.configure(&webhook, |_| {});
    until("both are there", [false, false]).await;
    assert_eq!(cluster.rules(), [2, 5]);
    // Somebody damages the annotation: what is registered stays.
    let annotate = [
        "annotate",
        "--overwrite",
        MUTATING,
        "imageswap",
        "imageswap.io/rules={",
    ];
    cluster.plane.kubectl(annotate).unwrap();
    until("a damaged annotation", [true, false]).await;
    assert_eq!(cluster.rules(), [2, 5]);
    cluster.until("a swapped Pod", || cluster.is_swapped());
}
