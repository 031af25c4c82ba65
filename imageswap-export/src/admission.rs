//! Admission policies in CEL, which Kubernetes' API server evaluates without a webhook.
//!
//! A policy becomes a MutatingAdmissionPolicy that swaps and a ValidatingAdmissionPolicy that judges
//! what runs, each with a binding. Both compute the canonical reference of every image, apply the
//! rules until the image stays, and decide approval, in variables:
//!
//! | variable | value |
//! |---|---|
//! | `stored` | the images of the stored object, in an update |
//! | `images` | the images that the request brings |
//! | `start` | each with its canonical reference |
//! | `rules1`, `moved1`, ... | the rule that decides, and its result; as often as rules can follow each other |
//! | `judged` | why each image is refused; empty if it is approved |

mod captures;
mod cel;
mod expression;
mod image;
mod judgement;
mod mutation;
mod objects;
mod scope;
mod steps;

use crate::report::{Parts, Report};
use imageswap_policy::document::Enforcement;
use imageswap_policy::{Date, Outline, Policies, Policy};
use objects::{MatchCondition, Metadata, MutatingSpec, ValidatingSpec, Variable};
use std::collections::BTreeMap;

pub use objects::Object;

/// The longest expression that an API server parses, in characters.
const MAX_EXPRESSION: usize = 100_000;
/// The longest chain of rules that is written; each link repeats all rules.
const MAX_MOVES: usize = 8;
/// The longest name of an object.
const MAX_NAME: usize = 253;

/// The exported objects and the outcome of every part of the policies.
#[derive(Debug)]
pub struct Export {
    /// For each policy those that swap, if it does, and those that judge; empty if a policy cannot
    /// be exported.
    pub objects: Vec<Object>,
    /// Every part.
    pub report: Report,
}

/// Exports policies, of which the first that applies to a Pod decides. `today` is in UTC:
/// exceptions that have ended need not be exported.
///
/// If one policy cannot be exported, nothing is: the others would decide for its Pods.
pub fn export(policies: &Policies, today: Date) -> Export {
    let mut report = Report::default();
    let mut objects = Vec::new();
    let mut whole = true;
    let mut before: Vec<String> = Vec::new();
    let last = policies.iter().count().saturating_sub(1);
    for (at, policy) in policies.iter().enumerate() {
        let mut parts = Parts {
            policy: policy.name(),
            report: &mut report,
        };
        match one(policy, &before, today, &mut parts) {
            Ok(made) => objects.extend(made),
            Err(why) => {
                parts.left_out("policy", why);
                whole = false;
                continue;
            }
        }
        if at == last {
            break;
        }
        let outline = policy.outline();
        if let Some(covered) = outline.as_ref().and_then(|it| scope::covers(&it.scope)) {
            before.push(covered);
        } else {
            parts.left_out(
                "match",
                "the policies after this one decide where it does not apply, which depends on labels of the \
                 namespace, and conditions cannot read these; export one policy",
            );
            whole = false;
        }
    }
    if !whole {
        objects.clear();
    }
    Export { objects, report }
}

fn one(
    policy: &Policy,
    before: &[String],
    today: Date,
    parts: &mut Parts<'_>,
) -> Result<Vec<Object>, String> {
    let outline = policy.outline().ok_or(
        "a maps file matches images as they are written; `imageswap import maps` makes an ImageSwapPolicy of it",
    )?;
    if outline.moves > MAX_MOVES {
        return Err(format!(
            "up to {} rules may move an image one after the other, and {MAX_MOVES} can be exported",
            outline.moves
        ));
    }
    let steps = steps::write(&outline, today, parts)?;
    let judgement = judgement::write(policy, &outline, parts)?;
    let metadata = metadata(policy)?;
    let constraints = scope::constraints(&outline.scope);
    let conditions: Vec<MatchCondition> = scope::conditions(&outline.scope, before);
    let mut objects = Vec::new();
    if policy.swaps() {
        let mutation = mutation::write(policy);
        objects.push(Object::mutating(
            &metadata,
            MutatingSpec {
                failure_policy: "Fail",
                // Other policies and webhooks may add containers.
                reinvocation_policy: "IfNeeded",
                match_constraints: constraints.clone(),
                match_conditions: conditions.clone(),
                variables: [steps.clone(), mutation.variables].concat(),
                mutations: mutation.mutations,
            },
        ));
    }
    for secret in policy.pull_secrets() {
        let part = format!("imagePullSecrets {}", secret.name());
        if policy.swaps() {
            parts.exported(part);
        } else {
            parts.left_out(part, "a policy for audit changes no Pod");
        }
    }
    objects.push(Object::validating(
        &metadata,
        ValidatingSpec {
            failure_policy: "Fail",
            match_constraints: constraints,
            match_conditions: conditions,
            variables: [steps, judgement.variables].concat(),
            validations: vec![judgement.validation],
        },
    ));
    check_lengths(&objects)?;
    let actions = vec![match policy.enforcement() {
        Enforcement::Deny => "Deny",
        Enforcement::Warn => "Warn",
        Enforcement::Audit => "Audit",
    }];
    Ok(objects
        .into_iter()
        .flat_map(|it| {
            let judges = it.kind() == "ValidatingAdmissionPolicy";
            let binding = Object::binding(&it, if judges { actions.clone() } else { Vec::new() });
            [it, binding]
        })
        .collect())
}

