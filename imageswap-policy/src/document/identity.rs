//! Checks that a document is an ImageSwapPolicy, and recognises other documents.

use super::{API_VERSION, GROUP, KIND};
use crate::yaml::places::{Messages, Step};
use crate::yaml::{Node, Value};

/// Similarity from which a kind counts as a misspelling of ours.
const NEAR: f64 = 0.85;

/// Whether the document is meant to be an ImageSwapPolicy; if not, a message says what to do with
/// it.
pub(super) fn check(node: &Node, messages: &mut Messages<'_>) -> bool {
    if !matches!(node.value, Value::Mapping(_)) {
        let message = format!("expected an {KIND}, found {}", node.kind());
        let help = match &node.value {
            Value::Sequence(_) => {
                "write each policy without `- ` before it, and `---` in a line between two"
            }
            Value::String(text) if text.contains("::") => {
                "this looks like a maps file: name it with `--maps`"
            }
            _ => "a policy begins with `apiVersion: imageswap.io/v1alpha1`",
        };
        messages.error(&[], "unknown-kind", message).help = Some(help.to_owned());
        return false;
    }
    let text = |key: &str| node.get(key).and_then(Node::as_str);
    let (version, kind) = (text("apiVersion"), text("kind"));
    let ours = version.is_some_and(|it| it.to_lowercase().contains("imageswap"))
        || kind.is_some_and(|it| {
            strsim::jaro_winkler(&it.to_lowercase(), &KIND.to_lowercase()) > NEAR
        })
        || (version.is_none() && kind.is_none() && node.get("spec").is_some());
    if ours {
        return true;
    }
    let (message, help) = match kind {
        Some(kind) => (
            format!("expected `kind: {KIND}`, found `{kind}`"),
            other(version.unwrap_or_default(), kind),
        ),
        None => (
            format!("expected a document with `kind: {KIND}`"),
            format!("begin it with `apiVersion: {API_VERSION}` and `kind: {KIND}`"),
        ),
    };
    messages
        .error(&[Step::Key("kind")], "unknown-kind", message)
        .help = Some(help);
    false
}

/// What to do with another program's document.
fn other(version: &str, kind: &str) -> String {
    let groups = ["kyverno.io", "gatekeeper.sh", "kubewarden.io"];
    if groups.iter().any(|group| {
        version
            .split('/')
            .next()
            .is_some_and(|it| it.ends_with(group))
    }) {
        return "run `imageswap import -f FILE`, which writes an ImageSwapPolicy from it"
            .to_owned();
    }
    match kind {
        "ConfigMap" => {
            "a ConfigMap may hold a policy or a maps file: write its text to a file of its own, and name that"
                .to_owned()
        }
        _ => format!("only documents of {GROUP} are policies: leave this one out"),
    }
}

/// A valid Kubernetes name: labels of lower-case letters, digits and `-`, separated by `.`.
pub(super) fn is_object_name(name: &str) -> bool {
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let label = |it: &str| {
        let edges = [it.bytes().next(), it.bytes().next_back()];
        edges.into_iter().all(|it| it.is_some_and(plain))
            && it.bytes().all(|it| plain(it) || it == b'-')
    };
    !name.is_empty() && name.len() <= 253 && name.split('.').all(label)
}
