//! Runs `imageswap scan` against a real API server.

use crate::folder::{Folder, imageswap};
use imageswap_lab::{
    ControlPlane, ControlPlaneOptions, Image, Lab, Ran, Registry, require, wait_until,
};
use kube::api::{PostParams, Request};
use serde_json::{Value, json};
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

const DOCS: &str = include_str!("../../../docs/scan.md");

/// Long enough for controllers on a machine that does ten other things.
const PATIENCE: Duration = Duration::from_mins(2);

const POLICY: &str = concat!(
    include_str!("../data/corp.yaml"),
    "  match: {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop, many]}]}}\n"
);

const WORKLOADS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {k8s.twr.io/imageswap: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: many}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {tier: front}}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers: [{name: fetch, image: evil.example.net/fetch}]
      containers: [{name: web, image: 'nginx:1.25'}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: idle, namespace: shop}
spec:
  replicas: 0
  serviceName: idle
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {containers: [{name: db, image: quay.example.org/db}]}
---
apiVersion: CRON
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec:
  schedule: '0 0 1 1 *'
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: task, image: registry.example.com/task}]
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: shop}
spec: {containers: [{name: a, image: busybox}]}
";

/// A Job as the CronJob's controller creates it.
const TONIGHT: &str = "
apiVersion: batch/v1
kind: Job
metadata:
  name: nightly-28000000
  namespace: shop
  ownerReferences: [{apiVersion: CRON, kind: CronJob, name: nightly, uid: UID, controller: true}]
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: task, image: registry.example.com/task}]
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: default}
spec: {containers: [{name: a, image: nginx}]}
";

fn cluster(test: &str, controllers: bool) -> Option<ControlPlane> {
    let options = ControlPlaneOptions {
        controllers,
        ..ControlPlaneOptions::default()
    };
    ControlPlane::for_test(test, options)
}

/// A manifest with the version that CronJobs have in this cluster: `batch/v1` exists from 1.21 on.
fn with_cron_jobs(cluster: &ControlPlane, manifest: &str) -> String {
    let is_old = cluster.assets().minor_version().unwrap() < 21;
    manifest.replace("CRON", if is_old { "batch/v1beta1" } else { "batch/v1" })
}

/// Runs `imageswap scan` in a folder that has the policy as `corp.yaml`.
fn scan(kubeconfig: &Path, words: impl Display) -> Ran {
    let folder = Folder::new(&[("corp.yaml", POLICY)]);
    scan_in(&folder, kubeconfig, words)
}

fn scan_in(folder: &Folder, kubeconfig: &Path, words: impl Display) -> Ran {
    let mut command = imageswap(folder.path());
    command.arg("scan").arg("--kubeconfig").arg(kubeconfig);
    command.args(words.to_string().split_whitespace());
    Ran::of(&mut command, "").unwrap()
}

/// Runs kubectl; words are separated by spaces.
fn kubectl(cluster: &ControlPlane, words: &str) -> String {
    cluster.kubectl(words.split(' ')).unwrap()
}

/// Waits until a user may do this: the API server heeds a new right a moment after it is stored.
fn may(cluster: &ControlPlane, user: &str, what: &str) {
    let words = format!("auth can-i {what} --as {user}");
    let may = || cluster.kubectl(words.split(' ')).is_ok();
    assert!(wait_until(PATIENCE, may), "{words}");
}

/// Owner, container, image, verdict, Pods and whether the template has it.
fn rows(answer: &Value) -> Vec<String> {
    let images = answer["images"].as_array().unwrap().iter();
    let row = |it: &Value| {
        let text = |key: &str| it[key].as_str().unwrap().to_owned();
        format!(
            "{}/{} {} {} {} {} {}",
            text("kind"),
            text("name"),
            text("container"),
            text("image"),
            text("verdict"),
            it["pods"],
            it["in_template"],
        )
    };
    images.map(row).collect()
}

