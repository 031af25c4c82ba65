//! Mirrors of containerd, podman and CRI-O.

use super::helpers::{decide, files, result};
use imageswap_import::{Import, Status};
use Status::{CarriedOver, Differs, LeftOut};

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A folder of `hosts.toml` files.
fn hosts(of: &[(&str, &str)]) -> Import {
    let of: Vec<_> = of
        .iter()
        .map(|(host, text)| (format!("certs.d/{host}/hosts.toml"), *text))
        .collect();
    let of: Vec<_> = of.iter().map(|it| (it.0.as_str(), it.1)).collect();
    files(&of)
}

fn registries(text: &str) -> Import {
    files(&[("containers/registries.conf", text)])
}

/// The report of the first rule.
fn told(it: &Import) -> String {
    let rule = &it.report.rules[0];
    let notes: Vec<_> = rule.notes.iter().map(|it| format!("note: {it}")).collect();
    format!("{}:{} {rule} {}", rule.line, rule.column, notes.join("; "))
}

#[test]
fn every_field_of_a_hosts_toml_is_understood_or_the_file_is_left_out() {
    let mirror = "[host.\"https://m.example\"]\n";
    let server = "server = \"https://m.example\"\n";
    for (text, status, part) in [
        (server.to_owned(), CarriedOver, ""),
        ("server = \"m.example\"\n".to_owned(), CarriedOver, ""),
        (mirror.to_owned(), Differs, "what `m.example` lacks comes from `quay.io` there"),
        (format!("server = \"https://quay.io\"\n{mirror}"), Differs, "from `quay.io` there"),
        (format!("server = \"https://n.example\"\n{mirror}"), Differs, "from `n.example` there"),
        ("[host.\"https://m.example\"]\n[host.\"https://n.example\"]\n".to_owned(), Differs, "from `n.example`, then `quay.io` there"),
        (format!("{mirror}capabilities = [\"pull\", \"resolve\"]\n"), Differs, "m.example"),
        (format!("{mirror}capabilities = [\"PULL\", \"Resolve\", \"push\"]\n"), Differs, "m.example"),
        (format!("{mirror}capabilities = []\n"), Differs, "m.example"),
        (format!("{mirror}capabilities = [\"pull\"]\n"), Differs, "only images with a digest do"),
        (format!("{mirror}capabilities = [\"resolve\"]\n"), LeftOut, "1:7 left out: it may `resolve`"),
        (format!("{mirror}capabilities = [\"pull\", \"delete\"]\n"), LeftOut, "2:16 left out: the capability `delete`"),
        (format!("{mirror}capabilities = \"pull\"\n"), LeftOut, "2:16 left out"),
        (format!("{server}capabilities = [\"push\"]\n"), LeftOut, "nothing can be pulled"),
        (format!("{server}capabilities = [\"pull\"]\n"), LeftOut, "nothing can be pulled"),
        (format!("{mirror}ca = \"a.crt\"\n"), Differs, "nodes reach `m.example` with `ca`"),
        (format!("{server}client = [[\"a\", \"b\"]]\nskip_verify = true\ndial_timeout = \"1s\"\nproxy = \"http://p\"\n"), CarriedOver, "with `client`, `skip_verify`, `dial_timeout`, `proxy`"),
        (format!("{mirror}[host.\"https://m.example\".header]\na = \"b\"\n"), Differs, "with `header`"),
        ("server = \"http://m.example\"\n".to_owned(), CarriedOver, "with `http`"),
        ("server = \"https://m.example/v2\"\n".to_owned(), CarriedOver, ""),
        ("server = \"https://m.example/hub\"\n".to_owned(), LeftOut, "1:10 left out: `https://m.example/hub`: its API is not below `/v2`"),
        ("server = \"https://m.example\"\noverride_path = true\n".to_owned(), LeftOut, "its API is not below `/v2`"),
        ("server = \"https://m.example/v2\"\noverride_path = 1\n".to_owned(), LeftOut, "2:17 left out: `override_path` is neither"),
        ("server = \"https://m.example?a=b\"\n".to_owned(), LeftOut, "only a host and a path"),
        ("server = \"httpm.example\"\n".to_owned(), LeftOut, "expected a URL"),
        ("server = \"https://m\"\n".to_owned(), LeftOut, "no image can name this registry"),
        ("server = \"https://docker.io\"\n".to_owned(), LeftOut, "no image can name this registry"),
        ("server = 7\n".to_owned(), LeftOut, "1:10 left out: `server` is a number, not a text"),
        (format!("{server}mirrors = []\n"), LeftOut, "2:1 left out: `mirrors` is not understood"),
        (format!("{mirror}server = \"https://n.example\"\n"), LeftOut, "2:1 left out: `server` is not understood"),
        ("host = {\"https://m.example\" = {}}\n".to_owned(), LeftOut, "write `[host.\"URL\"]`"),
        ("host.\"https://m.example\".ca = \"a\"\n".to_owned(), LeftOut, "write `[host.\"URL\"]`"),
        ("host = \"https://m.example\"\n".to_owned(), LeftOut, "`host` is not a table"),
        ("server = \"https://quay.io\"\n".to_owned(), CarriedOver, "its images stay"),
        ("server = \"\"\n".to_owned(), CarriedOver, "its images stay"),
        (String::new(), CarriedOver, "its images stay"),
    ] {
        let it = hosts(&[("quay.io", &text)]);
        let report = told(&it);
        assert_eq!(it.report.rules[0].status, status, "{text}: {report}");
        assert!(report.contains(part), "{text}: {report}");
        if status == LeftOut || part.contains("stay") {
            assert!(it.policies.is_empty(), "{text}");
            continue;
        }
        let tagged = !text.contains("[\"pull\"]");
        let expected = |image: &str| image.replace("quay.io", "m.example");
        for (image, moves) in [("quay.io/a/b:1", tagged), ("quay.io/a/b", tagged), (&format!("quay.io/a/b{DIGEST}"), true)] {
            let wanted = if moves { expected(image) } else { image.to_owned() };
            assert_eq!(result(&it, image), wanted, "{text}");
        }
        for image in ["nginx:1", "quay.io.evil.example/a:1", "quay.io:5000/a:1", "m.example/a:1", "x-quay.io/a:1"] {
            assert_eq!(result(&it, image), image, "{text}");
        }
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
        assert_eq!(result(&it, image), moved, "{folder}: {}", told(&it));
    }
    for path in ["hosts.toml", "standard input", "certs.d/reg/hosts.toml"] {
        let it = files(&[(path, text)]);
        assert!(told(&it).contains("left out: which registry"), "{path} {}", told(&it));
    }
    let it = hosts(&[("reg.example:5000", "server = \"https://x.example\"\n"), ("reg.example_5000_", text)]);
    assert_eq!(result(&it, "reg.example:5000/a"), "m.example/a");
    assert_eq!(it.report.count(LeftOut), 1);
    // A path of the mirror is a path of its images.
    let it = hosts(&[("docker.io", "[host.\"https://h.example/v2/hub\"]\noverride_path = true\n")]);
    assert_eq!(result(&it, "nginx:1"), "h.example/hub/library/nginx:1");
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
        assert_eq!(result(&it, image), moved, "{image}: {:?}", it.report);
    }
    let default = it.report.rules.iter().find(|it| it.policy.contains("_default")).unwrap();
    assert!(default.to_string().contains("which registry is meant"), "{default}");
    // So has one that cannot be read.
    let it = hosts(&[("_default", "server = \"https://m.example\"\n"), ("quay.io", "a = = 1\n")]);
    assert_eq!(result(&it, "quay.io/a/b"), "quay.io/a/b");
    assert!(!it.report.is_exact());
    // One mirror for two registries.
    let one = "server = \"https://m.example\"\n";
    let it = hosts(&[("quay.io", one), ("ghcr.io", one)]);
    assert!(it.report.rules.iter().all(|it| it.status == Differs && it.to_string().contains("which registry is meant")));
}

