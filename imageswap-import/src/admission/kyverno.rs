//! Kyverno's policies in CEL, and exceptions from them.

use super::constraints::constraints;
use super::{Policy, VALIDATION, enforcement, list, message, named_expressions, text};
use crate::cel::{Environment, Failure, Rule, Subject, variables};
use crate::fields::only;
use crate::image::Image;
use crate::intent::{Check, Origin, Reading, Vocabulary};
use crate::scope::{Formula, Literal};
use crate::text::glob;
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::{Node, Value};
use std::rc::Rc;

/// Exceptions from policies in CEL.
#[derive(Default)]
pub(crate) struct Exceptions(Vec<Exception>);

struct Exception {
    origin: Origin,
    /// Kinds and names of policies.
    policies: Vec<(String, String)>,
    pods: Result<Formula, String>,
}

impl Exceptions {
    /// Adds the exception that a document is.
    pub(crate) fn add(&mut self, node: &Node, origin: Origin) {
        let mut policies = Vec::new();
        let spec = node.get("spec");
        for it in spec.map_or(&[][..], |it| list(it, "policyRefs")) {
            if let (Ok(kind), Ok(name)) = (text(it, "kind"), text(it, "name")) {
                policies.push((kind, name));
            }
        }
        let pods = spec.ok_or("it has no `spec`".to_owned()).and_then(excepted);
        self.0.push(Exception {
            origin,
            policies,
            pods,
        });
    }

    /// The outcome of each exception, given the policies that were understood.
    pub(crate) fn readings(
        &self,
        policies: &[(String, String)],
    ) -> Vec<(Origin, Result<(), String>)> {
        let each = self.0.iter().map(|it| {
            let result = match &it.pods {
                Err(why) => Err(format!("{why}, so it excepts nothing")),
                Ok(_) if it.policies.iter().any(|it| policies.contains(it)) => Ok(()),
                Ok(_) => Err("no policy that was read has its policy's kind and name".to_owned()),
            };
            (it.origin.clone(), result)
        });
        each.collect()
    }
}

/// The Pods that an exception excepts from the whole policy.
fn excepted(spec: &Node) -> Result<Formula, String> {
    only(spec, &["policyRefs", "matchConditions", "reportResult"])?;
    let none = variables(std::iter::empty())?;
    let environment = Environment::new(vec![Subject::POD], none, Failure::Unclear);
    let mut parts = Vec::new();
    for (_, text) in named_expressions(spec, "matchConditions")? {
        parts.push(environment.scope(&text)?);
    }
    Ok(Formula::All(parts))
}

/// Reads a policy.
pub(crate) fn read(node: &Node, origin: &Origin, exceptions: &Exceptions) -> Vec<Reading> {
    match policy(node, origin, exceptions) {
        Ok(readings) => readings,
        Err(why) => vec![Reading::LeftOut(origin.clone(), why)],
    }
}

