//! Imports policies of other programs with the command: exit codes, report and output. Tests of the
//! policies' decisions are in `imageswap-import`.

use crate::folder::Folder;

/// A rule that is carried over exactly.
const EXACT: &str = include_str!("../data/exact.yaml");
/// Two policies that differ from what a policy can express here, and one rule that is left out.
const BOTH: &str = include_str!("../data/kyverno.yaml");

#[test]
fn exit_code_is_zero_only_if_every_rule_is_carried_over_exactly() {
    let left_out = EXACT.replace(
        "image: \"reg.example.com/*\"",
        "(image): \"reg.example.com/*\"",
    );
    for (content, code, status) in [
        (EXACT, 0, "carried over"),
        (BOTH, 1, "carried over, differs:"),
        (&left_out, 2, "left out:"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n",
            2,
            "not a policy that is read",
        ),
        ("a: [", 2, "cannot be read"),
    ] {
        let folder = Folder::new(&[("source.yaml", content)]);
        for words in ["import -f source.yaml", "import kyverno -f source.yaml"] {
            let ran = folder.run(words);
            let report = ran.err();
            let words = report.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(ran.code(), Some(code), "{report}");
            assert!(
                words.contains(status) && words.contains("source.yaml:"),
                "{report}"
            );
            assert!(
                report.lines().all(|it| it.chars().count() <= 200),
                "{report}"
            );
        }
    }
}

#[test]
fn programs_get_one_object() {
    let answer = Folder::new(&[("exact.yaml", EXACT)])
        .run("import -f exact.yaml -o json")
        .json();
    assert_eq!(answer["policies"][0]["kind"], "ImageSwapPolicy");
    assert_eq!(answer["summary"]["carriedOver"], 1);
    assert_eq!(answer["report"]["rules"][0]["status"], "carried-over");
    assert!(answer["report"]["rules"][0]["line"].is_u64());
}

#[test]
fn verify_shows_both_answers() {
    let folder = Folder::new(&[
        ("exact.yaml", EXACT),
        ("images.txt", "reg.example.com/a:1\nquay.io/b\n"),
    ]);
    let ran = folder.run("import -f exact.yaml --verify images.txt");
    for (image, both) in [
        ("quay.io/b", "stays, refused"),
        ("reg.example.com/a:1", "stays"),
    ] {
        let row = ran.err().lines().find(|it| it.starts_with(image));
        assert_eq!(row.map(|it| it.matches(both).count()), Some(2), "{ran:?}");
    }
}

#[test]
fn the_policy_that_is_written_loads() {
    let folder = Folder::new(&[("both.yaml", BOTH)]);
    folder.write("policy.yaml", folder.run("import -f both.yaml").out());
    let ran = folder.run("explain --policy policy.yaml gcr.io/a/b:1 -o json");
    assert_eq!(
        ran.json_lines()[0]["result"],
        "myregistry.corp.com/a/b:1",
        "{ran:?}"
    );
}
