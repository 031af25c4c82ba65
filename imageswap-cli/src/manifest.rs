//! Code shared by `check`, `rewrite` and `images`: reads manifests, and asks the policy about every
//! image.

use crate::input::{self, Input};
use crate::policy::{DateArgs, PolicyArgs};
use crate::report;
use crate::scope::{NamespaceArgs, Namespaces, Undecided};
use anyhow::Result;
use clap::Args;
use imageswap_policy::manifest::{self, Image, Manifest, Pod, TemplatePath};
use imageswap_policy::{Date, Decision, Policies, Policy, Reason, Selected, Severity};
use std::path::PathBuf;

pub(crate) mod check;
mod copy;
mod finding;
pub(crate) mod images;
pub(crate) mod rewrite;

/// The manifests.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct FileArgs {
    /// Manifests: files, folders, or `-` for standard input
    ///
    /// For a folder, all *.yaml, *.yml and *.json files in it and below it,
    /// except names that begin with a dot.
    #[arg(
        short = 'f',
        long = "filename",
        required = true,
        value_name = "PATH",
        verbatim_doc_comment
    )]
    files: Vec<PathBuf>,
    /// Where a custom resource keeps its Pod template
    ///
    /// Such as Rollout=spec.template; `*` stands for all items of a list or
    /// a mapping, and the kind may have its API group:
    /// Job.batch.volcano.sh=spec.tasks.*.template. May be given more than
    /// once.
    #[arg(long, value_name = "KIND=PATH", verbatim_doc_comment)]
    template_path: Vec<TemplatePath>,
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
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    date: DateArgs,
}

/// Manifests that were read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) files: Vec<(Input, Manifest)>,
    /// Whether something could not be read; its message is already written.
    pub(crate) failed: bool,
}

/// Manifests that were read, and the policies to ask about them.
#[derive(Debug)]
pub(crate) struct Manifests<'a> {
    files: Vec<(Input, Manifest)>,
    policies: Policies,
    /// Namespace of objects without one.
    namespace: String,
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
    /// Reads the manifests. Errors are written to standard error.
    pub(crate) fn read(&self) -> Read {
        let (inputs, errors) = input::read_all(&self.files);
        let mut failed = !errors.is_empty();
        for error in errors {
            report(&format!("error: {error:#}"));
        }
        let mut files = Vec::new();
        for input in inputs {
            match manifest::read(&input.name, &input.text, &self.template_path) {
                Ok(found) => {
                    for problem in &found.problems {
                        failed |= problem.severity == Severity::Error;
                        report(&format!("{problem}\n"));
                    }
                    files.push((input, found));
                }
                Err(error) => {
                    failed = true;
                    report(&format!("{error}\n"));
                }
            }
        }
        Read { files, failed }
    }
}

impl ManifestArgs {
    /// Reads policy and manifests. Errors about manifests are written to standard error.
    ///
    /// # Errors
    /// The policy cannot be read.
    pub(crate) fn read(&self) -> Result<Manifests<'_>> {
        let policies = self.policy.load()?;
        let Read { mut files, failed } = self.files.read();
        let mut namespaces = Namespaces::new(&self.namespaces);
        for (_, found) in &mut files {
            namespaces.extend(std::mem::take(&mut found.namespaces));
        }
        Ok(Manifests {
            files,
            policies,
            namespace: self.namespace.clone(),
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

    /// How many documents contain no Pod.
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
            let selected =
                self.namespaces
                    .select(&self.policies, self.today, namespace, &pod.labels);
            pod.images.iter().map(move |image| {
                let name = image.field.name.as_deref().unwrap_or_default();
                let selected = selected.in_container(image.field.list.container(name));
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
