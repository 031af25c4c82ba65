//! `imageswap images --missing`, against Debian's registry; and `-o skopeo|crane|regsync`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use imageswap_lab::{Image, Lab, REGISTRY_USER, Registry};
use std::path::Path;
use std::process::Command;

/// The exit code, standard output, and standard error; without the user's own credentials.
fn imageswap(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    let output = command
        .current_dir(folder)
        .env("HOME", folder)
        .args(args)
        .output()
        .unwrap();
    let text = |it| String::from_utf8(it).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn write(folder: &Path, registry: &str, images: &[&str]) {
    let policy = format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: corp}}\nspec:\n  rules:\n  \
         - {{name: hub, from: 'docker.io/**', to: '{registry}/hub'}}\n  - {{name: own, keep: 'own.example.net/**'}}\n"
    );
    std::fs::write(folder.join("p.yaml"), policy).unwrap();
    let containers = images.iter().enumerate();
    let containers: Vec<_> = containers
        .map(|(at, image)| format!("  - {{name: c{at}, image: '{image}'}}\n"))
        .collect();
    let containers = containers.concat();
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n{containers}"
    );
    std::fs::write(folder.join("pod.yaml"), pod).unwrap();
}

const IMAGES: [&str; 2] = ["images", "--policy=p.yaml"];

#[test]
fn what_a_registry_lacks_is_listed() {
    let Some(lab) = Lab::for_test("what_a_registry_lacks_is_listed") else {
        return;
    };
    let plain = Registry::start(&lab).unwrap();
    let image = Image::sleeper("mirrored").unwrap();
    plain.push(&image, "hub/library/nginx", "1").unwrap();
    let (open, closed) = (
        plain.start_secure(&lab, false).unwrap(),
        plain.start_secure(&lab, true).unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let name = open.name();
    std::fs::write(folder.join("ca.pem"), open.ca_pem()).unwrap();
    let direct = format!("{name}/hub/direct:1");
    write(
        folder,
        &name,
        &["nginx:1", "redis:7", &direct, "own.example.net/x:1"],
    );
    let run = |more: &[&str]| {
        let args = [
            &IMAGES[..],
            &["-f", "pod.yaml", "--registry-ca=ca.pem"],
            more,
        ]
        .concat();
        imageswap(folder, &args)
    };
    let (code, out, said) = run(&["--missing"]);
    let expected = format!("{direct} {direct}\nredis:7 {name}/hub/library/redis:7\n");
    assert_eq!((code, out, said.as_str()), (Some(1), expected, ""));
    let (code, out, _) = run(&["--missing", "--to", "--platform=linux/amd64,linux/arm64"]);
    let expected = format!("{direct}\n{name}/hub/library/nginx:1\n{name}/hub/library/redis:7\n");
    assert_eq!((code, out), (Some(1), expected));
    let (_, out, _) = run(&["--missing", "--platform=linux/arm64"]);
    assert!(
        out.contains(&format!("nginx:1 {name}/hub/library/nginx:1 linux/arm64\n")),
        "{out}"
    );
    let (_, out, _) = run(&["--missing", "--platform=linux/arm64", "-o", "json"]);
    let line = format!(
        r#"{{"image":"nginx:1","result":"{name}/hub/library/nginx:1","swapped":true,"approved":true,"missing":"platforms","missing_platforms":["linux/arm64"]}}"#
    );
    assert!(out.lines().any(|it| it == line), "{out}");
    let (code, out, said) = run(&["--missing", "-o", "skopeo"]);
    let copy = format!(
        "set -eu\nskopeo copy --all --preserve-digests docker://docker.io/library/redis:7 docker://{name}/hub/library/redis:7\n"
    );
    assert_eq!((code, out), (Some(1), copy));
    assert!(
        said.starts_with(&format!(
            "warning: {direct} is missing, and the manifests name it"
        )),
        "{said}"
    );
    // All is there.
    write(folder, &name, &["nginx:1"]);
    assert_eq!(run(&["--missing"]), (Some(0), String::new(), String::new()));
    // No answer is not an answer.
    std::fs::write(folder.join("ca.pem"), closed.ca_pem()).unwrap();
    write(folder, &closed.name(), &["nginx:1", "redis:7"]);
    let (code, out, said) = run(&["--missing"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    let says = "it wants credentials, and this host has no entry";
    assert_eq!(said.matches(says).count(), 2, "{said}");
    let (user, password) = REGISTRY_USER;
    let config = format!(
        r#"{{"auths": {{"{}": {{"username": "{user}", "password": "{password}"}}}}}}"#,
        closed.name()
    );
    std::fs::create_dir(folder.join(".docker")).unwrap();
    std::fs::write(folder.join(".docker/config.json"), config).unwrap();
    let (code, out, said) = run(&["--missing"]);
    let expected = format!("redis:7 {}/hub/library/redis:7\n", closed.name());
    assert_eq!((code, out, said.as_str()), (Some(1), expected, ""));
}

#[test]
fn tools_that_copy_get_what_would_be_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
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
        let args = [&IMAGES[..], &["-f", "pod.yaml", "-o", tool]].concat();
        assert_eq!(
            imageswap(folder, &args),
            (Some(0), expected.to_owned(), String::new())
        );
    }
    let (code, _, said) = imageswap(
        folder,
        &[&IMAGES[..], &["-f", "pod.yaml", "--platform=linux/amd64"]].concat(),
    );
    assert!(code == Some(2) && said.contains("--missing"), "{said}");
}
