//! Measures how long decisions take and what they allocate, compared with other ways to decide.
//!
//! Prints one JSON document; `cargo xtask bench policy` runs it and shows it as a table. All figures are of one
//! process, so that their ratios hold on any machine.

mod measure;
mod rules;

use std::alloc::System;
use std::hint::black_box;

use imageswap_policy::{Date, Policies, Policy, Reference, Scope, document, maps};
use oci_spec::distribution::Reference as OciReference;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::measure::{Measured, measure};
use crate::rules::{Naive, Rules};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Numbers of rules: a small team's, a company's, and more than anyone writes.
const SIZES: [usize; 3] = [10, 50, 1000];
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
    let mut rows = Vec::new();
    let formats: [Format; 3] = [
        ("policy", Rules::policy, load_policy),
        ("approvals", Rules::approved, load_policy),
        ("maps", Rules::maps, load_maps),
    ];
    for (format, rules, load) in formats {
        decisions(&mut rows, format, rules, load);
    }
    for (format, rules, load) in formats {
        let most = SIZES[SIZES.len() - 1];
        let text = rules(most).text;
        let measured = measure(&[text.as_str()], load);
        let limit = limit("50 ms", measured.median <= LOAD_MAX);
        rows.push(row(&format!("{format}: load"), most, &measured, &[limit]));
    }
    naive(&mut rows);
    parsers(&mut rows);
    println!("{}", json!({ "rows": rows }));
}

/// Decisions by a format, for each kind of answer that its rules give.
fn decisions(
    rows: &mut Vec<Value>,
    format: &str,
    rules: fn(usize) -> Rules,
    load: fn(&str) -> Policy,
) {
    for answer in rules(COMMON).images.keys() {
        let mut common = None;
        for size in SIZES {
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
