//! `PolicyException`: Pods to which rules of a policy do not apply.

use super::scope;
use crate::intent::Origin;
use crate::scope::Formula;
use crate::text::glob;
use imageswap_policy::yaml::Node;

/// One exception, and whether it was applied.
#[derive(Debug, Clone)]
pub(crate) struct Exception {
    pub(crate) origin: Origin,
    /// Names of policies, and of their rules, which may have wildcards.
    names: Vec<(String, Vec<String>)>,
    pods: Result<Formula, String>,
}

/// Reads an exception.
pub(super) fn read(node: &Node, origin: Origin) -> Exception {
    let spec = node.get("spec");
    let entries = spec
        .and_then(|it| it.get("exceptions"))
        .map_or(&[][..], Node::items);
    let names = entries.iter().filter_map(|it| {
        let rules = it.get("ruleNames").map_or(&[][..], Node::items).iter();
        let rules = rules.filter_map(Node::as_str).map(str::to_owned).collect();
        Some((it.get("policyName")?.as_str()?.to_owned(), rules))
    });
    Exception {
        names: names.collect(),
        pods: pods(spec),
        origin,
    }
}

fn pods(spec: Option<&Node>) -> Result<Formula, String> {
    let spec = spec.ok_or("it has no `spec`")?;
    for (key, _) in spec.entries() {
        let key = key.as_str().unwrap_or("?");
        if !["exceptions", "match", "background"].contains(&key) {
            return Err(format!("`{key}` is not understood"));
        }
    }
    let matched = spec.get("match").ok_or("it has no `match`")?;
    let mut wider = Vec::new();
    let formula = scope::filter(matched, &mut wider)?;
    match wider.into_iter().next() {
        Some(_) => Err("it is about some kinds or operations only".to_owned()),
        None => Ok(formula),
    }
}

impl Exception {
    /// Whether it is about this rule of a policy, which may have a namespace.
    pub(crate) fn concerns(&self, namespace: Option<&str>, policy: &str, rule: &str) -> bool {
        let full = namespace.map_or_else(|| policy.to_owned(), |it| format!("{it}/{policy}"));
        self.names
            .iter()
            .any(|(name, rules)| *name == full && rules.iter().any(|it| glob(it, rule)))
    }

    /// The excepted Pods.
    pub(crate) fn pods(&self) -> &Result<Formula, String> {
        &self.pods
    }
}
