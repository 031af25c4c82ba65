//! Finds the container images in Kubernetes manifests, with their places, and replaces them in the
//! text.
//!
//! It reads multi-document YAML and JSON: Pods, the known kinds with Pod templates or images (the
//! table in `kinds`), lists of them, kustomizations, values of Helm charts, Compose files, and other
//! kinds for which an [`ImagePath`] is given. Other documents are counted; if one of them seems to
//! name an image, that is a warning.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{self, Span, Style};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod edit;
mod elsewhere;
mod files;
mod find;
mod kinds;
mod layout;
mod path;
mod pod;
mod split;
#[cfg(test)]
mod tests;

pub use edit::{Clash, replace};
pub use path::{ImagePath, PathError};

/// The images in one text of manifests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// Pods and Pod templates, in the order of the text, including those without an image; and one
    /// entry for the other images of each object or file.
    pub pods: Vec<Pod>,
    /// Labels of the namespaces in the text, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// How many objects and other documents hold no image. Empty documents are not counted.
    pub others: usize,
    /// Values that should be an image but are not. Errors: an image may have been missed. Warnings:
    /// a path matches nothing, or something looks like an image and was not read.
    pub problems: Vec<Diagnostic>,
    /// Indexes of the given paths that led to an image.
    pub used: BTreeSet<usize>,
}

/// A Pod, the template of one, or something else that names images, such as a Compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Kind of the object that holds it. `Kustomization`, `HelmValues` and `Compose` may be files,
    /// and `-` is a document without a kind.
    pub kind: String,
    /// Name of that object; if it has no name yet, its `generateName` and `*`. For a file, its name.
    pub name: Option<String>,
    /// Namespace of that object, if the manifest has it.
    pub namespace: Option<String>,
    /// Labels of the Pod; for a workload, those of the template. `None` if they are not
    /// in the text.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its images, in the order of the text.
    pub images: Vec<Image>,
}

/// An image that a text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The reference, as the API server would see it.
    pub image: String,
    /// Which container or volume names it.
    pub field: Field,
    /// The path of the field in its object: `spec.template.spec.containers[0].image`.
    pub path: String,
    /// Where it is written; for an alias, where its anchor is. For an image in several fields, where
    /// the repository is.
    pub span: Span,
    /// How it is written.
    pub style: Style,
    /// The fields, if there are several.
    parts: Option<Box<Parts>>,
}

/// An image in several fields.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    registry: Option<Part>,
    repository: Part,
    tag: Option<Part>,
    digest: Option<Part>,
    /// Whether the repository has to stay.
    is_fixed: bool,
}

/// A field with a part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    text: String,
    span: Span,
    style: Style,
}

/// The part of a Pod that names an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field {
    /// Which list it is in; `None` for an image outside of a Pod's lists.
    pub list: Option<List>,
    /// Index in the list, from 0.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// A list of a Pod whose items may name images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum List {
    /// `containers`.
    Containers,
    /// `initContainers`, sidecars among them.
    InitContainers,
    /// `ephemeralContainers`.
    EphemeralContainers,
    /// `volumes`; a volume can be an image.
    Volumes,
}

/// Finds the images of a text. `source` names it in messages, and may show what kind of file it is;
/// `paths` adds to the known kinds.
///
/// # Errors
/// The text is not YAML or JSON.
pub fn read(source: &str, text: &str, paths: &[ImagePath]) -> Result<Manifest, Diagnostics> {
    let documents = yaml::parse(source, text).map_err(|mut errors| {
        for error in &mut errors.0 {
            if error.text.contains("{{") {
                let help =
                    "this looks like a template of a chart; render it first, with `helm template`";
                error.help = Some(help.to_owned());
            }
        }
        errors
    })?;
    Ok(find::images(source, text, paths, &documents))
}

impl Pod {
    /// The object that holds it, for people: `Deployment shop/web`; `namespace` is used if the
    /// manifest has none.
    pub fn title(&self, namespace: &str) -> String {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        let name = self.name.as_deref().unwrap_or("(no name)");
        format!("{} {namespace}/{name}", self.kind)
    }
}

impl Image {
    /// Its place in the Pod, or its path elsewhere; for people.
    pub fn title(&self) -> String {
        match self.field.list {
            Some(_) => self.field.to_string(),
            None => self.path.clone(),
        }
    }

    /// Whether [`replace`] can write `to` in its place.
    ///
    /// # Errors
    /// The fields of the image cannot name `to`; a sentence says why.
    pub fn can_become(&self, to: &str) -> Result<(), String> {
        match &self.parts {
            Some(parts) if to != self.image => parts.distribute(to).map(drop),
            _ => Ok(()),
        }
    }

    /// The places of its text, one for each field.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        let parts = self.parts.iter().flat_map(|it| it.iter());
        let whole = self.parts.is_none().then_some(self.span);
        parts.map(|it| it.span).chain(whole)
    }
}

impl List {
    /// Name of the container, for an item of this list; a volume is not a container.
    pub fn container(self, name: &str) -> Option<&str> {
        (self != Self::Volumes).then_some(name)
    }

    /// All lists, in the order of reading a Pod.
    pub const ALL: [Self; 4] = [
        Self::InitContainers,
        Self::Containers,
        Self::EphemeralContainers,
        Self::Volumes,
    ];

    /// The lists of containers.
    pub const CONTAINERS: [Self; 3] = [
        Self::Containers,
        Self::InitContainers,
        Self::EphemeralContainers,
    ];

    /// One of its items in messages: `init container`.
    pub const fn item(self) -> &'static str {
        match self {
            Self::Containers => "container",
            Self::InitContainers => "init container",
            Self::EphemeralContainers => "ephemeral container",
            Self::Volumes => "volume",
        }
    }

    /// The field of a Pod's `spec`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
            Self::EphemeralContainers => "ephemeralContainers",
            Self::Volumes => "volumes",
        }
    }
}

/// For people: `container web`, `init container #2`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.list.map_or("image", List::item))?;
        match &self.name {
            Some(name) => write!(f, " {name}"),
            None => write!(f, " #{}", self.index + 1),
        }
    }
}
