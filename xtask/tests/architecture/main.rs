//! Checks the rules of ARCHITECTURE.md with `cargo metadata` and the parsed sources.

mod circles;
mod dependencies;
mod source;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::circles::Modules;
use crate::dependencies::Graph;
use crate::source::Source;
use crate::words::Prose;

/// The crates that are shipped; lab and xtask are not.
const PRODUCT: [&str; 9] = [
    "imageswap-agent",
    "imageswap-cli",
    "imageswap-ebpf",
    "imageswap-export",
    "imageswap-import",
    "imageswap-policy",
    "imageswap-registry",
    "imageswap-runtime",
    "imageswap-webhook",
];

/// Code that is allowed in some places of the shipped crates only.
struct Rule {
    holds: fn(&Source) -> bool,
    /// Files, and folders that end with a slash.
    allowed: &'static [&'static str],
    /// Code that breaks the rule anywhere else.
    violation: &'static str,
    /// The rule in words.
    says: &'static str,
}

const RULES: [Rule; 5] = [
    Rule {
        holds: |source| {
            source.names("rustls")
                || source.names("tokio_rustls")
                || source.names("rustls_pki_types")
                || source.names("rustls_native_certs")
        },
        allowed: &["imageswap-runtime/src/tls.rs", "imageswap-runtime/src/tls/"],
        violation: "use rustls::ServerConfig;",
        says: "only imageswap-runtime's tls module names rustls",
    },
    Rule {
        holds: |source| source.names("aya"),
        allowed: &["imageswap-agent/src/probe.rs", "imageswap-agent/src/probe/"],
        violation: "fn f() { let _: Option<aya::Ebpf> = None; }",
        says: "only the agent's probe module names aya",
    },
    Rule {
        holds: |source| source.names("unsafe"),
        allowed: &[
            "imageswap-agent/src/probe.rs",
            "imageswap-agent/src/probe/",
            "imageswap-ebpf/src/",
        ],
        violation: "fn f() { unsafe { g() } }",
        says: "only the agent's probe module and imageswap-ebpf hold unsafe",
    },
    Rule {
        holds: |source| source.says("AdmissionReview") || source.quotes("admission.k8s.io"),
        allowed: &[
            "imageswap-webhook/src/wire.rs",
            "imageswap-webhook/src/wire/",
        ],
        violation: "const KIND: &str = \"AdmissionReview\";",
        says: "only the webhook's wire module knows AdmissionReview JSON",
    },
    Rule {
        holds: Source::quotes_metric,
        allowed: &[
            "imageswap-runtime/src/metrics.rs",
            "imageswap-runtime/src/metrics/",
        ],
        violation: "fn f() { count!(\"imageswap_agent_lost_total\"); }",
        says: "only the metrics module spells metric names",
    },
];

/// Idioms per thousand lines of comments and documents.
const IDIOMS: usize = 5;

/// Lines of a module, and of a `main.rs`.
const LONGEST: (usize, usize) = (600, 65);

