//! The images of Pods, and of containers outside of Pods.

use super::find::{Finder, Meta, labels};
use super::path::dotted;
use super::{Field, Image, List};
use crate::diagnostic::Severity;
use crate::yaml::{Node, Span, Style, Value};
use std::collections::BTreeMap;

impl Finder<'_> {
    /// Something with the `metadata` and the `spec` of a Pod.
    pub(super) fn template(&mut self, node: &Node, prefix: &str, meta: &Meta) {
        if !matches!(node.value, Value::Mapping(_)) {
            self.unexpected(node, "a Pod template");
            return;
        }
        let labels = node.get("metadata").map(labels).unwrap_or_default();
        match node.get("spec") {
            Some(spec) if matches!(spec.value, Value::Mapping(_)) => {
                self.pod(spec, &format!("{prefix}spec."), Some(labels), meta);
            }
            Some(spec) if !spec.is_null() => self.unexpected(spec, "the spec of a Pod"),
            _ => {}
        }
    }

    /// The lists of a Pod's `spec`.
    pub(super) fn pod(
        &mut self,
        spec: &Node,
        prefix: &str,
        labels: Option<BTreeMap<String, String>>,
        meta: &Meta,
    ) {
        let mut images = Vec::new();
        let mut lists = 0;
        for list in List::ALL {
            let Some(items) = spec.get(list.as_str()) else {
                continue;
            };
            lists += 1;
            for (index, item) in self.list(items, list.as_str()).iter().enumerate() {
                let path = format!("{prefix}{}[{index}]", list.as_str());
                images.extend(self.item(item, list, index, &path));
            }
        }
        // A custom resource whose lists only add to the Pods of an operator may have none of them.
        if labels.is_some() || lists > 0 {
            self.push(images, labels, meta);
        }
    }

    fn item(&mut self, item: &Node, list: List, index: usize, path: &str) -> Option<Image> {
        if !matches!(item.value, Value::Mapping(_)) {
            let expected = match list {
                List::Volumes => "a volume",
                _ => "a container",
            };
            self.unexpected(item, expected);
            return None;
        }
        let mut node = item.get("image")?;
        let mut path = format!("{path}.image");
        if list == List::Volumes {
            if !matches!(node.value, Value::Mapping(_) | Value::Null) {
                self.unexpected(node, "the image of a volume, as a mapping with `reference`");
            }
            node = node.get("reference")?;
            path.push_str(".reference");
        }
        let field = Field {
            list: Some(list),
            index,
            name: item.get("name").and_then(Node::as_str).map(str::to_owned),
        };
        self.reference(node, field, &path)
    }

    /// A container that is not in a list of a Pod: a step, a script, a sidecar.
    pub(super) fn container(&mut self, node: &Node, prefix: &str) {
        if !matches!(node.value, Value::Mapping(_)) {
            self.unexpected(node, "a container");
        } else if let Some(image) = node.get("image") {
            self.image(image, &format!("{prefix}image"));
        }
    }

    /// The text of an image outside of a Pod. An empty one is the operator's default.
    pub(super) fn image(&mut self, node: &Node, path: &str) {
        if node.as_str() != Some("") {
            let found = self.reference(node, Field::default(), path);
            self.loose.extend(found);
        }
    }

    fn reference(&mut self, node: &Node, field: Field, path: &str) -> Option<Image> {
        match &node.value {
            Value::Null => None,
            Value::String(image) => Some(Image {
                image: image.clone(),
                field,
                path: self.full(path),
                span: node.span,
                style: node.style,
                parts: None,
            }),
            _ => {
                self.unexpected(node, "an image reference");
                None
            }
        }
    }

    /// A text `NAME=IMAGE`, such as an argument; without a `=` the image alone.
    pub(super) fn assigned(&mut self, node: &Node, path: &str) {
        let Some(text) = node.as_str() else {
            return self.unexpected(node, "an image reference");
        };
        let Some((_, image)) = text.split_once('=') else {
            return self.image(node, path);
        };
        self.starts.insert(node.span.start);
        let written = node.span.of(self.text);
        match written.rfind(image) {
            Some(at) if !image.is_empty() && !written[..at].contains('\n') => {
                let span = Span {
                    start: node.span.start + at,
                    end: node.span.start + at + image.len(),
                    column: node.span.column + written[..at].chars().count(),
                    ..node.span
                };
                let path = self.full(path);
                self.loose.push(Image {
                    image: image.to_owned(),
                    field: Field::default(),
                    path,
                    span,
                    // The quotes around the whole text stay.
                    style: Style::Literal,
                    parts: None,
                });
            }
            _ => {
                let message = format!("the image in `{text}` is not written in one piece");
                self.problem(node, Severity::Warning, "image-path", message)
                    .help = Some("write the text in one line, without escapes".to_owned());
            }
        }
    }

    /// A path below another one.
    pub(super) fn join(path: &str, key: &str) -> String {
        format!("{path}{}", dotted(path, key))
    }
}
