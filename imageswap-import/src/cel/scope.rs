//! Conditions on the Pod that a policy can select by: its namespace, and labels.

use super::evaluate::{Evaluation, Root};
use super::value::{Stop, Value};
use super::{Program, text};
use crate::scope::{Formula, Literal, Pod};
use cel::common::ast::{CallExpr, Expr, IdedExpr, operators};
use imageswap_policy::document::{Operator, Requirement};
use std::rc::Rc;

/// Variables within variables.
const MAX_DEPTH: usize = 24;

/// Translates conditions. Whatever the translation says is compared with the condition itself.
pub(crate) struct Scopes<'a> {
    /// What is known of every object.
    pub(crate) constant: &'a Root,
    /// What is known if the Pod is.
    pub(crate) of_pod: &'a dyn Fn(&Pod) -> Root,
    /// What a condition counts as beside the demand of which it is a part, if it fails.
    pub(crate) failing: Option<bool>,
}

/// A demand on images, and the Pods for which it holds.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) applies: Formula,
    /// One of these has to be true.
    pub(crate) any: Vec<(Rc<Program>, IdedExpr)>,
}

/// A text that differs from Pod to Pod.
enum Subject {
    Namespace,
    Label {
        literal: fn(Requirement) -> Literal,
        key: String,
        /// What it is where the label is absent.
        default: Option<String>,
    },
    /// All labels.
    Labels(fn(Requirement) -> Literal),
}

type Locals = Vec<(String, Value)>;

