//! Kyverno's wildcards for images, turned into patterns of ours.
//!
//! Kyverno holds a wildcard against the text of an image: `*` is any run of characters, `/` included, and nothing
//! marks where a registry ends. Ours have boundaries, so a wildcard is read as what its author meant by it, and
//! a note says where the text says more.

use super::formula::Images;
use super::image::is_registry;
use super::note::Notes;
use imageswap_policy::yaml::Span;

/// Reads the value of a pattern: `|` is or, `&` is and, `!` is not, in this order.
pub(super) fn images(text: &str, at: Span, notes: &mut Notes) -> Images {
    let alternatives = text.split('|').map(|alternative| {
        let demands = alternative.split('&').map(|demand| {
            let demand = demand.trim();
            match demand.strip_prefix('!') {
                Some(refused) => wildcard(refused.trim(), at, notes).not(),
                None => wildcard(demand, at, notes),
            }
        });
        Images::all(demands.collect::<Vec<_>>())
    });
    Images::any(alternatives.collect::<Vec<_>>())
}

/// Reads one wildcard for a whole image.
pub(super) fn wildcard(text: &str, at: Span, notes: &mut Notes) -> Images {
    let Some(rest) = plain(text, at, notes) else {
        return problem(text, at);
    };
    let (name, digest) = match rest.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (rest, None),
    };
    let slash = name.rfind('/').map_or(0, |it| it + 1);
    // A colon before the last slash belongs to a registry; `*:5000` alone could be either, and is a tag.
    let (name, tag) = match name[slash..].split_once(':') {
        Some((last, tag)) => (&name[..slash + last.len()], Some(tag)),
        None => (name, None),
    };
    if let Some(digest) = digest {
        return digests(name, tag, digest, text, at);
    }
    let about_tags = name.bytes().all(|it| matches!(it, b'*' | b'/'));
    match tag {
        Some("*") if about_tags => Images::unknown(
            at,
            "tag",
            format!("`{text}` demands a tag and says nothing of registries"),
        ),
        Some(tag) if about_tags => Images::unknown(
            at,
            "tag",
            format!("`{text}` is about the tag `{tag}`, not about registries"),
        ),
        tag => {
            let tag = tag.filter(|&it| it != "*");
            if tag.is_none() && !name.contains('*') && !text.contains(':') {
                notes.note(
                    at,
                    "any-tag",
                    format!("`{text}` means that image without a tag in Kyverno, here with any"),
                );
            }
            let names = repositories(name, at, notes);
            Images::any(names.into_iter().map(|it| match tag {
                Some(tag) => Images::pattern(format!("{it}:{tag}"), at),
                None => Images::pattern(it, at),
            }))
        }
    }
}

/// Reads a wildcard for the registry alone.
pub(super) fn registry(text: &str, at: Span, notes: &mut Notes) -> Images {
    let name = text.trim().trim_end_matches('/');
    let name = name
        .strip_prefix("index.")
        .filter(|&it| it == "docker.io")
        .unwrap_or(name);
    if name.is_empty() || name.contains('/') {
        return problem(text, at);
    }
    wildcard(&format!("{name}/*"), at, notes)
}

/// Reads a wildcard for the path after any registry.
pub(super) fn path(text: &str, at: Span, notes: &mut Notes) -> Images {
    wildcard(
        &format!("*/{}", text.trim().trim_start_matches('/')),
        at,
        notes,
    )
}

/// Reads a wildcard for the last segment of the path.
pub(super) fn name(text: &str, at: Span, notes: &mut Notes) -> Images {
    let name = text.trim();
    if name.is_empty() || name.contains(['/', ':', '@', '?']) {
        return problem(text, at);
    }
    any_registry(name, at, notes);
    Images::pattern(format!("**/{name}"), at)
}

/// Without a scheme and what surrounds it; `None` for what no image is.
fn plain<'t>(text: &'t str, at: Span, notes: &mut Notes) -> Option<&'t str> {
    let mut rest = text.trim();
    if let Some((scheme, after)) = rest.split_once("://") {
        notes.warning(
            at,
            "scheme",
            format!(
                "`{scheme}://` is no part of an image reference, so `{text}` never matches; taken for `{after}`"
            ),
        );
        rest = after;
    }
    let rest = rest.trim_start_matches('/');
    // `?*` is the usual way to say that there is something.
    let rest = if matches!(rest, "?*" | "*?" | "*" | "**") {
        "**"
    } else {
        rest
    };
    let bad = rest.is_empty()
        || rest.contains(['?', '<', '>', '{', '}', '!'])
        || rest.contains(char::is_whitespace)
        || !rest.is_ascii();
    (!bad).then_some(rest)
}

