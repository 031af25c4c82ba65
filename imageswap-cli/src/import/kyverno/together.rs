//! Policies of one run, taken together: one decides for each Pod here, where Kyverno applies all.

use super::formula::intersect;
use imageswap_policy::document::{self, Approval, Enforcement, ImageSwapPolicy};
use imageswap_policy::{Date, Policies, Scope};

/// When policies become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Join {
    Always,
    Never,
    /// Where one swaps, another approves, and it approves what the first makes.
    WhereTheyAgree,
}

/// The policies to write, and what is to be said about them.
pub(super) fn join(
    policies: Vec<ImageSwapPolicy>,
    join: Join,
) -> (Vec<ImageSwapPolicy>, Vec<String>) {
    let mut remarks = Vec::new();
    let mut refused = false;
    for approver in policies.iter().filter(|it| it.spec.approved.is_some()) {
        for swapper in policies
            .iter()
            .filter(|it| it.metadata.name != approver.metadata.name)
        {
            if let Some(image) = refuses(approver, swapper) {
                refused = true;
                remarks.push(format!(
                    "`{}` and `{}` would refuse each other's results: the second makes `{image}`, \
                     which the first does not approve. \
                     Add its registry to `approved`.",
                    approver.metadata.name, swapper.metadata.name
                ));
            }
        }
    }
    let same_scope = policies
        .windows(2)
        .all(|it| it[0].spec.r#match == it[1].spec.r#match);
    let several = policies.len() > 1;
    let merge = several
        && match join {
            Join::Always => true,
            Join::Never => false,
            Join::WhereTheyAgree => same_scope && !refused,
        };
    if merge {
        let names: Vec<_> = policies
            .iter()
            .map(|it| format!("`{}`", it.metadata.name))
            .collect();
        remarks.push(format!(
            "{} are one policy here: Kyverno changes images and then validates, and so does one policy.",
            names.join(" and ")
        ));
        if let Some(one) = merged(&policies) {
            return (vec![one], remarks);
        }
        remarks.pop();
        remarks.push(
            "They stay apart: what two of them approve cannot be said by one list.".to_owned(),
        );
    }
    if several && same_scope {
        remarks.push(
            "One policy decides for each Pod: of these the one with the highest `priority`, or the first by name. \
             `--merge` makes one of them, which swaps first and approves what comes of it."
                .to_owned(),
        );
    }
    (policies, remarks)
}

/// `None` where one list cannot say what two of them approve.
fn merged(policies: &[ImageSwapPolicy]) -> Option<ImageSwapPolicy> {
    let mut all = policies.iter().cloned();
    let mut first = all.next()?;
    for next in all {
        let (spec, more) = (&mut first.spec, next.spec);
        for mut rule in more.rules {
            if spec.rules.iter().any(|it| it.name == rule.name) {
                rule.name = rule.name.map(|it| format!("{}: {it}", next.metadata.name));
            }
            spec.rules.push(rule);
        }
        match (&mut spec.approved, more.approved) {
            // Both have to approve.
            (Some(ours), Some(theirs)) => {
                let patterns = |list: &[Approval]| -> Vec<_> {
                    list.iter().map(|it| it.pattern.clone()).collect()
                };
                let both = intersect(&patterns(ours), &patterns(&theirs))?;
                *ours = both.into_iter().map(Approval::from).collect();
            }
            (ours @ None, theirs) => *ours = theirs,
            _ => {}
        }
        spec.message = spec.message.take().or(more.message);
        spec.enforcement = match (spec.enforcement, more.enforcement) {
            (Enforcement::Deny, _) | (_, Enforcement::Deny) => Enforcement::Deny,
            (Enforcement::Audit, Enforcement::Audit) => Enforcement::Audit,
            _ => Enforcement::Warn,
        };
    }
    Some(first)
}

/// An image that `swapper` makes and `approver` does not approve.
fn refuses(approver: &ImageSwapPolicy, swapper: &ImageSwapPolicy) -> Option<String> {
    let load = |it: &ImageSwapPolicy| {
        let text = serde_json::to_string(it).ok()?;
        Some(Policies::new(
            document::load("policy", &text).ok()?.policies,
        ))
    };
    let (approving, swapping) = (load(approver)?, load(swapper)?);
    let results = swapper.spec.rules.iter().filter_map(|rule| {
        let to = rule.to.as_deref()?;
        let to = to.split('$').next().unwrap_or(to).trim_end_matches('/');
        Some(format!("{to}/app"))
    });
    let mut results = results.filter(|it| {
        let decision = swapping.select(Scope::Node, Date::MIN).decide(it);
        decision.result == it.as_str()
    });
    results.find(|it| !approving.select(Scope::Node, Date::MIN).decide(it).approved)
}
