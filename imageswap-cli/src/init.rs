//! `imageswap init`: writes a first policy for the images that manifests name.

use crate::manifest::FileArgs;
use crate::{Outcome, report};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use imageswap_import::write;
use imageswap_policy::document::{self, Enforcement, ImageSwapPolicy, Rule, Spec};
use imageswap_policy::{Reference, manifest};
use imageswap_runtime::text::{counted, shown};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Arguments of `imageswap init`.
///
/// Prints an ImageSwapPolicy with a rule for each registry that the
/// manifests' images come from: `docker.io` goes to `TO/docker.io`, as a
/// registry with a pull-through project for each other registry has it. The
/// policy changes and refuses nothing yet (`enforcement: audit`).
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// The registry that all images are to come from, with a path if it has one
    #[arg(long, value_name = "REGISTRY[/PATH]")]
    to: String,
    /// Name of the policy
    #[arg(long, value_name = "NAME", default_value = "first")]
    name: String,
}

/// Images in their canonical form, by registry.
type ByRegistry = BTreeMap<String, BTreeSet<String>>;

/// Runs the command: 2 if something cannot be read, or is not an image reference; the policy is then
/// for the others.
///
/// # Errors
/// There is no image, or the policy would not load.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let to = args.to.trim_end_matches('/');
    let own = own(to);
    let below = to.strip_prefix(own.as_str());
    if !below.is_some_and(|it| it.is_empty() || it.starts_with('/')) {
        bail!(
            "--to {to}: expected a registry first, such as `registry.example.com` or `localhost:5000`"
        );
    }
    let read = args.files.read();
    let mut failed = read.failed;
    let mut images = ByRegistry::new();
    for (input, found) in &read.files {
        for manifest::Image { image, span, .. } in found.pods.iter().flat_map(|it| &it.images) {
            match Reference::parse(image) {
                Ok(reference) => {
                    let all = images.entry(reference.registry().to_owned()).or_default();
                    all.insert(reference.canonical());
                }
                Err(error) => {
                    failed = true;
                    let (place, line, column) = (&input.name, span.line, span.column);
                    let image = shown(image);
                    report(&format!(
                        "error: {place}:{line}:{column}: `{image}` is not an image reference: {error}"
                    ));
                }
            }
        }
    }
    if images.is_empty() {
        bail!("the manifests name no image, and a policy begins with those that are used");
    }
    let (policy, comments) = policy(&args.name, to, &images);
    let head = "`deny`, which also refuses.";
    let text = write::policy(&policy, head, &comments);
    if let Err(errors) = document::load("the policy", &text) {
        bail!(
            "no policy with --to {to} and --name {}:\n{errors}",
            args.name
        );
    }
    let count = counted(images.values().map(BTreeSet::len).sum::<usize>(), "image");
    for line in [
        format!("Made by `imageswap init` from manifests with {count}. Assumed: everything on"),
        format!("{own} is approved, and {to}/HOST is a pull-through project for"),
        "each registry HOST below. `audit` changes and refuses nothing: it logs and counts."
            .to_owned(),
        "When `imageswap check` says what you expect, write `warn`, which swaps, and later"
            .to_owned(),
    ] {
        writeln!(out, "# {line}")?;
    }
    write!(out, "{text}")?;
    out.flush()?;
    Ok(Outcome::of(!failed, false))
}

/// The policy, and a comment for each rule.
fn policy(name: &str, to: &str, images: &ByRegistry) -> (ImageSwapPolicy, Vec<String>) {
    let own = own(to);
    let mut comments = Vec::new();
    let mut rules = Vec::new();
    let there = images.get(own.as_str()).map_or(0, BTreeSet::len);
    comments.push(format!("{} of the manifests", counted(there, "image")));
    rules.push(Rule {
        name: Some("own".to_owned()),
        keep: Some(format!("{own}/**")),
        ..Rule::default()
    });
    for (registry, images) in images.iter().filter(|it| *it.0 != own) {
        let project = project(registry);
        let example = images.first().map_or("", String::as_str);
        comments.push(format!(
            "{}, such as {example}",
            counted(images.len(), "image")
        ));
        rules.push(Rule {
            name: Some(project.clone()),
            from: Some(format!("{registry}/**")),
            to: Some(format!("{to}/{project}")),
            ..Rule::default()
        });
    }
    let spec = Spec {
        rules,
        enforcement: Enforcement::Audit,
        ..Spec::default()
    };
    (ImageSwapPolicy::new(name, spec), comments)
}

/// The registry of a place.
fn own(to: &str) -> String {
    Reference::registry_of(&format!("{to}/image")).to_owned()
}

/// A registry's name as a path segment, in which no port and no upper case can be.
fn project(registry: &str) -> String {
    let lower = registry.to_ascii_lowercase();
    let name = lower.replace(|it: char| !it.is_ascii_alphanumeric() && it != '.', "-");
    name.trim_matches(['-', '.']).to_owned()
}
