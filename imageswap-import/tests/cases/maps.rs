//! Maps files that are recognised without a word for the format.

use super::helpers::imported;
use imageswap_import::{Source, Status, import};

#[test]
fn a_maps_file_is_recognised_and_compared() {
    let it = imported(
        "default:registry.example.com\ngitlab.com:registry.example.com/gitlab\nnoswap_wildcards:example.com\n",
    );
    assert_eq!(it.policies.len(), 1);
    assert_eq!(it.report.count(Status::LeftOut), 0);
    assert!(it.report.others.is_empty());
    // Spellings of official images are one image here, and two to the file.
    assert_eq!(it.report.rules[0].status, Status::Differs);
    let same = it.verify("gitlab.com/a/b:1");
    assert!(same[0].same, "{same:?}");
    assert_eq!(same[0].ours, "registry.example.com/gitlab/a/b:1");
    let differs = it.verify("library/nginx");
    assert!(!differs[0].same, "{differs:?}");
    let it = imported("default::d.io\n[REPLACE]a*::\n");
    assert!(it.report.count(Status::LeftOut) > 0);
}

#[test]
fn the_maps_file_of_a_config_map_is_read() {
    let map = |key: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: imageswap-maps}}\ndata:\n  {key}: |\n    default::\n    quay.io::registry.example.com/quay\n"
        )
    };
    let it = imported(&map("maps"));
    let decided = &it.verify("quay.io/a:1")[0];
    assert!(
        decided.same && decided.ours == "registry.example.com/quay/a:1",
        "{decided:?}"
    );
    let line = it
        .report
        .rules
        .iter()
        .find(|it| it.rule.starts_with("quay"));
    let line = line.unwrap();
    assert_eq!(
        (line.source.as_str(), line.line),
        ("test.yaml (data.maps)", 2)
    );
    let other = imported(&map("settings"));
    assert!(other.policies.is_empty() && other.report.others.len() == 1);
}

#[test]
fn other_texts_are_not_maps_files() {
    for text in [
        "default: true\nreplicas: 2\nimage:\n  repository: a.io/b\n",
        "apiVersion: v1\nkind: ConfigMap\ndefault: a.io\n",
        "docker.io: a.io/b\n",
        "default:\n- a.io\n",
    ] {
        let it = imported(text);
        assert!(it.policies.is_empty(), "{text}");
        assert!(!it.report.others.is_empty(), "{text}");
    }
}

#[test]
fn a_maps_file_beside_other_policies_is_left_out() {
    let policy = "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nmetadata: {name: r}\nspec: {parameters: {repos: [a.io/]}}\n";
    let maps = "default:registry.example.com\n";
    let source = |name, text| Source { name, text };
    let it = import(&[source("maps", maps), source("policy", policy)]);
    assert_eq!(it.policies.len(), 1);
    assert!(it.report.count(Status::LeftOut) > 0);
}
