//! A document: its rules, and the settings for all of them.

use super::conditions;
use super::context::Variables;
use super::exception::{self, Exception};
use super::{mutate, scope, validate};
use crate::admission::clauses;
use crate::fields::{only, selector};
use crate::intent::{Effect, Intent, Lists, Origin, Reading};
use crate::scope::{Formula, Literal};
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::{Node, Value};
use std::rc::Rc;

/// The exceptions of all documents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exceptions(Vec<Exception>);

impl Exceptions {
    /// Adds the exception that a document is.
    pub(crate) fn add(&mut self, node: &Node, origin: Origin) {
        self.0.push(exception::read(node, origin));
    }

    /// The outcome of each exception, given the rules that were understood.
    pub(crate) fn readings(
        &self,
        rules: &[(Option<String>, String, String)],
    ) -> Vec<(Origin, Result<(), String>)> {
        let each = self.0.iter().map(|it| {
            let concerns = |(namespace, policy, rule): &(Option<String>, String, String)| {
                it.concerns(namespace.as_deref(), policy, rule)
            };
            let result = match it.pods() {
                Err(why) => Err(format!("{why}, so it excepts nothing")),
                Ok(_) if rules.iter().any(concerns) => Ok(()),
                Ok(_) => Err("no rule that was read has its policy's and rule's name".to_owned()),
            };
            (it.origin.clone(), result)
        });
        each.collect()
    }
}

/// Fields of `spec` that do not affect which images are decided how.
const HARMLESS: [&str; 16] = [
    "background",
    "rules",
    "validationFailureAction",
    "validationFailureActionOverrides",
    "failurePolicy",
    "webhookTimeoutSeconds",
    "schemaValidation",
    "generateExisting",
    "generateExistingOnPolicyUpdate",
    "mutateExistingOnPolicyUpdate",
    "emitWarning",
    "useServerSideApply",
    "webhookConfiguration",
    "admission",
    "applyRules",
    "skipBackgroundRequests",
];

/// Reads the rules of a `Policy` or `ClusterPolicy`.
pub(crate) fn read(node: &Node, origin: &Origin, exceptions: &Exceptions) -> Vec<Reading> {
    let spec = node.get("spec");
    let rules = spec
        .and_then(|it| it.get("rules"))
        .map_or(&[][..], Node::items);
    if rules.is_empty() {
        return vec![Reading::LeftOut(
            origin.clone(),
            "it has no rules".to_owned(),
        )];
    }
    let whole = spec.map_or(Ok(()), |it| document(it, rules.len()));
    let mut readings = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let name = rule.get("name").and_then(Node::as_str);
        let origin = Origin {
            rule: name.map_or_else(|| format!("rules[{at}]"), str::to_owned),
            ..origin.at(rule.span)
        };
        let read = whole
            .clone()
            .and_then(|()| one(node, rule, &origin, exceptions));
        match read {
            Ok(intents) => readings.extend(intents.into_iter().map(Reading::Understood)),
            Err(why) => readings.push(Reading::LeftOut(origin, why)),
        }
    }
    readings
}

