//! The table under evidence in any order.

use super::*;
use crate::facts::{Claim, Process, Source};
use imageswap_policy::{document, maps};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn policy(text: &str) -> Policies {
    Policies::one(maps::load("test", text).unwrap().policy)
}

fn corp() -> Policies {
    policy("default::registry.example.com\nnoswap_wildcards::registry.example.com\n")
}

fn table() -> Starts {
    let mut starts = Starts::new(Origin {
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
    });
    starts.begin(7, "/default/x");
    starts
}

fn at(boot_ns: u64) -> Now {
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
    })
}

fn claimed(source: Source, image: Option<&str>) -> Evidence {
    Evidence::Claim(Box::new(Claim {
        image: image.map(str::to_owned),
        ..Claim::new(source, "x", "containerd")
    }))
}

fn settled() -> Evidence {
    Evidence::Settled {
        unreachable: BTreeSet::new(),
    }
}

fn observe_all(starts: &mut Starts, evidence: &[Evidence], policy: &Policies) -> Vec<Finding> {
    evidence
        .iter()
        .flat_map(|one| starts.observe(7, one.clone(), policy, at(5_000)))
        .collect()
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
    let policies = Policies::new(document::load("p.yaml", text).unwrap().policies);
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
    starts.purge(at(u64::MAX));
    assert!(starts.facts(7).is_none());
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
    assert_eq!(starts.drift().values().sum::<u64>(), 1);
    let lenient = policy("default::\n");
    assert_eq!(
        events(&starts.rejudge(&lenient, at(6_000))),
        [Event::Rejudged]
    );
    assert_eq!(starts.rejudge(&lenient, at(7_000)), []);
    assert!(starts.drift().is_empty());
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
    let end = starts.observe(7, Evidence::Removed, &corp(), at(9_000));
    assert_eq!(
        (events(&end), end[0].verdict),
        (vec![Event::Stopped], Verdict::Drift)
    );
    assert!(starts.drift().is_empty());
}

#[test]
fn a_cgroup_of_the_host_is_no_container() {
    let mut starts = Starts::new(Origin {
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
    });
    starts.begin(7, "/user/session");
    let Evidence::Confirmed(process) = confirmed(Confirmation::Walk) else {
        unreachable!("just made")
    };
    let all = [Evidence::Confirmed(process), settled()];
    assert_eq!(observe_all(&mut starts, &all, &corp()), []);
}

proptest! {
    /// Whatever the order, the table ends with the same facts, one first word and the same last verdict.
    #[test]
    fn any_order_gives_the_same_verdict(all in Just(vec![
        Evidence::Seen(Sight::Event),
        Evidence::Seen(Sight::Reconciled),
        confirmed(Confirmation::Exec),
        confirmed(Confirmation::Runtime),
        claimed(Source::Bundle, Some("registry.example.com/forged")),
        claimed(Source::Containerd, Some("evil.example.net/x")),
        claimed(Source::Runc, None),
        settled(),
    ]).prop_shuffle()) {
        let policy = corp();
        let mut starts = table();
        let findings = observe_all(&mut starts, &all, &policy);
        let firsts = findings.iter().filter(|finding| finding.event != Event::Rejudged).count();
        prop_assert_eq!(firsts, 1);
        let last = findings.last().expect("at least the first word");
        prop_assert_eq!(last.verdict, Verdict::Drift);
        let mut reference = table();
        let mut sorted = all.clone();
        sorted.sort_by_key(|evidence| format!("{evidence:?}"));
        observe_all(&mut reference, &sorted, &policy);
        prop_assert_eq!(starts.facts(7), reference.facts(7));
    }
}
