//! `imageswap export`, as a command: what it writes, and how real programs read that.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use imageswap_lab::{
    Containerd, ContainerdOptions, ControlPlane, ControlPlaneOptions, Image, Lab, Registry,
    wait_until,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const POLICY: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  match: {namespaces: ['*'], excludeNamespaces: [kube-*]}
  rules:
  - {name: internal, keep: '*.corp.example.com/**'}
  - {name: official, from: 'docker.io/library/*', to: registry.example.com/official}
  - {name: hub, from: 'docker.io/**', to: registry.example.com/hub}
  - {name: quay, regex: '^quay\\.io/(.*)$', to: registry.example.com/quay/$1}
  denied:
  - {pattern: '**:latest', message: pin a version, namespaces: [prod]}
  imagePullSecrets:
  - {registry: registry.example.com, name: corp-pull}
  message: Only registry.example.com, please
";

fn imageswap(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imageswap"))
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("IMAGESWAP_POLICY")
        .output()
        .unwrap()
}

fn folder(policy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    folder
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Compares with a file of the tests. `IMAGESWAP_WRITE=1` writes it anew.
fn snapshot(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("IMAGESWAP_WRITE").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name}: IMAGESWAP_WRITE=1 writes it anew");
}

#[test]
fn admission_policies_are_written_as_ever() {
    let folder = folder(POLICY);
    let output = imageswap(
        folder.path(),
        &["export", "admission-policy", "--policy", "policy.yaml"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    snapshot("admission-policy.yaml", &text(&output.stdout));
    snapshot("admission-policy.report", &text(&output.stderr));
    let output = imageswap(
        folder.path(),
        &[
            "export",
            "admission-policy",
            "--policy",
            "policy.yaml",
            "-o",
            "json",
        ],
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kinds: Vec<_> = answer["objects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    let expected = [
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(
        answer["summary"],
        json!({"exported": 6, "differs": 0, "leftOut": 0})
    );
}

#[test]
fn what_cannot_be_exported_is_reported() {
    for (spec, code, says) in [
        (
            "{rules: [{from: 'docker.io/**', to: r.example.com}], exceptions: [{pattern: 'docker.io/x', until: 2999-01-01, reason: r}]}",
            1,
            "exceptions[0] docker.io/x: left out: CEL has no clock",
        ),
        (
            "{rules: [{name: any, regex: '(.*)/(x|y)/(.*)', to: 'r.example.com/$2/$3'}]}",
            1,
            "rule any: exported, differs: CEL has no groups",
        ),
        (
            "{rules: [{name: odd, keep: '*A/**'}]}",
            2,
            "left out: rule odd: the host of `*A/**` may be an IPv6 address",
        ),
        (
            "{rules: [{keep: 'r.example.com/**'}], enforcement: audit, imagePullSecrets: [{registry: r.example.com, name: s}]}",
            1,
            "imagePullSecrets s: left out: a policy for audit changes no Pod",
        ),
    ] {
        let policy = format!(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
        );
        let folder = folder(&policy);
        let output = imageswap(
            folder.path(),
            &["export", "admission-policy", "--policy", "policy.yaml"],
        );
        let report = text(&output.stderr).replace("\n    ", " ");
        assert_eq!(output.status.code(), Some(code), "{spec}: {report}");
        assert!(report.contains(says), "{spec}: {report}");
        assert_eq!(output.stdout.is_empty(), code == 2, "{spec}");
    }
}

#[test]
fn a_maps_file_is_exported_as_it_is_imported() {
    let folder = folder(POLICY);
    fs::write(
        folder.path().join("maps.conf"),
        "default::r.example.com\nquay.io::r.example.com/quay\n",
    )
    .unwrap();
    let output = imageswap(
        folder.path(),
        &["export", "admission-policy", "--maps", "maps.conf"],
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("imageswap enforcement: exported, differs: "));
    assert!(text(&output.stdout).contains("k8s.twr.io/imageswap: enabled"));
}

const MIRRORED: &str = "
apiVersion: imageswap.io/v1alpha1
kind: ImageSwapPolicy
metadata: {name: corp}
spec:
  match: {namespaces: ['*']}
  rules:
  - {name: hub, from: 'docker.io/**', to: REGISTRY/hub}
  - {name: team, from: 'quay.io/team/**', to: REGISTRY/team}
  - {name: whole, from: 'quay.io/**', to: REGISTRY/quay}
  - {name: gcr, from: 'gcr.io/**', to: REGISTRY}
  - {name: ours, keep: 'registry.example.com/**'}
  - {name: ours-too, from: 'registry.example.net/**', to: REGISTRY/net, namespaces: [shop]}
  enforcement: warn
";

#[test]
fn mirrors_are_written_as_ever() {
    let folder = folder(&MIRRORED.replace("REGISTRY", "registry.example.org:5000"));
    let args = [
        "--policy",
        "policy.yaml",
        "--plain-http",
        "registry.example.org:5000",
    ];
    let output = imageswap(
        folder.path(),
        &[&["export", "hosts-toml", "certs.d"][..], &args].concat(),
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stdout),
        "certs.d/docker.io/hosts.toml\ncerts.d/gcr.io/hosts.toml\n"
    );
    let read = |host: &str| {
        fs::read_to_string(folder.path().join("certs.d").join(host).join("hosts.toml")).unwrap()
    };
    snapshot(
        "hosts-toml",
        &format!("{}\n{}", read("docker.io"), read("gcr.io")),
    );
    snapshot("hosts-toml.report", &text(&output.stderr));
    let output = imageswap(
        folder.path(),
        &[&["export", "registries.conf"][..], &args].concat(),
    );
    assert_eq!(output.status.code(), Some(1));
    snapshot("registries.conf", &text(&output.stdout));
    snapshot("registries.conf.report", &text(&output.stderr));
    let output = imageswap(
        folder.path(),
        &[
            "export",
            "registries.conf",
            "--policy",
            "policy.yaml",
            "-o",
            "json",
        ],
    );
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        answer["files"]["registries.conf"]
            .as_str()
            .unwrap()
            .contains("[[registry]]")
    );
    assert!(answer["report"]["items"].as_array().unwrap().len() > 5);
    // A file of somebody else is not replaced.
    fs::write(
        folder.path().join("certs.d/gcr.io/hosts.toml"),
        "server = 'x'\n",
    )
    .unwrap();
    let output = imageswap(
        folder.path(),
        &["export", "hosts-toml", "certs.d", "--policy", "policy.yaml"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("is not from this command"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn no_mirror_swaps_what_a_policy_only_audits() {
    let folder = folder(
        &MIRRORED
            .replace("REGISTRY", "r.example.org")
            .replace("warn", "audit"),
    );
    let output = imageswap(
        folder.path(),
        &["export", "registries.conf", "--policy", "policy.yaml"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("a mirror would"));
}

/// A registry with an image in some repositories, and the policy whose rules name it.
fn registry(lab: &Lab) -> (Registry, tempfile::TempDir) {
    let registry = Registry::start(lab).unwrap();
    let image = Image::sleeper("mirrored").unwrap();
    for repository in [
        "hub/library/nginx",
        "hub/bitnami/redis",
        "quay/a/b",
        "team/app",
        "p/app",
    ] {
        registry.push(&image, repository, "1").unwrap();
    }
    let folder = folder(&MIRRORED.replace("REGISTRY", &registry.addr().to_string()));
    (registry, folder)
}

/// Exports mirrors that are at `registry`.
fn mirrors(registry: &Registry, folder: &Path, to: &[&str]) -> Output {
    let plain = registry.addr().to_string();
    let from = ["--policy", "policy.yaml", "--plain-http", &plain];
    imageswap(folder, &[&["export"], to, &from].concat())
}

#[test]
fn containerd_pulls_through_the_hosts() {
    let Some(lab) = Lab::for_test("containerd_pulls_through_the_hosts") else {
        return;
    };
    let (registry, folder) = registry(&lab);
    let output = mirrors(&registry, folder.path(), &["hosts-toml", "certs.d"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let containerd = Containerd::start(&lab, ContainerdOptions::default()).unwrap();
    let hosts = folder.path().join("certs.d");
    let pull = |image: &str| {
        let args = [
            "image",
            "pull",
            "--hosts-dir",
            hosts.to_str().unwrap(),
            image,
        ];
        containerd.ctr("default", args)
    };
    for image in [
        "docker.io/library/nginx:1",
        "docker.io/bitnami/redis:1",
        "gcr.io/p/app:1",
    ] {
        pull(image).unwrap_or_else(|why| panic!("{image}: {why}"));
    }
    // The names stay.
    let names = text(
        &containerd
            .ctr("default", ["image", "ls", "-q"])
            .unwrap()
            .stdout,
    );
    assert!(names.contains("docker.io/library/nginx:1"), "{names}");
    // What the mirror lacks is not pulled from anywhere else.
    let why = pull("docker.io/library/absent:1").unwrap_err().to_string();
    assert!(why.contains("not found"), "{why}");
}

#[test]
fn podman_pulls_through_the_configuration() {
    let Some(lab) = Lab::for_test("podman_pulls_through_the_configuration") else {
        return;
    };
    let (registry, folder) = registry(&lab);
    let output = mirrors(&registry, folder.path(), &["registries.conf"]);
    let configuration = folder.path().join("registries.conf");
    fs::write(&configuration, &output.stdout).unwrap();
    let pull = |image: &str| {
        Command::new("podman")
            .arg("--root")
            .arg(folder.path().join("root"))
            .arg("--runroot")
            .arg(folder.path().join("run"))
            .args(["--storage-driver", "vfs", "pull", "--quiet", image])
            .env("CONTAINERS_REGISTRIES_CONF", &configuration)
            .output()
            .unwrap()
    };
    for image in [
        "docker.io/library/nginx:1",
        "quay.io/a/b:1",
        "quay.io/team/app:1",
        "gcr.io/p/app:1",
    ] {
        let output = pull(image);
        assert!(output.status.success(), "{image}: {}", text(&output.stderr));
    }
    let output = pull("docker.io/library/absent:1");
    assert!(
        !output.status.success() && text(&output.stderr).contains(&registry.addr().to_string()),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn an_api_server_takes_the_objects_and_swaps() {
    let options = ControlPlaneOptions {
        current: true,
        ..ControlPlaneOptions::default()
    };
    let test = "an_api_server_takes_the_objects_and_swaps";
    let Some(cluster) = ControlPlane::for_test(test, options) else {
        return;
    };
    if cluster.assets().minor_version().unwrap() < 36 {
        imageswap_lab::skip(test, "MutatingAdmissionPolicy v1 needs Kubernetes 1.36");
        return;
    }
    let folder = folder(POLICY);
    let output = imageswap(
        folder.path(),
        &["export", "admission-policy", "--policy", "policy.yaml"],
    );
    let objects = folder.path().join("objects.yaml");
    fs::write(&objects, &output.stdout).unwrap();
    let objects = objects.to_str().unwrap();
    cluster
        .kubectl(["apply", "--dry-run=server", "-f", objects])
        .unwrap();
    cluster.kubectl(["apply", "-f", objects]).unwrap();
    cluster.kubectl(["create", "namespace", "prod"]).unwrap();
    let pod = |name: &str, image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{containers: [{{name: web, image: '{image}'}}]}}\n"
        )
    };
    let mut at = 0;
    let refused = || {
        at += 1;
        let evil = pod(&format!("evil-{at}"), "evil.example.net/miner:1");
        cluster.apply(&evil).err().map(|it| it.to_string())
    };
    let mut refused = refused;
    let mut said = None;
    // The API server compiles policies in the background.
    assert!(wait_until(Duration::from_secs(30), || {
        said = refused();
        said.is_some()
    }));
    let said = said.unwrap();
    assert!(
        said.contains("container web: image evil.example.net/miner:1 is not approved"),
        "{said}"
    );
    assert!(said.contains("Only registry.example.com, please"), "{said}");
    let get = |name: &str| -> Value {
        let args = ["get", "pod", name, "-n", "prod", "-o", "json"];
        serde_json::from_str(&cluster.kubectl(args).unwrap()).unwrap()
    };
    let mut tries = 0;
    assert!(wait_until(Duration::from_secs(30), || {
        tries += 1;
        let name = format!("web-{tries}");
        cluster.apply(&pod(&name, "nginx:1")).is_ok()
            && get(&name)["spec"]["containers"][0]["image"]
                == json!("registry.example.com/official/nginx:1")
    }));
    let stored = get(&format!("web-{tries}"));
    assert_eq!(
        stored["spec"]["imagePullSecrets"],
        json!([{"name": "corp-pull"}])
    );
    let note = stored["metadata"]["annotations"]["imageswap.io/note"]
        .as_str()
        .unwrap();
    assert!(
        note.starts_with(r#"{"v":1,"containers":{"web":{"image":"nginx:1","#),
        "{note}"
    );
    // Applying the manifest again changes nothing.
    cluster
        .apply(&pod(&format!("web-{tries}"), "nginx:1"))
        .unwrap();
    assert_eq!(get(&format!("web-{tries}"))["spec"], stored["spec"]);
    let why = cluster
        .apply(&pod("latest", "bitnami/redis"))
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("is denied by `denied[0]` (**:latest): pin a version"),
        "{why}"
    );
}
