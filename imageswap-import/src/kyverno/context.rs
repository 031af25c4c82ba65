//! The data that Kyverno's expressions can read when a Pod with one container is admitted.

use super::value::{NAME, Stop, Value};
use super::{image, jmespath};
use crate::intent::{LISTS, Lists, Vocabulary};
use imageswap_policy::yaml::Node;
use serde_json::Value as Json;
use std::collections::BTreeMap;

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
    Value(Json),
    /// An expression, and its value if the result is null.
    Path(String, Option<Json>),
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
    /// The value of `{{@}}` outside of `foreach`.
    current: Option<String>,
    /// Whether a list of the Pod's containers may be a condition's key.
    of_pod: bool,
}

/// The answer about an image, which has to be the same in each of these lists and for every
/// operation that brings images in.
pub(super) fn in_each<T: PartialEq>(
    lists: Lists,
    text: &str,
    answer: impl Fn(Context) -> Result<T, Stop>,
) -> Result<T, String> {
    let mut agreed = None;
    for list in lists.each() {
        let created = answer(Context::new(list, text, "CREATE"))?;
        let updated = answer(Context::new(list, text, "UPDATE"))?;
        if created != updated {
            return Err("it tells a CREATE from an UPDATE, which no policy here does".to_owned());
        }
        if *agreed.get_or_insert(created) != updated {
            return Err("it treats an image differently in the lists of containers".to_owned());
        }
    }
    agreed.ok_or_else(|| "it goes through no list of containers".to_owned())
}

impl Context {
    /// A Pod with this image in the list. What else it has is not known.
    fn new(list: Lists, text: &str, operation: &str) -> Self {
        let string = |it: &str| Value::String(it.to_owned());
        let here = LISTS.map(|name| list.includes(Lists::named(&[name])));
        let lists = |of: &dyn Fn(&str, bool) -> Value| -> BTreeMap<String, Value> {
            let each = LISTS.into_iter().zip(here);
            each.map(|(name, here)| (name.to_owned(), of(name, here)))
                .collect()
        };
        let container = Value::open(
            "container",
            [("name", string(NAME)), ("image", string(text))],
        );
        let spec =
            lists(&|_, here| Value::Partial(here.then(|| container.clone()).into_iter().collect()));
        // No two containers of a Pod have the same name.
        let images = lists(&|name, here| {
            let info = if here {
                (&image::info(text)).into()
            } else {
                Value::Null
            };
            Value::open(&format!("images.{name}"), [(NAME, info)])
        });
        let spec = Value::Open("request.object.spec".into(), spec);
        let object = Value::open("request.object", [("spec", spec)]);
        let request = [("operation", string(operation)), ("object", object)];
        Self {
            root: Value::open(
                "",
                [
                    ("request", Value::open("request", request)),
                    ("images", Value::Object(images)),
                ],
            ),
            current: None,
            of_pod: true,
        }
    }

    /// The same, where `{{@}}` is the image.
    pub(super) fn at_image(mut self, text: &str) -> Self {
        self.current = Some(text.to_owned());
        self
    }

    /// Whether a list of the Pod's containers may be a condition's key, which is then about each.
    pub(super) fn is_of_pod(&self) -> bool {
        self.of_pod
    }

    /// The elements of a `foreach` list.
    pub(super) fn elements(&self, list: &str) -> Result<Vec<Value>, Stop> {
        match self.expression(list)? {
            Value::Array(items) | Value::Partial(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            _ => Err(format!("`{list}` is not a list").into()),
        }
    }

    /// The same inside of a `foreach`.
    pub(super) fn with_element(&self, element: Value) -> Self {
        let mut inner = self.clone();
        inner.set("element", element.clone());
        inner.set("element0", element);
        inner.current = None;
        inner.of_pod = false;
        inner
    }

    /// The same with variables. A variable that cannot be evaluated is unknown.
    pub(super) fn with(&self, variables: &Variables) -> Self {
        let mut inner = self.clone();
        for (name, variable) in &variables.0 {
            let value = match variable {
                Variable::Value(value) => inner.value(value),
                // The default counts if the query gives nothing or fails, not if the value is not
                // known.
                Variable::Path(path, default) => {
                    match (inner.template(&format!("{{{{ {path} }}}}")), default) {
                        (Ok(Value::Null) | Err(Stop::Error(_)), Some(default)) => {
                            inner.value(default)
                        }
                        (value, _) => value,
                    }
                }
                Variable::Fetched(reference) => inner
                    .text(reference)
                    .map(|it| Value::Open(name.as_str().into(), image::fetched(&it))),
                Variable::Unknown => {
                    Err(format!("the variable `{name}` is known in a cluster only").into())
                }
            };
            let value = match value {
                // Kyverno fails then.
                Ok(Value::Null) => {
                    Value::Unknown(format!("`{name}` is not defined for every image").into())
                }
                Ok(value) => value,
                Err(why) => Value::Unknown(String::from(why).into()),
            };
            inner.set(name, value);
        }
        inner
    }

    fn set(&mut self, name: &str, value: Value) {
        if let Value::Open(_, fields) = &mut self.root {
            fields.insert(name.to_owned(), value);
        }
    }

    /// A value with all templates filled in.
    pub(super) fn value(&self, value: &Json) -> Result<Value, Stop> {
        Ok(match value {
            Json::String(text) => self.template(text)?,
            Json::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|it| self.value(it))
                    .collect::<Result<_, _>>()?,
            ),
            Json::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, it)| Ok((key.clone(), self.value(it)?)));
                Value::Object(fields.collect::<Result<_, Stop>>()?)
            }
            other => other.into(),
        })
    }

    /// A template that gives a text.
    pub(super) fn text(&self, template: &str) -> Result<String, Stop> {
        let undefined = || format!("`{}` is not defined for every image", template.trim());
        match self.template(template)?.whole()? {
            Json::String(text) => Ok(text),
            Json::Number(it) => Ok(it.to_string()),
            Json::Bool(it) => Ok(it.to_string()),
            Json::Null => Err(Stop::Error(undefined())),
            _ => Err(format!("`{}` is not a text", template.trim()).into()),
        }
    }

    /// A text with `{{ }}` in it; the innermost are evaluated first, and their results are part of the outer ones.
    pub(super) fn template(&self, template: &str) -> Result<Value, Stop> {
        let mut text = template.to_owned();
        for _ in 0..MAX_EXPRESSIONS {
            let Some(end) = text.find("}}") else {
                return Ok(Value::String(text));
            };
            let Some(begin) = text[..end].rfind("{{") else {
                return Ok(Value::String(text));
            };
            let inner = &text[begin + 2..end];
            let value = self.expression(inner)?;
            if text[..begin].trim().is_empty() && text[end + 2..].trim().is_empty() {
                return Ok(value);
            }
            let value = match value {
                // A container's name may be part of an expression, which then looks it up.
                Value::String(it) => it,
                Value::Null => {
                    let why = format!("`{inner}` is not defined for every image");
                    return Err(Stop::Error(why));
                }
                other => other.whole()?.to_string(),
            };
            text = format!("{}{value}{}", &text[..begin], &text[end + 2..]);
            if text.len() > MAX_LENGTH {
                return Err("an expression whose result is too long".into());
            }
        }
        Err("a text with too many expressions".into())
    }

    fn expression(&self, text: &str) -> Result<Value, Stop> {
        if let ("@", Some(image)) = (text.trim(), &self.current) {
            return Ok(Value::String(image.clone()));
        }
        jmespath::parse(text)?.evaluate(&self.root)
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
                    Expr::Literal(Json::String(regex)),
                    _,
                    Expr::Literal(Json::String(to)),
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
