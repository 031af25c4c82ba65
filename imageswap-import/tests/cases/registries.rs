//! Tables of podman and CRI-O.

use super::helpers::{becomes, decide, files, first, moves};
use Status::{CarriedOver, Differs, LeftOut};
use imageswap_import::{Import, Status};

fn registries(text: &str) -> Import {
    files(&[("containers/registries.conf", text)])
}

#[test]
fn every_field_of_a_registries_conf_is_understood_or_its_table_is_left_out() {
    let search = "unqualified-search-registries = [\"docker.io\"]\n";
    let table = "[[registry]]\nprefix = \"quay.io/team\"\nlocation = \"m.example/quay\"\n";
    let mirror = "[[registry]]\nlocation = \"quay.io/team\"\n[[registry.mirror]]\nlocation = \"m.example/quay\"\n";
    for (text, status, part) in [
        (table.to_owned(), CarriedOver, ""),
        (table.replace("quay\"", "quay/\""), CarriedOver, ""),
        (
            format!("{table}insecure = true\nproxy = \"http://p:1\"\n"),
            CarriedOver,
            "with `insecure`, `proxy`",
        ),
        (
            format!("{table}insecure = false\nblocked = false\nmirror-by-digest-only = true\n"),
            CarriedOver,
            "",
        ),
        (
            mirror.to_owned(),
            Differs,
            "what `m.example/quay` lacks comes from `quay.io/team` there",
        ),
        (
            format!("{mirror}[[registry.mirror]]\nlocation = \"n.example\"\n"),
            Differs,
            "from `n.example`, then `quay.io/team` there",
        ),
        (
            format!("{mirror}pull-from-mirror = \"all\"\ninsecure = true\n"),
            Differs,
            "with `insecure`",
        ),
        (
            format!("{mirror}pull-from-mirror = \"digest-only\"\n"),
            Differs,
            "digest",
        ),
        (
            mirror.replace("[[registry.m", "mirror-by-digest-only = true\n[[registry.m"),
            Differs,
            "digest",
        ),
        (format!("{table}blocked = true\n"), Differs, "denied"),
        (
            format!("{table}proxy = 7\n"),
            LeftOut,
            "4:9 left out: `proxy` is a number",
        ),
        (
            format!("{table}location-2 = \"a\"\n"),
            LeftOut,
            "4:1 left out: `location-2` is not understood",
        ),
        (
            format!("{mirror}prefix = \"a\"\n"),
            LeftOut,
            "5:1 left out: `prefix` is not understood",
        ),
        (
            format!("{mirror}pull-from-mirror = \"never\"\n"),
            LeftOut,
            "5:20 left out: `never` is not one of",
        ),
        (
            mirror.replace("[[registry.m", "mirror-by-digest-only = true\n[[registry.m")
                + "pull-from-mirror = \"all\"\n",
            LeftOut,
            "beside `mirror-by-digest-only`",
        ),
        (
            "[[registry]]\nprefix = \"quay.io/team\"\n".to_owned(),
            LeftOut,
            "2:10 left out: it has no `location`",
        ),
        (
            "[[registry]]\ninsecure = true\n".to_owned(),
            LeftOut,
            "neither `prefix` nor `location`",
        ),
        (
            table.replace("m.example", "https://m.example"),
            LeftOut,
            "3:12 left out: `https://m.example/quay` has a scheme",
        ),
        (
            table.replace("m.example", "mirror"),
            LeftOut,
            "no image can name `mirror/quay`",
        ),
        (
            table.replace("m.example", "m.Example/Upper"),
            LeftOut,
            "no image can name",
        ),
        (
            mirror.replace("location = \"m.example/quay\"\n", ""),
            LeftOut,
            "a mirror has no `location`",
        ),
        (
            "[[registry]]\nprefix = \"*.quay.io/team\"\nlocation = \"m.example/quay\"\n".to_owned(),
            LeftOut,
            "only a host can begin with `*.`",
        ),
        (
            "[registry]\nprefix = \"quay.io/team\"\n".to_owned(),
            LeftOut,
            "expected tables `[[registry]]`",
        ),
        (
            format!(
                "short-name-mode = \"enforcing\"\ncredential-helpers = [\"a\"]\nadditional-layer-store-auth-helper = \"b\"\n{table}"
            ),
            CarriedOver,
            "",
        ),
        (
            format!("short-name-mode = \"ask\"\n{table}"),
            LeftOut,
            "1:19 left out: the mode `ask`",
        ),
        (
            format!("registries-d = \"ask\"\n{table}"),
            LeftOut,
            "1:1 left out: `registries-d` is not understood",
        ),
    ] {
        let with_search = format!("{search}{text}");
        let it = registries(&with_search);
        let shifted = first(&it);
        // The first line is that of the search.
        let (line, rest) = shifted.split_once(':').unwrap();
        let report = format!("{}:{rest}", line.parse::<usize>().unwrap() - 1);
        assert_eq!(it.report.rules[0].status, status, "{text}: {report}");
        if part == "denied" {
            let (moved, approved) = decide(&it, "a", &[], "quay.io/team/x:1").unwrap();
            assert_eq!(
                (moved.as_str(), approved),
                ("quay.io/team/x:1", false),
                "{report}"
            );
            assert!(decide(&it, "a", &[], "quay.io/other/x:1").unwrap().1);
            continue;
        }
        let tagged = part != "digest";
        assert!(!tagged || report.contains(part), "{text}: {report}");
        if status == LeftOut {
            assert!(it.policies.is_empty(), "{text}");
            continue;
        }
        let others = [
            "nginx:1",
            "quay.io/teams/a:1",
            "quay.io/a:1",
            "m.example/a:1",
        ];
        let places = ["quay.io/team", "m.example/quay"];
        moves(&it, places, tagged, &others, &text);
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
        becomes(&it, image, moved);
    }
    // A table that is not understood keeps its images from the others.
    let it = registries(
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"quay.io\"\nlocation = \"a.example/quay\"\n[[registry]]\nprefix = \"quay.io/team\"\nlocation = \"b.example\"\nunknown = 1\n",
    );
    becomes(&it, "quay.io/team/y:1", "quay.io/team/y:1");
    becomes(&it, "quay.io/x:1", "a.example/quay/x:1");
    assert_eq!(it.report.count(LeftOut), 1);
}

