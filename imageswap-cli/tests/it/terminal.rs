//! Foreign text on a terminal: images, names and agents' reports.

use crate::drift::agent;
use crate::folder::{CORP, Folder, imageswap};
use imageswap_lab::Ran;
use serde_json::json;
use std::process::Command;

/// Colours, a title, a bell, text from right to left, C1's own escape, and what looks like a line of the answer.
const EVIL: &str = "a\n\u{1b}[31mRED\u{1b}[0m\u{1b}]0;title\u{7}\u{202e}\u{9b}31m\r\nfake line";

/// Runs the command with variables that affect colours, and without those of this environment.
fn with(folder: &Folder, variables: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut command = imageswap(folder.path());
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    Ran::of(command.args(args), "").unwrap()
}

/// Both streams of a run, checked to contain no control characters.
fn safe(folder: &Folder, args: &[&str]) -> String {
    let ran = with(folder, &[], args);
    let text = [ran.out(), ran.err()].concat();
    let obeyed = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(obeyed), "{args:?}: {text:?}");
    text
}

#[track_caller]
fn shows_no_line_of_others(text: &str) {
    let fake = |line: &str| line.trim_start().starts_with("fake line");
    assert!(!text.lines().any(fake), "{text}");
    assert!(text.contains("RED"), "{text}");
}

#[test]
fn images_and_names_of_manifests_are_shown_and_not_obeyed() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": EVIL}, "spec": {"containers": [
        {"name": EVIL, "image": EVIL}, {"name": EVIL, "image": "nginx"}]}});
    let folder = Folder::new(&[
        ("maps.conf", "default::registry.example.com\n"),
        ("pod.json", &pod.to_string()),
        ("evil.conf", &format!("{EVIL}::x\n")),
    ]);
    for args in [
        &["check", "--maps", "maps.conf", "-f", "pod.json"][..],
        &["images", "--maps", "maps.conf", "-f", "pod.json"],
        &[
            "check",
            "--deny-swaps",
            "--maps",
            "maps.conf",
            "-f",
            "pod.json",
        ],
        &["explain", "--maps", "maps.conf", EVIL],
    ] {
        shows_no_line_of_others(&safe(&folder, args));
    }
    // Programs get the text unchanged.
    let ran = with(
        &folder,
        &[],
        &["explain", "--maps", "maps.conf", "-o", "json", EVIL],
    );
    assert_eq!(ran.json()["image"], EVIL);
    safe(&folder, &["lint", "evil.conf"]);
}

#[test]
fn findings_of_agents_are_shown_and_not_obeyed() {
    let finding = json!({"schema": "imageswap.io/finding/v1", "start_id": "b/1", "event": "start",
        "time": "2026-11-28T00:00:00.000000Z", "node": EVIL, "verdict": "drift", "route": "pod",
        "reason": "webhook-skipped", "rule": EVIL, "policy": {"name": EVIL, "revision": "r"}, "image": EVIL,
        "names": [], "expected_image": "x", "digest": null, "provenance": null, "confidence": "high",
        "container": {"id": EVIL, "name": EVIL, "kind": "container"},
        "pod": {"namespace": EVIL, "name": EVIL, "uid": EVIL, "owner": {"kind": EVIL, "name": EVIL}},
        "runtime": "cri", "runtime_namespace": null, "process": null, "cgroup": EVIL, "detect_us": 1});
    let (folder, agent) = (Folder::new(&[]), agent(&[finding]));
    shows_no_line_of_others(&safe(&folder, &["drift", "--agent", &agent]));
    let ran = folder.run(&format!("drift --agent {agent} -o json"));
    assert_eq!(ran.json()["findings"][0]["image"], EVIL);
}

