//! The evaluator: CEL's rules, and a stop where something is not known.

use super::functions::call;
use super::value::{Stop, Value};
use super::{Program, text};
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, operators,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Steps of one evaluation. A rule with fifty registries and two containers takes about a thousand.
const MAX_STEPS: usize = 20_000;
/// Nesting of expressions, variables included, so that no expression exhausts the stack.
const MAX_DEPTH: usize = 200;

/// Named expressions, each of which sees those before it.
pub(crate) type Variables = Rc<Vec<(String, Rc<Program>)>>;

/// The names that an expression can read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Root {
    pub(crate) names: BTreeMap<String, Value>,
    pub(crate) variables: Variables,
}

/// Makes variables of names and texts.
pub(crate) fn variables(
    texts: impl Iterator<Item = (String, String)>,
) -> Result<Variables, String> {
    let parsed = texts.map(|(name, text)| match Program::parse(&text) {
        Ok(program) => Ok((name, program)),
        Err(why) => Err(format!("variable `{name}`: {why}")),
    });
    Ok(Rc::new(parsed.collect::<Result<_, _>>()?))
}

/// One evaluation.
pub(crate) struct Evaluation<'a> {
    root: &'a Root,
    locals: Vec<(String, Result<Value, Stop>)>,
    /// How many variables are visible.
    visible: usize,
    depth: usize,
    steps: Cell<usize>,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self {
            root,
            locals: Vec::new(),
            visible: root.variables.len(),
            depth: 0,
            steps: Cell::new(MAX_STEPS),
        }
    }

    /// The same with a further name.
    pub(super) fn with(mut self, locals: &[(String, Value)]) -> Self {
        let locals = locals.iter().cloned().map(|(name, it)| (name, Ok(it)));
        self.locals.extend(locals);
        self
    }

    /// The value of an expression.
    pub(crate) fn evaluate(&mut self, program: &Program, expr: &IdedExpr) -> Result<Value, Stop> {
        if self.steps.get() == 0 || self.depth >= MAX_DEPTH {
            return Err(Stop::Unknown("it takes too many steps".to_owned()));
        }
        self.steps.set(self.steps.get() - 1);
        self.depth += 1;
        let value = self.value(program, expr);
        self.depth -= 1;
        value
    }

    fn value(&mut self, program: &Program, expr: &IdedExpr) -> Result<Value, Stop> {
        match &expr.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(it) => Ok(Value::Bool(*it.inner())),
                LiteralValue::Int(it) => Ok(Value::Int(*it.inner())),
                LiteralValue::String(it) => Ok(Value::text(it.inner())),
                LiteralValue::Null => Ok(Value::Null),
                _ => Err(unknown(program, expr, "a number or bytes")),
            },
            Expr::Ident(name) => self.name(name.trim_start_matches('.'), program, expr),
            Expr::Select(select) => {
                if let (Expr::Ident(name), false) = (&select.operand.expr, select.test)
                    && name == "variables"
                {
                    return self.variable(&select.field);
                }
                let operand = self.evaluate(program, &select.operand)?;
                if select.test {
                    if let Value::Optional(_) = operand {
                        return Err(unknown(program, expr, "`has` of an optional"));
                    }
                    return Ok(Value::Bool(operand.get(&select.field)?.is_some()));
                }
                member(&operand, &select.field)
            }
            Expr::List(list) => {
                let mut items = Vec::new();
                for (at, it) in list.elements.iter().enumerate() {
                    let value = self.evaluate(program, it)?;
                    if !list.optional_indices.contains(&at) {
                        items.push(value);
                    } else if let Value::Optional(value) = value {
                        items.extend(value.map(|it| *it));
                    }
                }
                Ok(Value::list(items))
            }
            Expr::Map(map) => Ok(Value::Map(Rc::new(self.entries(program, &map.entries)?))),
            Expr::Struct(made) => Ok(Value::Struct(
                made.type_name.trim_start_matches('.').to_owned(),
                Rc::new(self.entries(program, &made.entries)?),
            )),
            Expr::Comprehension(it) => self.comprehension(program, it),
            Expr::Call(it) => self.call(program, expr, it),
            Expr::Unspecified => Err(unknown(program, expr, "a part of the expression")),
        }
    }

    fn name(&self, name: &str, program: &Program, expr: &IdedExpr) -> Result<Value, Stop> {
        if let Some((_, value)) = self.locals.iter().rev().find(|it| it.0 == name) {
            return value.clone();
        }
        match self.root.names.get(name) {
            Some(value) => Ok(value.clone()),
            None => Err(Stop::Unknown(format!(
                "`{name}` is known in a cluster only{}",
                program.place(expr.id)
            ))),
        }
    }

    /// A variable sees only the variables before it.
    fn variable(&mut self, name: &str) -> Result<Value, Stop> {
        let variables = Rc::clone(&self.root.variables);
        let visible = &variables[..self.visible];
        let Some(at) = visible.iter().rposition(|it| it.0 == name) else {
            return Err(Stop::Unknown(format!(
                "the variable `{name}` is not defined"
            )));
        };
        let locals = std::mem::take(&mut self.locals);
        let before = std::mem::replace(&mut self.visible, at);
        let program = &variables[at].1;
        let value = self.evaluate(program, &program.root);
        self.locals = locals;
        self.visible = before;
        value
    }

    fn entries(
        &mut self,
        program: &Program,
        entries: &[IdedEntryExpr],
    ) -> Result<BTreeMap<String, Value>, Stop> {
        let mut fields = BTreeMap::new();
        for entry in entries {
            let (key, value, optional) = match &entry.expr {
                EntryExpr::StructField(it) => (it.field.clone(), &it.value, it.optional),
                EntryExpr::MapEntry(it) => match self.evaluate(program, &it.key)? {
                    Value::Text(key) => (key, &it.value, it.optional),
                    _ => return Err(unknown(program, &it.key, "a key that is not a text")),
                },
            };
            match (self.evaluate(program, value)?, optional) {
                (Value::Optional(value), true) => {
                    if let Some(value) = value {
                        fields.insert(key, *value);
                    }
                }
                (_, true) => {
                    return Err(Stop::Error(
                        "an optional entry without an optional".to_owned(),
                    ));
                }
                (value, false) => {
                    fields.insert(key, value);
                }
            }
        }
        Ok(fields)
    }

    fn comprehension(&mut self, program: &Program, it: &ComprehensionExpr) -> Result<Value, Stop> {
        let items = match self.evaluate(program, &it.iter_range)? {
            Value::List(items) => items.to_vec(),
            Value::Map(map) => map.keys().map(|it| Value::text(it)).collect(),
            Value::Object(_) => {
                return Err(unknown(program, &it.iter_range, "a list that is not known"));
            }
            _ => return Err(Stop::Error("something that is not a list".to_owned())),
        };
        if it.iter_var2.is_some() {
            return Err(unknown(program, &it.iter_range, "a second loop variable"));
        }
        let depth = self.locals.len();
        let mut accumulated = self.evaluate(program, &it.accu_init);
        for item in items {
            self.locals.push((it.accu_var.clone(), accumulated));
            self.locals.push((it.iter_var.clone(), Ok(item)));
            let go_on = self.evaluate(program, &it.loop_cond);
            let step = match &go_on {
                Ok(Value::Bool(true)) => Some(self.evaluate(program, &it.loop_step)),
                _ => None,
            };
            accumulated = match self.locals.drain(depth..).next() {
                Some((_, old)) => step.clone().unwrap_or(old),
                None => Ok(Value::Null),
            };
            if step.is_none() {
                go_on?;
                break;
            }
        }
        self.locals.push((it.accu_var.clone(), accumulated));
        let result = self.evaluate(program, &it.result);
        self.locals.truncate(depth);
        result
    }

    fn call(&mut self, program: &Program, expr: &IdedExpr, it: &CallExpr) -> Result<Value, Stop> {
        let args = it.args.as_slice();
        let name = it.func_name.as_str();
        if name.starts_with("verify") {
            return Err(Stop::Unknown(format!(
                "`{name}` checks signatures or attestations, which no policy here does{}",
                program.place(expr.id)
            )));
        }
        match (name, args) {
            (operators::LOGICAL_AND, [a, b]) => return self.logical(program, a, b, false),
            (operators::LOGICAL_OR, [a, b]) => return self.logical(program, a, b, true),
            (operators::CONDITIONAL, [condition, a, b]) => {
                return match self.evaluate(program, condition)? {
                    Value::Bool(true) => self.evaluate(program, a),
                    Value::Bool(false) => self.evaluate(program, b),
                    _ => Err(Stop::Error(
                        "a condition that is not a truth value".to_owned(),
                    )),
                };
            }
            (operators::NOT_STRICTLY_FALSE, [it]) => {
                let value = self.evaluate(program, it);
                return Ok(Value::Bool(value != Ok(Value::Bool(false))));
            }
            (operators::OPT_SELECT, [operand, field]) => {
                let operand = self.evaluate(program, operand)?;
                let field = text(field).ok_or_else(|| unknown(program, expr, "a field"))?;
                return optional_member(&operand, &Value::text(field));
            }
            _ => {}
        }
        if let Some(target) = it.target.as_deref() {
            if let Expr::Ident(namespace) = &target.expr
                && let Some(value) = self.in_namespace(program, namespace, name, args)
            {
                return value;
            }
            let target = self.evaluate(program, target)?;
            return self.method(program, expr, target, name, args);
        }
        let mut values = Vec::new();
        for it in args {
            values.push(self.evaluate(program, it)?);
        }
        match (name, values.as_slice()) {
            (operators::INDEX, [Value::Optional(_), key]) | (operators::OPT_INDEX, [_, key]) => {
                optional_member(&values[0], key)
            }
            (operators::INDEX, [operand, Value::Text(key)]) => member(operand, key),
            _ => call(name, &values).map_err(|it| placed(it, program, expr)),
        }
    }

    /// Functions whose names have two parts; `None` if it is not one of them.
    fn in_namespace(
        &mut self,
        program: &Program,
        namespace: &str,
        name: &str,
        args: &[IdedExpr],
    ) -> Option<Result<Value, Stop>> {
        match (namespace, name, args) {
            ("optional", "none", []) => Some(Ok(Value::Optional(None))),
            ("optional", "of", [it]) => {
                let value = self.evaluate(program, it);
                Some(value.map(|it| Value::Optional(Some(Box::new(it)))))
            }
            _ => None,
        }
    }

    fn method(
        &mut self,
        program: &Program,
        expr: &IdedExpr,
        target: Value,
        name: &str,
        args: &[IdedExpr],
    ) -> Result<Value, Stop> {
        match (&target, name, args) {
            (Value::Optional(value), "hasValue", []) => Ok(Value::Bool(value.is_some())),
            (Value::Optional(Some(value)), "orValue" | "value", _) => Ok((**value).clone()),
            (Value::Optional(Some(_)), "or", [_])
            | (Value::Optional(None), "optMap" | "optFlatMap", [_, _]) => Ok(target),
            (Value::Optional(None), "orValue" | "or", [other]) => self.evaluate(program, other),
            (Value::Optional(None), "value", []) => {
                Err(Stop::Error("an optional that is empty".to_owned()))
            }
            (Value::Optional(Some(value)), "optMap" | "optFlatMap", [variable, body]) => {
                let Expr::Ident(variable) = &variable.expr else {
                    return Err(unknown(program, expr, "a loop variable"));
                };
                self.locals.push((variable.clone(), Ok((**value).clone())));
                let result = self.evaluate(program, body);
                self.locals.pop();
                let result = result?;
                Ok(if name == "optMap" {
                    Value::Optional(Some(Box::new(result)))
                } else {
                    result
                })
            }
            _ => {
                let mut values = vec![target];
                for it in args {
                    values.push(self.evaluate(program, it)?);
                }
                call(name, &values).map_err(|it| placed(it, program, expr))
            }
        }
    }

    /// If one side of `&&` or `||` decides, a failure of the other side is ignored.
    fn logical(
        &mut self,
        program: &Program,
        a: &IdedExpr,
        b: &IdedExpr,
        deciding: bool,
    ) -> Result<Value, Stop> {
        let decides = |it: &Result<Value, Stop>| *it == Ok(Value::Bool(deciding));
        let first = self.evaluate(program, a);
        if decides(&first) {
            return first;
        }
        let second = self.evaluate(program, b);
        if decides(&second) {
            return second;
        }
        for it in [&first, &second] {
            if let Err(Stop::Unknown(_)) = it {
                return it.clone();
            }
        }
        match (first?, second?) {
            (Value::Bool(_), Value::Bool(_)) => Ok(Value::Bool(!deciding)),
            _ => Err(Stop::Error(
                "a condition that is not a truth value".to_owned(),
            )),
        }
    }
}

fn unknown(program: &Program, expr: &IdedExpr, what: &str) -> Stop {
    Stop::Unknown(format!(
        "{what} is not understood{}",
        program.place(expr.id)
    ))
}

fn placed(stop: Stop, program: &Program, expr: &IdedExpr) -> Stop {
    match stop {
        Stop::Unknown(why) if !why.contains(" of the expression)") => {
            Stop::Unknown(format!("{why}{}", program.place(expr.id)))
        }
        other => other,
    }
}

/// A field that has to be there. What is selected from an optional is one.
fn member(operand: &Value, field: &str) -> Result<Value, Stop> {
    if let Value::Optional(_) = operand {
        return optional_member(operand, &Value::text(field));
    }
    let found = operand.get(field)?;
    found.ok_or_else(|| Stop::Error(format!("no `{field}`")))
}

fn optional_member(operand: &Value, key: &Value) -> Result<Value, Stop> {
    let operand = match operand {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(it)) => it,
        other => other,
    };
    let found = match (operand, key) {
        (Value::List(items), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| items.get(at).cloned()),
        (_, Value::Text(field)) => operand.get(field)?,
        _ => return Err(Stop::Error("a key of another type".to_owned())),
    };
    Ok(Value::Optional(found.map(Box::new)))
}
