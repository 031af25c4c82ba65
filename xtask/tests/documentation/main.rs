//! Checks the documentation as far as a program can: links have targets, commands and flags are
//! those of the programs, values are the chart's, and named files exist.

mod markdown;
mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use imageswap_lab::skip;
use serde_json::Value;

use markdown::{Page, Pages};
use programs::{Programs, words};

const CHART: &str = "deploy/charts/imageswap";

/// Flags of other programs that the documentation mentions.
const FLAGS_OF_OTHERS: [&str; 14] = [
    // kubectl, Helm
    "--create-namespace",
    "--dry-run",
    "--server-side",
    "--skip-crds",
    "--type",
    // API server and kubelet
    "--enable-admission-plugins",
    "--tracing-config-file",
    // cargo, OCI runtimes
    "--all-targets",
    "--example",
    "--git",
    "--locked",
    "--root",
    "--test",
    "--workspace",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page of the repository.
fn pages() -> Pages {
    let mut found = Pages::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root().join(&folder)).expect("a folder of the repository");
        for entry in entries {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            let path = folder.join(&name);
            if entry.file_type().expect("a type").is_dir() {
                if !name.starts_with('.') && path != Path::new("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|it| it == "md") {
                let path = path.to_str().expect("a path").to_owned();
                let page = Page::read(&read(&path));
                found.insert(path, page);
            }
        }
    }
    assert!(found.len() > 20, "{:?}", found.keys());
    found
}

/// The target of a link on a page: a path of the repository and an anchor.
fn resolve(page: &str, target: &str) -> Option<(String, Option<String>)> {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_owned())),
        None => (target, None),
    };
    if path.is_empty() {
        return Some((page.to_owned(), anchor));
    }
    let mut parts: Vec<_> = Path::new(page).parent()?.components().collect();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => drop(parts.pop()?),
            Component::Normal(_) => parts.push(part),
            _ => {}
        }
    }
    let path = parts.iter().collect::<PathBuf>();
    Some((path.to_str()?.to_owned(), anchor))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn links_and_their_anchors_lead_somewhere() {
    let pages = pages();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, page) in &pages {
        for (line, target) in &page.links {
            seen += 1;
            if target.starts_with("https://") {
                continue;
            }
            let leads = resolve(name, target).is_some_and(|(path, anchor)| {
                let there = root().join(&path).exists();
                let anchored = |anchor: &String| {
                    let page = pages.get(&path);
                    page.is_some_and(|page| page.anchors.contains(anchor))
                };
                there && anchor.as_ref().is_none_or(anchored)
            });
            if !leads {
                wrong.push(format!("{name}:{line}: {target}"));
            }
        }
    }
    assert!(seen > 100, "{seen} links");
    assert_none(&wrong);
}

#[test]
fn every_footnote_is_there_and_used() {
    for (name, page) in pages() {
        let (used, defined) = &page.notes;
        let (used, unique): (BTreeSet<_>, BTreeSet<_>) =
            (used.iter().collect(), defined.iter().collect());
        assert_eq!(used, unique, "{name}");
        assert_eq!(defined.len(), unique.len(), "{name}: a footnote twice");
    }
}

/// Each cell of the README's comparison names its source.
#[test]
fn every_cell_of_the_comparison_has_a_footnote() {
    let text = read("README.md");
    let section = text
        .split("\n## ")
        .find(|it| it.starts_with("Compared with other tools"));
    let section = section.expect("README.md has a section `Compared with other tools`");
    let rows: Vec<_> = section.lines().filter(|it| it.starts_with('|')).collect();
    assert!(rows.len() > 6, "{rows:?}");
    for row in &rows[2..] {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        assert!(cells.len() > 5, "{row}");
        for cell in &cells[1..] {
            assert!(cell.contains("[^"), "`{}` in {row}", cell.trim());
        }
    }
}