#[test]
fn a_mirror_that_has_a_mirror_is_not_followed() {
    let it = hosts(&[
        ("quay.io", "server = \"https://a.example\"\n"),
        ("a.example", "server = \"https://b.example\"\n"),
    ]);
    for rule in &it.report.rules {
        assert!(rule.status != LeftOut || it.policies.len() < 2, "{rule}");
    }
    if it.report.count(LeftOut) == 0 {
        assert_eq!(result(&it, "quay.io/x"), "a.example/x");
        assert_eq!(result(&it, "a.example/x"), "b.example/x");
    }
}

#[test]
fn every_field_of_a_registries_conf_is_understood_or_its_table_is_left_out() {
    let search = "unqualified-search-registries = [\"docker.io\"]\n";
    let table = "[[registry]]\nprefix = \"quay.io/team\"\nlocation = \"m.example/quay\"\n";
    let mirror = "[[registry]]\nlocation = \"quay.io/team\"\n[[registry.mirror]]\nlocation = \"m.example/quay\"\n";
    for (text, status, part) in [
        (table.to_owned(), CarriedOver, ""),
        (table.replace("quay\"", "quay/\""), CarriedOver, ""),
        (format!("{table}insecure = true\nproxy = \"http://p:1\"\n"), CarriedOver, "with `insecure`, `proxy`"),
        (format!("{table}insecure = false\nblocked = false\nmirror-by-digest-only = true\n"), CarriedOver, ""),
        (mirror.to_owned(), Differs, "what `m.example/quay` lacks comes from `quay.io/team` there"),
        (format!("{mirror}[[registry.mirror]]\nlocation = \"n.example\"\n"), Differs, "from `n.example`, then `quay.io/team` there"),
        (format!("{mirror}pull-from-mirror = \"all\"\ninsecure = true\n"), Differs, "with `insecure`"),
        (format!("{mirror}pull-from-mirror = \"digest-only\"\n"), Differs, "digest"),
        (mirror.replace("[[registry.m", "mirror-by-digest-only = true\n[[registry.m"), Differs, "digest"),
        (format!("{table}blocked = true\n"), Differs, "denied"),
        (format!("{table}proxy = 7\n"), LeftOut, "4:9 left out: `proxy` is a number"),
        (format!("{table}location-2 = \"a\"\n"), LeftOut, "4:1 left out: `location-2` is not understood"),
        (format!("{mirror}prefix = \"a\"\n"), LeftOut, "5:1 left out: `prefix` is not understood"),
        (format!("{mirror}pull-from-mirror = \"never\"\n"), LeftOut, "5:20 left out: `never` is none of"),
        (mirror.replace("[[registry.m", "mirror-by-digest-only = true\n[[registry.m") + "pull-from-mirror = \"all\"\n", LeftOut, "beside `mirror-by-digest-only`"),
        ("[[registry]]\nprefix = \"quay.io/team\"\n".to_owned(), LeftOut, "2:10 left out: it has no `location`"),
        ("[[registry]]\ninsecure = true\n".to_owned(), LeftOut, "neither `prefix` nor `location`"),
        (table.replace("m.example", "https://m.example"), LeftOut, "3:12 left out: `https://m.example/quay` has a scheme"),
        (table.replace("m.example", "mirror"), LeftOut, "no image can name `mirror/quay`"),
        (table.replace("m.example", "m.Example/Upper"), LeftOut, "no image can name"),
        (mirror.replace("location = \"m.example/quay\"\n", ""), LeftOut, "a mirror has no `location`"),
        ("[[registry]]\nprefix = \"*.quay.io/team\"\nlocation = \"m.example/quay\"\n".to_owned(), LeftOut, "only a host can begin with `*.`"),
        ("[registry]\nprefix = \"quay.io/team\"\n".to_owned(), LeftOut, "expected tables `[[registry]]`"),
        (format!("short-name-mode = \"enforcing\"\ncredential-helpers = [\"a\"]\nadditional-layer-store-auth-helper = \"b\"\n{table}"), CarriedOver, ""),
        (format!("short-name-mode = \"ask\"\n{table}"), LeftOut, "1:19 left out: the mode `ask`"),
        (format!("registries-d = \"ask\"\n{table}"), LeftOut, "1:1 left out: `registries-d` is not understood"),
    ] {
        let with_search = format!("{search}{text}");
        let it = registries(&with_search);
        let shifted = told(&it);
        // The first line is that of the search.
        let (line, rest) = shifted.split_once(':').unwrap();
        let report = format!("{}:{rest}", line.parse::<usize>().unwrap() - 1);
        assert_eq!(it.report.rules[0].status, status, "{text}: {report}");
        if part == "denied" {
            let (moved, approved) = decide(&it, "a", &[], "quay.io/team/x:1").unwrap();
            assert_eq!((moved.as_str(), approved), ("quay.io/team/x:1", false), "{report}");
            assert!(decide(&it, "a", &[], "quay.io/other/x:1").unwrap().1);
            continue;
        }
        let tagged = part != "digest";
        assert!(!tagged || report.contains(part), "{text}: {report}");
        if status == LeftOut {
            assert!(it.policies.is_empty(), "{text}");
            continue;
        }
        for (image, moves) in [("quay.io/team/b:1", tagged), ("quay.io/team/a/b", tagged), (&format!("quay.io/team/b{DIGEST}"), true)] {
            let wanted = if moves { image.replace("quay.io/team", "m.example/quay") } else { image.to_owned() };
            assert_eq!(result(&it, image), wanted, "{text}");
        }
        for image in ["nginx:1", "quay.io/teams/a:1", "quay.io/a:1", "m.example/a:1"] {
            assert_eq!(result(&it, image), image, "{text}");
        }
    }
}

