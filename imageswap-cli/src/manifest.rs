//! Code shared by `check`, `rewrite` and `images`: reads manifests, and asks the policy about every
//! image.

use crate::input::{self, Input};
use crate::policy::{DateArgs, PolicyArgs};
use crate::report;
use crate::scope::{Labels, NamespaceArgs, Namespaces, Undecided, parse_labels};
use anyhow::Result;
use clap::Args;
use imageswap_policy::manifest::{self, Image, ImagePath, Manifest, Pod};
use imageswap_policy::{Date, Decision, Diagnostic, Policies, Policy, Reason, Selected, Severity};
use std::collections::BTreeSet;
use std::path::PathBuf;

pub(crate) mod check;
mod copy;
mod finding;
pub(crate) mod images;
pub(crate) mod rewrite;
mod summary;

/// The manifests.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct FileArgs {
    /// Manifests, as with -f
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Manifests: files, folders, or `-` for standard input
    ///
    /// For a folder, all *.yaml, *.yml and *.json files in it and below it,
    /// except names that begin with a dot.
    #[arg(
        short = 'f',
        long = "filename",
        alias = "file",
        required_unless_present = "paths",
        value_name = "PATH",
        verbatim_doc_comment
    )]
    files: Vec<PathBuf>,
    /// Where objects of a kind name images
    ///
    /// The path refers to an image, a container or a Pod template, such as
    /// Widget=spec.image. `*` stands for all items of a list or a mapping,
    /// a NAME in brackets for the item called NAME or the argument
    /// NAME=.... The kind may have its API group, as in
    /// Job.batch.volcano.sh=spec.tasks.*.template. Adds to the known kinds.
    /// May be given more than once.
    #[arg(
        long,
        visible_alias = "template-path",
        value_name = "KIND=PATH",
        verbatim_doc_comment
    )]
    image_path: Vec<ImagePath>,
}

/// The manifests, and further information for the policy.
#[derive(Debug, Args)]
pub(crate) struct ManifestArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Namespace of objects without one
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    /// Labels of Pods, where the manifests do not show them
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = parse_labels)]
    labels: Option<Labels>,
    /// Name of the container, where the manifests do not show it
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    date: DateArgs,
}

/// Manifests that were read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) files: Vec<(Input, Manifest)>,
    /// What is wrong with their texts; already written, too.
    problems: Vec<Diagnostic>,
    /// Whether there was a warning without a place.
    warned: bool,
    /// Whether something could not be read; its message is already written.
    pub(crate) failed: bool,
}

/// Manifests that were read, and the policies to ask about them.
#[derive(Debug)]
pub(crate) struct Manifests<'a> {
    files: Vec<(Input, Manifest)>,
    /// What is wrong with their texts; already written, too.
    problems: Vec<Diagnostic>,
    /// Whether there was a warning about them.
    pub(crate) warned: bool,
    policies: Policies,
    /// Namespace of objects without one.
    namespace: String,
    /// What the manifests may not show.
    labels: Option<&'a Labels>,
    container: Option<&'a str>,
    namespaces: Namespaces<'a>,
    today: Date,
    /// Whether something could not be read; its message is already written.
    pub(crate) failed: bool,
}

/// An image, and the policy's decision about it.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) file: &'a Input,
    pub(crate) pod: &'a Pod,
    pub(crate) image: &'a Image,
    /// Namespace of the Pod, even if the manifest has none.
    pub(crate) namespace: &'a str,
    pub(crate) policy: Option<&'a Policy>,
    pub(crate) decision: Decision<'a>,
    selected: Selected<'a>,
}

impl FileArgs {
    /// Reads the manifests. Errors and warnings are written to standard error.
    pub(crate) fn read(&self) -> Read {
        let files = [&self.files[..], &self.paths].concat();
        let (inputs, errors) = input::read_all(&files);
        let mut read = Read {
            files: Vec::new(),
            problems: Vec::new(),
            warned: false,
            failed: !errors.is_empty(),
        };
        for error in errors {
            report(&format!("error: {error:#}"));
        }
        let mut used = BTreeSet::new();
        for input in inputs {
            match manifest::read(&input.name, &input.text, &self.image_path) {
                Ok(mut found) => {
                    read.problems.append(&mut found.problems);
                    used.append(&mut found.used);
                    read.files.push((input, found));
                }
                Err(errors) => read.problems.extend(errors.0),
            }
        }
        for problem in &read.problems {
            read.failed |= problem.severity == Severity::Error;
            read.warned |= problem.severity == Severity::Warning;
            report(&format!("{problem}\n"));
        }
        for (index, path) in self.image_path.iter().enumerate() {
            if !used.contains(&index) {
                read.warned = true;
                report(&format!(
                    "warning: --image-path {path} matches no image in these manifests"
                ));
            }
        }
        read
    }
}

