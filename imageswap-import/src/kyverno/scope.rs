//! `match` and `exclude`: which Pods a rule applies to.

use crate::fields::selector;
use crate::scope::{Formula, Literal, WORKLOADS};
use imageswap_policy::yaml::Node;

/// A scope, and the parts of it that could not be kept.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) formula: Formula,
    /// Differences in which more Pods are judged than by the source.
    pub(super) wider: Vec<String>,
    /// A kind of workload that the rule names, whose labels its Pods need not have.
    workload: Option<String>,
}

impl Scope {
    /// Refuses a scope by labels for a rule that also reads those of workloads.
    pub(super) fn check_labels(&self, formula: &Formula) -> Result<(), String> {
        match &self.workload {
            Some(kind) if by_labels(formula) => Err(format!(
                "it selects a {kind} by its labels, which the Pods of a {kind} need not have"
            )),
            _ => Ok(()),
        }
    }
}

fn by_labels(formula: &Formula) -> bool {
    match formula {
        Formula::All(parts) | Formula::Any(parts) => parts.iter().any(by_labels),
        Formula::Not(inner) => by_labels(inner),
        Formula::Is(literal) => matches!(literal, Literal::ObjectLabel(_)),
    }
}

/// Reads the scope of a rule.
pub(super) fn read(rule: &Node) -> Result<Scope, String> {
    let mut wider = Vec::new();
    let matched = match (rule.get("match"), rule.get("resource")) {
        (Some(it), None) => filter(it, &mut wider)?,
        // The first version of the format.
        (None, Some(it)) => resources(it, &mut wider)?,
        _ => return Err("it has no `match`".to_owned()),
    };
    let mut kinds = Vec::new();
    for it in [rule.get("match"), rule.get("resource")]
        .into_iter()
        .flatten()
    {
        named_kinds(it, &mut kinds);
    }
    let workload = kinds.iter().flat_map(|it| it.split(['/', '.']));
    let workload = workload.into_iter().find(|it| WORKLOADS.contains(it));
    let mut parts = vec![matched];
    if let Some(exclude) = rule.get("exclude") {
        parts.push(excluded(exclude, &mut wider).not());
    }
    Ok(Scope {
        formula: Formula::All(parts),
        wider,
        workload: workload.map(str::to_owned),
    })
}

/// The kinds in all blocks.
fn named_kinds<'a>(node: &'a Node, into: &mut Vec<&'a str>) {
    for (key, value) in node.entries() {
        if key.as_str() == Some("kinds") {
            into.extend(value.items().iter().filter_map(Node::as_str));
        } else {
            named_kinds(value, into);
            value.items().iter().for_each(|it| named_kinds(it, into));
        }
    }
}

/// Whether a block has no condition: Kyverno selects nothing by it.
fn is_empty(block: &Node) -> bool {
    let absent = |it: &Node| {
        it.is_null()
            || (it.items().is_empty()
                && it.entries().is_empty()
                && it.as_str().is_none_or(str::is_empty))
    };
    block
        .entries()
        .iter()
        .all(|(key, value)| match key.as_str() {
            Some("resources") => value
                .entries()
                .iter()
                .all(|(key, value)| match key.as_str() {
                    // A selector without conditions selects everything.
                    Some("selector" | "namespaceSelector") => value.is_null(),
                    _ => absent(value),
                }),
            Some("any" | "all") => true,
            _ => absent(value),
        })
}

/// A `match`, or the `match` of an exception.
pub(super) fn filter(node: &Node, wider: &mut Vec<String>) -> Result<Formula, String> {
    let mut parts = Vec::new();
    for (key, value) in node.entries() {
        let key = key.as_str().unwrap_or_default();
        match key {
            "any" | "all" => {
                let blocks: Result<Vec<_>, _> =
                    value.items().iter().map(|it| block(it, wider)).collect();
                let blocks = blocks?;
                if blocks.is_empty() {
                    continue;
                }
                parts.push(if key == "any" {
                    Formula::Any(blocks)
                } else {
                    Formula::All(blocks)
                });
            }
            _ => {}
        }
    }
    let direct: Vec<_> = node
        .entries()
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), Some("any" | "all")))
        .collect();
    if !direct.is_empty() {
        parts.push(block(node, wider)?);
    }
    if parts.is_empty() {
        return Err("its `match` is empty".to_owned());
    }
    Ok(Formula::All(parts))
}