#[test]
fn workloads_are_named_by_whoever_wrote_them() {
    let cluster = require!(cluster("workloads_are_named_by_whoever_wrote_them", true));
    cluster.apply(&with_cron_jobs(&cluster, WORKLOADS)).unwrap();
    let uid = kubectl(
        &cluster,
        "-n shop get cronjob nightly -o jsonpath={.metadata.uid}",
    );
    let tonight = TONIGHT.replace("UID", &uid);
    cluster.apply(&with_cron_jobs(&cluster, &tonight)).unwrap();
    let names = || kubectl(&cluster, "-n shop get pods -o name");
    assert!(
        wait_until(PATIENCE, || names().lines().count() == 5),
        "{}",
        names()
    );

    let shop = |more: &str| {
        scan(
            cluster.kubeconfig(),
            format_args!("--policy corp.yaml -n shop {more}"),
        )
    };
    let ran = shop("-o json");
    assert_eq!((ran.code(), ran.err()), (Some(1), ""), "{ran:?}");
    let found = ran.json();
    assert_eq!(
        rows(&found),
        [
            "CronJob/nightly task registry.example.com/task keep 1 true",
            "Deployment/web fetch evil.example.net/fetch refuse 3 true",
            "Deployment/web web nginx:1.25 swap 3 true",
            "Pod/alone a busybox swap 1 false",
            "StatefulSet/idle db quay.example.org/db refuse 0 true",
        ]
    );
    let head = json!([found["schema"], found["complete"], found["summary"]["pods"]]);
    assert_eq!(head, json!(["imageswap.io/scan/v1", true, 5]));

    // A label of the Deployment itself, which its ReplicaSet and Pods lack.
    assert_eq!(
        rows(&shop("-o json -l tier=front").json()),
        [
            "Deployment/web fetch evil.example.net/fetch refuse 0 true",
            "Deployment/web web nginx:1.25 swap 0 true",
        ]
    );

    let ran = shop("");
    let example = "$ imageswap scan --policy corp.yaml -n shop\n";
    let (_, example) = DOCS.split_once(example).unwrap();
    assert_eq!(ran.out(), example.split_once("```").unwrap().0);
    let all = scan(cluster.kubeconfig(), "--policy corp.yaml -A");
    all.exits(1).prints(ran.out().split_once("\n\n").unwrap().0);

    let ran = scan(cluster.kubeconfig(), "--policy corp.yaml -n shopp");
    ran.exits(2).says("no namespace `shopp`");
}

#[test]
fn the_policy_is_the_one_in_force() {
    let cluster = require!(cluster("the_policy_is_the_one_in_force", false));
    cluster.apply(POD).unwrap();
    let in_force = |more: &str| {
        scan(
            cluster.kubeconfig(),
            format_args!("-o json -n default {more}"),
        )
    };
    let ran = in_force("");
    ran.exits(2).says("no policy is in force");

    kubectl(&cluster, "create namespace imageswap-system");
    let maps = "--from-literal=maps=default::legacy.example.com";
    kubectl(
        &cluster,
        &format!("-n imageswap-system create configmap imageswap-maps {maps}"),
    );
    kubectl(
        &cluster,
        "label namespace default k8s.twr.io/imageswap=enabled",
    );
    let result = |ran: &Ran| ran.json()["images"][0]["result"].clone();
    let ran = in_force("");
    assert_eq!((ran.code(), ran.err()), (Some(0), ""));
    assert_eq!(result(&ran), "legacy.example.com/nginx");
    assert_eq!(in_force("--deny-swaps").code(), Some(1));

    let crd = imageswap_policy::document::crd();
    cluster
        .apply(&serde_json::to_string(&crd).unwrap())
        .unwrap();
    kubectl(
        &cluster,
        "wait --for=condition=Established crd/imageswappolicies.imageswap.io",
    );
    let policy = POLICY.replace("[shop, many]", "[default]");
    assert!(wait_until(PATIENCE, || cluster.apply(&policy).is_ok()));
    let ran = in_force("");
    assert_eq!(
        result(&ran),
        "registry.example.com/hub/library/nginx",
        "{ran:?}"
    );
    assert_eq!((ran.code(), ran.err()), (Some(0), ""));
    let ran = in_force("--maps-configmap imageswap-system/imageswap-maps");
    assert_eq!(
        result(&ran),
        "legacy.example.com/nginx",
        "it alone was asked for"
    );

    // A policy that does not load is reported, and the others are used.
    let bad = POLICY
        .replace("corp", "bad")
        .replace("docker.io/**", "https://x");
    cluster.apply(&bad).unwrap();
    let ran = in_force("");
    ran.exits(0);
    assert_eq!(result(&ran), "registry.example.com/hub/library/nginx");
    let warning = "warning: ImageSwapPolicy bad is not in force";
    ran.says(warning);
}

