//! Walks from a document to its images.

use super::kinds::{self, Places, Shape};
use super::path::{NO_KIND, Step, dotted, steps};
use super::{Image, ImagePath, List, Manifest, Pod, layout};
use crate::diagnostic::{Diagnostic, Severity};
use crate::yaml::{Node, Value};
use layout::Layout;
use std::collections::{BTreeMap, HashSet};

pub(super) fn images(
    source: &str,
    text: &str,
    paths: &[ImagePath],
    documents: &[Node],
) -> Manifest {
    let mut finder = Finder {
        source,
        text,
        paths,
        found: Manifest::default(),
        prefix: String::new(),
        loose: Vec::new(),
        seen: HashSet::new(),
        starts: HashSet::new(),
        wrong: BTreeMap::new(),
        elsewhere: 0,
    };
    for document in documents {
        if !document.is_null() {
            finder.document(document);
        }
    }
    finder.found
}

/// Collects the images of a text.
pub(super) struct Finder<'t> {
    pub(super) source: &'t str,
    pub(super) text: &'t str,
    paths: &'t [ImagePath],
    pub(super) found: Manifest,
    /// The path of an object within another one, with a dot at its end.
    prefix: String,
    /// Images of the present object that are not in a Pod template.
    pub(super) loose: Vec<Image>,
    /// Paths of the present object's images: a user's path may refer to a known place.
    seen: HashSet<String>,
    /// Where the present document's images, or their parts, begin in the text.
    pub(super) starts: HashSet<usize>,
    /// Begin and end of the present document's values that are errors. They do not overlap.
    wrong: BTreeMap<usize, usize>,
    /// How many images were found that nobody reads.
    pub(super) elsewhere: usize,
}

/// An object's own metadata.
pub(super) struct Meta {
    pub(super) kind: String,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
}

