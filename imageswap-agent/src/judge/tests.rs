//! Every route and every kind of evidence, as a table.

use super::*;
use crate::claim::ContentSource;
use crate::claim::{Attempt, Claim, Content, Naming};
use crate::facts::Evidence;
use crate::pods::{Ownership, PodName};
use crate::verdict::is_legal;
use imageswap_policy::maps;
use std::collections::{BTreeMap, BTreeSet};

const POD: &str = "/kubepods/burstable/pod4a163a05-439d-484b-8e53-2968bc15824f/\
                   cde6dfaf5007ed65aad2d6aed72af91b0f3d95813492f773286e29ae145d20f4";
const STATIC_POD: &str = "/kubepods/burstable/podb53dfa9e2dc9b890f7fadb2770857b03/\
                          cde6dfaf5007ed65aad2d6aed72af91b0f3d95813492f773286e29ae145d20f4";
const NESTED: &str =
    "/docker/8afe480d66074930353da456a1344caca810fe31c1e31f6e08c95a66887235d6/default/inner";
const OURS: &str = "registry.example.com/app:1";
const EVIL: &str = "evil.example.net/miner:1";

fn criteria() -> Criteria {
    Criteria::new(Arc::new(policy()))
}

fn policy() -> Policies {
    let text = "default::registry.example.com\nnoswap_wildcards::registry.example.com\n";
    Policies::one(maps::load("test", text).unwrap().policy)
}

fn judged(cgroup: &str, claims: impl IntoIterator<Item = Claim>) -> Judgement {
    let mut facts = Facts::new(cgroup);
    for claim in claims {
        facts.observe(Evidence::Claim(Box::new(claim)));
    }
    facts.observe(Evidence::Settled {
        attempt: Attempt::default(),
        unreachable: BTreeSet::new(),
    });
    judge(&facts, &criteria(), Date::MIN)
}

fn words(judgement: &Judgement) -> [&'static str; 3] {
    [
        judgement.verdict.as_str(),
        judgement.route.as_str(),
        judgement.reason.as_str(),
    ]
}

fn ctr(image: &str) -> Claim {
    Claim {
        image: Some(image.to_owned()),
        content: Content::Its,
        ..Claim::new(Source::Containerd, "x", "containerd")
    }
}

fn cri(names: &[&str]) -> Claim {
    Claim {
        image: names.first().map(|&name| name.to_owned()),
        naming: Naming::AnyOfDigest,
        names: names.iter().map(|&name| name.to_owned()).collect(),
        kind: Some(Kind::Container),
        through_cri: true,
        pod: Some(PodName {
            namespace: "team-a".to_owned(),
            name: "web".to_owned(),
            uid: "u".to_owned(),
        }),
        container_name: Some("app".to_owned()),
        ..Claim::new(Source::Cri, "x", "containerd")
    }
}

fn podless(claim: Claim) -> Claim {
    Claim { pod: None, ..claim }
}

fn annotated(image: &str) -> Claim {
    Claim {
        image: Some(image.to_owned()),
        kind: Some(Kind::Sandbox),
        ..Claim::new(Source::Bundle, "x", "containerd")
    }
}

#[test]
fn each_route_has_its_words() {
    let table = [
        (
            judged("/default/x", [ctr(OURS)]),
            ["approved", "containerd", "ok"],
        ),
        (
            judged("/default/x", [ctr(EVIL)]),
            ["drift", "containerd", "not-admitted"],
        ),
        (
            judged("/default/x", []),
            ["unresolved", "unknown", "not-admitted"],
        ),
        (judged(POD, [cri(&[OURS])]), ["approved", "pod", "ok"]),
        (
            judged(POD, [cri(&[EVIL])]),
            ["drift", "pod", "webhook-skipped"],
        ),
        (
            judged(STATIC_POD, [cri(&[EVIL])]),
            ["drift", "pod", "webhook-skipped"],
        ),
        (
            judged("/k8s.io/x", [podless(cri(&[EVIL]))]),
            ["drift", "cri", "not-admitted"],
        ),
        (
            judged(
                "/docker/5aaf9eb7648eeb1459d86eaa0ace8bcfa93089642e5c3113a14250dae3238aaf",
                [Claim::new(Source::Containerd, "x", "containerd")],
            ),
            ["unresolved", "containerd", "not-admitted"],
        ),
        (
            judged("/x", [Claim::new(Source::Runc, "x", "runc")]),
            ["unresolved", "runc", "not-admitted"],
        ),
        (judged(NESTED, []), ["unresolved", "unknown", "nested"]),
    ];
    for (judgement, expected) in table {
        assert_eq!(words(&judgement), expected, "{judgement:?}");
        assert!(
            is_legal(judgement.verdict, judgement.route, judgement.reason),
            "{judgement:?}"
        );
    }
}

