//! Every format, with ordinary and with hostile texts.

use super::*;

fn case(file: &str, entry: Option<Entry>, fails: bool) -> Case {
    Case {
        file: file.to_owned(),
        name: "an image".to_owned(),
        entry,
        fails,
    }
}

fn entry(severity: Severity, message: &str, notes: &[&str]) -> Entry {
    Entry {
        severity,
        code: "not-approved",
        line: 3,
        column: 5,
        length: 7,
        message: message.to_owned(),
        notes: notes.iter().map(|it| (*it).to_owned()).collect(),
    }
}

fn results(cases: Vec<Case>, complete: bool) -> Results {
    Results {
        command: "check",
        codes: vec![("not-approved", "The policy does not approve it")],
        cases,
        complete,
    }
}

fn written(results: &Results, format: Format) -> String {
    let mut out = Vec::new();
    results.write(format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn usual() -> Results {
    results(
        vec![
            case(
                "./app/a b.yaml",
                Some(entry(Severity::Error, "`x` is bad", &["Pod a"])),
                true,
            ),
            case("./app/a b.yaml", None, false),
            case(
                "c.yaml",
                Some(entry(Severity::Note, "`y` moves", &[])),
                false,
            ),
        ],
        true,
    )
}

#[test]
fn gitlab_snapshot() {
    assert_eq!(
        written(&usual(), Format::Gitlab),
        r#"[
  {
    "description": "`x` is bad; Pod a",
    "check_name": "not-approved",
    "fingerprint": "FIRST",
    "severity": "major",
    "location": {
      "path": "app/a b.yaml",
      "lines": {
        "begin": 3
      }
    }
  },
  {
    "description": "`y` moves",
    "check_name": "not-approved",
    "fingerprint": "SECOND",
    "severity": "info",
    "location": {
      "path": "c.yaml",
      "lines": {
        "begin": 3
      }
    }
  }
]
"#
        .replace(
            "FIRST",
            &gitlab::fingerprint("app/a b.yaml\0not-approved\0`x` is bad", 1)
        )
        .replace(
            "SECOND",
            &gitlab::fingerprint("c.yaml\0not-approved\0`y` moves", 1)
        )
    );
}

#[test]
fn junit_snapshot() {
    assert_eq!(
        written(&usual(), Format::Junit),
        r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="imageswap check" tests="3" failures="1" errors="0" skipped="0">
  <testsuite name="app/a b.yaml" tests="2" failures="1" errors="0" skipped="0">
    <testcase name="an image" classname="app/a b.yaml" file="app/a b.yaml" line="3">
      <failure message="`x` is bad" type="not-approved">app/a b.yaml:3:5
`x` is bad
Pod a</failure>
    </testcase>
    <testcase name="an image" classname="app/a b.yaml" file="app/a b.yaml"/>
  </testsuite>
  <testsuite name="c.yaml" tests="1" failures="0" errors="0" skipped="0">
    <testcase name="an image" classname="c.yaml" file="c.yaml" line="3">
      <system-out>note[not-approved]: c.yaml:3:5
`y` moves</system-out>
    </testcase>
  </testsuite>
</testsuites>
"#
    );
}

#[test]
fn sarif_snapshot() {
    let log: serde_json::Value = serde_json::from_str(&written(&usual(), Format::Sarif)).unwrap();
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "not-approved");
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    assert_eq!(
        run["results"][0],
        serde_json::json!({
            "ruleId": "not-approved",
            "ruleIndex": 0,
            "level": "error",
            "message": {"text": "`x` is bad\nPod a"},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": "app/a%20b.yaml"},
                "region": {"startLine": 3, "startColumn": 5, "endColumn": 12},
            }}],
            "partialFingerprints": {
                "imageswap/v1": gitlab::fingerprint("app/a b.yaml\0not-approved\0`x` is bad", 1),
            },
        })
    );
    assert_eq!(run["results"][1]["level"], "note");
}

#[test]
fn what_is_not_complete_is_said() {
    let log: serde_json::Value =
        serde_json::from_str(&written(&results(Vec::new(), false), Format::Sarif)).unwrap();
    assert_eq!(
        log["runs"][0]["invocations"][0]["executionSuccessful"],
        false
    );
    let text = written(&results(Vec::new(), false), Format::Junit);
    assert!(
        text.contains("tests=\"1\" failures=\"0\" errors=\"1\""),
        "{text}"
    );
    assert!(text.contains("<error message="), "{text}");
    assert_eq!(written(&results(Vec::new(), true), Format::Gitlab), "[]\n");
    assert_eq!(written(&results(Vec::new(), true), Format::Github), "");
}

const HOSTILE: &str = "a\n::add-mask::b\r%0A,x:y\u{1b}[2J<b a=\"1\">&amp;]]>\u{202e}\0\u{ffff}é";

#[test]
fn hostile_texts_stay_what_they_are() {
    let hostile = results(
        vec![case(
            HOSTILE,
            Some(entry(Severity::Error, HOSTILE, &[HOSTILE])),
            true,
        )],
        true,
    );
    let github = written(&hostile, Format::Github);
    assert_eq!(github.lines().count(), 1, "{github}");
    let (head, message) = github.split_once(",title=").unwrap();
    assert!(head.contains("%25%0A") || head.contains("%250A"), "{head}");
    // The name of the file ends no property.
    assert_eq!(head.matches(',').count(), 4, "{head}");
    assert!(
        !message.contains('\u{1b}') && !message.contains('\r'),
        "{message}"
    );
    for format in [Format::Gitlab, Format::Sarif] {
        let text = written(&hostile, format);
        assert!(!text.contains('\u{1b}') && !text.contains('\0'), "{text}");
        drop(serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }
    let xml = written(&hostile, Format::Junit);
    assert!(
        !xml.chars().any(|it| it.is_control() && it != '\n'),
        "{xml}"
    );
    assert!(!xml.contains("<b") && !xml.contains('\u{ffff}'), "{xml}");
}

#[test]
fn fingerprints_name_findings_not_lines() {
    let of = |line, messages: &[&str]| {
        let cases = messages.iter().map(|it| {
            let mut entry = entry(Severity::Error, it, &[]);
            entry.line = line;
            case("a.yaml", Some(entry), true)
        });
        let text = written(&results(cases.collect(), true), Format::Gitlab);
        let issues: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let prints = issues
            .iter()
            .map(|it| it["fingerprint"].as_str().unwrap().to_owned());
        prints.collect::<Vec<_>>()
    };
    assert_eq!(of(1, &["a", "b"]), of(9, &["a", "b"]));
    let same = of(1, &["a", "a"]);
    assert_ne!(same[0], same[1]);
    assert_eq!(of(1, &["a"])[0], same[0]);
}

#[test]
fn paths_become_uris() {
    for (path, uri) in [
        ("a/b.yaml", "a/b.yaml"),
        ("a b%.yaml", "a%20b%25.yaml"),
        ("/x/é", "file:///x/%C3%A9"),
        ("c:d", "c%3Ad"),
    ] {
        assert_eq!(sarif::uri(path), uri);
    }
}
