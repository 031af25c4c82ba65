//! JUnit's XML: a suite for each file, and in it a test case for everything that was checked.

use super::{Case, Results, path};
use anyhow::Result;
use imageswap_runtime::text::shown;
use std::io::Write;

pub(super) fn write(results: &Results, out: &mut impl Write) -> Result<()> {
    let cases = &results.cases;
    let suites: Vec<_> = cases.chunk_by(|a, b| a.file == b.file).collect();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    let name = format!("imageswap {}", results.command);
    writeln!(
        out,
        "<testsuites {}>",
        counts(&name, cases, results.complete)
    )?;
    for of_file in suites {
        let file = path(&of_file[0].file);
        writeln!(out, "  <testsuite {}>", counts(file, of_file, true))?;
        for it in of_file {
            case(file, it, out)?;
        }
        writeln!(out, "  </testsuite>")?;
    }
    if !results.complete {
        // No case stands for what could not be read.
        let name = "everything could be read and decided";
        let of = format!("name=\"{name}\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\"");
        writeln!(out, "  <testsuite {of}>")?;
        writeln!(
            out,
            "    <testcase name=\"{name}\" classname=\"imageswap\">"
        )?;
        writeln!(out, "      <error message=\"see standard error\"/>")?;
        writeln!(out, "    </testcase>\n  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")?;
    Ok(())
}

fn counts(name: &str, cases: &[Case], complete: bool) -> String {
    let failures = cases.iter().filter(|it| it.fails).count();
    let errors = usize::from(!complete);
    let (name, tests) = (escaped(name), cases.len() + errors);
    format!(
        "name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\""
    )
}

fn case(file: &str, case: &Case, out: &mut impl Write) -> Result<()> {
    let head = format!(
        "<testcase name=\"{}\" classname=\"{}\" file=\"{}\"",
        escaped(&case.name),
        escaped(file),
        escaped(file)
    );
    let Some(entry) = &case.entry else {
        writeln!(out, "    {head}/>")?;
        return Ok(());
    };
    writeln!(out, "    {head} line=\"{}\">", entry.line)?;
    let place = format!("{file}:{}:{}", entry.line, entry.column);
    let text = escaped(&format!("{}\n{}", shown(&place), entry.text())).replace("&#10;", "\n");
    if case.fails {
        let message = escaped(&entry.message);
        let code = entry.code;
        writeln!(
            out,
            "      <failure message=\"{message}\" type=\"{code}\">{text}</failure>"
        )?;
    } else {
        let severity = entry.severity;
        writeln!(
            out,
            "      <system-out>{severity}[{}]: {text}</system-out>",
            entry.code
        )?;
    }
    writeln!(out, "    </testcase>")?;
    Ok(())
}

/// A text for an attribute or an element. XML has no way to write most control characters, so they
/// are shown as on a terminal.
fn escaped(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(shown).collect();
    let text = lines.join("\n");
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            // Two code points that XML does not allow at all.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}