/// Settings of the document that are not understood.
fn document(spec: &Node, rules: usize) -> Result<(), String> {
    for (key, value) in spec.entries() {
        let key = key.as_str().unwrap_or("?");
        if !HARMLESS.contains(&key) {
            return Err(format!("`{key}` of its policy is not understood"));
        }
        match key {
            "applyRules" if value.as_str() == Some("One") && rules > 1 => {
                return Err("`applyRules: One` applies only the first rule that matches".to_owned());
            }
            "admission" if value.value == Value::Bool(false) => {
                return Err("`admission: false` keeps it out of admission".to_owned());
            }
            "webhookConfiguration" => {
                let conditions = value
                    .get("matchConditions")
                    .filter(|it| !it.items().is_empty());
                if conditions.is_some() {
                    return Err(
                        "`matchConditions` of its policy decide which requests it sees".to_owned(),
                    );
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn one(
    node: &Node,
    rule: &Node,
    origin: &Origin,
    exceptions: &Exceptions,
) -> Result<Vec<Intent>, String> {
    for (key, _) in rule.entries() {
        let known = [
            "name",
            "match",
            "exclude",
            "resource",
            "context",
            "preconditions",
            "celPreconditions",
            "validate",
            "mutate",
            "skipBackgroundRequests",
            "reportProperties",
        ];
        let key = key.as_str().unwrap_or("?");
        if !known.contains(&key) {
            return Err(format!("`{key}` is not understood"));
        }
    }
    if let Some(cel) = rule.get("validate").and_then(|it| it.get("cel")) {
        return in_cel(node, rule, cel, origin, exceptions);
    }
    if rule.get("celPreconditions").is_some() {
        return Err("`celPreconditions` without `validate.cel`".to_owned());
    }
    let variables = Variables::default().with(rule.get("context"));
    let (lists, vocabulary, read) = match (rule.get("validate"), rule.get("mutate")) {
        (Some(validate), None) => {
            let it = validate::read(validate, &variables)?;
            (it.lists, it.vocabulary, Read::Check(it.holds, validate))
        }
        (None, Some(mutate)) => {
            let it = mutate::read(mutate, &variables)?;
            (
                it.lists,
                it.vocabulary,
                Read::Swap(it.swap, it.secrets, it.differences),
            )
        }
        _ => return Err("it has not exactly one of `validate` and `mutate`".to_owned()),
    };
    let (formula, wider) = selected(node, rule, lists, origin, exceptions)?;
    let intent = |effect, formula: &Formula, secrets, differences| -> Result<Intent, String> {
        Ok(Intent {
            lists,
            secrets,
            differences,
            ..Intent::new(
                origin.clone(),
                formula.blocks()?,
                effect,
                vocabulary.clone(),
            )
        })
    };
    match read {
        Read::Swap(swap, secrets, differences) => {
            // More images would be changed than before.
            if let Some(wider) = wider.into_iter().next() {
                return Err(wider);
            }
            Ok(vec![intent(
                Effect::Swap(swap),
                &formula,
                secrets,
                differences,
            )?])
        }
        Read::Check(holds, validate) => {
            let text = validate.get("message").and_then(Node::as_str);
            let message = text
                .map(str::trim)
                .filter(|it| !it.is_empty() && !it.contains("{{"));
            let spec = node.get("spec");
            let mut intents = Vec::new();
            for (part, enforcement) in actions(spec, validate)? {
                let effect = Effect::Check {
                    holds: Rc::clone(&holds),
                    enforcement,
                    message: message.map(str::to_owned),
                };
                let formula = Formula::All(vec![formula.clone(), part]);
                intents.push(intent(effect, &formula, Vec::new(), wider.clone())?);
            }
            Ok(intents)
        }
    }
}

/// The Pods to which a rule applies, and how they are more than in the source.
fn selected(
    node: &Node,
    rule: &Node,
    lists: Lists,
    origin: &Origin,
    exceptions: &Exceptions,
) -> Result<(Formula, Vec<String>), String> {
    let scope = scope::read(rule)?;
    let mut formula = vec![scope.formula.clone()];
    if let Some(preconditions) = rule.get("preconditions") {
        formula.push(conditions::read(preconditions)?.scope(lists)?);
    }
    let namespace = namespace(node)?;
    if let Some(namespace) = &namespace {
        formula.push(Formula::Is(Literal::InNamespaces(vec![namespace.clone()])));
    }
    for it in &exceptions.0 {
        if it.concerns(namespace.as_deref(), &origin.document, &origin.rule)
            && let Ok(pods) = it.pods()
        {
            formula.push(pods.clone().not());
        }
    }
    let formula = Formula::All(formula);
    scope.check_labels(&formula)?;
    Ok((formula, scope.wider))
}

/// A rule that checks with expressions in CEL.
fn in_cel(
    node: &Node,
    rule: &Node,
    cel: &Node,
    origin: &Origin,
    exceptions: &Exceptions,
) -> Result<Vec<Intent>, String> {
    let validate = rule.get("validate").unwrap_or(rule);
    only(
        validate,
        &["cel", "message", "failureAction", "failureActionOverrides"],
    )?;
    let (preconditions, clauses) = clauses(rule, cel)?;
    let mut intents = Vec::new();
    for clause in clauses {
        let lists = clause.rule.lists;
        let (formula, wider) = selected(node, rule, lists, origin, exceptions)?;
        for (part, enforcement) in actions(node.get("spec"), validate)? {
            let applies = clause.rule.applies.clone();
            let parts = vec![formula.clone(), preconditions.clone(), applies, part];
            let scope = Formula::All(parts).blocks()?;
            let effect = Effect::Check {
                holds: Rc::clone(&clause.rule.each),
                enforcement,
                message: clause.message.clone(),
            };
            intents.push(Intent {
                lists,
                differences: wider.clone(),
                ..Intent::new(origin.clone(), scope, effect, clause.vocabulary.clone())
            });
        }
    }
    Ok(intents)
}

/// The namespace of a document; in the first version of the format there was none.
pub(crate) fn namespace(node: &Node) -> Result<Option<String>, String> {
    let text = |key| node.get(key).and_then(Node::as_str).unwrap_or_default();
    if text("kind") != "Policy" || text("apiVersion") == "kyverno.io/v1alpha1" {
        return Ok(None);
    }
    let name = node
        .get("metadata")
        .and_then(|it| it.get("namespace"))
        .and_then(Node::as_str);
    match name {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err("it belongs to a namespace that it does not name".to_owned()),
    }
}

enum Read<'a> {
    Swap(crate::intent::Swap, Vec<String>, Vec<String>),
    Check(crate::intent::Check, &'a Node),
}

/// The action for a refused image, and its namespaces.
fn actions(spec: Option<&Node>, validate: &Node) -> Result<Vec<(Formula, Enforcement)>, String> {
    let action = |node: Option<&Node>| match node.and_then(Node::as_str) {
        None => Ok(None),
        Some("Enforce" | "enforce") => Ok(Some(Enforcement::Deny)),
        Some("Audit" | "audit") => Ok(Some(Enforcement::Audit)),
        Some(other) => Err(format!("the failure action `{other}` is not understood")),
    };
    let own = action(validate.get("failureAction"))?;
    let of_policy = action(spec.and_then(|it| it.get("validationFailureAction")))?;
    let default = own.or(of_policy).unwrap_or(Enforcement::Audit);
    // The rule's overrides and action are before those of the policy.
    let of_rule = validate.get("failureActionOverrides");
    let of_policy = spec.and_then(|it| it.get("validationFailureActionOverrides"));
    let overrides = [of_rule, of_policy.filter(|_| own.is_none())];
    let mut rest = Formula::always();
    let mut parts = Vec::new();
    for it in overrides.into_iter().flatten().flat_map(Node::items) {
        let mut formula = Vec::new();
        for (key, value) in it.entries() {
            match key.as_str() {
                Some("action") => {}
                Some("namespaces") => {
                    let names: Option<Vec<String>> = value
                        .items()
                        .iter()
                        .map(|it| it.as_str().map(str::to_owned))
                        .collect();
                    formula.push(Formula::Is(Literal::InNamespaces(
                        names.ok_or("a namespace is not a text")?,
                    )));
                }
                Some("namespaceSelector") => {
                    formula.push(selector(value, Literal::NamespaceLabel)?);
                }
                other => {
                    return Err(format!(
                        "`{}` in an override is not understood",
                        other.unwrap_or("?")
                    ));
                }
            }
        }
        let here = Formula::All(formula);
        let enforcement = action(it.get("action"))?.ok_or("an override has no `action`")?;
        // The first matching override decides.
        parts.push((Formula::All(vec![rest.clone(), here.clone()]), enforcement));
        rest = Formula::All(vec![rest, here.not()]);
    }
    parts.push((rest, default));
    // Parts with the same action are one.
    let mut merged: Vec<(Vec<Formula>, Enforcement)> = Vec::new();
    for (formula, enforcement) in parts {
        match merged.iter_mut().find(|it| it.1 == enforcement) {
            Some(it) => it.0.push(formula),
            None => merged.push((vec![formula], enforcement)),
        }
    }
    if merged.len() == 1 {
        return Ok(vec![(Formula::always(), merged[0].1)]);
    }
    Ok(merged
        .into_iter()
        .map(|(it, enforcement)| (Formula::Any(it), enforcement))
        .collect())
}
