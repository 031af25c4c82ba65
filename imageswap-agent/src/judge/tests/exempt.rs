//! Containers of Pods to which no policy applies.

use super::pods::{is, judged_with, known, named, yaml};
use super::*;

/// A container is exempt as its Pod is only if it runs the content of an image that was pulled as the Pod's.
#[test]
fn an_exempt_pod_exempts_the_content_of_its_image() {
    let proxy = "registry.k8s.io/kube-proxy:1";
    let source = |(host, repository): &(&str, &str)| ContentSource {
        host: (*host).to_owned(),
        repository: (*repository).to_owned(),
        has_port: false,
    };
    let claim = |content, from: Option<&[(&str, &str)]>| Claim {
        content,
        pulled_from: from.map(|from| from.iter().map(source).collect()),
        ..named("app", &[proxy])
    };
    let its: &[(&str, &str)] = &[("registry.k8s.io", "kube-proxy")];
    let evil: &[(&str, &str)] = &[("evil.example.net", "miner")];
    let ours: &[(&str, &str)] = &[("registry.example.com", "kube-proxy")];
    let exempt = ["exempt", "pod", "out-of-scope"];
    let retagged = ["drift", "pod", "retagged"];
    for (what, content, from, expected) in [
        ("pulled as it", Content::Its, Some(its), exempt),
        ("imported", Content::Its, Some(&[][..]), exempt),
        ("not recorded", Content::Unknown, None, exempt),
        (
            "pulled from an approved registry",
            Content::Its,
            Some(ours),
            exempt,
        ),
        ("tagged as it", Content::Its, Some(evil), retagged),
        (
            "another content",
            Content::Another,
            Some(its),
            ["unresolved", "pod", "ambiguous"],
        ),
    ] {
        for level in ["false", "true"] {
            let spec = format!(
                "{{match: {{excludeNamespaces: [team-a], nodeLevel: {level}}}, approved: ['registry.example.com/**']}}"
            );
            let criteria = Criteria::new(yaml(&spec));
            let claims = [claim(content, from)];
            let found = judged_with(&criteria, POD, is(known(proxy)), &claims);
            // Without it, no policy applies to what runs outside of Pods, either.
            let is_free = level == "false" && expected == retagged;
            let expected = if is_free { exempt } else { expected };
            assert_eq!(words(&found), expected, "{what}: {found:?}");
            assert_ne!(
                found.expected_image.as_deref(),
                Some("evil.example.net/miner")
            );
        }
    }
}

/// The specification may change while the container runs, and no node's image has the new name then.
#[test]
fn an_exempt_pod_whose_specification_changed_is_not_drift() {
    let spec = "{match: {excludeNamespaces: [team-a]}, approved: ['registry.example.com/**']}";
    let criteria = Criteria::new(yaml(spec));
    let claim = Claim {
        content: Content::Its,
        pulled_from: Some(Vec::new()),
        ..named("app", &["registry.k8s.io/kube-proxy:1"])
    };
    let mut pod = known("quay.io/other/kube-proxy:2");
    for container in pod.containers.values_mut() {
        container.id = Some("x".to_owned());
    }
    let found = judged_with(&criteria, POD, is(pod), &[claim]);
    assert_eq!(
        words(&found),
        ["unresolved", "pod", "ambiguous"],
        "{found:?}"
    );
}

/// Whoever may write a Pod's status can name any container there.
#[test]
fn a_pod_whose_status_names_another_ones_container_does_not_own_it() {
    let criteria = Criteria::new(yaml("{approved: ['registry.example.com/**']}"));
    let mut other = known(EVIL);
    other.uid = "other".to_owned();
    other.namespace = "kube-system".to_owned();
    for container in other.containers.values_mut() {
        container.id = Some("x".to_owned());
    }
    let claims = [named("app", &[EVIL])];
    let found = judged_with(&criteria, POD, is(other), &claims);
    assert_eq!(words(&found), ["drift", "cri", "not-admitted"], "{found:?}");
}
