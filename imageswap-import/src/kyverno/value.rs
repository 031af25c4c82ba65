//! Values of expressions, of which some parts are known in a cluster only.

use serde_json::{Number, Value as Json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Stands for the name of the container with the image. No Kubernetes name has these characters.
pub(super) const NAME: &str = "__container_name__";

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It depends on something that is not known here, or that is not understood.
    Unknown(String),
    /// It fails in Kyverno, too.
    Error(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Unknown(why)
    }
}

impl From<&str> for Stop {
    fn from(why: &str) -> Self {
        Self::Unknown(why.to_owned())
    }
}

impl From<Stop> for String {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Unknown(why) | Stop::Error(why) => why,
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    /// Entries of a list that has others, too, if the Pod has other containers.
    Partial(Vec<Value>),
    Object(BTreeMap<String, Value>),
    /// An object of which only some fields are known, and its path.
    Open(Rc<str>, BTreeMap<String, Value>),
    /// A field that cannot be read, and why.
    Unknown(Rc<str>),
}

impl Value {
    /// An object of which only these fields are known.
    pub(super) fn open<const N: usize>(path: &str, fields: [(&str, Self); N]) -> Self {
        let fields = fields.map(|(name, it)| (name.to_owned(), it));
        Self::Open(path.into(), fields.into())
    }

    /// The value of a field; null if the object does not have it.
    pub(super) fn field(&self, name: &str) -> Result<Self, Stop> {
        let found = match self {
            Self::Object(fields) if name.contains(NAME) => {
                return fields.get(name).cloned().ok_or_else(nameless);
            }
            Self::Object(fields) => fields.get(name).cloned().unwrap_or(Self::Null),
            Self::Open(path, fields) => fields.get(name).cloned().ok_or_else(|| {
                let dot = if path.is_empty() { "" } else { "." };
                unknown(&format!("{path}{dot}{name}"))
            })?,
            _ => Self::Null,
        };
        match found {
            Self::Unknown(why) => Err(Stop::Unknown(why.to_string())),
            found => Ok(found),
        }
    }

    /// Whether it counts as true; for a list without a known entry this is not known.
    pub(super) fn truthy(&self) -> Result<bool, Stop> {
        Ok(match self {
            Self::Null => false,
            Self::Bool(it) => *it,
            Self::String(it) => !it.is_empty(),
            Self::Array(it) => !it.is_empty(),
            Self::Partial(it) if it.is_empty() => return Err(others()),
            Self::Object(it) => !it.is_empty(),
            Self::Number(_) | Self::Partial(_) | Self::Open(..) => true,
            Self::Unknown(why) => return Err(Stop::Unknown(why.to_string())),
        })
    }

    /// The value, if all of it is known.
    pub(super) fn whole(&self) -> Result<Json, Stop> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(it) => Json::Bool(*it),
            Self::Number(it) => Json::Number(it.clone()),
            Self::String(it) if it.contains(NAME) => return Err(nameless()),
            Self::String(it) => Json::String(it.clone()),
            Self::Array(items) => items.iter().map(Self::whole).collect::<Result<_, _>>()?,
            Self::Partial(_) => return Err(others()),
            Self::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, it)| Ok((key.clone(), it.whole()?)));
                Json::Object(fields.collect::<Result<_, Stop>>()?)
            }
            Self::Open(path, _) => {
                return Err(Stop::Unknown(format!(
                    "`{path}` as a whole is known in a cluster only"
                )));
            }
            Self::Unknown(why) => return Err(Stop::Unknown(why.to_string())),
        })
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(it) => Self::Bool(*it),
            Json::Number(it) => Self::Number(it.clone()),
            Json::String(it) => Self::String(it.clone()),
            Json::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Json::Object(fields) => {
                let fields = fields.iter().map(|(key, it)| (key.clone(), it.into()));
                Self::Object(fields.collect())
            }
        }
    }
}

fn unknown(what: &str) -> Stop {
    Stop::Unknown(format!("`{what}` is known in a cluster only"))
}

fn nameless() -> Stop {
    Stop::Unknown("the `name` of a container is known in a cluster only".to_owned())
}

/// An expression depends on the containers beside the one with the image.
pub(super) fn others() -> Stop {
    Stop::Unknown("it depends on all containers of a Pod together".to_owned())
}
