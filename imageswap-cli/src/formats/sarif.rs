//! SARIF 2.1.0, the format of static analysis results that code hosts and editors import.

use super::Results;
use super::gitlab::fingerprint;
use anyhow::Result;
use imageswap_policy::Severity;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

pub(super) fn write(results: &Results, out: &mut impl Write) -> Result<()> {
    let mut seen = BTreeMap::new();
    let found: Vec<_> = results
        .entries()
        .map(|(file, entry)| {
            let key = [file, entry.code, entry.message.as_str()].join("\0");
            let count: &mut usize = seen.entry(key.clone()).or_default();
            *count += 1;
            let mut result = json!({
                "ruleId": entry.code,
                "level": level(entry.severity),
                "message": {"text": entry.text()},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": uri(file)},
                    "region": {
                        "startLine": entry.line,
                        "startColumn": entry.column,
                        "endColumn": entry.end(),
                    },
                }}],
                "partialFingerprints": {"imageswap/v1": fingerprint(&key, *count)},
            });
            let index = results.codes.iter().position(|it| it.0 == entry.code);
            if let Some(index) = index {
                result["ruleIndex"] = json!(index);
            }
            result
        })
        .collect();
    let rules = results
        .codes
        .iter()
        .map(|(code, meaning)| json!({"id": code, "shortDescription": {"text": meaning}}));
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": format!("imageswap {}", results.command),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Value>(),
            }},
            "invocations": [{"executionSuccessful": results.complete}],
            "columnKind": "unicodeCodePoints",
            "results": found,
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &log)?;
    writeln!(out)?;
    Ok(())
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A path as a URI, which is relative if the path is.
pub(super) fn uri(path: &str) -> String {
    let mut uri = if path.starts_with('/') {
        "file://".to_owned()
    } else {
        String::new()
    };
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _written = write!(uri, "%{byte:02X}");
        }
    }
    uri
}
