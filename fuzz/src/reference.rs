//! An image reference, and how policies for one registry decide about it.

use std::sync::LazyLock;

use imageswap_policy::{Date, Policies, Policy, Reference, Scope, document, maps};

use crate::{Target, sound};

/// See the module.
pub const TARGET: Target = Target {
    name: "reference",
    check,
    seeds,
    words: &[
        "docker.io",
        "index.docker.io",
        "library",
        "registry.example.com",
        "eu.corp.example.com/team/",
        "example.com",
        "evil.net",
        "localhost",
        ":5000",
        ":443",
        "/",
        "//",
        ":",
        "@",
        "@sha256:",
        "@sha512:",
        ".",
        "..",
        "-",
        "--",
        "_",
        "__",
        "latest",
        "[2001:db8::1]",
        "[::1]",
        "%2f",
        "\\",
        "user:pass@",
        "REG",
        "https://",
        "\u{ff0f}",
        "\u{430}",
        "\u{200b}",
        "\u{130}",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ],
};

/// The host that the policy below is about.
const HOST: &str = "registry.example.com";

/// Where the policy sends everything else.
const TARGET_HOST: &str = "registry.example.net";

/// Keeps what is on [`HOST`] unchanged, and approves it and the target.
static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = format!("default::{TARGET_HOST}/m\n{HOST}::\n");
    maps::load("maps", &text).expect("the text is sound").policy
});

/// Approves two repositories by patterns, and changes nothing.
static APPROVING: LazyLock<Policies> = LazyLock::new(|| {
    let text = "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: approving}\n\
         spec:\n  approved: [\"registry.example.com/**\", \"*.corp.example.com/team/*\"]\n";
    let loaded = document::load("policy", text).unwrap_or_else(|errors| panic!("{errors}"));
    Policies::new(loaded.policies)
});

fn check(text: &str) {
    maps_file(text);
    let policy = APPROVING.select(Scope::Node, Date::MIN);
    sound::decision(&policy, text);
    let meant = Reference::parse(text).is_ok_and(|it| it.registry() == HOST || is_of_team(&it));
    assert_eq!(policy.decide(text).approved, meant, "{text:?}");
}

/// The meaning of `*.corp.example.com/team/*`, computed another way: `*` is neither empty nor more
/// than one label or segment.
fn is_of_team(reference: &Reference<'_>) -> bool {
    let label = reference.registry().strip_suffix(".corp.example.com");
    let segment = reference.path().strip_prefix("team/");
    label.is_some_and(|it| !it.is_empty() && !it.contains(['.', ':']))
        && segment.is_some_and(|it| !it.contains('/'))
}

fn maps_file(text: &str) {
    let policy = POLICY.select(Scope::Node, Date::MIN);
    sound::decision(&policy, text);
    let decision = policy.decide(text);
    match Reference::parse(text) {
        Ok(reference) => {
            parts(&reference);
            let host = reference.registry();
            let ours = host == HOST
                || host
                    .strip_prefix(HOST)
                    .is_some_and(|it| it.starts_with(':'));
            let stays = decision.approved && !decision.swapped();
            assert!(stays || !ours, "{text:?}: {decision:?}");
            assert!(
                !stays || ours || host == TARGET_HOST,
                "{text:?}: {decision:?}"
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Checks that the parts make up the whole, and that other spellings name the same image.
fn parts(reference: &Reference<'_>) {
    let mut whole = String::new();
    if let Some(registry) = reference.written_registry() {
        whole = format!("{registry}/");
    }
    whole += reference.path();
    for (mark, part) in [(':', reference.tag()), ('@', reference.digest())] {
        if let Some(part) = part {
            whole.push(mark);
            whole += part;
        }
    }
    assert_eq!(whole, reference.as_str());
    assert!(
        whole.bytes().all(|byte| byte.is_ascii_graphic()),
        "{whole:?}"
    );

    let canonical = reference.canonical();
    let parsed = parse(&canonical);
    assert_eq!(parsed.canonical(), canonical);
    assert_eq!(parsed.registry(), reference.registry());
    assert_eq!(parsed.path(), reference.canonical_path());
    assert_eq!(
        (parsed.tag(), parsed.digest()),
        (reference.tag(), reference.digest())
    );

    let familiar = reference.familiar_name();
    assert_eq!(
        parse(&familiar).canonical_name(),
        reference.canonical_name(),
        "{familiar}"
    );
}

fn parse(text: &str) -> Reference<'_> {
    Reference::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn seeds() -> Vec<String> {
    let digest = format!("@sha256:{}", "0123456789abcdef".repeat(4));
    let hosts = [
        "",
        "docker.io/",
        "index.docker.io/",
        "docker.io/library/",
        "registry.example.com/",
        "registry.example.com:5000/",
        "eu.corp.example.com/team/",
        "localhost/",
        "[2001:db8::1]:5000/",
        "REG/",
        "evil.net/registry.example.com/",
        "registry.example.com.evil.net/",
        "user@registry.example.com/",
        "https://",
    ];
    let names = [
        "nginx",
        "team/app",
        "a/b_c/d__e/f-g.h",
        "A",
        "a//b",
        &digest[8..],
        &"a".repeat(256),
    ];
    let ends = ["", ":1.27", ":5000", digest.as_str(), ":v1@sha256:0"];
    let mut seeds = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        for (at, name) in names.iter().enumerate() {
            seeds.push(format!("{host}{name}{}", ends[(number + at) % ends.len()]));
        }
    }
    seeds
}
