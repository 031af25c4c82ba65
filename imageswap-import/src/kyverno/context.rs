//! The data that Kyverno's expressions can read when a Pod with one container is admitted.

use super::{image, jmespath};
use crate::fields::object;
use crate::intent::{Lists, Vocabulary};
use imageswap_policy::yaml::Node;
use serde_json::{Map, Value, json};

/// A text with more expressions than these is refused.
const MAX_EXPRESSIONS: usize = 64;
/// Longer results are refused.
const MAX_LENGTH: usize = 16_384;

/// The variables of one rule, in the order in which they are defined.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables(Vec<(String, Variable)>);

#[derive(Debug, Clone)]
enum Variable {
    /// A value with templates in it.
    Value(Value),
    /// An expression, and its value if the result is null.
    Path(String, Option<Value>),
    /// Data of the image whose reference this template gives.
    Fetched(String),
    /// Data that only a cluster has.
    Unknown,
}

impl Variables {
    /// These variables and those of a `context` list.
    pub(super) fn with(&self, context: Option<&Node>) -> Self {
        let mut all = self.clone();
        for entry in context.map_or(&[][..], Node::items) {
            if let Some(name) = entry.get("name").and_then(Node::as_str) {
                all.0.push((name.to_owned(), variable(entry)));
            }
        }
        all
    }

    /// Adds the texts that are written in the variables.
    pub(super) fn texts(&self, into: &mut Vocabulary) {
        for (_, it) in &self.0 {
            match it {
                Variable::Value(value) => {
                    let mut texts = Vec::new();
                    jmespath::strings(value, &mut texts);
                    for it in &texts {
                        template_texts(it, into);
                    }
                }
                Variable::Path(path, default) => {
                    template_texts(&format!("{{{{{path}}}}}"), into);
                    if let Some(default) = default {
                        jmespath::strings(default, &mut into.texts);
                    }
                }
                Variable::Fetched(_) | Variable::Unknown => {}
            }
        }
    }
}

fn variable(entry: &Node) -> Variable {
    let known = |node: &Node, keys: &[&str]| {
        node.entries()
            .iter()
            .all(|(key, _)| key.as_str().is_some_and(|it| keys.contains(&it)))
    };
    if let Some(fetched) = entry.get("imageRegistry") {
        return match fetched.get("reference").and_then(Node::as_str) {
            Some(reference) if known(fetched, &["reference", "imageRegistryCredentials"]) => {
                Variable::Fetched(reference.to_owned())
            }
            _ => Variable::Unknown,
        };
    }
    let Some(it) = entry
        .get("variable")
        .filter(|it| known(it, &["value", "jmesPath", "default"]))
    else {
        return Variable::Unknown;
    };
    match (it.get("value"), it.get("jmesPath").and_then(Node::as_str)) {
        (Some(value), None) => Variable::Value(value.to_json()),
        (None, Some(path)) => Variable::Path(path.to_owned(), it.get("default").map(Node::to_json)),
        _ => Variable::Unknown,
    }
}

/// The data for looking at one image.
#[derive(Debug, Clone)]
pub(super) struct Context {
    root: Value,
    /// Names that only a cluster knows.
    unknown: Vec<String>,
    /// Names of images' data, of which only some fields follow from the reference.
    fetched: Vec<String>,
    /// The value of `{{@}}` outside of `foreach`.
    current: Option<String>,
}

impl Context {
    /// A Pod with this image in one of the lists.
    pub(super) fn new(lists: Lists, text: &str) -> Self {
        let list = match lists {
            Lists {
                containers: true, ..
            } => "containers",
            Lists { init: true, .. } => "initContainers",
            _ => "ephemeralContainers",
        };
        let container = json!({"name": "c", "image": text});
        // This list is always there; its other images do not matter.
        let mut spec = json!({"containers": []});
        let mut images = json!({"containers": {}});
        spec[list] = json!([container]);
        images[list] = json!({"c": image::info(text)});
        let root = object([
            (
                "request",
                json!({"operation": "CREATE", "object": {"apiVersion": "v1", "kind": "Pod", "spec": spec}}),
            ),
            ("images", images),
        ]);
        Self {
            root,
            unknown: Vec::new(),
            fetched: Vec::new(),
            current: None,
        }
    }

    /// The same, where `{{@}}` is the image.
    pub(super) fn at_image(mut self, text: &str) -> Self {
        self.current = Some(text.to_owned());
        self
    }

