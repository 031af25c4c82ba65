//! The text of a maps file.

use imageswap_policy::document;
use imageswap_policy::maps::{self, Options};
use imageswap_policy::{Date, Policy, Reference, Scope, Severity};

use crate::{Target, sound};

/// See the module.
pub const TARGET: Target = Target {
    name: "maps",
    check,
    seeds,
    words: &[
        "default",
        "::",
        ":",
        "\n",
        "#",
        "##",
        ",",
        "/",
        "-",
        " ",
        "\t",
        "\r\n",
        "\u{feff}",
        "noswap_wildcards::",
        "[EXACT]",
        "[REPLACE]",
        "docker.io",
        "docker.io/library",
        "quay.io",
        "registry.example.com",
        "mirror",
        "nginx",
        "library",
        ":5000",
        "localhost",
        "https://",
        "@sha256:",
        "*",
        "?",
        "[!a]",
        "\\",
        "REG",
        "[2001:db8::1]",
        "index.docker.io",
        "\u{e9}",
    ],
};

fn check(text: &str) {
    let options = Options {
        tolerate_unusable_lines: true,
        ..Options::default()
    };
    let tolerated = maps::load_with("maps", text, &options)
        .unwrap_or_else(|errors| panic!("what is tolerated loads: {errors}"));
    sound::diagnostics(&sound::lines(text), &tolerated.warnings);
    let linted = maps::lint("maps", text);
    sound::diagnostics(&sound::lines(text), &linted);
    let strict = maps::load("maps", text);
    let refused = linted.iter().any(|it| it.severity == Severity::Error);
    assert_eq!(refused, strict.is_err(), "{linted}");
    match strict {
        Ok(strict) => {
            assert_eq!(strict.policy.revision(), tolerated.policy.revision());
            imported(&strict.policy, text);
        }
        Err(errors) => sound::diagnostics(&sound::lines(text), &errors),
    }
    decisions(&tolerated.policy, text);
    prefix(text.lines().next().unwrap_or_default());
}

/// Compares with the equivalent ImageSwapPolicy, which decides alike unless a difference is
/// reported.
fn imported(policy: &Policy, text: &str) {
    let imported = match maps::import("maps", text, "imported") {
        Ok(imported) => imported,
        Err(errors) => return sound::diagnostics(&sound::lines(text), &errors),
    };
    for difference in &imported.differences {
        sound::diagnostic(&sound::lines(text), difference);
    }
    assert_eq!(imported.lines.len(), imported.policy.spec.rules.len());
    let written = serde_json::to_string(&imported.policy).expect("the policy is plain data");
    let other = document::load("imported", &written)
        .unwrap_or_else(|errors| panic!("what is imported loads: {errors}"))
        .policies
        .remove(0);
    decisions(&other, text);
    if !imported.differences.is_empty() {
        return;
    }
    let policies = [policy, &other].map(|it| it.select(Scope::Node, Date::MIN));
    for image in sound::images(text) {
        // One image, however it is written: a value like `u` is a path on `docker.io`.
        let [before, after] = policies.each_ref().map(|it| {
            let decision = it.decide(&image);
            let same = Reference::parse(&decision.result).map(|it| it.canonical());
            (
                same.unwrap_or_else(|_invalid| decision.result.to_string()),
                decision.approved,
            )
        });
        assert_eq!(before, after, "{image:?}");
    }
}

/// The legacy mode has one value instead of a file.
fn prefix(text: &str) {
    let lines = sound::lines(text);
    sound::diagnostics(&lines, &maps::lint_prefix("prefix", text));
    match maps::load_prefix("prefix", text) {
        Ok(loaded) => decisions(&loaded.policy, text),
        Err(errors) => sound::diagnostics(&lines, &errors),
    }
}

fn decisions(policy: &Policy, text: &str) {
    let policy = policy.select(Scope::Node, Date::MIN);
    for image in sound::images(text) {
        sound::decision(&policy, &image);
    }
}

fn seeds() -> Vec<String> {
    [
        "",
        "registry.example.com/mirror",
        "jms-",
        "default::registry.example.com\n",
        "default:registry.example.com/mirror-\nquay.io::\n",
        "default::\ndocker.io::registry.example.com\nlocalhost:5000::registry.example.com\n",
        "# all of it\ndefault::registry.example.com:5000/m # comment\ngcr.io::registry.example.com/gcr\n\
         noswap_wildcards::registry.example.com,internal,\n",
        // Every image holds the empty item, and what lies under the target is approved all the same.
        "default::registry.example.com:4/gcr\nnoswap_wildcards::,\n",
        "docker.io/library::registry.example.com/official\ndocker.io::registry.example.com/hub-\n",
        "[EXACT]nginx::registry.example.com/nginx:1.27\n[REPLACE]*/nginx*::registry.example.com/web\n",
        "[REPLACE]quay.io/[!a]?*::\ndefault::https://registry.example.com/\n",
        "a.io::b.io\nb.io::c.io\nc.io::a.io\ndefault::a.io/b.io\n",
        "default::registry.example.com\r\n\tgcr.io :: m.io ## twice # and again\r\n:::\nno separator\n",
        "\u{feff}default::r\u{e9}gistre.example\n[2001:db8::1]:5000::m.io\n",
    ]
    .map(str::to_owned)
    .into()
}
