//! Properties of all documents that load, and of all images.

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
    let rule = prop_oneof![
        2 => pattern().prop_map(|it| Rule { keep: Some(it), ..Rule::default() }),
        6 => (pattern(), to).prop_map(|(from, to)| Rule { from: Some(from), to: Some(to), ..Rule::default() }),
        2 => regex.prop_map(|(regex, to)| Rule { regex: Some(regex.to_owned()), to: Some(to.to_owned()), ..Rule::default() }),
    ];
    (rule, names(), names())
        .prop_map(|(rule, namespaces, containers)| Rule {
            namespaces,
            containers,
            ..rule
        })
        .boxed()
}

/// Names in a guard; most items have no guard.
fn names() -> BoxedStrategy<Option<Vec<String>>> {
    let name = prop::sample::select(vec!["a", "b", "a*", "*"]).prop_map(str::to_owned);
    prop_oneof![4 => Just(None), 1 => prop::collection::vec(name, 1..3).prop_map(Some)].boxed()
}

/// The node, or a container of a Pod; some of the names are unknown.
fn asker() -> BoxedStrategy<Option<(Option<&'static str>, Option<&'static str>)>> {
    let name = || prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "ab"]));
    prop::option::weighted(0.8, (name(), name())).boxed()
}

fn asked<'a>(
    policies: &'a Policies,
    asker: Option<(Option<&'a str>, Option<&'a str>)>,
) -> crate::Selected<'a> {
    let Some((namespace, container)) = asker else {
        return policies.select(Scope::Node, TODAY);
    };
    let scope = Scope::Pod(PodScope {
        namespace,
        ..PodScope::default()
    });
    let selected = policies.select(scope, TODAY);
    match container {
        Some(name) => selected.in_container(Some(name)),
        None => selected,
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let guarded = || (pattern(), names(), names());
    let approval = guarded().prop_map(|(pattern, namespaces, containers)| Approval {
        pattern,
        namespaces,
        containers,
    });
    let denial = guarded().prop_map(|(pattern, namespaces, containers)| Denial {
        pattern,
        namespaces,
        containers,
        message: None,
    });
    let approved = proptest::option::of(prop::collection::vec(approval, 0..3));
    let denied = prop::collection::vec(denial, 0..3);
    let exceptions = prop::collection::vec(guarded(), 0..2);
    let rules = prop::collection::vec(rule(), 0..7);
    (rules, approved, denied, exceptions).prop_map(|(rules, approved, denied, exceptions)| Spec {
        rules,
        approved,
        denied,
        exceptions: exceptions
            .into_iter()
            .map(|(pattern, namespaces, containers)| Exception {
                pattern,
                namespaces,
                containers,
                until: "2027-01-31".to_owned(),
                reason: "x".to_owned(),
            })
            .collect(),
        ..Spec::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn every_result_is_valid_and_stable(spec in spec(), asker in asker(), images in prop::collection::vec(reference(), 1..8)) {
        let document = ImageSwapPolicy::new("p", spec);
        let text = serde_json::to_string_pretty(&document).unwrap();
        let Ok(loaded) = load("p.json", &text) else { return Ok(()) };
        let policies = Policies::new(loaded.policies);
        let selected = asked(&policies, asker);
        for image in &images {
            let decision = selected.decide(image);
            prop_assert!(Reference::parse(&decision.result).is_ok(), "{text} {decision:?}");
            prop_assert_eq!(decision.swapped(), decision.result != *image);
            let again = selected.decide(&decision.result);
            prop_assert_eq!(&again.result, &decision.result, "{} {:?}", text, decision);
            prop_assert_eq!(again.approved, decision.approved, "{} {:?} {:?}", text, decision, again);
            let steps = selected.steps(image);
            prop_assert_eq!(steps.last().map_or(image.as_str(), |it| it.1.as_str()), &*decision.result);
            // The policy's own results need no separate approval.
            if decision.swapped() && document.spec.approved.is_none() && decision.denied.is_none() {
                prop_assert!(decision.approved, "{text} {decision:?}");
            }
            prop_assert!(!(decision.approved && decision.denied.is_some()), "{text} {decision:?}");
        }
    }

    /// For given names, items that hold are like items without a guard, and the others are as if
    /// missing.
    #[test]
    fn guards_choose_items(spec in spec(), namespace in "a|b|ab", container in "a|b|ab", images in prop::collection::vec(reference(), 1..6)) {
        let with_guards = ImageSwapPolicy::new("p", spec);
        let holds = |namespaces: &Option<Vec<String>>, containers: &Option<Vec<String>>| {
            let one = |list: &Option<Vec<String>>, name: &str| list.as_ref().is_none_or(|it| it.iter().any(|it| {
                it == name || it == "*" || it == "a*" && name.starts_with('a')
            }));
            one(namespaces, &namespace) && one(containers, &container)
        };
        let mut spec = with_guards.spec.clone();
        macro_rules! choose {
            ($list:expr) => {
                $list.retain(|it| holds(&it.namespaces, &it.containers));
                for it in $list.iter_mut() {
                    (it.namespaces, it.containers) = (None, None);
                }
            };
        }
        // Rules without a name are named by position.
        for (at, rule) in spec.rules.iter_mut().enumerate() {
            rule.name = Some(format!("rules[{at}]"));
        }
        choose!(spec.rules);
        choose!(spec.denied);
        choose!(spec.exceptions);
        if let Some(approved) = &mut spec.approved {
            choose!(approved);
        }
        let load = |it: &ImageSwapPolicy| load("p.json", &serde_json::to_string(it).unwrap()).map(|it| Policies::new(it.policies));
        let without = ImageSwapPolicy::new("p", spec);
        let (Ok(one), Ok(other)) = (load(&with_guards), load(&without)) else { return Ok(()) };
        for image in &images {
            let asker = Some((Some(namespace.as_str()), Some(container.as_str())));
            let (one, other) = (asked(&one, asker), asked(&other, asker));
            let (one, other) = (one.decide(image), other.decide(image));
            prop_assert_eq!((&one.result, one.approved, one.reason), (&other.result, other.approved, other.reason), "{:?}", with_guards);
        }
    }

    /// A decision with unknowns holds whatever the unknowns turn out to be.
    #[test]
    fn what_is_unknown_is_not_guessed(spec in spec(), images in prop::collection::vec(reference(), 1..6)) {
        let text = serde_json::to_string(&ImageSwapPolicy::new("p", spec)).unwrap();
        let Ok(loaded) = load("p.json", &text) else { return Ok(()) };
        let policies = Policies::new(loaded.policies);
        for image in &images {
            let selected = asked(&policies, Some((None, None)));
            let unknown = selected.decide(image);
            if unknown.reason == Reason::ScopeUnknown {
                prop_assert!(!unknown.approved && !selected.missing().is_empty());
                continue;
            }
            for namespace in ["a", "b", "ab", "z"] {
                for container in ["a", "b", "z"] {
                    let known = asked(&policies, Some((Some(namespace), Some(container))));
                    let known = known.decide(image);
                    prop_assert_eq!((&known.result, known.approved), (&unknown.result, unknown.approved), "{}", text);
                }
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
