//! Runs `imageswap lint` and `imageswap completions`.

use crate::folder::{Folder, policy};
use imageswap_lab::Ran;
use serde_json::json;
use std::fs;
use std::process::Command;

const BAD: &str = "default::d.example.com\n\tquay.io::d.example.com/\n";

#[test]
fn warnings_are_findings_when_they_are_denied() {
    let folder = Folder::new(&[("maps.conf", BAD)]);
    for (words, code) in [
        ("lint maps.conf", 0),
        ("lint maps.conf --deny-warnings", 1),
        (
            "lint maps.conf --deny-warnings --allow tab --allow trailing-slash",
            0,
        ),
        ("lint --maps maps.conf --deny-warnings", 1),
        ("lint --image-prefix r.io/ --deny-warnings", 1),
        ("lint --image-prefix https://r.io", 1),
        ("lint --list", 0),
        ("lint missing.conf", 2),
        ("lint missing.conf maps.conf", 2),
        ("lint maps.conf --allow tabs", 2),
        ("lint maps.conf --allow no-separator", 2),
        ("lint", 2),
    ] {
        let ran = folder.run(words);
        assert_eq!(ran.code(), Some(code), "{words}\n{ran:?}");
    }
}

#[test]
fn each_message_shows_its_line_and_the_last_line_counts() {
    let folder = Folder::new(&[("maps.conf", BAD), ("good.conf", "default::\n")]);
    assert_eq!(
        folder.run("lint maps.conf --no-notes").out(),
        "warning[tab]: a tab is part of this key; only spaces are left out
 --> maps.conf:2:1
  |
2 |  quay.io::d.example.com/
  | ^^^^^^^^
  = help: write `quay.io` without tabs

warning[trailing-slash]: the `/` at the end is left out; the Python ImageSwap would write `//`
 --> maps.conf:2:11
  |
2 |  quay.io::d.example.com/
  |           ^^^^^^^^^^^^^^
  = help: write `d.example.com`

1 policy checked: 2 warnings
"
    );
    let ran = folder.run("lint good.conf");
    assert_eq!(
        (ran.code(), ran.out()),
        (Some(0), "1 policy checked, nothing found\n")
    );
}

#[test]
fn programs_get_one_object_a_line() {
    let folder = Folder::new(&[("a", "default::\nx\n"), ("b", "default::\n")]);
    let ran = folder.run("lint a b -o json");
    ran.exits(1);
    assert_eq!(
        ran.json_lines(),
        [json!({
            "source": "a", "line": 2, "column": 1, "length": 1, "severity": "error", "code": "no-separator",
            "message": "expected `key::value`, found a line without `::`",
            "help": "write `x::` to keep what is under it, or begin a comment with `#`",
        })]
    );
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let folder = Folder::new(&[]);
    folder.write("a.conf", b"default::\nx\xff");
    for (words, said) in [
        ("lint a.conf", "a.conf:2:2: the byte 0xff"),
        ("lint x.conf --allow second-pas", "near are second-pass"),
    ] {
        let ran = folder.run(words);
        ran.exits(2).says(said);
    }
}

