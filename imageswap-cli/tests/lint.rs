//! Runs `imageswap lint` and `imageswap completions`.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

const BAD: &str = "default::d.example.com\n\tquay.io::d.example.com/\n";

fn imageswap(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imageswap"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// Exit code, standard output, standard error.
fn lint(files: &[(&str, &[u8])], args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = imageswap(folder.path(), &[&["lint"], args].concat());
    let text = |it| String::from_utf8(it).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn warnings_are_findings_when_they_are_denied() {
    let file: &[(&str, &[u8])] = &[("maps.conf", BAD.as_bytes())];
    for (args, code) in [
        (&["maps.conf"][..], 0),
        (&["maps.conf", "--deny-warnings"], 1),
        (
            &[
                "maps.conf",
                "--deny-warnings",
                "--allow",
                "tab",
                "--allow",
                "trailing-slash",
            ],
            0,
        ),
        (&["--maps", "maps.conf", "--deny-warnings"], 1),
        (&["--image-prefix", "r.io/", "--deny-warnings"], 1),
        (&["--image-prefix", "https://r.io"], 1),
        (&["--list"], 0),
        (&["missing.conf"], 2),
        (&["missing.conf", "maps.conf"], 2),
        (&["maps.conf", "--allow", "tabs"], 2),
        (&["maps.conf", "--allow", "no-separator"], 2),
        (&[], 2),
    ] {
        let (got, out, error) = lint(file, args);
        assert_eq!(got, Some(code), "{args:?}\n{out}{error}");
    }
}

#[test]
fn each_message_shows_its_line_and_the_last_line_counts() {
    let (_, out, _) = lint(
        &[("maps.conf", BAD.as_bytes())],
        &["maps.conf", "--no-notes"],
    );
    assert_eq!(
        out,
        "warning[tab]: a tab is part of this key; only spaces are left out
 --> maps.conf:2:1
  |
2 |  quay.io::d.example.com/
  | ^^^^^^^^
  = help: write `quay.io` without tabs

warning[trailing-slash]: the `/` at the end is left out; ImageSwap would write `//`
 --> maps.conf:2:11
  |
2 |  quay.io::d.example.com/
  |           ^^^^^^^^^^^^^^
  = help: write `d.example.com`

1 policy checked: 2 warnings
"
    );
    let (code, out, _) = lint(&[("maps.conf", b"default::\n")], &["maps.conf"]);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "1 policy checked, nothing found\n")
    );
}

#[test]
fn programs_get_one_object_a_line() {
    let files: &[(&str, &[u8])] = &[("a", b"default::\nx\n"), ("b", b"default::\n")];
    let (code, out, _) = lint(files, &["a", "b", "-o", "json"]);
    let found: Vec<Value> = out
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    assert_eq!(code, Some(1));
    assert_eq!(
        found,
        [json!({
            "source": "a", "line": 2, "column": 1, "length": 1, "severity": "error", "code": "no-separator",
            "message": "expected `key::value`, found a line without `::`",
            "help": "write `x::` to keep what is under it, or begin a comment with `#`",
        })]
    );
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let (code, _, error) = lint(&[("a.conf", b"default::\nx\xff")], &["a.conf"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("a.conf:2:2: the byte 0xff"), "{error}");
    let (_, _, error) = lint(&[], &["x.conf", "--allow", "second-pas"]);
    assert!(error.contains("near are second-pass"), "{error}");
}

#[test]
fn every_message_is_in_the_docs() {
    let (_, list, _) = lint(&[], &["--list"]);
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lint.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    assert!(list.lines().count() > 40, "{list}");
    for line in list.lines() {
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
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish", "kubectl"] {
        let output = imageswap(folder.path(), &["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{shell}");
        for word in ["lint", "explain", "deny-warnings"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_know_every_command() {
    let folder = tempfile::tempdir().unwrap();
    assert!(imageswap(folder.path(), &["man", "man1"]).status.success());
    for page in ["imageswap.1", "imageswap-lint.1", "imageswap-import-maps.1"] {
        assert!(folder.path().join("man1").join(page).exists(), "{page}");
    }
    assert!(!folder.path().join("man1/imageswap-man.1").exists());
    let help = imageswap(folder.path(), &["--help"]).stdout;
    assert!(!String::from_utf8_lossy(&help).contains("manual"));
}

#[test]
fn kubectl_gets_words_and_a_directive() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("kubectl_complete-imageswap");
    let output = imageswap(folder.path(), &["completions", "kubectl"]);
    std::fs::write(&script, output.stdout).unwrap();
    for (words, expected) in [
        (&["lin"][..], "lint\n:4\n"),
        (&["lint", "--deny"], "--deny-warnings\n:4\n"),
        (&["lint", ""], ":0\n"),
        (&["lint", "a b", "--li"], "--list\n:4\n"),
        (&["import", "ma"], "maps\n:4\n"),
        (&["import", "maps", "--nothing"], ":4\n"),
    ] {
        let output = Command::new("sh")
            .arg(&script)
            .args(words)
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            expected,
            "{words:?}"
        );
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
        let (_, report, _) = lint(&[("maps.conf", maps.as_bytes())], &["maps.conf"]);
        let found: Vec<_> = report
            .split("\n\n")
            .filter(|it| it.contains("warning[unused-key]"))
            .collect();
        assert_eq!(found.len(), 1, "{report}");
        assert!(
            found[0].contains(&format!("= help: {help}")),
            "{}",
            found[0]
        );
    }

    // Follows the help.
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "exact.conf",
        "default::m.io/m\nr.io::m.io/r\n[EXACT]r.io/org/app:1::\n",
    );
    write(
        "policy.yaml",
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: a}\nspec:\n  rules:\n  \
         - keep: \"r.io/org/app\"\n  - {from: \"r.io/org/clients/**\", to: \"m.io:2000/apps\"}\n  \
         - {from: \"*.r.io/**\", to: m.io/r}\n",
    );
    for (policy, image, result) in [
        (["--maps", "exact.conf"], "r.io/org/app:1", "r.io/org/app:1"),
        (
            ["--policy", "policy.yaml"],
            "r.io/org/app:1",
            "r.io/org/app:1",
        ),
        (
            ["--policy", "policy.yaml"],
            "r.io/org/clients/me/apps/app:1.0",
            "m.io:2000/apps/me/apps/app:1.0",
        ),
        (["--policy", "policy.yaml"], "eu.r.io/a/b", "m.io/r/a/b"),
    ] {
        let args = ["explain", policy[0], policy[1], "-o", "json", image];
        let output = imageswap(folder.path(), &args);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["result"], result, "{answer}");
    }
}
