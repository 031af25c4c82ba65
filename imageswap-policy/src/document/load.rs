//! From a text to policies, or to what is wrong with it.

use super::places::{Messages, Step};
use super::{API_VERSION, ImageSwapPolicy, KIND, checks, compile};
use crate::yaml::{self, Node, Value};
use crate::{Diagnostics, Policy, Severity};
use std::collections::BTreeMap;

/// Names that are near enough to be meant.
const NEAR: f64 = 0.7;

/// Policies that loaded, with the warnings about their text.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The compiled policies, in the order of the text.
    pub policies: Vec<Policy>,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Compiles the ImageSwapPolicies of a YAML or JSON text: any number of documents, or a `List` of them. `source` names
/// it in diagnostics (a path, usually).
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
        let (mut more, mut messages) = read(source, text, false, &mut names);
        policies.append(&mut more);
        found.0.append(&mut messages.0);
    }
    if found.iter().any(|it| it.severity == Severity::Error) {
        return Err(found);
    }
    Ok(Loaded {
        policies,
        warnings: found,
    })
}

/// All that there is to say about a text: what [`load`] says, and what its author may want to look at again.
pub fn lint(source: &str, text: &str) -> Diagnostics {
    read(source, text, true, &mut BTreeMap::new()).1
}

/// Names of policies, and where they stand.
type Names = BTreeMap<String, String>;

fn read(source: &str, text: &str, all: bool, names: &mut Names) -> (Vec<Policy>, Diagnostics) {
    let nodes = match yaml::parse(source, text) {
        Ok(nodes) => nodes,
        Err(error) => return (Vec::new(), Diagnostics(vec![error])),
    };
    let mut policies: Vec<Policy> = Vec::new();
    let mut found = Vec::new();
    let documents: Vec<_> = nodes.iter().flat_map(documents).collect();
    for node in &documents {
        let mut messages = Messages::new(source, text, node);
        if let Some(document) = deserialize(node, &mut messages) {
            let name = &document.metadata.name;
            let place = format!("{source}:{}", node.span.line);
            if let Some(earlier) = names.insert(name.clone(), place) {
                let message = format!("a policy `{name}` stands at {earlier} already");
                let path = [Step::Key("metadata"), Step::Key("name")];
                messages.error(&path, "duplicate-name", message);
            }
            let draft = compile::draft(&document, &mut messages);
            checks::always(&document, &draft, &mut messages);
            if all {
                checks::lint(&draft, &mut messages);
            }
            let sound = messages
                .found
                .iter()
                .all(|it| it.severity < Severity::Error);
            if sound && let Some(policy) = compile::finish(draft, &mut messages) {
                policies.push(policy);
            }
        }
        found.append(&mut messages.finish().0);
    }
    if documents.is_empty() {
        let message = format!("expected a document of kind {KIND}, found none");
        let span = yaml::Span {
            start: 0,
            end: 0,
            line: 1,
            column: 1,
        };
        found.push(span.error(source, text, "unknown-kind", message));
    }
    (policies, Diagnostics(found))
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

fn deserialize(node: &Node, messages: &mut Messages<'_>) -> Option<ImageSwapPolicy> {
    if !matches!(node.value, Value::Mapping(_)) {
        let message = format!("expected an {KIND}, found {}", node.kind());
        messages.error(&[], "unknown-kind", message);
        return None;
    }
    for (key, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let found = node.get(key).and_then(Node::as_str);
        if found != Some(expected) {
            let message = match found {
                Some(found) => format!("expected `{key}: {expected}`, found `{found}`"),
                None => format!("expected `{key}: {expected}`"),
            };
            messages.error(&[Step::Key(key)], "unknown-kind", message);
            return None;
        }
    }
    let mut unknown = Vec::new();
    let json = node.to_json();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&json, &mut track);
    let result = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    let before = messages.found.len();
    for path in unknown {
        unknown_field(&path, messages);
    }
    let sound = messages.found.len() == before;
    match result {
        Ok(document) => Some(document).filter(|_| sound),
        Err(error) => {
            let path = track.path();
            let path: Vec<_> = path
                .iter()
                .filter_map(|it| match it {
                    serde_path_to_error::Segment::Seq { index } => Some(Step::Index(*index)),
                    serde_path_to_error::Segment::Map { key } => Some(Step::Key(key)),
                    _ => None,
                })
                .collect();
            messages.error(&path, "field", error.to_string());
            None
        }
    }
}

/// `spec.rules.0.form`, as `serde_ignored` writes it.
fn unknown_field(path: &str, messages: &mut Messages<'_>) {
    let steps: Vec<_> = path
        .split('.')
        .filter(|it| *it != "?")
        .map(|it| it.parse().map_or(Step::Key(it), Step::Index))
        .collect();
    // Kubernetes keeps more in these than a policy's author writes.
    if matches!(
        steps[..],
        [Step::Key("metadata"), _, ..] | [Step::Key("status"), ..]
    ) {
        return;
    }
    let Some(Step::Key(name)) = steps.last().copied() else {
        return;
    };
    let above: Vec<_> = steps[..steps.len() - 1]
        .iter()
        .filter_map(|it| match it {
            Step::Key(key) => Some(*key),
            Step::Index(_) => None,
        })
        .collect();
    let known: &[&str] = match above[..] {
        [] => &["apiVersion", "kind", "metadata", "spec"],
        ["spec"] => &[
            "priority",
            "match",
            "rules",
            "approved",
            "exceptions",
            "imagePullSecrets",
            "enforcement",
            "message",
        ],
        ["spec", "match"] => &[
            "namespaceSelector",
            "objectSelector",
            "nodeLevel",
            "allowOptOut",
        ],
        ["spec", "rules"] => &["name", "keep", "from", "regex", "to"],
        ["spec", "exceptions"] => &["pattern", "until", "reason"],
        ["spec", "imagePullSecrets"] => &["registry", "name"],
        ["spec", "match", _, "matchExpressions"] => &["key", "operator", "values"],
        ["spec", "match", _] => &["matchLabels", "matchExpressions"],
        _ => &[],
    };
    let near = known
        .iter()
        .map(|it| (strsim::jaro_winkler(it, name), it))
        .filter(|it| it.0 > NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let help = match near {
        Some((_, near)) => Some(format!("write `{near}`")),
        None if known.is_empty() => None,
        None => Some(format!("known here: {}", known.join(", "))),
    };
    messages
        .error_at_key(
            &steps,
            "unknown-field",
            format!("there is no field `{name}` here"),
        )
        .help = help;
}