#[test]
fn what_may_not_be_seen_is_said() {
    let cluster = require!(cluster("what_may_not_be_seen_is_said", false));
    kubectl(
        &cluster,
        "create clusterrole pods --verb=list --resource=pods",
    );
    kubectl(
        &cluster,
        "create clusterrolebinding pods --clusterrole=pods --user=half",
    );
    cluster.apply(POD).unwrap();

    may(&cluster, "half", "list pods -A");
    let half = cluster.kubeconfig_for("half", None).unwrap();
    let ran = scan(&half, "--policy corp.yaml -o json");
    ran.exits(2);
    let found = ran.json();
    assert_eq!(found["complete"], false);
    let unseen = found["unseen"].as_array().unwrap().iter();
    let unseen: Vec<_> = unseen.map(|it| it["resource"].as_str().unwrap()).collect();
    let all = "namespaces deployments statefulsets daemonsets replicationcontrollers cronjobs replicasets jobs";
    assert_eq!(unseen.join(" "), all);
    assert_eq!(rows(&found), ["Pod/a a nginx out-of-scope 1 false"]);
    ran.says("error: cannot list deployments: ");
    let ran = scan(&half, "--policy corp.yaml");
    let said = "This is not all there is; not seen:\n  namespaces: ";
    ran.prints(said);

    let (head, _) = POLICY.split_once("{matchExpressions").unwrap();
    let by_label = format!("{head}{{matchLabels: {{team: shop}}}}}}\n");
    let folder = Folder::new(&[("labels.yaml", &by_label)]);
    for (given, row, told) in [
        (
            "",
            "Pod/a a nginx unknown 1 false",
            "in namespace `default` depends on the labels of the namespace: give --namespace-labels \
             KEY=VALUE,..., or the right to read namespaces",
        ),
        (
            "--namespace-labels default:team=shop",
            "Pod/a a nginx swap 1 false",
            "error: cannot list namespaces",
        ),
        (
            "--namespace-labels team=other",
            "Pod/a a nginx out-of-scope 1 false",
            "error: cannot list namespaces",
        ),
    ] {
        let ran = scan_in(
            &folder,
            &half,
            format_args!("--policy labels.yaml -o json {given}"),
        );
        ran.exits(2);
        assert_eq!(rows(&ran.json()), [row], "{given}");
        ran.says(told);
        assert_eq!(
            ran.err().contains("depends on"),
            given.is_empty(),
            "{ran:?}"
        );
    }

    let roles = DOCS
        .split("```yaml\n")
        .find(|it| it.contains("kind: ClusterRole"));
    let roles = roles.unwrap().split("```").next().unwrap();
    for part in ["ClusterRole", "Role"] {
        let kind = format!("kind: {part}\n");
        let role = roles.split("---\n").find(|it| it.contains(&kind)).unwrap();
        if part == "Role" {
            kubectl(&cluster, "create namespace imageswap-system");
        }
        cluster.apply(role).unwrap();
    }
    kubectl(
        &cluster,
        "create clusterrolebinding all --clusterrole=imageswap-scan --user=all",
    );
    may(&cluster, "all", "list daemonsets.apps -A");
    let all = cluster.kubeconfig_for("all", None).unwrap();
    let ran = scan(&all, "--policy corp.yaml -o json");
    assert_eq!((ran.code(), ran.err()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.json()["complete"], true);
    let ran = scan(&all, "");
    ran.says("configmaps \"imageswap-maps\" is forbidden");
    kubectl(
        &cluster,
        "-n imageswap-system create rolebinding all --role=imageswap-scan --user=all",
    );
    may(
        &cluster,
        "all",
        "get configmaps/imageswap-maps -n imageswap-system",
    );
    let ran = scan(&all, "");
    assert!(
        ran.err().starts_with("error: no policy is in force"),
        "{ran:?}"
    );

    let ran = scan(&half, "");
    assert_eq!((ran.code(), ran.out()), (Some(2), ""));
    ran.says("error: cannot read ");
    let ran = scan(Path::new("/no/such/file"), "--policy corp.yaml");
    ran.exits(2).says("/no/such/file");
}

#[test]
fn twelve_hundred_pods_are_read_in_pages() {
    const PODS: usize = 1200;
    let cluster = require!(cluster("twelve_hundred_pods_are_read_in_pages", false));
    cluster.apply(&with_cron_jobs(&cluster, WORKLOADS)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = cluster.client().await.unwrap();
        for at in 0..PODS {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p-{at}"), "ownerReferences": [
                    {"apiVersion": "x.example.com/v1", "kind": "Fleet", "name": "f", "uid": "f", "controller": true},
                ]},
                "spec": {"containers": [{"name": "a", "image": "nginx"}]},
            });
            let body = serde_json::to_vec(&pod).unwrap();
            let request = Request::new("/api/v1/namespaces/many/pods").create(&PostParams::default(), body);
            client.request::<Value>(request.unwrap()).await.unwrap();
        }
    });
    let ran = scan(cluster.kubeconfig(), "--policy corp.yaml -n many -o json");
    assert_eq!((ran.code(), ran.err()), (Some(0), ""));
    assert_eq!(rows(&ran.json()), ["Fleet/f a nginx swap 1200 false"]);
    let ran = scan(cluster.kubeconfig(), "--policy corp.yaml -n many");
    ran.prints("  Fleet f, 1200 Pods\n");
}