#[test]
fn wildcards_are_for_the_hosts_below_a_domain() {
    let it = registries(
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"*.corp.example\"\nlocation = \"m.example/corp\"\n",
    );
    for (image, moved) in [
        ("a.corp.example/x:1", "m.example/corp/x:1"),
        ("a.b.corp.example/x/y", "m.example/corp/x/y"),
        ("corp.example/x:1", "corp.example/x:1"),
        ("xcorp.example/x:1", "xcorp.example/x:1"),
        (
            "evil.example/a.corp.example/x:1",
            "evil.example/a.corp.example/x:1",
        ),
    ] {
        becomes(&it, image, moved);
    }
    let it = registries(
        "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"*.corp.example\"\ninsecure = true\n",
    );
    assert!(first(&it).contains("its images stay"), "{}", first(&it));
}

#[test]
fn short_names_are_searched_or_have_aliases() {
    let table = "[[registry]]\nprefix = \"quay.io\"\nlocation = \"m.example\"\n";
    for (search, status, part) in [
        ("", Differs, "does not say where names without a registry"),
        (
            "unqualified-search-registries = []\n",
            Differs,
            "cannot be pulled",
        ),
        (
            "unqualified-search-registries = [\"r.example\"]\n",
            LeftOut,
            "`r.example` are searched",
        ),
        (
            "unqualified-search-registries = [\"docker.io\", \"quay.io\"]\n",
            LeftOut,
            "are searched",
        ),
        (
            "unqualified-search-registries = [\"a/b\"]\n",
            LeftOut,
            "`a/b` is not the host",
        ),
        (
            "unqualified-search-registries = \"docker.io\"\n",
            LeftOut,
            "not a list of texts",
        ),
    ] {
        let it = registries(&format!("{search}{table}"));
        assert_eq!(it.report.rules[0].status, status, "{}", first(&it));
        assert!(first(&it).contains(part), "{}", first(&it));
    }
    let search = "unqualified-search-registries = [\"docker.io\"]\n[aliases]\n";
    let it = registries(&format!(
        "{search}\"nginx\" = \"quay.io/team/nginx\"\n{table}"
    ));
    // The alias is then looked up in the tables.
    becomes(&it, "nginx:1", "m.example/team/nginx:1");
    // All spellings are one image here, which the report says.
    let alias = it
        .report
        .rules
        .iter()
        .find(|it| it.rule == "alias nginx")
        .unwrap();
    assert_eq!(alias.status, Differs, "{alias}");
    for (line, part) in [
        (
            "\"a.io/nginx\" = \"quay.io/x\"",
            "not a name without registry",
        ),
        ("\"nginx:1\" = \"quay.io/x\"", "not a name without registry"),
        ("\"nginx\" = \"quay.io/x:1\"", "not a name with a registry"),
        ("\"nginx\" = \"team/x\"", "not a name with a registry"),
        ("\"nginx\" = 7", "not a text"),
    ] {
        let it = registries(&format!("{search}{line}\n{table}"));
        assert!(first(&it).contains(part), "{line}: {}", first(&it));
        assert!(it.policies.is_empty());
    }
}

