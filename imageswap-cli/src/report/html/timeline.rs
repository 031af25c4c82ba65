//! The picture: how many containers ran without approval over time, and when nodes were watched.

use super::Safe;
use crate::moment::{Moment, span};
use crate::report::answer::Report;
use anyhow::Result;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// Columns of the chart.
const BINS: usize = 120;

/// Nodes with a row of their own: those that were unwatched longest.
const MOST_NODES: usize = 12;

/// Marks of lost events and of changed policies.
const MOST_MARKS: usize = 200;

/// Unwatched times that are drawn per node; the list below has them all.
const MOST_GAPS: usize = 100;

// In units of the drawing, which is scaled to the page.
const WIDTH: f64 = 1040.0;
const LEFT: f64 = 130.0;
const TOP: f64 = 14.0;
const CHART: f64 = 150.0;
const AXIS: f64 = 26.0;
const ROW: f64 = 20.0;
/// The least width of something that has a width at all.
const LEAST: f64 = 2.0;

/// From times to places.
struct Scale {
    since: Moment,
    length: f64,
}

impl Scale {
    fn x(&self, at: Moment) -> f64 {
        let part = at.since(self.since).as_secs_f64() / self.length;
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT)
    }
}

pub(super) fn write(report: &Report, out: &mut impl Write) -> Result<()> {
    let length = report.until.since(report.since);
    let scale = Scale {
        since: report.since,
        length: length.as_secs_f64().max(1e-6),
    };
    let nodes = nodes(report);
    #[expect(clippy::cast_precision_loss, reason = "a dozen rows")]
    let rows = nodes.len() as f64 * ROW;
    let bottom = TOP + CHART;
    let height = bottom + AXIS + rows + 4.0;
    writeln!(
        out,
        "<section>\n<h2>Running without approval</h2>\n<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Containers that ran without approval over time, and times in which nodes were not watched\">\n\
         <defs><pattern id=\"gap\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <line class=\"hatch\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\"/></pattern></defs>"
    )?;
    bars(report, &scale, length, out)?;
    for at in report.policy_changes.iter().take(MOST_MARKS) {
        let x = scale.x(at.time);
        writeln!(
            out,
            "<line class=\"policy\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{:.1}\"><title>{}: policies {}</title></line>",
            bottom + AXIS + rows,
            at.time,
            Safe(&at.to)
        )?;
    }
    axis(report, &scale, bottom, out)?;
    for (at, node) in nodes.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a dozen rows")]
        let y = bottom + AXIS + at as f64 * ROW;
        node_row(report, node, y, &scale, out)?;
    }
    writeln!(out, "</svg>")?;
    writeln!(
        out,
        "<p class=\"legend\"><span><span class=\"key drift\"></span>drift</span>\
         <span><span class=\"key unresolved\"></span>unknown image</span>\
         <span><span class=\"key gap\"></span>not watched</span>\
         <span class=\"bad\">&#9650; events lost</span><span>&#9482; policies changed</span></p>\n</section>"
    )?;
    Ok(())
}

/// Nodes that get a row.
fn nodes(report: &Report) -> Vec<String> {
    let mut seconds: BTreeMap<&str, u64> = BTreeMap::new();
    for gap in &report.unwatched {
        *seconds.entry(&gap.node).or_default() += gap.seconds;
    }
    for loss in &report.lost {
        seconds.entry(&loss.node).or_default();
    }
    let mut nodes: Vec<_> = seconds.into_iter().collect();
    nodes.sort_by_key(|(node, seconds)| (std::cmp::Reverse(*seconds), *node));
    nodes.truncate(MOST_NODES);
    nodes.into_iter().map(|(node, _)| node.to_owned()).collect()
}

