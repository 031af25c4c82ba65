//! `imageswap init`: a policy for the images that manifests name.

use crate::folder::Folder;

/// A folder with a Deployment of these images.
fn folder(images: &[&str]) -> Folder {
    let containers: Vec<_> = images
        .iter()
        .enumerate()
        .map(|(at, image)| format!("      - {{name: c{at}, image: '{image}'}}\n"))
        .collect();
    let text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  template:\n    spec:\n      containers:\n{}",
        containers.concat()
    );
    Folder::new(&[("d.yaml", &text)])
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
        let init = format!("init -f d.yaml --to {to}");
        let ran = folder.run(&init);
        let policy = ran.out();
        assert_eq!((ran.code(), ran.err()), (Some(0), ""), "{policy}");
        assert_eq!(folder.run(&init).out(), policy);
        assert!(policy.contains("enforcement: audit"), "{policy}");
        folder.write("p.yaml", policy);
        let lint = folder.run("lint p.yaml");
        assert_eq!(lint.code(), Some(0), "{lint:?}\n{policy}");
        let to = to.trim_end_matches('/');
        for (image, result) in IMAGES.into_iter().zip([
            format!("{to}/docker.io/library/nginx"),
            format!("{to}/docker.io/bitnami/redis:7"),
            format!("{to}/{}", IMAGES[2]),
            IMAGES[3].to_owned(),
            format!("{to}/localhost-5000/x"),
            format!("{to}/upper.example.net/y"),
        ]) {
            let answer = folder
                .run(&format!("explain --policy p.yaml -o json {image}"))
                .json();
            assert_eq!(answer["result"], result, "{policy}");
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
        let ran = folder(images).run(&format!("init -f d.yaml --to {to}"));
        assert_eq!((ran.code(), ran.out()), (Some(2), ""), "{ran:?}");
        ran.says(said);
    }
    // The others get their policy all the same.
    let ran = folder(&["a/UPPER", "quay.io/a"]).run("init -f d.yaml --to registry.example.com");
    ran.exits(2).says("d.yaml:8:").says("`a/UPPER`");
    assert!(
        ran.out().contains("quay.io/**") && !ran.out().contains("UPPER"),
        "{ran:?}"
    );
}
