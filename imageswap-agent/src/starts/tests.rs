//! The table under evidence in any order.

use super::*;
use crate::claim::{Attempt, Claim, Content, Source};
use crate::facts::{NO_SOCKET, Process};
use crate::pods::PodName;
use crate::process::Subject;
use crate::verdict::{Reason, Route};
use imageswap_policy::{Policies, document, maps};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

mod room;

fn policy(text: &str) -> Criteria {
    criteria(Policies::one(maps::load("test", text).unwrap().policy))
}

fn criteria(policies: Policies) -> Criteria {
    Criteria::new(Arc::new(policies))
}

fn corp() -> Criteria {
    policy("default::registry.example.com\nnoswap_wildcards::registry.example.com\n")
}

fn table() -> Starts {
    let mut starts = Starts::new(Origin {
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
    });
    starts.begin(StartId::of(7), "/default/x");
    starts
}

fn at_ns(boot_ns: u64) -> Now {
    Now {
        wall: SystemTime::UNIX_EPOCH,
        boot_ns,
    }
}

fn confirmed(by: Confirmation) -> Evidence {
    Evidence::Confirmed(Process {
        by,
        time_ns: 1_000,
        pid: 42,
        comm: Some("sh".to_owned()),
        new_pid_namespace: by == Confirmation::Exec,
        started: Some(1),
        is_first: true,
        leads_pid_namespace: by == Confirmation::Exec,
        started_ns: None,
    })
}

/// An attempt after the program began.
const BEGUN: Attempt = Attempt {
    has_begun: true,
    number: 0,
};

fn claimed(source: Source, image: Option<&str>) -> Evidence {
    Evidence::Claim(Box::new(Claim {
        attempt: BEGUN,
        image: image.map(str::to_owned),
        ..Claim::new(source, "x", "containerd")
    }))
}

fn settled() -> Evidence {
    Evidence::Settled {
        attempt: BEGUN,
        unreachable: BTreeSet::new(),
    }
}

fn purge(starts: &mut Starts, now_ns: u64) -> (Vec<Finding>, u64) {
    let mut findings = Vec::new();
    let report = |its: &[Finding]| findings.extend_from_slice(its);
    let unanswered = starts.purge(&corp(), at_ns(now_ns), report);
    (findings, unanswered)
}

fn observe_all(starts: &mut Starts, evidence: &[Evidence], policy: &Criteria) -> Vec<Finding> {
    evidence
        .iter()
        .flat_map(|one| starts.observe(StartId::of(7), one.clone(), policy, at_ns(5_000)))
        .collect()
}

/// A walk may find any process of a container before its first one is known.
#[test]
fn answers_about_another_process_do_not_count() {
    let Evidence::Confirmed(first) = confirmed(Confirmation::Exec) else {
        unreachable!()
    };
    let any = Process {
        by: Confirmation::Walk,
        pid: 41,
        is_first: false,
        ..first.clone()
    };
    let mut starts = table();
    let all = [
        Evidence::Seen(Sight::Initial),
        Evidence::Confirmed(any),
        claimed(Source::Containerd, Some("registry.example.com/x")),
        settled(),
    ];
    let findings = observe_all(&mut starts, &all, &corp());
    assert_eq!(findings[0].verdict, Verdict::Approved);
    let changed = [Evidence::Confirmed(first)];
    assert_eq!(observe_all(&mut starts, &changed, &corp()), []);
    let facts = starts.facts(StartId::of(7)).unwrap();
    assert!(facts.claims.is_empty() && facts.settled.is_none());
    let answers = [
        claimed(Source::Containerd, Some("evil.example.net/x")),
        settled(),
    ];
    let findings = observe_all(&mut starts, &answers, &corp());
    assert_eq!(events(&findings), [Event::Rejudged]);
    assert_eq!(findings[0].verdict, Verdict::Drift);
}

