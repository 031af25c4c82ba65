//! Runs `imageswap scan` against a real API server.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use imageswap_lab::{ControlPlane, ControlPlaneOptions, Image, Lab, Registry, wait_until};
use kube::api::{PostParams, Request};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const DOCS: &str = include_str!("../../docs/scan.md");

/// Long enough for controllers on a machine that does ten other things.
const PATIENCE: Duration = Duration::from_mins(2);

const POLICY: &str = concat!(
    include_str!("data/corp.yaml"),
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

fn run(kubeconfig: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imageswap"))
        .arg("scan")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .output()
        .unwrap()
}

/// Exit code, standard output, standard error.
fn scan(kubeconfig: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(kubeconfig, args);
    let text = |it| String::from_utf8(it).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn answer(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
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
    let Some(cluster) = cluster("workloads_are_named_by_whoever_wrote_them", true) else {
        return;
    };
    cluster.apply(&with_cron_jobs(&cluster, WORKLOADS)).unwrap();
    let uid = [
        "-n",
        "shop",
        "get",
        "cronjob",
        "nightly",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let uid = cluster.kubectl(uid).unwrap();
    let tonight = TONIGHT.replace("UID", &uid);
    cluster.apply(&with_cron_jobs(&cluster, &tonight)).unwrap();
    let names = || {
        cluster
            .kubectl(["-n", "shop", "get", "pods", "-o", "name"])
            .unwrap()
    };
    assert!(
        wait_until(PATIENCE, || names().lines().count() == 5),
        "{}",
        names()
    );

    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("corp.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let policy = policy.to_str().unwrap();
    let (code, out, error) = scan(
        cluster.kubeconfig(),
        &["--policy", policy, "-n", "shop", "-o", "json"],
    );
    assert_eq!((code, error.as_str()), (Some(1), ""), "{out}");
    let found = answer(&out);
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
    assert_eq!(
        (
            &found["schema"],
            &found["complete"],
            &found["summary"]["pods"]
        ),
        (&json!("imageswap.io/scan/v1"), &json!(true), &json!(5))
    );

    // A label of the Deployment itself, which its ReplicaSet and Pods lack.
    let selected = [
        "--policy",
        policy,
        "-n",
        "shop",
        "-o",
        "json",
        "-l",
        "tier=front",
    ];
    let (_, out, _) = scan(cluster.kubeconfig(), &selected);
    assert_eq!(
        rows(&answer(&out)),
        [
            "Deployment/web fetch evil.example.net/fetch refuse 0 true",
            "Deployment/web web nginx:1.25 swap 0 true",
        ]
    );

    let (_, out, _) = scan(cluster.kubeconfig(), &["--policy", policy, "-n", "shop"]);
    let example = "$ imageswap scan --policy corp.yaml -n shop\n";
    let (_, example) = DOCS.split_once(example).unwrap();
    assert_eq!(out, example.split_once("```").unwrap().0);
    let (code, all, _) = scan(cluster.kubeconfig(), &["--policy", policy, "-A"]);
    assert_eq!(code, Some(1));
    assert!(all.contains(out.split_once("\n\n").unwrap().0), "{all}");

    let (code, _, error) = scan(cluster.kubeconfig(), &["--policy", policy, "-n", "shopp"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("no namespace `shopp`"), "{error}");
}

#[test]
fn the_policy_is_the_one_in_force() {
    let Some(cluster) = cluster("the_policy_is_the_one_in_force", false) else {
        return;
    };
    cluster.apply(POD).unwrap();
    let json = ["-o", "json", "-n", "default"];
    let (code, _, error) = scan(cluster.kubeconfig(), &json);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("no policy is in force"), "{error}");

    cluster
        .kubectl(["create", "namespace", "imageswap-system"])
        .unwrap();
    let maps = "--from-literal=maps=default::legacy.example.com";
    let map = [
        "-n",
        "imageswap-system",
        "create",
        "configmap",
        "imageswap-maps",
        maps,
    ];
    cluster.kubectl(map).unwrap();
    let label = [
        "label",
        "namespace",
        "default",
        "k8s.twr.io/imageswap=enabled",
    ];
    cluster.kubectl(label).unwrap();
    let result = |args: &[&str]| {
        let (code, out, error) = scan(cluster.kubeconfig(), &[&json, args].concat());
        let found = answer(&out);
        (
            code,
            found["images"][0]["result"].as_str().unwrap().to_owned(),
            error,
        )
    };
    let clean = (
        Some(0),
        "legacy.example.com/nginx".to_owned(),
        String::new(),
    );
    assert_eq!(result(&[]), clean);
    let (code, _, _) = result(&["--deny-swaps"]);
    assert_eq!(code, Some(1));

    let crd = imageswap_policy::document::crd();
    cluster
        .apply(&serde_json::to_string(&crd).unwrap())
        .unwrap();
    let crd = [
        "wait",
        "--for=condition=Established",
        "crd/imageswappolicies.imageswap.io",
    ];
    cluster.kubectl(crd).unwrap();
    let policy = POLICY.replace("[shop, many]", "[default]");
    assert!(wait_until(PATIENCE, || cluster.apply(&policy).is_ok()));
    let (code, image, error) = result(&[]);
    assert_eq!(image, "registry.example.com/hub/library/nginx", "{error}");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let (_, image, _) = result(&["--maps-configmap", "imageswap-system/imageswap-maps"]);
    assert_eq!(image, "legacy.example.com/nginx", "it alone was asked for");

    // A policy that does not load is reported, and the others are used.
    let bad = POLICY
        .replace("corp", "bad")
        .replace("docker.io/**", "https://x");
    cluster.apply(&bad).unwrap();
    let (code, image, error) = result(&[]);
    assert_eq!(
        (code, image.as_str()),
        (Some(0), "registry.example.com/hub/library/nginx")
    );
    assert!(
        error.contains("warning: ImageSwapPolicy bad is not in force"),
        "{error}"
    );
}

#[test]
fn what_may_not_be_seen_is_said() {
    let Some(cluster) = cluster("what_may_not_be_seen_is_said", false) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("corp.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let policy = policy.to_str().unwrap();
    cluster
        .kubectl([
            "create",
            "clusterrole",
            "pods",
            "--verb=list",
            "--resource=pods",
        ])
        .unwrap();
    let binding = [
        "create",
        "clusterrolebinding",
        "pods",
        "--clusterrole=pods",
        "--user=half",
    ];
    cluster.kubectl(binding).unwrap();
    cluster.apply(POD).unwrap();

    let half = cluster.kubeconfig_for("half", None).unwrap();
    let (code, out, error) = scan(&half, &["--policy", policy, "-o", "json"]);
    assert_eq!(code, Some(2));
    let found = answer(&out);
    assert_eq!(found["complete"], false);
    let unseen: Vec<_> = found["unseen"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["resource"])
        .collect();
    assert_eq!(
        unseen,
        [
            "namespaces",
            "deployments",
            "statefulsets",
            "daemonsets",
            "replicationcontrollers",
            "cronjobs",
            "replicasets",
            "jobs",
        ]
    );
    assert_eq!(rows(&found), ["Pod/a a nginx out-of-scope 1 false"]);
    assert!(
        error.contains("error: cannot list deployments: "),
        "{error}"
    );
    let (_, out, _) = scan(&half, &["--policy", policy]);
    assert!(
        out.contains("This is not all there is; not seen:\n  namespaces: "),
        "{out}"
    );

    let labels = folder.path().join("labels.yaml");
    let labels_policy = "{matchLabels: {team: shop}}";
    let (head, _) = POLICY.split_once("{matchExpressions").unwrap();
    std::fs::write(&labels, format!("{head}{labels_policy}}}\n")).unwrap();
    let labels = ["--policy", labels.to_str().unwrap(), "-o", "json"];
    for (given, row, told) in [
        (
            None,
            "Pod/a a nginx unknown 1 false",
            "in namespace `default` depends on the labels of the namespace: give --namespace-labels \
             KEY=VALUE,..., or the right to read namespaces",
        ),
        (
            Some("default:team=shop"),
            "Pod/a a nginx swap 1 false",
            "error: cannot list namespaces",
        ),
        (
            Some("team=other"),
            "Pod/a a nginx out-of-scope 1 false",
            "error: cannot list namespaces",
        ),
    ] {
        let given = given.map(|it| ["--namespace-labels", it]);
        let args = [&labels[..], given.as_ref().map_or(&[], |it| &it[..])].concat();
        let (code, out, error) = scan(&half, &args);
        assert_eq!(code, Some(2));
        assert_eq!(rows(&answer(&out)), [row], "{given:?}");
        assert!(error.contains(told), "{error}");
        let undecided = error.contains("depends on");
        assert_eq!(undecided, given.is_none(), "{error}");
    }

    for part in ["ClusterRole", "Role"] {
        let role = DOCS
            .split("```yaml\n")
            .find(|it| it.contains("kind: ClusterRole"))
            .unwrap();
        let role = role.split("```").next().unwrap().split("---\n");
        let role = role
            .into_iter()
            .find(|it| it.contains(&format!("kind: {part}\n")))
            .unwrap();
        if part == "Role" {
            cluster
                .kubectl(["create", "namespace", "imageswap-system"])
                .unwrap();
        }
        cluster.apply(role).unwrap();
    }
    let all = [
        "create",
        "clusterrolebinding",
        "all",
        "--clusterrole=imageswap-scan",
        "--user=all",
    ];
    cluster.kubectl(all).unwrap();
    let all = cluster.kubeconfig_for("all", None).unwrap();
    let (code, out, error) = scan(&all, &["--policy", policy, "-o", "json"]);
    assert_eq!((code, error.as_str()), (Some(0), ""), "{out}");
    assert_eq!(answer(&out)["complete"], true);
    let (_, _, error) = scan(&all, &[]);
    assert!(
        error.contains("configmaps \"imageswap-maps\" is forbidden"),
        "{error}"
    );
    let role = [
        "-n",
        "imageswap-system",
        "create",
        "rolebinding",
        "all",
        "--role=imageswap-scan",
        "--user=all",
    ];
    cluster.kubectl(role).unwrap();
    let (_, _, error) = scan(&all, &[]);
    assert!(error.starts_with("error: no policy is in force"), "{error}");

    let (code, out, error) = scan(&half, &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(error.contains("error: cannot read "), "{error}");
    let (code, _, error) = scan(Path::new("/no/such/file"), &["--policy", policy]);
    assert_eq!(code, Some(2));
    assert!(error.contains("/no/such/file"), "{error}");
}

#[test]
fn twelve_hundred_pods_are_read_in_pages() {
    const PODS: usize = 1200;
    let Some(cluster) = cluster("twelve_hundred_pods_are_read_in_pages", false) else {
        return;
    };
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
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("corp.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let args = [
        "--policy",
        policy.to_str().unwrap(),
        "-n",
        "many",
        "-o",
        "json",
    ];
    let (code, out, error) = scan(cluster.kubeconfig(), &args);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert_eq!(rows(&answer(&out)), ["Fleet/f a nginx swap 1200 false"]);
    let (_, out, _) = scan(cluster.kubeconfig(), &args[..4]);
    assert!(out.contains("  Fleet f, 1200 Pods\n"), "{out}");
}

#[test]
fn results_that_the_registry_lacks_are_listed() {
    let Some(cluster) = cluster("results_that_the_registry_lacks_are_listed", false) else {
        return;
    };
    let Some(lab) = Lab::for_test("results_that_the_registry_lacks_are_listed") else {
        return;
    };
    let plain = Registry::start(&lab).unwrap();
    let image = Image::sleeper("mirrored").unwrap();
    plain.push(&image, "hub/library/nginx", "1").unwrap();
    let registry = plain.start_secure(&lab, false).unwrap();
    let name = registry.name();
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &[u8]| {
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = POLICY.replace("registry.example.com", &name);
    let policy = policy.replace(" match:", " #");
    let policy = write("corp.yaml", policy.as_bytes());
    let ca = write("ca.pem", registry.ca_pem());
    for (pod, image) in [("a", "nginx:1"), ("b", "redis:7"), ("c", "redis:7")] {
        let pod = POD.replace("name: a, namespace", &format!("name: {pod}, namespace"));
        cluster
            .apply(&pod.replace("image: nginx", &format!("image: '{image}'")))
            .unwrap();
    }
    let missing = [
        "--policy",
        &policy,
        "--registry-ca",
        &ca,
        "-n",
        "default",
        "--missing",
    ];
    let (code, out, error) = scan(cluster.kubeconfig(), &missing);
    assert_eq!((code, error.as_str()), (Some(1), ""), "{out}");
    let list = format!(
        "\nMissing in the registries:\n  {name}/hub/library/redis:7\n    from redis:7\n\n3 images of 3 workloads"
    );
    assert!(out.contains(&list), "{out}");
    let arguments = [&missing[..], &["-o", "json", "--platform", "linux/arm64"]].concat();
    let (code, out, _) = scan(cluster.kubeconfig(), &arguments);
    let found = answer(&out);
    assert_eq!((code, &found["complete"]), (Some(1), &json!(true)), "{out}");
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
    let unverified = ["--policy", &policy, "-n", "default", "--missing"];
    let (code, out, error) = scan(cluster.kubeconfig(), &unverified);
    assert_eq!(code, Some(2), "{out}");
    assert!(error.contains("error: cannot tell whether"), "{error}");
    assert!(out.contains("No result is known to be missing"), "{out}");
    drop(registry);
}
