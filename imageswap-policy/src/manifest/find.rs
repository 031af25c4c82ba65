//! Walks from a document to its images.

use super::path::Step;
use super::{Field, Image, List, Manifest, Pod, TemplatePath};
use crate::diagnostic::{Diagnostic, Severity};
use crate::yaml::{Node, Value};
use std::collections::BTreeMap;

/// The place of the Pod in built-in kinds: API groups, kind, and the path to the Pod's `metadata`
/// and `spec`.
const BUILT_IN: [(&[&str], &str, &[&str]); 9] = [
    (&[""], "Pod", &[]),
    (&[""], "PodTemplate", &["template"]),
    (&[""], "ReplicationController", &["spec", "template"]),
    (APPS, "Deployment", &["spec", "template"]),
    (APPS, "StatefulSet", &["spec", "template"]),
    (APPS, "DaemonSet", &["spec", "template"]),
    (APPS, "ReplicaSet", &["spec", "template"]),
    (&["batch"], "Job", &["spec", "template"]),
    (
        &["batch"],
        "CronJob",
        &["spec", "jobTemplate", "spec", "template"],
    ),
];

/// `extensions` was removed from the API, but people's files still have it.
const APPS: &[&str] = &["apps", "extensions"];

pub(super) fn images(
    source: &str,
    text: &str,
    templates: &[TemplatePath],
    documents: &[Node],
) -> Manifest {
    let mut finder = Finder {
        source,
        text,
        templates,
        found: Manifest::default(),
    };
    for document in documents {
        if !document.is_null() {
            finder.object(document, None);
        }
    }
    finder.found
}

struct Finder<'t> {
    source: &'t str,
    text: &'t str,
    templates: &'t [TemplatePath],
    found: Manifest,
}

/// An object's own metadata.
struct Meta<'t> {
    kind: &'t str,
    name: Option<String>,
    namespace: Option<String>,
}

