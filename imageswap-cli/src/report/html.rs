//! One self-contained page for people: no scripts, nothing loaded, light and dark.

use super::answer::{Count, Report};
use super::groups::{Group, container, groups};
use crate::moment::span;
use anyhow::Result;
use imageswap_runtime::text::{counted, shown};
use std::fmt::{self, Display, Formatter};
use std::io::Write;
use std::time::Duration;

mod timeline;
mod watch;

const STYLE: &str = include_str!("html/style.css");

/// Rows of a list. Browsers are slow with long tables; spreadsheets and programs get all rows.
const MOST_ROWS: usize = 300;

/// Rows of the counts.
const MOST_COUNTS: usize = 12;

/// Characters of a name that are shown.
const LONGEST: usize = 300;

/// A text of others, safe between tags and in quoted attributes.
struct Safe<'t>(&'t str);

impl Display for Safe<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut text = self.0;
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text = &text[..end];
        }
        for c in shown(text).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str(if text.len() < self.0.len() { "…" } else { "" })
    }
}

pub(super) fn write(report: &Report, out: &mut impl Write) -> Result<()> {
    let groups = groups(&report.containers);
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>ImageSwap report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    )?;
    head(report, groups.len(), out)?;
    timeline::write(report, out)?;
    counts(report, out)?;
    list(&groups, out)?;
    watch::write(report, out)?;
    write!(
        out,
        "<footer>ImageSwap {}, from {}. Times are in UTC. <code>-o json</code> and <code>-o csv</code> \
         list every container.</footer>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        counted(report.files.len(), "file"),
    )?;
    Ok(())
}

fn head(report: &Report, groups: usize, out: &mut impl Write) -> Result<()> {
    let summary = &report.summary;
    let total = summary.drift + summary.unresolved;
    let title = match total {
        0 => "Everything that ran was approved".to_owned(),
        n => format!("{} ran without approval", counted(n, "container")),
    };
    let title = if report.complete && report.watched || total > 0 {
        title
    } else {
        "Nothing is known to have run without approval".to_owned()
    };
    writeln!(
        out,
        "<h1>{title}</h1>\n<p class=\"soft\">{} to {}, {} on {}</p>",
        report.since,
        report.until,
        counted(report.starts, "container"),
        counted(report.nodes, "node")
    )?;
    if !report.complete {
        writeln!(
            out,
            "<p class=\"bad\">The files are not complete: see the end of this page.</p>"
        )?;
    }
    let unwatched: u64 = report.unwatched.iter().map(|it| it.seconds).sum();
    let unwatched = span(Duration::from_secs(unwatched));
    let lost: u64 = report.lost.iter().map(|it| it.events).sum();
    writeln!(out, "<div class=\"figures\">")?;
    for (class, value, name) in [
        ("drift", summary.drift.to_string(), "containers drifted"),
        (
            "unresolved",
            summary.unresolved.to_string(),
            "with an unknown image",
        ),
        ("", summary.running.to_string(), "of these still run"),
        ("", groups.to_string(), "workloads and images"),
        ("", unwatched, "not watched, all nodes"),
        ("", lost.to_string(), "events lost"),
    ] {
        writeln!(
            out,
            "<div class=\"figure {class}\"><b>{value}</b><span>{name}</span></div>"
        )?;
    }
    writeln!(out, "</div>")?;
    Ok(())
}

