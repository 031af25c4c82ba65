//! Exported admission policies decide as the policy does, for generated policies and Pods.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod expected;
mod generate;
mod interpreter;
mod kubernetes;

use expected::Expected;
use generate::{Case, Pod, today};
use imageswap_export::{Status, admission};
use serde_json::Value;

/// What an exported policy did with a Pod.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) images: Vec<String>,
    pub(crate) fails: bool,
    pub(crate) secrets: Vec<String>,
}

/// A case with its exported objects.
pub(crate) struct Exported {
    pub(crate) case: Case,
    pub(crate) objects: Vec<Value>,
    /// Whether each part of the policy was exported exactly.
    exact: bool,
}

/// Exports the policies of generated cases.
pub(crate) fn exported(cases: Vec<Case>) -> Vec<Exported> {
    let all = cases.into_iter().map(|case| {
        let export = admission::export(&case.policies, today());
        let objects = export
            .objects
            .iter()
            .map(|it| serde_json::to_value(it).unwrap())
            .collect();
        let rules = export
            .report
            .items
            .iter()
            .filter(|it| !it.part.starts_with("exceptions"));
        let exact = rules.clone().all(|it| {
            it.status == Status::Exported
                || it.reason.as_deref().is_some_and(|it| it.contains("audit"))
        });
        Exported {
            case,
            objects,
            exact,
        }
    });
    all.collect()
}

/// Compares the outcomes for one Pod, and returns whether they are the same. A policy that cannot be
/// exported exactly may refuse more.
pub(crate) fn compare(exported: &Exported, pod: &Pod, actual: &Actual) -> bool {
    let Expected {
        images,
        fails,
        secrets,
        ..
    } = expected::expected(&exported.case.without_exceptions, pod);
    let expected = Actual {
        images,
        fails,
        secrets,
    };
    let same = *actual == expected;
    assert!(
        same || !exported.exact && actual.fails,
        "policy {}\npod {:?}\nexpected {expected:?}\nactual   {actual:?}\nobjects {}",
        exported.case.text,
        pod,
        serde_json::to_string(&exported.objects).unwrap()
    );
    same
}

/// Checks that Pods were decided by every place in the order of policies, and by none.
pub(crate) fn check_places(exported: &[Exported], same: usize) {
    let mut places = [0; 5];
    let all = exported
        .iter()
        .flat_map(|it| it.case.pods.iter().map(move |pod| (it, pod)));
    for (it, pod) in all {
        let policies = &it.case.without_exceptions;
        let selected = expected::selected(policies, pod);
        let place = selected
            .policy()
            .and_then(|policy| policies.iter().position(|it| it.name() == policy.name()));
        places[place.unwrap_or(4)] += 1;
    }
    let pairs: usize = places.iter().sum();
    println!(
        "{pairs} pairs of {} sets: {same} the same; decided by the first to fourth policy, and by none: {places:?}",
        exported.len()
    );
    assert!(places[..3].iter().all(|it| it * 20 > pairs), "{places:?}");
    assert!(places[3] > 0 && places[4] > 0, "{places:?}");
    assert!(same * 20 > pairs * 19, "{same} of {pairs}");
}

/// Checks that the comparison met what it is about.
pub(crate) fn check_coverage(exported: &[Exported], same: usize) {
    let pairs: usize = exported.iter().map(|it| it.case.pods.len()).sum();
    let expected = |test: fn(&Expected, &Pod) -> bool| {
        let all = exported
            .iter()
            .flat_map(|it| it.case.pods.iter().map(move |pod| (it, pod)));
        all.filter(|(it, pod)| test(&expected::expected(&it.case.without_exceptions, pod), pod))
            .count()
    };
    let swapped = expected(|it, pod| {
        it.images
            .iter()
            .zip(&pod.images)
            .any(|(now, was)| *now != was.2)
    });
    let refused = expected(|it, _| it.fails);
    let updates = expected(|_, pod| pod.stored.is_some());
    let chains = exported
        .iter()
        .filter(|it| {
            it.case
                .policies
                .iter()
                .any(|it| it.outline().unwrap().moves > 1)
        })
        .count();
    println!(
        "{pairs} pairs of {} policies: {same} the same, {swapped} with a swap, {refused} refused, {updates} updates, {chains} policies with chains",
        exported.len()
    );
    assert!(
        swapped * 10 > pairs
            && refused * 5 > pairs
            && updates * 10 > pairs
            && chains * 10 > exported.len()
    );
    assert!(same * 20 > pairs * 19, "{same} of {pairs}");
}