#[test]
fn the_table_with_the_longest_prefix_decides_once() {
    let it = registries(
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"quay.io\"\nlocation = \"a.example/quay\"\n[[registry]]\nprefix = \"quay.io/team\"\nlocation = \"b.example\"\n[[registry]]\nprefix = \"quay.io/team/one:1\"\nlocation = \"c.example/one:2\"\n",
    );
    for (image, moved) in [
        ("quay.io/x/y:1", "a.example/quay/x/y:1"),
        ("quay.io/team/y:1", "b.example/y:1"),
        ("quay.io/teams/y:1", "a.example/quay/teams/y:1"),
    ] {
        assert_eq!(result(&it, image), moved, "{image}: {:?}", it.report);
    }
    // A table that is not understood keeps its images from the others.
    let it = registries(
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"quay.io\"\nlocation = \"a.example/quay\"\n[[registry]]\nprefix = \"quay.io/team\"\nlocation = \"b.example\"\nunknown = 1\n",
    );
    assert_eq!(result(&it, "quay.io/team/y:1"), "quay.io/team/y:1");
    assert_eq!(result(&it, "quay.io/x:1"), "a.example/quay/x:1");
    assert_eq!(it.report.count(LeftOut), 1);
}

#[test]
fn wildcards_are_for_the_hosts_below_a_domain() {
    let it = registries("unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"*.corp.example\"\nlocation = \"m.example/corp\"\n");
    for (image, moved) in [
        ("a.corp.example/x:1", "m.example/corp/x:1"),
        ("a.b.corp.example/x/y", "m.example/corp/x/y"),
        ("corp.example/x:1", "corp.example/x:1"),
        ("xcorp.example/x:1", "xcorp.example/x:1"),
        ("evil.example/a.corp.example/x:1", "evil.example/a.corp.example/x:1"),
    ] {
        assert_eq!(result(&it, image), moved, "{}", told(&it));
    }
    let it = registries("unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"*.corp.example\"\ninsecure = true\n");
    assert!(told(&it).contains("its images stay"), "{}", told(&it));
}

