//! Rules about some lists of containers only: policies here cannot distinguish lists.

use crate::helpers::{approved, imported, is, rule, says, statuses, told};
use imageswap_import::{Import, Status};

const EVERYWHERE: &str = "match: {any: [{resources: {kinds: [Pod]}}]}";
const ELSEWHERE: &str = "match: {any: [{resources: {kinds: [Pod]}}]}\nexclude: {any: [{resources: {namespaces: [metrics]}}]}";

/// A rule that refuses these images of a Pod by one condition for each list.
fn denied(conditions: &[(&str, &str)]) -> Import {
    let each = conditions.iter().map(|(list, allowed)| {
        format!("{{key: \"{{{{ request.object.spec.{list}[].image || `[]` }}}}\", operator: AnyNotIn, value: [{allowed}]}}")
    });
    let each: Vec<_> = each.collect();
    rule(&format!(
        "{EVERYWHERE}\nvalidate: {{deny: {{conditions: {{any: [{}]}}}}}}",
        each.join(", ")
    ))
}

/// A Kyverno policy with rules for these Pods, each about the images of one list.
fn rules(each: &[(&str, &str, &str, &str)]) -> Import {
    let head = "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n  validationFailureAction: Enforce\n  rules:\n";
    let rules = each.iter().map(|(name, matched, list, allowed)| {
        let matched = matched.replace('\n', "\n    ");
        format!(
            "  - name: {name}\n    {matched}\n    validate: {{foreach: [{{list: request.object.spec.{list}, pattern: {{image: \"{allowed}\"}}}}]}}\n"
        )
    });
    let text: Vec<_> = [head.to_owned()].into_iter().chain(rules).collect();
    imported(&text.concat())
}

/// A policy of Kubernetes that demands this.
fn native(expression: &str) -> Import {
    imported(&format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: p}}\nspec:\n  matchConstraints: {{resourceRules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}}]}}\n  validations: [{{expression: \"{expression}\"}}]\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {{name: p}}\nspec: {{policyName: p, validationActions: [Deny]}}\n"
    ))
}

#[test]
fn one_demand_for_each_list_has_to_be_the_same() {
    let it = denied(&[
        ("containers", "\"reg.example.com/*\", \"quay.io/*\""),
        ("initContainers", "\"reg.example.com/*\""),
    ]);
    is(&it, &[Status::LeftOut]);
    says(&it, "differently in the lists");
    let it = denied(&[
        ("containers", "\"reg.example.com/*\""),
        ("initContainers", "\"reg.example.com/*\""),
        ("ephemeralContainers", "\"reg.example.com/*\""),
    ]);
    is(&it, &[Status::CarriedOver]);
    assert_eq!(approved(&it, "any", "quay.io/x:1"), Some(false));
    assert_eq!(approved(&it, "any", "reg.example.com/x:1"), Some(true));
    // The filter is about one of two lists.
    let it = rule(&format!(
        "{EVERYWHERE}\nvalidate: {{foreach: [{{list: \"request.object.spec.[containers, initContainers[?starts_with(image, 'quay.io/')]][]\", pattern: {{image: \"reg.example.com/*\"}}}}]}}"
    ));
    is(&it, &[Status::LeftOut]);
}

#[test]
fn rules_about_other_lists_than_containers_are_left_out() {
    let init_swap = "apiVersion: mutations.gatekeeper.sh/v1\nkind: AssignImage\nmetadata: {name: a}\nspec:\n  applyTo: [{groups: [\"\"], kinds: [Pod], versions: [v1]}]\n  location: \"spec.initContainers[name:*].image\"\n  parameters: {assignDomain: reg.example.com}\n";
    let mutating = "apiVersion: policies.kyverno.io/v1\nkind: MutatingPolicy\nmetadata: {name: m}\nspec:\n  matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]}\n  mutations: [{patchType: ApplyConfiguration, applyConfiguration: {expression: \"Object{spec: Object.spec{ephemeralContainers: object.spec.?ephemeralContainers.orValue([]).map(c, Object.spec.ephemeralContainers{name: c.name, image: 'reg.example.com/' + c.image})}}\"}}]\n";
    for it in [
        denied(&[("initContainers", "\"reg.example.com/*\"")]),
        rules(&[("r", EVERYWHERE, "initContainers", "reg.example.com/*")]),
        native(
            "object.spec.?ephemeralContainers.orValue([]).all(c, c.image.startsWith('reg.example.com/'))",
        ),
        native("size(object.spec.?ephemeralContainers.orValue([])) == 0"),
        imported(init_swap),
        imported(mutating),
    ] {
        is(&it, &[Status::LeftOut]);
        assert_eq!(it.policies.len(), 0, "{}", told(&it));
        let names_it = ["initContainers", "ephemeralContainers"]
            .map(|list| told(&it).contains(&format!("it is about images of {list} only")));
        assert!(names_it.contains(&true), "{}", told(&it));
    }
    let it = imported(&init_swap.replace("initContainers", "containers"));
    says(
        &it,
        "images of initContainers and ephemeralContainers are changed, too",
    );
}

#[test]
fn no_list_gets_the_scope_of_another() {
    let both = |main: &str, other: &str| {
        rules(&[
            ("main", main, "containers", "reg.example.com/*"),
            ("init", other, "initContainers", "reg.example.com/*"),
        ])
    };
    let it = both(EVERYWHERE, EVERYWHERE);
    is(&it, &[Status::CarriedOver, Status::CarriedOver]);
    // Images of `containers` in the namespace are judged by no rule.
    let it = both(ELSEWHERE, EVERYWHERE);
    is(&it, &[Status::CarriedOver, Status::LeftOut]);
    says(&it, "where `main` does not apply");
    assert_eq!(approved(&it, "metrics", "quay.io/x:1"), None);
    assert_eq!(approved(&it, "other", "quay.io/x:1"), Some(false));
    // Images of `initContainers` in the namespace are judged here alone.
    let it = both(EVERYWHERE, ELSEWHERE);
    is(&it, &[Status::CarriedOver, Status::Differs]);
    let why = "images of initContainers are decided about where it does not apply, too, because `main` applies there";
    says(&it, why);
}

#[test]
fn of_two_demands_that_of_containers_stays() {
    let main = ("main", EVERYWHERE, "containers", "reg.example.com/*");
    let init = ("init", EVERYWHERE, "initContainers", "quay.io/init/*");
    for (each, expected) in [
        ([main, init], [Status::CarriedOver, Status::LeftOut]),
        ([init, main], [Status::LeftOut, Status::CarriedOver]),
    ] {
        let it = rules(&each);
        assert_eq!(statuses(&it), expected, "{}", told(&it));
        says(&it, "; beside it applies `main`");
        assert_eq!(approved(&it, "any", "reg.example.com/x:1"), Some(true));
        assert_eq!(approved(&it, "any", "quay.io/init/x:1"), Some(false));
    }
}
