use super::*;
use crate::testing::{pattern as any_pattern, reference};
use proptest::prelude::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|it| panic!("{text}: {it}"))
}

#[test]
fn patterns_match_at_boundaries() {
    let digest = format!("@sha256:{}", "a".repeat(64));
    let pinned = format!("r.io/x{digest}");
    let tagged = format!("r.io/x:1{digest}");
    for (text, image, expected) in [
        ("**", "nginx", true),
        ("**", "localhost:5000/x:1", true),
        ("example.com/**", "example.com/x", true),
        ("example.com/**", "example.com/a/b/c:1", true),
        ("example.com/**", "example.com.evil.net/x", false),
        ("example.com/**", "evil.net/example.com/x", false),
        ("example.com/**", "example.comevil/x", false),
        ("example.com/**", "sub.example.com/x", false),
        ("example.com/**", "EXAMPLE.COM/x", false),
        ("example.com/**", "example.com:5000/x", false),
        ("example.com:*/**", "example.com:5000/x", true),
        ("example.com:*/**", "example.com/x", false),
        ("example.com:50*/**", "example.com:5000/x", true),
        ("example.com/*", "example.com/x", true),
        ("example.com/*", "example.com/a/x", false),
        ("example.com/team/**", "example.com/team/x", true),
        ("example.com/team/**", "example.com/team", false),
        ("example.com/team/**", "example.com/teamevil/x", false),
        ("example.com/team", "example.com/team:1", true),
        ("example.com/**/app", "example.com/app", true),
        ("example.com/**/app", "example.com/a/b/app", true),
        ("example.com/**/app", "example.com/a/b/apps", false),
        ("example.com/a/**/b/**", "example.com/a/b", false),
        ("example.com/a/**/b/**", "example.com/a/b/b", true),
        ("example.com/a-*", "example.com/a-b", true),
        ("example.com/a-*", "example.com/a-b/c", false),
        ("*.example.com/**", "a.example.com/x", true),
        ("*.example.com/**", "a.b.example.com/x", false),
        ("*.example.com/**", "example.com/x", false),
        ("*.example.com/**", "a.example.com:5000/x", false),
        ("*.example.com:5000/**", "a.example.com:5000/x", true),
        ("**.example.com/**", "a.b.example.com/x", true),
        ("**.example.com/**", "example.com/x", false),
        (
            "*.dkr.ecr.*.amazonaws.com/**",
            "1.dkr.ecr.eu-west-1.amazonaws.com/x",
            true,
        ),
        ("*/nirmata/**", "docker.io/nirmata/kyverno", true),
        ("*/nirmata/**", "nirmata/kyverno", true),
        ("*/nirmata/**", "r.io:5000/nirmata/kyverno", true),
        ("*/nirmata/**", "evil.net/x/nirmata/y", false),
        ("**/nirmata/**", "evil.net/x/nirmata/y", true),
        ("**/nirmata/**", "nirmata/y", true),
        ("**/nirmata/**", "nirmata", false),
        ("docker.io/**", "nginx", true),
        ("index.docker.io/**", "nginx", true),
        ("docker.io/**", "index.docker.io/a/b", true),
        ("docker.io/library/*", "nginx", true),
        ("docker.io/*", "nginx", true),
        ("docker.io/*", "bitnami/nginx", false),
        ("docker.io/nginx", "docker.io/library/nginx:1", true),
        ("nginx", "nginx:1", true),
        ("nginx", "docker.io/nginx", true),
        ("nginx", "quay.io/nginx", false),
        ("nginx*", "nginx-unprivileged", true),
        ("bitnami/*", "bitnami/redis", true),
        ("bitnami/*", "docker.io/bitnami/redis", true),
        ("bitnami/*", "quay.io/bitnami/redis", false),
        ("bitnami*/*", "bitnamilegacy/redis", true),
        ("localhost/**", "localhost/x", true),
        ("[2001:db8::1]:5000/**", "[2001:db8::1]:5000/x", true),
        ("r.io/x:1", "r.io/x:1", true),
        ("r.io/x:1", "r.io/x:12", false),
        ("r.io/x:1", "r.io/x", false),
        ("r.io/x:latest", "r.io/x", true),
        ("r.io/x:*", "r.io/x", true),
        ("r.io/x:*", "r.io/x:1", true),
        ("r.io/x:1.*", "r.io/x:1.2", true),
        ("r.io/x:1.*", "r.io/x", false),
        ("r.io/x:*", &pinned, true),
        ("r.io/x:latest", &pinned, false),
        ("r.io/x:1", &tagged, true),
        ("r.io/x", &tagged, true),
        ("r.io/**@sha256:*", "r.io/x:1", false),
        ("r.io/**@sha256:*", &pinned, true),
        ("r.io/**:1@sha256:*", &tagged, true),
        ("r.io/**:1@sha256:*", &pinned, false),
        ("**@sha256:*", &pinned, true),
        ("**:latest", "nginx", true),
    ] {
        let reference = Reference::parse(image).unwrap();
        assert_eq!(
            pattern(text).matches(&reference),
            expected,
            "{text} {image}"
        );
    }
}

