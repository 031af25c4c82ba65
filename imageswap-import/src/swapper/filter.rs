//! Filters in JMESPath: on the Pod, where they become a scope, or on the image.

use super::Wrong;
use super::fields::Fields;
use crate::fields::object;
use crate::kyverno::jmespath::{Comparison, Expr, parse};
use crate::scope::{Formula, Literal, Pod};
use imageswap_policy::document::{Operator, Requirement};
use imageswap_policy::yaml::Node;
use serde_json::{Map, Value};

/// Functions of JMESPath itself that are evaluated; the program has no others.
const FUNCTIONS: [&str; 8] = [
    "starts_with",
    "ends_with",
    "contains",
    "join",
    "to_string",
    "length",
    "keys",
    "not_null",
];

/// A condition under which images stay.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    /// On the Pod alone.
    Pods(Formula),
    /// On the image alone.
    Images(Expr),
}

impl Filter {
    /// Reads a filter: parts of an `||` are filters of their own.
    pub(super) fn read(node: &Node, source: &str) -> Result<Vec<Self>, Wrong> {
        let fields = Fields(node);
        fields.only(&["jmespath"])?;
        let Some(text) = fields.text("jmespath", source)? else {
            return Err((node.span, "a filter has no `jmespath`".to_owned()));
        };
        let wrong = |why: String| (text.span, format!("the filter `{}`: {why}", text.text));
        let expression = simplified(parse(&text.text).map_err(wrong)?);
        let mut parts = Vec::new();
        alternatives(expression, &mut parts);
        parts
            .into_iter()
            .map(|it| Self::of(it).map_err(wrong))
            .collect()
    }

    fn of(expression: Expr) -> Result<Self, String> {
        functions(&expression)?;
        let roots = expression.roots();
        let is = |it: &Vec<String>, path: &[&str]| {
            it.iter().map(String::as_str).eq(path.iter().copied())
        };
        let image = |it: &Vec<String>| is(it, &["container", "image"]);
        let pod = |it: &Vec<String>| {
            is(it, &["obj", "metadata", "namespace"])
                || it.len() == 4 && is(&it[..3].to_vec(), &["obj", "metadata", "labels"])
        };
        if let Some(other) = roots.iter().find(|it| !image(it) && !pod(it)) {
            return Err(format!(
                "`{}` is not something that a policy here can select by",
                other.join(".")
            ));
        }
        match (roots.iter().any(image), roots.iter().any(pod)) {
            (true, true) => {
                Err("it asks for the Pod and the image together; write two filters".to_owned())
            }
            (true, false) => Ok(Self::Images(expression)),
            (false, _) => formula(&expression).map(Self::Pods),
        }
    }
}