#[test]
fn a_start_is_found_by_its_process_and_cgroup_until_it_is_forgotten() {
    let mut starts = table();
    let put = |cgroup, pid| StartId {
        cgroup,
        process: Some(Subject { pid, started: None }),
    };
    let others = [StartId::of(6), StartId::of(8), put(7, 50), put(8, 50)];
    for id in others {
        starts.begin(id, &format!("/default/{}", id.cgroup));
    }
    let found = |starts: &Starts, pid| -> Vec<StartId> {
        let process = Subject {
            pid,
            started: Some(1),
        };
        starts.of_process(process).map(|(id, _)| id).collect()
    };
    let Evidence::Confirmed(first) = confirmed(Confirmation::Exec) else {
        unreachable!()
    };
    let walked = Process {
        by: Confirmation::Walk,
        pid: 41,
        ..first.clone()
    };
    observe_all(&mut starts, &[Evidence::Confirmed(walked)], &corp());
    assert_eq!(found(&starts, 41), [StartId::of(7)]);
    observe_all(&mut starts, &[Evidence::Confirmed(first.clone())], &corp());
    assert_eq!(
        (found(&starts, 41), found(&starts, 42)),
        (vec![], vec![StartId::of(7)])
    );
    starts.observe(put(7, 50), Evidence::Confirmed(first), &corp(), at_ns(1));
    assert_eq!(found(&starts, 42), [StartId::of(7), put(7, 50)]);
    assert_eq!(starts.within(7), [StartId::of(7), put(7, 50)]);

    starts.forget(StartId::of(7));
    assert_eq!(found(&starts, 42), [put(7, 50)]);
    assert_eq!(
        (starts.at("/default/x"), starts.at("/default/8")),
        (None, Some(StartId::of(8)))
    );
    let ids: Vec<_> = others.into_iter().filter(|id| id.cgroup != 8).collect();
    for id in ids {
        starts.observe(id, Evidence::Removed, &corp(), at_ns(1));
    }
    purge(&mut starts, node::nanos(KEPT_AFTER_REMOVAL) + 1);
    assert_eq!((starts.count(), starts.at("/default/6")), (2, None));
    assert!(starts.by_pid.is_empty() && starts.by_path.len() == 1);
}

/// A path takes up to 8 KB, and there may be thousands of starts in one cgroup.
#[test]
fn starts_in_one_cgroup_share_its_path() {
    let mut starts = table();
    let put = |pid| StartId {
        cgroup: 7,
        process: Some(Subject { pid, started: None }),
    };
    for id in [put(50), put(51), StartId::of(7), StartId::of(8)] {
        starts.begin(id, "/default/x");
    }
    let path = |id| &starts.facts(id).unwrap().cgroup;
    let first = path(put(50));
    for other in [put(51), StartId::of(7)] {
        assert!(Arc::ptr_eq(first, path(other)), "{other}");
    }
    assert!(!Arc::ptr_eq(first, path(StartId::of(8))));
}

fn events(findings: &[Finding]) -> Vec<Event> {
    findings.iter().map(|finding| finding.event).collect()
}

#[test]
fn a_start_is_told_once_with_its_latency() {
    let mut starts = table();
    let all = [
        Evidence::Seen(Sight::Event),
        confirmed(Confirmation::Exec),
        claimed(Source::Containerd, Some("evil.example.net/x")),
        settled(),
    ];
    let findings = observe_all(&mut starts, &all, &corp());
    assert_eq!(events(&findings), [Event::Start]);
    assert_eq!(
        (findings[0].verdict, findings[0].detect_us),
        (Verdict::Drift, Some(4))
    );
    assert_eq!(findings[0].start_id, "b/7");
    assert_eq!(
        observe_all(&mut starts, &all, &corp()),
        [],
        "the same again says nothing new"
    );
}

#[test]
fn an_exception_ends_with_its_day() {
    let text = "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: p}\nspec:\n  \
                exceptions: [{pattern: a.example.net/x, until: 1970-01-01, reason: INC-1}]\n  \
                approved: [registry.example.com/**]\n";
    let policies = criteria(Policies::new(
        document::load("p.yaml", text).unwrap().policies,
    ));
    let mut starts = table();
    let all = [
        Evidence::Seen(Sight::Event),
        confirmed(Confirmation::Exec),
        claimed(Source::Containerd, Some("a.example.net/x")),
        settled(),
    ];
    let findings = observe_all(&mut starts, &all, &policies);
    assert_eq!(findings[0].verdict, Verdict::Approved);
    assert_eq!(
        findings[0].rule.as_deref(),
        Some("exceptions[0] until 1970-01-01: INC-1")
    );
    let later = |seconds| Now {
        wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        boot_ns: 6_000,
    };
    assert_eq!(starts.rejudge(&policies, later(86_399)), []);
    let findings = starts.rejudge(&policies, later(86_400));
    assert_eq!(events(&findings), [Event::Rejudged]);
    assert_eq!(findings[0].verdict, Verdict::Drift);
}