#[test]
fn what_is_no_pattern() {
    for (text, code, place, help) in [
        ("", "pattern-syntax", "", None),
        (
            "https://r.io/*",
            "scheme",
            "https://",
            Some("write `r.io/**`"),
        ),
        (
            "https://r.io",
            "scheme",
            "https://",
            Some("write `r.io/**`"),
        ),
        ("r.io/a b", "pattern-syntax", " ", None),
        (" r.io/a", "pattern-syntax", " ", Some("write `r.io/a`")),
        (
            "r.io/?",
            "pattern-syntax",
            "?",
            Some("write one pattern for each case, or a rule with `regex`"),
        ),
        ("exаmple.com/**", "pattern-syntax", "а", None),
        (
            "*",
            "pattern-syntax",
            "*",
            Some("write `**` for everything, `docker.io/library/*` for those images"),
        ),
        (
            "r.io",
            "no-path",
            "r.io",
            Some(
                "write `r.io/**` for all of the registry, or `docker.io/library/r.io` for the image",
            ),
        ),
        (
            "r.io:5000",
            "no-path",
            "r.io",
            Some(
                "write `r.io:5000/**` for all of the registry, or `docker.io/library/r.io` for the image",
            ),
        ),
        (
            "r.io/",
            "pattern-syntax",
            "/",
            Some("write `r.io/**` for all that lies there"),
        ),
        ("r.io//x", "pattern-syntax", "/", None),
        ("/x", "pattern-syntax", "/", None),
        ("r.io/a**/x", "pattern-syntax", "a**", Some("write `a*`")),
        ("user@r.io/x", "pattern-syntax", "user@r.io", None),
        (
            "r.io/Team/**",
            "never-matches",
            "r.io/Team/**",
            Some("write `r.io/team/**`"),
        ),
        ("r.io/x:", "never-matches", "r.io/x:", None),
        ("r.io/x:.a", "never-matches", "r.io/x:.a", None),
        ("r.io/x@", "never-matches", "r.io/x@", None),
        (
            "r.io/x@sha256:abc",
            "never-matches",
            "r.io/x@sha256:abc",
            None,
        ),
        ("r.io/x@md5:*", "never-matches", "r.io/x@md5:*", None),
        ("-r.io/x", "never-matches", "-r.io/x", None),
        ("r.io/x_/y", "never-matches", "r.io/x_/y", None),
        ("r.io:port/x", "never-matches", "r.io:port/x", None),
    ] {
        let found = Pattern::parse(text).expect_err(text);
        assert_eq!(
            (found.code, &text[found.span.clone()]),
            (code, place),
            "{text}: {found}"
        );
        let told = found.help.as_deref();
        assert!(
            told.is_some() && help.is_none_or(|it| told == Some(it)),
            "{text}: {told:?}"
        );
    }
    assert!(Pattern::parse(&"a/".repeat(600)).is_err());
}