/// For each column, how many drifting and unresolved containers ran in it.
fn columns(report: &Report, length: Duration) -> Vec<[u64; 2]> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of a window, below the number of columns"
    )]
    let bin = |at: Moment| {
        let part = at.since(report.since).as_secs_f64() / length.as_secs_f64().max(1e-6);
        ((part * BINS as f64) as usize).min(BINS - 1)
    };
    // Differences first, so that long rows cost as little as short ones.
    let mut changes = vec![[0_i64; 2]; BINS + 1];
    for row in &report.containers {
        let kind = usize::from(row.verdict != "drift");
        if let Some(first) = changes.get_mut(bin(row.from)) {
            first[kind] += 1;
        }
        if let Some(after) = changes.get_mut(bin(row.to) + 1) {
            after[kind] -= 1;
        }
    }
    let mut now = [0_i64; 2];
    let columns = changes.into_iter().take(BINS).map(|change| {
        now = [now[0] + change[0], now[1] + change[1]];
        now.map(|it| u64::try_from(it).unwrap_or_default())
    });
    columns.collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of containers, for a picture"
)]
fn bars(report: &Report, scale: &Scale, length: Duration, out: &mut impl Write) -> Result<()> {
    let columns = columns(report, length);
    let most = columns
        .iter()
        .map(|[drift, unresolved]| drift + unresolved)
        .max()
        .unwrap_or(0);
    let bottom = TOP + CHART;
    writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{most}</text>\
         <text x=\"{x}\" y=\"{bottom}\" text-anchor=\"end\">0</text>\
         <line class=\"axis\" x1=\"{LEFT}\" y1=\"{TOP}\" x2=\"{WIDTH}\" y2=\"{TOP}\"/>",
        x = LEFT - 8.0,
        y = TOP + 10.0,
    )?;
    let width = (WIDTH - LEFT) / BINS as f64;
    for (at, [drift, unresolved]) in columns.iter().enumerate() {
        if drift + unresolved == 0 {
            continue;
        }
        let x = LEFT + at as f64 * width;
        let height = |count: u64| {
            let height = count as f64 / most.max(1) as f64 * CHART;
            if count == 0 { 0.0 } else { height.max(1.0) }
        };
        let from = scale.since.plus(length.mul_f64(at as f64 / BINS as f64));
        let (upper, lower) = (height(*unresolved), height(*drift));
        let (y_lower, y_upper) = (bottom - lower, bottom - lower - upper);
        let bar = (width - 1.0).max(1.0);
        writeln!(
            out,
            "<g><title>{from}: {drift} drift, {unresolved} unknown</title>"
        )?;
        if *drift > 0 {
            writeln!(
                out,
                "<rect class=\"drift\" x=\"{x:.1}\" y=\"{y_lower:.1}\" width=\"{bar:.1}\" height=\"{lower:.1}\"/>"
            )?;
        }
        if *unresolved > 0 {
            writeln!(
                out,
                "<rect class=\"unresolved\" x=\"{x:.1}\" y=\"{y_upper:.1}\" width=\"{bar:.1}\" height=\"{upper:.1}\"/>"
            )?;
        }
        writeln!(out, "</g>")?;
    }
    Ok(())
}

fn axis(report: &Report, scale: &Scale, bottom: f64, out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{WIDTH}\" y2=\"{bottom}\"/>"
    )?;
    let length = report.until.since(report.since);
    for (part, anchor) in [
        (0.0, "start"),
        (0.25, "middle"),
        (0.5, "middle"),
        (0.75, "middle"),
        (1.0, "end"),
    ] {
        let at = report.since.plus(length.mul_f64(part));
        let x = scale.x(at);
        // Minutes are enough for a picture, and days matter only if there are several.
        let text = at.to_string();
        let text = text.get(5..16).unwrap_or(&text);
        writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
            bottom + 16.0
        )?;
    }
    Ok(())
}

fn node_row(
    report: &Report,
    node: &str,
    y: f64,
    scale: &Scale,
    out: &mut impl Write,
) -> Result<()> {
    let short = imageswap_runtime::text::shorten(node, 18);
    writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"row\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        LEFT - 8.0,
        y + 13.0,
        Safe(&short),
        WIDTH - LEFT - 1.0,
        ROW - 5.0
    )?;
    let gaps = report.unwatched.iter().filter(|it| it.node == node);
    for gap in gaps.take(MOST_GAPS) {
        let x = scale.x(gap.from).min(WIDTH - LEAST - 1.0);
        let width = (scale.x(gap.to) - x - 1.0).max(LEAST);
        writeln!(
            out,
            "<rect class=\"gap\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{} to {} ({}): {}</title></rect>",
            ROW - 5.0,
            gap.from,
            gap.to,
            span(Duration::from_secs(gap.seconds)),
            gap.cause.as_str()
        )?;
    }
    let lost = report.lost.iter().filter(|it| it.node == node);
    for loss in lost.take(MOST_MARKS) {
        let x = scale.x(loss.time);
        writeln!(
            out,
            "<path class=\"lost\" d=\"M{:.1} {:.1}h8l-4 -9z\"><title>{}: {} lost, {}</title></path>",
            x - 4.0,
            y + 12.0,
            loss.time,
            loss.events,
            Safe(&loss.cause)
        )?;
    }
    Ok(())
}
