//! The chart's configurations on an API server of a current version: what reaches the webhook, and what is stored.
//!
//! Kubernetes' own admission evaluates the configurations: match conditions, subresources, reinvocation, server-side
//! apply. Only `clientConfig` is another one, because the webhook is a process of this machine.

use std::time::Duration;

use imageswap_lab::{ControlPlane, ControlPlaneOptions, require, shipped, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, Serving, serve};

/// The API server uses a configuration a second or so after it is stored.
const PATIENCE: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "shop";
/// Images of `docker.io` become `registry.example.com/hub`; nothing else is approved.
const POLICY: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  rules: [{name: hub, from: 'docker.io/**', to: registry.example.com/hub}]
  enforcement: deny
";
/// A lax policy for namespaces with a label.
const BY_LABEL: &str = "
---
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: exempt}
spec:
  priority: 10
  match: {namespaceSelector: {matchLabels: {exempt: 'yes'}}}
  rules: [{name: all, keep: '**'}]
";
const EVIL: &str = "evil.example.net/miner";

/// An API server with the chart's configurations, and the webhook that they call.
struct Cluster {
    plane: ControlPlane,
    webhook: Serving,
    folder: TempDir,
}

impl Cluster {
    /// `None` after saying that the test is skipped.
    async fn start(test: &str) -> Option<Self> {
        Self::start_with(test, POLICY).await
    }

    async fn start_with(test: &str, policies: &str) -> Option<Self> {
        let options = ControlPlaneOptions {
            current: true,
            ..ControlPlaneOptions::default()
        };
        let plane = ControlPlane::for_test(test, options)?;
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.yaml");
        std::fs::write(&policy, policies).unwrap();
        let mut command = process::serving(folder.path(), "127.0.0.1:0", "127.0.0.1:0");
        command.arg("--policy").arg(policy);
        command.arg("--kubeconfig").arg(plane.kubeconfig());
        let webhook = serve(command).await;
        let cluster = Self {
            plane,
            webhook,
            folder,
        };
        cluster.kubectl(&["create", "namespace", NAMESPACE]);
        // Stored before anything is asked about it.
        cluster.create(&app("old", EVIL));
        for kind in ["Mutating", "Validating"] {
            cluster.configure(&of_chart(kind), &cluster.webhook, &cluster.folder);
        }
        cluster.until("the webhook is asked", || {
            let probe = cluster.dry_run(&app("probe", "a"));
            let denied = cluster.dry_run(&app("probe", EVIL));
            probe
                .is_ok_and(|it| image(&it, "containers", 0) == "registry.example.com/hub/library/a")
                && denied.is_err()
        });
        Some(cluster)
    }

    /// Applies a configuration whose webhooks are those of `webhook`.
    fn configure(&self, configuration: &Value, webhook: &Serving, certificates: &TempDir) {
        let mut configuration = configuration.clone();
        webhook.is_called_by(&mut configuration, certificates.path());
        self.plane.apply(&configuration.to_string()).unwrap();
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let all = ["-n", NAMESPACE].iter().chain(args);
        self.plane.kubectl(all).unwrap()
    }

    /// What kubectl says when an object is not taken.
    fn refused(&self, object: &Value) -> String {
        self.answer(&["create"], object).unwrap_err()
    }

    /// Creates an object, and returns what was stored.
    fn create(&self, object: &Value) -> Value {
        self.answer(&["create"], object).unwrap()
    }

    fn dry_run(&self, object: &Value) -> Result<Value, String> {
        self.answer(&["create", "--dry-run=server"], object)
    }

    /// The object that kubectl prints, or what it says to a refusal.
    fn answer(&self, args: &[&str], object: &Value) -> Result<Value, String> {
        let args = ["-n", NAMESPACE]
            .iter()
            .chain(args)
            .chain(&["-o", "json", "-f", "-"]);
        let answer = self.plane.kubectl_with(args, &object.to_string());
        let answer = answer.map_err(|error| error.stderr().to_owned())?;
        Ok(serde_json::from_str(&answer).unwrap())
    }

    fn get(&self, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", "pod", name, "-o", "json"])).unwrap()
    }

    fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(
            wait_until(PATIENCE, holds),
            "never: {what}\n{}",
            self.plane.apiserver_log()
        );
    }
}

/// The chart's configuration, with its match conditions.
fn of_chart(kind: &str) -> Value {
    let kind = format!("{kind}WebhookConfiguration");
    let mut configuration = shipped(&[&kind]).unwrap().remove(0);
    // As the webhook does while a policy is in force.
    let rules = configuration["metadata"]["annotations"]["imageswap.io/rules"].take();
    let rules: Value = serde_json::from_str(rules.as_str().unwrap()).unwrap();
    let hooks = configuration["webhooks"].as_array_mut().unwrap();
    let name = hooks[0]["name"].as_str().unwrap().to_owned();
    hooks[0]["rules"] = rules[name].clone();
    assert!(hooks[0]["matchConditions"].is_array() && hooks[0]["rules"].is_array());
    configuration
}

fn pod(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// A Pod with one container.
fn app(name: &str, image: &str) -> Value {
    pod(
        name,
        &json!({"containers": [{"name": "app", "image": image}]}),
    )
}

fn image<'a>(pod: &'a Value, list: &str, at: usize) -> &'a str {
    pod["spec"][list][at]["image"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_current_api_server_asks_about_every_image_and_stores_the_answers() {
    let cluster = require!(Cluster::start("current-images").await);
    every_field_is_swapped_or_refused(&cluster);
    updates_are_asked_about_what_they_change(&cluster);
    ephemeral_containers_are_swapped_or_refused(&cluster);
    applying_again_changes_nothing(&cluster);
    templates_are_refused_where_they_are_written(&cluster);
}

/// Labels of a namespace count from its first Pod on, which comes before any watch reports them.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_pod_of_a_new_namespace_is_decided_by_its_labels() {
    let policies = [POLICY, BY_LABEL].concat();
    let cluster = require!(Cluster::start_with("current-namespaces", &policies).await);
    let swapped = "registry.example.com/hub/library/nginx";
    for number in 0..24 {
        let is_exempt = number % 2 == 0;
        let asked = if number % 4 < 2 { EVIL } else { "nginx" };
        let name = format!("new-{number}");
        let labels = if is_exempt {
            json!({"exempt": "yes"})
        } else {
            json!({})
        };
        let mut first = app("first", asked);
        first["metadata"]["namespace"] = json!(name);
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels}});
        // One command, which creates one right after the other.
        let both = json!({"apiVersion": "v1", "kind": "List", "items": [namespace, first]});
        let made = cluster
            .plane
            .kubectl_with(["create", "-f", "-"], &both.to_string());
        if let Err(error) = &made {
            let said = error.stderr();
            assert!(!is_exempt && asked == EVIL, "{name}: {said}");
            assert!(said.contains("policy corp"), "{name}: {said}");
            continue;
        }
        let args = ["-n", &name, "get", "pod", "first", "-o", "json"];
        let stored = cluster.plane.kubectl(args).unwrap();
        let stored: Value = serde_json::from_str(&stored).unwrap();
        let expected = match (is_exempt, asked) {
            (true, asked) => asked,
            (false, "nginx") => swapped,
            (false, _) => panic!("{name}: an image that is not approved was let in"),
        };
        assert_eq!(image(&stored, "containers", 0), expected, "{name}");
    }
}

