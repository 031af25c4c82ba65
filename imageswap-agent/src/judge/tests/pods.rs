//! Judgements about containers of Pods, with evidence from API server and runtime.

use super::*;
use crate::claim::ContentSource;
use crate::pods::{PodContainer, PodRecord};
use imageswap_policy::document;

/// A container of the Pod.
pub(super) const POD_NAME: &str = "app";
const DIGEST: &str = "sha256:15d3b5c4f521a84896ed1ead1b14e4774d02202d5c65ab68f30eeaf310a3b1a7";

pub(super) fn known(image: &str) -> PodRecord {
    let container = |ephemeral| PodContainer {
        image: image.to_owned(),
        ephemeral,
        id: None,
    };
    PodRecord {
        namespace: "team-a".to_owned(),
        name: "web".to_owned(),
        uid: "u".to_owned(),
        containers: [
            ("app".to_owned(), container(false)),
            ("debug".to_owned(), container(true)),
        ]
        .into(),
        labels: Some(BTreeMap::new()),
        ..PodRecord::default()
    }
}

fn noted(image: &str, noted: &str, revision: &str) -> PodRecord {
    let entry = format!(r#"{{"image":"{noted}","revision":"{revision}"}}"#);
    PodRecord {
        note: Some(format!(r#"{{"v":1,"containers":{{"app":{entry}}}}}"#)),
        ..known(image)
    }
}

pub(super) fn named(container: &str, names: &[&str]) -> Claim {
    Claim {
        container_name: Some(container.to_owned()),
        digest: Some(DIGEST.to_owned()),
        ..cri(names)
    }
}

pub(super) fn judged_with(
    criteria: &Criteria,
    cgroup: &str,
    pod: impl Into<Option<Ownership>>,
    claims: &[Claim],
) -> Judgement {
    let mut facts = Facts::new(cgroup);
    for claim in claims {
        facts.observe(Evidence::Claim(Box::new(claim.clone())));
    }
    if let Some(pod) = pod.into() {
        facts.observe(Evidence::Pod(pod));
    }
    facts.observe(Evidence::Settled {
        attempt: Attempt::default(),
        unreachable: BTreeSet::new(),
    });
    let judgement = judge(&facts, criteria, Date::MIN);
    assert!(
        is_legal(judgement.verdict, judgement.route, judgement.reason),
        "{judgement:?}"
    );
    judgement
}

pub(super) fn is(pod: PodRecord) -> Ownership {
    Ownership::Known(Arc::new(pod))
}

fn revision(criteria: &Criteria) -> String {
    let first = criteria.policies.iter().next().unwrap();
    first.revision().to_owned()
}

pub(super) fn yaml(spec: &str) -> Arc<Policies> {
    let text = format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: p}}\nspec: {spec}\n"
    );
    Arc::new(Policies::new(document::load("p", &text).unwrap().policies))
}

#[test]
fn a_note_tells_why_and_is_decided_again() {
    let criteria = criteria();
    let now = revision(&criteria);
    let table = [
        ("no note", known(EVIL), "webhook-skipped"),
        (
            "noted, then changed",
            noted(EVIL, "nginx", &now),
            "mutated-after-admission",
        ),
        (
            "forged, of a revision that nobody knows",
            noted(EVIL, EVIL, "bogus"),
            "webhook-skipped",
        ),
        (
            "forged, of the revision in force",
            noted(EVIL, EVIL, &now),
            "mutated-after-admission",
        ),
        (
            "no JSON",
            PodRecord {
                note: Some("{".to_owned()),
                ..known(EVIL)
            },
            "webhook-skipped",
        ),
    ];
    for (what, pod, reason) in table {
        let judgement = judged_with(&criteria, POD, is(pod), &[named("app", &[EVIL])]);
        assert_eq!(
            words(&judgement),
            ["drift", "pod", reason],
            "{what}: {judgement:?}"
        );
    }
}

