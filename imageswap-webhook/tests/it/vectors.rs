//! Measured answers of ImageSwap, compared by the resulting objects.

use std::path::PathBuf;

use imageswap_runtime::metrics::Exporter;
use imageswap_webhook::metrics::{Webhook, WebhookMetrics};
use serde_json::{Value, json};

use crate::client::{admission, decide, patched, take_note};

#[test]
fn admission_reviews() {
    let folder = std::env::var_os("IMAGESWAP_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(folder.join("admission_reviews.jsonl")) else {
        let message = format!(
            "SKIP: admission_reviews: no vectors in {}",
            folder.display()
        );
        assert!(
            std::env::var_os("IMAGESWAP_NO_SKIP").is_none_or(|it| it != "1"),
            "{message}"
        );
        eprintln!("{message}");
        return;
    };
    let mut rows = 0;
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let note = row["note"].as_str().unwrap();
        let review = &row["request"];
        let exporter = Exporter::new();
        let admission = admission(
            row["maps"].as_str().unwrap(),
            &WebhookMetrics::new(&exporter),
        );
        let (answer, ..) = decide(&admission, Webhook::Mutate, review);
        let mut object = patched(review, &answer);
        take_note(&mut object);
        assert_eq!(object, expected(&row), "{note}");
        rows += 1;
    }
    assert!(rows >= 10, "only {rows} rows were read");
}

/// The expected object: ImageSwap's result, with the fields that it ignores swapped as well.
fn expected(row: &Value) -> Value {
    let mut object = row["request"]["request"]["object"].clone();
    if let Some(patch) = row["patch"].as_array() {
        let patch: json_patch::Patch = serde_json::from_value(json!(patch)).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
    }
    let beyond = match row["note"].as_str().unwrap() {
        "pod ephemeral ignored" => {
            Some(("/spec/ephemeralContainers/0/image", "d.example.com/busybox"))
        }
        "image volume" => Some(("/spec/volumes/0/image/reference", "d.example.com/nginx")),
        "initContainers null" => Some(("/spec/containers/0/image", "d.example.com/nginx")),
        _ => None,
    };
    if let Some((place, image)) = beyond {
        *object.pointer_mut(place).unwrap() = json!(image);
    }
    object
}
