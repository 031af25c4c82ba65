//! The output for people: by namespace and workload in 80 columns, or one wide line per row.

use super::api::Unseen;
use super::census::{Census, Key, Seen, Verdict};
use super::owners::Workload;
use super::summary::{Counts, Summary};
use crate::screen::{Colour, Tone};
use anyhow::Result;
use imageswap_policy::manifest::List;
use imageswap_runtime::text::{WIDTH, columns, counted, shown, wrap};
use std::collections::BTreeMap;
use std::io::Write;

/// Indentation of a row's further lines.
const INDENT: usize = 12;
/// Columns for the name of a registry; a longer one has a line of its own.
const REGISTRY: usize = 36;

type Row<'a> = (&'a Key, Seen);

fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Refuse | Verdict::Invalid => Tone::Bad,
        Verdict::Warn | Verdict::Audit | Verdict::Unknown => Tone::Doubtful,
        Verdict::Swap => Tone::Changed,
        Verdict::Exempt | Verdict::Keep => Tone::Good,
        Verdict::OutOfScope => Tone::Plain,
    }
}

/// By namespace and workload, in 80 columns unless images are longer.
pub(super) fn narrow(census: &Census<'_>, colour: Colour, out: &mut impl Write) -> Result<()> {
    let rows: Vec<Row<'_>> = census.rows().collect();
    for of_namespace in rows.chunk_by(|a, b| a.0.workload.namespace == b.0.workload.namespace) {
        namespace(census, of_namespace, colour, out)?;
    }
    Ok(())
}

/// One line per row.
pub(super) fn wide(census: &Census<'_>, colour: Colour, out: &mut impl Write) -> Result<()> {
    const HEAD: [&str; 9] = [
        "NAMESPACE",
        "OWNER",
        "CONTAINER",
        "PODS",
        "VERDICT",
        "IMAGE",
        "RESULT",
        "POLICY",
        "RULE",
    ];
    let absent = || "-".to_owned();
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(census.rows().map(|(key, seen)| {
        [
            key.workload.namespace.clone(),
            format!("{}/{}", key.workload.kind, key.workload.name),
            container(key),
            seen.pods.to_string(),
            key.verdict.as_str().to_owned(),
            key.image.clone(),
            Some(&key.result)
                .filter(|_| key.swapped())
                .cloned()
                .unwrap_or_else(absent),
            key.policy.clone().unwrap_or_else(absent),
            key.rule.clone().unwrap_or_else(absent),
        ]
    }));
    let tones: BTreeMap<_, _> = census
        .rows()
        .map(|(key, _)| (key.verdict.as_str(), tone(key.verdict)))
        .collect();
    let lines = columns(&rows, |at, cell, padded| match tones.get(cell) {
        Some(tone) if HEAD[at] == "VERDICT" => colour.paint(*tone, &padded),
        _ => padded,
    });
    for line in &lines {
        writeln!(out, "{line}")?;
    }
    if lines.len() > 1 {
        writeln!(out)?;
    }
    Ok(())
}

/// The counts, by registry too, and lists that could not be read.
pub(super) fn end(summary: &Summary, unseen: &[Unseen], out: &mut impl Write) -> Result<()> {
    let counts = match summary.images {
        0 => String::new(),
        _ => format!(": {}", summary.verdicts.words()),
    };
    let total = format!(
        "{} of {}, {}{counts}",
        counted(summary.images, "image"),
        counted(summary.workloads, "workload"),
        counted(summary.pods, "Pod"),
    );
    paragraph(&total, out)?;
    // `warn` and `audit` say what admission does, which hides how the images are.
    if summary.verdicts.of(&[Verdict::Warn, Verdict::Audit]) > 0 {
        let Summary {
            swapped,
            not_approved,
            ..
        } = summary;
        writeln!(
            out,
            "with any enforcement: {swapped} would be swapped, {not_approved} not approved"
        )?;
    }
    if summary.finished_pods > 0 {
        let finished = counted(summary.finished_pods, "finished Pod");
        writeln!(out, "{finished} left out")?;
    }
    registries(summary, out)?;
    if !unseen.is_empty() {
        writeln!(out, "\nThis is not all there is; not seen:")?;
        for it in unseen {
            let text = format!("{}: {}", it.resource, it.reason);
            for (at, line) in wrap(&text, WIDTH - 4).iter().enumerate() {
                let margin = if at == 0 { "  " } else { "    " };
                writeln!(out, "{margin}{line}")?;
            }
        }
    }
    Ok(())
}

