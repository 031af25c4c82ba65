//! Converts shell patterns on the text of an image to regular expressions on its canonical form.

use crate::maps_engine::Glob;
use crate::reference::is_registry;

/// What people omit from the canonical form of images on Docker Hub.
const HUB: &str = r"docker\.io/(?:library/)?";

/// Regular expressions that together match what the pattern matches, each with the last path segment captured.
///
/// `*` crosses `/` in the pattern, so the last `/` of an image may be one of the pattern's or lie
/// within any later `*`: one expression for each.
pub(super) fn last_segments(glob: &Glob) -> Vec<String> {
    let parts = glob.to_regexes();
    // A pattern that begins with `*` also matches the omitted parts.
    let hub = !names_registry(glob) && !glob.as_str().starts_with('*');
    let optional = if hub {
        format!("(?:{HUB})?")
    } else {
        String::new()
    };
    let slash = parts.iter().rposition(|it| it.any == "/");
    let after = slash.map_or(0, |it| it + 1);
    let before = |end: usize| -> String { parts[..end].iter().map(|it| it.any.as_str()).collect() };
    let last =
        |start: usize| -> String { parts[start..].iter().map(|it| it.within.as_str()).collect() };
    let mut found = Vec::new();
    if let Some(slash) = slash {
        found.push(format!("{optional}{}/({})", before(slash), last(after)));
    } else if hub {
        found.push(format!("{HUB}({})", last(0)));
    }
    let runs = (after..parts.len()).filter(|&it| parts[it].any == ".*");
    found.extend(runs.map(|at| format!("{optional}{}.*/({})", before(at), last(at))));
    found
}

/// Whether all matches of the pattern are on one registry, which it spells out.
pub(super) fn names_registry(glob: &Glob) -> bool {
    let first = glob.as_str().split_once('/').map(|(first, _)| first);
    first.is_some_and(|it| is_registry(it) && !it.contains(['*', '?', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_expression_for_each_place_of_the_last_slash() {
        for (pattern, expected) in [
            ("ghcr.io/a", &[r"ghcr\.io/(a)"][..]),
            (
                "ghcr.io/public*",
                &[r"ghcr\.io/(public[^/]*)", r"ghcr\.io/public.*/([^/]*)"],
            ),
            ("*", &[".*/([^/]*)"]),
            ("*/n?", &[r".*/(n[^/])"]),
            ("n[!a]", &[r"docker\.io/(?:library/)?(n[^a/])"]),
            (
                "team/a*",
                &[
                    r"(?:docker\.io/(?:library/)?)?team/(a[^/]*)",
                    r"(?:docker\.io/(?:library/)?)?team/a.*/([^/]*)",
                ],
            ),
        ] {
            assert_eq!(last_segments(&Glob::new(pattern)), expected, "{pattern}");
        }
    }
}