/// The Pods of an `exclude`. A block with a part that is not understood excludes nothing.
fn excluded(node: &Node, wider: &mut Vec<String>) -> Formula {
    let mut parts = Vec::new();
    for (key, value) in node.entries() {
        match key.as_str() {
            Some("any") => {
                for it in value.items() {
                    match exact(it) {
                        Ok(block) => parts.push(block),
                        Err(why) => {
                            wider.push(format!("{why}, so a block of `exclude` excludes nothing"));
                        }
                    }
                }
            }
            Some("all") => {
                let all: Result<Vec<_>, _> = value.items().iter().map(exact).collect();
                match all {
                    Ok(all) if all.is_empty() => {}
                    Ok(all) => parts.push(Formula::All(all)),
                    Err(why) => wider.push(format!("{why}, so `exclude` excludes nothing")),
                }
            }
            _ => {
                match exact(node) {
                    Ok(block) => parts.push(block),
                    Err(why) => wider.push(format!("{why}, so `exclude` excludes nothing")),
                }
                break;
            }
        }
    }
    Formula::Any(parts)
}

/// A block that selects exactly what the source selects.
pub(super) fn exact(node: &Node) -> Result<Formula, String> {
    let mut wider = Vec::new();
    let formula = block(node, &mut wider)?;
    match wider.into_iter().next() {
        None => Ok(formula),
        Some(_) => Err("a block of `exclude` is about some kinds or operations only".to_owned()),
    }
}

/// One block; all of its fields must match.
fn block(node: &Node, wider: &mut Vec<String>) -> Result<Formula, String> {
    if is_empty(node) {
        return Ok(Formula::never());
    }
    let mut parts = Vec::new();
    for (key, value) in node.entries() {
        match key.as_str().unwrap_or_default() {
            "resources" => parts.push(resources(value, wider)?),
            "any" | "all" => {}
            "subjects" | "roles" | "clusterRoles" if value.items().is_empty() => {}
            other => {
                return Err(format!(
                    "`{other}` is not something that a policy here can select by"
                ));
            }
        }
    }
    Ok(Formula::All(parts))
}

fn resources(node: &Node, wider: &mut Vec<String>) -> Result<Formula, String> {
    let mut parts = Vec::new();
    for (key, value) in node.entries() {
        let key = key.as_str().unwrap_or_default();
        let values: Vec<&str> = value.items().iter().filter_map(Node::as_str).collect();
        let whole = values.len() == value.items().len();
        match key {
            _ if value.is_null()
                || (value.items().is_empty()
                    && value.entries().is_empty()
                    && value.as_str().is_none_or(str::is_empty)) => {}
            "kinds" if whole => match pods(&values) {
                Kinds::Pods => {}
                Kinds::Templates => wider.push(format!(
                    "a Pod that no {} makes is judged, too",
                    values.join(" or ")
                )),
                Kinds::Others => return Ok(Formula::never()),
            },
            "namespaces" if whole => {
                if !values.contains(&"*") {
                    parts.push(Formula::Is(Literal::InNamespaces(
                        values.iter().map(|it| (*it).to_owned()).collect(),
                    )));
                }
            }
            "namespace" => match value.as_str() {
                Some(name) => parts.push(Formula::Is(Literal::InNamespaces(vec![name.to_owned()]))),
                None => return Err("`namespace` is not a text".to_owned()),
            },
            "names" if values.contains(&"*") => {}
            "name" if value.as_str() == Some("*") => {}
            "selector" => parts.push(selector(value, Literal::ObjectLabel)?),
            "namespaceSelector" => parts.push(selector(value, Literal::NamespaceLabel)?),
            "operations" if whole => match (values.contains(&"CREATE"), values.contains(&"UPDATE"))
            {
                (true, true) => {}
                (true, false) => {
                    wider.push("an image that an UPDATE changes is judged, too".to_owned());
                }
                (false, true) => return Err("`operations` leaves CREATE out".to_owned()),
                (false, false) => return Ok(Formula::never()),
            },
            other => {
                return Err(format!(
                    "`{other}` is not something that a policy here can select by"
                ));
            }
        }
    }
    Ok(Formula::All(parts))
}

enum Kinds {
    Pods,
    /// Workloads alone.
    Templates,
    Others,
}

fn pods(kinds: &[&str]) -> Kinds {
    let parts = |it: &&str| it.split(['/', '.']).map(str::to_owned).collect::<Vec<_>>();
    let named = |wanted: &[&str]| {
        kinds
            .iter()
            .map(parts)
            .any(|it| it.iter().any(|name| wanted.contains(&name.as_str())))
    };
    // `Pod/ephemeralcontainers` alone is an update of a Pod.
    let pod = |it: &str| match it.split('/').collect::<Vec<_>>().as_slice() {
        ["Pod"] | [_, "Pod"] => true,
        // Pods are of the core group.
        [group, _, "Pod"] => *group == "*" || group.is_empty(),
        _ => false,
    };
    let whole = kinds.iter().any(|it| *it == "*" || pod(it));
    if whole {
        Kinds::Pods
    } else if named(&WORKLOADS) || named(&["PodTemplate"]) {
        Kinds::Templates
    } else {
        Kinds::Others
    }
}
