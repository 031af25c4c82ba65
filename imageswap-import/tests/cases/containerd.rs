//! Mirrors of containerd.

use super::helpers::{becomes, decide, files, first, moves, result};
use imageswap_import::Import;
use imageswap_import::Status::{CarriedOver, Differs, LeftOut};

/// A folder of `hosts.toml` files.
fn hosts(of: &[(&str, &str)]) -> Import {
    let of: Vec<_> = of
        .iter()
        .map(|(host, text)| (format!("certs.d/{host}/hosts.toml"), *text))
        .collect();
    let of: Vec<_> = of.iter().map(|it| (it.0.as_str(), it.1)).collect();
    files(&of)
}

#[test]
fn every_field_of_a_hosts_toml_is_understood_or_the_file_is_left_out() {
    let mirror = "[host.\"https://m.example\"]\n";
    let server = "server = \"https://m.example\"\n";
    for (text, status, part) in [
        (server.to_owned(), CarriedOver, ""),
        ("server = \"m.example\"\n".to_owned(), CarriedOver, ""),
        (
            mirror.to_owned(),
            Differs,
            "what `m.example` lacks comes from `quay.io` there",
        ),
        (
            format!("server = \"https://quay.io\"\n{mirror}"),
            Differs,
            "from `quay.io` there",
        ),
        (
            format!("server = \"https://n.example\"\n{mirror}"),
            Differs,
            "from `n.example` there",
        ),
        (
            "[host.\"https://m.example\"]\n[host.\"https://n.example\"]\n".to_owned(),
            Differs,
            "from `n.example`, then `quay.io` there",
        ),
        (
            format!("{mirror}capabilities = [\"pull\", \"resolve\"]\n"),
            Differs,
            "m.example",
        ),
        (
            format!("{mirror}capabilities = [\"PULL\", \"Resolve\", \"push\"]\n"),
            Differs,
            "m.example",
        ),
        (format!("{mirror}capabilities = []\n"), Differs, "m.example"),
        (
            format!("{mirror}capabilities = [\"pull\"]\n"),
            Differs,
            "only images with a digest do",
        ),
        (
            format!("{mirror}capabilities = [\"resolve\"]\n"),
            LeftOut,
            "1:7 left out: it may `resolve`",
        ),
        (
            format!("{mirror}capabilities = [\"pull\", \"delete\"]\n"),
            LeftOut,
            "2:16 left out: the capability `delete`",
        ),
        (
            format!("{mirror}capabilities = \"pull\"\n"),
            LeftOut,
            "2:16 left out",
        ),
        (
            format!("{server}capabilities = [\"push\"]\n"),
            LeftOut,
            "nothing can be pulled",
        ),
        (
            format!("{server}capabilities = [\"pull\"]\n"),
            LeftOut,
            "nothing can be pulled",
        ),
        (
            format!("{mirror}ca = \"a.crt\"\n"),
            Differs,
            "nodes reach `m.example` with `ca`",
        ),
        (
            format!(
                "{server}client = [[\"a\", \"b\"]]\nskip_verify = true\ndial_timeout = \"1s\"\nproxy = \"http://p\"\n"
            ),
            CarriedOver,
            "with `client`, `skip_verify`, `dial_timeout`, `proxy`",
        ),
        (
            format!("{mirror}[host.\"https://m.example\".header]\na = \"b\"\n"),
            Differs,
            "with `header`",
        ),
        (
            "server = \"http://m.example\"\n".to_owned(),
            CarriedOver,
            "with `http`",
        ),
        (
            "server = \"https://m.example/v2\"\n".to_owned(),
            CarriedOver,
            "",
        ),
        (
            "server = \"https://m.example/hub\"\n".to_owned(),
            LeftOut,
            "1:10 left out: `https://m.example/hub`: its API is not below `/v2`",
        ),
        (
            "server = \"https://m.example\"\noverride_path = true\n".to_owned(),
            LeftOut,
            "its API is not below `/v2`",
        ),
        (
            "server = \"https://m.example/v2\"\noverride_path = 1\n".to_owned(),
            LeftOut,
            "2:17 left out: `override_path` is neither",
        ),
        (
            "server = \"https://m.example?a=b\"\n".to_owned(),
            LeftOut,
            "only a host and a path",
        ),
        (
            "server = \"httpm.example\"\n".to_owned(),
            LeftOut,
            "expected a URL",
        ),
        (
            "server = \"https://m\"\n".to_owned(),
            LeftOut,
            "no image can name this registry",
        ),
        (
            "server = \"https://docker.io\"\n".to_owned(),
            LeftOut,
            "no image can name this registry",
        ),
        (
            "server = 7\n".to_owned(),
            LeftOut,
            "1:10 left out: `server` is a number, not a text",
        ),
        (
            format!("{server}mirrors = []\n"),
            LeftOut,
            "2:1 left out: `mirrors` is not understood",
        ),
        (
            format!("{mirror}server = \"https://n.example\"\n"),
            LeftOut,
            "2:1 left out: `server` is not understood",
        ),
        (
            "host = {\"https://m.example\" = {}}\n".to_owned(),
            LeftOut,
            "write `[host.\"URL\"]`",
        ),
        (
            "host.\"https://m.example\".ca = \"a\"\n".to_owned(),
            LeftOut,
            "write `[host.\"URL\"]`",
        ),
        (
            "host = \"https://m.example\"\n".to_owned(),
            LeftOut,
            "`host` is not a table",
        ),
        (
            "server = \"https://quay.io\"\n".to_owned(),
            CarriedOver,
            "its images stay",
        ),
        ("server = \"\"\n".to_owned(), CarriedOver, "its images stay"),
        (String::new(), CarriedOver, "its images stay"),
    ] {
        let it = hosts(&[("quay.io", &text)]);
        let report = first(&it);
        assert_eq!(it.report.rules[0].status, status, "{text}: {report}");
        assert!(report.contains(part), "{text}: {report}");
        if status == LeftOut || part.contains("stay") {
            assert!(it.policies.is_empty(), "{text}");
            continue;
        }
        let tagged = !text.contains("[\"pull\"]");
        let others = [
            "nginx:1",
            "quay.io.evil.example/a:1",
            "quay.io:5000/a:1",
            "m.example/a:1",
            "x-quay.io/a:1",
        ];
        moves(&it, ["quay.io/a", "m.example/a"], tagged, &others, &text);
    }
}