fn problem(text: &str, at: Span) -> Images {
    let message = if text.contains("{{") {
        format!("`{text}` is known to the cluster only")
    } else if text.contains('?') {
        format!("`{text}` has `?` for one character, which patterns here do not have")
    } else if text.trim().is_empty() {
        "an empty pattern, which no image matches".to_owned()
    } else {
        format!("`{text}` is no wildcard for images")
    };
    Images::unknown(at, "wildcard", message)
}

fn digests(name: &str, tag: Option<&str>, digest: &str, text: &str, at: Span) -> Images {
    let any = matches!(digest, "*" | "sha256:*" | "sha256*" | "");
    let literal = digest
        .strip_prefix("sha256:")
        .is_some_and(|it| it.len() == 64 && !it.contains('*'));
    let digest = if any { "sha256:*" } else { digest };
    if !(any || literal) || tag.is_some_and(|it| it != "*") {
        return Images::unknown(
            at,
            "wildcard",
            format!("`{text}` is no wildcard for digests"),
        );
    }
    let mut quiet = Notes::default();
    let names = if name.bytes().all(|it| it == b'*') {
        vec!["**".to_owned()]
    } else {
        repositories(name, at, &mut quiet)
    };
    Images::any(
        names
            .into_iter()
            .map(|it| Images::pattern(format!("{it}@{digest}"), at)),
    )
}

/// The patterns of registry and path that a wildcard without tag and digest means.
fn repositories(text: &str, at: Span, notes: &mut Notes) -> Vec<String> {
    if text == "**" {
        notes.warning(
            at,
            "everything",
            "lets every image in, whatever its registry",
        );
        return vec!["**".to_owned()];
    }
    let mut segments: Vec<&str> = text.split('/').filter(|it| !it.is_empty()).collect();
    if segments.len() == 1 {
        return alone(segments[0], text.ends_with('/'), at, notes);
    }
    let first = segments.remove(0);
    let tails = tails(&segments);
    if first.bytes().all(|it| it == b'*') {
        any_registry(text, at, notes);
        // After `*/` a path with an own `*/` may be meant at any depth; a single name is.
        if segments.len() == 1 && !segments[0].bytes().all(|it| it == b'*') {
            return tails.into_iter().map(|it| format!("**/{it}")).collect();
        }
        if segments.iter().all(|it| it.bytes().all(|it| it == b'*')) {
            return vec!["**".to_owned()];
        }
        return tails.into_iter().map(|it| format!("*/{it}")).collect();
    }
    let hosts = hosts(first, at, notes);
    hosts
        .iter()
        .flat_map(|host| tails.iter().map(move |tail| format!("{host}/{tail}")))
        .collect()
}

/// A wildcard without a slash: a registry that lacks its boundary, or an image of Docker Hub.
fn alone(text: &str, ends: bool, at: Span, notes: &mut Notes) -> Vec<String> {
    let bare = text.trim_end_matches('*');
    if !ends && !is_registry(bare) {
        if text.contains('*') {
            notes.warning(
                at,
                "boundary",
                format!(
                    "`{text}` also matches registries that begin so; taken for images of Docker Hub"
                ),
            );
        }
        return vec![text.to_owned()];
    }
    if !ends {
        let evil = format!("{}.evil.example", bare.trim_end_matches(['.', ':']));
        notes.warning(
            at,
            "boundary",
            if text.contains('*') {
                format!("`{text}` also matches `{evil}/x`; taken for the registry `{bare}`")
            } else {
                format!("`{text}` is a registry and no image; taken for all of its images")
            },
        );
    }
    hosts(bare, at, notes)
        .into_iter()
        .map(|it| format!("{it}/**"))
        .collect()
}

/// The registries that the first segment means.
fn hosts(first: &str, at: Span, notes: &mut Notes) -> Vec<String> {
    let mut host = first.to_owned();
    let is_port = host.ends_with(":*");
    if host.ends_with('*') && !is_port && is_registry(&host) && !host.ends_with(".*") {
        let bare = host.trim_end_matches('*').to_owned();
        notes.warning(
            at,
            "boundary",
            format!("`{first}/` also matches `{bare}.evil.example/`; taken for `{bare}/`"),
        );
        host = bare;
    }
    if let Some(domain) = host.strip_prefix("*.") {
        return vec![format!("**.{domain}")];
    }
    if let Some(domain) = host.strip_prefix('*').filter(|it| is_registry(it)) {
        notes.warning(
            at,
            "boundary",
            format!(
                "`{first}/` also matches `evil{domain}/`; taken for `{domain}` and what is under it"
            ),
        );
        return vec![domain.to_owned(), format!("**.{domain}")];
    }
    if host.contains('*') && !is_port {
        notes.warning(
            at,
            "label",
            format!("`*` in `{first}` stays inside one label of the registry's name here"),
        );
    }
    vec![host]
}