fn policy(node: &Node, origin: &Origin, exceptions: &Exceptions) -> Result<Vec<Reading>, String> {
    let spec = node.get("spec").ok_or("it has no `spec`")?;
    let kind = origin.kind.trim_start_matches("Namespaced");
    let mut known = vec![
        "matchConstraints",
        "matchConditions",
        "variables",
        "failurePolicy",
        "auditAnnotations",
        "evaluation",
        "webhookConfiguration",
        "autogen",
    ];
    known.extend(match kind {
        "MutatingPolicy" => &["mutations", "reinvocationPolicy"][..],
        "ValidatingPolicy" => &["validations", "validationActions"][..],
        _ => &[
            "validations",
            "validationActions",
            "matchImageReferences",
            "attestors",
            "attestations",
            "validationConfigurations",
            "credentials",
        ][..],
    });
    only(spec, &known)?;
    if let Some(evaluation) = spec.get("evaluation") {
        only(
            evaluation,
            &["mode", "admission", "background", "mutateExisting"],
        )?;
        let enabled = |it| evaluation.get(it).and_then(|it| it.get("enabled"));
        let is = |field, value| enabled(field).is_some_and(|it| it.value == Value::Bool(value));
        if !matches!(
            evaluation.get("mode").and_then(Node::as_str),
            None | Some("Kubernetes")
        ) {
            return Err("its `evaluation` is not about Kubernetes".to_owned());
        }
        if is("admission", false) {
            return Err("its `evaluation` keeps it out of admission".to_owned());
        }
        if is("mutateExisting", true) {
            return Err("its `evaluation` changes objects that exist".to_owned());
        }
    }
    let mut constraints = constraints(spec.get("matchConstraints"))?;
    if origin.kind.starts_with("Namespaced") {
        let name = node.get("metadata").and_then(|it| it.get("namespace"));
        let name = name.and_then(Node::as_str);
        let name = name.ok_or("it belongs to a namespace that it does not name")?;
        let own = Formula::Is(Literal::InNamespaces(vec![name.to_owned()]));
        constraints.formula = Formula::All(vec![constraints.formula, own]);
    }
    let mut policy = Policy::read(origin, spec, Failure::Unclear, constraints)?;
    if kind == "ImageValidatingPolicy" {
        images(&mut policy)?;
    }
    policy.conditions()?;
    let mine = |it: &&Exception| {
        let name = (&origin.kind, &origin.document);
        it.policies
            .iter()
            .any(|(kind, policy)| (kind, policy) == name)
    };
    for it in exceptions.0.iter().filter(mine) {
        match &it.pods {
            Ok(pods) => policy.applies = Formula::All(vec![policy.applies, pods.clone().not()]),
            // More images would be changed than before.
            Err(why) if kind == "MutatingPolicy" => {
                return Err(format!("its exception `{}`: {why}", it.origin.document));
            }
            Err(_) => {}
        }
    }
    Ok(if kind == "MutatingPolicy" {
        policy.mutations()
    } else {
        let actions = list(spec, "validationActions");
        let enforcement = if actions.is_empty() {
            Enforcement::Deny
        } else {
            enforcement(actions)?
        };
        policy.validations(enforcement)
    })
}

/// The images that an `ImageValidatingPolicy` is about.
fn images(policy: &mut Policy<'_>) -> Result<(), String> {
    let mut globs = Vec::new();
    for it in list(policy.spec, "matchImageReferences") {
        only(it, &["glob"])?;
        globs.push(text(it, "glob")?);
    }
    let globs = if globs.is_empty() {
        vec!["*".to_owned()]
    } else {
        globs
    };
    for it in &globs {
        policy.environment.add_texts(&crate::cel::Value::text(it));
    }
    policy.environment.images = Some(Rc::new(move |image| {
        let matches = |text: &str| globs.iter().any(|it| glob(it, text));
        let full = Image::parse(image).map(|it| it.text());
        match full {
            // Whether a pattern is compared with `nginx` or `docker.io/library/nginx` is not documented.
            Some(full) if matches(&full) != matches(image) => {
                Err("whether its patterns match depends on how an image is written".to_owned())
            }
            _ => Ok(matches(image)),
        }
    }));
    policy
        .differences
        .push("signatures are not checked, and tags do not become digests".to_owned());
    Ok(())
}

/// A demand of `validate.cel`, and its message.
pub(crate) struct Clause {
    pub(crate) rule: Rule<Check>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) message: Option<String>,
}

/// Reads the `validate.cel` of a rule in an older policy, and the Pods to which its `celPreconditions` limit it.
pub(crate) fn clauses(rule: &Node, cel: &Node) -> Result<(Formula, Vec<Clause>), String> {
    only(
        cel,
        &["expressions", "variables", "auditAnnotations", "generate"],
    )?;
    let named = named_expressions(cel, "variables")?;
    let mut environment = Environment::new(
        vec![Subject::POD],
        variables(named.into_iter())?,
        Failure::Unclear,
    );
    environment.operations.push("UPDATE");
    let mut applies = Vec::new();
    for (_, text) in named_expressions(rule, "celPreconditions")? {
        applies.push(environment.condition(&text)?);
    }
    let mut clauses = Vec::new();
    for it in list(cel, "expressions") {
        only(it, &VALIDATION)?;
        let (rules, vocabulary) = environment.demands(&text(it, "expression")?)?;
        clauses.extend(rules.into_iter().map(|rule| Clause {
            rule,
            vocabulary: vocabulary.clone(),
            message: message(it),
        }));
    }
    if clauses.is_empty() {
        return Err("its `cel` has no expressions".to_owned());
    }
    Ok((Formula::All(applies), clauses))
}