impl Finder<'_> {
    fn document(&mut self, document: &Node) {
        self.seen.clear();
        self.starts.clear();
        self.wrong.clear();
        match layout::of(self.source, document) {
            Layout::Objects => self.object(document, None),
            Layout::Kustomization => self.file(document, "Kustomization", Self::kustomization),
            Layout::Values => self.file(document, "HelmValues", Self::values),
            Layout::Compose => self.file(document, "Compose", Self::compose),
            Layout::Unknown => self.file(document, NO_KIND, |_, _| {}),
        }
    }

    /// A document that is not an object of the API. The file is its name.
    fn file(&mut self, document: &Node, kind: &str, read: impl FnOnce(&mut Self, &Node)) {
        read(self, document);
        let name = match self.source.rsplit_once('/') {
            Some((_, name)) => name,
            None => self.source,
        };
        let namespace = document
            .get("namespace")
            .filter(|_| kind == "Kustomization");
        let meta = Meta {
            kind: kind.to_owned(),
            name: Some(name.to_owned()),
            namespace: namespace.and_then(Node::as_str).map(str::to_owned),
        };
        self.given(document, ("", NO_KIND), &meta);
        if self.loose.is_empty() {
            self.found.others += 1;
        }
        self.flush(&meta);
        self.elsewhere(document, ("", NO_KIND));
    }

    /// `outer` is the API version and kind that items of a typed list omit.
    pub(super) fn object(&mut self, object: &Node, outer: Option<(&str, &str)>) {
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
        // An object within another one has its images to itself.
        let outer = std::mem::take(&mut self.loose);
        let seen = std::mem::take(&mut self.seen);
        let pods = self.found.pods.len();
        let places = kinds::places(group, kind).unwrap_or_default();
        self.places(object, places, &mut String::new(), &meta);
        self.given(object, (group, kind), &meta);
        self.flush(&meta);
        if self.found.pods.len() == pods {
            self.found.others += 1;
        }
        self.loose = outer;
        self.seen = seen;
        self.elsewhere(object, (group, kind));
    }

    /// Follows the paths of the table.
    fn places(&mut self, node: &Node, places: Places, at: &mut String, meta: &Meta) {
        for (shape, path) in places {
            let steps = match *path {
                "" => Vec::new(),
                // A test reads all paths of the table.
                path => steps(path).unwrap_or_default(),
            };
            self.follow(node, &steps, at, *shape, meta);
        }
    }

    /// Follows the paths that the user gave for this kind.
    fn given(&mut self, object: &Node, of: (&str, &str), meta: &Meta) {
        let paths = self.paths;
        for (index, path) in paths.iter().enumerate() {
            if !path.is_of(of.0, of.1) {
                continue;
            }
            let before = self.count();
            self.follow(object, path.steps(), &mut String::new(), Shape::Any, meta);
            if self.count() > before {
                self.found.used.insert(index);
            } else if !self.repeats(object, path.steps()) {
                let message = format!(
                    "expected an image or a Pod template at {}, found none",
                    path.path()
                );
                self.problem(object, Severity::Warning, "image-path", message);
            } else {
                self.found.used.insert(index);
            }
        }
    }

    fn count(&self) -> usize {
        self.found.pods.len() + self.loose.len()
    }

    /// Whether a path refers to something that is already known.
    fn repeats(&self, object: &Node, steps: &[Step]) -> bool {
        let mut nodes = vec![object];
        for step in steps {
            nodes = nodes
                .iter()
                .flat_map(|it| below(it, step))
                .map(|it| it.1)
                .collect();
        }
        nodes.iter().any(|node| self.holds_known(node))
    }

    fn holds_known(&self, node: &Node) -> bool {
        self.starts.contains(&node.span.start) && node.as_str().is_some()
            || node.items().iter().any(|it| self.holds_known(it))
            || node.entries().iter().any(|it| self.holds_known(&it.1))
    }

    fn namespace(&mut self, object: &Node, meta: &Meta) {
        let Some(name) = &meta.name else { return };
        let labels = object.get("metadata").map(labels).unwrap_or_default();
        self.found.namespaces.insert(name.clone(), labels);
    }

    /// Follows a path, through every item where it has a wildcard.
    fn follow(&mut self, node: &Node, steps: &[Step], at: &mut String, shape: Shape, meta: &Meta) {
        let Some((step, steps)) = steps.split_first() else {
            self.shape(node, at, shape, meta);
            return;
        };
        let length = at.len();
        if let Step::Named(name) = step {
            for (index, item) in node.items().iter().enumerate() {
                let is_last = steps.is_empty();
                if let Some(text) = item.as_str()
                    && is_last
                    && text
                        .strip_prefix(name.as_str())
                        .is_some_and(|it| it.starts_with('='))
                {
                    self.assigned(item, &format!("{at}[{index}]"));
                }
            }
        }
        for (name, child) in below(node, step) {
            let name = if name.starts_with('[') {
                name
            } else {
                dotted(at, &name)
            };
            at.push_str(&name);
            self.follow(child, steps, at, shape, meta);
            at.truncate(length);
        }
    }

    /// The end of a path.
    fn shape(&mut self, node: &Node, at: &str, shape: Shape, meta: &Meta) {
        if node.is_null() {
            return;
        }
        let prefix = if at.is_empty() {
            String::new()
        } else {
            format!("{at}.")
        };
        match shape {
            Shape::Template => self.template(node, &prefix, meta),
            Shape::Pod => {
                if matches!(node.value, Value::Mapping(_)) {
                    self.pod(node, &prefix, None, meta);
                }
            }
            Shape::Container => self.container(node, &prefix),
            Shape::Image => self.image(node, at),
            Shape::Split => self.split(node, at),
            Shape::Kustomize => self.kustomize_image(node, at),
            Shape::KustomizeText => self.assigned(node, at),
            Shape::Values => self.values_below(node, at),
            Shape::Object => {
                let outer = std::mem::take(&mut self.prefix);
                self.prefix = format!("{outer}{prefix}");
                self.object(node, None);
                self.prefix = outer;
            }
            Shape::Parts(places) => self.places(node, places, &mut at.to_owned(), meta),
            Shape::Any => self.any(node, at, &prefix, meta),
        }
    }

    /// The end of a path that a user gave.
    fn any(&mut self, node: &Node, at: &str, prefix: &str, meta: &Meta) {
        match &node.value {
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.shape(item, &format!("{at}[{index}]"), Shape::Any, meta);
                }
            }
            Value::Mapping(_) if has_lists(node) && node.get("spec").is_none() => {
                self.pod(node, prefix, None, meta);
            }
            Value::Mapping(_) if node.get("spec").is_some() => self.template(node, prefix, meta),
            Value::Mapping(_) if node.get("repository").is_some() => self.split(node, at),
            Value::Mapping(_) if node.get("image").is_some() => self.container(node, prefix),
            Value::Mapping(_) => {
                self.unexpected(node, "an image, a container or a Pod template");
            }
            _ => self.image(node, at),
        }
    }

    /// Makes an entry of the images outside of Pods.
    fn flush(&mut self, meta: &Meta) {
        let images = std::mem::take(&mut self.loose);
        if !images.is_empty() {
            self.push(images, None, meta);
        }
    }

    /// Adds a Pod with its images, except those that are known already.
    pub(super) fn push(
        &mut self,
        mut images: Vec<Image>,
        labels: Option<BTreeMap<String, String>>,
        meta: &Meta,
    ) {
        let all = images.len();
        images.retain(|it| self.seen.insert(it.path.clone()));
        if images.is_empty() && all > 0 {
            return;
        }
        for image in &images {
            self.starts.extend(image.spans().map(|it| it.start));
        }
        // In the order of the text; images from an anchor keep the anchor's place.
        images.sort_by_key(|it| it.span.start);
        self.found.pods.push(Pod {
            kind: meta.kind.clone(),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels,
            images,
        });
    }

    /// A path in the present object, from the document's root.
    pub(super) fn full(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Whether a place is in a value that is an error.
    pub(super) fn is_wrong(&self, start: usize) -> bool {
        let before = self.wrong.range(..=start).next_back();
        before.is_some_and(|(_, end)| start < *end)
    }

    /// The items of a list that may be null.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::Sequence(items) => items,
            Value::Null => &[],
            _ => {
                self.unexpected(node, &format!("a list of {what}"));
                &[]
            }
        }
    }

    pub(super) fn unexpected(&mut self, node: &Node, expected: &str) {
        self.wrong.insert(node.span.start, node.span.end);
        let message = format!("expected {expected}, found {}", node.kind());
        let is_text = matches!(node.value, Value::Bool(_) | Value::Number(_));
        let written = node.span.of(self.text);
        let help = is_text.then(|| format!("as text it is written \"{written}\""));
        self.problem(node, Severity::Error, "manifest-type", message)
            .help = help;
    }

    pub(super) fn problem(
        &mut self,
        node: &Node,
        severity: Severity,
        code: &'static str,
        message: String,
    ) -> &mut Diagnostic {
        let place = node.span;
        let problem = place.diagnostic(self.source, self.text, severity, code, message);
        self.found.problems.push(problem);
        let last = self.found.problems.len() - 1;
        &mut self.found.problems[last]
    }
}

