//! Configurations in files, folders and ConfigMaps.

use super::helpers::{becomes, files, imported, result, says, told};
use super::swapper::{ECR, TARGET};
use imageswap_import::Status::LeftOut;

#[test]
fn configurations_are_recognised_wherever_they_are() {
    let indent = |text: &str| {
        let lines: Vec<_> = text.lines().map(|it| format!("    {it}\n")).collect();
        lines.concat()
    };
    let map = |key: &str, text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata:\n  {key}: |\n{}",
            indent(text)
        )
    };
    let harbor = "rules:\n- {name: a, matches: ['^quay[.]io/'], replace: h.example/quay}\n";
    let swapper = format!("dryRun: false\nimageSwapPolicy: always\n{TARGET}");
    let registries = "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"quay.io\"\nlocation = \"h.example/quay\"\n";
    let hosts = "[host.\"https://h.example/v2/quay\"]\noverride_path = true\n";
    for (key, text) in [
        ("webhook-config.yaml", harbor),
        (".k8s-image-swapper.yml", swapper.as_str()),
        ("registries.conf", registries),
    ] {
        let expected = if key.starts_with('.') {
            format!("{ECR}/quay.io/a:1")
        } else {
            "h.example/quay/a:1".to_owned()
        };
        let document = map(key, text);
        let list = format!(
            "apiVersion: v1\nkind: List\nitems:\n- {}",
            document.replace('\n', "\n  ")
        );
        let json = serde_json::to_string(
            &serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text}}),
        )
        .unwrap();
        for (name, it) in [
            ("plain", files(&[("standard input", text)])),
            ("file", files(&[(key, text)])),
            ("map", imported(&document)),
            ("list", imported(&list)),
            ("json", imported(&json)),
        ] {
            assert!(
                it.report.others.is_empty(),
                "{key} {name} {:?}",
                it.report.others
            );
            assert_eq!(
                result(&it, "quay.io/a:1"),
                expected,
                "{key} {name}: {}",
                told(&it)
            );
        }
        let it = imported(&document);
        assert_eq!(it.report.rules[0].source, format!("test.yaml (data.{key})"));
    }
    let it = files(&[("certs.d/quay.io/hosts.toml", hosts)]);
    becomes(&it, "quay.io/a:1", "h.example/quay/a:1");
    let it = imported(&map("hosts.toml", hosts));
    says(&it, "the name of its folder");
    // Two configurations, or one beside policies, have no order that is known.
    let it = files(&[
        ("h.yaml", harbor),
        ("registries.conf", registries),
        ("m.conf", "default:a.io\n"),
    ]);
    assert!(
        it.policies.is_empty() && told(&it).contains("has to be imported alone"),
        "{}",
        told(&it)
    );
    let policy = "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nmetadata: {name: r}\nspec: {parameters: {repos: [a.io/]}}\n";
    let it = files(&[("h.yaml", harbor), ("p.yaml", policy)]);
    assert_eq!(
        (it.policies.len(), it.report.count(LeftOut)),
        (1, 1),
        "{}",
        told(&it)
    );
}

#[test]
fn other_files_are_named_and_broken_ones_have_a_place() {
    for (name, text, line, unreadable) in [
        ("a/registries.conf", "a = = 1\n", 1, true),
        ("certs.d/quay.io/hosts.toml", "\n[host\n", 2, true),
        ("c/registries.conf.d/x.conf", "[[registry]\n", 1, true),
        ("Cargo.toml", "[package]\nname = \"a\"\n", 1, false),
        ("values.yaml", "rules: [{a: b}]\n", 1, false),
        ("values.yaml", "target: {port: 80}\nsource: a\n", 1, false),
    ] {
        let it = files(&[(name, text)]);
        assert!(it.policies.is_empty(), "{name}");
        let other = &it.report.others[0];
        assert_eq!(
            (other.line, other.unreadable),
            (line, unreadable),
            "{name}: {other:?}"
        );
    }
}
