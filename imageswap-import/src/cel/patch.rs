//! What an expression that changes a Pod makes to its images.

use super::pod::Shape;
use super::value::Value;
use crate::intent::LISTS;
use std::collections::BTreeMap;

/// The images after a configuration was applied; `path` leads from the object's `spec` to that of the Pod.
///
/// # Errors
/// It changes something else, or containers that it names.
pub(crate) fn apply(made: &Value, path: &[&str], shape: &Shape) -> Result<Shape, String> {
    let mut spec = only(made, "spec")?;
    for field in path {
        spec = only(spec, field)?;
    }
    let mut images = shape.clone();
    for (field, value) in fields(spec)? {
        let list = LISTS.iter().position(|it| it == field);
        let list = list.ok_or_else(|| format!("it changes `{field}`, too"))?;
        let Value::List(containers) = value else {
            return Err(format!("`{field}` is not a list"));
        };
        for container in containers.iter() {
            if let Value::Object(_) = container {
                // The unchanged container.
                continue;
            }
            let mut name = None;
            let mut image = None;
            for (key, value) in fields(container)? {
                match (key.as_str(), value) {
                    ("name", Value::Opaque(it)) => name = Some(*it),
                    ("name", _) => return Err("it names a container".to_owned()),
                    ("image", Value::Text(it)) => image = Some(it),
                    (other, _) => return Err(format!("it changes `{other}` of containers, too")),
                }
            }
            let at = name.filter(|it| it >> 16 == list).map(|it| it & 0xffff);
            let slot = at.and_then(|it| images[list].get_mut(it));
            let slot = slot.ok_or("it adds a container")?;
            if let Some(image) = image {
                slot.clone_from(image);
            }
        }
    }
    Ok(images)
}

/// The images after a JSON patch.
///
/// # Errors
/// It changes something else, or is not a patch.
pub(crate) fn json_patch(made: &Value, path: &[&str], shape: &Shape) -> Result<Shape, String> {
    let Value::List(steps) = made else {
        return Err("its patch is not a list".to_owned());
    };
    let mut before = vec!["", "spec"];
    before.extend(path);
    let mut images = shape.clone();
    for step in steps.iter() {
        let fields = fields(step)?;
        let text = |key: &str| match fields.get(key) {
            Some(Value::Text(it)) => Ok(it.as_str()),
            _ => Err(format!("`{key}` of its patch is not understood")),
        };
        if !matches!(text("op")?, "replace" | "add") {
            return Err("its patch has an operation other than `replace`".to_owned());
        }
        let target = text("path")?;
        let parts: Vec<&str> = target.split('/').collect();
        let rest = parts.strip_prefix(before.as_slice()).unwrap_or_default();
        let slot = match rest {
            [list, at, "image"] => LISTS
                .iter()
                .position(|it| it == list)
                .zip(at.parse::<usize>().ok())
                .and_then(|(list, at)| images[list].get_mut(at)),
            _ => None,
        };
        let slot = slot.ok_or_else(|| format!("its patch changes `{target}`"))?;
        text("value")?.clone_into(slot);
    }
    Ok(images)
}

fn fields(value: &Value) -> Result<&BTreeMap<String, Value>, String> {
    match value {
        Value::Struct(_, fields) | Value::Map(fields) => Ok(fields),
        _ => Err("what it makes is not an object".to_owned()),
    }
}

/// The one field of an object.
fn only<'a>(value: &'a Value, field: &str) -> Result<&'a Value, String> {
    let fields = fields(value)?;
    if let Some((other, _)) = fields.iter().find(|it| it.0 != field) {
        return Err(format!("it changes `{other}`, too"));
    }
    fields
        .get(field)
        .ok_or_else(|| format!("it does not change `{field}`"))
}
