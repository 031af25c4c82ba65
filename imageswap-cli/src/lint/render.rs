//! Messages for people, in colour on a terminal.

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use imageswap_policy::{Diagnostic, Severity};

/// The message as compilers show it; in colour if standard output is a terminal and colours are not
/// disabled (`NO_COLOR`, `CLICOLOR`, `TERM=dumb`).
pub(super) fn text(diagnostic: &Diagnostic) -> String {
    let plain = diagnostic.to_string();
    if AutoStream::choice(&std::io::stdout()) == ColorChoice::Never {
        return plain;
    }
    coloured(diagnostic.severity, &plain)
}

/// Colours the parts of a plain message: its head, its margin and the underline.
fn coloured(severity: Severity, plain: &str) -> String {
    let bold = Style::new().bold();
    let margin = bold.fg_color(Some(AnsiColor::Blue.into()));
    let mark = bold.fg_color(Some(
        match severity {
            Severity::Error => AnsiColor::Red,
            Severity::Warning => AnsiColor::Yellow,
            Severity::Note => AnsiColor::Cyan,
        }
        .into(),
    ));
    let lines = plain.lines().enumerate().map(|(at, line)| {
        let (left, style, right, rest) = match at {
            0 => {
                let (head, message) = line.split_once(": ").unwrap_or((line, ""));
                (head, mark, ": ", bold_text(bold, message))
            }
            1 => {
                let (arrow, place) = line.split_at(line.find("--> ").map_or(0, |it| it + 4));
                (arrow, margin, "", place.to_owned())
            }
            _ => match line.split_once(" | ") {
                Some((left, under)) if under.trim_start().starts_with('^') && at == 4 => (
                    left,
                    margin,
                    "",
                    format!("{margin} | {margin:#}{mark}{under}{mark:#}"),
                ),
                Some((left, text)) => (left, margin, "", format!("{margin} | {margin:#}{text}")),
                None if line.ends_with(" |") => (line, margin, "", String::new()),
                None => ("", margin, "", line.to_owned()),
            },
        };
        format!("{style}{left}{style:#}{right}{rest}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn bold_text(bold: Style, text: &str) -> String {
    format!("{bold}{text}{bold:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_changes_no_character() {
        let text = "default::https://d.io/\nquay.io/team::\nnoswap_wildcards::*.b.io,\n";
        for diagnostic in &imageswap_policy::maps::lint("a | b", text) {
            let plain = diagnostic.to_string();
            let coloured = coloured(diagnostic.severity, &plain);
            assert!(coloured.contains("\u{1b}["), "{coloured}");
            assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
        }
    }
}
