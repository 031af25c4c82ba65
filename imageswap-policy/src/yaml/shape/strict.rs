//! Turns a type's schema into one that refuses `null` and unknown fields.

use serde_json::{Value, json};

/// Makes a generated schema strict.
pub(crate) fn strict(mut schema: Value) -> Value {
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Object(_) => {
            without_null(schema);
            let has = |key: &str| schema.get(key).is_some();
            if schema["type"] == "object" && has("properties") && !has("additionalProperties") {
                schema["additionalProperties"] = json!(false);
            }
            if schema["format"] == "int32" {
                schema["minimum"] = json!(i32::MIN);
                schema["maximum"] = json!(i32::MAX);
            }
            // The example of a list may also be one of its items.
            let item = schema
                .get("examples")
                .and_then(|it| it.get(0)?.get(0))
                .cloned();
            if let Some(item) = item.filter(|_| schema["items"].is_object()) {
                schema["items"]["examples"] = json!([item]);
            }
            let entries = schema.as_object_mut().into_iter().flatten();
            for (key, value) in entries {
                // Data, not schemas.
                if !matches!(key.as_str(), "default" | "examples" | "const" | "enum") {
                    close(value);
                }
            }
        }
        _ => {}
    }
}

/// An optional value is omitted, not written as `null`.
fn without_null(schema: &mut Value) {
    if let Some(types) = schema.get("type").and_then(Value::as_array) {
        let kinds: Vec<_> = types.iter().filter(|it| *it != "null").cloned().collect();
        schema["type"] = match <[Value; 1]>::try_from(kinds) {
            Ok([only]) => only,
            Err(several) => several.into(),
        };
    }
    if let Some(alternatives) = schema.get("anyOf").and_then(Value::as_array) {
        let some = alternatives.iter().filter(|it| it["type"] != "null");
        let some: Vec<_> = some.cloned().collect();
        if let [only] = &some[..] {
            let only = only.as_object().cloned().unwrap_or_default();
            if let Some(fields) = schema.as_object_mut() {
                fields.remove("anyOf");
                for (key, value) in only {
                    fields.entry(key).or_insert(value);
                }
            }
        } else {
            schema["anyOf"] = some.into();
        }
    }
    if let Some(fields) = schema.as_object_mut()
        && fields.get("default").is_some_and(Value::is_null)
    {
        fields.remove("default");
    }
}
