//! Commands of GitHub Actions: one line each, which the runner shows as an annotation of the file.

use super::Results;
use anyhow::Result;
use imageswap_policy::Severity;
use imageswap_runtime::text::shown;
use std::io::Write;

pub(super) fn write(results: &Results, out: &mut impl Write) -> Result<()> {
    for (file, entry) in results.entries() {
        let command = match entry.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let (line, column, end) = (entry.line, entry.column, entry.end());
        writeln!(
            out,
            "::{command} file={},line={line},endLine={line},col={column},endColumn={end},title={}::{}",
            property(&shown(file)),
            property(entry.code),
            message(&entry.text()),
        )?;
    }
    Ok(())
}

/// The runner decodes these, and nothing else.
fn message(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Properties also end at a comma or colon.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}
