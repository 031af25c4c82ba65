//! `imageswap export`, as a command: what it writes, and how real programs read that.

use crate::folder::{Folder, assert_snapshot, policy};
use imageswap_lab::{
    Containerd, ContainerdOptions, ControlPlane, ControlPlaneOptions, Image, Lab, Ran, Registry,
    require, wait_until,
};
use serde_json::{Value, json};
use std::process::Command;
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

/// The command that exports `policy.yaml` as admission policies.
const ADMISSION: &str = "export admission-policy --policy policy.yaml";

fn folder(policy: &str) -> Folder {
    Folder::new(&[("policy.yaml", policy)])
}

#[test]
fn admission_policies_are_written_as_ever() {
    let folder = folder(POLICY);
    let ran = folder.run(ADMISSION);
    ran.exits(0);
    assert_snapshot("admission-policy.yaml", ran.out());
    assert_snapshot("admission-policy.report", ran.err());
    let answer = folder.run(&format!("{ADMISSION} -o json")).json();
    let objects = answer["objects"].as_array().unwrap();
    let kinds: Vec<_> = objects
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
        let ran = folder(&policy("p", spec)).run(ADMISSION);
        let report = ran.err().replace("\n    ", " ");
        assert_eq!(ran.code(), Some(code), "{spec}: {report}");
        assert!(report.contains(says), "{spec}: {report}");
        assert_eq!(ran.out().is_empty(), code == 2, "{spec}");
    }
}

#[test]
fn a_maps_file_is_exported_as_it_is_imported() {
    let maps = "default::r.example.com\nquay.io::r.example.com/quay\n";
    let ran = Folder::new(&[("maps.conf", maps)]).run("export admission-policy --maps maps.conf");
    ran.exits(1);
    ran.says("imageswap enforcement: exported, differs: ");
    ran.prints("k8s.twr.io/imageswap: enabled");
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
    let args = "--policy policy.yaml --plain-http registry.example.org:5000";
    let ran = folder.run(&format!("export hosts-toml certs.d {args}"));
    let files = ["certs.d/docker.io/hosts.toml", "certs.d/gcr.io/hosts.toml"];
    assert_eq!(
        (ran.code(), ran.out()),
        (Some(1), &*format!("{}\n{}\n", files[0], files[1]))
    );
    assert_snapshot("hosts-toml", &files.map(|it| folder.read(it)).join("\n"));
    assert_snapshot("hosts-toml.report", ran.err());
    let ran = folder.run(&format!("export registries.conf {args}"));
    ran.exits(1);
    assert_snapshot("registries.conf", ran.out());
    assert_snapshot("registries.conf.report", ran.err());
    let answer = folder
        .run("export registries.conf --policy policy.yaml -o json")
        .json();
    let written = answer["files"]["registries.conf"].as_str();
    assert!(written.unwrap().contains("[[registry]]"));
    assert!(answer["report"]["items"].as_array().unwrap().len() > 5);
    // A file of somebody else is not replaced.
    folder.write(files[1], "server = 'x'\n");
    let ran = folder.run("export hosts-toml certs.d --policy policy.yaml");
    ran.exits(2).says("is not from this command");
}

#[test]
fn no_mirror_swaps_what_a_policy_only_audits() {
    let audit = MIRRORED
        .replace("REGISTRY", "r.example.org")
        .replace("warn", "audit");
    let ran = folder(&audit).run("export registries.conf --policy policy.yaml");
    assert_eq!((ran.code(), ran.out()), (Some(2), ""));
    ran.says("a mirror would");
}

/// A registry with an image in some repositories, and the policy whose rules name it.
fn registry(lab: &Lab) -> (Registry, Folder) {
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
fn mirrors(registry: &Registry, folder: &Folder, to: &str) -> Ran {
    let plain = registry.addr();
    folder.run(&format!(
        "export {to} --policy policy.yaml --plain-http {plain}"
    ))
}

#[test]
fn containerd_pulls_through_the_hosts() {
    let lab = require!(Lab::for_test("containerd_pulls_through_the_hosts"));
    let (registry, folder) = registry(&lab);
    let ran = mirrors(&registry, &folder, "hosts-toml certs.d");
    ran.exits(1);
    let containerd = Containerd::start(&lab, ContainerdOptions::default()).unwrap();
    let hosts = folder.at("certs.d");
    let pull = |image: &str| {
        let hosts = hosts.to_str().unwrap();
        containerd.ctr("default", ["image", "pull", "--hosts-dir", hosts, image])
    };
    for image in [
        "docker.io/library/nginx:1",
        "docker.io/bitnami/redis:1",
        "gcr.io/p/app:1",
    ] {
        pull(image).unwrap_or_else(|why| panic!("{image}: {why}"));
    }
    // The names stay.
    let listed = containerd.ctr("default", ["image", "ls", "-q"]).unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(names.contains("docker.io/library/nginx:1"), "{names}");
    // What the mirror lacks is not pulled from anywhere else.
    let why = pull("docker.io/library/absent:1").unwrap_err().to_string();
    assert!(why.contains("not found"), "{why}");
}

#[test]
fn podman_pulls_through_the_configuration() {
    let lab = require!(Lab::for_test("podman_pulls_through_the_configuration"));
    let (registry, folder) = registry(&lab);
    folder.write(
        "registries.conf",
        mirrors(&registry, &folder, "registries.conf").out(),
    );
    let pull = |image: &str| {
        let mut podman = Command::new("podman");
        podman
            .arg("--root")
            .arg(folder.at("root"))
            .arg("--runroot")
            .arg(folder.at("run"))
            .args(["--storage-driver", "vfs", "pull", "--quiet", image])
            .env("CONTAINERS_REGISTRIES_CONF", folder.at("registries.conf"));
        Ran::of(&mut podman, "").unwrap()
    };
    for image in [
        "docker.io/library/nginx:1",
        "quay.io/a/b:1",
        "quay.io/team/app:1",
        "gcr.io/p/app:1",
    ] {
        let ran = pull(image);
        assert_eq!(ran.code(), Some(0), "{image}: {ran:?}");
    }
    let ran = pull("docker.io/library/absent:1");
    let names_mirror = ran.err().contains(&registry.addr().to_string());
    assert!(ran.code() != Some(0) && names_mirror, "{ran:?}");
}

#[test]
fn an_api_server_takes_the_objects_and_swaps() {
    let options = ControlPlaneOptions {
        current: true,
        ..ControlPlaneOptions::default()
    };
    let test = "an_api_server_takes_the_objects_and_swaps";
    let cluster = require!(ControlPlane::for_test(test, options));
    if cluster.assets().minor_version().unwrap() < 36 {
        imageswap_lab::skip(test, "MutatingAdmissionPolicy v1 needs Kubernetes 1.36");
        return;
    }
    let folder = folder(POLICY);
    let ran = folder.run(ADMISSION);
    let check = ["apply", "--dry-run=server", "-f", "-"];
    cluster.kubectl_with(check, ran.out()).unwrap();
    cluster.apply(ran.out()).unwrap();
    cluster.kubectl(["create", "namespace", "prod"]).unwrap();
    let pod = |name: &str, image: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: prod}}\nspec: {{containers: [{{name: web, image: '{image}'}}]}}\n"
        )
    };
    let mut at = 0;
    let mut refused = || {
        at += 1;
        let evil = pod(&format!("evil-{at}"), "evil.example.net/miner:1");
        cluster.apply(&evil).err().map(|it| it.to_string())
    };
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