fn metadata(policy: &Policy) -> Result<Metadata, String> {
    let name = format!("imageswap-{}", policy.name());
    if name.len() > MAX_NAME {
        return Err(format!(
            "its name is too long: the object would be called {name}"
        ));
    }
    Ok(Metadata {
        name,
        labels: BTreeMap::from([("app.kubernetes.io/part-of", "imageswap".to_owned())]),
        annotations: BTreeMap::from([
            ("imageswap.io/policy", policy.name().to_owned()),
            ("imageswap.io/revision", policy.revision().to_owned()),
        ]),
    })
}

fn check_lengths(objects: &[Object]) -> Result<(), String> {
    let mut all = objects.iter().flat_map(Object::expressions);
    match all.find(|it| it.1.chars().count() > MAX_EXPRESSION) {
        None => Ok(()),
        Some((name, _)) => Err(format!(
            "the expression `{name}` would have more than {MAX_EXPRESSION} characters, which no API server parses; \
             write fewer rules, with wildcards"
        )),
    }
}

fn variable(name: impl Into<String>, expression: impl Into<String>) -> Variable {
    Variable {
        name: name.into(),
        expression: expression.into(),
    }
}

/// Parts of the document that rules were made of, each once.
fn rule_names<'a>(outline: &'a Outline<'_>) -> Vec<&'a str> {
    let mut names: Vec<_> = outline.rules.iter().map(|it| it.name).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirrors::{self, Language};
    use crate::report::Status;
    use imageswap_policy::document;

    #[test]
    fn rule_that_asks_a_registry_is_not_exported_exactly() {
        for (if_missing, expected) in [("swap", Status::Exported), ("keep", Status::Differs)] {
            let text = format!(
                "{{apiVersion: imageswap.io/v1alpha1, kind: ImageSwapPolicy, metadata: {{name: p}}, spec: {{rules: [\
                 {{name: hub, from: 'docker.io/**', to: r.example/hub, ifMissing: {if_missing}}}]}}}}"
            );
            let policies = Policies::new(document::load("test", &text).unwrap().policies);
            let mirror = mirrors::export(&policies, Language::HostsToml, Date::MIN);
            for report in [export(&policies, Date::MIN).report, mirror.report] {
                let rule = report.items.iter().find(|it| it.part == "rule hub");
                assert_eq!(rule.map(|it| it.status), Some(expected), "{report:?}");
            }
        }
    }

    #[test]
    fn conditions_of_many_policies_fit_an_object() {
        for count in [1_u32, 3, 51, 120] {
            let policies = (0..count).map(|at| {
                let text = format!(
                    "{{apiVersion: imageswap.io/v1alpha1, kind: ImageSwapPolicy, metadata: {{name: p{at}}}, spec: {{match: \
                     {{namespaces: [n{at}], objectSelector: {{matchLabels: {{a: b}}}}}}, rules: [{{keep: '**'}}]}}}}"
                );
                document::load("test", &text).unwrap().policies
            });
            let objects = export(&Policies::new(policies.flatten().collect()), Date::MIN).objects;
            let most = objects.iter().map(|it| {
                let object = serde_json::to_value(it).unwrap();
                object["spec"]["matchConditions"]
                    .as_array()
                    .map_or(0, Vec::len)
            });
            assert!(most.max().is_some_and(|it| it <= 64), "{count}");
            // The last one names each of the others.
            let last = serde_json::to_string(&objects.last_chunk::<2>().unwrap()[0]).unwrap();
            let named = (0..count).filter(|at| last.contains(&format!("'n{at}'")));
            assert_eq!(named.count(), usize::try_from(count).unwrap(), "{last}");
        }
    }
}