#[test]
fn one_pattern_covers_another() {
    for (one, other, expected) in [
        ("**", "r.io/x", true),
        ("**", "**:latest", true),
        ("**:latest", "**", false),
        ("r.io/**", "r.io/a/**", true),
        ("r.io/**", "r.io/a", true),
        ("r.io/a/**", "r.io/**", false),
        ("r.io/a/**", "r.io/a", false),
        ("r.io/*", "r.io/a*", true),
        ("r.io/a*", "r.io/*", false),
        ("r.io/*", "r.io/**", false),
        ("*/a/**", "r.io/a/b", true),
        ("*/a/**", "*.io/a/b", true),
        ("*.io/**", "*/a", false),
        ("**.io/**", "a.b.io/x", true),
        ("*.io/**", "**.io/x", false),
        ("**/x/**", "r.io/a/x/y", true),
        ("**/x/**", "**/x/y", true),
        ("**/x/**", "**", false),
        ("nginx", "docker.io/library/nginx:1", true),
        ("r.io/a:*", "r.io/a", true),
        ("r.io/a:1", "r.io/a", false),
        ("r.io/a", "r.io/a:1", true),
        ("r.io/a:1*", "r.io/a:1.*", true),
        ("r.io/a:latest", "r.io/a", false),
        ("r.io/**@sha256:*", "r.io/a", false),
        ("r.io/**@sha256:*", "r.io/a@sha256:*", true),
        ("r.io:*/**", "r.io:5000/x", true),
        ("r.io/**", "r.io:5000/x", false),
    ] {
        assert_eq!(
            pattern(one).covers(&pattern(other)),
            expected,
            "{one} covers {other}"
        );
    }
}

#[test]
fn a_pattern_meets_a_place() {
    for (text, registry, path, expected) in [
        ("**", "r.io", "m", true),
        ("r.io/**", "r.io", "", true),
        ("r.io/**", "r.io", "m/a", true),
        ("r.io/**", "s.io", "", false),
        ("r.io/a/**", "r.io", "m", false),
        ("r.io/a/**", "r.io", "", true),
        ("r.io/*", "r.io", "m", true),
        ("r.io/*", "r.io", "m/a", false),
        ("r.io/**/x", "r.io", "m/a", true),
        ("*/m/**", "r.io:5000", "m", true),
        ("*.io/**", "r.io", "m", true),
        ("*.io/**", "r.io:5000", "m", false),
        ("*.io/**", "a.r.io", "", false),
    ] {
        assert_eq!(
            pattern(text).may_meet(registry, path),
            expected,
            "{text} {registry}/{path}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "([a-z.:*/@-]|\\*\\*|\\PC){0,40}", other in "([a-z.:*/@-]|\\*\\*){0,20}") {
        match Pattern::parse(&text) {
            Ok(pattern) => {
                if let Ok(other) = Pattern::parse(&other) {
                    let _ = pattern.covers(&other);
                }
                let _ = pattern.may_meet("r.io", "a");
            }
            Err(error) => prop_assert!(text.get(error.span).is_some()),
        }
    }

    #[test]
    fn a_reference_is_a_pattern_of_itself(image in reference()) {
        // A text without a path counts as a registry.
        if let Ok(pattern) = Pattern::parse(&image) {
            prop_assert!(pattern.matches(&Reference::parse(&image).unwrap()));
        } else {
            prop_assert!(!image.contains('/'));
        }
    }

    #[test]
    fn what_is_covered_matches(one in any_pattern(), other in any_pattern(), images in prop::collection::vec(reference(), 1..8)) {
        let (one, other) = (pattern(&one), pattern(&other));
        prop_assert!(one.covers(&one), "{}", one);
        let made = [other.sample("a"), other.sample("")];
        for image in images.iter().chain(&made) {
            let Ok(reference) = Reference::parse(image) else { continue };
            if one.covers(&other) && other.matches(&reference) {
                prop_assert!(one.matches(&reference), "{} covers {}, not {}", one, other, image);
            }
        }
    }

    #[test]
    fn what_matches_meets_its_place(text in any_pattern(), image in reference()) {
        let (pattern, reference) = (pattern(&text), Reference::parse(&image).unwrap());
        if pattern.matches(&reference) {
            let path = reference.canonical_path();
            prop_assert!(pattern.may_meet(reference.registry(), ""));
            let above = path.rsplit_once('/').map_or("", |(above, _)| above);
            prop_assert!(pattern.may_meet(reference.registry(), above), "{} {}", text, image);
        }
    }
}