impl ManifestArgs {
    /// Reads policy and manifests. Errors about manifests are written to standard error.
    ///
    /// # Errors
    /// The policy cannot be read.
    pub(crate) fn read(&self) -> Result<Manifests<'_>> {
        let policies = self.policy.load()?;
        let Read {
            mut files,
            problems,
            warned,
            failed,
        } = self.files.read();
        let mut namespaces = Namespaces::new(&self.namespaces);
        for (_, found) in &mut files {
            namespaces.extend(std::mem::take(&mut found.namespaces));
        }
        Ok(Manifests {
            files,
            problems,
            warned,
            policies,
            namespace: self.namespace.clone(),
            labels: self.labels.as_ref(),
            container: self.container.as_deref(),
            namespaces,
            today: self.date.date(),
            failed,
        })
    }
}

impl Manifests<'_> {
    /// The texts, in the order of the command line.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Input> {
        self.files.iter().map(|it| &it.0)
    }

    /// What is wrong with the texts.
    pub(crate) fn problems(&self) -> &[Diagnostic] {
        &self.problems
    }

    /// How many documents contain no image.
    pub(crate) fn others(&self) -> usize {
        self.files.iter().map(|it| it.1.others).sum()
    }

    /// Asks about every image, in the order of files and text.
    pub(crate) fn ask(&self) -> Vec<Asked<'_>> {
        let pods = self
            .files
            .iter()
            .flat_map(|(file, found)| found.pods.iter().map(move |pod| (file, pod)));
        pods.flat_map(|(file, pod)| {
            let namespace = pod.namespace.as_deref().unwrap_or(&self.namespace);
            let labels = pod.labels.as_ref().or(self.labels);
            let selected = self
                .namespaces
                .select(&self.policies, self.today, namespace, labels);
            pod.images.iter().map(move |image| {
                let name = image.field.name.as_deref().unwrap_or_default();
                let selected = match (image.field.list, self.container) {
                    (Some(list), _) => selected.in_container(list.container(name)),
                    (None, Some(name)) => selected.in_container(Some(name)),
                    (None, None) => selected.clone(),
                };
                Asked {
                    file,
                    pod,
                    image,
                    namespace,
                    policy: selected.policy(),
                    decision: selected.decide(&image.image),
                    selected,
                }
            })
        })
        .collect()
    }
}

/// Writes what is missing for a decision to standard error; returns whether anything is.
pub(crate) fn report_undecided(asked: &[Asked<'_>]) -> bool {
    let mut undecided = Undecided::default();
    for it in asked.iter().filter(|it| it.undecided()) {
        undecided.add(
            &it.selected,
            Some(it.namespace),
            Some("the manifest of the Namespace"),
        );
    }
    undecided.report();
    !undecided.is_empty()
}

impl Asked<'_> {
    /// Whether the policy refuses the image, even after the swap.
    pub(crate) fn refused(&self) -> bool {
        self.decision.in_scope && !self.decision.approved
    }

    /// Whether the image has a variable, so that nobody knows it before it runs.
    pub(crate) fn is_variable(&self) -> bool {
        let image = &self.image.image;
        self.decision.reason == Reason::Unparsable
            && self.decision.in_scope
            && ["$(", "${", "{{"].iter().any(|it| image.contains(it))
    }

    /// Whether too little is known to decide.
    pub(crate) fn undecided(&self) -> bool {
        self.decision.reason == Reason::ScopeUnknown
    }

    /// The policy author's message about an image that is not approved.
    pub(crate) fn message(&self) -> Option<&str> {
        let own = self.decision.denied.and_then(|it| it.message);
        own.or_else(|| self.policy.and_then(Policy::message))
    }

    /// Its place: `file:line:column`.
    pub(crate) fn place(&self) -> String {
        let span = self.image.span;
        format!("{}:{}:{}", self.file.name, span.line, span.column)
    }
}