impl Scopes<'_> {
    /// The Pods for which a condition is true.
    ///
    /// # Errors
    /// It is about something else, or it fails for some Pods and `failing` does not say what that means.
    pub(crate) fn formula(
        &self,
        program: &Program,
        expr: &IdedExpr,
        failing: Option<bool>,
    ) -> Result<Formula, String> {
        let formula = self.translate(program, expr, &Locals::new(), 0)?;
        for (pod, expected) in formula.judged()? {
            let root = (self.of_pod)(&pod);
            match Evaluation::new(&root).evaluate(program, expr) {
                Ok(Value::Bool(it)) if it == expected => {}
                Err(Stop::Error(_)) if failing == Some(expected) => {}
                Err(Stop::Unknown(why)) => return Err(why),
                Err(Stop::Error(why)) => {
                    return Err(format!("a condition fails for some Pods ({why})"));
                }
                Ok(_) => return Err("a condition is not understood".to_owned()),
            }
        }
        Ok(formula)
    }

    fn translate(
        &self,
        program: &Program,
        expr: &IdedExpr,
        locals: &Locals,
        depth: usize,
    ) -> Result<Formula, String> {
        if depth > MAX_DEPTH {
            return Err("its conditions are nested too deeply".to_owned());
        }
        if let Some(Value::Bool(it)) = self.value(program, expr, locals) {
            return Ok(if it {
                Formula::always()
            } else {
                Formula::never()
            });
        }
        let inner = |it: &IdedExpr| self.translate(program, it, locals, depth + 1);
        let not_understood = || {
            format!(
                "a condition is not one that a policy here can select by{}",
                program.place(expr.id)
            )
        };
        match &expr.expr {
            Expr::Select(select) if select.test => {
                match self.subject(program, &select.operand, locals) {
                    Some(Subject::Labels(literal)) => Ok(exists(literal, &select.field)),
                    // Beside a condition on one of the labels this one says nothing more.
                    None if self.path(program, &select.operand, locals).is_some() => {
                        Ok(Formula::always())
                    }
                    _ => Err(not_understood()),
                }
            }
            Expr::Select(select) => match self.variable(&select.operand, &select.field) {
                Some(program) => self.translate(&program, &program.root, &Locals::new(), depth + 1),
                None => Err(not_understood()),
            },
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::LOGICAL_NOT, [it]) => Ok(inner(it)?.not()),
                (operators::LOGICAL_AND, [a, b]) => Ok(Formula::All(vec![inner(a)?, inner(b)?])),
                (operators::LOGICAL_OR, [a, b]) => Ok(Formula::Any(vec![inner(a)?, inner(b)?])),
                (operators::CONDITIONAL, [condition, a, b]) => {
                    let condition = inner(condition)?;
                    Ok(Formula::Any(vec![
                        Formula::All(vec![condition.clone(), inner(a)?]),
                        Formula::All(vec![condition.not(), inner(b)?]),
                    ]))
                }
                _ => self
                    .comparison(program, call, locals)
                    .ok_or_else(not_understood),
            },
            // `exists` and `all` over texts.
            Expr::Comprehension(it) => {
                let items = self.value(program, &it.iter_range, locals);
                let (Some(Value::List(items)), Expr::Call(step)) = (items, &it.loop_step.expr)
                else {
                    return Err(not_understood());
                };
                let ([first, body], Expr::Ident(result)) = (step.args.as_slice(), &it.result.expr)
                else {
                    return Err(not_understood());
                };
                let accumulates =
                    |it: &IdedExpr, name: &str| matches!(&it.expr, Expr::Ident(own) if own == name);
                if *result != it.accu_var || !accumulates(first, &it.accu_var) {
                    return Err(not_understood());
                }
                let mut parts = Vec::new();
                for item in items.iter() {
                    let mut locals = locals.clone();
                    locals.push((it.iter_var.clone(), item.clone()));
                    parts.push(self.translate(program, body, &locals, depth + 1)?);
                }
                match step.func_name.as_str() {
                    operators::LOGICAL_OR => Ok(Formula::Any(parts)),
                    operators::LOGICAL_AND => Ok(Formula::All(parts)),
                    _ => Err(not_understood()),
                }
            }
            _ => Err(not_understood()),
        }
    }

    /// Compares something of the Pod with texts.
    fn comparison(&self, program: &Program, call: &CallExpr, locals: &Locals) -> Option<Formula> {
        let subject = |it: &IdedExpr| self.subject(program, it, locals);
        let value = |it: &IdedExpr| self.value(program, it, locals);
        let words = |it: &IdedExpr| -> Option<Vec<String>> {
            let items = match value(it)? {
                Value::List(items) => items.to_vec(),
                one => vec![one],
            };
            let texts = items.into_iter().map(|it| match it {
                Value::Text(it) => Some(it),
                _ => None,
            });
            texts.collect()
        };
        match (
            call.func_name.as_str(),
            call.target.as_deref(),
            call.args.as_slice(),
        ) {
            (operators::EQUALS | operators::NOT_EQUALS, None, [a, b]) => {
                let (subject, words) = match subject(a) {
                    Some(subject) => (subject, words(b)?),
                    None => (subject(b)?, words(a)?),
                };
                let equal = subject.among(words)?;
                Some(if call.func_name == operators::EQUALS {
                    equal
                } else {
                    equal.not()
                })
            }
            (operators::IN, None, [key, map]) => match subject(map) {
                Some(Subject::Labels(literal)) => match value(key)? {
                    Value::Text(key) => Some(exists(literal, &key)),
                    _ => None,
                },
                _ => subject(key)?.among(words(map)?),
            },
            ("hasValue", Some(target), []) => match subject(target)? {
                Subject::Label {
                    literal,
                    key,
                    default: None,
                } => Some(exists(literal, &key)),
                _ => None,
            },
            (function, Some(target), [argument]) => {
                let (Subject::Namespace, Value::Text(part)) = (subject(target)?, value(argument)?)
                else {
                    return None;
                };
                let pattern = match function {
                    "startsWith" => format!("{part}*"),
                    "endsWith" => format!("*{part}"),
                    "contains" => format!("*{part}*"),
                    "matches" => anchored(&part)?,
                    _ => return None,
                };
                let plain = part
                    .chars()
                    .all(|it| it.is_ascii_alphanumeric() || it == '-');
                (plain || function == "matches")
                    .then(|| Formula::Is(Literal::InNamespaces(vec![pattern])))
            }
            _ => None,
        }
    }

    /// The value of an expression that is the same for every Pod.
    fn value(&self, program: &Program, expr: &IdedExpr, locals: &Locals) -> Option<Value> {
        let mut evaluation = Evaluation::new(self.constant).with(locals);
        match evaluation.evaluate(program, expr) {
            Ok(Value::Object(_)) | Err(_) => None,
            Ok(value) => Some(value),
        }
    }

    fn variable(&self, operand: &IdedExpr, name: &str) -> Option<Rc<Program>> {
        let named = matches!(&operand.expr, Expr::Ident(it) if it == "variables");
        let variables = &self.constant.variables;
        let found = variables.iter().rfind(|it| named && it.0 == name)?;
        Some(Rc::clone(&found.1))
    }

    fn subject(&self, program: &Program, expr: &IdedExpr, locals: &Locals) -> Option<Subject> {
        let (path, default) = self.path(program, expr, locals)?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let label = |literal, key: &str| Subject::Label {
            literal,
            key: key.to_owned(),
            default: default.clone(),
        };
        Some(match path.as_slice() {
            ["object", "metadata", "namespace"]
            | ["request", "namespace"]
            | ["namespaceObject", "metadata", "name"]
            | [
                "namespaceObject",
                "metadata",
                "labels",
                "kubernetes.io/metadata.name",
            ] => Subject::Namespace,
            ["object", "metadata", "labels", key] => label(Literal::ObjectLabel, key),
            ["namespaceObject", "metadata", "labels", key] => label(Literal::NamespaceLabel, key),
            ["object", "metadata", "labels"] => Subject::Labels(Literal::ObjectLabel),
            ["namespaceObject", "metadata", "labels"] => Subject::Labels(Literal::NamespaceLabel),
            _ => return None,
        })
    }

    /// Names of the fields that hold a value, and what it is if the last is absent.
    fn path(
        &self,
        program: &Program,
        expr: &IdedExpr,
        locals: &Locals,
    ) -> Option<(Vec<String>, Option<String>)> {
        let longer = |operand: &IdedExpr, field: String| {
            let (mut path, default) = self.path(program, operand, locals)?;
            path.push(field);
            default.is_none().then_some((path, None))
        };
        match &expr.expr {
            Expr::Ident(name)
                if matches!(name.as_str(), "object" | "request" | "namespaceObject") =>
            {
                Some((vec![name.clone()], None))
            }
            Expr::Select(select) if !select.test => {
                match self.variable(&select.operand, &select.field) {
                    Some(program) => self.path(&program, &program.root, &Locals::new()),
                    None => longer(&select.operand, select.field.clone()),
                }
            }
            Expr::Call(call) => match (
                call.func_name.as_str(),
                call.target.as_deref(),
                call.args.as_slice(),
            ) {
                (operators::OPT_SELECT, None, [operand, field]) => {
                    longer(operand, text(field)?.to_owned())
                }
                (operators::INDEX | operators::OPT_INDEX, None, [operand, key]) => {
                    match self.value(program, key, locals)? {
                        Value::Text(key) => longer(operand, key),
                        _ => None,
                    }
                }
                ("orValue", Some(target), [default]) => {
                    let (path, _) = self.path(program, target, locals)?;
                    match self.value(program, default, locals)? {
                        Value::Text(it) => Some((path, Some(it))),
                        Value::Map(it) if it.is_empty() => Some((path, None)),
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes conditions on the Pod apart from demands on its images.
    pub(crate) fn parts(&self, program: &Rc<Program>, expr: &IdedExpr) -> Vec<Part> {
        let mut parts = Vec::new();
        self.split(program, expr, Formula::always(), 0, &mut parts);
        parts
    }

    fn split(
        &self,
        program: &Rc<Program>,
        expr: &IdedExpr,
        applies: Formula,
        depth: usize,
        into: &mut Vec<Part>,
    ) {
        let both = |more: Formula| Formula::All(vec![applies.clone(), more]);
        let whole = |applies: Formula| Part {
            applies,
            any: vec![(Rc::clone(program), expr.clone())],
        };
        if depth > MAX_DEPTH {
            return into.push(whole(applies));
        }
        match &expr.expr {
            Expr::Select(select) => {
                if let Some(program) = self.variable(&select.operand, &select.field) {
                    return self.split(&program, &program.root, applies, depth + 1, into);
                }
            }
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::LOGICAL_AND, [a, b]) => {
                    self.split(program, a, applies.clone(), depth + 1, into);
                    return self.split(program, b, applies, depth + 1, into);
                }
                (operators::CONDITIONAL, [condition, a, b]) => {
                    if let Ok(condition) = self.formula(program, condition, None) {
                        self.split(program, a, both(condition.clone()), depth + 1, into);
                        return self.split(program, b, both(condition.not()), depth + 1, into);
                    }
                }
                (operators::LOGICAL_OR, [a, b]) => {
                    // Either side may be the condition under which the other is demanded.
                    for (one, other) in [(a, b), (b, a)] {
                        if let Ok(condition) = self.formula(program, one, self.failing) {
                            return self.split(
                                program,
                                other,
                                both(condition.not()),
                                depth + 1,
                                into,
                            );
                        }
                    }
                }
                _ => {}
            },
            _ => {}
        }
        if self.value(program, expr, &Locals::new()) != Some(Value::Bool(true)) {
            into.push(whole(applies));
        }
    }
}

impl Subject {
    fn among(self, words: Vec<String>) -> Option<Formula> {
        match self {
            Self::Namespace => {
                let plain = words.iter().all(|it| !it.contains(['*', '?']));
                plain.then_some(Formula::Is(Literal::InNamespaces(words)))
            }
            Self::Label {
                literal,
                key,
                default,
            } => {
                let absent = default.is_some_and(|it| words.contains(&it));
                let requirement = |operator, values| {
                    Formula::Is(literal(Requirement {
                        key: key.clone(),
                        operator,
                        values,
                    }))
                };
                let present = requirement(Operator::In, words);
                Some(if absent {
                    Formula::Any(vec![
                        present,
                        requirement(Operator::DoesNotExist, Vec::new()),
                    ])
                } else {
                    present
                })
            }
            Self::Labels(_) => None,
        }
    }
}

fn exists(literal: fn(Requirement) -> Literal, key: &str) -> Formula {
    Formula::Is(literal(Requirement {
        key: key.to_owned(),
        operator: Operator::Exists,
        values: Vec::new(),
    }))
}

/// A wildcard for an expression that fixes the begin or the end of a name.
fn anchored(regex: &str) -> Option<String> {
    let begin = regex.strip_prefix('^');
    let end = begin.unwrap_or(regex).strip_suffix('$');
    let inner = end.or(begin).unwrap_or(regex);
    let inner = inner.trim_start_matches(".*");
    let (inner, open) = match inner.strip_suffix(".*") {
        Some(inner) => (inner, true),
        None => (inner, false),
    };
    let plain = |it: char| it.is_ascii_alphanumeric() || it == '-';
    if inner.is_empty() || !inner.chars().all(plain) {
        return None;
    }
    let starts = begin.is_some() && !regex.starts_with("^.*");
    let ends = end.is_some() && !open;
    Some(format!(
        "{}{inner}{}",
        if starts { "" } else { "*" },
        if ends { "" } else { "*" }
    ))
}
