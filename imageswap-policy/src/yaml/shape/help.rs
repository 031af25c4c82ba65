//! What to write instead of a value or field that does not fit.

use super::wanted::{choices, in_backticks, sample};
use super::{NEAR, fits, resolve};
use crate::day;
use crate::yaml::places::Step;
use crate::yaml::{Node, Value};
use serde_json::Value as Json;

/// Longest text of the user that a help repeats.
const REPEATED_MAX: usize = 100;
/// Limit on the depth of searching a schema for fields.
const DEPTH_MAX: usize = 8;

/// Words of other programs for one of our choices.
const SYNONYMS: [(&str, &[&str]); 3] = [
    (
        "deny",
        &["enforce", "block", "reject", "refuse", "fail", "forbid"],
    ),
    ("warn", &["warning", "alert"]),
    (
        "audit",
        &[
            "log", "monitor", "dryrun", "dry-run", "report", "ignore", "none", "off",
        ],
    ),
];

/// What to write instead of `node`, given `schema`; `last` is the last step of its path.
pub(super) fn mend(
    root: &Json,
    schema: &Json,
    node: &Node,
    text: &str,
    last: Option<&Step<'_>>,
) -> Option<String> {
    let shape = resolve(root, schema);
    let write = |value: &str| match last {
        Some(Step::Key(key)) => format!("write `{key}: {value}`"),
        _ => format!("write `{value}`"),
    };
    let written = Some(node.span.of(text))
        .filter(|it| !it.is_empty() && it.len() <= REPEATED_MAX && !it.contains(['\n', '\r']));
    if node.is_null() {
        return Some(of_nothing(root, schema, node, text, &write));
    }
    if let Some(choices) = choices(shape) {
        return choice(&choices, node).map(|it| write(&it));
    }
    let alternatives = shape["anyOf"].as_array();
    let kinds: Vec<_> = match alternatives {
        Some(alternatives) => alternatives.iter().map(|it| resolve(root, it)).collect(),
        None => vec![shape],
    };
    for kind in kinds {
        let mended = match (kind["type"].as_str()?, &node.value) {
            ("array", _) => list(root, &kind["items"], node, written),
            ("string", _) if kind["format"] == "date" => written.and_then(day::meant),
            ("string", Value::Number(_) | Value::Bool(_)) => written.map(|it| format!("\"{it}\"")),
            ("string", Value::Sequence(items)) => match &items[..] {
                [only] => only.as_str().map(|it| flow(&it.into())),
                [first, ..] => {
                    let first = flow(&first.as_str()?.into());
                    return Some(format!(
                        "{} here, and repeat the item for each of the others",
                        write(&first)
                    ));
                }
                [] => None,
            },
            ("boolean", Value::String(text)) => boolean(text).map(str::to_owned),
            ("integer", Value::String(text)) => text.parse::<i32>().ok().map(|it| it.to_string()),
            ("object", Value::String(text)) if kind["additionalProperties"].is_object() => {
                pairs(std::iter::once(text.as_str()))
            }
            ("object", Value::Sequence(items)) => match &items[..] {
                [only] if fits(only, kind) => {
                    return Some("remove the `-` or the brackets: this is not a list".to_owned());
                }
                items if kind["additionalProperties"].is_object() => {
                    pairs(items.iter().filter_map(Node::as_str))
                }
                _ => None,
            },
            _ => None,
        };
        if let Some(mended) = mended {
            return Some(write(&mended));
        }
    }
    if let (Value::Mapping(entries), "array") = (&node.value, shape["type"].as_str()?) {
        let name = entries.first()?.0.as_str()?;
        return Some(match name.strip_prefix('-') {
            Some(rest) => format!("put a space after `-`: `- {rest}`"),
            None => format!("put `- ` before `{name}`, which makes it an item of a list"),
        });
    }
    Some(format!(
        "{}, for example",
        write(&flow(&sample(root, schema)))
    ))
}

/// Help for a field without a value, or whose text YAML did not read as text.
fn of_nothing(
    root: &Json,
    schema: &Json,
    node: &Node,
    text: &str,
    write: &impl Fn(&str) -> String,
) -> String {
    let before = text.get(..node.span.start).unwrap_or_default();
    let line = before.rsplit(['\n', '\r']).next().unwrap_or_default();
    let rest = text.get(node.span.start..).unwrap_or_default();
    let rest = rest.split(['\n', '\r']).next().unwrap_or_default();
    // A text that begins with `!` or `#`, which YAML reads as a tag or a comment.
    let lost = |it: &str| {
        let it = it.trim_start_matches([':', ' ', '-', '[', ',']);
        let end = it.find([',', ']', '}', ' ']).unwrap_or(it.len());
        (it.starts_with(['!', '#']) && end > 1).then(|| it[..end].to_owned())
    };
    let tag = line.rfind('!').map(|it| &line[it..]);
    if let Some(text) = lost(rest).or_else(|| lost(tag?)) {
        return format!(
            "text that begins with `{}` needs quotes: write `\"{text}\"`",
            &text[..1]
        );
    }
    match resolve(root, schema)["type"].as_str() {
        Some("array") => format!("{} for an empty list, or remove it", write("[]")),
        _ => format!("{}, or remove it", write(&flow(&sample(root, schema)))),
    }
}

