//! Properties that hold for more than one kind of text.

use imageswap_policy::{Diagnostic, Diagnostics, Reason, Reference, Selected};

/// Images of every shape, to ask about in addition to those in a text.
const IMAGES: [&str; 16] = [
    "nginx",
    "library/nginx:1.27",
    "index.docker.io/bitnami/redis",
    "docker.io/a/b/c@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "quay.io/team/app:v1",
    "registry.example.com/mirror/nginx",
    "registry.example.com:5000/a",
    "registry.example.com.evil.net/a",
    "evil.net/registry.example.com/a",
    "localhost/a",
    "localhost:5000/a/b",
    "[2001:db8::1]:5000/a",
    "127.0.0.1/a",
    "REGISTRY/a",
    "a//b",
    "",
];
/// How many words of a text are asked about; bounds the time of one run.
const WORDS_MAX: usize = 24;

/// Images to ask a policy about that was made from `text`: a fixed set, and the words of the text
/// as images and as registries, so that rules and images meet.
pub(crate) fn images(text: &str) -> Vec<String> {
    let mut images: Vec<_> = IMAGES.map(str::to_owned).into();
    let words = text
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '{' | '}' | '#'))
        .flat_map(|word| word.split("::"))
        .map(|word| word.trim_end_matches("/**").trim_end_matches("/*"))
        .filter(|word| !word.is_empty());
    for word in words.take(WORDS_MAX) {
        images.push(word.to_owned());
        images.push(format!("{word}/app:1"));
    }
    images
}

/// Checks a policy's decision about `image`, and the one about its result.
pub(crate) fn decision(policy: &Selected<'_>, image: &str) {
    let first = policy.decide(image);
    assert!(!first.explain().is_empty());
    assert_eq!(
        first.swapped(),
        first.result != image,
        "{image:?}: {first:?}"
    );
    if Reference::parse(image).is_err() {
        assert!(!first.approved, "{image:?}: {first:?}");
        assert!(!first.swapped(), "{image:?}: {first:?}");
        let told = matches!(first.reason, Reason::Unparsable | Reason::ScopeUnknown);
        assert!(told || !first.in_scope, "{image:?}: {first:?}");
        return;
    }
    assert!(
        Reference::parse(&first.result).is_ok(),
        "{image:?}: {first:?}"
    );
    let again = policy.decide(&first.result);
    assert_eq!(again.result, first.result, "{image:?}: {first:?}");
    assert_eq!(
        again.approved, first.approved,
        "{image:?}: {first:?}, {again:?}"
    );
    assert!(
        !(first.approved && again.is_drift()),
        "{image:?}: {first:?}, {again:?}"
    );
}

/// The lines of a text in which a line feed ends a line.
pub(crate) fn lines(text: &str) -> Vec<&str> {
    text.split('\n').collect()
}

/// The lines of a YAML text, in which a carriage return ends a line too.
pub(crate) fn yaml_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\n', '\r']) {
        lines.push(&rest[..end]);
        let length = if rest[end..].starts_with("\r\n") {
            2
        } else {
            1
        };
        rest = &rest[end + length..];
    }
    lines.push(rest);
    lines
}

/// Checks that each diagnostic can be shown, lies in `lines`, and comes in order.
pub(crate) fn diagnostics(lines: &[&str], diagnostics: &Diagnostics) {
    let places: Vec<_> = diagnostics.iter().map(|it| (it.line, it.column)).collect();
    assert!(places.is_sorted(), "{places:?}");
    for it in diagnostics {
        diagnostic(lines, it);
    }
}

/// Checks that a diagnostic can be shown and lies in `lines`.
pub(crate) fn diagnostic(lines: &[&str], it: &Diagnostic) {
    let shown = it.to_string();
    let harmless = |c: char| c == '\n' || !c.is_control();
    assert!(shown.chars().all(harmless), "{shown:?}");
    assert!(it.summary().chars().all(|c| !c.is_control()), "{it:?}");
    assert!(!it.code.is_empty() && !it.message.is_empty(), "{it:?}");
    assert!(
        (1..=lines.len()).contains(&it.line),
        "{} lines, {it:?}",
        lines.len()
    );
    let width = lines[it.line - 1].chars().count();
    assert!(
        (1..=width + 1).contains(&it.column),
        "{width} columns, {it:?}"
    );
    // The end of a line can be pointed at, although nothing is there.
    let end = it.column - 1 + it.length;
    assert!(end <= width.max(it.column), "{width} columns, {it:?}");
}