fn every_field_is_swapped_or_refused(cluster: &Cluster) {
    let spec = |app: &str, sidecar: &str, volume: &str| {
        json!({
            "initContainers": [
                {"name": "sidecar", "image": sidecar, "restartPolicy": "Always"},
                {"name": "init", "image": "docker.io/library/init:1"},
            ],
            "containers": [{"name": "app", "image": app,
                "volumeMounts": [{"name": "model", "mountPath": "/model"}]}],
            "volumes": [{"name": "model", "image": {"reference": volume, "pullPolicy": "IfNotPresent"}}],
        })
    };
    let made = cluster.create(&pod(
        "fields",
        &spec("app", "acme/sidecar:2", "acme/model:3"),
    ));
    let hub = "registry.example.com/hub";
    assert_eq!(image(&made, "containers", 0), format!("{hub}/library/app"));
    assert_eq!(
        image(&made, "initContainers", 0),
        format!("{hub}/acme/sidecar:2")
    );
    assert_eq!(
        image(&made, "initContainers", 1),
        format!("{hub}/library/init:1")
    );
    assert_eq!(made["spec"]["initContainers"][0]["restartPolicy"], "Always");
    let volume = &made["spec"]["volumes"][0]["image"];
    assert_eq!(
        *volume,
        json!({"reference": format!("{hub}/acme/model:3"), "pullPolicy": "IfNotPresent"})
    );

    for (place, spec) in [
        ("app", spec(EVIL, "b", "c")),
        ("sidecar", spec("a", EVIL, "c")),
        ("model", spec("a", "b", EVIL)),
    ] {
        let said = cluster.refused(&pod("evil", &spec));
        assert!(
            said.contains("validate.imageswap.io") && said.contains(place) && said.contains(EVIL),
            "{said}"
        );
    }
}

fn updates_are_asked_about_what_they_change(cluster: &Cluster) {
    let set = |name: &str, image: &str| {
        json!({"spec": {"containers": [{"name": name, "image": image}]}}).to_string()
    };
    let patch = |pod: &str, patch: &str| {
        let args = ["patch", "pod", pod, "--type=strategic", "-p", patch];
        cluster.plane.kubectl(["-n", NAMESPACE].iter().chain(&args))
    };
    patch("fields", &set("app", "app:2")).unwrap();
    assert_eq!(
        image(&cluster.get("fields"), "containers", 0),
        "registry.example.com/hub/library/app:2"
    );
    let said = patch("fields", &set("app", EVIL))
        .unwrap_err()
        .stderr()
        .to_owned();
    assert!(said.contains("validate.imageswap.io"), "{said}");

    // A Pod of before the configurations keeps its image while something else changes.
    let label = r#"{"metadata": {"labels": {"team": "a"}}}"#;
    patch("old", label).unwrap();
    assert_eq!(image(&cluster.get("old"), "containers", 0), EVIL);
    patch("old", &set("app", "app:2")).unwrap();
    assert_eq!(
        image(&cluster.get("old"), "containers", 0),
        "registry.example.com/hub/library/app:2"
    );
}

fn ephemeral_containers_are_swapped_or_refused(cluster: &Cluster) {
    let debug = |name: &str, image: &str| {
        let patch = json!({"spec": {"ephemeralContainers": [{"name": name, "image": image}]}});
        let args = [
            "patch",
            "pod",
            "fields",
            "--subresource=ephemeralcontainers",
            "--type=strategic",
            "-p",
        ];
        let all = ["-n", NAMESPACE]
            .iter()
            .chain(&args)
            .map(ToString::to_string);
        cluster.plane.kubectl(all.chain([patch.to_string()]))
    };
    debug("shell", "busybox").unwrap();
    let stored = cluster.get("fields");
    assert_eq!(
        image(&stored, "ephemeralContainers", 0),
        "registry.example.com/hub/library/busybox"
    );
    let said = debug("evil", EVIL).unwrap_err().stderr().to_owned();
    assert!(
        said.contains("validate.imageswap.io") && said.contains(EVIL),
        "{said}"
    );
}

/// With server-side apply and with kubectl's own, the second time stores nothing and conflicts with nobody.
fn applying_again_changes_nothing(cluster: &Cluster) {
    for (name, how) in [
        ("server-side", &["--server-side"][..]),
        ("client-side", &[]),
    ] {
        let manifest = app(name, "nginx").to_string();
        let args = ["-n", NAMESPACE, "apply", "-f", "-"];
        let apply = || {
            cluster
                .plane
                .kubectl_with(args.iter().chain(how), &manifest)
                .unwrap()
        };
        apply();
        let first = cluster.get(name);
        assert_eq!(
            image(&first, "containers", 0),
            "registry.example.com/hub/library/nginx"
        );
        apply();
        let second = cluster.get(name);
        assert_eq!(
            image(&second, "containers", 0),
            image(&first, "containers", 0)
        );
        assert_eq!(
            second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"],
            "{name}: {second:#}"
        );
    }
}