    /// The elements of a `foreach` list.
    pub(super) fn elements(&self, list: &str) -> Result<Vec<Value>, String> {
        match self.expression(list)? {
            Value::Array(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            _ => Err(format!("`{list}` is not a list")),
        }
    }

    /// The same inside of a `foreach`.
    pub(super) fn with_element(&self, element: Value) -> Self {
        let mut inner = self.clone();
        inner.set("element", element.clone());
        inner.set("element0", element);
        inner.set("elementIndex", 0.into());
        inner.current = None;
        inner
    }

    /// The same with variables. A variable that cannot be evaluated is unknown.
    pub(super) fn with(&self, variables: &Variables) -> Self {
        let mut inner = self.clone();
        for (name, variable) in &variables.0 {
            let value = match variable {
                Variable::Value(value) => inner.value(value),
                Variable::Path(path, default) => {
                    match (inner.template(&format!("{{{{ {path} }}}}")), default) {
                        (Ok(Value::Null) | Err(_), Some(default)) => inner.value(default),
                        (value, _) => value,
                    }
                }
                Variable::Fetched(reference) => inner.text(reference).map(|it| image::fetched(&it)),
                Variable::Unknown => Err(String::new()),
            };
            inner.fetched.retain(|it| it != name);
            if let Variable::Fetched(_) = variable {
                inner.fetched.push(name.clone());
            }
            match value {
                Ok(value) => {
                    inner.unknown.retain(|it| it != name);
                    inner.set(name, value);
                }
                Err(_) => inner.unknown.push(name.clone()),
            }
        }
        inner
    }

    fn set(&mut self, name: &str, value: Value) {
        if let Value::Object(fields) = &mut self.root {
            fields.insert(name.to_owned(), value);
        }
    }

    /// A value with all templates filled in.
    pub(super) fn value(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => self.template(text)?,
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|it| self.value(it))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, it)| Ok((key.clone(), self.value(it)?)));
                Value::Object(fields.collect::<Result<Map<_, _>, String>>()?)
            }
            other => other.clone(),
        })
    }

    /// A template that gives a text.
    pub(super) fn text(&self, template: &str) -> Result<String, String> {
        match self.template(template)? {
            Value::String(text) => Ok(text),
            Value::Number(it) => Ok(it.to_string()),
            Value::Bool(it) => Ok(it.to_string()),
            Value::Null => Err(format!(
                "`{}` is not defined for every image",
                template.trim()
            )),
            _ => Err(format!("`{}` is not a text", template.trim())),
        }
    }

    /// A text with `{{ }}` in it; the innermost are evaluated first, and their results are part of the outer ones.
    pub(super) fn template(&self, template: &str) -> Result<Value, String> {
        let mut text = template.to_owned();
        for _ in 0..MAX_EXPRESSIONS {
            let Some(end) = text.find("}}") else {
                return Ok(Value::String(text));
            };
            let Some(begin) = text[..end].rfind("{{") else {
                return Ok(Value::String(text));
            };
            let value = self.expression(&text[begin + 2..end])?;
            if text[..begin].trim().is_empty() && text[end + 2..].trim().is_empty() {
                return Ok(value);
            }
            let value = match value {
                Value::String(it) => it,
                Value::Null => {
                    return Err(format!(
                        "`{}` is not defined for every image",
                        &text[begin + 2..end]
                    ));
                }
                other => other.to_string(),
            };
            text = format!("{}{value}{}", &text[..begin], &text[end + 2..]);
            if text.len() > MAX_LENGTH {
                return Err("an expression whose result is too long".to_owned());
            }
        }
        Err("a text with too many expressions".to_owned())
    }

    fn expression(&self, text: &str) -> Result<Value, String> {
        if let ("@", Some(image)) = (text.trim(), &self.current) {
            return Ok(Value::String(image.clone()));
        }
        let expr = jmespath::parse(text)?;
        for path in expr.roots() {
            let read: Vec<&str> = path.iter().map(String::as_str).collect();
            let known = match read.as_slice() {
                [first, ..] if self.unknown.iter().any(|it| it == first) => false,
                ["request", "object", "spec", ..] | ["request", "operation"] => true,
                ["request", ..] | [] => false,
                [first, rest @ ..] if self.fetched.iter().any(|it| it == first) => {
                    let field = rest.first().and_then(|it| self.root.get(first)?.get(it));
                    field.is_some_and(|it| !it.is_null())
                }
                [first, ..] => self.root.get(first).is_some(),
            };
            if !known {
                let shown = if read.is_empty() {
                    text.trim().to_owned()
                } else {
                    read.join(".")
                };
                return Err(format!("`{shown}` is known in a cluster only"));
            }
        }
        expr.evaluate(&self.root)
    }
}

/// Adds the texts within the expressions of a template, and around them.
pub(super) fn template_texts(template: &str, into: &mut Vocabulary) {
    let mut rest = template;
    while let Some(begin) = rest.find("{{") {
        into.texts.push(rest[..begin].to_owned());
        rest = &rest[begin + 2..];
        let end = rest.find("}}").unwrap_or(rest.len());
        expression_texts(&rest[..end], into);
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    into.texts.push(rest.to_owned());
    // Expressions with templates inside are parsed again, with a name in place of each template.
    let mut whole = template.to_owned();
    for _ in 0..MAX_EXPRESSIONS {
        let Some(end) = whole.find("}}") else { return };
        let Some(begin) = whole[..end].rfind("{{") else {
            return;
        };
        expression_texts(&whole[begin + 2..end], into);
        whole = format!("{}x{}", &whole[..begin], &whole[end + 2..]);
    }
}

fn expression_texts(text: &str, into: &mut Vocabulary) {
    let Ok(expr) = jmespath::parse(text) else {
        return;
    };
    let mut found = Vec::new();
    expr.texts(&mut found);
    replacements(&expr, into);
    into.texts.extend(found);
}

/// Regular expressions with what they are replaced by.
fn replacements(expr: &jmespath::Expr, into: &mut Vocabulary) {
    use jmespath::Expr;
    match expr {
        Expr::Call(name, arguments) => {
            if let (
                "regex_replace_all",
                [
                    Expr::Literal(Value::String(regex)),
                    _,
                    Expr::Literal(Value::String(to)),
                ],
            ) = (name.as_str(), arguments.as_slice())
            {
                into.templates.push((regex.clone(), to.clone()));
            }
            for it in arguments {
                replacements(it, into);
            }
        }
        Expr::Pipe(left, right) | Expr::Or(left, right) => {
            replacements(left, into);
            replacements(right, into);
        }
        _ => {}
    }
}

/// The lists of containers that a text names.
pub(super) fn lists_in(text: &str) -> Lists {
    let words: Vec<&str> = text
        .split(|it: char| !(it.is_ascii_alphanumeric() || it == '_'))
        .collect();
    Lists::named(&words)
}
