//! Properties of all maps files and all images.

use super::*;
use crate::testing::TODAY;
use crate::testing::{host, path, reference};
use proptest::prelude::*;

/// Lines of maps files: valid, doubtful and invalid ones, with the hosts that images use too.
fn line() -> BoxedStrategy<String> {
    let target = || {
        let place = || prop_oneof![3 => host(), 3 => (host(), path()).prop_map(|(host, path)| format!("{host}/{path}")), 1 => path()];
        prop_oneof![
            8 => place(),
            2 => place().prop_map(|it| format!("{it}-")),
            1 => place().prop_map(|it| format!("{it}/")),
            2 => Just(String::new()),
            1 => prop::sample::select(vec!["https://m.io", ":m.io", "m.io/\\1", "m.io/a:1", "/", "-", "jms-", "A/b"])
                .prop_map(str::to_owned),
        ]
        .boxed()
    };
    let glob = prop::sample::select(vec![
        "*",
        "*/nginx*",
        "quay.io/*",
        "?ginx",
        "*:[a-z]*",
        "[!q]*",
        "m.example.com/*",
    ]);
    let item = prop_oneof![
        host(),
        path(),
        Just(String::new()),
        Just("a".to_owned()),
        Just(".".to_owned())
    ];
    prop_oneof![
        4 => target().prop_map(|value| format!("default::{value}")),
        8 => (host(), target()).prop_map(|(key, value)| format!("{key}::{value}")),
        1 => (host(), target()).prop_map(|(key, value)| format!("{key}:{value}")),
        2 => (host(), target()).prop_map(|(key, value)| format!("{key}/library::{value}")),
        2 => target().prop_map(|value| format!("docker.io/library::{value}")),
        2 => (reference(), prop_oneof![reference(), target()]).prop_map(|(key, value)| format!("[EXACT]{key}::{value}")),
        2 => (glob, target()).prop_map(|(key, value)| format!("[REPLACE]{key}::{value}")),
        2 => prop::collection::vec(item, 1..3).prop_map(|it| format!("noswap_wildcards::{}", it.join(","))),
    ]
    .boxed()
}

fn maps() -> impl Strategy<Value = String> {
    prop::collection::vec(line(), 0..8).prop_map(|it| it.join("\n"))
}

/// Asserts the properties of every decision, and returns it.
fn sound(policy: &Policy, image: &str) -> Result<(), TestCaseError> {
    let decision = policy.select(Scope::Node, TODAY).decide(image);
    prop_assert!(Reference::parse(&decision.result).is_ok(), "{:?}", decision);
    prop_assert_eq!(
        decision.swapped(),
        decision.result != image,
        "{:?}",
        decision
    );
    let again = policy.select(Scope::Node, TODAY).decide(&decision.result);
    prop_assert_eq!(&again.result, &decision.result);
    prop_assert_eq!(
        again.approved,
        decision.approved,
        "{:?} {:?}",
        decision,
        again
    );
    prop_assert!(!again.swapped());
    if decision.approved {
        prop_assert!(!again.is_drift());
    }
    let steps = policy.select(Scope::Node, TODAY).steps(image);
    prop_assert_eq!(
        steps.last().map_or(image, |it| it.1.as_str()),
        &*decision.result
    );
    Ok(())
}

proptest! {
    #[test]
    fn every_result_is_valid_and_stable(maps in maps(), images in prop::collection::vec(reference(), 1..6)) {
        let policy = load_with("maps", &maps, &tolerant()).expect("what is tolerated loads").policy;
        for image in &images {
            sound(&policy, image)?;
        }
    }

    #[test]
    fn what_a_rule_makes_of_an_image_is_approved(maps in maps(), image in reference()) {
        // Patterns without a value give bare names, which is not a target. And an item of
        // `noswap_wildcards` may keep a text that ImageSwap assembles elsewhere: `a/docker.io-b`
        // becomes `a/d.io-b`, which contains `d.io`.
        let is_target = |it: &&str| {
            let dropped = it.starts_with("[REPLACE]") && it.ends_with("::");
            !dropped && !it.starts_with("noswap_wildcards")
        };
        let maps = maps.lines().filter(is_target).collect::<Vec<_>>().join("\n");
        let policy = load_with("maps", &maps, &tolerant()).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide(&image);
        prop_assert!(!decision.swapped() || decision.approved, "{:?}", decision);
    }

    #[test]
    fn a_strict_load_decides_as_a_tolerant_one(maps in maps(), image in reference()) {
        let tolerated = load_with("maps", &maps, &tolerant()).unwrap();
        match load("maps", &maps) {
            Ok(loaded) => {
                prop_assert_eq!(loaded.policy.revision(), tolerated.policy.revision());
                prop_assert_eq!(&loaded.warnings, &tolerated.warnings);
                prop_assert_eq!(loaded.policy.select(Scope::Node, TODAY).decide(&image), tolerated.policy.select(Scope::Node, TODAY).decide(&image));
            }
            Err(error) => prop_assert_eq!(error.0.len(), tolerated.warnings.0.len()),
        }
    }

    #[test]
    fn the_legacy_prefix_is_valid_and_stable(
        prefix in prop_oneof![host(), path(), path().prop_map(|it| format!("{it}-")), "\\PC{0,6}"],
        image in reference(),
    ) {
        let policy = load_prefix_with("prefix", &prefix, &tolerant()).unwrap().policy;
        sound(&policy, &image)?;
    }

    #[test]
    fn no_text_panics(maps in "([a-z:#\\[\\]/. \\t*,-]|default|::|\n|\\PC){0,60}", image in "\\PC{0,40}") {
        let policy = load_with("maps", &maps, &tolerant()).unwrap().policy;
        let decision = policy.select(Scope::Node, TODAY).decide(&image);
        prop_assert!(!decision.explain().is_empty());
        if let Err(error) = load("maps", &maps) {
            prop_assert!(!error.to_string().is_empty());
        }
        prop_assert!(Reference::parse(&image).is_ok() || (decision.result == image && !decision.approved));
    }

    #[test]
    fn comments_change_nothing(maps in maps(), image in reference()) {
        let commented = maps.lines().map(|it| format!("# c\n\n {it} # d")).collect::<Vec<_>>().join("\n");
        let (one, other) = (load_with("a", &maps, &tolerant()).unwrap(), load_with("b", &commented, &tolerant()).unwrap());
        prop_assert_eq!(one.policy.revision(), other.policy.revision());
        prop_assert_eq!(one.policy.select(Scope::Node, TODAY).decide(&image).result, other.policy.select(Scope::Node, TODAY).decide(&image).result);
    }
}