#[test]
fn colour_is_for_terminals_and_changes_no_letter() {
    // YAML has no C1 characters.
    let evil = EVIL.replace('\u{9b}', "");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": evil}, "spec": {"containers": [
        {"name": evil, "image": evil}, {"name": "a", "image": "nginx"}, {"name": "b", "image": "quay.io/a/b"}]}});
    let folder = Folder::new(&[
        ("corp.yaml", CORP),
        (
            "maps.conf",
            "default::registry.example.com\nquay.io/team::\n",
        ),
        ("bad.conf", "default::https://d.io/\n"),
        ("images.txt", "nginx\nquay.io/a/b\nghcr.io/a/b\n"),
        ("pod.json", &pod.to_string()),
    ]);
    let agent = agent(&[
        json!({"start_id": "b/1", "event": "start", "time": "2026-11-28T00:00:00Z", "policy": {"name": "corp"},
        "node": "n1", "verdict": "drift", "route": "pod", "reason": "webhook-skipped", "rule": null, "image": EVIL,
        "expected_image": "x", "container": {"id": "c", "name": EVIL}, "pod": null}),
    ]);
    for args in [
        &["explain", "--policy", "corp.yaml", "nginx"][..],
        &["explain", "--policy", "corp.yaml", "nginx", "quay.io/a/b"],
        &["explain", "--policy", "corp.yaml", EVIL],
        &["check", "--policy", "corp.yaml", "-f", "pod.json"],
        &["diff", "corp.yaml", "maps.conf", "-f", "images.txt"],
        &["lint", "bad.conf"],
        &["drift", "--agent", &agent],
        &["drift", "--agent", &agent, "-o", "wide"],
    ] {
        let text = |variables: &[(&str, &str)]| with(&folder, variables, args).out().to_owned();
        let plain = text(&[]);
        assert!(!plain.contains('\u{1b}'), "{args:?}: {plain:?}");
        assert_eq!(
            text(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]),
            plain,
            "{args:?}"
        );
        let coloured = text(&[("CLICOLOR_FORCE", "1")]);
        assert!(coloured.contains("\u{1b}["), "{args:?}: {coloured:?}");
        assert_eq!(
            anstream::adapter::strip_str(&coloured).to_string(),
            plain,
            "{args:?}"
        );
        // Programs get no colours.
        if ["explain", "diff", "drift"].contains(&args[0]) {
            let args = [args, &["-o", "json"]].concat();
            if args.iter().filter(|it| **it == "-o").count() == 1 {
                let json = with(&folder, &[("CLICOLOR_FORCE", "1")], &args);
                assert!(!json.out().contains('\u{1b}'), "{args:?}");
            }
        }
    }
}

#[test]
fn a_reader_may_close_the_pipe() {
    let folder = Folder::new(&[("maps.conf", "default::registry.example.com\n")]);
    for words in [
        "explain --maps maps.conf nginx",
        "explain --maps maps.conf nginx -o json",
        "lint maps.conf",
        "schema",
        "completions bash",
        "version",
        "check --help",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = imageswap(folder.path());
        let output = command
            .args(words.split(' '))
            .stdout(writer)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{words}");
        assert!(output.stderr.is_empty(), "{words}: {output:?}");
    }
    // Another error is one.
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut command = imageswap(folder.path());
    let output = command.arg("schema").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn without_a_kubeconfig_a_sentence_says_what_to_give() {
    let folder = Folder::new(&[("empty", "apiVersion: v1\nkind: Config\n")]);
    let home = folder.path().to_str().unwrap();
    let empty = &format!("{home}/empty");
    for command in ["drift", "scan"] {
        for (flags, expected) in [
            (
                &[][..],
                format!(
                    "error: found no cluster: {home}/.kube/config: No such file or directory (os error 2), \
                     and no service account of a Pod; name a file with --kubeconfig or KUBECONFIG\n"
                ),
            ),
            (
                &["--kubeconfig", "/no/such/file"],
                "error: /no/such/file: No such file or directory (os error 2)\n".to_owned(),
            ),
            (
                &["--kubeconfig", empty, "--context", "other"],
                format!("error: {empty}: it has no context `other`\n"),
            ),
        ] {
            let mut program = Command::new(env!("CARGO_BIN_EXE_imageswap"));
            program.arg(command).args(flags).env_clear();
            let ran = Ran::of(program.env("HOME", home), "").unwrap();
            assert_eq!((ran.code(), ran.err()), (Some(2), &*expected));
        }
    }
}
