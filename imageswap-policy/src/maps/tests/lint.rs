//! The linter's notes; it names every trap.

use super::*;
use crate::Severity;
use std::collections::BTreeSet;

/// The subject of a row's note.
enum Complaint {
    /// The maps text: lint reports one of these codes.
    OfMaps(&'static [&'static str]),
    /// The image, or ImageSwap's answer to the API server, not the maps text.
    OfElse,
}

/// Every phrase in notes, by its beginning, with lint's expected codes.
fn complaint(phrase: &str) -> Option<Complaint> {
    use Complaint::{OfElse, OfMaps};
    // Each beginning stands for one kind of phrase; the rest of a phrase names registries and results.
    let known: [(&str, Complaint); 23] = [
        (
            "quirk (pinned by its own tests): the old port",
            OfMaps(&["old-port"]),
        ),
        ("quirk: LEGACY drops", OfMaps(&["dropped-path"])),
        ("quirk: docker.io alias", OfMaps(&["registry-alias"])),
        ("quirk: no default key", OfMaps(&["missing-default"])),
        (
            "quirk: noswap wildcard is tested on the raw",
            OfMaps(&["implicit-registry"]),
        ),
        (
            "quirk: noswap wildcard matched outside",
            OfMaps(&["substring-item", "loose-item"]),
        ),
        ("quirk: prefix found elsewhere", OfMaps(&["substring-item"])),
        (
            "quirk: same image as the bare library name",
            OfMaps(&["library-spelling"]),
        ),
        (
            "quirk: not idempotent",
            OfMaps(&["second-pass", "empty-value", "unusable-value"]),
        ),
        ("first pass of ImageSwap", OfElse),
        ("lies under a target of the file", OfMaps(&["second-pass"])),
        // The response reports a change although nothing changed.
        ("quirk: reported as swapped although unchanged", OfElse),
        ("quirk: input is not a valid reference", OfElse),
        ("peer-bug: '", OfMaps(&["dotless-registry"])),
        (
            "peer-bug: default with trailing dash",
            OfMaps(&["mirror-default"]),
        ),
        ("peer-bug: empty EXACT target", OfMaps(&["empty-value"])),
        ("peer-bug: empty wildcard item", OfMaps(&["empty-item"])),
        (
            "peer-bug: old port appended to a path",
            OfMaps(&["old-port"]),
        ),
        ("peer-bug: port strip is greedy", OfMaps(&["mirror-port"])),
        ("peer-bug: raises KeyError", OfMaps(&["library-alone"])),
        (
            "peer-bug: raises error: invalid group reference",
            OfMaps(&["unusable-value"]),
        ),
        (
            "peer-bug: result is not a valid image reference",
            OfMaps(&[
                "dotless-registry",
                "empty-value",
                "mirror-default",
                "old-port",
                "trailing-slash",
                "unusable-value",
            ]),
        ),
        ("peer-bug: unanchored regex", OfMaps(&["repeated-name"])),
    ];
    let known = known
        .into_iter()
        .find(|(start, _)| phrase.starts_with(start));
    known.map(|(_, complaint)| complaint)
}

fn codes(row: &Value) -> BTreeSet<&'static str> {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let found = if text("mode").eq_ignore_ascii_case("maps") {
        lint("row", text("maps"))
    } else {
        lint_prefix("row", text("image_prefix"))
    };
    found.iter().map(|it| it.code).collect()
}

#[test]
fn every_complaint_of_a_measured_answer_is_named() {
    let mut named = 0;
    for file in ["imageswap_maps.jsonl", "imageswap_maps_invariants.jsonl"] {
        for row in crate::testing::rows(file).unwrap_or_default() {
            let Some(note) = row["note"].as_str() else {
                continue;
            };
            let codes = codes(&row);
            for phrase in note.split("; ") {
                // A text that is not an image is never swapped here, so a second pass makes no
                // difference.
                if note.contains("input is not a valid reference") {
                    assert!(complaint(phrase).is_some(), "{phrase}");
                    continue;
                }
                match complaint(phrase) {
                    Some(Complaint::OfMaps(any)) => {
                        assert!(
                            any.iter().any(|it| codes.contains(it)),
                            "{phrase}\n{row}\n{codes:?}"
                        );
                        named += 1;
                    }
                    Some(Complaint::OfElse) => {}
                    None => panic!("nobody has said what lint makes of `{phrase}`"),
                }
            }
        }
    }
    assert!(named == 0 || named > 300, "{named}");
}

