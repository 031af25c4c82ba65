//! A configuration file of another program, and its fields.

use crate::intent::Origin;
use imageswap_policy::yaml::{Node, Span, Style, Value};

/// The program that reads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `hosts.toml` of containerd.
    Hosts,
    /// `registries.conf` of podman and CRI-O.
    Registries,
    /// harbor-container-webhook.
    Harbor,
    /// k8s-image-swapper.
    Swapper,
}

/// A configuration file.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    pub(crate) format: Format,
    /// Its name in the report.
    pub(crate) name: String,
    /// Its path; a key of a ConfigMap has no folder.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) node: Node,
}

impl ConfigFile {
    /// A file that cannot be read, and still has its place in a configuration.
    pub(crate) fn unreadable(path: &str) -> Self {
        Self {
            format: if split(path).1 == "hosts.toml" {
                Format::Hosts
            } else {
                Format::Registries
            },
            name: path.to_owned(),
            path: path.to_owned(),
            text: String::new(),
            node: Node {
                value: Value::Null,
                span: Span::default(),
                style: Style::Plain,
            },
        }
    }

    /// Where something in the file is.
    pub(crate) fn origin(&self, span: Span, rule: &str) -> Origin {
        let (kind, document) = match self.format {
            Format::Hosts => ("hosts.toml", split(split(&self.path).0).1),
            Format::Registries => ("configuration", "registries.conf"),
            Format::Harbor => ("configuration", "harbor-container-webhook"),
            Format::Swapper => ("configuration", "k8s-image-swapper"),
        };
        Origin {
            source: self.name.clone(),
            line: span.line,
            column: span.column,
            kind: kind.to_owned(),
            document: document.to_owned(),
            rule: rule.to_owned(),
        }
    }
}

/// The first key that is not known, with its place.
pub(crate) fn unknown(node: &Node, known: &[&str]) -> Option<(Span, String)> {
    let entry = node
        .entries()
        .iter()
        .find(|(key, _)| !key.as_str().is_some_and(|it| known.contains(&it)))?;
    let key = entry.0.as_str().unwrap_or("?");
    Some((entry.0.span, format!("`{key}` is not understood")))
}

/// A text of a mapping; `None` if it is not there.
pub(crate) fn text<'a>(node: &'a Node, key: &str) -> Result<Option<&'a str>, (Span, String)> {
    match node.get(key) {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(it) => Ok(Some(it)),
            None => Err((
                value.span,
                format!("`{key}` is {}, not a text", value.kind()),
            )),
        },
    }
}

/// The texts of a list of a mapping; empty if it is not there.
pub(crate) fn list(node: &Node, key: &str) -> Result<Vec<String>, (Span, String)> {
    let Some(value) = node.get(key) else {
        return Ok(Vec::new());
    };
    let wrong = |it: &Node| (it.span, format!("`{key}` is not a list of texts"));
    if !matches!(value.value, Value::Sequence(_)) {
        return Err(wrong(value));
    }
    let items = value.items().iter();
    items
        .map(|it| it.as_str().map(str::to_owned).ok_or_else(|| wrong(it)))
        .collect()
}

/// A truth value of a mapping.
pub(crate) fn flag(node: &Node, key: &str) -> Result<Option<bool>, (Span, String)> {
    match node.get(key).map(|it| (&it.value, it.span)) {
        None => Ok(None),
        Some((Value::Bool(it), _)) => Ok(Some(*it)),
        Some((_, span)) => Err((span, format!("`{key}` is neither true nor false"))),
    }
}

/// The folder and the last part of a path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
