//! `matchConstraints` and `matchResources`: the objects that a policy sees.

use super::list;
use crate::cel::Subject;
use crate::fields::{only, selector, texts};
use crate::scope::{Formula, Literal};
use imageswap_policy::yaml::Node;

/// Why objects that make Pods cannot be selected by their own labels.
pub(super) const WORKLOAD_LABELS: &str = "its `objectSelector` is about the labels of objects that make Pods, which their Pods need not have";

/// The objects, and the Pods that they are or make.
pub(super) struct Constraints {
    pub(super) subjects: Vec<Subject>,
    pub(super) formula: Formula,
    /// Whether UPDATE is among the operations.
    pub(super) updates: bool,
    /// How more Pods are decided about than by the source.
    pub(super) wider: Vec<String>,
}

/// Reads the constraints of a policy.
pub(super) fn constraints(node: Option<&Node>) -> Result<Constraints, String> {
    let node = node.ok_or("it has no `matchConstraints`")?;
    let mut seen = Seen::default();
    for rule in list(node, "resourceRules") {
        seen.add(rule)?;
    }
    let mut excluded = Seen::default();
    for rule in list(node, "excludeResourceRules") {
        excluded.add(rule)?;
    }
    let formula = selectors(
        node,
        &[
            "resourceRules",
            "excludeResourceRules",
            "namespaceSelector",
            "objectSelector",
            "matchPolicy",
        ],
    )?;
    let mut wider = Vec::new();
    let (subjects, updates) = if let Some(updates) = seen.operations(Subject::POD)? {
        (vec![Subject::POD], updates)
    } else {
        let mut workloads = Vec::new();
        let mut all = true;
        for it in Subject::WORKLOADS {
            if let Some(updates) = seen.operations(it)? {
                all &= updates;
                workloads.push(it);
            }
        }
        let kinds: Vec<&str> = workloads.iter().map(|it| it.kind).collect();
        if node.get("objectSelector").is_some() {
            return Err(WORKLOAD_LABELS.to_owned());
        }
        if workloads.is_empty() {
            return Err("it is not about Pods".to_owned());
        }
        wider.push(format!(
            "a Pod that no {} makes is judged, too",
            kinds.join(" or ")
        ));
        (workloads, all)
    };
    for it in &subjects {
        if excluded.operations(*it)?.is_some() || excluded.names(*it) {
            return Err("its `excludeResourceRules` are about the same objects".to_owned());
        }
    }
    if subjects.iter().any(|it| seen.names(*it)) {
        return Err("its `resourceNames` select Pods by name".to_owned());
    }
    Ok(Constraints {
        subjects,
        formula,
        updates,
        wider,
    })
}

/// The selectors of constraints, or of a binding.
pub(super) fn selectors(node: &Node, known: &[&str]) -> Result<Formula, String> {
    only(node, known)?;
    let mut parts = Vec::new();
    if let Some(it) = node.get("namespaceSelector") {
        parts.push(selector(it, Literal::NamespaceLabel)?);
    }
    if let Some(it) = node.get("objectSelector") {
        parts.push(selector(it, Literal::ObjectLabel)?);
    }
    Ok(Formula::All(parts))
}

/// Resources and operations of several rules.
#[derive(Default)]
struct Seen(Vec<SeenRule>);

struct SeenRule {
    groups: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
    named: bool,
}

impl Seen {
    fn add(&mut self, rule: &Node) -> Result<(), String> {
        only(
            rule,
            &[
                "apiGroups",
                "apiVersions",
                "operations",
                "resources",
                "resourceNames",
                "scope",
            ],
        )?;
        if rule.get("scope").and_then(Node::as_str) == Some("Cluster") {
            return Ok(());
        }
        let versions = texts(rule.get("apiVersions"))?;
        if !versions.iter().any(|it| it == "v1" || it == "*") {
            return Ok(());
        }
        self.0.push(SeenRule {
            groups: texts(rule.get("apiGroups"))?,
            resources: texts(rule.get("resources"))?,
            operations: texts(rule.get("operations"))?,
            named: !list(rule, "resourceNames").is_empty(),
        });
        Ok(())
    }

    fn of(&self, subject: Subject) -> impl Iterator<Item = &SeenRule> {
        self.0.iter().filter(move |it| {
            let group = it
                .groups
                .iter()
                .any(|it| it == "*" || it == subject.group());
            let resource = it
                .resources
                .iter()
                .any(|it| it == "*" || it == "*/*" || it == subject.resource);
            group && resource
        })
    }

    /// `None` if nothing sees the object when it is made, else whether it is also seen when it changes.
    fn operations(&self, subject: Subject) -> Result<Option<bool>, String> {
        let all: Vec<&str> = self
            .of(subject)
            .flat_map(|it| it.operations.iter().map(String::as_str))
            .collect();
        let named = |name| all.iter().any(|it| *it == name || *it == "*");
        match (named("CREATE"), named("UPDATE")) {
            (true, updates) => Ok(Some(updates)),
            (false, true) => Err("its operations leave CREATE out".to_owned()),
            (false, false) => Ok(None),
        }
    }

    fn names(&self, subject: Subject) -> bool {
        self.of(subject).any(|it| it.named)
    }
}
