//! Kubernetes' own policies, which do something only where a binding says so.

use super::constraints::{WORKLOAD_LABELS, constraints, selectors};
use super::{Policy, enforcement, failure, list, text};
use crate::cel::{Subject, Value};
use crate::fields::{kind, only, origin};
use crate::intent::{Origin, Reading};
use crate::scope::Formula;
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::Node;

/// Reads a policy with all of its bindings.
pub(crate) fn read(node: &Node, at: &Origin, all: &[(&str, Node)]) -> Vec<Reading> {
    let of = format!("{}Binding", at.kind);
    let named = |it: &Node| {
        let name = it.get("spec").and_then(|it| it.get("policyName"));
        name.and_then(Node::as_str) == Some(&at.document)
    };
    let bindings: Vec<_> = all
        .iter()
        .filter(|(_, it)| kind(it) == ("admissionregistration.k8s.io", &of) && named(it))
        .collect();
    if bindings.is_empty() {
        let why = format!("no `{of}` among the files binds it, and it does nothing without one");
        return vec![Reading::LeftOut(at.clone(), why)];
    }
    let mut readings = Vec::new();
    for (source, binding) in bindings {
        match bound(node, at, binding, all) {
            Ok(more) => readings.extend(more),
            Err(why) => {
                let name = origin(source, binding).document;
                let why = format!("{why} (binding `{name}`)");
                readings.push(Reading::LeftOut(at.clone(), why));
            }
        }
    }
    readings
}

/// A binding whose policy is not there.
pub(crate) fn binding(node: &Node, at: &Origin, all: &[(&str, Node)]) -> Option<Reading> {
    let policy = at.kind.strip_suffix("Binding").unwrap_or_default();
    let name = node
        .get("spec")
        .and_then(|it| it.get("policyName"))
        .and_then(Node::as_str)
        .unwrap_or_default();
    let found = all.iter().any(|(source, it)| {
        kind(it) == ("admissionregistration.k8s.io", policy) && origin(source, it).document == name
    });
    let why = format!("its policy `{name}` is not among the files");
    (!found).then(|| Reading::LeftOut(at.clone(), why))
}

fn bound(
    node: &Node,
    at: &Origin,
    binding: &Node,
    all: &[(&str, Node)],
) -> Result<Vec<Reading>, String> {
    let spec = node.get("spec").ok_or("it has no `spec`")?;
    only(
        spec,
        &[
            "paramKind",
            "matchConstraints",
            "validations",
            "mutations",
            "failurePolicy",
            "auditAnnotations",
            "matchConditions",
            "variables",
            "reinvocationPolicy",
        ],
    )?;
    let bound = binding.get("spec").ok_or("the binding has no `spec`")?;
    only(
        bound,
        &[
            "policyName",
            "paramRef",
            "matchResources",
            "validationActions",
        ],
    )?;
    let mut constraints = constraints(spec.get("matchConstraints"))?;
    if let Some(it) = bound.get("matchResources") {
        // Rules of a binding would have to be intersected with those of the policy.
        let formula = selectors(it, &["namespaceSelector", "objectSelector", "matchPolicy"])?;
        if it.get("objectSelector").is_some() && constraints.subjects != [Subject::POD] {
            return Err(WORKLOAD_LABELS.to_owned());
        }
        constraints.formula = Formula::All(vec![constraints.formula, formula]);
    }
    let mut policy = Policy::read(at, spec, failure(spec)?, constraints)?;
    if let Some(kind) = spec.get("paramKind") {
        let value = parameters(kind, bound.get("paramRef"), all)?;
        policy.environment.add_texts(&value);
        policy.environment.names.insert("params".to_owned(), value);
    }
    policy.conditions()?;
    Ok(if at.kind.starts_with("Mutating") {
        policy.mutations()
    } else {
        let actions = list(bound, "validationActions");
        let enforcement: Enforcement = enforcement(actions)?;
        policy.validations(enforcement)
    })
}

/// The object with the parameters, if it is among the files.
fn parameters(
    wanted: &Node,
    reference: Option<&Node>,
    all: &[(&str, Node)],
) -> Result<Value, String> {
    let reference = reference.ok_or("the binding has no `paramRef`")?;
    only(reference, &["name", "namespace", "parameterNotFoundAction"])?;
    if reference.get("namespace").is_none() {
        is_of_cluster(wanted, all)?;
    }
    let mut found = all.iter().filter(|it| refers(reference, &it.1));
    let found = found.find(|(_, it)| is_of(wanted, it));
    match found {
        Some((_, it)) => Value::from_json(&it.to_json()),
        None => Err(format!(
            "its parameters, the {} `{}`, are not among the files",
            text(wanted, "kind")?,
            text(reference, "name")?
        )),
    }
}

/// Refuses a kind whose objects belong to namespaces: a reference without a namespace means that of each Pod.
fn is_of_cluster(wanted: &Node, all: &[(&str, Node)]) -> Result<(), String> {
    let kind_of = text(wanted, "kind")?;
    let version = text(wanted, "apiVersion")?;
    let field = |it: &Node, path: &[&str]| {
        let found = path.iter().try_fold(it, |it, key| it.get(key));
        found.and_then(Node::as_str).map(str::to_owned)
    };
    let defines = |it: &&Node| {
        kind(it) == ("apiextensions.k8s.io", "CustomResourceDefinition")
            && field(it, &["spec", "names", "kind"]).as_ref() == Some(&kind_of)
            && field(it, &["spec", "group"]).as_deref() == version.split_once('/').map(|it| it.0)
    };
    let scope = all.iter().map(|it| &it.1).find(defines);
    match scope
        .and_then(|it| field(it, &["spec", "scope"]))
        .as_deref()
    {
        Some("Cluster") => Ok(()),
        None if version.contains('/') => Err(format!(
            "its `paramRef` has no namespace, and whether each namespace has a {kind_of} of its own is not known without its CustomResourceDefinition"
        )),
        _ => Err(format!(
            "its `paramRef` has no namespace, so that each namespace has a {kind_of} of its own"
        )),
    }
}

/// Whether an object has the parameters of one of the bindings.
pub(crate) fn is_parameter(node: &Node, all: &[(&str, Node)]) -> bool {
    let specs = || all.iter().filter_map(|it| it.1.get("spec"));
    let wanted = specs().filter_map(|it| it.get("paramKind"));
    let referred = || specs().filter_map(|it| it.get("paramRef"));
    wanted.into_iter().any(|it| is_of(it, node)) && referred().any(|it| refers(it, node))
}

/// Whether a reference has the object's name and namespace.
fn refers(reference: &Node, node: &Node) -> bool {
    let field = |it: Option<&Node>, key| it.and_then(|it| it.get(key)?.as_str().map(str::to_owned));
    let own = |key| field(node.get("metadata"), key);
    let wanted = |key| field(Some(reference), key);
    wanted("name").is_some()
        && wanted("name") == own("name")
        && wanted("namespace") == own("namespace")
}

/// Whether an object is of this version and kind.
fn is_of(wanted: &Node, node: &Node) -> bool {
    ["apiVersion", "kind"].iter().all(|it| {
        let of = |node: &Node| node.get(it).and_then(Node::as_str).map(str::to_owned);
        of(wanted).is_some() && of(wanted) == of(node)
    })
}
