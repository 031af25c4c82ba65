//! Expressions in CEL, as Kubernetes and Kyverno evaluate them.
//!
//! The `cel` crate parses. Evaluation is here, because an importer has to know when an expression reads something that
//! only a cluster knows: a field that is not known stops the evaluation, and is never taken for one that is absent.

mod evaluate;
mod functions;
mod patch;
mod pod;
mod rule;
mod scope;
mod value;

pub(crate) use evaluate::variables;
pub(crate) use pod::Subject;
pub(crate) use rule::{Environment, Failure, Patch, Rule};
pub(crate) use value::Value;

use crate::intent::Vocabulary;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};
use cel::parser::Parser;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Longer expressions are refused.
const MAX_LENGTH: usize = 16 * 1024;
/// Brackets within brackets. The parser takes a dozen calls for each.
const MAX_BRACKETS: usize = 32;
/// Operators, fields and calls within each other. The parser, and all that goes through its tree, is recursive.
const MAX_DEPTH: usize = 120;

/// A parsed expression.
#[derive(Debug)]
pub(crate) struct Program {
    root: IdedExpr,
    source: SourceInfo,
}

impl Program {
    /// Parses an expression.
    ///
    /// # Errors
    /// It is too long or nested too deeply, or it is not CEL.
    fn parse(text: &str) -> Result<Rc<Self>, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("an expression is longer than {MAX_LENGTH} bytes"));
        }
        if !is_shallow(text) {
            return Err("an expression is nested too deeply".to_owned());
        }
        let parser = Parser::new()
            .enable_optional_syntax(true)
            .enable_ident_escape_syntax(true);
        match parser.parse_with_source_info(text) {
            Ok((root, source)) => Ok(Rc::new(Self { root, source })),
            Err(errors) => {
                let place = errors.errors.first().map_or((1, 1), |it| it.pos);
                Err(format!(
                    "its expression is not CEL (line {}, column {} of the expression)",
                    place.0.max(1),
                    place.1.max(1)
                ))
            }
        }
    }

    /// Where a part of the expression is, for messages.
    fn place(&self, id: u64) -> String {
        let Some((start, _)) = self.source.offset_for(id) else {
            return String::new();
        };
        let before: String = self
            .source
            .source
            .chars()
            .take(usize::try_from(start).unwrap_or(0))
            .collect();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |it| it.chars().count())
            + 1;
        format!(" (line {line}, column {column} of the expression)")
    }

    /// Adds all texts that are written in the expression.
    fn texts(&self, into: &mut Vocabulary) {
        visit(&self.root, &mut |it| texts(it, into));
    }

    /// Adds all numbers that are written in the expression.
    fn numbers(&self, into: &mut BTreeSet<i64>) {
        visit(&self.root, &mut |it| {
            if let Expr::Literal(LiteralValue::Int(number)) = &it.expr {
                into.insert(*number.inner());
            }
        });
    }
}

/// Whether the tree of an expression is not too deep, judged by its characters.
fn is_shallow(text: &str) -> bool {
    let mut rest = text;
    // Operators so far, for each open bracket. A comma or `&&` begins anew.
    let mut open = vec![0_usize];
    let mut before = ' ';
    while let Some(it) = rest.chars().next() {
        match it {
            '"' | '\'' => {
                rest = after_text(rest, it, matches!(before, 'r' | 'R'));
                before = it;
                continue;
            }
            '/' if rest.starts_with("//") => {
                rest = rest.split_once('\n').map_or("", |it| it.1);
                continue;
            }
            '(' | '[' | '{' => open.push(1),
            ')' | ']' | '}' if open.len() > 1 => {
                open.pop();
                if let Some(count) = open.last_mut() {
                    *count += 1;
                }
            }
            ',' | '&' | '|' => {
                if let Some(count) = open.last_mut() {
                    *count = 0;
                }
            }
            '.' | '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '?' | ':' => {
                if let Some(count) = open.last_mut() {
                    *count += 1;
                }
            }
            _ => {}
        }
        if open.len() > MAX_BRACKETS || open.iter().sum::<usize>() > MAX_DEPTH {
            return false;
        }
        before = it;
        rest = rest.get(it.len_utf8()..).unwrap_or_default();
    }
    // `a in b in c`
    text.matches("in").count() < 8 * MAX_DEPTH && open.iter().sum::<usize>() <= MAX_DEPTH
}

/// What follows a text in quotes.
fn after_text(text: &str, quote: char, raw: bool) -> &str {
    let triple = quote.to_string().repeat(3);
    let end = if text.starts_with(&triple) {
        triple
    } else {
        quote.to_string()
    };
    let mut rest = &text[end.len()..];
    while !rest.is_empty() && !rest.starts_with(&end) {
        let mut chars = rest.chars();
        if chars.next() == Some('\\') && !raw {
            chars.next();
        }
        rest = chars.as_str();
    }
    rest.get(end.len()..).unwrap_or_default()
}

/// Adds the texts that a part of an expression writes.
fn texts(expr: &IdedExpr, into: &mut Vocabulary) {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => into.texts.push(text.inner().to_owned()),
        Expr::Call(call) => {
            if let ("matches" | "find" | "findAll", Some(pattern)) =
                (call.func_name.as_str(), call.args.last().and_then(text))
            {
                into.templates.push((pattern.to_owned(), String::new()));
            }
        }
        _ => {}
    }
}

/// Visits an expression and all of its parts.
fn visit(expr: &IdedExpr, visitor: &mut dyn FnMut(&IdedExpr)) {
    visitor(expr);
    let mut all = |parts: &[&IdedExpr]| parts.iter().for_each(|it| visit(it, visitor));
    match &expr.expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|it| all(&[it]));
            call.args.iter().for_each(|it| all(&[it]));
        }
        Expr::List(list) => list.elements.iter().for_each(|it| all(&[it])),
        Expr::Select(select) => all(&[&select.operand]),
        Expr::Comprehension(it) => {
            all(&[&it.iter_range, &it.accu_init, &it.loop_step, &it.result]);
        }
        Expr::Map(map) => map.entries.iter().for_each(|it| all(&entry(&it.expr))),
        Expr::Struct(made) => made.entries.iter().for_each(|it| all(&entry(&it.expr))),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(it) => vec![&it.value],
        EntryExpr::MapEntry(it) => vec![&it.key, &it.value],
    }
}

/// A literal text.
fn text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}