#[test]
fn results_that_the_registry_lacks_are_listed() {
    let cluster = require!(cluster("results_that_the_registry_lacks_are_listed", false));
    let lab = require!(Lab::for_test("results_that_the_registry_lacks_are_listed"));
    let plain = Registry::start(&lab).unwrap();
    let image = Image::sleeper("mirrored").unwrap();
    plain.push(&image, "hub/library/nginx", "1").unwrap();
    let registry = plain.start_secure(&lab, false).unwrap();
    let name = registry.name();
    let policy = POLICY.replace("registry.example.com", &name);
    let folder = Folder::new(&[("corp.yaml", &policy.replace(" match:", " #"))]);
    folder.write("ca.pem", registry.ca_pem());
    for (pod, image) in [("a", "nginx:1"), ("b", "redis:7"), ("c", "redis:7")] {
        let pod = POD.replace("name: a, namespace", &format!("name: {pod}, namespace"));
        cluster
            .apply(&pod.replace("image: nginx", &format!("image: '{image}'")))
            .unwrap();
    }
    let missing = |more: &str| {
        let words = format_args!("--policy corp.yaml -n default --missing {more}");
        scan_in(&folder, cluster.kubeconfig(), words)
    };
    let ran = missing("--registry-ca ca.pem");
    assert_eq!((ran.code(), ran.err()), (Some(1), ""), "{ran:?}");
    let list = format!(
        "\nMissing in the registries:\n  {name}/hub/library/redis:7\n    from redis:7\n\n3 images of 3 workloads"
    );
    ran.prints(&list);
    let ran = missing("--registry-ca ca.pem -o json --platform linux/arm64");
    let found = ran.json();
    assert_eq!(
        (ran.code(), &found["complete"]),
        (Some(1), &json!(true)),
        "{ran:?}"
    );
    assert_eq!(
        found["missing"],
        json!([
            {"result": format!("{name}/hub/library/nginx:1"), "images": ["nginx:1"], "containers": 1,
             "missing": "platforms", "platforms": ["linux/arm64"]},
            {"result": format!("{name}/hub/library/redis:7"), "images": ["redis:7"], "containers": 2,
             "missing": "image"},
        ])
    );
    // Without the authority there is no answer, and that is not "all is there".
    let ran = missing("");
    ran.exits(2).says("error: cannot tell whether");
    ran.prints("No result is known to be missing");
}