#[test]
fn a_container_put_into_a_pods_cgroup_is_not_the_pods() {
    assert_eq!(
        words(&judged(POD, [ctr(EVIL)])),
        ["drift", "containerd", "not-admitted"]
    );
}

#[test]
fn drift_says_what_should_run_instead() {
    let judgement = judged("/default/x", [ctr("nginx")]);
    assert_eq!(
        judgement.expected_image.as_deref(),
        Some("registry.example.com/nginx")
    );
    assert_eq!(judgement.image.as_deref(), Some("nginx"));
}

#[test]
fn annotations_accuse_and_never_approve() {
    let approved = judged("/default/x", [annotated(OURS)]);
    assert_eq!(
        (approved.verdict, approved.confidence),
        (Verdict::Unresolved, Confidence::Low)
    );
    assert_eq!(
        judged("/default/x", [annotated(EVIL)]).verdict,
        Verdict::Drift
    );
    assert_ne!(
        judged("/default/x", [annotated(EVIL)]).reason,
        Reason::Sandbox,
        "an annotation makes no sandbox"
    );
}

#[test]
fn a_sandbox_is_exempt_by_the_runtimes_word() {
    let pause = Claim {
        kind: Some(Kind::Sandbox),
        container_name: None,
        ..cri(&["registry.k8s.io/pause:3.9"])
    };
    assert_eq!(words(&judged(POD, [pause])), ["exempt", "pod", "sandbox"]);
}

#[test]
fn a_sandbox_that_was_started_again_stays_so() {
    let answer = |number, is_again| Claim {
        attempt: Attempt {
            has_begun: true,
            number,
        },
        is_again: Some(is_again),
        digest: Some("sha256:1f2e".to_owned()),
        kind: Some(Kind::Sandbox),
        container_name: None,
        ..cri(&["registry.k8s.io/pause:3.9"])
    };
    let exempt = ["exempt", "pod", "sandbox"];
    let unknown = ["unresolved", "pod", "ambiguous"];
    for (first, later, expected) in [
        (false, false, exempt),
        // containerd has restarted, and takes this process for the sandbox's.
        (true, false, unknown),
        // The sandbox has ended.
        (false, true, exempt),
    ] {
        let [first, later] = [answer(1, first), answer(2, later)];
        for claims in [[first.clone(), later.clone()], [later, first]] {
            assert_eq!(words(&judged(POD, claims)), expected);
        }
    }
}

/// Another image in the place of a sandbox, which has no name in its Pod.
#[test]
fn what_is_not_a_sandbox_is_judged_by_its_image() {
    for (image, expected) in [
        (EVIL, ["drift", "cri", "not-admitted"]),
        (OURS, ["approved", "cri", "ok"]),
    ] {
        let judgement = judged(POD, [cri(&[image])]);
        assert_eq!(words(&judgement)[1], "pod", "it has a name: {judgement:?}");
        let nameless = Claim {
            container_name: None,
            ..cri(&[image])
        };
        assert_eq!(words(&judged(POD, [nameless])), expected);
    }
}

/// The content has to come from the place that the CRI's claim names.
#[test]
fn a_further_name_of_a_sandbox_excuses_nothing() {
    let pause = "registry.k8s.io/pause:3.9";
    let sandbox = |claim| Claim {
        kind: Some(Kind::Sandbox),
        container_name: None,
        ..claim
    };
    for (from, expected) in [
        (("registry.k8s.io", "pause"), ["exempt", "pod", "sandbox"]),
        (("evil.example.net", "miner"), ["drift", "pod", "retagged"]),
    ] {
        let record = Claim {
            naming: Naming::AnyOfDigest,
            pulled_from: Some(vec![ContentSource {
                host: from.0.to_owned(),
                repository: from.1.to_owned(),
                has_port: false,
            }]),
            ..ctr(EVIL)
        };
        let judgement = judged(POD, [sandbox(cri(&[pause])), sandbox(record)]);
        assert_eq!(words(&judgement), expected, "{judgement:?}");
    }
}

