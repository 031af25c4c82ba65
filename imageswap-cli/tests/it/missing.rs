//! `imageswap images --missing`, against Debian's registry; and `-o skopeo|crane|regsync`.

use crate::folder::{Folder, policy};
use imageswap_lab::{Image, Lab, REGISTRY_USER, Registry, require};

/// Writes the policy of a registry, and a Pod with these images.
fn write(folder: &Folder, registry: &str, images: &[&str]) {
    let hub = format!("{{name: hub, from: 'docker.io/**', to: '{registry}/hub'}}");
    let spec = format!("{{rules: [{hub}, {{name: own, keep: 'own.example.net/**'}}]}}");
    folder.write("p.yaml", policy("corp", &spec));
    let containers = images.iter().enumerate();
    let containers: Vec<_> = containers
        .map(|(at, image)| format!("  - {{name: c{at}, image: '{image}'}}\n"))
        .collect();
    let head = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n";
    folder.write("pod.yaml", [head, &containers.concat()].concat());
}

const IMAGES: &str = "images --policy=p.yaml -f pod.yaml";

#[test]
fn what_a_registry_lacks_is_listed() {
    let lab = require!(Lab::for_test("what_a_registry_lacks_is_listed"));
    let plain = Registry::start(&lab).unwrap();
    let image = Image::sleeper("mirrored").unwrap();
    plain.push(&image, "hub/library/nginx", "1").unwrap();
    let (open, closed) = (
        plain.start_secure(&lab, false).unwrap(),
        plain.start_secure(&lab, true).unwrap(),
    );
    let folder = &Folder::new(&[]);
    let name = open.name();
    folder.write("ca.pem", open.ca_pem());
    let direct = format!("{name}/hub/direct:1");
    write(
        folder,
        &name,
        &["nginx:1", "redis:7", &direct, "own.example.net/x:1"],
    );
    let run = |more: &str| folder.run(&format!("{IMAGES} --registry-ca=ca.pem --missing{more}"));
    let ran = run("");
    let expected = format!("{direct} {direct}\nredis:7 {name}/hub/library/redis:7\n");
    assert_eq!(
        (ran.code(), ran.out(), ran.err()),
        (Some(1), &*expected, "")
    );
    let ran = run(" --to --platform=linux/amd64,linux/arm64");
    let expected = format!("{direct}\n{name}/hub/library/nginx:1\n{name}/hub/library/redis:7\n");
    assert_eq!((ran.code(), ran.out()), (Some(1), &*expected));
    let ran = run(" --platform=linux/arm64");
    let line = format!("nginx:1 {name}/hub/library/nginx:1 linux/arm64\n");
    ran.prints(&line);
    let ran = run(" --platform=linux/arm64 -o json");
    let line = format!(
        r#"{{"image":"nginx:1","result":"{name}/hub/library/nginx:1","swapped":true,"approved":true,"missing":"platforms","missing_platforms":["linux/arm64"]}}"#
    );
    assert!(ran.out().lines().any(|it| it == line), "{ran:?}");
    let ran = run(" -o skopeo");
    let copy = format!(
        "set -eu\nskopeo copy --all --preserve-digests docker://docker.io/library/redis:7 docker://{name}/hub/library/redis:7\n"
    );
    assert_eq!((ran.code(), ran.out()), (Some(1), &*copy));
    let warning = format!("warning: {direct} is missing, and the manifests name it");
    assert!(ran.err().starts_with(&warning), "{ran:?}");
    // All is there.
    write(folder, &name, &["nginx:1"]);
    let ran = run("");
    assert_eq!((ran.code(), ran.out(), ran.err()), (Some(0), "", ""));
    // No answer is not an answer.
    folder.write("ca.pem", closed.ca_pem());
    write(folder, &closed.name(), &["nginx:1", "redis:7"]);
    let ran = run("");
    assert_eq!((ran.code(), ran.out()), (Some(2), ""));
    let says = "it wants credentials, and this host has no entry";
    assert_eq!(ran.err().matches(says).count(), 2, "{ran:?}");
    let (user, password) = REGISTRY_USER;
    let config = format!(
        r#"{{"auths": {{"{}": {{"username": "{user}", "password": "{password}"}}}}}}"#,
        closed.name()
    );
    folder.write(".docker/config.json", config);
    let ran = run("");
    let expected = format!("redis:7 {}/hub/library/redis:7\n", closed.name());
    assert_eq!(
        (ran.code(), ran.out(), ran.err()),
        (Some(1), &*expected, "")
    );
}

#[test]
fn tools_that_copy_get_what_would_be_swapped() {
    let folder = &Folder::new(&[]);
    write(
        folder,
        "r.example.com",
        &["nginx", "own.example.net/x:1", "r.example.com/hub/a:1"],
    );
    for (tool, expected) in [
        (
            "skopeo",
            "set -eu\nskopeo copy --all --preserve-digests docker://docker.io/library/nginx:latest docker://r.example.com/hub/library/nginx:latest\n",
        ),
        (
            "crane",
            "set -eu\ncrane copy docker.io/library/nginx:latest r.example.com/hub/library/nginx:latest\n",
        ),
        (
            "regsync",
            "version: 1\nsync:\n- source: \"docker.io/library/nginx:latest\"\n  target: \"r.example.com/hub/library/nginx:latest\"\n  type: image\n",
        ),
    ] {
        let ran = folder.run(&format!("{IMAGES} -o {tool}"));
        assert_eq!((ran.code(), ran.out(), ran.err()), (Some(0), expected, ""));
    }
    let ran = folder.run(&format!("{IMAGES} --platform=linux/amd64"));
    assert!(
        ran.code() == Some(2) && ran.err().contains("--missing"),
        "{ran:?}"
    );
}
