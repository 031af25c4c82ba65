//! Imports configuration files of other programs with the command: files, folders and standard input.

use crate::folder::Folder;

#[test]
fn a_tree_of_mirrors_is_one_policy() {
    let folder = Folder::new(&[
        (
            "certs.d/_default/hosts.toml",
            "server = \"https://m.example\"\n",
        ),
        (
            "certs.d/quay.io/hosts.toml",
            "server = \"https://q.example\"\n",
        ),
        // A folder with certificates alone: `_default` is not for it.
        ("certs.d/ghcr.io/ca.crt", "x"),
        ("images.txt", "nginx:1\nquay.io/a:1\nghcr.io/a:1\n"),
    ]);
    // One file alone: the folders beside it are read, too.
    let ran = folder.run("import -f certs.d/_default/hosts.toml");
    ran.prints("to: q.example").prints("keep: \"ghcr.io/**\"");
    let ran = folder.run("import -f certs.d -o json --verify images.txt");
    let (answer, report) = (ran.json(), ran.err());
    assert_eq!(ran.code(), Some(1), "{report}");
    assert_eq!(answer["policies"].as_array().unwrap().len(), 1, "{report}");
    let rules = answer["report"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 3, "{report}");
    assert!(rules.iter().all(|it| it["line"].as_u64() >= Some(1)));
    for (image, result) in [
        ("nginx:1", "m.example/library/nginx:1"),
        ("quay.io/a:1", "q.example/a:1"),
        ("ghcr.io/a:1", "stays"),
    ] {
        let row = report.lines().find(|it| it.starts_with(image)).unwrap();
        assert_eq!(row.matches(result).count(), 2, "{report}");
        assert!(!row.contains("differs"), "{row}");
    }
}

#[test]
fn files_of_other_programs_are_found_in_folders_and_on_standard_input() {
    let swapper =
        "dryRun: false\nimageSwapPolicy: always\ntarget: {aws: {accountId: 1, region: r-1}}\n";
    let registries = "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"quay.io/a\"\nlocation = \"m.example/a\"\n";
    let harbor = "rules: [{name: a, matches: ['^quay[.]io/'], replace: h.example/quay}]\n";
    for (name, content, code, part) in [
        (
            ".k8s-image-swapper.yml",
            swapper,
            1,
            "1.dkr.ecr.r-1.amazonaws.com",
        ),
        ("registries.conf", registries, 0, "to: m.example"),
        ("registries.conf.d/a.conf", registries, 0, "to: m.example"),
        ("webhook-config.yaml", harbor, 1, "to: h.example/quay"),
    ] {
        let folder = Folder::new(&[(name, content)]);
        for (from, input) in [(name, ""), (".", ""), ("-", content)] {
            let ran = folder.run_with(&format!("import -f {from}"), input);
            let (policy, report) = (ran.out(), ran.err());
            assert_eq!(ran.code(), Some(code), "{name} {from}: {report}");
            assert!(policy.contains(part), "{name} {from}: {policy}{report}");
            // An image is not broken into lines.
            let fits = |it: &str| it.chars().count() <= 80 || !it.trim().contains(' ');
            assert!(report.lines().all(fits), "{report}");
        }
    }
}

#[test]
fn a_broken_file_has_a_place_and_the_others_go_on() {
    let folder = Folder::new(&[
        (
            "certs.d/quay.io/hosts.toml",
            "server = \"https://q.example\"\n",
        ),
        ("certs.d/ghcr.io/hosts.toml", "\nserver == 1\n"),
    ]);
    let ran = folder.run("import -f certs.d");
    ran.exits(1);
    ran.says("certs.d/ghcr.io/hosts.toml:2:9: cannot be read");
    ran.prints("to: q.example");
}
