//! GitLab's code quality report: a list of findings, which merge requests show at their lines.

use super::Results;
use anyhow::Result;
use imageswap_policy::{Severity, sha256};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// Digits of a fingerprint.
const FINGERPRINT: usize = 32;

#[derive(Serialize)]
struct Issue<'a> {
    description: String,
    check_name: &'a str,
    fingerprint: String,
    severity: &'static str,
    location: Location<'a>,
}

#[derive(Serialize)]
struct Location<'a> {
    path: &'a str,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: usize,
}

pub(super) fn write(results: &Results, out: &mut impl Write) -> Result<()> {
    let mut seen = BTreeMap::new();
    let issues: Vec<_> = results
        .entries()
        .map(|(file, entry)| {
            // Not the line: the finding is the same if lines are added above it.
            let key = [file, entry.code, entry.message.as_str()].join("\0");
            let count: &mut usize = seen.entry(key.clone()).or_default();
            *count += 1;
            Issue {
                description: entry.text().replace('\n', "; "),
                check_name: entry.code,
                fingerprint: fingerprint(&key, *count),
                severity: match entry.severity {
                    Severity::Error => "major",
                    Severity::Warning => "minor",
                    Severity::Note => "info",
                },
                location: Location {
                    path: file,
                    lines: Lines { begin: entry.line },
                },
            }
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &issues)?;
    writeln!(out)?;
    Ok(())
}

/// Names a finding over time; the `count` of equal findings keeps them apart.
pub(super) fn fingerprint(key: &str, count: usize) -> String {
    let mut hash = sha256(format!("{key}\0{count}"));
    hash.truncate(FINGERPRINT);
    hash
}
