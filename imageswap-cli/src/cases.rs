//! Test cases: the question, the policy, and the place in the file.

use imageswap_policy::yaml::{self, Format, Node, Parsed};
use imageswap_policy::{Diagnostic, Diagnostics};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// One case.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct Case {
    /// Text of a maps file.
    pub(crate) maps: Option<String>,
    /// An ImageSwapPolicy: itself, its text, or its file, relative to the file of the case.
    pub(crate) policy: Option<Value>,
    /// The day to decide on; by default today.
    #[schemars(extend("format" = "date"), example = &"2027-01-31")]
    pub(crate) date: Option<String>,
    /// ImageSwap's mode, as in its environment variable `IMAGESWAP_MODE`.
    #[schemars(extend("enum" = ["maps", "legacy", "MAPS", "LEGACY"]))]
    pub(crate) mode: Option<String>,
    /// Prefix of the legacy mode.
    #[schemars(example = &"registry.example.com")]
    pub(crate) image_prefix: Option<String>,
    /// Namespace of the Pod.
    #[schemars(example = &"shop")]
    pub(crate) namespace: Option<String>,
    /// Labels of the namespace.
    #[schemars(extend("examples" = [{"team": "a"}]))]
    pub(crate) namespace_labels: Option<BTreeMap<String, String>>,
    /// Name of the container.
    #[schemars(example = &"app")]
    pub(crate) container: Option<String>,
    /// Labels of the Pod.
    #[schemars(extend("examples" = [{"tier": "web"}]))]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// The image to ask about.
    #[schemars(example = &"nginx")]
    pub(crate) image: String,
    /// The result; without it, general properties of results are checked.
    #[schemars(example = &"registry.example.com/hub/library/nginx")]
    pub(crate) expected: Option<String>,
    /// Whether the result is approved.
    pub(crate) approved: Option<bool>,
    /// For the author of the case, like the fields below.
    #[serde(rename = "id")]
    _id: Option<Value>,
    #[serde(rename = "name")]
    _name: Option<Value>,
    #[serde(rename = "note")]
    _note: Option<Value>,
    #[serde(rename = "tag")]
    _tag: Option<Value>,
    /// ImageSwap's answer, in tables that were made by running it.
    #[serde(rename = "peer_result")]
    _peer_result: Option<Value>,
}

/// A case, or why it cannot be read, with its line.
#[derive(Debug)]
pub(crate) struct Written {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) case: Result<Case, Diagnostics>,
}

/// Reads the cases of a file: JSON lines, or YAML (a list of cases, or one per document). `name` is
/// the file's name in messages.
///
/// The file's extension decides; without a known one, JSON lines begin with an object that fills
/// its line.
pub(crate) fn read(name: &str, path: &Path, text: &str) -> Vec<Written> {
    let extension = path
        .extension()
        .and_then(|it| it.to_str())
        .unwrap_or_default();
    let first = text
        .lines()
        .map(str::trim)
        .find(|it| !it.is_empty())
        .unwrap_or_default();
    let json = match extension {
        "jsonl" | "ndjson" => true,
        "yaml" | "yml" => false,
        _ => first.starts_with('{') && first.ends_with('}'),
    };
    let format = Format::of::<Case>();
    let parsed = if json {
        lines(text)
            .map(|part| yaml::read_part(name, text, part))
            .collect()
    } else {
        vec![yaml::read(name, text)]
    };
    let mut written = Vec::new();
    for Parsed { documents, errors } in parsed {
        written.extend(errors.into_iter().map(of_error));
        let cases = documents
            .iter()
            .flat_map(|document| match document.items() {
                [] => std::slice::from_ref(document),
                items => items,
            });
        written.extend(cases.filter(|it| !it.is_null()).map(|node| Written {
            line: node.span.line,
            case: format.read(name, text, node),
        }));
    }
    written.sort_by_key(|it| it.line);
    written
}

/// Whether a text holds Kubernetes objects, such as policies next to cases in a folder.
pub(crate) fn is_objects(text: &str) -> bool {
    let documents = yaml::read("", text).documents;
    let is_object = |it: &Node| it.get("apiVersion").is_some() && it.get("image").is_none();
    !documents.is_empty() && documents.iter().all(is_object)
}

fn of_error(error: Diagnostic) -> Written {
    Written {
        line: error.line,
        case: Err(Diagnostics(vec![error])),
    }
}

/// The byte range of each line that is not empty.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let lines = text.split_inclusive('\n').map(move |line| {
        let part = start..start + line.len();
        start = part.end;
        part
    });
    lines.filter(|it| !text[it.clone()].trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(name: &str, text: &str) -> Vec<(usize, String)> {
        let image = |it: Result<Case, Diagnostics>| {
            it.map_or_else(|error| format!("error: {error}"), |it| it.image)
        };
        read(name, Path::new(name), text)
            .into_iter()
            .map(|it| (it.line, image(it.case)))
            .collect()
    }

    #[test]
    fn formats() {
        let two = [(1, "a".to_owned()), (3, "b".to_owned())];
        let lines = "{\"image\": \"a\", \"id\": 1, \"note\": null}\n\n{\"image\": \"b\"}\n";
        assert_eq!(images("x.jsonl", lines), two);
        assert_eq!(images("-", lines), two);
        assert_eq!(images("x.yaml", "- image: a\n  id: 1\n- image: b\n"), two);
        assert_eq!(images("-", "image: a\n---\nimage: b\n"), two);
        assert_eq!(
            images("x.json", "[{\"image\": \"a\"},\n\n{\"image\": \"b\"}]"),
            two
        );
        assert_eq!(images("-", ""), []);
    }

    #[test]
    fn what_cannot_be_read_has_a_line_and_a_suggestion() {
        for (text, line, says) in [
            (
                "{\"image\": \"b\"}\n{\"image\": 1}",
                2,
                "write `image: \"1\"`",
            ),
            (
                "{\"image\": \"b\", \"aproved\": true}",
                1,
                "write `approved`",
            ),
            (
                "{\"image\": \"b\"}\n{\"image\": ",
                2,
                "the bracket `{` that opens here",
            ),
            (
                "{\"image\": \"b\", \"mode\": \"map\"}",
                1,
                "write `mode: maps`",
            ),
            ("{\"image\": \"b\", \"expected\": null}", 1, "found nothing"),
            ("{\"maps\": \"\"}", 1, "the field `image` is missing"),
            (
                "{\"image\": \"b\", \"namespace-labels\": {}}",
                1,
                "write `namespace_labels`",
            ),
        ] {
            let found = images("x.jsonl", text);
            let wrong = found.iter().find(|it| it.0 == line && it.1.contains(says));
            assert!(wrong.is_some(), "{text}\n{found:?}");
        }
        let found = images("x.yaml", "- image: a\n- id: 1\n- imag: x\n");
        assert_eq!(found.len(), 3);
        assert!(found[1].0 == 2 && found[1].1.contains("image"), "{found:?}");
    }

    #[test]
    fn policies_beside_cases_are_told_apart() {
        assert!(is_objects("apiVersion: v1\nkind: Pod\n"));
        assert!(!is_objects("- image: a\n"));
        assert!(!is_objects("image: a\napiVersion: v1\n"));
        assert!(!is_objects(""));
    }
}
