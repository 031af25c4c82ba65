//! Loads policies from a text, or reports its mistakes.

use super::{API_VERSION, ImageSwapPolicy, KIND, checks, compile, identity, lint, schema};
use crate::yaml::places::{Messages, Step};
use crate::yaml::{self, Format, Node};
use crate::{Diagnostic, Diagnostics, Policy, Severity};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use time::Date;

/// What a document may hold.
static FORMAT: LazyLock<Format> = LazyLock::new(|| Format::new(schema()));

/// Policies that loaded, with the warnings about their text.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The compiled policies, in the order of the text.
    pub policies: Vec<Policy>,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Compiles the ImageSwapPolicies of a YAML or JSON text: any number of documents, or `List`s. `source` names
/// the text in diagnostics (a path, usually).
///
/// # Errors
/// All diagnostics of the text, at least one of them an error.
pub fn load(source: &str, text: &str) -> Result<Loaded, Diagnostics> {
    load_all([(source, text)])
}

/// [`load`] of several texts, each with its source; names are unique among all of them.
///
/// # Errors
/// As [`load`].
pub fn load_all<'a>(
    texts: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Loaded, Diagnostics> {
    let mut policies = Vec::new();
    let mut found = Diagnostics::default();
    let mut names = BTreeMap::new();
    for (source, text) in texts {
        let mut read = read(source, text, None, &mut names);
        policies.append(&mut read.policies);
        found.0.append(&mut read.found);
    }
    if found.iter().any(|it| it.severity == Severity::Error) {
        return Err(found);
    }
    Ok(Loaded {
        policies,
        warnings: found,
    })
}

/// The linter's report about texts.
#[derive(Debug, Clone)]
pub struct Linted {
    /// All messages, text by text.
    pub found: Diagnostics,
    /// How many documents the texts hold.
    pub policies: usize,
}

/// All messages about a set of policies: those of [`load_all`], and likely mistakes. `today` is in
/// UTC: exceptions end.
pub fn lint_all<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>, today: Date) -> Linted {
    let mut all: Vec<_> = texts
        .into_iter()
        .map(|(source, text)| {
            let read = read(source, text, Some(today), &mut BTreeMap::new());
            ((source, text), read)
        })
        .collect();
    let places = all.iter().enumerate().flat_map(|(at, (_, read))| {
        let documents = read.documents.iter();
        documents.map(move |(document, span)| (at, document, *span))
    });
    let mut set: Vec<_> = places.collect();
    set.sort_by_key(|(_, it, _)| (Reverse(it.spec.priority), &it.metadata.name));
    // Files that repeat a name, such as those of two clusters, are not one set.
    let names: BTreeSet<_> = set.iter().map(|(_, it, _)| &it.metadata.name).collect();
    let one_set = names.len() == set.len();
    let mut never = Vec::new();
    for (position, (at, later, span)) in set.iter().enumerate() {
        let mut earlier = set[..position]
            .iter()
            .filter(|it| one_set || it.0 == *at)
            .map(|it| it.1);
        if let Some(first) = earlier.find(|it| lint::applies_to_all_of(it, later)) {
            never.push((*at, lint::never_chosen(first, later, all[*at].0, *span)));
        }
    }
    for (at, message) in never {
        all[at].1.found.push(message);
        all[at].1.found.sort_by_key(|it| (it.line, it.column));
    }
    Linted {
        policies: all.iter().map(|(_, it)| it.count).sum(),
        found: Diagnostics(all.into_iter().flat_map(|(_, it)| it.found).collect()),
    }
}

/// Names of policies, and their places.
type Names = BTreeMap<String, String>;

/// The content of a text.
struct Read {
    policies: Vec<Policy>,
    found: Vec<Diagnostic>,
    /// The valid documents, with the places of their names.
    documents: Vec<(ImageSwapPolicy, yaml::Span)>,
    /// The number of documents, valid or not.
    count: usize,
}

