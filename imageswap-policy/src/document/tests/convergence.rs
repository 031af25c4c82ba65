//! What must hold of all documents that load, and all images.

use super::*;

/// Rules over the hosts that images use too; some feed each other.
fn rule() -> BoxedStrategy<Rule> {
    let to = (
        crate::testing::host(),
        proptest::option::of(crate::testing::path()),
    )
        .prop_map(|(host, path)| path.map_or(host.clone(), |path| format!("{host}/{path}")));
    let regex = prop::sample::select(vec![
        ("^(.*)$", "m.example.com/$1"),
        (r"^quay\.io/(.*)$", "d.example.com/quay/$1"),
        (r"^([^/]+)/(.*)$", "m.example.com/$1/$2"),
        (r"^m\.example\.com/(.*)$", "quay.io/$1"),
        (r"^(.*)/nginx(.*)$", "m.example.com/n-$2"),
        (r"^.*$", "gcr.io/one:1"),
    ]);
    prop_oneof![
        2 => pattern().prop_map(|it| Rule { keep: Some(it), ..Rule::default() }),
        6 => (pattern(), to).prop_map(|(from, to)| Rule { from: Some(from), to: Some(to), ..Rule::default() }),
        2 => regex.prop_map(|(regex, to)| Rule { regex: Some(regex.to_owned()), to: Some(to.to_owned()), ..Rule::default() }),
    ]
    .boxed()
}

fn spec() -> impl Strategy<Value = Spec> {
    let approved = proptest::option::of(prop::collection::vec(pattern(), 0..3));
    let exceptions = prop::collection::vec(pattern(), 0..2);
    (prop::collection::vec(rule(), 0..7), approved, exceptions).prop_map(
        |(rules, approved, exceptions)| Spec {
            rules,
            approved,
            exceptions: exceptions
                .into_iter()
                .map(|pattern| Exception {
                    pattern,
                    until: "2027-01-31".to_owned(),
                    reason: "x".to_owned(),
                })
                .collect(),
            ..Spec::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_result_is_valid_and_stable(spec in spec(), images in prop::collection::vec(reference(), 1..8)) {
        let document = ImageSwapPolicy::new("p", spec);
        let text = serde_json::to_string_pretty(&document).unwrap();
        let Ok(loaded) = load("p.json", &text) else { return Ok(()) };
        let policies = Policies::new(loaded.policies);
        for image in &images {
            let decision = decide(&policies, image);
            prop_assert!(Reference::parse(&decision.result).is_ok(), "{text} {decision:?}");
            prop_assert_eq!(decision.swapped(), decision.result != *image);
            let again = decide(&policies, &decision.result);
            prop_assert_eq!(&again.result, &decision.result, "{} {:?}", text, decision);
            prop_assert_eq!(again.approved, decision.approved, "{} {:?} {:?}", text, decision, again);
            let steps = policies.select(Scope::Node, TODAY);
            let steps = steps.steps(image);
            prop_assert_eq!(steps.last().map_or(image.as_str(), |it| it.1.as_str()), &*decision.result);
            // Nobody has to approve what the policy itself wants to run.
            if decision.swapped() && document.spec.approved.is_none() {
                prop_assert!(decision.approved, "{text} {decision:?}");
            }
        }
    }

    #[test]
    fn rules_in_a_circle_do_not_load(hosts in prop::sample::subsequence(vec!["a.io", "b.io", "c.io", "d.io"], 2..5)) {
        let count = hosts.len();
        let rules = (0..count).map(|at| Rule {
            from: Some(format!("{}/**", hosts[at])),
            to: Some(hosts[(at + 1) % count].to_owned()),
            ..Rule::default()
        });
        let document = ImageSwapPolicy::new("p", Spec { rules: rules.collect(), ..Spec::default() });
        let text = serde_json::to_string(&document).unwrap();
        let found = load("p.json", &text).unwrap_err();
        prop_assert!(found.iter().any(|it| it.code == "conflicting-rules" && it.message.contains("rules[0]") && it.message.contains("rules[1]")), "{}", found);
    }
}