#[test]
fn an_entrypoint_that_never_ran_is_never_told() {
    let mut starts = table();
    let all = [
        Evidence::Seen(Sight::Event),
        claimed(Source::Containerd, Some("x")),
        settled(),
        Evidence::Removed,
    ];
    assert_eq!(observe_all(&mut starts, &all, &corp()), []);
    assert_eq!(purge(&mut starts, u64::MAX), (Vec::new(), 0));
    assert!(starts.facts(StartId::of(7)).is_none());
}

/// A start must be reported even if sources hang.
#[test]
fn a_start_that_no_source_has_answered_about_is_reported_before_it_is_forgotten() {
    let began = [
        Evidence::Seen(Sight::Event),
        confirmed(Confirmation::Exec),
        Evidence::Removed,
    ];
    let mut starts = table();
    assert_eq!(observe_all(&mut starts, &began, &corp()), []);
    let kept = u64::try_from(KEPT_AFTER_REMOVAL.as_nanos()).unwrap();
    assert_eq!(purge(&mut starts, 5_000 + kept - 1).0, []);
    let (findings, unanswered) = purge(&mut starts, 5_000 + kept);
    assert_eq!(events(&findings), [Event::Start, Event::Stopped]);
    let [first, _] = &findings[..] else {
        panic!("{findings:?}")
    };
    let words = (first.verdict, first.reason);
    assert_eq!(words, (Verdict::Unresolved, Reason::RuntimeUnreachable));
    assert_eq!(unanswered, 0);
    assert_eq!(starts.count(), 0);

    // The same at the end of the agent, at once.
    let mut starts = table();
    observe_all(&mut starts, &began, &corp());
    for expected in [&[Event::Start, Event::Stopped][..], &[]] {
        let mut findings = Vec::new();
        let report = |its: &[Finding]| findings.extend_from_slice(its);
        starts.settle_all(&corp(), at_ns(5_000), report);
        assert_eq!(events(&findings), expected);
    }
}

/// A cgroup whose process shares the node's pid namespace may or may not be a container's: only a
/// source can tell.
#[test]
fn what_may_have_been_a_container_is_counted() {
    let began = [
        Evidence::Seen(Sight::Event),
        confirmed(Confirmation::Walk),
        Evidence::Removed,
    ];
    let unanswered = |sources: &[&str]| Evidence::Settled {
        attempt: BEGUN,
        unreachable: sources.iter().map(|&source| source.to_owned()).collect(),
    };
    for (what, last, counted) in [
        ("nobody has answered", None, 1),
        ("all have answered", Some(unanswered(&[])), 0),
        ("one has not", Some(unanswered(&["/run/hung.sock"])), 1),
        ("there is none", Some(unanswered(&[NO_SOCKET])), 0),
    ] {
        let mut starts = table();
        observe_all(&mut starts, &began, &corp());
        observe_all(&mut starts, last.as_slice(), &corp());
        assert_eq!(
            purge(&mut starts, u64::MAX),
            (Vec::new(), counted),
            "{what}"
        );
    }
}

/// Until then, a client of the runtime can put another root in the place of the container's.
#[test]
fn answers_from_before_the_program_began_do_not_count() {
    let early = |evidence| match evidence {
        Evidence::Claim(claim) => Evidence::Claim(Box::new(Claim {
            attempt: Attempt::default(),
            ..*claim
        })),
        _ => Evidence::Settled {
            attempt: Attempt::default(),
            unreachable: BTreeSet::new(),
        },
    };
    // A client of containerd can publish that a task has been started.
    for by in [Confirmation::Walk, Confirmation::Reported] {
        let mut starts = table();
        let ours = claimed(Source::Containerd, Some("registry.example.com/x"));
        let before = [confirmed(by), early(ours), early(settled())];
        let findings = observe_all(&mut starts, &before, &corp());
        assert_eq!(findings[0].verdict, Verdict::Approved);
        let hung = Evidence::Settled {
            attempt: BEGUN,
            unreachable: BTreeSet::from(["/run/hung.sock".to_owned()]),
        };
        let begun = [confirmed(Confirmation::Exec), hung];
        let findings = observe_all(&mut starts, &begun, &corp());
        assert_eq!(events(&findings), [Event::Rejudged]);
        assert_eq!(findings[0].verdict, Verdict::Unresolved);
        assert_eq!(findings[0].reason, Reason::RuntimeUnreachable);
    }
}

