//! Policies that select by labels of the namespace, guards, and denied images.

use super::pods::{POD_NAME, is, judged_with, known, named};
use super::*;
use crate::pods::PodRecord;
use imageswap_policy::document;

const CORP: &str = "{rules: [{name: hub, from: docker.io/**, to: registry.example.com}]}";
const EXEMPT: &str = "{priority: 10, match: {nodeLevel: false, namespaceSelector: {matchLabels: {exempt: 'yes'}}}, \
                      rules: [{name: all, keep: '**'}]}";

fn criteria_of(specs: &[(&str, &str)], label: Option<&str>) -> Criteria {
    let document = |(name, spec): &(&str, &str)| {
        format!(
            "---\napiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        )
    };
    let text: String = specs.iter().map(document).collect();
    let policies = Policies::new(document::load("p", &text).unwrap().policies);
    let labels = label.map(|it| BTreeMap::from([("exempt".to_owned(), it.to_owned())]));
    Criteria {
        namespaces: labels.map_or_else(Namespaces::unknown, |labels| {
            Namespaces::fixed([("team-a".to_owned(), labels)])
        }),
        ..Criteria::new(Arc::new(policies))
    }
}

fn judged_in(criteria: &Criteria, image: &str) -> Judgement {
    let claims = [named(POD_NAME, &[image])];
    judged_with(criteria, POD, is(known(image)), &claims)
}

#[test]
fn labels_that_were_too_long_to_keep_are_unknown() {
    let exempt = EXEMPT.replace("namespaceSelector", "objectSelector");
    let criteria = criteria_of(&[("corp", CORP), ("exempt", &exempt)], None);
    for (labels, expected) in [
        (None, ["unresolved", "pod", "scope-unknown"]),
        (Some(BTreeMap::new()), ["drift", "pod", "webhook-skipped"]),
    ] {
        let pod = PodRecord {
            labels,
            ..known("nginx")
        };
        let claims = [named(POD_NAME, &["nginx"])];
        let found = judged_with(&criteria, POD, is(pod), &claims);
        assert_eq!(words(&found), expected, "{found:?}");
    }
}

#[test]
fn unknown_labels_approve_and_accuse_nobody() {
    let policies = [("corp", CORP), ("exempt", EXEMPT)];
    let unknown = criteria_of(&policies, None);
    for image in [EVIL, "nginx"] {
        let found = judged_in(&unknown, image);
        assert_eq!(
            words(&found),
            ["unresolved", "pod", "scope-unknown"],
            "{found:?}"
        );
        assert_eq!((&found.policy, &found.rule), (&None, &None));
    }
    // Both policies leave it unchanged.
    assert_eq!(words(&judged_in(&unknown, OURS)), ["approved", "pod", "ok"]);
    for (label, verdict) in [
        ("yes", ["approved", "pod", "ok"]),
        ("no", ["drift", "pod", "webhook-skipped"]),
    ] {
        let found = judged_in(&criteria_of(&policies, Some(label)), EVIL);
        assert_eq!(words(&found), verdict, "{label}: {found:?}");
    }
    // Labels of a namespace do not matter for a container of the node.
    let node = judged_with(&unknown, "/default/x", None, &[ctr(EVIL)]);
    assert_eq!(words(&node)[0], "drift", "{node:?}");
}

#[test]
fn content_from_a_place_that_is_not_decided_is_not_retagged() {
    use crate::claim::ContentSource;
    let from_elsewhere = |criteria: &Criteria| {
        let claim = Claim {
            pulled_from: Some(vec![ContentSource {
                host: "evil.example.net".to_owned(),
                repository: "miner".to_owned(),
                has_port: false,
            }]),
            ..named(POD_NAME, &[OURS])
        };
        judged_with(criteria, POD, is(known(OURS)), &[claim])
    };
    let policies = [("corp", CORP), ("exempt", EXEMPT)];
    let unknown = from_elsewhere(&criteria_of(&policies, None));
    assert_eq!(
        words(&unknown),
        ["unresolved", "pod", "scope-unknown"],
        "{unknown:?}"
    );
    let known = from_elsewhere(&criteria_of(&policies, Some("no")));
    assert_eq!(words(&known), ["drift", "pod", "retagged"], "{known:?}");
}

#[test]
fn a_denied_image_is_drift_and_names_its_entry() {
    let criteria = criteria_of(
        &[(
            "p",
            "{approved: ['registry.example.com/**'], denied: [{pattern: '**:1', message: old}]}",
        )],
        None,
    );
    let found = judged_in(&criteria, OURS);
    assert_eq!(words(&found), ["drift", "pod", "webhook-skipped"]);
    assert_eq!(found.rule.as_deref(), Some("denied[0]"));
}

#[test]
fn a_guard_looks_at_namespace_and_container() {
    let spec = |guard: &str| {
        format!("{{approved: ['registry.example.com/**', {{pattern: '**', {guard}}}]}}")
    };
    for (guard, verdict) in [
        ("namespaces: ['team-*']", "approved"),
        ("namespaces: [other]", "drift"),
        ("containers: [app]", "approved"),
        ("containers: [debug]", "drift"),
    ] {
        let criteria = criteria_of(&[("p", &spec(guard))], None);
        assert_eq!(words(&judged_in(&criteria, EVIL))[0], verdict, "{guard}");
    }
    // The container's name is unknown.
    let criteria = criteria_of(&[("p", &spec("containers: [app]"))], None);
    let nameless = Claim {
        container_name: None,
        ..cri(&[EVIL])
    };
    let nameless = judged_with(&criteria, POD, is(known(EVIL)), &[nameless]);
    assert_eq!(words(&nameless)[..1], ["unresolved"], "{nameless:?}");
    assert_eq!(words(&nameless)[2], "scope-unknown", "{nameless:?}");
}

/// Until the API server confirms a Pod, the answer is never milder than for the Pod that a runtime names, or
/// for any Pod if it names none: whoever writes a Pod can make the CRI's answer too large to read.
#[test]
fn a_container_whose_pod_is_not_confirmed_is_not_judged_as_the_nodes() {
    const TEAM: &str = "{match: {nodeLevel: false, namespaces: ['team-*']}, \
                        approved: ['registry.example.com/**']}";
    const GUARDED: &str =
        "{approved: ['**'], denied: [{pattern: 'evil.example.net/**', namespaces: ['team-*']}]}";
    const ANY: &str = "{match: {nodeLevel: false}, approved: ['registry.example.com/**']}";
    let nameless = |through_cri| Claim {
        through_cri,
        pod: None,
        ..named(POD_NAME, &[EVIL])
    };
    let by_containerd = Claim {
        through_cri: true,
        naming: Naming::AnyOfDigest,
        names: [EVIL.to_owned()].into(),
        ..ctr(EVIL)
    };
    let its = named(POD_NAME, &[EVIL]);
    let absent = || Some(Ownership::Absent);
    for (what, spec, pod, claim, expected) in [
        ("no sandbox", TEAM, None, nameless(true), "unresolved"),
        (
            "no sandbox, any Pod",
            ANY,
            None,
            nameless(true),
            "unresolved",
        ),
        (
            "no sandbox, a guard",
            GUARDED,
            None,
            nameless(true),
            "unresolved",
        ),
        (
            "its Pod is not the CRI's",
            TEAM,
            Some(is(known(EVIL))),
            nameless(true),
            "unresolved",
        ),
        ("no CRI", TEAM, None, by_containerd.clone(), "unresolved"),
        (
            "no CRI, a guard",
            GUARDED,
            Some(is(known(EVIL))),
            by_containerd.clone(),
            "unresolved",
        ),
        ("deleted", TEAM, absent(), its.clone(), "unresolved"),
        (
            "deleted, a guard",
            GUARDED,
            absent(),
            its.clone(),
            "unresolved",
        ),
        ("not a Pod's", TEAM, None, ctr(EVIL), "exempt"),
        ("confirmed", TEAM, Some(is(known(EVIL))), its, "drift"),
    ] {
        let criteria = criteria_of(&[("p", spec)], None);
        let found = judged_with(&criteria, POD, pod, &[claim]);
        assert_eq!(words(&found)[0], expected, "{what}: {found:?}");
        let is_unknown = words(&found)[2] == "scope-unknown";
        assert_eq!(is_unknown, expected == "unresolved", "{what}: {found:?}");
    }
}

/// The maker of a bundle writes its annotations, and the runtime that did not answer may have made it for a Pod.
#[test]
fn a_name_in_the_bundle_exempts_nothing_while_a_runtime_does_not_answer() {
    let spec = "{match: {nodeLevel: false}, approved: ['registry.example.com/**']}";
    let criteria = criteria_of(&[("p", spec)], None);
    for (silent, expected) in [(None, "exempt"), (Some("/x.sock"), "unresolved")] {
        let mut facts = Facts::new("/default/x");
        let claim = Claim {
            image: Some(EVIL.to_owned()),
            ..Claim::new(Source::Bundle, "x", "containerd")
        };
        facts.observe(Evidence::Claim(Box::new(claim)));
        facts.observe(Evidence::Settled {
            attempt: Attempt::default(),
            unreachable: silent.map(str::to_owned).into_iter().collect(),
        });
        let found = judge(&facts, &criteria, Date::MIN);
        assert_eq!(words(&found)[0], expected, "{silent:?}: {found:?}");
    }
}
