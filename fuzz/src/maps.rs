//! The text of a maps file.

use imageswap_policy::maps::{self, Options};
use imageswap_policy::{Date, Policy, Scope, Severity};

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
    match maps::load("maps", text) {
        Ok(strict) => assert_eq!(strict.policy.revision(), tolerated.policy.revision()),
        Err(errors) => {
            assert!(errors.iter().any(|it| it.severity == Severity::Error));
            sound::diagnostics(&sound::lines(text), &errors);
        }
    }
    decisions(&tolerated.policy, text);
    prefix(text.lines().next().unwrap_or_default());
}

/// The legacy mode knows one value instead of a file.
fn prefix(text: &str) {
    match maps::load_prefix("prefix", text) {
        Ok(loaded) => decisions(&loaded.policy, text),
        Err(errors) => sound::diagnostics(&sound::lines(text), &errors),
    }
}

fn decisions(policy: &Policy, text: &str) {
    let policy = policy.select(Scope::Node, Date::MIN);
    for image in sound::images(text) {
        sound::decision(policy, &image);
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
