//! `ifMissing: keep`: the swap depends on what the registry of the result has.

use super::*;

const MIRROR: &str = "rules:
- {name: sure, from: 'quay.io/**', to: r.io/quay}
- {name: hub, from: 'docker.io/**', to: r.io/hub, ifMissing: keep}
";

fn missing<'a>(policies: &'a Policies, image: &'a str) -> Decision<'a> {
    policies.select(Scope::Node, TODAY).decide_missing(image)
}

#[test]
fn an_image_that_the_registry_lacks_stays_and_is_judged_as_it_is() {
    let listed = "approved: [r.io/**, 'docker.io/library/**']\ndenied: ['**:latest']\n";
    for (rest, image, approved, reason) in [
        ("", "nginx:1", false, Reason::NotMirrored),
        (listed, "nginx:1", true, Reason::NotMirrored),
        (listed, "nginx:latest", false, Reason::Denied),
        (listed, "a/b:1", false, Reason::NotMirrored),
        // Nothing depends on a registry.
        (listed, "r.io/hub/a:1", true, Reason::AlreadyTarget),
        (listed, "evil.io/a:1", false, Reason::NoRule),
        (listed, "Nginx", false, Reason::Unparsable),
    ] {
        let policies = policies(&format!("{MIRROR}{rest}"));
        let decision = missing(&policies, image);
        assert_eq!(
            (&*decision.result, decision.approved, decision.reason),
            (image, approved, reason),
            "{image}: {decision:?}"
        );
        assert!(!decision.conditional && decision.is_drift() != approved);
    }
}

#[test]
fn a_swap_says_that_it_is_conditional() {
    let policies = policies(MIRROR);
    for (image, result, conditional) in [
        ("nginx", "r.io/hub/library/nginx", true),
        ("quay.io/a", "r.io/quay/a", false),
        ("r.io/hub/a", "r.io/hub/a", false),
    ] {
        let decision = decide(&policies, image);
        assert_eq!(
            (&*decision.result, decision.conditional),
            (result, conditional)
        );
        // Stable, and without a condition once it is there.
        assert!(!decide(&policies, result).conditional);
    }
    let explained = decide(&policies, "nginx").explain();
    assert!(
        explained.contains("unless the registry does not have that"),
        "{explained}"
    );
    let explained = missing(&policies, "nginx").explain();
    assert!(
        explained.contains("rule `hub` would replace it"),
        "{explained}"
    );
    // A rule that is sure is not asked about a registry.
    assert_eq!(missing(&policies, "quay.io/a").reason, Reason::Swapped);
}

#[test]
fn the_rule_that_gave_the_result_decides_in_a_chain() {
    for (first, second, conditional) in [
        ("", ", ifMissing: keep", false),
        (", ifMissing: keep", "", true),
    ] {
        let policies = policies(&format!(
            "rules:\n- {{name: base, from: 'r.io/hub/library/**', to: r.io/base{first}}}\n\
             - {{name: hub, from: 'docker.io/**', to: r.io/hub{second}}}\n"
        ));
        let decision = decide(&policies, "nginx");
        assert_eq!(&*decision.result, "r.io/base/nginx");
        assert_eq!(decision.conditional, conditional);
        let missing = missing(&policies, "nginx");
        let stays = if conditional {
            "nginx"
        } else {
            "r.io/base/nginx"
        };
        assert_eq!(&*missing.result, stays);
    }
}

#[test]
fn the_revision_covers_the_condition() {
    let revision = |text: &str| {
        let policies = policies(text);
        policies.iter().next().unwrap().revision().to_owned()
    };
    let plain = MIRROR.replace(", ifMissing: keep", "");
    assert_ne!(revision(MIRROR), revision(&plain));
    let swap = MIRROR.replace("ifMissing: keep", "ifMissing: swap");
    assert_eq!(revision(&swap), revision(&plain));
}

#[test]
fn candidates_that_differ_in_the_condition_do_not_agree() {
    let labelled = |name: &str, rest: &str| {
        format!(
            "apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{name: {name}}}\nspec:\n  \
             match: {{namespaceSelector: {{matchLabels: {{{name}: 'yes'}}}}}}\n  \
             rules: [{{from: '**', to: r.io{rest}}}]\n---\n"
        )
    };
    let text = labelled("a", "") + &labelled("b", ", ifMissing: keep");
    let policies = Policies::new(load("p", &text).unwrap().policies);
    let scope = Scope::Pod(PodScope {
        namespace: Some("shop"),
        ..PodScope::default()
    });
    let selected = policies.select(scope, TODAY);
    assert_eq!(selected.decide("nginx").reason, Reason::ScopeUnknown);
}

#[test]
fn a_rule_that_keeps_has_no_condition() {
    for (spec, part, says) in [
        (
            "rules: [{keep: 'r.io/**', ifMissing: keep}]",
            "keep",
            "images that `keep` matches stay",
        ),
        (
            "rules: [{from: 'a.io/**', to: r.io, ifMissing: skip}]",
            "skip",
            "ifMissing",
        ),
    ] {
        let text = text(spec);
        let found = load("p", &text).unwrap_err();
        assert_eq!(first(&text, &found).0, part, "{found}");
        assert!(found.to_string().contains(says), "{found}");
    }
}