#[test]
fn an_image_that_the_registry_lacked_is_not_mirrored() {
    const IMAGE: &str = "docker.io/library/nginx:1";
    let spec =
        "{rules: [{from: 'docker.io/**', to: registry.corp/hub, ifMissing: keep}]ENFORCEMENT}";
    let policies = |enforcement: &str| yaml(&spec.replace("ENFORCEMENT", enforcement));
    let criteria = Criteria::new(policies(""));
    let now = revision(&criteria);
    let sure = Criteria::new(yaml(
        "{rules: [{from: 'docker.io/**', to: registry.corp/hub}]}",
    ));
    let audit = Criteria::new(policies(", enforcement: audit"));
    let mut changed = criteria.clone();
    changed.past.push(std::mem::replace(
        &mut changed.policies,
        policies(", message: x, priority: 1"),
    ));
    for (what, criteria, pod, reason) in [
        (
            "the note has it",
            &criteria,
            noted(IMAGE, IMAGE, &now),
            "not-mirrored",
        ),
        (
            "admitted before a change",
            &changed,
            noted(IMAGE, IMAGE, &now),
            "not-mirrored",
        ),
        ("no note", &criteria, known(IMAGE), "webhook-skipped"),
        (
            "a note of a revision that nobody knows",
            &criteria,
            noted(IMAGE, IMAGE, "bogus"),
            "webhook-skipped",
        ),
        (
            "admission left another",
            &criteria,
            noted(IMAGE, "docker.io/library/redis", &now),
            "mutated-after-admission",
        ),
        (
            "the rule is sure",
            &sure,
            noted(IMAGE, IMAGE, &revision(&sure)),
            "mutated-after-admission",
        ),
        (
            "audit",
            &audit,
            noted(IMAGE, IMAGE, &revision(&audit)),
            "not-enforced",
        ),
    ] {
        let judgement = judged_with(criteria, POD, is(pod), &[named("app", &[IMAGE])]);
        assert_eq!(
            words(&judgement),
            ["drift", "pod", reason],
            "{what}: {judgement:?}"
        );
        let expected = judgement.expected_image.as_deref();
        assert_eq!(
            expected,
            Some("registry.corp/hub/library/nginx:1"),
            "what has to be copied"
        );
    }
}

#[test]
fn the_runtimes_copy_of_the_note_does_without_an_api_server() {
    let criteria = criteria();
    let note = noted(EVIL, "nginx", &revision(&criteria)).note;
    let claim = Claim {
        note: note.map(Into::into),
        ..named("app", &[EVIL])
    };
    let judgement = judged_with(&criteria, POD, None, &[claim]);
    assert_eq!(
        words(&judgement),
        ["drift", "pod", "mutated-after-admission"]
    );
}

#[test]
fn what_an_earlier_policy_admitted_is_not_the_webhooks_fault() {
    let old = yaml("{rules: [{from: '**', to: registry.old}]}");
    let mut criteria = Criteria::new(yaml("{rules: [{from: '**', to: registry.new}]}"));
    let revision = revision(&Criteria::new(Arc::clone(&old)));
    let image = "registry.old/docker.io/library/nginx";
    let first = old
        .select(Scope::Node, Date::MIN)
        .decide("nginx")
        .result
        .into_owned();
    let pod = || is(noted(&first, "nginx", &revision));
    let claims = [named("app", &[&first])];
    assert!(first.starts_with("registry.old/"), "{first} {image}");
    assert_eq!(
        judged_with(&criteria, POD, pod(), &claims).reason,
        Reason::WebhookSkipped,
        "nobody knows it"
    );
    criteria.past.push(Arc::clone(&old));
    assert_eq!(
        judged_with(&criteria, POD, pod(), &claims).reason,
        Reason::PolicyChanged
    );
    let evil = [named("app", &[EVIL])];
    let forged = is(noted(EVIL, "nginx", &revision));
    assert_eq!(
        judged_with(&criteria, POD, forged, &evil).reason,
        Reason::MutatedAfterAdmission
    );
    // An ephemeral container cannot have a note.
    let debug = [named("debug", &[&first])];
    assert_eq!(
        words(&judged_with(&criteria, POD, pod(), &debug)),
        ["drift", "ephemeral", "policy-changed"]
    );
}