#[test]
fn every_page_is_linked_from_the_readme() {
    let pages = pages();
    let linked: BTreeSet<_> = pages["README.md"]
        .links
        .iter()
        .filter_map(|(_, target)| Some(resolve("README.md", target)?.0))
        .collect();
    let lost: Vec<_> = pages
        .keys()
        .filter(|it| *it != "README.md" && !linked.contains(*it))
        .cloned()
        .collect();
    assert_none(&lost);
}

/// The commands of a page: in its code blocks and in its text.
fn commands(page: &Page) -> Vec<(usize, String)> {
    let mut commands = page.commands();
    commands.extend(page.spans.iter().cloned());
    commands
}

#[test]
fn commands_are_those_of_the_programs() {
    let programs = match Programs::ask() {
        Ok(programs) => programs,
        Err(reason) => return skip("commands_are_those_of_the_programs", &reason),
    };
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        for (line, command) in commands(&page) {
            for error in programs.check(&command) {
                wrong.push(format!("{name}:{line}: {error}"));
            }
        }
        for (line, span) in &page.spans {
            for flag in words(span).iter().filter(|it| it.starts_with("--")) {
                let flag = flag.split('=').next().unwrap_or_default();
                let known = flag.trim_matches('-').is_empty() || FLAGS_OF_OTHERS.contains(&flag);
                let foreign = !span.starts_with("--") && !span.contains("imageswap");
                if !known && !foreign && !programs.know_flag(flag) {
                    wrong.push(format!("{name}:{line}: no program has `{flag}`"));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_flag_of_the_services_is_documented() {
    let programs = match Programs::ask() {
        Ok(programs) => programs,
        Err(reason) => return skip("every_flag_of_the_services_is_documented", &reason),
    };
    let pages = pages();
    let named = |flag: &str| {
        let spans = pages.values().flat_map(|page| &page.spans);
        spans
            .flat_map(|(_, span)| span.split([' ', '=']))
            .any(|word| word == flag)
    };
    for (program, command) in [("imageswap-webhook", "serve"), ("imageswap-agent", "run")] {
        let flags = programs.flags_of(program, command);
        assert!(flags.len() > 15, "{flags:?}");
        let missing: Vec<_> = flags.iter().filter(|it| !named(it)).collect();
        assert!(missing.is_empty(), "{program} {command}: {missing:?}");
    }
}

/// Tests that a page asks cargo to run exist.
#[test]
fn packages_and_tests_that_cargo_is_given_exist() {
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        for (line, command) in commands(&page) {
            let words = words(&command);
            if words.first().is_none_or(|it| it != "cargo") || words[1] == "xtask" {
                continue;
            }
            let after = |flag: &str| {
                let at = words.iter().position(|it| it == flag)?;
                words.get(at + 1)
            };
            let Some(package) = after("-p") else { continue };
            let tests = root().join(package).join("tests");
            let test = after("--test").is_none_or(|it| {
                tests.join(format!("{it}.rs")).exists() || tests.join(it).join("main.rs").exists()
            });
            if !root().join(package).join("Cargo.toml").exists() || !test {
                wrong.push(format!("{name}:{line}: {command}"));
            }
        }
    }
    assert_none(&wrong);
}

/// The top-level folders of the repository, with which a path may begin.
fn top() -> BTreeSet<String> {
    let entries = fs::read_dir(root()).expect("the repository");
    let entries = entries.map(|it| it.expect("an entry"));
    let folders = entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir()));
    folders
        .filter_map(|it| it.file_name().into_string().ok())
        .filter(|it| it != "target" && it != ".git")
        .collect()
}

#[test]
fn files_that_are_named_are_there() {
    let top = top();
    assert!(top.contains("deploy") && top.contains("docs"), "{top:?}");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, page) in pages() {
        let mut texts = page.spans.clone();
        texts.extend(page.code.iter().map(|it| (it.line, it.text.clone())));
        for (line, text) in texts {
            for word in text.split([' ', '"', '\'', '(', ')', ',', '=', ':']) {
                let word = word.strip_prefix("./").unwrap_or(word);
                let inside = word.split_once('/').is_some_and(|it| top.contains(it.0));
                if !inside || word.contains(['*', '{', '<', '…', '$']) {
                    continue;
                }
                seen += 1;
                if !root().join(word.trim_end_matches('.')).exists() {
                    wrong.push(format!("{name}:{line}: {word}"));
                }
            }
        }
    }
    assert!(seen > 30, "{seen} paths");
    assert_none(&wrong);
}

