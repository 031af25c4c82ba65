//! Looks for images in places that nobody reads, and says how to have them read.

use super::find::Finder;
use crate::Reference;
use crate::diagnostic::Severity;
use crate::yaml::{Node, Value};
use std::collections::BTreeSet;

/// The most warnings of this kind for one text; a list of them helps nobody.
const MOST: usize = 20;
/// Code of the warnings.
const CODE: &str = "image-elsewhere";

/// Whether values of this key usually are images.
pub(super) fn is_image_key(key: &str) -> bool {
    key == "image" || key == "imageName" || key.ends_with("Image") || key.ends_with("ImageName")
}

/// What may be an image.
struct Candidate<'n> {
    node: &'n Node,
    image: &'n str,
    /// The path for `--image-path`, if it can be written.
    path: Option<String>,
}

impl Finder<'_> {
    /// Warns about images of an object that were not read.
    pub(super) fn elsewhere(&mut self, object: &Node, (group, kind): (&str, &str)) {
        // Schemas have examples, and no images that run.
        if kind == "CustomResourceDefinition" || self.elsewhere >= MOST {
            return;
        }
        let mut candidates = Vec::new();
        let is_object = object.get("apiVersion").is_some();
        for (key, value) in object.entries() {
            let skipped = is_object && matches!(key.as_str(), Some("metadata" | "status"));
            if !skipped {
                entry(key, value, Some(""), object, &mut candidates);
            }
        }
        for (index, item) in object.items().iter().enumerate() {
            below(item, Some(&format!("[{index}]")), &mut candidates);
        }
        let kind = match group {
            "" => kind.to_owned(),
            _ => format!("{kind}.{group}"),
        };
        let mut helped = BTreeSet::new();
        for Candidate { node, image, path } in candidates {
            let start = node.span.start;
            if !self.starts.insert(start) || self.is_wrong(start) {
                continue;
            }
            if self.elsewhere >= MOST {
                return;
            }
            let help = path.map(|it| format!("give --image-path '{kind}={it}' to have it read"));
            // One flag is enough for all items of a list.
            if help.as_ref().is_some_and(|it| !helped.insert(it.clone())) {
                continue;
            }
            self.elsewhere += 1;
            let message = format!("`{image}` looks like an image, and was not read");
            self.problem(node, Severity::Warning, CODE, message).help = help;
        }
    }
}

fn below<'n>(node: &'n Node, path: Option<&str>, found: &mut Vec<Candidate<'n>>) {
    for (key, value) in node.entries() {
        entry(key, value, path, node, found);
    }
    for item in node.items() {
        let path = path.map(|it| format!("{it}.*"));
        below(item, path.as_deref(), found);
    }
}

fn entry<'n>(
    key: &Node,
    value: &'n Node,
    path: Option<&str>,
    parent: &'n Node,
    found: &mut Vec<Candidate<'n>>,
) {
    let key = key.as_str().unwrap_or_default();
    let can_be_written = !key.is_empty() && !key.contains(['.', '[', ']']);
    let at = path.filter(|_| can_be_written).map(|it| {
        if it.is_empty() {
            key.to_owned()
        } else {
            format!("{it}.{key}")
        }
    });
    match &value.value {
        Value::String(text) if is_image_key(key) => {
            let is_sure = key == "image" || text.contains(['/', ':']);
            if is_sure && Reference::parse(text).is_ok() {
                found.push(Candidate {
                    node: value,
                    image: text,
                    path: at,
                });
            }
        }
        // An environment variable, or the like.
        Value::String(text) if key == "value" && is_full_reference(text) => {
            let name = parent.get("name").and_then(Node::as_str);
            let path = name.zip(at).and_then(|(name, at)| {
                let list = at.strip_suffix(".*.value")?;
                (!name.contains(['[', ']'])).then(|| format!("{list}[{name}].value"))
            });
            found.push(Candidate {
                node: value,
                image: text,
                path,
            });
        }
        Value::Sequence(items) if matches!(key, "args" | "command") => {
            for item in items {
                let Some(text) = item.as_str() else { continue };
                let (flag, image) = match text.split_once('=') {
                    Some((flag, image)) => (Some(flag), image),
                    None => (None, text),
                };
                if is_full_reference(image) {
                    let path = flag.zip(at.as_ref());
                    let path = path.filter(|it| !it.0.contains(['[', ']']));
                    found.push(Candidate {
                        node: item,
                        image,
                        path: path.map(|(flag, at)| format!("{at}[{flag}]")),
                    });
                }
            }
        }
        Value::Mapping(_) => {
            let repository = value.get("repository").and_then(Node::as_str);
            if let Some(text) = repository.filter(|it| Reference::parse(it).is_ok())
                && (value.get("tag").is_some() || is_image_key(key))
                && let Some(node) = value.get("repository")
            {
                found.push(Candidate {
                    node,
                    image: text,
                    path: at.clone(),
                });
            }
            below(value, at.as_deref(), found);
        }
        _ => below(value, at.as_deref(), found),
    }
}

/// Whether a text can hardly be anything else: a registry with a dot, a path, and a tag or digest.
fn is_full_reference(text: &str) -> bool {
    Reference::parse(text).is_ok_and(|it| {
        it.written_registry().is_some_and(|it| it.contains('.'))
            && (it.tag().is_some() || it.digest().is_some())
    })
}