#[test]
fn short_names_are_searched_or_have_aliases() {
    let table = "[[registry]]\nprefix = \"quay.io\"\nlocation = \"m.example\"\n";
    for (search, status, part) in [
        ("", Differs, "does not say where names without a registry"),
        ("unqualified-search-registries = []\n", Differs, "cannot be pulled"),
        ("unqualified-search-registries = [\"r.example\"]\n", LeftOut, "`r.example` are searched"),
        ("unqualified-search-registries = [\"docker.io\", \"quay.io\"]\n", LeftOut, "are searched"),
        ("unqualified-search-registries = [\"a/b\"]\n", LeftOut, "`a/b` is not the host"),
        ("unqualified-search-registries = \"docker.io\"\n", LeftOut, "not a list of texts"),
    ] {
        let it = registries(&format!("{search}{table}"));
        assert_eq!(it.report.rules[0].status, status, "{}", told(&it));
        assert!(told(&it).contains(part), "{}", told(&it));
    }
    let search = "unqualified-search-registries = [\"docker.io\"]\n[aliases]\n";
    let it = registries(&format!("{search}\"nginx\" = \"quay.io/team/nginx\"\n{table}"));
    // The alias is then looked up in the tables.
    assert_eq!(result(&it, "nginx:1"), "m.example/team/nginx:1", "{:?}", it.report);
    // All spellings are one image here, which the report says.
    let alias = it.report.rules.iter().find(|it| it.rule == "alias nginx").unwrap();
    assert_eq!(alias.status, Differs, "{alias}");
    for (line, part) in [
        ("\"a.io/nginx\" = \"quay.io/x\"", "not a name without registry"),
        ("\"nginx:1\" = \"quay.io/x\"", "not a name without registry"),
        ("\"nginx\" = \"quay.io/x:1\"", "not a name with a registry"),
        ("\"nginx\" = \"team/x\"", "not a name with a registry"),
        ("\"nginx\" = 7", "not a text"),
    ] {
        let it = registries(&format!("{search}{line}\n{table}"));
        assert!(told(&it).contains(part), "{line}: {}", told(&it));
        assert!(it.policies.is_empty());
    }
}