/// A list with the value that was written alone.
fn list(root: &Json, items: &Json, node: &Node, written: Option<&str>) -> Option<String> {
    let text = node.as_str().unwrap_or_default();
    // Items without a space after `-` form one text of several lines.
    if text.starts_with('-') {
        let items: Vec<_> = text
            .split_whitespace()
            .map(|it| flow(&it.trim_start_matches('-').into()))
            .collect();
        return Some(format!("[{}]", items.join(", ")));
    }
    let shape = resolve(root, items);
    let kinds = shape["anyOf"].as_array();
    let fit = match kinds {
        Some(kinds) => kinds.iter().any(|it| fits(node, resolve(root, it))),
        None => fits(node, shape),
    };
    let written =
        written.filter(|it| fit && (!it.contains(": ") || it.starts_with(['{', '"', '\''])))?;
    Some(if node.as_str().is_some() && text == written {
        let items: Vec<_> = text.split(", ").map(|it| flow(&it.trim().into())).collect();
        format!("[{}]", items.join(", "))
    } else {
        format!("[{written}]")
    })
}

/// The choice that a text means.
fn choice(choices: &[&str], node: &Node) -> Option<String> {
    let text = match &node.value {
        Value::String(text) => text.to_lowercase(),
        Value::Bool(false) => "off".to_owned(),
        Value::Sequence(items) => items.first()?.as_str()?.to_lowercase(),
        _ => return choices.first().map(|it| (*it).to_owned()),
    };
    let same = choices.iter().find(|it| it.to_lowercase() == text);
    let synonym = || {
        let found = SYNONYMS.iter().find(|it| it.1.contains(&text.as_str()))?;
        choices.iter().find(|it| **it == found.0)
    };
    let near = || nearest(choices.iter().copied(), &text);
    let found = same.or_else(synonym).copied().or_else(near);
    found.or(choices.first().copied()).map(str::to_owned)
}

fn boolean(text: &str) -> Option<&'static str> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" | "enabled" => Some("true"),
        "false" | "no" | "off" | "n" | "0" | "disabled" => Some("false"),
        _ => None,
    }
}

/// `{team: a}` for `team=a`.
fn pairs<'t>(texts: impl Iterator<Item = &'t str>) -> Option<String> {
    let pairs: Option<Vec<_>> = texts
        .flat_map(|it| it.split(','))
        .map(|it| {
            let (key, value) = it.split_once('=').or_else(|| it.split_once(':'))?;
            Some(format!("{}: {}", key.trim(), flow(&value.trim().into())))
        })
        .collect();
    pairs
        .filter(|it| !it.is_empty())
        .map(|it| format!("{{{}}}", it.join(", ")))
}

/// The field that was meant by one that `shape` does not have.
pub(super) fn known(
    root: &Json,
    shape: &Json,
    name: &str,
    value: &Node,
    path: &[Step<'_>],
) -> Option<String> {
    let fields = || {
        let fields = shape["properties"].as_object().into_iter().flatten();
        // Fields that only Kubernetes writes are not suggested.
        fields.filter(|it| *it.1 != true).map(|it| it.0.as_str())
    };
    if let Some(rest) = name.strip_prefix('-') {
        return Some(format!("put a space after `-`: `- {}`", rest.trim_start()));
    }
    if let Some((key, rest)) = name.split_once([':', '='])
        && value.is_null()
        && fields().any(|it| it == key.trim())
    {
        return Some(format!(
            "put a space after `:`: `{}: {}`",
            key.trim(),
            rest.trim()
        ));
    }
    if let Some(near) = nearest(fields(), name) {
        return Some(format!("write `{near}`"));
    }
    let mut places = Vec::new();
    find(root, root, name, &mut Vec::new(), &mut places);
    let here = path.iter().any(|it| matches!(it, Step::Index(_)));
    if let [place] = &places[..]
        && !(here && place.is_empty())
    {
        return Some(if place.is_empty() {
            format!("`{name}` belongs at the top of the document: indent it less")
        } else {
            format!("`{name}` belongs under `{place}`")
        });
    }
    let fields: Vec<_> = fields().collect();
    (!fields.is_empty()).then(|| format!("the fields here are {}", in_backticks(&fields)))
}

/// The paths at which the schema has a field, as `spec.match`.
fn find<'f>(
    root: &'f Json,
    schema: &'f Json,
    name: &str,
    path: &mut Vec<&'f str>,
    places: &mut Vec<String>,
) {
    let shape = resolve(root, schema);
    if path.len() > DEPTH_MAX {
        return;
    }
    if shape["items"].is_object() {
        find(root, &shape["items"], name, path, places);
    }
    for (key, value) in shape["properties"].as_object().into_iter().flatten() {
        if key == name {
            places.push(path.join("."));
        }
        path.push(key);
        find(root, value, name, path, places);
        path.pop();
    }
}

/// The name most similar to `text`, if it is similar enough.
fn nearest<'n>(names: impl Iterator<Item = &'n str>, text: &str) -> Option<&'n str> {
    let text = text.to_lowercase();
    let near = names.map(|it| (strsim::jaro_winkler(&it.to_lowercase(), &text), it));
    let near = near.filter(|it| it.0 > NEAR);
    near.reduce(|best, it| if it.0 > best.0 { it } else { best })
        .map(|it| it.1)
}

/// A value in one line of YAML.
pub(super) fn flow(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", flow(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Json::String(text) if !is_plain(text) => {
            if text.contains(['"', '\\']) {
                format!("'{}'", text.replace('\'', "''"))
            } else {
                format!("\"{text}\"")
            }
        }
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a text can be written without quotes, even within brackets.
fn is_plain(text: &str) -> bool {
    let letters = |it: char| it.is_ascii_alphanumeric() || "-._/".contains(it);
    let special = ["true", "false", "null", "yes", "no", "on", "off"];
    text.starts_with(|it: char| it.is_ascii_alphabetic())
        && text.chars().all(|it| letters(it) || it == ' ')
        && !text.ends_with(' ')
        && !special.contains(&text.to_lowercase().as_str())
        || (text.len() == 10 && text.chars().all(|it| it.is_ascii_digit() || it == '-'))
}