/// Whether one of the filters matches an image.
pub(super) fn any(filters: &[Expr], image: &str) -> Result<bool, String> {
    let root = object([("container", object([("image", image.into())]))]);
    for it in filters {
        // The program ignores results that are neither true nor false.
        if it.of_json(&root)? == Value::Bool(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The same with lists that are not read from the root.
fn simplified(expression: Expr) -> Expr {
    let boxed = |it: Box<Expr>| Box::new(simplified(*it));
    match expression {
        Expr::Sub(left, right) if *left == Expr::Current && matches!(*right, Expr::List(_)) => {
            *right
        }
        Expr::Call(name, arguments) => {
            Expr::Call(name, arguments.into_iter().map(simplified).collect())
        }
        Expr::Not(inner) => Expr::Not(boxed(inner)),
        Expr::And(left, right) => Expr::And(boxed(left), boxed(right)),
        Expr::Or(left, right) => Expr::Or(boxed(left), boxed(right)),
        Expr::Compare(left, by, right) => Expr::Compare(boxed(left), by, boxed(right)),
        other => other,
    }
}

fn alternatives(expression: Expr, into: &mut Vec<Expr>) {
    match expression {
        Expr::Or(left, right) => {
            alternatives(*left, into);
            alternatives(*right, into);
        }
        other => into.push(other),
    }
}

/// Refuses functions that the program does not have, and parts without a fixed type.
fn functions(expression: &Expr) -> Result<(), String> {
    match expression {
        Expr::Call(name, arguments) => {
            if !FUNCTIONS.contains(&name.as_str()) {
                return Err(format!("the function `{name}` is not understood"));
            }
            arguments.iter().try_for_each(functions)
        }
        Expr::Current | Expr::Field(_) | Expr::Literal(_) => Ok(()),
        Expr::Sub(left, right)
        | Expr::Or(left, right)
        | Expr::And(left, right)
        | Expr::Compare(left, _, right) => {
            functions(left)?;
            functions(right)
        }
        Expr::Not(inner) => functions(inner),
        Expr::List(items) => items.iter().try_for_each(functions),
        Expr::Pipe(..)
        | Expr::Index(..)
        | Expr::Project(..)
        | Expr::Values(..)
        | Expr::Flatten(_)
        | Expr::Filter(..) => {
            Err("only fields, comparisons and functions on texts are understood".to_owned())
        }
    }
}

/// The Pods for which an expression is true; compared with the expression itself.
fn formula(expression: &Expr) -> Result<Formula, String> {
    let formula = translate(expression)?;
    for (pod, expected) in formula.judged()? {
        match expression.of_json(&root(&pod)) {
            Ok(Value::Bool(it)) if it == expected => {}
            Ok(Value::Bool(_)) => return Err("it is not understood".to_owned()),
            Ok(_) => return Err("it is not true or false for every Pod".to_owned()),
            Err(why) => return Err(format!("it fails for some Pods ({why})")),
        }
    }
    Ok(formula)
}

/// A Pod as the program presents it.
fn root(pod: &Pod) -> Value {
    let mut metadata = Map::new();
    metadata.insert("namespace".to_owned(), pod.namespace.as_str().into());
    if !pod.labels.is_empty() {
        let labels = pod
            .labels
            .iter()
            .map(|it| (it.0.clone(), it.1.as_str().into()));
        metadata.insert("labels".to_owned(), labels.collect::<Map<_, _>>().into());
    }
    object([("obj", object([("metadata", metadata.into())]))])
}

/// What a text of the Pod is.
enum Subject {
    Namespace,
    Label(String),
}

fn subject(expression: &Expr) -> Option<Subject> {
    let path = match expression.roots().as_slice() {
        [one] if matches!(expression, Expr::Sub(..)) => one.clone(),
        _ => return None,
    };
    match path
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["obj", "metadata", "namespace"] => Some(Subject::Namespace),
        ["obj", "metadata", "labels", key] => Some(Subject::Label((*key).to_owned())),
        _ => None,
    }
}

fn translate(expression: &Expr) -> Result<Formula, String> {
    let not_understood = || "it is not a condition that a policy here can select by".to_owned();
    Ok(match expression {
        Expr::Literal(Value::Bool(true)) => Formula::always(),
        Expr::Literal(Value::Bool(false)) => Formula::never(),
        Expr::Not(inner) => translate(inner)?.not(),
        Expr::And(left, right) => Formula::All(vec![translate(left)?, translate(right)?]),
        Expr::Or(left, right) => Formula::Any(vec![translate(left)?, translate(right)?]),
        Expr::Compare(left, by @ (Comparison::Equal | Comparison::NotEqual), right) => {
            let ((Some(subject), Expr::Literal(literal), _, _)
            | (_, _, Some(subject), Expr::Literal(literal))) =
                (subject(left), &**right, subject(right), &**left)
            else {
                return Err(not_understood());
            };
            let equal = match (subject, literal) {
                (Subject::Namespace, Value::String(name)) => {
                    Formula::Is(Literal::InNamespaces(vec![plain(name)?]))
                }
                (Subject::Label(key), Value::String(value)) => {
                    label(key, Operator::In, Some(value))
                }
                (Subject::Label(key), Value::Null) => label(key, Operator::DoesNotExist, None),
                _ => return Err(not_understood()),
            };
            if *by == Comparison::Equal {
                equal
            } else {
                equal.not()
            }
        }
        Expr::Call(name, arguments) => match (name.as_str(), arguments.as_slice()) {
            ("contains", [Expr::List(items), one]) => {
                let each = items.iter().map(|it| {
                    let compare = Expr::Compare(
                        Box::new(one.clone()),
                        Comparison::Equal,
                        Box::new(it.clone()),
                    );
                    translate(&compare)
                });
                Formula::Any(each.collect::<Result<_, _>>()?)
            }
            (function, [text, Expr::Literal(Value::String(part))]) => {
                let Some(Subject::Namespace) = subject(text) else {
                    return Err(not_understood());
                };
                let part = plain(part)?;
                let pattern = match function {
                    "starts_with" => format!("{part}*"),
                    "ends_with" => format!("*{part}"),
                    "contains" => format!("*{part}*"),
                    _ => return Err(not_understood()),
                };
                Formula::Is(Literal::InNamespaces(vec![pattern]))
            }
            _ => return Err(not_understood()),
        },
        _ => return Err(not_understood()),
    })
}

/// A part of a namespace's name.
fn plain(text: &str) -> Result<String, String> {
    let fits = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
    (!text.is_empty() && text.chars().all(fits))
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not a part of a namespace's name"))
}

fn label(key: String, operator: Operator, value: Option<&str>) -> Formula {
    Formula::Is(Literal::ObjectLabel(Requirement {
        key,
        operator,
        values: value.map(str::to_owned).into_iter().collect(),
    }))
}
