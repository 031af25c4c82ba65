//! Configuration files of other programs: finds them among the texts, and reads those that one program reads together.

use crate::intent::{Intent, Origin, Reading};
use crate::report::Status;
use crate::{containerd, harbor, registries, swapper, toml};
use imageswap_policy::yaml::{Node, Span, Style, Value};

/// Larger TOML texts are refused; a configuration has some kilobytes.
const TOML_SIZE: usize = 1 << 20;

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

/// A text in which a configuration is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// Its name in the report.
    pub(crate) name: &'a str,
    /// Its path; for a key of a ConfigMap the key.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// The documents of the text, if it is YAML.
    pub(crate) documents: Option<&'a [Node]>,
}

/// What a text is.
pub(crate) enum Found {
    File(Box<ConfigFile>),
    /// It should be a configuration, and cannot be read; the place and what is wrong.
    Broken(usize, usize, String),
    /// TOML of a program that is not known.
    Other,
    None,
}

/// The folder and the last part of a path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Finds out whether a text is a configuration file.
pub(crate) fn find(it: Candidate<'_>) -> Found {
    let (folder, base) = split(it.path);
    let drop_in = split(folder).1 == "registries.conf.d";
    let expected = base == "hosts.toml" || base == "registries.conf" || drop_in;
    let ends = |ending: &str| {
        base.rsplit_once('.')
            .is_some_and(|it| it.1.eq_ignore_ascii_case(ending))
    };
    let object = |it: &Node| matches!(it.value, Value::Mapping(_));
    let yaml = it
        .documents
        .is_some_and(|it| it.iter().any(object) || it.is_empty());
    let made = |format, node| {
        Found::File(Box::new(ConfigFile {
            format,
            name: it.name.to_owned(),
            path: it.path.to_owned(),
            text: it.text.to_owned(),
            node,
        }))
    };
    if expected || ends("toml") || ends("conf") || !yaml {
        if it.text.len() > TOML_SIZE {
            return if expected {
                Found::Broken(1, 1, "it has more than 1 MiB".to_owned())
            } else {
                Found::None
            };
        }
        match toml::parse(it.text) {
            Ok(node) => {
                let format = if base == "hosts.toml" || containerd::is_hosts(&node) {
                    Some(Format::Hosts)
                } else if expected || registries::is_registries(&node) {
                    Some(Format::Registries)
                } else {
                    None
                };
                match format {
                    Some(format) => return made(format, node),
                    None if !yaml && !node.entries().is_empty() => return Found::Other,
                    None => {}
                }
            }
            Err(at) if expected => {
                let what = "it is not TOML: expected `KEY = VALUE` or `[TABLE]`";
                return Found::Broken(at.line, at.column, what.to_owned());
            }
            Err(_) => {}
        }
    }
    match it.documents {
        Some([node]) if harbor::is_harbor(node) => made(Format::Harbor, node.clone()),
        Some([node]) if swapper::is_swapper(node) => made(Format::Swapper, node.clone()),
        _ => Found::None,
    }
}

/// Reads the files; each list belongs to one configuration.
pub(crate) fn read(files: Vec<ConfigFile>, documents: &[(&str, Node)]) -> Vec<Vec<Reading>> {
    let mut groups: Vec<(Format, String, Vec<ConfigFile>)> = Vec::new();
    for file in files {
        let (folder, _) = split(&file.path);
        let root = match file.format {
            Format::Hosts => split(folder).0.to_owned(),
            Format::Registries if split(folder).1 == "registries.conf.d" => {
                split(folder).0.to_owned()
            }
            // Keys of a ConfigMap belong together.
            Format::Registries if folder.is_empty() => {
                file.name.split(" (").next().unwrap_or_default().to_owned()
            }
            Format::Registries => folder.to_owned(),
            Format::Harbor | Format::Swapper => file.name.clone(),
        };
        let known =
            |it: &&mut (Format, String, Vec<ConfigFile>)| it.0 == file.format && it.1 == root;
        match groups.iter_mut().find(known) {
            Some(group) => group.2.push(file),
            None => groups.push((file.format, root, vec![file])),
        }
    }
    let read = groups.iter().map(|(format, _, files)| match format {
        Format::Hosts => containerd::read(files),
        Format::Registries => registries::read(files),
        Format::Harbor => harbor::read(&files[0], documents),
        Format::Swapper => swapper::read(&files[0], documents),
    });
    read.collect()
}

/// The same readings, all left out.
pub(crate) fn left_out(readings: Vec<Reading>, why: &str) -> Vec<Reading> {
    let left_out = |it: Reading| match it {
        Reading::Understood(Intent { origin, .. })
        | Reading::Settled(origin, Status::Differs, _) => Reading::LeftOut(origin, why.to_owned()),
        other => other,
    };
    readings.into_iter().map(left_out).collect()
}

impl ConfigFile {
    /// A file that cannot be read, and still has its place in a configuration.
    pub(crate) fn unreadable(path: &str) -> Self {
        let span = Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        };
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
                span,
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