#[test]
fn what_a_policy_only_warns_of_was_not_skipped() {
    for enforcement in ["warn", "audit"] {
        let criteria = Criteria::new(yaml(&format!(
            "{{enforcement: {enforcement}, approved: ['registry.example.com/**']}}"
        )));
        let judgement = judged_with(&criteria, POD, is(known(EVIL)), &[named("app", &[EVIL])]);
        assert_eq!(
            words(&judgement),
            ["drift", "pod", "not-enforced"],
            "{enforcement}"
        );
    }
}

#[test]
fn the_pods_specification_settles_which_of_several_names_it_is() {
    let criteria = criteria();
    let both = [named("app", &[EVIL, OURS])];
    for (image, expected) in [(OURS, "approved"), (EVIL, "drift")] {
        let judgement = judged_with(&criteria, POD, is(known(image)), &both);
        assert_eq!(
            (words(&judgement)[0], judgement.confidence),
            (expected, Confidence::High)
        );
        assert_eq!(
            (judgement.image.as_deref(), judgement.names[0].source),
            (Some(image), "pod-spec")
        );
        assert_eq!(judgement.names.len(), 2, "{:?}", judgement.names);
    }
}

#[test]
fn a_specification_that_is_of_another_image_decides_nothing() {
    let criteria = criteria();
    // The Pod was changed, but this container is still the one from before.
    let newer = judged_with(&criteria, POD, is(known(OURS)), &[named("app", &[EVIL])]);
    assert_eq!(
        (newer.verdict, newer.image.as_deref()),
        (Verdict::Drift, Some(EVIL))
    );
    let open = judged_with(
        &criteria,
        POD,
        is(known("registry.example.com/third:1")),
        &[named("app", &[EVIL, OURS])],
    );
    assert_eq!(
        (open.verdict, open.reason),
        (Verdict::Unresolved, Reason::Ambiguous)
    );
    let by_digest = format!("registry.example.com/app@{DIGEST}");
    let pinned = judged_with(
        &criteria,
        POD,
        is(known(&by_digest)),
        &[named("app", &[EVIL, OURS])],
    );
    assert_eq!(pinned.image.as_deref(), Some(&*by_digest));
}

#[test]
fn whoever_calls_the_cri_cannot_say_that_he_asked_for_an_approved_image() {
    let criteria = criteria();
    let claim = |names: &[&str]| Claim {
        image: Some(OURS.to_owned()),
        naming: Naming::AsAsked,
        ..named("app", names)
    };
    let lie = judged_with(&criteria, "/k8s.io/x", Ownership::Absent, &[claim(&[EVIL])]);
    assert_eq!(words(&lie), ["drift", "cri", "not-admitted"], "{lie:?}");
    let nameless = judged_with(&criteria, POD, None, &[claim(&[])]);
    assert_eq!(nameless.verdict, Verdict::Unresolved, "{nameless:?}");
    let moved = claim(&[&format!("registry.example.com/app@{DIGEST}"), EVIL]);
    let moved = judged_with(&criteria, POD, None, &[moved]);
    assert_eq!(
        moved.verdict,
        Verdict::Approved,
        "its tag is on the next image by now: {moved:?}"
    );
}

/// What the Pod asks for now is not what runs if the image has another tag or another digest.
#[test]
fn a_name_of_another_image_in_the_repository_is_not_what_runs() {
    let criteria = Criteria::new(yaml(
        "{approved: ['registry.example.com/**:1', 'registry.example.com/**@sha256:*']}",
    ));
    let app = |end: &str| format!("registry.example.com/app{end}");
    let (bad, good, digest) = (app(":bad"), app(":1"), app(&format!("@{DIGEST}")));
    let running = |names: &[&str], digest: Option<&str>| Claim {
        digest: digest.map(str::to_owned),
        content: Content::Its,
        ..named("app", names)
    };
    // Its record names the genuine image, on whose layers it does not run.
    let forged = Claim {
        digest: Some(DIGEST.to_owned()),
        content: Content::Another,
        ..ctr(&good)
    };
    let its = format!("{}@{DIGEST}", app(""));
    for (what, asked, claim, expected) in [
        ("its tag", &good, running(&[&good], None), "approved"),
        ("another tag", &good, running(&[&bad], None), "drift"),
        (
            "a tag that has moved",
            &good,
            running(&[&its], Some(DIGEST)),
            "approved",
        ),
        (
            "its digest",
            &digest,
            running(&[&bad, &its], Some(DIGEST)),
            "approved",
        ),
        (
            "a digest of another image",
            &digest,
            running(&[&bad], None),
            "drift",
        ),
    ] {
        let claims = [claim, forged.clone()];
        let found = judged_with(&criteria, POD, is(known(asked)), &claims);
        assert_eq!(found.verdict.as_str(), expected, "{what}: {found:?}");
    }
}