/// The smallest text for each kind of message, with the place of its first message.
const SMALLEST: &[(&str, (usize, usize, usize), &str)] = &[
    ("default::\na.io::\nquay.io\n", (3, 1, 7), "no-separator"),
    ("default:d.io:5000\n", (1, 1, 17), "many-separators"),
    ("default::\n::m.io\n", (2, 1, 0), "empty-key"),
    ("default::\n[PREFIX]::m.io\n", (2, 1, 8), "unknown-section"),
    ("default::https://d.io\n", (1, 10, 12), "unusable-value"),
    ("quay.io::m.io\n", (1, 1, 7), "missing-default"),
    ("default::\nquay.io/team::\n", (2, 1, 12), "unused-key"),
    ("default::\nQUAY.io::\n", (2, 1, 7), "key-case"),
    ("default::\ndefault::\n", (2, 1, 7), "duplicate-key"),
    ("default::\nhttps://a.io::\n", (2, 1, 12), "scheme"),
    ("default::\n\ta.io::\n", (2, 1, 5), "tab"),
    ("default::\na.io # b::# c\n", (2, 1, 8), "second-hash"),
    ("default::\na .io::\n", (2, 1, 5), "inner-space"),
    (
        "default::\n[REPLACE]a//*::\n",
        (2, 1, 13),
        "impossible-pattern",
    ),
    ("default::\n[REPLACE]*::\n", (1, 1, 7), "unreachable-rule"),
    ("default::\n[EXACT]nginx::\n", (2, 15, 0), "empty-value"),
    ("default::\nquay.io::m.io/\n", (2, 10, 5), "trailing-slash"),
    (
        "default::d.io\nnoswap_wildcards::a.io,,b.io\n",
        (2, 24, 1),
        "empty-item",
    ),
    (
        "default::d.io\nnoswap_wildcards::a.io,*.b.io\n",
        (2, 24, 6),
        "pattern-item",
    ),
    (
        "default::d.io\nnoswap_wildcards::a.io,b\n",
        (2, 24, 1),
        "loose-item",
    ),
    (
        "default::d.io\na.io::d.io/a\nnoswap_wildcards::a.io\n",
        (3, 19, 4),
        "shadowed-item",
    ),
    (
        "default::d.io\nnoswap_wildcards::docker.io\n",
        (2, 19, 9),
        "implicit-registry",
    ),
    (
        "default::\nnoswap_wildcards::a.io\n",
        (2, 1, 16),
        "unused-noswap",
    ),
    (
        "default::\na.io::m.io\nb.io::m.io/\n",
        (3, 7, 5),
        "merged-registries",
    ),
    ("# nothing\n", (1, 1, 1), "empty-file"),
    ("\u{feff}default::\n", (1, 1, 1), "byte-order-mark"),
    ("default:\na.io:\n", (1, 1, 7), "single-colon"),
    (
        "default::\n[EXACT]nginx::m.io/n\n",
        (2, 1, 12),
        "exact-spelling",
    ),
    ("default::\n[REPLACE]a*::m.io\n", (2, 14, 4), "dropped-path"),
    (
        "default::d.io\nnoswap_wildcards::b, a.io\n",
        (2, 22, 4),
        "substring-item",
    ),
    (
        "default::\ndocker.io/library::\n",
        (2, 1, 17),
        "library-spelling",
    ),
    (
        "default::\ndocker.io/library::\n",
        (2, 1, 17),
        "library-alone",
    ),
    ("default::\ndocker.io::m.io\n", (2, 1, 9), "registry-alias"),
    ("default::d.io\n", (1, 10, 4), "dotless-registry"),
    (
        "default::d.io\nreg:5000::m.io\nm.io::\n",
        (2, 1, 8),
        "dotless-key",
    ),
    ("default::\nquay.io::m.io/a\n", (2, 10, 6), "old-port"),
    ("default::\nquay.io::m.io/a-\n", (2, 10, 7), "mirror-port"),
    ("default::m.io/a-\n", (1, 10, 7), "mirror-default"),
    ("default::\nquay.io::m.io/a\n", (2, 10, 6), "repeated-name"),
    ("default::d.io/a\n", (1, 10, 6), "second-pass"),
];