#[test]
fn words_stay_where_they_belong() {
    let mut broken = Vec::new();
    for path in sources(&PRODUCT.map(|package| format!("{package}/src"))) {
        let source = Source::parse(&read(&path));
        for rule in &RULES {
            let allowed = rule.allowed.iter().any(|place| is_at(&path, place));
            if !allowed && (rule.holds)(&source) {
                broken.push(format!("{}: {}", path.display(), rule.says));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_rule_finds_what_breaks_it() {
    for rule in &RULES {
        let planted = format!(
            "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more {{}}\n{}\n",
            rule.violation
        );
        assert!((rule.holds)(&Source::parse(&planted)), "{}", rule.says);
    }
}

/// A public item of a library that only tests use is dead code that the compiler cannot see.
#[test]
fn public_items_are_used_outside_tests() {
    let members = Graph::of(&root()).members();
    let paths = sources(&members);
    let for_tests = test_files(&paths);
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    let mut public = Vec::new();
    for path in &paths {
        // The kernel calls the functions of the probes.
        let in_library = !path.ends_with("imageswap-ebpf/src/probes.rs")
            && PRODUCT
                .iter()
                .any(|package| path.starts_with(format!("{package}/src")));
        if for_tests.contains(path) || path.iter().any(|part| part == "tests") && !in_library {
            continue;
        }
        let source = Source::parse(&read(path));
        for name in source.identifiers() {
            *uses.entry(name.to_owned()).or_default() += 1;
        }
        if in_library {
            public.extend(source.public().map(|name| (name.to_owned(), path.clone())));
        }
    }
    let mut definitions: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, _) in &public {
        *definitions.entry(name).or_default() += 1;
    }
    let dead: Vec<_> = public
        .iter()
        .filter(|(name, _)| uses[name] == definitions[name.as_str()])
        .map(|(name, path)| format!("{}: {name}", path.display()))
        .collect();
    assert!(dead.is_empty(), "used by tests at most: {dead:#?}");
}

/// A rule that no longer guards anything would always hold.
#[test]
fn every_rule_has_something_to_guard() {
    let paths = sources(&PRODUCT.map(|package| format!("{package}/src")));
    for rule in &RULES {
        let guarded = paths.iter().any(|path| {
            rule.allowed.iter().any(|place| is_at(path, place))
                && (rule.holds)(&Source::parse(&read(path)))
        });
        assert!(
            guarded,
            "{}: nothing of it in {:?}",
            rule.says, rule.allowed
        );
    }
}

#[test]
fn manifests_keep_to_the_same_rules() {
    let graph = Graph::of(&root());
    for (dependency, only) in [
        ("rustls", "imageswap-runtime"),
        ("tokio-rustls", "imageswap-runtime"),
        ("rustls-native-certs", "imageswap-runtime"),
        ("aya", "imageswap-agent"),
        ("aya-ebpf", "imageswap-ebpf"),
    ] {
        for package in graph.that_depend_on(dependency) {
            assert_eq!(package, only, "{package} depends on {dependency}");
        }
    }
}

#[test]
fn the_policy_is_pure() {
    const IMPURE: [&str; 12] = [
        "tokio",
        "futures",
        "futures-core",
        "async-trait",
        "mio",
        "hyper",
        "http",
        "reqwest",
        "tower",
        "tonic",
        "kube",
        "k8s-openapi",
    ];
    let reached = Graph::of(&root()).reached_from("imageswap-policy");
    let impure: Vec<_> = IMPURE
        .iter()
        .filter(|name| reached.contains(**name))
        .collect();
    assert!(impure.is_empty(), "imageswap-policy depends on {impure:?}");
    assert!(
        reached.contains("thiserror"),
        "the dependencies were not read: {reached:?}"
    );
}

#[test]
fn nothing_depends_on_a_program() {
    let graph = Graph::of(&root());
    let programs = graph.programs();
    assert_eq!(
        programs,
        BTreeSet::from(
            [
                "imageswap-agent",
                "imageswap-cli",
                "imageswap-webhook",
                "xtask"
            ]
            .map(str::to_owned)
        )
    );
    for program in programs {
        let mut dependents = graph.that_depend_on_at_all(&program);
        // It checks how the webhook reads and answers a review, and is not part of any program.
        dependents.retain(|it| it != "fuzz");
        assert!(
            dependents.is_empty(),
            "{dependents:?} depend on the program {program}"
        );
    }
}

#[test]
fn modules_do_not_use_each_other_in_circles() {
    let mut found = Vec::new();
    for package in Graph::of(&root()).members() {
        let circles = circles_of(&package).into_iter();
        found.extend(circles.map(|circle| format!("{package}: {circle}")));
    }
    assert!(
        found.is_empty(),
        "modules use each other:\n{}",
        found.join("\n")
    );
}

/// The circles between the modules of the library, or else of the program, of a package.
fn circles_of(package: &str) -> Vec<circles::Circle> {
    let folder = Path::new(package).join("src");
    let paths = sources(&[folder.display().to_string()]);
    let for_tests = test_files(&paths);
    let mut modules = Modules::default();
    for path in paths.iter().filter(|path| !for_tests.contains(*path)) {
        let inside = path.strip_prefix(&folder).expect("a file of the folder");
        let module = inside.with_extension("");
        let module: Vec<_> = (module.iter())
            .map(|part| part.to_string_lossy().into_owned())
            .filter(|part| part != "lib" && part != "main")
            .collect();
        modules.read(module, &read(path));
    }
    modules.circles()
}

#[test]
fn modules_are_short() {
    let members = Graph::of(&root()).members();
    for path in sources(&members) {
        let lines = read(&path).lines().count();
        let limit = if path.ends_with("src/main.rs") {
            LONGEST.1
        } else {
            LONGEST.0
        };
        assert!(
            lines <= limit,
            "{}: {lines} lines, more than {limit}",
            path.display()
        );
    }
}

#[test]
fn comments_and_documents_are_plain_english() {
    let members = Graph::of(&root()).members();
    let comments = files(&members, "rs").into_iter().map(|path| {
        let prose = Prose::of_rust(&read(&path));
        (path, prose)
    });
    let pages = files(&[".github", "deploy", "docs"], "md")
        .into_iter()
        .chain(pages_at_the_top());
    let pages = pages.map(|path| {
        let prose = Prose::of_markdown(&read(&path));
        (path, prose)
    });
    let (mut lines, mut found) = (0, Vec::new());
    for (path, prose) in comments.chain(pages) {
        lines += prose.lines;
        let places = prose.found.iter();
        found.extend(places.map(|it| format!("{}:{it}", path.display())));
    }
    assert!(lines > 5000, "only {lines} lines were read");
    println!("{} idioms in {lines} lines", found.len());
    assert!(
        found.len() * 1000 < IDIOMS * lines,
        "{} idioms in {lines} lines, expected fewer than {IDIOMS} per thousand:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn pages_at_the_top() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).into_iter().flatten().flatten();
    let names = entries.map(|entry| PathBuf::from(entry.file_name()));
    names
        .filter(|name| name.extension().is_some_and(|it| it == "md"))
        .collect()
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files", "-z"])
        .output();
    let Ok(listed) = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    else {
        imageswap_lab::skip("no_file_names_a_path_of_one_machine", "needs git");
        return;
    };
    if listed.is_empty() {
        imageswap_lab::skip(
            "no_file_names_a_path_of_one_machine",
            "needs a git checkout",
        );
        return;
    }
    // Built from parts, because this file is searched too.
    let personal =
        ["work", "home", "Users", "root/."].map(|folder| format!("/{folder}/").replace("./", "."));
    let own = root().display().to_string();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let bytes = fs::read(root().join(path)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        for place in personal.iter().chain([&own]) {
            let found = text
                .match_indices(place.as_str())
                .any(|(at, _)| begins_a_path(&text[..at]));
            assert!(!found, "{path} names {place}");
        }
    }
}

/// Whether a path can start after `before`: not in the middle of a relative path or of an address.
fn begins_a_path(before: &str) -> bool {
    !before.ends_with(|last: char| {
        last.is_alphanumeric() || matches!(last, '.' | '_' | '-' | '}' | '>' | '*')
    })
}

fn is_at(path: &Path, place: &str) -> bool {
    let path = path.to_string_lossy();
    if place.ends_with('/') {
        path.starts_with(place)
    } else {
        path == place
    }
}

/// The files among `paths` of modules that are declared under `#[cfg(test)]`.
fn test_files(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default();
        let folder = match stem.to_str() {
            Some("lib" | "main") => path.with_file_name(""),
            _ => path.with_extension(""),
        };
        for module in source::test_modules(&read(path)) {
            let file = folder.join(module).with_extension("rs");
            let children = file.with_extension("");
            found.extend(
                paths
                    .iter()
                    .filter(|path| path.starts_with(&children))
                    .cloned(),
            );
            found.insert(file);
        }
    }
    found
}

/// The Rust files below `folders`, relative to the workspace.
fn sources<S: AsRef<str>>(folders: &[S]) -> Vec<PathBuf> {
    let found = files(folders, "rs");
    assert!(!found.is_empty(), "no Rust files found");
    found
}

/// The files with an extension below `folders`, relative to the workspace.
fn files<S: AsRef<str>>(folders: &[S], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest: Vec<_> = folders
        .iter()
        .map(|folder| root().join(folder.as_ref()))
        .collect();
    while let Some(folder) = rest.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                rest.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                let path = path.strip_prefix(root()).map(Path::to_owned);
                found.extend(path);
            }
        }
    }
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}
