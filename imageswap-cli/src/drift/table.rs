//! The output for people, in 80 columns unless names are longer.

use super::Finding;
use anyhow::Result;
use imageswap_runtime::text::{WIDTH, wrap};
use std::io::Write;

/// Indentation of a container's details.
const INDENT: usize = 4;

/// By namespace and workload; containers without a Pod come first.
pub(super) fn write(findings: &[Finding], out: &mut impl Write) -> Result<()> {
    let mut rows: Vec<_> = findings
        .iter()
        .map(|finding| (workload(finding), finding))
        .collect();
    rows.sort_by(|a, b| (&a.0, &a.1.node, name(a.1)).cmp(&(&b.0, &b.1.node, name(b.1))));
    for of_workload in rows.chunk_by(|a, b| a.0 == b.0) {
        let Some((workload, _)) = of_workload.first() else {
            continue;
        };
        writeln!(out, "{workload}")?;
        for (_, finding) in of_workload {
            container(finding, out)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn container(finding: &Finding, out: &mut impl Write) -> Result<()> {
    let Finding {
        node,
        verdict,
        route,
        reason,
        ..
    } = finding;
    let pod = finding.pod.as_ref().map(|pod| format!(" of {}", pod.name));
    let head = format!("{}{} on {node}", name(finding), pod.unwrap_or_default());
    for line in wrap(&head, WIDTH - 2) {
        writeln!(out, "  {line}")?;
    }
    let what = match &finding.image {
        Some(image) => format!("runs {image}"),
        None => "runs what nobody knows".to_owned(),
    };
    let expected = finding.expected_image.as_ref();
    let instead = expected.filter(|it| finding.image.as_ref() != Some(*it));
    let instead = instead.map(|it| format!("expected {it}"));
    let rule = finding.rule.as_ref().map(|rule| format!("; rule {rule}"));
    let why = format!("{verdict}, {route}, {reason}{}", rule.unwrap_or_default());
    for text in [Some(what), instead, Some(why)].into_iter().flatten() {
        for line in wrap(&text, WIDTH - INDENT) {
            writeln!(out, "{:INDENT$}{line}", "")?;
        }
    }
    Ok(())
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
    let agents = match agents {
        1 => "1 agent".to_owned(),
        n => format!("{n} agents"),
    };
    writeln!(out, "{drift} drift{more}; {agents} answered")?;
    Ok(())
}

fn workload(finding: &Finding) -> String {
    match &finding.pod {
        None => "(no Pod)".to_owned(),
        Some(pod) => match &pod.owner {
            Some(owner) => format!("{}/{} {}", pod.namespace, owner.kind, owner.name),
            None => format!("{}/Pod {}", pod.namespace, pod.name),
        },
    }
}

/// Name of the container in its Pod, or its id.
fn name(finding: &Finding) -> &str {
    let container = &finding.container;
    container
        .name
        .as_deref()
        .or(container.id.as_deref())
        .unwrap_or("a container")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn workloads_are_told_with_what_should_run() {
        let finding = |container: serde_json::Value,
                       pod: serde_json::Value,
                       image: Option<&str>| {
            serde_json::from_value::<Finding>(json!({
                "node": "n1", "verdict": if image.is_some() { "drift" } else { "unresolved" }, "route": "pod",
                "reason": "webhook-skipped", "rule": "maps:1 default", "image": image,
                "expected_image": image.map(|it| format!("registry.corp/{it}")), "container": container, "pod": pod,
                "schema": "imageswap.io/finding/v1",
            }))
            .unwrap()
        };
        let pod = json!({"namespace": "a", "name": "web-1", "uid": "u", "owner": {"kind": "Deployment", "name": "web"}});
        let findings = [
            finding(
                json!({"id": "c1", "name": "app", "kind": "container"}),
                pod,
                Some("nginx"),
            ),
            finding(
                json!({"id": "ctr1", "name": null, "kind": "container"}),
                json!(null),
                None,
            ),
        ];
        let mut text = Vec::new();
        write(&findings, &mut text).unwrap();
        end([1, 1], true, 2, &mut text).unwrap();
        let expected = "\
(no Pod)
  ctr1 on n1
    runs what nobody knows
    unresolved, pod, webhook-skipped; rule maps:1 default

a/Deployment web
  app of web-1 on n1
    runs nginx
    expected registry.corp/nginx
    drift, pod, webhook-skipped; rule maps:1 default

1 drift, 1 unresolved; 2 agents answered
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
