//! `imageswap init`: a policy for the images that manifests name.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::process::Command;

/// The exit code, standard output, and standard error.
fn imageswap(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    let output = command.current_dir(folder).args(args).output().unwrap();
    let text = |it| String::from_utf8(it).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A folder with a Deployment of these images.
fn folder(images: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(at, image)| format!("      - {{name: c{at}, image: '{image}'}}\n"))
        .collect();
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  template:\n    spec:\n      containers:\n{}",
        containers.concat()
    );
    std::fs::write(folder.path().join("d.yaml"), text).unwrap();
    folder
}

const IMAGES: [&str; 6] = [
    "nginx",
    "bitnami/redis:7",
    "quay.io/acme/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "registry.example.com/team/app:1",
    "localhost:5000/x",
    "Upper.example.net/y",
];

#[test]
fn each_registry_of_the_manifests_has_a_rule() {
    for to in ["registry.example.com", "registry.example.com/mirrors/"] {
        let folder = folder(&IMAGES);
        let init = ["init", "-f", "d.yaml", "--to", to];
        let (code, policy, said) = imageswap(folder.path(), &init);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{policy}");
        assert_eq!(imageswap(folder.path(), &init).1, policy);
        assert!(policy.contains("enforcement: audit"), "{policy}");
        std::fs::write(folder.path().join("p.yaml"), &policy).unwrap();
        let lint = imageswap(folder.path(), &["lint", "p.yaml"]);
        assert_eq!(lint.0, Some(0), "{lint:?}\n{policy}");
        let to = to.trim_end_matches('/');
        for (image, result) in IMAGES.into_iter().zip([
            format!("{to}/docker.io/library/nginx"),
            format!("{to}/docker.io/bitnami/redis:7"),
            format!("{to}/{}", IMAGES[2]),
            IMAGES[3].to_owned(),
            format!("{to}/localhost-5000/x"),
            format!("{to}/upper.example.net/y"),
        ]) {
            let args = ["explain", "--policy", "p.yaml", "-o", "json", image];
            let (_, answer, said) = imageswap(folder.path(), &args);
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["result"], result, "{said}\n{policy}");
            assert_eq!(answer["approved"], true, "{image}\n{policy}");
        }
    }
}

#[test]
fn what_makes_no_policy_is_said() {
    for (images, to, said) in [
        (&["nginx"][..], "hub", "--to hub"),
        (&["nginx"], "https://registry.example.com", "--to https://"),
        (&[], "registry.example.com", "the manifests name no image"),
    ] {
        let folder = folder(images);
        let (code, policy, error) = imageswap(folder.path(), &["init", "-f", "d.yaml", "--to", to]);
        assert_eq!((code, policy.as_str()), (Some(2), ""), "{error}");
        assert!(error.contains(said), "{error}");
    }
    // The others get their policy all the same.
    let folder = folder(&["a/UPPER", "quay.io/a"]);
    let init = ["init", "-f", "d.yaml", "--to", "registry.example.com"];
    let (code, policy, error) = imageswap(folder.path(), &init);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("d.yaml:8:") && error.contains("`a/UPPER`"),
        "{error}"
    );
    assert!(
        policy.contains("quay.io/**") && !policy.contains("UPPER"),
        "{policy}"
    );
}