#[test]
fn drop_in_files_replace_tables_of_the_same_prefix() {
    let table = |location: &str| {
        format!("[[registry]]\nprefix = \"quay.io/a\"\nlocation = \"{location}\"\n")
    };
    let main = format!(
        "unqualified-search-registries = [\"x.example\"]\n{}",
        table("one.example/a")
    );
    let it = files(&[
        ("c/registries.conf.d/20-b.conf", &table("three.example/a")),
        (
            "c/registries.conf.d/10-a.conf",
            &format!(
                "unqualified-search-registries = [\"docker.io\"]\n{}",
                table("two.example/a")
            ),
        ),
        ("c/registries.conf", &main),
    ]);
    becomes(&it, "quay.io/a/x:1", "three.example/a/x:1");
    assert_eq!(it.report.count(LeftOut), 2);
    assert_eq!(it.report.count(CarriedOver), 1);
    // An alias is taken back.
    let it = files(&[
        (
            "c/registries.conf",
            &format!(
                "{}[aliases]\nnginx = \"r.example/nginx\"\n",
                main.replace("x.example", "docker.io")
            ),
        ),
        ("c/registries.conf.d/1.conf", "[aliases]\nnginx = \"\"\n"),
    ]);
    becomes(&it, "nginx:1", "nginx:1");
    // The programs refuse all of it if one file is wrong.
    let it = files(&[
        ("c/registries.conf", &main),
        (
            "c/registries.conf.d/1.conf",
            "[registries.search]\nregistries = []\n",
        ),
    ]);
    assert!(it.policies.is_empty());
    assert_eq!(it.report.count(LeftOut), 2, "{:?}", it.report);
    assert!(first(&it).contains("version 2"), "{}", first(&it));
    let it = files(&[
        ("c/registries.conf", &main),
        ("c/registries.conf.d/1.conf", "a = = 1\n"),
    ]);
    assert!(it.policies.is_empty());
    let it = files(&[("c/registries.conf", &main), ("c/other.conf", &main)]);
    assert!(it.policies.is_empty());
    assert!(first(&it).contains("one at a time"), "{}", first(&it));
}

#[test]
fn the_first_version_has_lists() {
    let it = registries(
        "[registries.search]\nregistries = ['docker.io']\n[registries.insecure]\nregistries = ['a.example']\n[registries.block]\nregistries = ['b.example']\n",
    );
    assert!(
        !decide(&it, "a", &[], "b.example/x:1").unwrap().1,
        "{:?}",
        it.report
    );
    assert!(decide(&it, "a", &[], "a.example/x:1").unwrap().1);
    let it = registries(
        "[registries.block]\nregistries = ['b.example']\n[[registry]]\nlocation = \"a.example\"\n",
    );
    assert!(first(&it).contains("version 1 and 2"), "{}", first(&it));
}
