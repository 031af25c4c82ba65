//! When nobody watched, and which lines of the files could not be read.

use super::{MOST_ROWS, Safe};
use crate::moment::span;
use crate::report::answer::Report;
use anyhow::Result;
use imageswap_runtime::text::counted;
use std::io::Write;
use std::time::Duration;

pub(super) fn write(report: &Report, out: &mut impl Write) -> Result<()> {
    writeln!(out, "<section>\n<h2>Was everything watched?</h2>")?;
    if report.watched && report.nodes > 0 {
        writeln!(
            out,
            "<p class=\"good\">Yes: every node was watched all the time, and no event was lost.</p>"
        )?;
    } else if report.nodes == 0 {
        writeln!(out, "<p class=\"bad\">No node has a record.</p>")?;
    }
    gaps(report, out)?;
    losses(report, out)?;
    policies(report, out)?;
    writeln!(out, "</section>")?;
    files(report, out)
}

fn gaps(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.unwatched.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<p>What started at these times may not be in this report.</p>\n<div class=\"wide\"><table>\n\
         <tr><th>Node</th><th>From</th><th>To</th><th>Why</th><th class=\"number\">Time</th></tr>"
    )?;
    for gap in report.unwatched.iter().take(MOST_ROWS) {
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"nowrap\">{}</td><td class=\"nowrap\">{}</td><td>{}</td><td class=\"number\">{}</td></tr>",
            Safe(&gap.node),
            gap.from,
            gap.to,
            gap.cause.as_str(),
            span(Duration::from_secs(gap.seconds))
        )?;
    }
    writeln!(out, "</table></div>")?;
    more(report.unwatched.len(), out)
}

fn losses(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.lost.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<p>Events were lost at these times, so a short container may not be in this report.</p>\n\
         <table>\n<tr><th>Node</th><th>When</th><th>Cause</th><th class=\"number\">Events</th></tr>"
    )?;
    for loss in report.lost.iter().take(MOST_ROWS) {
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"nowrap\">{}</td><td>{}</td><td class=\"number\">{}</td></tr>",
            Safe(&loss.node),
            loss.time,
            Safe(&loss.cause),
            loss.events
        )?;
    }
    writeln!(out, "</table>")?;
    more(report.lost.len(), out)
}

fn policies(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.policy_changes.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<p>The policies changed.</p>\n<table>\n<tr><th>When</th><th>From revision</th><th>To revision</th>\
         <th class=\"number\">Nodes</th></tr>"
    )?;
    for change in report.policy_changes.iter().take(MOST_ROWS) {
        writeln!(
            out,
            "<tr><td class=\"nowrap\">{}</td><td><code>{}</code></td><td><code>{}</code></td><td class=\"number\">{}</td></tr>",
            change.time,
            Safe(change.from.as_deref().unwrap_or("unknown")),
            Safe(&change.to),
            change.nodes
        )?;
    }
    writeln!(out, "</table>")?;
    more(report.policy_changes.len(), out)
}

fn files(report: &Report, out: &mut impl Write) -> Result<()> {
    if report.complete {
        return Ok(());
    }
    writeln!(
        out,
        "<section>\n<h2>What could not be read</h2>\n<table>\n<tr><th>File</th><th class=\"number\">Line</th><th>Problem</th></tr>"
    )?;
    for file in report.files.iter().filter(|it| it.problems > 0) {
        for problem in &file.listed {
            let line = problem
                .line
                .map(|line| line.to_string())
                .unwrap_or_default();
            writeln!(
                out,
                "<tr><td>{}</td><td class=\"number\">{line}</td><td>{}</td></tr>",
                Safe(&file.name),
                Safe(&problem.what)
            )?;
        }
        let rest = file.problems - file.listed.len() as u64;
        if rest > 0 {
            writeln!(
                out,
                "<tr><td>{}</td><td></td><td>{} more</td></tr>",
                Safe(&file.name),
                counted(rest, "line")
            )?;
        }
    }
    writeln!(out, "</table>\n</section>")?;
    Ok(())
}

fn more(rows: usize, out: &mut impl Write) -> Result<()> {
    if rows > MOST_ROWS {
        writeln!(
            out,
            "<p class=\"soft\">{} more are not on this page; <code>-o json</code> lists all.</p>",
            rows - MOST_ROWS
        )?;
    }
    Ok(())
}