impl Finder<'_> {
    /// `outer` is the API version and kind that items of a typed list omit.
    fn object(&mut self, object: &Node, outer: Option<(&str, &str)>) {
        let own = |key| object.get(key).and_then(Node::as_str);
        let version = own("apiVersion").or(outer.map(|it| it.0));
        let kind = own("kind").or(outer.map(|it| it.1));
        let (Some(version), Some(kind)) = (version, kind) else {
            self.found.others += 1;
            return;
        };
        if let Some(item) = kind.strip_suffix("List")
            && let Some(items) = object.get("items")
        {
            // Items of the list that kubectl writes have their own kind.
            let item = (!item.is_empty()).then_some((version, item));
            for object in self.list(items, "objects") {
                self.object(object, item);
            }
            return;
        }
        let group = version.split_once('/').map_or("", |it| it.0);
        let meta = meta(object, kind);
        if (group, kind) == ("", "Namespace") {
            self.namespace(object, &meta);
        }
        let pods = self.found.pods.len();
        let mut known = false;
        for (groups, it, path) in BUILT_IN {
            if it == kind && groups.contains(&group) {
                known = true;
                self.built_in(object, path, &meta);
            }
        }
        let templates = self.templates;
        for template in templates.iter().filter(|it| it.is_of(group, kind)) {
            known = true;
            let before = self.found.pods.len();
            self.follow(object, template.steps(), &mut String::new(), &meta);
            if self.found.pods.len() == before {
                let message = format!("expected a Pod template at {}, found none", template.path());
                self.problem(object, Severity::Warning, "manifest-no-template", message);
            }
        }
        if !known || self.found.pods.len() == pods {
            self.found.others += 1;
        }
    }

    fn namespace(&mut self, object: &Node, meta: &Meta<'_>) {
        let Some(name) = &meta.name else { return };
        let labels = object.get("metadata").map(labels).unwrap_or_default();
        self.found.namespaces.insert(name.clone(), labels);
    }

    fn built_in(&mut self, object: &Node, path: &[&str], meta: &Meta<'_>) {
        let mut node = object;
        for key in path {
            let Some(next) = node.get(key) else { return };
            node = next;
        }
        let prefix = match path {
            [] => String::new(),
            _ => path.join(".") + ".",
        };
        self.template(node, &prefix, meta);
    }

    /// Follows a path, through every item where it has a wildcard.
    fn follow(&mut self, node: &Node, steps: &[Step], at: &mut String, meta: &Meta<'_>) {
        let Some((step, steps)) = steps.split_first() else {
            self.custom(node, at, meta);
            return;
        };
        let length = at.len();
        let mut down = |child: &Node, name: &str| {
            at.push_str(name);
            self.follow(child, steps, at, meta);
            at.truncate(length);
        };
        match step {
            Step::Field(name) => {
                if let Some(child) = node.get(name) {
                    down(child, &dotted(length, name));
                }
            }
            Step::Each => {
                for (index, child) in node.items().iter().enumerate() {
                    down(child, &format!("[{index}]"));
                }
                for (key, child) in node.entries() {
                    down(child, &dotted(length, key.as_str().unwrap_or("*")));
                }
            }
        }
    }

    /// The end of a path: a template, which has a `spec`, or that `spec` itself.
    fn custom(&mut self, node: &Node, at: &str, meta: &Meta<'_>) {
        let prefix = format!("{at}.");
        if node.get("spec").is_none() && List::ALL.iter().any(|it| node.get(it.as_str()).is_some())
        {
            self.pod(node, &prefix, BTreeMap::new(), meta);
        } else {
            self.template(node, &prefix, meta);
        }
    }

    /// Something with the `metadata` and the `spec` of a Pod.
    fn template(&mut self, node: &Node, prefix: &str, meta: &Meta<'_>) {
        if node.is_null() {
            return;
        }
        if !matches!(node.value, Value::Mapping(_)) {
            self.unexpected(node, "a Pod template");
            return;
        }
        let labels = node.get("metadata").map(labels).unwrap_or_default();
        match node.get("spec") {
            Some(spec) if matches!(spec.value, Value::Mapping(_)) => {
                self.pod(spec, &format!("{prefix}spec."), labels, meta);
            }
            Some(spec) if !spec.is_null() => self.unexpected(spec, "the spec of a Pod"),
            _ => {}
        }
    }

    fn pod(
        &mut self,
        spec: &Node,
        prefix: &str,
        labels: BTreeMap<String, String>,
        meta: &Meta<'_>,
    ) {
        let mut images = Vec::new();
        for list in List::ALL {
            let Some(items) = spec.get(list.as_str()) else {
                continue;
            };
            for (index, item) in self.list(items, list.as_str()).iter().enumerate() {
                let path = format!("{prefix}{}[{index}].", list.as_str());
                images.extend(self.image(item, list, index, path));
            }
        }
        // In the order of the text; images from an anchor keep the anchor's place.
        images.sort_by_key(|it| it.span.start);
        self.found.pods.push(Pod {
            kind: meta.kind.to_owned(),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels,
            images,
        });
    }

    fn image(&mut self, item: &Node, list: List, index: usize, mut path: String) -> Option<Image> {
        if !matches!(item.value, Value::Mapping(_)) {
            let expected = match list {
                List::Volumes => "a volume",
                _ => "a container",
            };
            self.unexpected(item, expected);
            return None;
        }
        let mut node = item.get("image")?;
        path.push_str("image");
        if list == List::Volumes {
            if !matches!(node.value, Value::Mapping(_) | Value::Null) {
                self.unexpected(node, "the image of a volume, as a mapping with `reference`");
            }
            node = node.get("reference")?;
            path.push_str(".reference");
        }
        match &node.value {
            Value::Null => None,
            Value::String(image) => Some(Image {
                image: image.clone(),
                field: Field {
                    list,
                    index,
                    name: item.get("name").and_then(Node::as_str).map(str::to_owned),
                },
                path,
                span: node.span,
                style: node.style,
            }),
            _ => {
                self.unexpected(node, "an image reference");
                None
            }
        }
    }

    /// The items of a list that may be null.
    fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::Sequence(items) => items,
            Value::Null => &[],
            _ => {
                self.unexpected(node, &format!("a list of {what}"));
                &[]
            }
        }
    }

    fn unexpected(&mut self, node: &Node, expected: &str) {
        let message = format!("expected {expected}, found {}", node.kind());
        self.problem(node, Severity::Error, "manifest-type", message);
        let is_text = matches!(node.value, Value::Bool(_) | Value::Number(_));
        if let Some(problem) = self.found.problems.last_mut().filter(|_| is_text) {
            problem.help = Some(format!(
                "as text it is written \"{}\"",
                node.span.of(self.text)
            ));
        }
    }

    fn problem(&mut self, node: &Node, severity: Severity, code: &'static str, message: String) {
        let place = node.span;
        let problem: Diagnostic = place.diagnostic(self.source, self.text, severity, code, message);
        self.found.problems.push(problem);
    }
}

fn meta<'t>(object: &Node, kind: &'t str) -> Meta<'t> {
    let own = |key| {
        object
            .get("metadata")
            .and_then(|it| it.get(key))
            .and_then(Node::as_str)
    };
    let generated = own("generateName").map(|it| format!("{it}*"));
    Meta {
        kind,
        name: own("name").map(str::to_owned).or(generated),
        namespace: own("namespace").map(str::to_owned),
    }
}

/// The labels of a `metadata`. The API server refuses values that are not texts, so they are
/// ignored.
fn labels(metadata: &Node) -> BTreeMap<String, String> {
    let entries = metadata
        .get("labels")
        .map(Node::entries)
        .unwrap_or_default();
    let pairs = entries
        .iter()
        .filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn dotted(length: usize, name: &str) -> String {
    let dot = if length == 0 { "" } else { "." };
    format!("{dot}{name}")
}