fn namespace(
    census: &Census<'_>,
    rows: &[Row<'_>],
    colour: Colour,
    out: &mut impl Write,
) -> Result<()> {
    let name = &rows[0].0.workload.namespace;
    let workloads: Vec<_> = rows.chunk_by(|a, b| a.0.workload == b.0.workload).collect();
    if rows.iter().all(|it| it.0.verdict == Verdict::OutOfScope) {
        let workloads = counted(workloads.len(), "workload");
        writeln!(out, "{name}: out of scope, {workloads}\n")?;
        return Ok(());
    }
    writeln!(out, "{name}")?;
    for rows in workloads {
        let workload = &rows[0].0.workload;
        let title = title(workload, census.pods_of(workload));
        writeln!(out, "  {}", shown(&title))?;
        for it in rows {
            row(census, *it, colour, out)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn title(workload: &Workload, pods: usize) -> String {
    let Workload { kind, name, .. } = workload;
    match (kind.as_str(), pods) {
        ("Pod", _) => format!("Pod {name}"),
        ("StaticPod", _) => format!("static Pod {name}, which admission cannot change"),
        (_, 0) => format!("{kind} {name}, no Pods"),
        (_, pods) => format!("{kind} {name}, {}", counted(pods, "Pod")),
    }
}

fn row(
    census: &Census<'_>,
    (key, seen): Row<'_>,
    colour: Colour,
    out: &mut impl Write,
) -> Result<()> {
    let margin = " ".repeat(INDENT);
    let verdict = match key.verdict {
        Verdict::OutOfScope => "-",
        verdict => verdict.as_str(),
    };
    // Padded first, because colour codes take no column.
    let verdict = colour.paint(tone(key.verdict), &format!("{verdict:7}"));
    let container = container(key);
    let (container, image) = (shown(&container), shown(&key.image));
    let line = format!("{container}: {image}");
    if INDENT + line.chars().count() <= WIDTH {
        writeln!(out, "    {verdict} {line}")?;
    } else {
        writeln!(out, "    {verdict} {container}:\n{margin}{image}")?;
    }
    if key.swapped() {
        writeln!(out, "{margin}-> {}", shown(&key.result))?;
    }
    let mut notes = Vec::new();
    if !matches!(key.verdict, Verdict::Swap | Verdict::Keep) {
        notes.push(key.explanation.clone());
    }
    notes.extend(pods(census, key, seen));
    for note in notes {
        for line in wrap(&shown(&note), WIDTH - INDENT) {
            writeln!(out, "{margin}{line}")?;
        }
    }
    Ok(())
}

/// Which of the workload's Pods have it, unless all do.
fn pods(census: &Census<'_>, key: &Key, seen: Seen) -> Option<String> {
    let all = census.pods_of(&key.workload);
    let some = (seen.pods < all).then(|| format!("{} of {all} Pods", seen.pods));
    match census.other_in_template(key, seen) {
        Some(image) => {
            let some = some.unwrap_or_else(|| "its Pods".to_owned());
            Some(format!("in {some}; the template has {image}"))
        }
        None if seen.template && seen.pods == 0 && all > 0 => {
            Some("in the template, and in no Pod yet".to_owned())
        }
        None => some.map(|it| format!("in {it}")),
    }
}

fn registries(summary: &Summary, out: &mut impl Write) -> Result<()> {
    const COLUMNS: [(&str, &[Verdict]); 4] = [
        ("SWAP", &[Verdict::Swap]),
        (
            "REFUSE",
            &[Verdict::Refuse, Verdict::Invalid, Verdict::Unknown],
        ),
        ("WARN", &[Verdict::Warn, Verdict::Audit]),
        (
            "LEFT",
            &[Verdict::Exempt, Verdict::Keep, Verdict::OutOfScope],
        ),
    ];
    if summary.registries.is_empty() {
        return Ok(());
    }
    let numbers = |counts: &Counts| {
        let columns = COLUMNS.iter().map(|(_, verdicts)| counts.of(verdicts));
        let columns = std::iter::once(counts.all()).chain(columns);
        cells(columns.map(|it| it.to_string()))
    };
    let head = COLUMNS.iter().map(|it| it.0);
    let head = cells(std::iter::once("IMAGES").chain(head).map(str::to_owned));
    writeln!(out, "\n{:REGISTRY$}{head}", "REGISTRY")?;
    for (registry, counts) in &summary.registries {
        if registry.chars().count() < REGISTRY {
            writeln!(out, "{registry:REGISTRY$}{}", numbers(counts))?;
        } else {
            writeln!(out, "{registry}\n{:REGISTRY$}{}", "", numbers(counts))?;
        }
    }
    Ok(())
}

/// `web`, `init fetch`: the container's name for people.
fn container(key: &Key) -> String {
    let name = &key.container;
    match key.list() {
        List::Containers => name.clone(),
        List::InitContainers => format!("init {name}"),
        List::EphemeralContainers => format!("ephemeral {name}"),
        List::Volumes => format!("volume {name}"),
    }
}

/// Columns as wide as `REFUSE` and a gap.
fn cells(texts: impl Iterator<Item = String>) -> String {
    texts
        .map(|it| format!("{it:>8}"))
        .collect::<Vec<_>>()
        .concat()
}

fn paragraph(text: &str, out: &mut impl Write) -> Result<()> {
    for line in wrap(text, WIDTH) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
