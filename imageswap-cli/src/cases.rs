//! Test cases: what is asked of which policy, and where that is written.

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;
use std::path::Path;

/// One case. Fields that are not known are for whoever wrote them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Case {
    /// Text of a maps file.
    pub(crate) maps: Option<String>,
    /// An ImageSwapPolicy: itself, its text, or its file, as seen from the file of the case.
    pub(crate) policy: Option<Value>,
    /// The day to decide on; today without it.
    pub(crate) date: Option<String>,
    /// ImageSwap's mode: `maps`, or anything else for its legacy mode.
    pub(crate) mode: Option<String>,
    /// Prefix of the legacy mode.
    pub(crate) image_prefix: Option<String>,
    pub(crate) image: String,
    /// The result; without one, what must hold of any result is checked.
    pub(crate) expected: Option<String>,
    pub(crate) approved: Option<bool>,
}

/// A case, or why it cannot be read, with its line.
#[derive(Debug)]
pub(crate) struct Written {
    /// From 1.
    pub(crate) line: u64,
    pub(crate) case: Result<Case, String>,
}

/// Reads the cases of a file: JSON lines, or YAML (a list of cases, or one in each document).
///
/// The file's name tells which; where it does not, JSON lines begin with an object that fills its line.
pub(crate) fn read(path: &Path, text: &str) -> Vec<Written> {
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
    if json { json_lines(text) } else { yaml(text) }
}

fn json_lines(text: &str) -> Vec<Written> {
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, it)| !it.trim().is_empty());
    lines
        .map(|(line, text)| Written {
            line,
            case: serde_json::from_str(text).map_err(|it| it.to_string()),
        })
        .collect()
}

fn yaml(text: &str) -> Vec<Written> {
    let content = text
        .lines()
        .map(str::trim_end)
        .find(|it| !(it.is_empty() || it.starts_with('#') || it.starts_with("---")));
    let is_list = content
        .is_some_and(|it| it.starts_with('[') || it == "-" || it.trim_start().starts_with("- "));
    let cases: Result<Vec<Spanned<Case>>, _> = if is_list {
        serde_saphyr::from_multiple::<Vec<Spanned<Case>>>(text)
            .map(|it| it.into_iter().flatten().collect())
    } else {
        serde_saphyr::from_multiple::<Spanned<Case>>(text)
    };
    match cases {
        Ok(cases) => cases
            .into_iter()
            .map(|it| Written {
                line: it.referenced.line(),
                case: Ok(it.value),
            })
            .collect(),
        Err(error) => vec![Written {
            line: error.location().map_or(1, |it| it.line()),
            case: Err(error.without_snippet().to_string()),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(name: &str, text: &str) -> Vec<(u64, String)> {
        let image = |it: Result<Case, String>| {
            it.map_or_else(|error| format!("error: {error}"), |it| it.image)
        };
        read(Path::new(name), text)
            .into_iter()
            .map(|it| (it.line, image(it.case)))
            .collect()
    }

    #[test]
    fn formats() {
        let two = [(1, "a".to_owned()), (3, "b".to_owned())];
        let lines = "{\"image\": \"a\", \"id\": 1, \"expected\": null}\n\n{\"image\": \"b\"}\n";
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
    fn what_cannot_be_read_has_a_line() {
        let found = images(
            "x.jsonl",
            "{\"image\": \"a\"}\n{\"image\": 1}\n{\"image\": \"b\"}\n",
        );
        assert_eq!(found.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(
            found[1].1.starts_with("error: ") && found[2].1 == "b",
            "{found:?}"
        );
        let found = images("x.yaml", "- image: a\n- id: 1\n");
        assert!(found[0].0 == 2 && found[0].1.contains("image"), "{found:?}");
    }
}
