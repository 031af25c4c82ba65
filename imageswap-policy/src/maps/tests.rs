use super::*;
use crate::{PodScope, Reason, Reference, Scope};
use serde_json::Value;
use std::collections::BTreeMap;

const SEED: &str = "default:registry.example.com\n#gcr.io: # This is a comment\n\
                    gitlab.com:registry.example.com/gitlab\nnoswap_wildcards:example.com\n";

fn tolerant() -> Options {
    Options {
        tolerate_unusable_lines: true,
        ..Options::default()
    }
}

/// Loads a row's policy as ImageSwap would: by its mode.
fn load_row(row: &Value) -> Policy {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let loaded = if text("mode").eq_ignore_ascii_case("maps") {
        load_with("row", text("maps"), &tolerant())
    } else {
        load_prefix_with("row", text("image_prefix"), &tolerant())
    };
    loaded.unwrap_or_else(|it| panic!("{row}\n{it}")).policy
}

fn rows(file: &str) -> Option<Vec<Value>> {
    let text = crate::testing::vectors(file)?;
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a vector row is JSON"))
            .collect(),
    )
}

#[test]
fn answers_are_imageswaps_where_those_are_sound() {
    let Some(rows) = rows("imageswap_maps.jsonl") else {
        return;
    };
    assert!(rows.len() > 400);
    let mut wrong = Vec::new();
    for row in &rows {
        let policy = load_row(row);
        let decision = policy.decide(Scope::Node, row["image"].as_str().unwrap());
        if decision.result != row["expected"].as_str().unwrap() {
            wrong.push(format!("{row}\n  got {}", decision.result));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} rows\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn answers_are_sound_where_imageswaps_are_not() {
    let Some(rows) = rows("imageswap_maps_invariants.jsonl") else {
        return;
    };
    assert!(rows.len() > 150);
    for row in &rows {
        let policy = load_row(row);
        let image = row["image"].as_str().unwrap();
        let decision = policy.decide(Scope::Node, image);
        assert_eq!(
            policy.decide(Scope::Node, &decision.result).result,
            decision.result,
            "{row}"
        );
        if Reference::parse(image).is_ok() {
            assert!(
                Reference::parse(&decision.result).is_ok(),
                "{row}\n  got {}",
                decision.result
            );
        } else {
            assert_eq!(
                (decision.result.as_ref(), decision.approved),
                (image, false),
                "{row}"
            );
        }
    }
}
