//! Finds the container images in Kubernetes manifests, with their places, and replaces them in the
//! text.
//!
//! It reads multi-document YAML and JSON: Pods, the built-in kinds with a Pod template, lists of
//! them, and other kinds for which a [`TemplatePath`] is given. Objects of other kinds hold no
//! image and are only counted.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{self, Span, Style};
use std::collections::BTreeMap;
use std::fmt;

mod edit;
mod find;
mod path;
#[cfg(test)]
mod tests;

pub use edit::{Clash, replace};
pub use path::{PathError, TemplatePath};

/// The images in one text of manifests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// Pods and Pod templates, in the order of the text, including those without an image.
    pub pods: Vec<Pod>,
    /// Labels of the namespaces in the text, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// How many objects and other documents hold no Pod. Empty documents are not counted.
    pub others: usize,
    /// Values that should be an image but are not. Errors: an image may have been missed. Warnings:
    /// a template path matches nothing.
    pub problems: Vec<Diagnostic>,
}

/// A Pod, or the template of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Kind of the object that holds it.
    pub kind: String,
    /// Name of that object; if it has no name yet, its `generateName` and `*`.
    pub name: Option<String>,
    /// Namespace of that object, if the manifest has it.
    pub namespace: Option<String>,
    /// Labels of the Pod; for a workload, those of the template.
    pub labels: BTreeMap<String, String>,
    /// Its images, in the order of the text.
    pub images: Vec<Image>,
}

/// An image that a Pod names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The reference, as the API server would see it.
    pub image: String,
    /// Which container or volume names it.
    pub field: Field,
    /// The path of the field in its object: `spec.template.spec.containers[0].image`.
    pub path: String,
    /// Where it is written; for an alias, where its anchor is.
    pub span: Span,
    /// How it is written.
    pub style: Style,
}

/// The part of a Pod that names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Which list it is in.
    pub list: List,
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

/// Finds the images of a text. `source` names it in messages; `templates` adds to the built-in
/// kinds.
///
/// # Errors
/// The text is not YAML or JSON.
pub fn read(source: &str, text: &str, templates: &[TemplatePath]) -> Result<Manifest, Diagnostics> {
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
    Ok(find::images(source, text, templates, &documents))
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

    /// The field of a Pod's `spec`.
    pub fn as_str(self) -> &'static str {
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
        f.write_str(match self.list {
            List::Containers => "container",
            List::InitContainers => "init container",
            List::EphemeralContainers => "ephemeral container",
            List::Volumes => "volume",
        })?;
        match &self.name {
            Some(name) => write!(f, " {name}"),
            None => write!(f, " #{}", self.index + 1),
        }
    }
}