/// The patterns for the path: `*` at the end of it goes on into deeper paths, as Kyverno's does.
fn tails(segments: &[&str]) -> Vec<String> {
    let Some((last, before)) = segments.split_last() else {
        return vec!["**".to_owned()];
    };
    let mut path: Vec<String> = Vec::new();
    for segment in before {
        if segment.bytes().all(|it| it == b'*') {
            // At least one segment, and any number more.
            path.extend(["*".to_owned(), "**".to_owned()]);
        } else {
            path.push((*segment).to_owned());
        }
    }
    let path = |last: &str| {
        let mut path = path.clone();
        path.push(last.to_owned());
        path.join("/")
    };
    if last.bytes().all(|it| it == b'*') {
        return vec![path("**")];
    }
    if last.ends_with('*') {
        return vec![path(last), path(&format!("{last}/**"))];
    }
    vec![path(last)]
}

fn any_registry(text: &str, at: Span, notes: &mut Notes) {
    notes.warning(
        at,
        "any-registry",
        format!("`{text}` names no registry: such an image is let in from any registry there is"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Span = Span {
        start: 0,
        end: 0,
        line: 1,
        column: 1,
    };

    /// What a value becomes: patterns, and the codes of its notes.
    fn become_(text: &str) -> (String, String) {
        let mut notes = Notes::default();
        let images = images(text, AT, &mut notes);
        let approved = images.approved(&mut notes).unwrap_or_default().join(" ");
        let codes: Vec<_> = notes.finish().iter().map(|it| it.code).collect();
        (approved, codes.join(" "))
    }

    #[test]
    fn wildcards_become_what_their_authors_meant() {
        const ROWS: [(&str, &str, &str); 41] = [
            ("registry.io/*", "registry.io/**", ""),
            ("eu.foo.io/* | bar.io/*", "eu.foo.io/** bar.io/**", ""),
            (
                "https://private.registry.io/*",
                "private.registry.io/**",
                "scheme",
            ),
            ("docker://reg.io/*", "reg.io/**", "scheme"),
            ("*/nirmata/*", "*/nirmata/**", "any-registry"),
            ("*/a/b/*", "*/a/b/**", "any-registry"),
            ("*/nginx", "**/nginx", "any-registry"),
            ("*/nginx:*", "**/nginx", "any-registry"),
            ("registry.io*", "registry.io/**", "boundary"),
            ("registry.io", "registry.io/**", "boundary any-tag"),
            ("registry.io/", "registry.io/**", "any-tag"),
            ("reg.io*/*", "reg.io/**", "boundary"),
            ("*.example.com/*", "**.example.com/**", ""),
            (
                "*example.com/*",
                "example.com/** **.example.com/**",
                "boundary",
            ),
            ("reg.example.*/*", "reg.example.*/**", "label"),
            (
                "*.dkr.ecr.*.amazonaws.com/*",
                "**.dkr.ecr.*.amazonaws.com/**",
                "",
            ),
            ("localhost:5000/*", "localhost:5000/**", ""),
            ("reg.io:*/*", "reg.io:*/**", ""),
            ("reg.io/team/*", "reg.io/team/**", ""),
            ("reg.io/team-*", "reg.io/team-* reg.io/team-*/**", ""),
            ("reg.io/*/app", "reg.io/*/**/app", ""),
            ("reg.io/*/*", "reg.io/*/**/**", ""),
            ("reg.io/app:*", "reg.io/app", ""),
            ("reg.io/app:1.*", "reg.io/app:1.*", ""),
            ("reg.io/*:v1", "reg.io/**:v1", ""),
            ("reg.io/*:*", "reg.io/**", ""),
            ("reg.io/app", "reg.io/app", "any-tag"),
            ("nirmata/*", "nirmata/**", ""),
            ("nginx", "nginx", "any-tag"),
            ("nginx:*", "nginx", ""),
            ("nginx*", "nginx*", "boundary"),
            ("*@*", "**@sha256:*", ""),
            ("reg.io/*@sha256:*", "reg.io/**@sha256:*", ""),
            ("*", "**", "everything"),
            ("?*", "**", "everything"),
            ("*:latest", "", "tag"),
            ("!*:latest", "", "tag"),
            ("*:*", "", "tag"),
            ("reg.io/* & !*:latest", "reg.io/**", "tag"),
            ("!bad.io/*", "", "refuses-some"),
            ("reg.io/ap?", "", "wildcard"),
        ];
        for (text, patterns, codes) in ROWS {
            let (found, said) = become_(text);
            assert_eq!((found.as_str(), said.as_str()), (patterns, codes), "{text}");
        }
    }
}