/// Its program can move to another root later, and folders of an image can be mounted anywhere.
#[test]
fn a_program_that_began_on_another_root_stays_unknown() {
    let on = |content, number| match claimed(Source::Containerd, Some("registry.example.com/x")) {
        Evidence::Claim(claim) => Evidence::Claim(Box::new(Claim {
            attempt: Attempt { number, ..BEGUN },
            content,
            ..*claim
        })),
        other => other,
    };
    let began = [confirmed(Confirmation::Exec), settled()];
    for (first, expected) in [
        (Content::Another, Verdict::Approved),
        (Content::OfAnotherRoot, Verdict::Unresolved),
    ] {
        for answers in [
            [on(first, 1), on(Content::Its, 2)],
            [on(Content::Its, 2), on(first, 1)],
        ] {
            let mut starts = table();
            observe_all(&mut starts, &began, &corp());
            observe_all(&mut starts, &answers, &corp());
            let (_, start) = starts.alive().next().unwrap();
            let judged = judge(start.facts(), &corp(), at_ns(6_000).today());
            assert_eq!(judged.verdict, expected, "{first:?}");
        }
    }
}

#[test]
fn a_container_that_ended_before_it_was_known_is_told_all_the_same() {
    let mut starts = table();
    let all = [
        Evidence::Seen(Sight::Event),
        confirmed(Confirmation::Exec),
        Evidence::Removed,
        claimed(Source::Containerd, Some("registry.example.com/x")),
        settled(),
    ];
    let findings = observe_all(&mut starts, &all, &corp());
    assert_eq!(events(&findings), [Event::Start, Event::Stopped]);
    assert_eq!(findings[0].verdict, Verdict::Approved);
}

#[test]
fn what_ran_before_the_agent_is_initial() {
    let mut starts = table();
    let all = [
        Evidence::Seen(Sight::Initial),
        confirmed(Confirmation::Walk),
        claimed(Source::Containerd, None),
        settled(),
    ];
    let findings = observe_all(&mut starts, &all, &corp());
    assert_eq!(events(&findings), [Event::Initial]);
    assert_eq!(findings[0].detect_us, None);
}

#[test]
fn a_changed_policy_speaks_only_where_the_verdict_changes() {
    let mut starts = table();
    let all = [
        confirmed(Confirmation::Exec),
        claimed(Source::Containerd, Some("quay.io/x/y")),
        settled(),
    ];
    assert_eq!(
        observe_all(&mut starts, &all, &corp())[0].verdict,
        Verdict::Drift
    );
    assert_eq!(starts.unapproved(&corp()).len(), 1);
    let lenient = policy("default::\n");
    assert_eq!(
        events(&starts.rejudge(&lenient, at_ns(6_000))),
        [Event::Rejudged]
    );
    assert_eq!(starts.rejudge(&lenient, at_ns(7_000)), []);
    assert!(starts.unapproved(&corp()).is_empty());
}

#[test]
fn a_stopped_container_drifts_no_more() {
    let mut starts = table();
    let all = [
        confirmed(Confirmation::Exec),
        claimed(Source::Containerd, Some("evil.example.net/x")),
        settled(),
    ];
    observe_all(&mut starts, &all, &corp());
    let end = starts.observe(StartId::of(7), Evidence::Removed, &corp(), at_ns(9_000));
    assert_eq!(
        (events(&end), end[0].verdict),
        (vec![Event::Stopped], Verdict::Drift)
    );
    assert!(starts.unapproved(&corp()).is_empty());
}

#[test]
fn a_cgroup_of_the_host_is_no_container() {
    let mut starts = Starts::new(Origin {
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
    });
    starts.begin(StartId::of(7), "/user/session");
    let Evidence::Confirmed(process) = confirmed(Confirmation::Walk) else {
        unreachable!("just made")
    };
    let all = [Evidence::Confirmed(process), settled()];
    assert_eq!(observe_all(&mut starts, &all, &corp()), []);
}

/// A pod's container with claims from every source, some false and some stale.
mod everything {
    use super::*;
    use crate::claim::{Kind, Naming};
    use crate::pods::{Ownership, PodContainer, PodRecord};

