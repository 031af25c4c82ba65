//! Checks `docs/policy.md`: its policies load, its tables match their decisions, and it names every
//! field.

use imageswap_policy::document::{self, ImageSwapPolicy};
use imageswap_policy::{Date, PodScope, Policies, Scope};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md");

/// A day on which the examples' exceptions hold.
const DAY: Date = Date::MIN;

fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_matches('|');
    line.split(" | ")
        .map(|it| it.trim().trim_matches('|').trim().to_owned())
        .collect()
}

fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The rows of the table with the header `head`, from line `from` of `text` on.
fn rows<'a>(lines: &[&'a str], head: &str) -> Vec<&'a str> {
    let Some(at) = lines.iter().position(|it| it.starts_with(head)) else {
        return Vec::new();
    };
    let rows = lines[at + 2..].iter().take_while(|it| it.starts_with('|'));
    rows.copied().collect()
}

#[test]
fn policies_decide_as_their_tables_say() {
    let text = std::fs::read_to_string(DOCS).unwrap();
    let mut checked = 0;
    let blocks: Vec<_> = text.split("```yaml\n").skip(1).collect();
    assert!(blocks.len() >= 4);
    for block in blocks {
        let (yaml, after) = block.split_once("```").unwrap();
        let loaded = document::load("docs/policy.md", yaml).unwrap_or_else(|it| panic!("{it}"));
        assert!(loaded.policies.len() == 1);
        let policies = Policies::new(loaded.policies);
        let table: Vec<_> = after
            .lines()
            .take_while(|it| !it.starts_with('#'))
            .collect();
        for row in rows(&table, "| image | result |") {
            let cells = cells(row);
            let image = code(&cells[0])[0];
            let decision = policies.select(Scope::Node, DAY).decide(image);
            let expected = code(&cells[1]).first().copied().unwrap_or(image);
            let approved = if decision.approved { "yes" } else { "no" };
            assert_eq!(
                (&*decision.result, approved),
                (expected, cells[2].as_str()),
                "{row}"
            );
            checked += 1;
        }
        for row in rows(&table, "| namespace | container | image | result |") {
            let cells = cells(row);
            let cell = |at: usize| code(&cells[at]).first().copied();
            let scope = Scope::Pod(PodScope {
                namespace: cell(0),
                ..PodScope::default()
            });
            let image = cell(2).unwrap();
            let selected = policies.select(scope, DAY).in_container(cell(1));
            let decision = selected.decide(image);
            let approved = if decision.approved { "yes" } else { "no" };
            assert_eq!(
                (&*decision.result, approved),
                (cell(3).unwrap_or(image), cells[4].as_str()),
                "{row}"
            );
            checked += 1;
        }
    }
    assert!(checked >= 32, "{checked}");
}

#[test]
fn policies_apply_as_their_table_says() {
    let text = std::fs::read_to_string(DOCS).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let head = "| `match` | applies to `shop` | to `team-a` | to `kube-system` |";
    let rows = rows(&lines, head);
    assert!(rows.len() >= 6);
    for row in rows {
        let cells = cells(row);
        let matched = code(&cells[0])[0];
        let document = format!(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: p}}\n\
             spec:\n  match: {matched}\n  approved: ['**']\n"
        );
        let policies = Policies::new(document::load("p", &document).unwrap().policies);
        for (at, namespace) in ["shop", "team-a", "kube-system"].into_iter().enumerate() {
            let scope = Scope::Pod(PodScope {
                namespace: Some(namespace),
                ..PodScope::default()
            });
            let applies = policies.select(scope, DAY).policy().is_some();
            let expected = cells[at + 1] == "yes";
            assert_eq!(applies, expected, "{row}, in {namespace}");
        }
    }
}

#[test]
fn patterns_match_as_their_table_says() {
    let text = std::fs::read_to_string(DOCS).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let rows = rows(&lines, "| pattern | matches |");
    assert!(rows.len() >= 15);
    for row in rows {
        let cells = cells(row);
        let pattern = code(&cells[0])[0];
        let policy = ImageSwapPolicy::new(
            "p",
            document::Spec {
                approved: Some(vec![pattern.to_owned().into()]),
                ..document::Spec::default()
            },
        );
        let text = serde_json::to_string(&policy).unwrap();
        let policies = Policies::new(document::load("p", &text).unwrap().policies);
        for (cell, expected) in [(1, true), (2, false)] {
            for image in cells.get(cell).map(|it| code(it)).unwrap_or_default() {
                let decision = policies.select(Scope::Node, DAY).decide(image);
                assert_eq!(decision.approved, expected, "{pattern} {image}");
            }
        }
    }
}

#[test]
fn every_field_is_named() {
    let text = std::fs::read_to_string(DOCS).unwrap();
    let schema = serde_json::to_value(document::schema()).unwrap();
    let mut fields = Vec::new();
    collect(&schema, &mut fields);
    assert!(fields.len() > 20, "{fields:?}");
    for field in fields {
        let named = text.contains(&format!("`{field}`"))
            || text.contains(&format!("spec.{field}"))
            || text.contains(&format!("{field}: "))
            || text.contains(&format!("{field}:\n"));
        assert!(named, "docs/policy.md does not name `{field}`");
    }
}

fn collect(schema: &serde_json::Value, fields: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                // For a field that Kubernetes writes, the schema only allows it.
                let ours = properties.iter().filter(|(_, it)| **it != true);
                fields.extend(ours.map(|it| it.0.clone()));
            }
            map.values().for_each(|it| collect(it, fields));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|it| collect(it, fields)),
        _ => {}
    }
}

/// A day on which the exceptions of `docs/lint.md` hold, except for the one that has ended.
const LINTED: Date = match Date::from_ordinal_date(2027, 31) {
    Ok(day) => day,
    Err(_) => panic!(),
};

/// The policies in the YAML blocks of a text.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("```yaml\n").skip(1);
    blocks.filter_map(|it| it.split("```").next())
}

fn codes(text: &str) -> Vec<&'static str> {
    let linted = document::lint_all([("docs", text)], LINTED);
    linted.found.iter().map(|it| it.code).collect()
}

#[test]
fn the_first_example_of_a_warning_gets_it_and_the_second_does_not() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lint.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections: Vec<_> = text.split("\n### `").skip(1).collect();
    assert!(sections.len() >= 9, "{}", sections.len());
    for section in sections {
        let code = section.split('`').next().unwrap();
        let blocks: Vec<_> = blocks(section).collect();
        assert_eq!(blocks.len(), 2, "{code}");
        assert!(
            codes(blocks[0]).contains(&code),
            "{code}: {:?}",
            codes(blocks[0])
        );
        assert!(
            codes(blocks[1]).is_empty(),
            "{code}: {:?}",
            codes(blocks[1])
        );
    }
}

#[test]
fn examples_get_no_warning() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let policy = read("docs/policy.md");
    // It shows what `lint` warns about, and says so.
    let meant = ["merged-registries", "target-not-approved"];
    for text in blocks(&policy) {
        let found = codes(text);
        assert!(
            found.iter().all(|it| meant.contains(it)),
            "{text}\n{found:?}"
        );
    }
    for path in [
        "deploy/examples/policy.yaml",
        "deploy/examples/pull-secrets.yaml",
    ] {
        let found = codes(&read(path));
        // Secrets may be beside a policy there.
        let ours = found.iter().filter(|it| **it != "unknown-kind");
        assert!(
            ours.into_iter().all(|it| meant.contains(it)),
            "{path}: {found:?}"
        );
    }
}