/// The values to which a step leads, with what the path gets for it.
fn below<'n>(node: &'n Node, step: &Step) -> Vec<(String, &'n Node)> {
    match step {
        Step::Field(name) => {
            let child = node.get(name).map(|it| (name.clone(), it));
            child.into_iter().collect()
        }
        Step::Named(name) => {
            let items = node.items().iter().enumerate();
            let named = items.filter(|(_, it)| it.get("name").and_then(Node::as_str) == Some(name));
            named.map(|(at, it)| (format!("[{at}]"), it)).collect()
        }
        Step::Each => {
            let items = node.items().iter().enumerate();
            let items = items.map(|(at, it)| (format!("[{at}]"), it));
            let entries = node.entries().iter();
            let entries = entries.map(|(key, it)| (key.as_str().unwrap_or("*").to_owned(), it));
            items.chain(entries).collect()
        }
    }
}

fn meta(object: &Node, kind: &str) -> Meta {
    let own = |key| {
        object
            .get("metadata")
            .and_then(|it| it.get(key))
            .and_then(Node::as_str)
    };
    let generated = own("generateName").map(|it| format!("{it}*"));
    Meta {
        kind: kind.to_owned(),
        name: own("name").map(str::to_owned).or(generated),
        namespace: own("namespace").map(str::to_owned),
    }
}

/// Whether a mapping has a list of a Pod.
fn has_lists(node: &Node) -> bool {
    List::ALL.iter().any(|it| node.get(it.as_str()).is_some())
}

/// The labels of a `metadata`. The API server refuses values that are not texts, so they are
/// ignored.
pub(super) fn labels(metadata: &Node) -> BTreeMap<String, String> {
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