#[test]
fn hosts_are_named_by_their_folders() {
    let text = "server = \"https://m.example\"\n";
    for (folder, image, moved) in [
        ("docker.io", "nginx:1", "m.example/library/nginx:1"),
        ("docker.io", "index.docker.io/a/b", "m.example/a/b"),
        ("reg.example_5000_", "reg.example:5000/a", "m.example/a"),
        ("reg.example:5000", "reg.example:5000/a", "m.example/a"),
        ("reg.example:5000", "reg.example/a", "reg.example/a"),
        ("localhost", "localhost/a:1", "m.example/a:1"),
    ] {
        let it = hosts(&[(folder, text)]);
        assert_eq!(result(&it, image), moved, "{folder}: {}", first(&it));
    }
    for path in ["hosts.toml", "standard input", "certs.d/reg/hosts.toml"] {
        let it = files(&[(path, text)]);
        assert!(
            first(&it).contains("left out: which registry"),
            "{path} {}",
            first(&it)
        );
    }
    let it = hosts(&[
        ("reg.example:5000", "server = \"https://x.example\"\n"),
        ("reg.example_5000_", text),
    ]);
    becomes(&it, "reg.example:5000/a", "m.example/a");
    assert_eq!(it.report.count(LeftOut), 1);
    // A path of the mirror is a path of its images.
    let it = hosts(&[(
        "docker.io",
        "[host.\"https://h.example/v2/hub\"]\noverride_path = true\n",
    )]);
    becomes(&it, "nginx:1", "h.example/hub/library/nginx:1");
    // Pods of every namespace are moved, as on the node.
    let system = decide(&it, "kube-system", &[], "nginx:1").unwrap();
    assert_eq!(system.0, "h.example/hub/library/nginx:1");
}

#[test]
fn the_default_folder_is_for_registries_without_one() {
    let it = hosts(&[
        ("_default", "server = \"https://m.example\"\n"),
        ("quay.io", "server = \"https://q.example\"\n"),
        ("ghcr.io", ""),
        ("gcr.io", "server = \"https://x.example/api\"\n"),
    ]);
    for (image, moved) in [
        ("nginx:1", "m.example/library/nginx:1"),
        ("registry.k8s.io/pause:3", "m.example/pause:3"),
        ("quay.io/a/b", "q.example/a/b"),
        ("ghcr.io/a/b", "ghcr.io/a/b"),
        // Its file is left out, and it still has a folder of its own.
        ("gcr.io/a/b", "gcr.io/a/b"),
        ("m.example/a", "m.example/a"),
    ] {
        becomes(&it, image, moved);
    }
    let default = it
        .report
        .rules
        .iter()
        .find(|it| it.policy.contains("_default"))
        .unwrap();
    assert!(
        default.to_string().contains("which registry is meant"),
        "{default}"
    );
    // So has one that cannot be read.
    let it = hosts(&[
        ("_default", "server = \"https://m.example\"\n"),
        ("quay.io", "a = = 1\n"),
    ]);
    becomes(&it, "quay.io/a/b", "quay.io/a/b");
    assert!(!it.report.is_exact());
    // One mirror for two registries.
    let one = "server = \"https://m.example\"\n";
    let it = hosts(&[("quay.io", one), ("ghcr.io", one)]);
    assert!(
        it.report
            .rules
            .iter()
            .all(|it| it.status == Differs && it.to_string().contains("which registry is meant"))
    );
}

#[test]
fn a_mirror_that_has_a_mirror_is_not_followed() {
    let it = hosts(&[
        ("quay.io", "server = \"https://a.example\"\n"),
        ("a.example", "server = \"https://b.example\"\n"),
    ]);
    // One rule after the other would move an image twice, so what is at the first mirror stays.
    let second = &it.report.rules[1];
    assert!(
        second.to_string().contains("another rule's target"),
        "{second}"
    );
    assert_eq!(second.status, Differs);
    becomes(&it, "quay.io/x", "a.example/x");
}
