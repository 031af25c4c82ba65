//! One line per container, for spreadsheets (RFC 4180).

use super::containers::Row;
use anyhow::Result;
use serde_json::Value;
use std::io::Write;

const HEADER: [&str; 24] = [
    "from",
    "from_is_exact",
    "to",
    "end",
    "seconds",
    "node",
    "namespace",
    "workload_kind",
    "workload_name",
    "pod",
    "container",
    "container_id",
    "process",
    "image",
    "expected_image",
    "digest",
    "registry",
    "verdict",
    "route",
    "reason",
    "rule",
    "policy",
    "set_revision",
    "start_id",
];

/// The columns are fields of the JSON.
pub(super) fn write(rows: &[Row], out: &mut impl Write) -> Result<()> {
    write!(out, "{}\r\n", HEADER.join(","))?;
    for row in rows {
        let row = serde_json::to_value(row)?;
        let fields = HEADER.map(|column| {
            let value = match column.strip_prefix("workload_") {
                Some(field) => &row["workload"][field],
                None => &row[column],
            };
            match value {
                Value::Null => String::new(),
                Value::String(text) => field(text),
                other => other.to_string(),
            }
        });
        write!(out, "{}\r\n", fields.join(","))?;
    }
    Ok(())
}

/// A field that no spreadsheet takes for a formula, and no terminal obeys.
fn field(text: &str) -> String {
    let is_formula = text.starts_with([
        '=', '+', '-', '@', '\t', '\r', '\n', '\'', '＝', '＋', '－', '＠',
    ]);
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    let text = text.replace('"', "\"\"");
    let mark = if is_formula { "'" } else { "" };
    let needs_quotes = is_formula || text.contains([',', '"', ' ', ';']);
    if needs_quotes {
        format!("\"{mark}{text}\"")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_neither_formulas_nor_further_fields() {
        for (text, expected) in [
            ("nginx:1.25", "nginx:1.25"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("-1", "\"'-1\""),
            ("\t=1", "\"'\u{fffd}=1\""),
            ("a\r\n=1", "a\u{fffd}\u{fffd}=1"),
            ("\u{1b}[31m", "\u{fffd}[31m"),
        ] {
            assert_eq!(field(text), expected, "{text:?}");
        }
    }
}