#[test]
fn names_that_disagree_are_ambiguous() {
    assert_eq!(judged(POD, [cri(&[EVIL, OURS])]).reason, Reason::Ambiguous);
    let agreed = judged(POD, [cri(&[OURS, "registry.example.com/other:2"])]);
    assert_eq!(
        (agreed.verdict, agreed.confidence),
        (Verdict::Approved, Confidence::Medium)
    );
}

#[test]
fn ids_and_digests_of_a_named_repository_are_no_further_names() {
    let digest = "sha256:15d3b5c4f521a84896ed1ead1b14e4774d02202d5c65ab68f30eeaf310a3b1a7";
    let judgement = judged(
        POD,
        [cri(&[
            digest,
            OURS,
            &format!("registry.example.com/app@{digest}"),
        ])],
    );
    assert_eq!(judgement.names.len(), 1, "{:?}", judgement.names);
    let alone = judged(POD, [cri(&[&format!("registry.example.com/app@{digest}")])]);
    assert_eq!(alone.verdict, Verdict::Approved);
}

#[test]
fn what_was_asked_for_beats_what_the_digest_is_called() {
    let asked = Claim {
        naming: Naming::AsAsked,
        ..cri(&[OURS, EVIL])
    };
    assert_eq!(words(&judged(POD, [asked])), ["approved", "pod", "ok"]);
}

#[test]
fn labels_without_the_api_servers_word_exempt_nothing() {
    let labels = [("k8s.twr.io/imageswap".to_owned(), "disabled".to_owned())];
    let labels = Arc::new(BTreeMap::from(labels));
    let out = Claim {
        labels: Some(Arc::clone(&labels)),
        ..cri(&[EVIL])
    };
    assert_eq!(
        words(&judged(POD, [out])),
        ["unresolved", "pod", "scope-unknown"]
    );
    let fine = Claim {
        labels: Some(Arc::clone(&labels)),
        ..cri(&[OURS])
    };
    assert_eq!(words(&judged(POD, [fine]))[0], "exempt");
    let forged = Claim {
        labels: Some(labels),
        pod: cri(&[]).pod,
        ..annotated(EVIL)
    };
    assert_eq!(judged("/default/x", [forged]).verdict, Verdict::Drift);
}

#[test]
fn names_that_were_left_out_approve_nothing() {
    let left_out = |claim| Claim {
        names_left_out: true,
        ..claim
    };
    let asked = Claim {
        naming: Naming::AsAsked,
        ..cri(&[OURS])
    };
    for (cgroup, claim, expected) in [
        (
            "/default/x",
            ctr(OURS),
            ["unresolved", "containerd", "ambiguous"],
        ),
        (
            "/default/x",
            ctr(EVIL),
            ["drift", "containerd", "not-admitted"],
        ),
        (POD, cri(&[OURS]), ["unresolved", "pod", "ambiguous"]),
        (POD, cri(&[EVIL]), ["drift", "pod", "webhook-skipped"]),
        (POD, asked, ["unresolved", "pod", "ambiguous"]),
    ] {
        let found = judged(cgroup, [left_out(claim)]);
        assert_eq!(words(&found), expected, "{found:?}");
    }
}

#[test]
fn silence_is_not_approval() {
    let mut facts = Facts::new("/default/x");
    facts.observe(Evidence::Settled {
        attempt: Attempt::default(),
        unreachable: BTreeSet::from(["/run/containerd.sock".to_owned()]),
    });
    assert_eq!(
        judge(&facts, &criteria(), Date::MIN).reason,
        Reason::RuntimeUnreachable
    );
    facts.observe(Evidence::Settled {
        attempt: Attempt::default(),
        unreachable: BTreeSet::new(),
    });
    facts.observe(Evidence::Removed);
    let gone = judge(&facts, &criteria(), Date::MIN);
    assert_eq!(
        (gone.verdict, gone.reason),
        (Verdict::Unresolved, Reason::Gone)
    );
}

mod dockers;
mod exempt;
mod pods;
mod scope;
