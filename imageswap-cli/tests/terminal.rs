//! Foreign text on a terminal: images, names and agents' reports.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};

/// Colours, a title, a bell, text from right to left, C1's own escape, and what looks like a line of the answer.
const EVIL: &str = "a\n\u{1b}[31mRED\u{1b}[0m\u{1b}]0;title\u{7}\u{202e}\u{9b}31m\r\nfake line";

fn imageswap(args: &[&str]) -> Output {
    with(&[], args)
}

/// Runs the command with variables that affect colours, and without those of this environment.
fn with(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command.args(args).output().unwrap()
}

/// Both streams of a run, checked to contain no control characters.
fn safe(args: &[&str]) -> String {
    let Output { stdout, stderr, .. } = imageswap(args);
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
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

/// The address of an agent that reports one finding.
fn agent(finding: &Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let body = format!("{finding}\n");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let head = BufReader::new(&connection).lines();
            head.map_while(Result::ok).find(String::is_empty);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            connection.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn images_and_names_of_manifests_are_shown_and_not_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let maps = file("maps.conf", "default::registry.example.com\n");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": EVIL}, "spec": {"containers": [
        {"name": EVIL, "image": EVIL}, {"name": EVIL, "image": "nginx"}]}});
    let manifest = file("pod.json", &pod.to_string());
    for command in ["check", "images"] {
        shows_no_line_of_others(&safe(&[command, "--maps", &maps, "-f", &manifest]));
    }
    shows_no_line_of_others(&safe(&[
        "check",
        "--deny-swaps",
        "--maps",
        &maps,
        "-f",
        &manifest,
    ]));
    shows_no_line_of_others(&safe(&["explain", "--maps", &maps, EVIL]));
    // Programs get the text unchanged.
    let output = imageswap(&["explain", "--maps", &maps, "-o", "json", EVIL]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["image"], EVIL);
    let maps = file("evil.conf", &format!("{EVIL}::x\n"));
    safe(&["lint", &maps]);
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
    let agent = agent(&finding);
    shows_no_line_of_others(&safe(&["drift", "--agent", &agent]));
    let json = imageswap(&["drift", "--agent", &agent, "-o", "json"]);
    let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer["findings"][0]["image"], EVIL);
}

const POLICY: &str = include_str!("data/corp.yaml");

#[test]
fn colour_is_for_terminals_and_changes_no_letter() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let policy = file("corp.yaml", POLICY);
    let maps = file(
        "maps.conf",
        "default::registry.example.com\nquay.io/team::\n",
    );
    let bad = file("bad.conf", "default::https://d.io/\n");
    let images = file("images.txt", "nginx\nquay.io/a/b\nghcr.io/a/b\n");
    // YAML has no C1 characters.
    let evil = EVIL.replace('\u{9b}', "");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": evil}, "spec": {"containers": [
        {"name": evil, "image": evil}, {"name": "a", "image": "nginx"}, {"name": "b", "image": "quay.io/a/b"}]}});
    let manifest = file("pod.json", &pod.to_string());
    let agent = agent(
        &json!({"node": "n1", "verdict": "drift", "route": "pod", "reason": "webhook-skipped",
        "rule": null, "image": EVIL, "expected_image": "x", "container": {"id": "c", "name": EVIL}, "pod": null}),
    );
    for args in [
        &["explain", "--policy", &policy, "nginx"][..],
        &["explain", "--policy", &policy, "nginx", "quay.io/a/b"],
        &["explain", "--policy", &policy, EVIL],
        &["check", "--policy", &policy, "-f", &manifest],
        &["diff", &policy, &maps, "-f", &images],
        &["lint", &bad],
        &["drift", "--agent", &agent],
        &["drift", "--agent", &agent, "-o", "wide"],
    ] {
        let text =
            |variables: &[(&str, &str)]| String::from_utf8(with(variables, args).stdout).unwrap();
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
                let json = with(&[("CLICOLOR_FORCE", "1")], &args).stdout;
                assert!(!json.contains(&0x1b), "{args:?}");
            }
        }
    }
}

#[test]
fn a_reader_may_close_the_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let maps = folder.path().join("maps.conf");
    std::fs::write(&maps, "default::registry.example.com\n").unwrap();
    let maps = maps.to_str().unwrap();
    for args in [
        &["explain", "--maps", maps, "nginx"][..],
        &["explain", "--maps", maps, "nginx", "-o", "json"],
        &["lint", maps],
        &["schema"],
        &["completions", "bash"],
        &["version"],
        &["check", "--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
        let output = command.args(args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}: {output:?}");
    }
    // Another error is one.
    let full = std::fs::File::create("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
    let output = command.args(["schema"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn without_a_kubeconfig_a_sentence_says_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "apiVersion: v1\nkind: Config\n").unwrap();
    let empty = empty.to_str().unwrap();
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
            let output = program.env("HOME", home).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
        }
    }
}
