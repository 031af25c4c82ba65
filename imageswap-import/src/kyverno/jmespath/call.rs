//! Functions, which are evaluated only for what is known.

use crate::kyverno::image;
use crate::kyverno::value::Stop;
use crate::text;
use regex_automata::meta;
use serde_json::Value as Json;

/// The result of a function.
///
/// # Errors
/// A function that is not implemented, or that fails for the arguments.
pub(super) fn call(name: &str, values: &[Json]) -> Result<Json, Stop> {
    let text = |at: usize| -> Result<&str, Stop> {
        match values.get(at) {
            Some(Json::String(it)) => Ok(it),
            _ => Err(Stop::Error(format!("`{name}` needs texts"))),
        }
    };
    let arguments = |count: usize| {
        (values.len() == count)
            .then_some(())
            .ok_or_else(|| format!("`{name}` takes {count} arguments"))
    };
    Ok(match name {
        "regex_replace_all" | "regex_replace_all_literal" => {
            arguments(3)?;
            let regex = regex(text(0)?)?;
            let groups = name == "regex_replace_all";
            Json::String(text::replace_all(&regex, text(1)?, text(2)?, groups))
        }
        "regex_match" => {
            arguments(2)?;
            let subject =
                scalar_text(&values[1]).ok_or_else(|| wrong("`regex_match` needs texts"))?;
            Json::Bool(regex(text(0)?)?.is_match(&subject))
        }
        "replace_all" => {
            arguments(3)?;
            Json::String(text(0)?.replace(text(1)?, text(2)?))
        }
        "replace" => {
            arguments(4)?;
            let count = values[3]
                .as_i64()
                .ok_or_else(|| wrong("`replace` needs a number"))?;
            Json::String(match usize::try_from(count) {
                Ok(count) => text(0)?.replacen(text(1)?, text(2)?, count),
                Err(_) => text(0)?.replace(text(1)?, text(2)?),
            })
        }
        "starts_with" => {
            arguments(2)?;
            Json::Bool(text(0)?.starts_with(text(1)?))
        }
        "ends_with" => {
            arguments(2)?;
            Json::Bool(text(0)?.ends_with(text(1)?))
        }
        "contains" => {
            arguments(2)?;
            Json::Bool(match &values[0] {
                Json::Array(items) => items.contains(&values[1]),
                Json::String(it) => it.contains(text(1)?),
                _ => return Err(wrong("`contains` needs a text or a list")),
            })
        }
        "split" => {
            arguments(2)?;
            let by = text(1)?;
            if by.is_empty() {
                return Err("`split` needs a separator".into());
            }
            text(0)?.split(by).map(Json::from).collect()
        }
        "join" => {
            arguments(2)?;
            let items = values[1]
                .as_array()
                .ok_or_else(|| wrong("`join` needs a list"))?;
            let items: Option<Vec<&str>> = items.iter().map(Json::as_str).collect();
            Json::String(
                items
                    .ok_or_else(|| wrong("`join` needs texts"))?
                    .join(text(0)?),
            )
        }
        "to_string" => {
            arguments(1)?;
            Json::String(match &values[0] {
                Json::String(it) => it.clone(),
                other => other.to_string(),
            })
        }
        "to_lower" | "to_upper" => {
            arguments(1)?;
            let it = text(0)?;
            Json::String(if name == "to_lower" {
                it.to_lowercase()
            } else {
                it.to_uppercase()
            })
        }
        "trim" => {
            arguments(2)?;
            let cut: Vec<char> = text(1)?.chars().collect();
            Json::String(text(0)?.trim_matches(&cut[..]).to_owned())
        }
        "trim_prefix" => {
            arguments(2)?;
            let it = text(0)?;
            Json::String(it.strip_prefix(text(1)?).unwrap_or(it).to_owned())
        }
        "truncate" => return Err("`truncate` is not read".into()),
        "length" => {
            arguments(1)?;
            Json::from(match &values[0] {
                Json::Array(it) => it.len(),
                Json::Object(it) => it.len(),
                Json::String(it) => it.chars().count(),
                _ => return Err(wrong("`length` needs a list or a text")),
            })
        }
        "pattern_match" => {
            arguments(2)?;
            let subject =
                scalar_text(&values[1]).ok_or_else(|| wrong("`pattern_match` needs texts"))?;
            Json::Bool(text::glob(text(0)?, &subject))
        }
        "equal_fold" => {
            arguments(2)?;
            Json::Bool(text(0)?.to_lowercase() == text(1)?.to_lowercase())
        }
        "keys" => {
            arguments(1)?;
            let fields = values[0]
                .as_object()
                .ok_or_else(|| wrong("`keys` needs an object"))?;
            fields.keys().map(|it| Json::from(it.as_str())).collect()
        }
        "not_null" => values
            .iter()
            .find(|it| !it.is_null())
            .cloned()
            .unwrap_or(Json::Null),
        "image_normalize" => {
            arguments(1)?;
            Json::String(image::normalize(text(0)?))
        }
        "parse_image" | "image_reference" => return Err(format!("`{name}` is not read").into()),
        other => return Err(format!("the function `{other}` is not read").into()),
    })
}

/// A failure that is Kyverno's, too.
fn wrong(why: &str) -> Stop {
    Stop::Error(why.to_owned())
}

fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(it) => Some(it.clone()),
        Json::Number(it) => Some(it.to_string()),
        _ => None,
    }
}

fn regex(pattern: &str) -> Result<meta::Regex, String> {
    text::regex(pattern).ok_or_else(|| format!("the expression `{pattern}` is not understood"))
}
