//! The output for programs: one JSON object, described in `docs/scan.md`.

use super::api::Unseen;
use super::census::{Census, Verdict};
use super::missing::Missing;
use super::summary::Summary;
use crate::verdict::VerdictArgs;
use anyhow::Result;
use imageswap_policy::{Policies, Policy};
use serde::Serialize;
use std::io::Write;

/// Changes if a field is removed or changes its meaning, but not if one is added.
const SCHEMA: &str = "imageswap.io/scan/v1";

#[derive(Debug, Serialize)]
struct Answer<'a> {
    schema: &'static str,
    complete: bool,
    unseen: &'a [Unseen],
    set_revision: &'a str,
    policies: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<Row<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<&'a Missing>,
    summary: &'a Summary,
}

/// What a scan found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) census: &'a Census<'a>,
    pub(super) summary: &'a Summary,
    pub(super) unseen: &'a [Unseen],
    /// If registries were asked.
    pub(super) missing: Option<&'a Missing>,
}

#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are fields of a format, not the state of anything"
)]
struct Row<'a> {
    namespace: &'a str,
    kind: &'a str,
    name: &'a str,
    list: &'static str,
    container: &'a str,
    image: &'a str,
    verdict: Verdict,
    result: &'a str,
    swapped: bool,
    approved: bool,
    finding: bool,
    reason: &'a str,
    policy: Option<&'a str>,
    enforcement: Option<&'a str>,
    rule: Option<&'a str>,
    pods: usize,
    in_template: bool,
    template_image: Option<&'a str>,
}

/// Writes the answer; without the rows if they are not asked for.
pub(super) fn write(
    found: &Found<'_>,
    policies: &Policies,
    verdict: &VerdictArgs,
    rows: bool,
    out: &mut impl Write,
) -> Result<()> {
    let Found {
        census,
        summary,
        unseen,
        missing,
    } = *found;
    let images = census.rows().map(|(key, seen)| Row {
        namespace: &key.workload.namespace,
        kind: &key.workload.kind,
        name: &key.workload.name,
        list: key.list().as_str(),
        container: &key.container,
        image: &key.image,
        verdict: key.verdict,
        result: &key.result,
        swapped: key.swapped(),
        approved: key.approved,
        finding: key.is_finding(verdict),
        reason: key.reason,
        policy: key.policy.as_deref(),
        enforcement: key.enforcement,
        rule: key.rule.as_deref(),
        pods: seen.pods,
        in_template: seen.template,
        template_image: census.other_in_template(key, seen),
    });
    let answer = Answer {
        schema: SCHEMA,
        complete: unseen.is_empty()
            && census.undecided().is_empty()
            && missing.is_none_or(|it| !it.has_unknown()),
        unseen,
        set_revision: policies.set_revision(),
        policies: policies.iter().map(Policy::name).collect(),
        images: rows.then(|| images.collect()),
        missing,
        summary,
    };
    serde_json::to_writer(&mut *out, &answer)?;
    writeln!(out)?;
    Ok(())
}
