//! Files of `deploy/` that are applied by hand in addition to the chart, applied to a real API
//! server.

use std::fs;
use std::path::Path;

use imageswap_lab::{ControlPlane, ControlPlaneOptions, require};

#[test]
fn the_api_server_takes_the_resource_and_the_examples() {
    let options = ControlPlaneOptions::default();
    let cluster = require!(ControlPlane::for_test("manifests", options));
    let namespace = ["create", "namespace", "imageswap-system"];
    cluster.kubectl(namespace).unwrap();
    let deploy = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy"));
    for folder in ["crds", "examples"] {
        let entries = fs::read_dir(deploy.join(folder)).unwrap();
        let mut files: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
        // Examples for pipelines are in a folder of their own.
        files.retain(|file| file.is_file());
        files.sort();
        assert!(!files.is_empty(), "{folder}");
        for file in files {
            // Twice, as GitOps tools do: the second apply changes nothing.
            for _ in 0..2 {
                let args = ["apply", "--server-side", "-f", file.to_str().unwrap()];
                let applied = cluster.kubectl(args);
                applied.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            }
        }
        if folder == "crds" {
            let args = ["wait", "--for=condition=Established", "crd", "--all"];
            cluster.kubectl(args).unwrap();
        }
    }
}