fn templates_are_refused_where_they_are_written(cluster: &Cluster) {
    let deployment = |name: &str, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": image}]}},
        }})
    };
    // Only its Pods are swapped; the template does not change.
    let made = cluster.create(&deployment("web", "nginx"));
    let template = &made["spec"]["template"];
    assert_eq!(image(template, "containers", 0), "nginx");
    let said = cluster.refused(&deployment("miner", EVIL));
    assert!(said.contains("validate.imageswap.io"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn match_conditions_of_the_chart_save_calls_and_let_nothing_else_past() {
    let cluster = require!(Cluster::start("current-conditions").await);
    let mirror = |name: &str| {
        let mut mirror = app(name, EVIL);
        mirror["spec"]["nodeName"] = json!("n1");
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        mirror
    };
    let kubelet = cluster
        .plane
        .kubeconfig_for("system:node:n1", Some("system:nodes"))
        .unwrap();
    let as_kubelet = ["create", "--kubeconfig", kubelet.to_str().unwrap()];
    let before = cluster.webhook.reviews().await;
    let made = cluster.answer(&as_kubelet, &mirror("mirror")).unwrap();
    assert_eq!(image(&made, "containers", 0), EVIL);
    assert_eq!(
        cluster.webhook.reviews().await,
        before,
        "a kubelet's mirror Pod"
    );

    // The annotation of anybody else, and a kubelet's Pod without it, save nothing.
    let said = cluster.refused(&mirror("forged"));
    assert!(said.contains("validate.imageswap.io"), "{said}");
    let mut plain = mirror("plain");
    plain["metadata"]["annotations"] = json!({"other": "x"});
    let said = cluster.answer(&as_kubelet, &plain).unwrap_err();
    assert!(said.contains("validate.imageswap.io"), "{said}");
    assert_eq!(cluster.webhook.reviews().await, before + 4);

    // Whatever happens to a Pod that is being deleted concerns nobody.
    let mut going = app("going", "nginx");
    going["metadata"]["finalizers"] = json!(["example.com/wait"]);
    cluster.create(&going);
    cluster.kubectl(&["delete", "pod", "going", "--wait=false"]);
    let before = cluster.webhook.reviews().await;
    let free = r#"{"metadata": {"finalizers": null}}"#;
    cluster.kubectl(&["patch", "pod", "going", "--type=merge", "-p", free]);
    assert_eq!(
        cluster.webhook.reviews().await,
        before,
        "an update of a Pod that goes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_another_webhook_writes_is_swapped_on_reinvocation() {
    let cluster = require!(Cluster::start("current-reinvocation").await);
    // Another mutating webhook, which is called after the chart's because its configuration's name comes later.
    let other = tempfile::tempdir().unwrap();
    let maps = other.path().join("maps");
    std::fs::write(&maps, "default:\nquay.io:docker.io\n").unwrap();
    let later = serve(process::command(
        &maps,
        other.path(),
        "127.0.0.1:0",
        "127.0.0.1:0",
    ))
    .await;
    let mut configuration = of_chart("Mutating");
    configuration["metadata"] = json!({"name": "zz-later"});
    configuration["webhooks"][0]["name"] = json!("later.example.com");
    let quay = app("quay", "quay.io/acme/app:1");
    let said = cluster.dry_run(&quay).unwrap_err();
    assert!(said.contains("quay.io/acme/app:1"), "{said}");
    cluster.configure(&configuration, &later, &other);
    let swapped = "registry.example.com/hub/acme/app:1";
    cluster.until("both are asked, ours once more", || {
        cluster
            .dry_run(&quay)
            .is_ok_and(|it| image(&it, "containers", 0) == swapped)
    });

    // Without reinvocation what the other one wrote is refused, because nobody swaps it.
    let mut once = of_chart("Mutating");
    once["webhooks"][0]["reinvocationPolicy"] = json!("Never");
    cluster.configure(&once, &cluster.webhook, &cluster.folder);
    cluster.until("the image of the other one is refused", || {
        cluster
            .dry_run(&quay)
            .is_err_and(|said| said.contains("docker.io/acme/app:1"))
    });
}