#[test]
fn each_kind_of_message_has_its_place() {
    for &(text, place, code) in SMALLEST {
        let found = lint("maps.conf", text);
        let first = found.iter().find(|it| it.code == code);
        let first = first.unwrap_or_else(|| panic!("{code}\n{text}\n{found}"));
        assert_eq!(
            (first.line, first.column, first.length),
            place,
            "{code}\n{found}"
        );
        let check = CHECKS.iter().find(|it| it.code == code).expect(code);
        assert_eq!(first.severity, check.severity, "{code}");
        let sentence = &first.message;
        assert!(!sentence.ends_with('.'), "{sentence}");
        assert!(
            !sentence.starts_with(|it: char| it.is_ascii_uppercase() && it != 'I'),
            "{sentence}"
        );
    }
    let shown: BTreeSet<_> = SMALLEST.iter().map(|it| it.2).collect();
    let all: BTreeSet<_> = CHECKS.iter().map(|it| it.code).collect();
    assert_eq!(shown, all);
    assert_eq!(all.len(), CHECKS.len());
}

#[test]
fn a_clean_file_has_no_message() {
    for text in [
        "default::\n",
        "# c\ndefault::\nquay.io::\nm.example.com::  # ours\n",
    ] {
        let found = lint("maps.conf", text);
        assert!(found.is_empty(), "{text}\n{found}");
    }
    // A prefix that swaps differs from ImageSwap only for odd images.
    let found = lint("maps.conf", "default::\nh.io:443::m.io:8443\nm.io:8443::\n");
    let codes: Vec<_> = found.iter().map(|it| it.code).collect();
    assert_eq!(codes, ["repeated-name"], "{found}");
}

#[test]
fn loading_reports_no_notes() {
    let text = "default:d.io/a\ndocker.io:d.io/hub\n[EXACT]a::d.io/a/b\n";
    let severe = |it: &Diagnostics| it.iter().filter(|it| it.severity > Severity::Note).count();
    let linted = lint("maps.conf", text);
    assert!(linted.0.len() > 5, "{linted}");
    let loaded = load("maps.conf", text).unwrap().warnings;
    assert_eq!(loaded.0.len(), severe(&loaded), "{loaded}");
    assert_eq!(loaded.0.len(), severe(&linted), "{linted}");
}

#[test]
fn the_legacy_prefix_is_linted() {
    let codes = |prefix: &str| -> Vec<_> {
        let found = lint_prefix("IMAGE_PREFIX", prefix);
        found.iter().map(|it| it.code).collect()
    };
    assert_eq!(codes(""), [""; 0]);
    assert_eq!(codes("r.io"), ["substring-item", "dropped-path"]);
    assert_eq!(codes("r.io/a-"), ["substring-item", "mirror-port"]);
    assert!(codes("r.io/").contains(&"trailing-slash"));
    assert!(codes("https://r.io").contains(&"unusable-value"));
}

#[test]
fn notes_give_an_example() {
    for (text, code, message) in [
        (
            "default::d.io/a\n",
            "second-pass",
            "the Python ImageSwap would make `d.io/a/a/team/image` of `d.io/a/team/image` on the next update; here it stays",
        ),
        (
            "default::\nquay.io::m.io/a\ngcr.io::m.io/b\n",
            "old-port",
            "the Python ImageSwap makes `m.io/a:443/a` of `quay.io:443/a`; here the port is left out (1 more line like this)",
        ),
        (
            "default::\na.io::m.io\nb.io::m.io\n",
            "merged-registries",
            "`b.io/a/b` becomes `m.io/a/b`, and so does `a.io/a/b` by line 2",
        ),
        (
            "default::\n[EXACT]docker.io/library/a:1::m.io/a\n",
            "exact-spelling",
            "only this very text is meant, not the same image written as `a:1`",
        ),
    ] {
        let found = lint("maps.conf", text);
        let first = found.iter().find(|it| it.code == code).expect(code);
        assert_eq!(first.message, message);
    }
}