#[test]
fn every_message_is_in_the_docs() {
    let list = Folder::new(&[]).run("lint --list");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lint.md");
    let docs = fs::read_to_string(docs).unwrap();
    assert!(list.out().lines().count() > 40, "{list:?}");
    for line in list.out().lines() {
        let mut words = line.splitn(3, ' ');
        let code = words.next().unwrap();
        let (_, meaning) = line.trim_end().split_once("  ").unwrap();
        let (severity, meaning) = meaning.trim_start().split_once("  ").unwrap();
        let row = format!("| `{code}` | {} |", meaning.trim());
        let section = docs.split("\n## ").find(|it| it.contains(&row));
        let section = section.unwrap_or_else(|| panic!("docs/lint.md lacks\n{row}"));
        let title = section.lines().next().unwrap().to_lowercase();
        assert!(
            title.contains(severity.trim()),
            "{code} is in the section `{title}`"
        );
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish", "kubectl"] {
        let ran = Folder::new(&[]).run(&format!("completions {shell}"));
        assert_eq!(ran.code(), Some(0), "{shell}");
        for word in ["lint", "explain", "deny-warnings"] {
            assert!(ran.out().contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_know_every_command() {
    let folder = Folder::new(&[]);
    assert_eq!(folder.run("man man1").code(), Some(0));
    for page in ["imageswap.1", "imageswap-lint.1", "imageswap-import-maps.1"] {
        assert!(folder.at("man1").join(page).exists(), "{page}");
    }
    assert!(!folder.at("man1/imageswap-man.1").exists());
    assert!(!folder.run("--help").out().contains("manual"));
}

#[test]
fn kubectl_gets_words_and_a_directive() {
    let folder = Folder::new(&[]);
    let script = folder.at("kubectl_complete-imageswap");
    fs::write(&script, folder.run("completions kubectl").out()).unwrap();
    for (words, expected) in [
        (&["lin"][..], "lint\n:4\n"),
        (&["lint", "--deny"], "--deny-warnings\n:4\n"),
        (&["lint", ""], ":0\n"),
        (&["lint", "a b", "--li"], "--list\n:4\n"),
        (&["import", "ma"], "maps\n:4\n"),
        (&["import", "maps", "--nothing"], ":4\n"),
    ] {
        let ran = Ran::of(Command::new("sh").arg(&script).args(words), "").unwrap();
        assert_eq!(ran.out(), expected, "{words:?}");
    }
}

/// The help for a key that holds a path does what its author wanted, or shows the policy that does.
#[test]
fn help_for_a_path_key_is_right() {
    for (maps, help) in [
        (
            "default::m.io/m\nr.io::m.io/r\nr.io/org/app::\n",
            "write `[EXACT]r.io/org/app:TAG::` for each tag that is to stay, or use an ImageSwapPolicy with `keep: \"r.io/org/app\"`",
        ),
        (
            "default::\nr.io/org/clients::m.io:2000/apps\n",
            "use an ImageSwapPolicy with `from: \"r.io/org/clients/**\"` and `to: m.io:2000/apps`",
        ),
        (
            "default::\n*.r.io::m.io/r\n",
            "use an ImageSwapPolicy with `from: \"*.r.io/**\"` and `to: m.io/r`",
        ),
        (
            "default::\n*.r.io::\n",
            "use an ImageSwapPolicy with `keep: \"*.r.io/**\"`",
        ),
        ("default::\nr.io/::m.io\n", "write `r.io`"),
        ("default::\n\"r.io\"::m.io\n", "write `r.io`"),
    ] {
        let ran = Folder::new(&[("maps.conf", maps)]).run("lint maps.conf");
        let found: Vec<_> = ran
            .out()
            .split("\n\n")
            .filter(|it| it.contains("warning[unused-key]"))
            .collect();
        assert_eq!(found.len(), 1, "{ran:?}");
        assert!(
            found[0].contains(&format!("= help: {help}")),
            "{}",
            found[0]
        );
    }

    // Follows the help.
    let rules = "{rules: [{keep: r.io/org/app}, {from: r.io/org/clients/**, to: 'm.io:2000/apps'}, \
                 {from: '*.r.io/**', to: m.io/r}]}";
    let folder = Folder::new(&[
        (
            "exact.conf",
            "default::m.io/m\nr.io::m.io/r\n[EXACT]r.io/org/app:1::\n",
        ),
        ("policy.yaml", &policy("a", rules)),
    ]);
    for (words, result) in [
        ("--maps exact.conf r.io/org/app:1", "r.io/org/app:1"),
        ("--policy policy.yaml r.io/org/app:1", "r.io/org/app:1"),
        (
            "--policy policy.yaml r.io/org/clients/me/apps/app:1.0",
            "m.io:2000/apps/me/apps/app:1.0",
        ),
        ("--policy policy.yaml eu.r.io/a/b", "m.io/r/a/b"),
    ] {
        let answer = folder.run(&format!("explain -o json {words}")).json();
        assert_eq!(answer["result"], result, "{answer}");
    }
}
