//! Rules that let in hosts that only look like the named one: the report says so.

use super::cel::demand;
use super::helpers::{self, ALL_PODS, check, imported};
use imageswap_import::Import;

const PODS: &str = "match: {any: [{resources: {kinds: [Pod]}}]}";

/// What each container has to fulfil.
fn all(demanded: &str) -> Import {
    demand("", &format!("object.spec.containers.all(c, {demanded})"))
}

fn constraint(repos: &str) -> Import {
    let repos = format!("{{repos: [{repos}]}}");
    imported(&helpers::constraint("K8sAllowedRepos", ALL_PODS, &repos))
}

#[test]
fn hosts_that_look_like_the_named_one_are_said() {
    for (it, other) in [
        (
            all("c.image.startsWith('registry.corp.example')"),
            Some("registry.corp.example.evil.example"),
        ),
        (all("c.image.startsWith('registry.corp.example/')"), None),
        // The report has an image of another host that the policy refuses.
        (all("c.image.matches('^registry.corp.example/')"), None),
        (all("c.image.matches('^registry[.]corp[.]example/')"), None),
        (
            check(PODS, "registry.corp.example*"),
            Some("registry.corp.example.evil.example"),
        ),
        (check(PODS, "registry.corp.example/*"), None),
        (
            constraint("registry.corp.example"),
            Some("registry.corp.example.evil.example"),
        ),
        (constraint("registry.corp.example/"), None),
        // A host with a port: the other host is one, too.
        (
            all("c.image.startsWith('registry:5000') && c.image.contains('/')"),
            Some("registry:50000"),
        ),
        (all("c.image.startsWith('registry:5000/')"), None),
        // What refuses a registry lets in all others, and means to.
        (all("!c.image.startsWith('registry.corp.example')"), None),
    ] {
        let rule = &it.report.rules[0];
        let notes = rule.notes.join("; ");
        match other {
            Some(host) => {
                assert!(
                    notes.contains(&format!("images of `{host}` pass")),
                    "{rule:?}"
                );
            }
            None => assert!(!notes.contains("pass, too"), "{rule:?}"),
        }
    }
}
