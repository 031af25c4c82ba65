//! One line per container, for spreadsheets (RFC 4180).

use super::containers::Row;
use anyhow::Result;
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

pub(super) fn write(rows: &[Row], out: &mut impl Write) -> Result<()> {
    line(&HEADER, out)?;
    for row in rows {
        let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let workload = row.workload.as_ref();
        let fields = [
            row.from.rfc3339(),
            row.from_is_exact.to_string(),
            row.to.rfc3339(),
            row.end.as_str().to_owned(),
            row.seconds.to_string(),
            row.node.clone(),
            text(&row.namespace),
            workload.map(|it| it.kind.clone()).unwrap_or_default(),
            workload.map(|it| it.name.clone()).unwrap_or_default(),
            text(&row.pod),
            text(&row.container),
            text(&row.container_id),
            text(&row.process),
            text(&row.image),
            text(&row.expected_image),
            text(&row.digest),
            row.registry.clone(),
            row.verdict.to_owned(),
            row.route.clone(),
            row.reason.clone(),
            text(&row.rule),
            text(&row.policy),
            row.set_revision.clone(),
            row.start_id.clone(),
        ];
        line(&fields.each_ref().map(String::as_str), out)?;
    }
    Ok(())
}

fn line(fields: &[&str; HEADER.len()], out: &mut impl Write) -> Result<()> {
    let fields = fields.map(field);
    write!(out, "{}\r\n", fields.join(","))?;
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
