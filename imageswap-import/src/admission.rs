//! Policies in CEL: Kubernetes' `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy` with their bindings, and
//! Kyverno's `ValidatingPolicy`, `MutatingPolicy`, `ImageValidatingPolicy` and their namespaced forms.

mod constraints;
mod kyverno;
mod native;

pub(crate) use kyverno::{Exceptions, clauses, read as kyverno};
pub(crate) use native::{binding, is_parameter, read as native};

use crate::cel::{Environment, Failure, Patch, Rule, variables};
use crate::fields::only;
use crate::intent::{Effect, Intent, Origin, Reading, Vocabulary};
use crate::scope::{Formula, built_in_exclusion};
use constraints::Constraints;
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::Node;

/// A policy, and what is common to all of its rules.
struct Policy<'a> {
    origin: &'a Origin,
    spec: &'a Node,
    environment: Environment,
    /// The Pods to which all rules apply.
    applies: Formula,
    /// What differs for a rule that checks.
    wider: Vec<String>,
    /// What differs for every rule.
    differences: Vec<String>,
}

impl<'a> Policy<'a> {
    /// Reads constraints, variables and conditions.
    fn read(
        origin: &'a Origin,
        spec: &'a Node,
        failure: Failure,
        constraints: Constraints,
    ) -> Result<Self, String> {
        let named = named_expressions(spec, "variables")?;
        let Constraints {
            subjects,
            formula,
            updates,
            wider,
        } = constraints;
        let mut environment = Environment::new(subjects, variables(named.into_iter())?, failure);
        let mut differences = Vec::new();
        if updates {
            environment.operations.push("UPDATE");
        } else {
            differences.push("an image that an UPDATE changes is decided, too".to_owned());
        }
        Ok(Self {
            origin,
            spec,
            environment,
            applies: formula,
            wider,
            differences,
        })
    }

    /// Adds the conditions of the policy, which may read further names.
    fn conditions(&mut self) -> Result<(), String> {
        for (_, text) in named_expressions(self.spec, "matchConditions")? {
            let formula = self.environment.condition(&text)?;
            self.applies = Formula::All(vec![self.applies.clone(), formula]);
        }
        Ok(())
    }

    /// The rules that check, with what is done about an image that one refuses.
    fn validations(&self, enforcement: Enforcement) -> Vec<Reading> {
        self.each("validations", |it| {
            only(it, &VALIDATION)?;
            let (rules, vocabulary) = self.environment.demands(&text(it, "expression")?)?;
            let intents = rules.into_iter().map(|rule| {
                let effect = Effect::Check {
                    holds: rule.each,
                    enforcement,
                    message: message(it),
                };
                let mut intent = self.intent(rule.applies, rule.lists, effect, &vocabulary)?;
                intent.differences.extend(self.wider.iter().cloned());
                Ok(intent)
            });
            intents.collect()
        })
    }

    /// The rules that change images.
    fn mutations(&self) -> Vec<Reading> {
        self.each("mutations", |it| {
            only(it, &["patchType", "applyConfiguration", "jsonPatch"])?;
            let (field, patch) = match text(it, "patchType")?.as_str() {
                "ApplyConfiguration" => ("applyConfiguration", Patch::Apply),
                "JSONPatch" => ("jsonPatch", Patch::Json),
                other => return Err(format!("the patch type `{other}` is not understood")),
            };
            let made = it
                .get(field)
                .ok_or_else(|| format!("it has no `{field}`"))?;
            // More images would be changed than before.
            if let Some(wider) = self.wider.first() {
                return Err(wider.clone());
            }
            let (rule, vocabulary) = self.environment.change(&text(made, "expression")?, patch)?;
            let Rule {
                applies,
                lists,
                each,
            } = rule;
            Ok(vec![self.intent(
                applies,
                lists,
                Effect::Swap(each),
                &vocabulary,
            )?])
        })
    }

    fn intent(
        &self,
        applies: Formula,
        lists: crate::intent::Lists,
        effect: Effect,
        vocabulary: &Vocabulary,
    ) -> Result<Intent, String> {
        let scope = Formula::All(vec![self.applies.clone(), applies]).blocks()?;
        // Kyverno leaves the namespace alone, too.
        let of_kubernetes = self.origin.kind.ends_with("AdmissionPolicy");
        let notes = of_kubernetes.then(|| built_in_exclusion(&scope)).flatten();
        Ok(Intent {
            lists,
            differences: self.differences.clone(),
            notes: notes.into_iter().collect(),
            ..Intent::new(self.origin.clone(), scope, effect, vocabulary.clone())
        })
    }

    /// Reads each item of a list.
    fn each(
        &self,
        field: &str,
        read: impl Fn(&Node) -> Result<Vec<Intent>, String>,
    ) -> Vec<Reading> {
        let mut readings = Vec::new();
        for (at, it) in list(self.spec, field).iter().enumerate() {
            let origin = Origin {
                rule: format!("{field}[{at}]"),
                ..self.origin.at(it.span)
            };
            match read(it) {
                Ok(intents) => readings.extend(intents.into_iter().map(|intent| {
                    Reading::Understood(Intent {
                        origin: origin.clone(),
                        ..intent
                    })
                })),
                Err(why) => readings.push(Reading::LeftOut(origin, why)),
            }
        }
        if readings.is_empty() {
            let why = format!("it has no `{field}`");
            readings.push(Reading::LeftOut(self.origin.clone(), why));
        }
        readings
    }
}

/// Fields of an expression that has to be true.
const VALIDATION: [&str; 4] = ["expression", "message", "messageExpression", "reason"];

/// The message of a validation.
fn message(node: &Node) -> Option<String> {
    let text = node.get("message").and_then(Node::as_str).map(str::trim);
    text.filter(|it| !it.is_empty()).map(str::to_owned)
}

/// Expressions with their names.
fn named_expressions(node: &Node, field: &str) -> Result<Vec<(String, String)>, String> {
    let each = list(node, field).iter().map(|it| {
        only(it, &["name", "expression"])?;
        Ok((text(it, "name")?, text(it, "expression")?))
    });
    each.collect()
}

/// The items of a list that may be absent.
fn list<'a>(node: &'a Node, field: &str) -> &'a [Node] {
    node.get(field).map_or(&[][..], Node::items)
}

fn text(node: &Node, field: &str) -> Result<String, String> {
    let text = node.get(field).and_then(Node::as_str).map(str::to_owned);
    text.ok_or_else(|| format!("its `{field}` is not a text"))
}

/// What is done about an image that is refused.
fn enforcement(actions: &[Node]) -> Result<Enforcement, String> {
    let mut found = Vec::new();
    for it in actions {
        found.push(match it.as_str() {
            Some("Deny") => Enforcement::Deny,
            Some("Warn") => Enforcement::Warn,
            Some("Audit") => Enforcement::Audit,
            _ => return Err("an action is not understood".to_owned()),
        });
    }
    // A refusal is also logged, and so is a warning.
    let strictest = [Enforcement::Deny, Enforcement::Warn, Enforcement::Audit];
    let strictest = strictest.into_iter().find(|it| found.contains(it));
    strictest.ok_or_else(|| "it has no `validationActions`".to_owned())
}

/// What a failing expression means.
fn failure(spec: &Node) -> Result<Failure, String> {
    match spec.get("failurePolicy").and_then(Node::as_str) {
        None | Some("Fail") => Ok(Failure::Refuse),
        Some("Ignore") => Ok(Failure::Ignore),
        Some(other) => Err(format!("the failure policy `{other}` is not understood")),
    }
}