/// The CRI's answer about a sandbox has no digest, and containerd's has.
#[test]
fn an_image_that_is_named_by_its_digest_alone_has_that_name() {
    let name = format!("evil.example.net/pause@{DIGEST}");
    let record = Claim {
        digest: Some(DIGEST.to_owned()),
        content: Content::Its,
        naming: Naming::AnyOfDigest,
        ..ctr(&name)
    };
    let sandbox = Claim {
        content: Content::Its,
        image: None,
        digest: None,
        ..named("app", &[])
    };
    let found = judged_with(&criteria(), POD, is(known(OURS)), &[sandbox, record]);
    assert_eq!(words(&found)[0], "drift", "{found:?}");
    assert_eq!(found.image, Some(name));
}

/// The runtime names an approved image, and the Pod asks for one that is refused: the container was restored
/// from a checkpoint, or the Pod was edited since.
#[test]
fn what_the_pod_asks_for_is_not_approved_by_another_name_of_the_runtime() {
    let criteria = criteria();
    let claim = Claim {
        image: Some(OURS.to_owned()),
        naming: Naming::AsAsked,
        content: Content::Its,
        ..named("app", &[OURS])
    };
    for (asked, expected) in [
        (OURS, ["approved", "pod", "ok"]),
        ("registry.example.com/other:1", ["approved", "pod", "ok"]),
        (EVIL, ["unresolved", "pod", "ambiguous"]),
    ] {
        let found = judged_with(
            &criteria,
            POD,
            is(known(asked)),
            std::slice::from_ref(&claim),
        );
        assert_eq!(words(&found), expected, "{asked}: {found:?}");
    }
}

/// Clients of a containerd can give any image a name with the digest of another one.
#[test]
fn a_name_with_the_digest_of_another_image_approves_nothing() {
    let forged = format!("registry.example.com/app@{DIGEST}");
    let spec = format!("{{approved: ['{forged}']}}");
    let criteria = Criteria::new(yaml(&spec));
    let run = |digest: &str| Claim {
        digest: Some(digest.to_owned()),
        content: Content::Its,
        ..ctr(&forged)
    };
    for (digest, expected) in [(DIGEST, "approved"), ("sha256:0bad", "unresolved")] {
        let found = judged_with(&criteria, "/default/x", None, &[run(digest)]);
        assert_eq!(words(&found)[0], expected, "{found:?}");
        let any = Claim {
            naming: Naming::AnyOfDigest,
            ..run(digest)
        };
        let found = judged_with(&criteria, "/default/x", None, &[any]);
        assert_eq!(words(&found)[0], expected, "{found:?}");
    }
}

#[test]
fn a_pod_that_the_api_server_does_not_know_is_none() {
    let selector = "matchExpressions: [{key: free, operator: DoesNotExist}]";
    let spec = format!(
        "{{match: {{namespaceSelector: {{{selector}}}}}, approved: ['registry.example.com/**']}}"
    );
    let free = BTreeMap::from([("free".to_owned(), String::new())]);
    let criteria = Criteria {
        namespaces: Namespaces::fixed([("team-a".to_owned(), free)]),
        ..Criteria::new(yaml(&spec))
    };
    let claims = [named("app", &[EVIL])];
    let exempt = judged_with(&criteria, POD, is(known(EVIL)), &claims);
    assert_eq!(words(&exempt), ["exempt", "pod", "out-of-scope"]);
    let forged = judged_with(&criteria, POD, Some(Ownership::Absent), &claims);
    assert_eq!(
        words(&forged),
        ["drift", "cri", "not-admitted"],
        "{forged:?}"
    );
    // A container that the Pod does not have was not made by the kubelet.
    let put_there = judged_with(
        &super::criteria(),
        POD,
        is(known(OURS)),
        &[named("other", &[EVIL])],
    );
    assert_eq!(words(&put_there)[1], "cri", "{put_there:?}");
}