#[test]
fn charts_and_kustomizations_are_where_commands_look_for_them() {
    let mut wrong = Vec::new();
    let mut seen = (0, 0);
    for (name, page) in pages() {
        for (line, command) in page.commands() {
            let words = words(&command);
            let command = [0, 1].map(|at| words.get(at).map_or("", |it| it));
            let folder = |word: &&String| word.starts_with("deploy/");
            let after = |flag: &str| words.iter().skip_while(move |it| *it != flag).nth(1);
            let needed = match command {
                [
                    "helm",
                    "install" | "upgrade" | "template" | "lint" | "package",
                ] => {
                    let values: Vec<_> =
                        words.windows(2).filter(|it| it[0] == "--values").collect();
                    let is_value = |it: &&String| values.iter().any(|pair| pair[1] == **it);
                    seen.0 += 1;
                    words
                        .iter()
                        .filter(folder)
                        .find(|it| !is_value(it))
                        .map(|it| (it, "Chart.yaml"))
                }
                ["kubectl", "kustomize"] => words.get(2).map(|it| (it, "kustomization.yaml")),
                ["kubectl", _] => after("-k").map(|it| (it, "kustomization.yaml")),
                _ => None,
            };
            let Some((folder, file)) = needed.filter(|it| it.0.starts_with("deploy/")) else {
                continue;
            };
            seen.1 += usize::from(file != "Chart.yaml");
            if !root().join(folder).join(file).exists() {
                wrong.push(format!("{name}:{line}: {folder} has no {file}"));
            }
        }
    }
    assert!(seen.0 > 3 && seen.1 > 1, "{seen:?}");
    assert_none(&wrong);
}

/// Whether the chart has a value of this name.
fn is_value(values: &Value, path: &str) -> bool {
    let mut at = values;
    for part in path.split('.') {
        // The content of an empty map is up to the user, such as labels.
        if at.as_object().is_some_and(serde_json::Map::is_empty) {
            return true;
        }
        match at.get(part) {
            Some(below) => at = below,
            None => return false,
        }
    }
    true
}

#[test]
fn values_are_those_of_the_chart() {
    let text = read(&format!("{CHART}/values.yaml"));
    let values: Value = serde_saphyr::from_str(&text).expect("values.yaml");
    let sections: BTreeSet<_> = values.as_object().expect("a map").keys().cloned().collect();
    let about_the_chart = [
        "docs/install.md",
        "docs/security.md",
        "docs/faq.md",
        "docs/migrating.md",
    ];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (name, page) in pages() {
        let mut named = Vec::new();
        for (line, command) in page.commands() {
            let words = words(&command);
            for pair in words.windows(2).filter(|it| it[0] == "--set") {
                let settings = pair[1].split(',').filter_map(|it| it.split_once('='));
                named.extend(settings.map(|(key, _)| (line, key.to_owned())));
            }
        }
        if about_the_chart.contains(&&*name) || name.starts_with(CHART) {
            for (line, span) in &page.spans {
                let key = span.split([':', '=', ' ']).next().unwrap_or_default();
                let section = key.split_once('.').map(|it| it.0);
                let is_file = [".yaml", ".io"].iter().any(|it| key.ends_with(it));
                if section.is_some_and(|it| sections.contains(it)) && !is_file {
                    named.push((*line, key.to_owned()));
                }
            }
        }
        for (line, key) in named {
            seen += 1;
            // `agent.extraCapabilities[0]` is an element of a list.
            let path = key.split('[').next().unwrap_or_default();
            if !is_value(&values, path) {
                wrong.push(format!("{name}:{line}: the chart has no value `{key}`"));
            }
        }
    }
    assert!(seen > 100, "{seen} values");
    assert_none(&wrong);
}
