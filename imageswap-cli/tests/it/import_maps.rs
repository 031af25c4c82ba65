//! Runs `imageswap import maps`, and checks the page that shows it.

use crate::folder::{Folder, MAPS, measured};
use imageswap_lab::{Ran, require};
use std::collections::BTreeSet;
use std::fs;

fn import(maps: &str) -> Ran {
    Folder::new(&[("maps.conf", maps)]).run("import maps -f maps.conf")
}

/// Compares a maps file with the policy made from it, for some images.
fn difference(maps: &str, images: &str) -> Ran {
    let imported = import(maps);
    let folder = Folder::new(&[
        ("maps.conf", maps),
        ("policy.yaml", imported.out()),
        ("images.txt", images),
    ]);
    folder.run(
        "diff maps.conf policy.yaml -f images.txt --namespace-labels k8s.twr.io/imageswap=enabled",
    )
}

#[test]
fn the_page_shows_what_is_printed() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/migrating.md");
    let page = fs::read_to_string(page).unwrap();
    let ran = import(MAPS);
    ran.exits(0);
    assert!(
        page.contains(&format!("```yaml\n{}```\n", ran.out())),
        "{ran:?}"
    );
    let shown = format!("> policy.yaml\n{}\n```\n", ran.err().trim_end());
    assert!(page.contains(&shown), "{shown}");
}

#[test]
fn an_imported_policy_loads_without_a_word_and_decides_alike() {
    let images =
        "nginx\nquay.io/a/b:1\ngitlab.com/a/b\nexample.com:5000/a\nregistry.example.com/x\n";
    let ran = difference(MAPS, images);
    assert_eq!((ran.code(), ran.err()), (Some(0), ""), "{ran:?}");
}

#[test]
fn what_is_left_out_is_a_finding_and_what_does_not_load_is_an_error() {
    let ran = import("default::d.io\n[REPLACE]a*::\n");
    ran.exits(1).prints("kind: ImageSwapPolicy");
    ran.says("warning[not-imported]");
    let ran = import("default:a:1:2\n");
    assert_eq!((ran.code(), ran.out()), (Some(2), ""), "{ran:?}");
    ran.says("maps.conf makes no ImageSwapPolicy");
}

/// Lines that name each other's targets are not a circle: an image under a target stays.
#[test]
fn lines_that_lead_to_each_other_make_a_policy() {
    let ran = import("default::\na.io::b.io\nb.io::a.io\n");
    ran.exits(0);
    assert!(!ran.out().contains("from:"), "{ran:?}");
}

#[test]
fn unused_line_is_named_once_and_has_no_rule() {
    for (maps, rule, images) in [
        (
            "default::\nr.io/org/a::m.io/a\nr.io/org/b/c::m.io/b\n",
            "maps:2",
            "r.io/org/a/x:1\n",
        ),
        (
            "default::m.io\n*.r.io::m.io/r\n",
            "maps:2",
            "eu.r.io/p/a:1\n",
        ),
        (
            "default::m.io/m\nr.io::m.io/r\nr.io/org/app::\nnoswap_wildcards::m.io\n",
            "maps:3",
            "r.io/org/app:1\n",
        ),
        ("default: m.io\n\"r.io\":: m.io/r\n", "maps:2", "r.io/a\n"),
    ] {
        let ran = import(maps);
        let report = ran.err();
        assert_eq!(ran.code(), Some(1), "{report}");
        assert!(!ran.out().contains(rule), "{ran:?}");
        let lines: BTreeSet<_> = report
            .lines()
            .skip_while(|it| !it.contains("not-imported"))
            .filter(|it| it.starts_with(" --> "))
            .collect();
        let said = report.matches("warning[not-imported]").count();
        assert!(said > 0 && said <= lines.len(), "{report}");
        assert_eq!(difference(maps, images).last_line(), "0 of 1 images change");
    }
    let folder = require!(measured("cases/policy/20-import-maps-says-left-out"));
    for (maps, images, unused) in [
        (
            "m01-subpath.conf",
            "registry.gitlab.example/org/clients/x/app:1",
            2,
        ),
        ("m09-wild.conf", "eu.gcr.io/p/a:1", 1),
        ("m02-image-disable.conf", "quay.io/acme/test-image:1", 1),
        ("m08-quotes.conf", "quay.io/a/b:1", 1),
    ] {
        let maps = fs::read_to_string(folder.join(maps)).unwrap();
        let ran = import(&maps);
        ran.exits(1);
        assert_eq!(ran.err().matches("not-imported").count(), unused, "{ran:?}");
        assert!(!ran.out().contains("clients/**") && !ran.out().contains("test-image"));
        assert_eq!(
            difference(&maps, images).last_line(),
            "0 of 1 images change"
        );
    }
}

#[test]
fn two_maps_files_are_compared() {
    let folder = Folder::new(&[
        ("old.conf", "default::m.io\nquay.io::m.io/q\n"),
        ("new.conf", "default::m.io\nquay.io::n.io\n"),
        ("images.txt", "quay.io/a\nghcr.io/a\n"),
    ]);
    let changed = "quay.io/a\n- m.io/q/a (approved, rule maps:2 quay.io)\n\
                   + n.io/a (approved, rule maps:2 quay.io)\n1 of 2 images change\n";
    let same = "0 of 2 images change\n";
    for (new, code, expected) in [("new.conf", 1, changed), ("old.conf", 0, same)] {
        let ran = folder.run(&format!("diff old.conf {new} -f images.txt"));
        assert_eq!((ran.code(), ran.out()), (Some(code), expected));
    }
}
