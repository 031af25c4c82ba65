//! Names that look like an approved registry and are not.

use super::*;

/// Texts that a policy which means `example.com` must never approve.
fn evasions() -> Vec<String> {
    let digest = "a".repeat(64);
    let mut all: Vec<String> = [
        "example.com.evil.net/x",
        "evil.net/example.com/x",
        "registry.example.com.evil.net/x",
        "registry.example.comevil/x",
        "example.comevil/x",
        "evilexample.com/x",
        "evil-example.com/x",
        "evil.example.com/x",
        "example.com-evil.net/x",
        "example-com/x",
        "example.co/x",
        "example.com.",
        "example.com./x",
        "example.com..evil.net/x",
        ".example.com/x",
        "example.com",
        "example.com:5000/x",
        "example.com:80/x",
        "example.com:443/x",
        "example.com:/x",
        "example.com:evil.net/x",
        "example.com:x@evil.net/y",
        "example.com@evil.net/x",
        "user:pass@example.com/x",
        "user@example.com/x",
        "evil.net/x@example.com/y",
        "https://example.com/x",
        "//example.com/x",
        "/example.com/x",
        "EXAMPLE.COM/x",
        "Example.com/x",
        "example.COM/x",
        "example.com/X",
        "example.com//x",
        "example.com/",
        "example.com/x/",
        "example.com/./x",
        "example.com/../evil.net/x",
        "example.com/%2e%2e/x",
        "example.com\\x",
        "example.com/x y",
        " example.com/x",
        "example.com/x\n",
        "example.com/x\u{0}",
        "[::1]/example.com/x",
        "[example.com]/x",
        "[2001:db8::1]:5000/example.com/x",
        "127.0.0.1/example.com/x",
        "localhost/example.com/x",
        "localhost:5000/example.com/x",
        "docker.io/example.com/x",
        "index.docker.io/example.com/x",
        "library/example.com",
        "docker.io/library/example.com",
        "exаmple.com/x",
        "example。com/x",
        "\u{ff45}xample.com/x",
        "xn--exmple-cua.com/x",
        "exam\u{200b}ple.com/x",
        "example.com?x=/y",
        "example.com#/x",
        "example.com;evil.net/x",
        "example.com,evil.net/x",
        "example.com/x:",
        "example.com/x@",
        "example.com/x@sha256:abc",
        "example.com/x@md5:d41d8cd98f00b204e9800998ecf8427e",
    ]
    .map(str::to_owned)
    .into();
    all.push(digest.clone());
    all.push(format!("sha256:{digest}"));
    all.push(format!("evil.net/x@sha256:{digest}@example.com"));
    all.push(format!("{}.example.com/x", "a".repeat(300)));
    all.push(format!("example.com/{}", "a".repeat(256)));
    all.push(format!("example.com/{}x", "a/".repeat(200)));
    all.push(format!("example.com/x:{}", "a".repeat(129)));
    all.push(format!("{}example.com/x", "evil.net/".repeat(40)));
    all
}

#[test]
fn look_alikes_are_never_approved() {
    let ways = [
        "approved: ['example.com/**']",
        "rules: [{keep: 'example.com/**'}]",
        "rules: [{from: 'quay.io/**', to: example.com}]",
        "rules: [{regex: '^quay\\.io/(.*)$', to: 'example.com/$1'}]",
        "exceptions: [{pattern: 'example.com/**', until: 2999-12-31, reason: x}]\napproved: [r.io/**]",
    ];
    let evasions = evasions();
    assert!(evasions.len() >= 40);
    for spec in ways {
        let policies = policies(spec);
        for image in &evasions {
            let decision = decide(&policies, image);
            assert!(!decision.approved, "{spec}: {image:?} {decision:?}");
        }
        assert!(decide(&policies, "example.com/team/x:1").approved, "{spec}");
    }
}