fn counts(report: &Report, out: &mut impl Write) -> Result<()> {
    let summary = &report.summary;
    if summary.reasons.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section>\n<h2>Where and why</h2>\n<div class=\"counts\">"
    )?;
    for (title, counts) in [
        ("Namespace", &summary.namespaces),
        ("Registry", &summary.registries),
        ("Reason", &summary.reasons),
    ] {
        let most = counts
            .iter()
            .map(Count::containers)
            .max()
            .unwrap_or(1)
            .max(1);
        writeln!(
            out,
            "<table>\n<tr><th>{title}</th><th class=\"number\">Containers</th><th class=\"number\">Time</th></tr>"
        )?;
        for count in counts.iter().take(MOST_COUNTS) {
            let width = |part: u64| part.saturating_mul(1000) / most;
            let bar = |class: &str, part: u64| {
                if part == 0 {
                    return String::new();
                }
                let (whole, tenths) = (width(part) / 10, width(part) % 10);
                format!("<i class=\"{class}\" style=\"width:{whole}.{tenths}%\"></i>")
            };
            writeln!(
                out,
                "<tr><td>{}<div class=\"bar\">{}{}</div></td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
                Safe(&count.name),
                bar("drift", count.drift),
                bar("unresolved", count.unresolved),
                count.containers(),
                span(Duration::from_secs(count.seconds))
            )?;
        }
        let more = counts.iter().skip(MOST_COUNTS);
        let (rest, containers) = more.fold((0, 0), |(n, sum), it| (n + 1, sum + it.containers()));
        if rest > 0 {
            writeln!(
                out,
                "<tr><td class=\"soft\">{rest} more</td><td class=\"number\">{containers}</td><td></td></tr>"
            )?;
        }
        writeln!(out, "</table>")?;
    }
    writeln!(out, "</div>\n</section>")?;
    Ok(())
}

fn list(groups: &[Group<'_>], out: &mut impl Write) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section>\n<h2>What ran</h2>\n<div class=\"wide\">\n<table>\n<tr><th>Workload</th><th>Image</th><th>Why</th>\
         <th>When</th><th class=\"number\">Containers</th><th class=\"number\">Time</th></tr>"
    )?;
    for group in groups.iter().take(MOST_ROWS) {
        row(group, out)?;
    }
    writeln!(out, "</table>\n</div>")?;
    if groups.len() > MOST_ROWS {
        writeln!(
            out,
            "<p class=\"soft\">{} more are not on this page; <code>-o csv</code> lists every container.</p>",
            groups.len() - MOST_ROWS
        )?;
    }
    writeln!(out, "</section>")?;
    Ok(())
}

fn row(group: &Group<'_>, out: &mut impl Write) -> Result<()> {
    let row = group.row;
    let nodes = match group.nodes.len() {
        1 => format!("{}", Safe(group.nodes.first().unwrap_or(&""))),
        n => format!("{n} nodes"),
    };
    write!(
        out,
        "<tr><td>{}<br><span class=\"soft\">{} on {nodes}</span></td>",
        Safe(&group.owner),
        Safe(container(group))
    )?;
    let image = row.image.as_deref().unwrap_or("unknown");
    write!(out, "<td><code>{}</code>", Safe(image))?;
    if let Some(expected) = row.expected_image.as_deref().filter(|it| *it != image) {
        write!(
            out,
            "<br><span class=\"soft\">expected <code>{}</code></span>",
            Safe(expected)
        )?;
    }
    write!(
        out,
        "</td><td><span class=\"word {0}\">{0}</span><br>{1}, {2}",
        row.verdict,
        Safe(&row.route),
        Safe(&row.reason)
    )?;
    if let Some(rule) = &row.rule {
        write!(out, "<br><span class=\"soft\">rule {}</span>", Safe(rule))?;
    }
    let before = if group.from_is_exact { "" } else { "before " };
    let mut ends = Vec::new();
    if group.running > 0 {
        ends.push(format!("{} still running", group.running));
    }
    if group.unseen > 0 {
        ends.push(format!("{} ended unseen", group.unseen));
    }
    let ends = match ends.as_slice() {
        [] => String::new(),
        ends => format!("<br><span class=\"bad\">{}</span>", ends.join(", ")),
    };
    writeln!(
        out,
        "</td><td class=\"nowrap\">{before}{}<br>to {}{ends}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
        group.from,
        group.to,
        group.containers,
        span(Duration::from_secs(group.seconds))
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_stay_texts() {
        let evil = "\"><script>alert('1')</script>&\u{202e}\u{1b}[31m";
        let safe = Safe(evil).to_string();
        assert!(
            !safe.contains(['<', '>', '"', '\'', '\u{202e}', '\u{1b}']),
            "{safe}"
        );
        assert!(safe.starts_with("&quot;&gt;&lt;script&gt;"), "{safe}");
        assert_eq!(Safe("nginx:1.25").to_string(), "nginx:1.25");
        let long = Safe(&"x".repeat(LONGEST + 1)).to_string();
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(long.ends_with('…'));
    }
}
