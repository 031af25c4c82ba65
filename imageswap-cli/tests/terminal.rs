//! Foreign text on a terminal: images, names and agents' reports.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};

/// Colours, a title, a bell, text from right to left, C1's own escape, and what looks like a line of the answer.
const EVIL: &str = "a\n\u{1b}[31mRED\u{1b}[0m\u{1b}]0;title\u{7}\u{202e}\u{9b}31m\r\nfake line";

fn imageswap(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imageswap"));
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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let head = BufReader::new(&connection).lines();
            head.map_while(Result::ok).find(String::is_empty);
            let body = format!("{finding}\n");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            connection.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    shows_no_line_of_others(&safe(&["drift", "--agent", &agent]));
    let json = imageswap(&["drift", "--agent", &agent, "-o", "json"]);
    let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(answer["findings"][0]["image"], EVIL);
}
