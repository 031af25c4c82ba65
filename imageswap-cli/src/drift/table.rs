//! The output for people: blocks in 80 columns unless names are longer, or a line per container.

use super::groups::{Group, groups};
use crate::finding::Finding;
use crate::moment::{Moment, span};
use crate::screen::{Colour, Tone};
use anyhow::Result;
use imageswap_runtime::text::{WIDTH, columns, counted, wrap};
use std::collections::BTreeSet;
use std::io::Write;

/// Indentation of a container's details.
const INDENT: usize = 4;

/// Names that are listed; more are counted.
const MOST_NAMES: usize = 3;

/// By namespace and workload; containers without a Pod come first.
pub(super) fn write(
    findings: &[Finding],
    now: Moment,
    colour: Colour,
    out: &mut impl Write,
) -> Result<()> {
    let groups = groups(findings);
    for of_workload in groups.chunk_by(|a, b| a.workload == b.workload) {
        let Some(first) = of_workload.first() else {
            continue;
        };
        writeln!(out, "{}", colour.paint(Tone::Title, &first.workload))?;
        for group in of_workload {
            containers(group, now, colour, out)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn containers(group: &Group<'_>, now: Moment, colour: Colour, out: &mut impl Write) -> Result<()> {
    let Finding { route, reason, .. } = group.finding;
    let verdict = group.finding.verdict.as_str();
    let pods = match group.pods.len() {
        0 => String::new(),
        _ => format!(" of {}", names(&group.pods, "Pods")),
    };
    let times = match group.containers {
        1 => String::new(),
        n if group.pods.len() == n => String::new(),
        n => format!(", {n} containers"),
    };
    let head = format!(
        "{}{pods}{times} on {}",
        group.container,
        names(&group.nodes, "nodes")
    );
    for line in wrap(&head, WIDTH - 2) {
        writeln!(out, "  {line}")?;
    }
    let what = match &group.finding.image {
        Some(image) => format!("runs {image}"),
        None => "runs what nobody knows".to_owned(),
    };
    let expected = group.finding.expected_image.as_ref();
    let instead = expected.filter(|it| group.finding.image.as_ref() != Some(*it));
    let instead = instead.map(|it| format!("expected {it}"));
    let rule = group
        .finding
        .rule
        .as_ref()
        .map(|rule| format!("; rule {rule}"));
    let why = format!("{verdict}, {route}, {reason}{}", rule.unwrap_or_default());
    let process = match group.processes.len() {
        0 => String::new(),
        _ => format!("; process {}", names(&group.processes, "names")),
    };
    let first = if group.containers > 1 {
        "the first "
    } else {
        ""
    };
    let since = group.since;
    let age = span(now.since(since));
    let since = format!("{first}since {since} UTC, {age}{process}");
    for (text, begin) in [
        (Some(what), ""),
        (instead, ""),
        (Some(why), verdict),
        (Some(since), ""),
    ] {
        let lines = text.map_or_else(Vec::new, |text| wrap(&text, WIDTH - INDENT));
        for line in lines {
            let (begin, rest) = match line.strip_prefix(begin) {
                Some(rest) => (begin, rest),
                None => ("", line.as_str()),
            };
            let begin = colour.paint(tone(verdict), begin);
            writeln!(out, "{:INDENT$}{begin}{rest}", "")?;
        }
    }
    Ok(())
}

fn tone(verdict: &str) -> Tone {
    match verdict {
        "drift" => Tone::Bad,
        "unresolved" => Tone::Doubtful,
        _ => Tone::Plain,
    }
}

/// A few names, or how many there are.
fn names(names: &BTreeSet<&str>, many: &str) -> String {
    if names.len() > MOST_NAMES {
        return format!("{} {many}", names.len());
    }
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// One line per container, for wide terminals and for `grep`.
pub(super) fn wide(
    findings: &[Finding],
    now: Moment,
    colour: Colour,
    out: &mut impl Write,
) -> Result<()> {
    const HEADER: [&str; 12] = [
        "NAMESPACE",
        "WORKLOAD",
        "POD",
        "CONTAINER",
        "NODE",
        "SINCE",
        "AGE",
        "PROCESS",
        "VERDICT",
        "REASON",
        "IMAGE",
        "EXPECTED",
    ];
    if findings.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<[String; HEADER.len()]> = findings.iter().map(|it| row(it, now)).collect();
    rows.sort();
    rows.insert(0, HEADER.map(str::to_owned));
    let lines = columns(&rows, |at, cell, padded| match HEADER[at] {
        "VERDICT" => colour.paint(tone(cell), &padded),
        _ => padded,
    });
    for line in lines {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    Ok(())
}

fn row(finding: &Finding, now: Moment) -> [String; 12] {
    let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let pod = finding.pod.as_ref();
    let since = finding.since();
    [
        text(pod.map(|pod| &*pod.namespace)),
        finding.workload().map_or_else(
            || "-".to_owned(),
            |workload| format!("{}/{}", workload.kind, workload.name),
        ),
        text(pod.map(|pod| &*pod.name)),
        text(
            finding
                .container
                .name
                .as_deref()
                .or(finding.container.id.as_deref()),
        ),
        finding.node.clone(),
        since.to_string().replace(' ', "T"),
        span(now.since(since)).replace(' ', ""),
        text(finding.process()),
        finding.verdict.as_str().to_owned(),
        finding.reason.clone(),
        text(finding.image.as_deref()),
        text(finding.expected_image.as_deref()),
    ]
}

/// Counts, and the number of agents.
pub(super) fn end(
    [drift, unresolved]: [usize; 2],
    listed: bool,
    agents: usize,
    out: &mut impl Write,
) -> Result<()> {
    let more = match unresolved {
        0 => String::new(),
        n if listed => format!(", {n} unresolved"),
        n => format!(", {n} unresolved (--unresolved lists them)"),
    };
    let agents = counted(agents, "agent");
    writeln!(out, "{drift} drift{more}; {agents} answered")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Moment {
        Moment::parse("2026-11-28T05:14:07Z").unwrap()
    }

    fn finding(node: &str, container: &Value, pod: &Value, image: Option<&str>) -> Finding {
        serde_json::from_value(json!({
            "start_id": "b/1", "event": "start", "policy": {"name": "maps"}, "time": "2026-11-28T02:15:00Z",
            "node": node, "verdict": if image.is_some() { "drift" } else { "unresolved" }, "route": "pod",
            "reason": "webhook-skipped", "rule": "maps:1 default", "image": image,
            "expected_image": image.map(|it| format!("registry.corp/{it}")), "container": container, "pod": pod,
            "started": image.map(|_| "2026-11-28T02:14:07.5Z"),
            "process": image.map(|_| json!({"pid": 7, "comm": "nginx"})),
        }))
        .unwrap()
    }

    fn findings() -> Vec<Finding> {
        let pod = |name: &str| json!({"namespace": "a", "name": name, "uid": "u", "owner": {"kind": "Deployment", "name": "web"}});
        let app = json!({"id": "c1", "name": "app", "kind": "container"});
        vec![
            finding("n1", &app, &pod("web-1"), Some("nginx")),
            finding("n2", &app, &pod("web-2"), Some("nginx")),
            finding("n2", &app, &pod("web-3"), Some("busybox")),
            finding(
                "n1",
                &json!({"id": "ctr1", "name": null, "kind": "container"}),
                &json!(null),
                None,
            ),
        ]
    }

    #[test]
    fn workloads_are_told_with_what_should_run_and_since_when() {
        let mut text = Vec::new();
        write(&findings(), now(), Colour(false), &mut text).unwrap();
        end([3, 1], true, 2, &mut text).unwrap();
        let expected = "\
(no Pod)
  ctr1 on n1
    runs what nobody knows
    unresolved, pod, webhook-skipped; rule maps:1 default
    since 2026-11-28 02:15:00 UTC, 2h 59m

a/Deployment web
  app of web-3 on n2
    runs busybox
    expected registry.corp/busybox
    drift, pod, webhook-skipped; rule maps:1 default
    since 2026-11-28 02:14:07 UTC, 2h 59m; process nginx
  app of web-1, web-2 on n1, n2
    runs nginx
    expected registry.corp/nginx
    drift, pod, webhook-skipped; rule maps:1 default
    the first since 2026-11-28 02:14:07 UTC, 2h 59m; process nginx

3 drift, 1 unresolved; 2 agents answered
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_wide_table_has_a_line_per_container() {
        let mut text = Vec::new();
        wide(&findings()[..2], now(), Colour(false), &mut text).unwrap();
        let expected = "\
NAMESPACE  WORKLOAD        POD    CONTAINER  NODE  SINCE                AGE    PROCESS  VERDICT  REASON           IMAGE  EXPECTED
a          Deployment/web  web-1  app        n1    2026-11-28T02:14:07  2h59m  nginx    drift    webhook-skipped  nginx  registry.corp/nginx
a          Deployment/web  web-2  app        n2    2026-11-28T02:14:07  2h59m  nginx    drift    webhook-skipped  nginx  registry.corp/nginx

";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
