//! Helpers for the tests of several modules.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::path::PathBuf;
use time::Date;

/// A day on which tests decide.
pub(crate) const TODAY: Date = Date::MIN;

/// The rows of a file of measured answers; prints a note and returns `None` if the folder is
/// missing.
pub(crate) fn rows(file: &str) -> Option<Vec<serde_json::Value>> {
    let text = vectors(file)?;
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a vector row is JSON"))
            .collect(),
    )
}

fn vectors(file: &str) -> Option<String> {
    let folder = std::env::var_os("IMAGESWAP_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
        PathBuf::from,
    );
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        assert!(
            std::env::var_os("IMAGESWAP_NO_SKIP").is_none(),
            "no {}",
            path.display()
        );
        eprintln!(
            "SKIP: no {}; set IMAGESWAP_VECTORS to the folder",
            path.display()
        );
    }
    text
}

/// Valid references of every shape: hosts with and without dot or port, IPv6, upper case, deep paths, tags, digests.
pub(crate) fn reference() -> BoxedStrategy<String> {
    let tag = prop_oneof![3 => Just(String::new()), 2 => "[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}".prop_map(|it| format!(":{it}"))];
    let digest = prop_oneof![4 => Just(String::new()), 1 => "[0-9a-f]{64}".prop_map(|it| format!("@sha256:{it}"))];
    (proptest::option::of(host()), path(), tag, digest)
        .prop_map(|(host, path, tag, digest)| {
            let host = host.map(|it| format!("{it}/")).unwrap_or_default();
            format!("{host}{path}{tag}{digest}")
        })
        .prop_filter("a path may spell what is no reference", |it| {
            crate::Reference::parse(it).is_ok()
        })
        .boxed()
}

/// Hosts from a small set, so that images and maps meet, and some at random.
pub(crate) fn host() -> BoxedStrategy<String> {
    let known = prop::sample::select(vec![
        "docker.io",
        "index.docker.io",
        "registry-1.docker.io",
        "quay.io",
        "gcr.io",
        "us.gcr.io",
        "m.example.com",
        "d.example.com",
        "example.com",
        "localhost",
        "reg",
        "127.0.0.1",
        "[2001:db8::1]",
        "REG",
    ]);
    let any = "[a-z0-9]{1,4}(-[a-z0-9]{1,3})?\\.[a-z]{2,3}";
    let port = prop_oneof![3 => Just(""), 1 => Just(":5000"), 1 => Just(":443")];
    (
        prop_oneof![6 => known.prop_map(str::to_owned), 1 => any],
        port,
    )
        .prop_map(|(host, port)| format!("{host}{port}"))
        .boxed()
}

/// Repository paths, some of which name hosts in the middle.
pub(crate) fn path() -> BoxedStrategy<String> {
    let known = prop::sample::select(vec![
        "library",
        "nginx",
        "team",
        "gcr.io",
        "docker.io",
        "m.example.com",
        "mirror",
        "mirror-docker.io",
        "mirror-gcr.io",
        "mirror",
        "p",
        "a",
        "localhost",
        "jms",
        "jms-docker.io",
        "docker.io-proxy",
    ]);
    let any = "[a-z0-9]{1,3}([._]|__|--?)[a-z0-9]{1,3}";
    prop::collection::vec(
        prop_oneof![6 => known.prop_map(str::to_owned), 1 => any],
        1..4,
    )
    .prop_map(|it| it.join("/"))
    .boxed()
}

/// Patterns near the references of the other tests.
pub(crate) fn pattern() -> BoxedStrategy<String> {
    let host = prop_oneof![
        5 => host(),
        1 => Just("*".to_owned()),
        1 => Just("**".to_owned()),
        1 => Just("*.io".to_owned()),
        1 => Just("**.example.com".to_owned()),
        1 => Just("example.com:*".to_owned()),
    ];
    let wild = prop::sample::select(vec!["*", "**", "m*", "*-docker.io", "*a*"]);
    let segment = prop_oneof![3 => path(), 2 => wild.prop_map(str::to_owned)];
    let tag = prop::sample::select(vec!["", "", "", ":*", ":1*", ":latest", "@sha256:*"]);
    (host, prop::collection::vec(segment, 1..3), tag)
        .prop_map(|(host, path, tag)| format!("{host}/{}{tag}", path.join("/")))
        .prop_filter("no pattern", |it| {
            crate::pattern::Pattern::parse(it).is_ok()
        })
        .boxed()
}

#[test]
fn property_tests_try_the_same_cases_in_every_run() {
    let seed = ProptestConfig::default().rng_seed;
    let hint = "cargo sets it when it is run within the workspace";
    assert!(
        matches!(seed, RngSeed::Fixed(_)),
        "PROPTEST_RNG_SEED: {hint}"
    );
}
