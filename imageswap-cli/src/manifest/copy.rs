//! Input for tools that copy images: skopeo, crane and regsync.

use imageswap_policy::Reference;
use serde_json::Value;
use std::collections::BTreeSet;

/// A tool that copies images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Skopeo,
    Crane,
    Regsync,
}

/// The lines for a tool: each image, and where it is copied to.
pub(super) fn lines(tool: Tool, pairs: &BTreeSet<(&str, &str)>) -> Vec<String> {
    let pairs = pairs.iter().filter_map(|(image, result)| {
        let source = source(image)?;
        Some((source, target(result)?))
    });
    let pairs: BTreeSet<_> = pairs.collect();
    let script = |command: &str, scheme: &str| {
        let copy = |(from, to): &(String, String)| {
            let [from, to] = [from, to].map(|it| quoted(&format!("{scheme}{it}")));
            format!("{command} {from} {to}")
        };
        let begin = std::iter::once("set -eu".to_owned());
        begin.chain(pairs.iter().map(copy)).collect()
    };
    match tool {
        // All platforms, and the same digests as in the manifests.
        Tool::Skopeo => script("skopeo copy --all --preserve-digests", "docker://"),
        Tool::Crane => script("crane copy", ""),
        Tool::Regsync => {
            let mut lines = vec!["version: 1".to_owned()];
            lines.push(
                if pairs.is_empty() {
                    "sync: []"
                } else {
                    "sync:"
                }
                .to_owned(),
            );
            for (from, to) in &pairs {
                // A JSON string is one of YAML, too.
                lines.push(format!("- source: {}", Value::from(from.as_str())));
                lines.push(format!("  target: {}", Value::from(to.as_str())));
                lines.push("  type: image".to_owned());
            }
            lines
        }
    }
}

/// What is copied: by digest if the image has one, because no tool takes tag and digest together.
fn source(image: &str) -> Option<String> {
    let reference = Reference::parse(image).ok()?;
    let name = reference.canonical_name();
    Some(match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, tag) => format!("{name}:{}", tag.unwrap_or("latest")),
    })
}

/// Where it is copied to: under its tag if it has one, so that the registry does not clean it away.
fn target(image: &str) -> Option<String> {
    let reference = Reference::parse(image).ok()?;
    let name = reference.canonical_name();
    Some(match (reference.tag(), reference.digest()) {
        (None, Some(digest)) => format!("{name}@{digest}"),
        (tag, _) => format!("{name}:{}", tag.unwrap_or("latest")),
    })
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"._-:/@".contains(&it);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn every_tool_gets_its_format() {
        let both = format!("quay.io/a/b:1@{DIGEST}");
        let both_there = format!("r.io/quay/a/b:1@{DIGEST}");
        let pinned = format!("quay.io/c@{DIGEST}");
        let pinned_there = format!("r.io/quay/c@{DIGEST}");
        let pairs = BTreeSet::from([
            ("nginx", "r.io/hub/library/nginx"),
            ("docker.io/nginx:latest", "r.io/hub/library/nginx:latest"),
            (&*both, &*both_there),
            (&*pinned, &*pinned_there),
        ]);
        let expected = format!(
            "set -eu\n\
             skopeo copy --all --preserve-digests docker://docker.io/library/nginx:latest docker://r.io/hub/library/nginx:latest\n\
             skopeo copy --all --preserve-digests docker://quay.io/a/b@{DIGEST} docker://r.io/quay/a/b:1\n\
             skopeo copy --all --preserve-digests docker://quay.io/c@{DIGEST} docker://r.io/quay/c@{DIGEST}"
        );
        assert_eq!(lines(Tool::Skopeo, &pairs).join("\n"), expected);
        let expected = expected.replace("skopeo copy --all --preserve-digests", "crane copy");
        let expected = expected.replace("docker://", "");
        assert_eq!(lines(Tool::Crane, &pairs).join("\n"), expected);
        let expected = format!(
            "version: 1\nsync:\n\
             - source: \"docker.io/library/nginx:latest\"\n  target: \"r.io/hub/library/nginx:latest\"\n  type: image\n\
             - source: \"quay.io/a/b@{DIGEST}\"\n  target: \"r.io/quay/a/b:1\"\n  type: image\n\
             - source: \"quay.io/c@{DIGEST}\"\n  target: \"r.io/quay/c@{DIGEST}\"\n  type: image"
        );
        assert_eq!(lines(Tool::Regsync, &pairs).join("\n"), expected);
        let nothing = lines(Tool::Regsync, &BTreeSet::new());
        assert_eq!(nothing, ["version: 1", "sync: []"]);
    }

    #[test]
    fn a_shell_reads_one_word() {
        for text in [
            "[::1]:5000/a",
            "a b",
            "it's",
            "$(x)",
            "`x`",
            "a;b",
            "",
            "a\nb",
            "*",
            "~",
        ] {
            let script = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output();
            let output = output.unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{script}");
        }
    }
}
