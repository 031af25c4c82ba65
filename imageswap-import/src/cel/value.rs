//! Values of expressions.

use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It depends on something that is not known here, or that is not understood.
    Unknown(String),
    /// It fails in the source's program, too.
    Error(String),
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Rc<Vec<Value>>),
    Map(Rc<BTreeMap<String, Value>>),
    /// A message that the expression makes, such as `Object.spec{}`.
    Struct(String, Rc<BTreeMap<String, Value>>),
    Object(Rc<Object>),
    Optional(Option<Box<Value>>),
    /// A text that may be handed on but not looked at, such as a container's name.
    Opaque(usize),
}

/// An object of which only some fields are known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object {
    /// What the object is, for messages.
    path: String,
    /// Known fields; `None` is a field that is known to be absent.
    fields: BTreeMap<String, Option<Value>>,
}

impl Object {
    pub(crate) fn known<const N: usize>(path: &str, fields: [(&str, Option<Value>); N]) -> Value {
        Value::Object(Rc::new(Self {
            path: path.to_owned(),
            fields: fields.map(|(key, it)| (key.to_owned(), it)).into(),
        }))
    }

    /// The name of a container.
    fn opaque(&self) -> Option<usize> {
        match self.fields.get("name") {
            Some(Some(Value::Opaque(it))) => Some(*it),
            _ => None,
        }
    }

    fn get(&self, field: &str) -> Result<Option<&Value>, Stop> {
        match self.fields.get(field) {
            Some(value) => Ok(value.as_ref()),
            None => Err(Stop::Unknown(format!(
                "`{}.{field}` is known in a cluster only",
                self.path
            ))),
        }
    }
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items))
    }

    /// A value of a document.
    pub(crate) fn from_json(json: &Json) -> Result<Self, String> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(it) => Self::Bool(*it),
            Json::Number(it) => Self::Int(it.as_i64().ok_or("a number that is not whole")?),
            Json::String(it) => Self::Text(it.clone()),
            Json::Array(items) => Self::list(
                items
                    .iter()
                    .map(Self::from_json)
                    .collect::<Result<_, _>>()?,
            ),
            Json::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, it)| Ok((key.clone(), Self::from_json(it)?)));
                Self::Map(Rc::new(fields.collect::<Result<_, String>>()?))
            }
        })
    }

    /// Adds the numbers in it, also those that are written as texts.
    pub(crate) fn numbers(&self, into: &mut BTreeSet<i64>) {
        match self {
            Self::Int(it) => into.extend([*it]),
            Self::Text(it) => into.extend(it.parse::<i64>()),
            Self::List(items) => items.iter().for_each(|it| it.numbers(into)),
            Self::Map(fields) => fields.values().for_each(|it| it.numbers(into)),
            _ => {}
        }
    }

    /// A field or an entry; `None` if it is absent.
    pub(crate) fn get(&self, field: &str) -> Result<Option<Value>, Stop> {
        match self {
            Self::Object(it) => Ok(it.get(field)?.cloned()),
            Self::Map(it) | Self::Struct(_, it) => Ok(it.get(field).cloned()),
            Self::Null => Err(Stop::Error(format!("null has no `{field}`"))),
            _ => Err(Stop::Error(format!(
                "`{field}` of something without fields"
            ))),
        }
    }

    /// Whether both are the same.
    pub(crate) fn equals(&self, other: &Self) -> Result<bool, Stop> {
        match (self, other) {
            (Self::Opaque(_), _) | (_, Self::Opaque(_)) => Err(opaque()),
            // Containers of one Pod have different names.
            (Self::Object(a), Self::Object(b)) if a.opaque().is_some() && b.opaque().is_some() => {
                Ok(a.opaque() == b.opaque())
            }
            (Self::Object(it), _) | (_, Self::Object(it)) => Err(Stop::Unknown(format!(
                "`{}` is known in a cluster only",
                it.path
            ))),
            (Self::List(a), Self::List(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    if !a.equals(b)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(self == other),
        }
    }
}

/// The reason why an opaque value cannot be looked at.
pub(crate) fn opaque() -> Stop {
    Stop::Unknown("it looks at the names of containers".to_owned())
}
