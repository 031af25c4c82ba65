//! The answer for people, in 80 columns unless names are longer.

use super::answer::{Count, Report};
use super::groups::{Group, container, groups};
use super::watch::Gap;
use crate::moment::span;
use anyhow::Result;
use imageswap_runtime::text::{WIDTH, counted, shorten, shown, wrap};
use std::io::Write;
use std::time::Duration;

/// Rows of a list; programs and spreadsheets get all of them.
const MOST_ROWS: usize = 50;

/// Width of a name in the counts.
const NAME: usize = 38;

pub(super) fn write(report: &Report, out: &mut impl Write) -> Result<()> {
    writeln!(out, "From {} to {} UTC", report.since, report.until)?;
    let starts = counted(report.starts, "container");
    let nodes = counted(report.nodes, "node");
    let files = counted(report.files.len(), "file");
    writeln!(out, "{starts} on {nodes}, from {files}\n")?;
    let groups = groups(&report.containers);
    for (at, group) in groups.iter().enumerate().take(MOST_ROWS) {
        if at == 0
            || groups
                .get(at - 1)
                .is_some_and(|before| before.owner != group.owner)
        {
            writeln!(out, "{}", shown(&group.owner))?;
        }
        write_group(group, out)?;
        let next = groups.get(at + 1).filter(|_| at + 1 < MOST_ROWS);
        if next.is_none_or(|next| next.owner != group.owner) {
            writeln!(out)?;
        }
    }
    if groups.len() > MOST_ROWS {
        let more = groups.len() - MOST_ROWS;
        writeln!(
            out,
            "... and {more} more like these; -o csv and -o json list all\n"
        )?;
    }
    let summary = &report.summary;
    let images = counted(summary.images, "image");
    let total = summary.drift + summary.unresolved;
    if total == 0 {
        writeln!(out, "Nothing ran that was not approved.")?;
    } else {
        let runs = match summary.running {
            0 => String::new(),
            1 => "; 1 still runs".to_owned(),
            n => format!("; {n} still run"),
        };
        writeln!(
            out,
            "Not approved: {} ({} drift, {} unresolved), {images}{runs}",
            counted(total, "container"),
            summary.drift,
            summary.unresolved
        )?;
    }
    for (title, counts) in [
        ("NAMESPACE", &summary.namespaces),
        ("REGISTRY", &summary.registries),
        ("REASON", &summary.reasons),
    ] {
        write_counts(title, counts, out)?;
    }
    write_watch(report, out)
}

fn write_group(group: &Group<'_>, out: &mut impl Write) -> Result<()> {
    let row = group.row;
    let image = row.image.as_deref().unwrap_or("an unknown image");
    let mut texts = vec![format!("{}: {image}", container(group))];
    let expected = row.expected_image.as_deref();
    texts.extend(
        expected
            .filter(|it| row.image.as_deref() != Some(*it))
            .map(|it| format!("expected {it}")),
    );
    let rule = row.rule.as_ref().map(|rule| format!("; rule {rule}"));
    texts.push(format!(
        "{}, {}, {}{}",
        row.verdict,
        row.route,
        row.reason,
        rule.unwrap_or_default()
    ));
    let nodes = match group.nodes.len() {
        1 => format!("on {}", group.nodes.first().unwrap_or(&"")),
        n => format!("on {n} nodes"),
    };
    let from = if group.from_is_exact {
        "from"
    } else {
        "from before"
    };
    let total = span(Duration::from_secs(group.seconds));
    let times = format!(
        "{} {nodes}, {from} {} to {}",
        counted(group.containers, "container"),
        group.from,
        group.to
    );
    texts.push(times);
    let mut ends = vec![format!("{total} in all")];
    if group.running > 0 {
        ends.push(format!("{} still running", group.running));
    }
    if group.unseen > 0 {
        ends.push(format!("{} ended while nobody watched", group.unseen));
    }
    texts.push(ends.join(", "));
    for (at, text) in texts.iter().enumerate() {
        let indent = if at == 0 { 2 } else { 4 };
        for line in wrap(&shown(text), WIDTH - indent) {
            writeln!(out, "{:indent$}{line}", "")?;
        }
    }
    Ok(())
}

fn write_counts(title: &str, counts: &[Count], out: &mut impl Write) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{title:NAME$} {:>10} {:>7} {:>11} {:>9}",
        "CONTAINERS", "DRIFT", "UNRESOLVED", "TIME"
    )?;
    for count in counts.iter().take(MOST_ROWS) {
        let name = shown(&count.name);
        writeln!(
            out,
            "{:NAME$} {:>10} {:>7} {:>11} {:>9}",
            shorten(&name, NAME),
            count.containers(),
            count.drift,
            count.unresolved,
            span(Duration::from_secs(count.seconds))
        )?;
    }
    if counts.len() > MOST_ROWS {
        writeln!(out, "... and {} more", counts.len() - MOST_ROWS)?;
    }
    Ok(())
}

fn write_watch(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.unwatched.is_empty() {
        writeln!(out, "\nEvery node was watched all the time.")?;
    } else {
        writeln!(
            out,
            "\nWhat started at these times may not be in this report:"
        )?;
    }
    for gap in report.unwatched.iter().take(MOST_ROWS) {
        let Gap {
            node,
            from,
            to,
            seconds,
            cause,
        } = gap;
        let length = span(Duration::from_secs(*seconds));
        let text = format!("{node}, {from} to {to} ({length}): {}", cause.as_str());
        for line in wrap(&shown(&text), WIDTH - 2) {
            writeln!(out, "  {line}")?;
        }
    }
    if report.unwatched.len() > MOST_ROWS {
        let more = report.unwatched.len() - MOST_ROWS;
        writeln!(out, "  ... and {more} more; -o json lists all")?;
    }
    if !report.lost.is_empty() {
        writeln!(
            out,
            "\nEvents were lost, so a short container may not be in this report:"
        )?;
    }
    for loss in report.lost.iter().take(MOST_ROWS) {
        let text = format!(
            "{}, {}: {} ({})",
            loss.node, loss.time, loss.events, loss.cause
        );
        writeln!(out, "  {}", shown(&text))?;
    }
    if report.lost.len() > MOST_ROWS {
        writeln!(
            out,
            "  ... and {} more; -o json lists all",
            report.lost.len() - MOST_ROWS
        )?;
    }
    if !report.policy_changes.is_empty() {
        writeln!(out, "\nThe policies changed:")?;
    }
    for change in report.policy_changes.iter().take(MOST_ROWS) {
        let from = change.from.as_deref().unwrap_or("unknown");
        let nodes = counted(change.nodes, "node");
        let text = format!(
            "{}, revision {from} to {}, on {nodes}",
            change.time, change.to
        );
        writeln!(out, "  {}", shown(&text))?;
    }
    if !report.complete {
        let problems: u64 = report.files.iter().map(|it| it.problems).sum();
        let problems = counted(problems, "problem");
        writeln!(
            out,
            "\nThe files are not complete: {problems}, listed on standard error."
        )?;
    }
    Ok(())
}