    pub(super) const CGROUP: &str = "/kubepods/pod4a163a05-439d-484b-8e53-2968bc15824f/\
         cde6dfaf5007ed65aad2d6aed72af91b0f3d95813492f773286e29ae145d20f4";

    fn cri(attempt: Attempt, names: &[&str]) -> Evidence {
        Evidence::Claim(Box::new(Claim {
            attempt,
            kind: Some(Kind::Container),
            through_cri: true,
            naming: Naming::AnyOfDigest,
            names: names.iter().map(|&it| it.to_owned()).collect(),
            container_name: Some("app".to_owned()),
            pod: Some(PodName {
                namespace: "team-a".to_owned(),
                name: "web".to_owned(),
                uid: "4a163a05-439d-484b-8e53-2968bc15824f".to_owned(),
            }),
            ..Claim::new(Source::Cri, "x", "cri")
        }))
    }

    fn pod(version: u64, image: &str, note: Option<&str>) -> Evidence {
        let container = PodContainer {
            image: image.to_owned(),
            ephemeral: false,
            id: None,
        };
        Evidence::Pod(Ownership::Known(Arc::new(PodRecord {
            namespace: "team-a".to_owned(),
            name: "web".to_owned(),
            uid: "4a163a05-439d-484b-8e53-2968bc15824f".to_owned(),
            version,
            note: note.map(str::to_owned),
            containers: [("app".to_owned(), container)].into(),
            ..PodRecord::default()
        })))
    }

    const fn at(number: u32, has_begun: bool) -> Attempt {
        Attempt { has_begun, number }
    }

    fn asked(attempt: Attempt, unreachable: &[&str]) -> Evidence {
        Evidence::Settled {
            attempt,
            unreachable: unreachable.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    pub(super) fn evidence(revision: &str) -> Vec<Evidence> {
        let note = format!(
            r#"{{"v":1,"containers":{{"app":{{"image":"nginx","revision":"{revision}"}}}}}}"#
        );
        vec![
            Evidence::Seen(Sight::Event),
            Evidence::Seen(Sight::Reconciled),
            confirmed(Confirmation::Exec),
            confirmed(Confirmation::Runtime),
            confirmed(Confirmation::Walk),
            claimed(Source::Bundle, Some("registry.example.com/forged")),
            claimed(Source::Runc, None),
            cri(at(1, false), &["registry.example.com/old:1"]),
            cri(
                at(2, true),
                &["registry.example.com/app:1", "evil.example.net/x:1"],
            ),
            cri(at(3, false), &["registry.example.com/late:1"]),
            Evidence::Pod(Ownership::Absent),
            pod(1, "registry.example.com/nginx", Some(&note)),
            pod(2, "evil.example.net/x:1", Some(&note)),
            asked(at(1, true), &["/run/containerd/containerd.sock"]),
            asked(at(2, true), &[]),
            asked(at(3, false), &["/run/late.sock"]),
        ]
    }
}

proptest! {
    /// In any order and with any repetition, the table ends with the same facts, one first finding
    /// and the same last verdict.
    #[test]
    fn any_order_gives_the_same_verdict(
        order in Just((0..16_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in proptest::collection::vec(0..16_usize, 0..6),
    ) {
        let criteria = corp();
        let revision = criteria.policies.iter().next().expect("one policy").revision().to_owned();
        let all = everything::evidence(&revision);
        prop_assert_eq!(all.len(), 16);
        let run = |order: &[usize]| {
            let mut starts = table();
            starts.begin(StartId::of(8), everything::CGROUP);
            let mut findings = Vec::new();
            for at in order {
                findings.extend(starts.observe(StartId::of(8), all[*at].clone(), &criteria, at_ns(5_000)));
            }
            (starts, findings)
        };
        let order: Vec<_> = order.into_iter().chain(again).collect();
        let (starts, findings) = run(&order);
        let firsts = findings.iter().filter(|finding| finding.event != Event::Rejudged).count();
        prop_assert_eq!(firsts, 1);
        let last = findings.last().expect("at least the first word");
        prop_assert_eq!(
            (last.verdict, last.route, last.reason),
            (Verdict::Drift, Route::Pod, Reason::MutatedAfterAdmission)
        );
        prop_assert_eq!(last.image.as_deref(), Some("evil.example.net/x:1"));
        let (reference, _) = run(&(0..16).collect::<Vec<_>>());
        prop_assert_eq!(starts.facts(StartId::of(8)), reference.facts(StartId::of(8)));
    }
}
