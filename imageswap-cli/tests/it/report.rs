//! `imageswap report`, as people run it: each format, foreign texts, and the page in a browser.

use crate::folder::{Folder, assert_snapshot};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::io::Write as _;

mod browser;
mod story;

/// The day's findings: one plain file, one compressed.
fn day() -> Folder {
    let [plain, compressed] = story::day();
    let folder = Folder::new(&[("one.jsonl", &plain)]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(compressed.as_bytes()).unwrap();
    folder.write("two.jsonl.gz", encoder.finish().unwrap());
    folder
}

/// The command that reports on the day.
const REPORT: &str = "report one.jsonl two.jsonl.gz --since 2026-11-28 --until 2026-11-29";

#[test]
fn every_format_has_its_snapshot() {
    let folder = day();
    for (format, name) in [
        ("table", "day.txt"),
        ("json", "day.json"),
        ("csv", "day.csv"),
        ("html", "day.html"),
    ] {
        let ran = folder.run(&format!("{REPORT} -o {format}"));
        assert_eq!((ran.code(), ran.err()), (Some(1), ""), "{format}");
        // Nobody reads 80 rows of JSON in one line.
        let text = if format == "json" {
            let value = ran.json();
            assert_eq!(value["schema"], "imageswap.io/report/v1");
            format!("{value:#}\n")
        } else {
            let version = concat!("ImageSwap ", env!("CARGO_PKG_VERSION"));
            ran.out().replace(version, "ImageSwap VERSION")
        };
        assert_snapshot(&format!("report/{name}"), &text);
        if format == "table" {
            let wide = text.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None);
        }
    }
}

#[test]
fn the_exit_code_says_what_was_found() {
    let folder = Folder::new(&[]);
    let file = |name: &str, lines: &[String]| folder.write(name, lines.join("\n") + "\n");
    let agent = |seconds, event| story::agent("n1", seconds, event, &Value::Null);

    let watched = [agent(0, "agent-started"), agent(60, "agent-watching")];
    let with = |more: Vec<String>| [&watched[..], &more].concat();
    file("fine", &with(story::one("approved", "ok").lines()));
    file("drift", &with(story::one("drift", "retagged").lines()));
    file(
        "unresolved",
        &with(story::one("unresolved", "gone").lines()),
    );
    file(
        "unwatched",
        &[agent(0, "agent-started"), agent(3600, "agent-watching")],
    );
    let mut cut = with(story::one("approved", "ok").lines());
    cut.push(agent(61, "agent-watching")[..90].to_owned());
    folder.write("cut", cut.join("\n"));
    folder.write("log", "INFO probes attached\n");
    let mixed = [vec!["INFO probes attached".to_owned()], watched.to_vec()].concat();
    file("mixed", &mixed);
    for (words, expected, said) in [
        ("fine", 0, ""),
        ("drift", 1, ""),
        ("drift -n shop", 1, ""),
        ("drift -n other", 0, ""),
        ("unresolved", 1, ""),
        ("unwatched", 1, ""),
        ("fine --expect-nodes n1", 0, ""),
        ("fine --expect-nodes n1,n2", 1, ""),
        ("fine --since 2026-11-27", 1, ""),
        (
            "cut",
            2,
            "error: cut:5: the finding is cut off at the end of the file\n",
        ),
        ("mixed", 0, "note: mixed:1: a line is not a finding\n"),
        (
            "fine log",
            2,
            "error: log: has no findings of an agent\nnote: log:1: a line is not a finding\n",
        ),
        (
            "fine missing",
            2,
            "error: missing: cannot be opened: No such file or directory (os error 2)\n",
        ),
        (
            "fine --since soon",
            2,
            "error: --since soon: write a time such as 2026-11-28T10:00:00Z, a day such as 2026-11-28, or an age such as 24h\n",
        ),
        (
            "fine --since 2026-11-29 --until 2026-11-28",
            2,
            "error: --since 2026-11-29 00:00:00 has to be before --until 2026-11-28 00:00:00\n",
        ),
        (
            "log",
            2,
            "error: no file has a finding, so there is no time to report on; give --since and --until\n",
        ),
    ] {
        let ran = folder.run(&format!("report {words}"));
        assert_eq!(
            (ran.code(), ran.err()),
            (Some(expected), said),
            "{words}\n{ran:?}"
        );
    }
}

/// Names and images come from the creator of a container.
#[test]
fn texts_of_others_are_shown_and_not_obeyed() {
    let evil = "=cmd|'/C calc'!A0\"><script>document.title='obeyed'</script><img src=x onerror=alert(1)>\u{1b}]0;title\u{7}\u{202e}\nfake line";
    let mut lines = vec![story::agent("n1", 0, "agent-started", &Value::Null)];
    let story = story::Story {
        node: evil.to_owned(),
        image: evil.to_owned(),
        ..story::one("drift", "retagged")
    };
    lines.extend(story.lines());
    let folder = Folder::new(&[("evil", &lines.join("\n"))]);
    let run = |format: &str| {
        let ran = folder.run(&format!("report evil -o {format}"));
        assert_eq!((ran.code(), ran.err()), (Some(1), ""));
        ran.out().to_owned()
    };
    for format in ["table", "html", "csv"] {
        let text = run(format);
        let obeyed = |c: char| {
            !['\n', '\r'].contains(&c) && (c.is_control() || format != "csv" && c == '\u{202e}')
        };
        assert!(!text.contains(obeyed), "{format}: {text:?}");
        assert!(
            !text
                .lines()
                .any(|line| line.trim_start().starts_with("fake line")),
            "{text}"
        );
    }
    let html = run("html");
    assert!(
        !html.contains("<script") && !html.contains("<img"),
        "{html}"
    );
    let csv = run("csv");
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.contains("\"'=cmd|"), "{csv}");
    let json: Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(
        json["containers"][0]["image"], evil,
        "programs get the text unchanged"
    );
}