#[test]
fn a_static_pod_runs_what_its_file_says_whatever_its_copy_shows() {
    let criteria = criteria();
    let copy = PodRecord {
        mirror_of: Some("u".to_owned()),
        ..known(OURS)
    };
    let judgement = judged_with(&criteria, STATIC_POD, is(copy), &[named("app", &[EVIL])]);
    assert_eq!(words(&judgement), ["drift", "static-pod", "not-admitted"]);
    let own_uid = Claim {
        static_pod: Some(true),
        ..named("app", &[EVIL])
    };
    // Any client of the CRI can write the annotation.
    for pod in [Some(Ownership::Absent), None] {
        let judgement = judged_with(&criteria, STATIC_POD, pod, std::slice::from_ref(&own_uid));
        assert_eq!(words(&judgement), ["drift", "cri", "not-admitted"]);
    }
}

#[test]
fn a_new_name_does_not_change_where_an_image_came_from() {
    let criteria = criteria();
    let from = |all: &[(&str, &str)]| {
        let source = |(host, repository): &(&str, &str)| ContentSource {
            host: (*host).to_owned(),
            repository: (*repository).to_owned(),
            has_port: false,
        };
        Some(all.iter().map(source).collect::<Vec<_>>())
    };
    #[rustfmt::skip]
    let table = [
        ("as it is called",        from(&[("registry.example.com", "app")]),                        ["approved", "ok"]),
        ("approved elsewhere",     from(&[("registry.example.com", "other")]),                      ["approved", "ok"]),
        ("under both",             from(&[("evil.example.net", "miner"), ("registry.example.com", "app")]), ["approved", "ok"]),
        ("under another",          from(&[("evil.example.net", "miner")]),                          ["drift", "retagged"]),
        ("never pulled",           from(&[]),                                                        ["approved", "side-loaded"]),
        ("nobody keeps that",      None,                                                             ["approved", "ok"]),
    ];
    for (what, pulled_from, expected) in table {
        let claim = Claim {
            pulled_from: pulled_from.clone(),
            ..ctr(OURS)
        };
        let judgement = judged_with(&criteria, "/default/x", None, &[claim]);
        let [verdict, _, reason] = words(&judgement);
        assert_eq!([verdict, reason], expected, "{what}");
        if reason == "retagged" {
            assert_eq!(
                judgement.expected_image.as_deref(),
                Some("registry.example.com/miner")
            );
        }
        // One more name does not hide where the content came from.
        let claim = Claim {
            naming: Naming::AnyOfDigest,
            names: [OURS, EVIL].map(str::to_owned).into(),
            pulled_from: pulled_from.clone(),
            ..ctr(EVIL)
        };
        let judgement = judged_with(&criteria, "/default/x", None, &[claim]);
        let expected = if reason == "retagged" {
            ["drift", "containerd", "retagged"]
        } else {
            ["unresolved", "containerd", "ambiguous"]
        };
        assert_eq!(words(&judgement), expected, "{what}");
        // If the name already drifts, this adds nothing.
        let claim = Claim {
            pulled_from,
            ..ctr(EVIL)
        };
        assert_eq!(
            judged_with(&criteria, "/default/x", None, &[claim]).reason,
            Reason::NotAdmitted,
            "{what}"
        );
    }
}

#[test]
fn containerds_label_alone_makes_no_sandbox() {
    let criteria = criteria();
    let pause = Claim {
        kind: Some(Kind::Sandbox),
        through_cri: true,
        naming: Naming::AnyOfDigest,
        names: [EVIL.to_owned()].into(),
        ..Claim::new(Source::Containerd, "x", "containerd")
    };
    let judgement = judged_with(&criteria, "/k8s.io/x", None, &[pause]);
    assert_eq!(
        (judgement.verdict, judgement.reason),
        (Verdict::Unresolved, Reason::RuntimeUnreachable)
    );
}