fn read(source: &str, text: &str, lint: Option<Date>, names: &mut Names) -> Read {
    let parsed = yaml::read(source, text);
    let mut policies: Vec<Policy> = Vec::new();
    let mut found = parsed.errors;
    let unread = found.len();
    // A field that is given twice leaves the document readable.
    let lost = found.iter().any(|it| it.code != "yaml-duplicate-key");
    let mut sound_documents = Vec::new();
    let documents: Vec<_> = parsed.documents.iter().flat_map(documents).collect();
    for node in &documents {
        let mut messages = Messages::new(source, text, node);
        if let Some(document) = document(node, &mut messages) {
            let misshapen = messages.found.len();
            let name = &document.metadata.name;
            let place = format!("{source}:{}", node.span.line);
            if let Some(earlier) = names.insert(name.clone(), place) {
                let message = format!("another policy is called `{name}` already, at {earlier}");
                let path = [Step::Key("metadata"), Step::Key("name")];
                messages.error(&path, "duplicate-name", message).help =
                    Some(format!("rename one of them, for example to `{name}-2`"));
            }
            let draft = compile::draft(&document, &mut messages);
            checks::always(&document, &draft, &mut messages);
            if let Some(today) = lint {
                checks::lint(&draft, &mut messages);
                lint::document(&document, &draft, today, &mut messages);
            }
            let sound = messages
                .found
                .iter()
                .all(|it| it.severity < Severity::Error);
            if sound && let Some(policy) = compile::finish(draft, &mut messages) {
                policies.push(policy);
                let name = node.get("metadata").and_then(|it| it.get("name"));
                sound_documents.push((document, name.map_or(node.span, |it| it.span)));
            }
            consequences(&mut messages.found, misshapen);
        }
        found.append(&mut messages.finish().0);
    }
    found.sort_by_key(|it| (it.line, it.column));
    if documents.is_empty() && unread == 0 {
        let message = format!("expected a document of kind {KIND}, found none");
        let mut error = yaml::Span::default().error(source, text, "unknown-kind", message);
        error.help = Some(format!(
            "begin with `apiVersion: {API_VERSION}` and `kind: {KIND}`"
        ));
        found.push(error);
    }
    Read {
        policies,
        found,
        documents: sound_documents,
        count: documents.len() + usize::from(lost),
    }
}

/// Drops messages that only follow from a wrong shape. `misshapen` is the number of messages about
/// shapes. Warnings would be about an incomplete document, and so would errors about the wrong
/// value or its parents.
fn consequences(found: &mut Vec<Diagnostic>, misshapen: usize) {
    if misshapen == 0 {
        return;
    }
    let later = found.split_off(misshapen);
    let within = |outer: &str, inner: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|it| it.is_empty() || it.starts_with(['.', '[']))
    };
    let field = |it: &Diagnostic| it.field.clone().unwrap_or_default();
    let wrong: Vec<_> = found.iter().map(field).collect();
    found.extend(later.into_iter().filter(|it| {
        let here = field(it);
        let follows = wrong
            .iter()
            .any(|it| within(it, &here) || within(&here, it));
        it.severity == Severity::Error && !follows
    }));
}

/// The documents of a node: itself, or the items of a list.
fn documents(node: &Node) -> Vec<&Node> {
    match node.get("items") {
        _ if node.is_null() => Vec::new(),
        Some(items)
            if node
                .get("kind")
                .and_then(Node::as_str)
                .is_some_and(|it| it.ends_with("List")) =>
        {
            items.items().iter().collect()
        }
        _ => vec![node],
    }
}

/// Reads a document; mistakes become messages, and wrong values are empty in the result.
fn document(node: &Node, messages: &mut Messages<'_>) -> Option<ImageSwapPolicy> {
    if !identity::check(node, messages) {
        return None;
    }
    FORMAT.value(messages)
}
