//! Measures how long decisions take and what they allocate, compared with other ways to decide.
//!
//! Prints one JSON document; `cargo xtask bench policy` runs it and shows it as a table. All figures are of one
//! process, so that their ratios hold on any machine. With the argument `growth` it measures our formats alone, with
//! tenfold numbers of rules; with `sets`, sets of many policies.

mod measure;
mod rules;

use std::alloc::System;
use std::hint::black_box;

use imageswap_policy::{Date, PodScope, Policies, Policy, Reference, Scope, document, maps};
use oci_spec::distribution::Reference as OciReference;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::measure::{Measured, measure};
use crate::rules::{Naive, Rules};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Numbers of rules: a small team's, a company's, and more than anyone writes.
const SIZES: [usize; 3] = [10, 50, 1000];
/// Numbers of rules that show how cost grows.
const GROWTH: [usize; 4] = [10, 100, 1000, 10_000];
/// Numbers of policies in a set.
const POLICIES: [usize; 4] = [1, 10, 100, 500];
/// The number of rules that the limit on a decision's time applies to.
const COMMON: usize = 50;
/// Nanoseconds that a decision over [`COMMON`] rules may take.
const DECISION_MAX: f64 = 1000.0;
/// How much longer a decision over the most rules may take than one over [`COMMON`].
const GROWTH_MAX: f64 = 2.0;
/// Nanoseconds that loading the most rules may take.
const LOAD_MAX: f64 = 50e6;
const TODAY: Date = Date::MIN;

/// Its name, its text for this many rules, and how to load the text.
type Format = (&'static str, fn(usize) -> Rules, fn(&str) -> Policy);

fn main() {
    let is_asked = |what: &str| std::env::args().any(|it| it == what);
    let growth = is_asked("growth");
    let (sizes, loaded): (&[usize], &[usize]) = if growth {
        (&GROWTH, &GROWTH)
    } else {
        (&SIZES, &SIZES[SIZES.len() - 1..])
    };
    let mut rows = Vec::new();
    if is_asked("sets") {
        sets(&mut rows);
        return print(&rows);
    }
    let formats: [Format; 3] = [
        ("policy", Rules::policy, load_policy),
        ("approvals", Rules::approved, load_policy),
        ("maps", Rules::maps, load_maps),
    ];
    for (format, rules, load) in formats {
        decisions(&mut rows, sizes, format, rules, load);
    }
    for (format, rules, load) in formats {
        for &size in loaded {
            let text = rules(size).text;
            let measured = measure(&[text.as_str()], load);
            let limits = (size == SIZES[SIZES.len() - 1])
                .then(|| limit("50 ms", measured.median <= LOAD_MAX));
            rows.push(row(
                &format!("{format}: load"),
                size,
                &measured,
                limits.as_slice(),
            ));
        }
    }
    if !growth {
        naive(&mut rows);
        parsers(&mut rows);
    }
    print(&rows);
}

fn print(rows: &[Value]) {
    println!("{}", json!({ "rows": rows }));
}

/// Decisions by a format, for each kind of answer that its rules give.
fn decisions(
    rows: &mut Vec<Value>,
    sizes: &[usize],
    format: &str,
    rules: fn(usize) -> Rules,
    load: fn(&str) -> Policy,
) {
    for answer in rules(COMMON).images.keys() {
        let mut common = None;
        for &size in sizes {
            let rules = rules(size);
            let policies = Policies::one(load(&rules.text));
            let policy = policies.select(Scope::Node, TODAY);
            let images = rules.of(answer);
            for image in &images {
                let decision = policy.decide(image);
                assert_eq!(decision.swapped(), *answer == "swap", "{decision:?}");
                assert!(decision.approved, "{image}: {decision:?}");
            }
            let measured = measure(&images, |image| policy.decide(image));
            let mut limits = Vec::new();
            if *answer == "keep" {
                limits.push(limit("0 allocs", measured.allocations == 0.0));
            }
            if size == COMMON {
                limits.push(limit("1 us", measured.median <= DECISION_MAX));
                common = Some(measured.median);
            }
            if let Some(common) = common.filter(|_| size > COMMON) {
                limits.push(limit("2 x 50", measured.median <= GROWTH_MAX * common));
            }
            rows.push(row(
                &format!("{format}: {answer}"),
                size,
                &measured,
                &limits,
            ));
        }
    }
}

/// The choice of a policy and its decision for a Pod of a namespace, if each policy applies to one namespace. Any of
/// them may be the last one that is looked at.
fn sets(rows: &mut Vec<Value>) {
    let text = Rules::policy(COMMON).text;
    for size in POLICIES {
        let names: Vec<_> = (0..size).map(|at| format!("team-{at}")).collect();
        let of_namespace = |name: &String| {
            let scope = format!("spec:\n  match: {{namespaces: [{name}]}}");
            load_policy(&text.replacen("rules", name, 1).replacen("spec:", &scope, 1))
        };
        let policies = Policies::new(names.iter().map(of_namespace).collect());
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let measured = measure(&names, |name| {
            let scope = Scope::Pod(PodScope {
                namespace: Some(name),
                namespace_labels: None,
                labels: None,
            });
            let decision = policies
                .select(scope, TODAY)
                .decide("quay.io/team-1/app/server:1.1");
            assert!(decision.in_scope, "{decision:?}");
            decision.swapped()
        });
        rows.push(row("set: decide", size, &measured, &[]));
    }
}

/// The same rules as a list of regexes, tried one after the other.
fn naive(rows: &mut Vec<Value>) {
    for answer in Rules::policy(COMMON).images.keys() {
        for size in SIZES {
            let rules = Rules::policy(size);
            let naive = Naive::new(size);
            let images = rules.of(answer);
            for image in &images {
                assert_eq!(naive.decide(image).is_some(), *answer == "swap", "{image}");
            }
            let measured = measure(&images, |image| naive.decide(image));
            rows.push(row(&format!("regexes: {answer}"), size, &measured, &[]));
        }
    }
}

/// How much of a decision is spent on parsing the reference, here and in another parser.
fn parsers(rows: &mut Vec<Value>) {
    let rules = Rules::policy(COMMON);
    let images: Vec<_> = rules
        .images
        .values()
        .flatten()
        .map(String::as_str)
        .collect();
    for image in &images {
        assert!(image.parse::<OciReference>().is_ok(), "{image}");
    }
    let ours = measure(&images, |image| {
        Reference::parse(image).map(|it| black_box(it.path().len()))
    });
    let other = measure(&images, str::parse::<OciReference>);
    rows.push(row("parse", 0, &ours, &[]));
    rows.push(row("parse, oci-spec", 0, &other, &[]));
}

fn row(what: &str, rules: usize, measured: &Measured, limits: &[Value]) -> Value {
    json!({
        "what": what,
        "rules": rules,
        "nanoseconds": {"median": measured.median, "low": measured.low, "high": measured.high},
        "allocations": measured.allocations,
        "limits": limits,
    })
}

fn limit(text: &str, met: bool) -> Value {
    json!({ "text": text, "met": met })
}

fn load_policy(text: &str) -> Policy {
    let loaded = document::load("bench", text).unwrap_or_else(|errors| panic!("{errors}"));
    loaded
        .policies
        .into_iter()
        .next()
        .expect("the text holds a policy")
}

fn load_maps(text: &str) -> Policy {
    maps::load("bench", text)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .policy
}