#[test]
fn drop_in_files_replace_tables_of_the_same_prefix() {
    let table = |location: &str| format!("[[registry]]\nprefix = \"quay.io/a\"\nlocation = \"{location}\"\n");
    let main = format!("unqualified-search-registries = [\"x.example\"]\n{}", table("one.example/a"));
    let it = files(&[
        ("c/registries.conf.d/20-b.conf", &table("three.example/a")),
        ("c/registries.conf.d/10-a.conf", &format!("unqualified-search-registries = [\"docker.io\"]\n{}", table("two.example/a"))),
        ("c/registries.conf", &main),
    ]);
    assert_eq!(result(&it, "quay.io/a/x:1"), "three.example/a/x:1", "{:?}", it.report);
    assert_eq!(it.report.count(LeftOut), 2);
    assert_eq!(it.report.count(CarriedOver), 1);
    // An alias is taken back.
    let it = files(&[
        ("c/registries.conf", &format!("{}[aliases]\nnginx = \"r.example/nginx\"\n", main.replace("x.example", "docker.io"))),
        ("c/registries.conf.d/1.conf", "[aliases]\nnginx = \"\"\n"),
    ]);
    assert_eq!(result(&it, "nginx:1"), "nginx:1");
    // The programs refuse all of it if one file is wrong.
    let it = files(&[("c/registries.conf", &main), ("c/registries.conf.d/1.conf", "[registries.search]\nregistries = []\n")]);
    assert!(it.policies.is_empty());
    assert_eq!(it.report.count(LeftOut), 2, "{:?}", it.report);
    assert!(told(&it).contains("version 2"), "{}", told(&it));
    let it = files(&[("c/registries.conf", &main), ("c/registries.conf.d/1.conf", "a = = 1\n")]);
    assert!(it.policies.is_empty());
    let it = files(&[("c/registries.conf", &main), ("c/other.conf", &main)]);
    assert!(it.policies.is_empty());
    assert!(told(&it).contains("one at a time"), "{}", told(&it));
}

#[test]
fn the_first_version_has_lists() {
    let it = registries("[registries.search]\nregistries = ['docker.io']\n[registries.insecure]\nregistries = ['a.example']\n[registries.block]\nregistries = ['b.example']\n");
    assert!(!decide(&it, "a", &[], "b.example/x:1").unwrap().1, "{:?}", it.report);
    assert!(decide(&it, "a", &[], "a.example/x:1").unwrap().1);
    let it = registries("[registries.block]\nregistries = ['b.example']\n[[registry]]\nlocation = \"a.example\"\n");
    assert!(told(&it).contains("version 1 and 2"), "{}", told(&it));
}
