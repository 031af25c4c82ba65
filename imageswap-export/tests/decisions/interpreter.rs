//! With an interpreter of CEL that is written in Rust: needs no Kubernetes, and is another
//! implementation than the API server's.

use crate::generate::{Pod, cases, sets};
use crate::{Actual, Exported, compare, exported};
use cel::extractors::This;
use cel::parser::{Expression, Parser};
use cel::{Context, ExecutionError, Value};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

#[test]
fn an_interpreter_decides_as_the_policy() {
    // It takes half a minute without optimisation; all pairs are for Kubernetes.
    decide(&exported(cases(25, 6)));
}

#[test]
fn an_interpreter_lets_the_first_policy_that_applies_decide() {
    decide(&exported(sets(10, 6)));
}

fn decide(exported: &[Exported]) {
    let mut same = 0;
    for it in exported {
        let policies: Vec<_> = it
            .objects
            .iter()
            .filter(|it| !it["spec"]["variables"].is_null())
            .map(Compiled::new)
            .collect();
        for pod in &it.case.pods {
            let actual = actual(it, &policies, pod);
            same += usize::from(compare(it, pod, &actual));
        }
    }
    let pairs: usize = exported.iter().map(|it| it.case.pods.len()).sum();
    assert!(same * 10 > pairs * 9, "{same} of {pairs}");
}

/// A policy with its expressions parsed.
struct Compiled {
    mutates: bool,
    selects: Json,
    conditions: Vec<Expression>,
    variables: Vec<(String, Expression)>,
}

impl Compiled {
    fn new(object: &Json) -> Self {
        let spec = &object["spec"];
        let parse = |it: &Json| parse(it["expression"].as_str().unwrap());
        let list = |key: &str| spec[key].as_array().cloned().unwrap_or_default();
        Self {
            mutates: object["kind"] == json!("MutatingAdmissionPolicy"),
            selects: spec["matchConstraints"]["namespaceSelector"].clone(),
            conditions: list("matchConditions").iter().map(parse).collect(),
            variables: list("variables")
                .iter()
                .map(|it| (it["name"].as_str().unwrap().to_owned(), parse(it)))
                .collect(),
        }
    }

    /// The variables for a Pod; `None` if the policy does not apply.
    fn evaluate(
        &self,
        pod: &Pod,
        images: &[(&'static str, String, String)],
    ) -> Option<HashMap<String, Json>> {
        // The generated policies select namespaces by one expression, if at all.
        if let Some(excluded) = self.selects["matchExpressions"][0]["values"].as_array()
            && excluded.contains(&json!(pod.namespace))
        {
            return None;
        }
        let mut context = context();
        let operation = if pod.stored.is_some() {
            "UPDATE"
        } else {
            "CREATE"
        };
        let request = json!({"operation": operation, "namespace": pod.namespace, "userInfo": {"username": "admin"}});
        let old = pod.stored.as_ref().map(|it| pod.object(it));
        for (name, value) in [
            ("request", request),
            ("object", pod.object(images)),
            ("oldObject", json!(old)),
        ] {
            context.add_variable(name, value).unwrap();
        }
        for it in &self.conditions {
            if context.resolve(it).unwrap() == Value::Bool(false) {
                return None;
            }
        }
        let mut variables = HashMap::new();
        for (name, expression) in &self.variables {
            context.add_variable("variables", &variables).unwrap();
            let value = context
                .resolve(expression)
                .unwrap_or_else(|why| panic!("{name}: {why}"));
            variables.insert(name.clone(), value.json().unwrap());
        }
        Some(variables)
    }
}

fn actual(exported: &Exported, policies: &[Compiled], pod: &Pod) -> Actual {
    let mut images = pod.images.clone();
    let mut fails = false;
    let mut secrets = Vec::new();
    for policy in policies {
        let Some(variables) = policy.evaluate(pod, &images) else {
            continue;
        };
        if policy.mutates {
            for swap in variables["swaps"].as_array().unwrap() {
                for it in &mut images {
                    if swap["list"] == json!(it.0) && swap["name"] == json!(it.1) {
                        swap["now"].as_str().unwrap().clone_into(&mut it.2);
                    }
                }
            }
        } else {
            fails |= !variables["refused"].as_array().unwrap().is_empty();
        }
    }
    // The change of a Pod is an expression of Kubernetes' own types, which only Kubernetes
    // evaluates.
    secrets.extend(crate::expected::expected(&exported.case.without_exceptions, pod).secrets);
    Actual {
        images: images.into_iter().map(|it| it.2).collect(),
        fails,
        secrets,
    }
}

fn parse(text: &str) -> Expression {
    let parser = Parser::new().enable_optional_syntax(true);
    parser
        .parse(text)
        .unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// CEL with the functions of Kubernetes that the expressions use.
fn context() -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::new(environment()));
    context.add_function("find", find).unwrap();
    context
}

fn environment() -> cel::Env {
    let mut env = cel::Env::stdlib().with_optional_support(true);
    cel::extensions::strings(&mut env).unwrap();
    env
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the interpreter's functions take values"
)]
fn find(This(text): This<Arc<String>>, expression: Arc<String>) -> Result<Value, ExecutionError> {
    let regex = regex::Regex::new(&expression)
        .map_err(|why| ExecutionError::function_error("find", why))?;
    Ok(Value::from(regex.find(&text).map_or("", |it| it.as_str())))
}
