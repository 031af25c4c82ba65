//! Messages: which texts get them, where, and with what wording.

use super::*;

#[test]
fn every_trap_has_its_message() {
    for (maps, place, code) in [
        ("default::\nquay.io\n", (2, 1, 7), "no-separator"),
        ("default::\nr.io;m.io\n", (2, 1, 9), "no-separator"),
        ("default::\n  a::b::c # x\n", (2, 3, 7), "many-separators"),
        ("default:d.io:5000\n", (1, 1, 17), "many-separators"),
        ("default::\n::m.io\n", (2, 1, 0), "empty-key"),
        ("default::\n[EXACT]::m.io/x\n", (2, 1, 7), "empty-key"),
        (
            "default::\n[PREFIX]::m.io/x\n",
            (2, 1, 8),
            "unknown-section",
        ),
        ("default::https://d.io\n", (1, 10, 12), "unusable-value"),
        ("default:::d.io\n", (1, 10, 5), "unusable-value"),
        ("default::d.io/a\\1b\n", (1, 10, 9), "unusable-value"),
        ("default::d.io # see #5\n", (1, 10, 10), "unusable-value"),
        (
            "default::\n[EXACT]nginx::Nginx\n",
            (2, 15, 5),
            "unusable-value",
        ),
        (
            "default::\n[REPLACE]n*::m.io/x-\n",
            (2, 14, 7),
            "unusable-value",
        ),
    ] {
        let error = load("maps.conf", maps).expect_err(maps);
        let found = &error.0[0];
        assert_eq!(
            (found.line, found.column, found.length),
            place,
            "{maps}\n{error}"
        );
        assert_eq!(
            (found.code, found.severity, found.source.as_str()),
            (code, Severity::Error, "maps.conf"),
            "{maps}"
        );
        let warnings = load_with("maps.conf", maps, &tolerant()).unwrap().warnings;
        assert!(
            warnings
                .iter()
                .any(|it| it.code == code && it.severity == Severity::Warning),
            "{maps}"
        );
    }
    for (maps, place, code) in [
        ("quay.io::m.io\n", (1, 1, 7), "missing-default"),
        ("Default::m.io\n", (1, 1, 7), "key-case"),
        ("default::\nQUAY.io::\n", (2, 1, 7), "key-case"),
        ("default::\nquay.io/team::m.io\n", (2, 1, 12), "unused-key"),
        (
            "default::\nquay.io/library::m.io\n",
            (2, 1, 15),
            "unused-key",
        ),
        ("default::\n*.gcr.io::m.io\n", (2, 1, 8), "unused-key"),
        ("default::\nquay::m.io\n", (2, 1, 4), "unused-key"),
        ("default::\nreg:5000::m.io\n", (2, 1, 8), "unused-key"),
        (
            "default::\n[EXACT]Nginx::m.io/n\n",
            (2, 1, 12),
            "unused-key",
        ),
        ("default::\nquay.io::m.io/\n", (2, 10, 5), "trailing-slash"),
        ("default::\n[EXACT]nginx::\n", (2, 15, 0), "empty-value"),
        ("default::d.io\ndefault::e.io\n", (2, 1, 7), "duplicate-key"),
        (
            "default::d.io\nnoswap_wildcards::a.io,\n",
            (2, 23, 1),
            "empty-item",
        ),
        (
            "default::d.io\nnoswap_wildcards::*.a.io\n",
            (2, 19, 6),
            "pattern-item",
        ),
        (
            "default::d.io\nnoswap_wildcards::1.25\n",
            (2, 19, 4),
            "loose-item",
        ),
        ("default::\n\tquay.io::m.io\n", (2, 1, 8), "tab"),
        ("\tdefault::d.io\n", (1, 1, 8), "tab"),
        ("default::\n[REPLACE]a\tb*::m.io\n", (2, 1, 13), "tab"),
        (
            "default::d.io\nnoswap_wildcards::a.io,\tb.io\n",
            (2, 24, 5),
            "tab",
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io, b.io # see #5\n",
            (2, 25, 10),
            "second-hash",
        ),
        (
            "default::\nquay.io # our #1::m.io # x\n",
            (2, 1, 16),
            "second-hash",
        ),
        ("default::\nhttps://quay.io::m.io\n", (2, 1, 15), "scheme"),
        (
            "default::\n[REPLACE]https://quay.io/*::m.io\n",
            (2, 1, 26),
            "scheme",
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io,https://b.io\n",
            (2, 24, 12),
            "scheme",
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io b.io, c.io\n",
            (2, 19, 9),
            "inner-space",
        ),
        ("default::d.io /x\n", (1, 10, 7), "inner-space"),
        ("default::\n[EXACT] a b::m.io/a\n", (2, 9, 3), "inner-space"),
        (
            "default::\n[REPLACE]quay.io/Team/*::m.io\n",
            (2, 1, 23),
            "impossible-pattern",
        ),
        (
            "default::\n[REPLACE]q*::m.io\n[REPLACE]quay.io/*::n.io\n",
            (3, 1, 18),
            "unreachable-rule",
        ),
        (
            "default::\n[REPLACE]quay.io/*::n.io\nquay.io::m.io\n",
            (3, 1, 7),
            "unreachable-rule",
        ),
        (
            "default::\n[REPLACE]nginx::n.io\n[EXACT]nginx::m.io/n\n",
            (2, 1, 14),
            "unreachable-rule",
        ),
        (
            "default::d.io\n[REPLACE]*::n.io\n",
            (1, 1, 7),
            "unreachable-rule",
        ),
        (
            "default::d.io\nquay.io::d.io\nnoswap_wildcards::a.io, quay.io/a\n",
            (3, 25, 9),
            "shadowed-item",
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io,docker.io\n",
            (2, 24, 9),
            "implicit-registry",
        ),
        (
            "default::\nnoswap_wildcards::a.io\n",
            (2, 1, 16),
            "unused-noswap",
        ),
        (
            "default::d.io\nnoswap_wildcards::a.io,.\n",
            (2, 24, 1),
            "loose-item",
        ),
        (
            "default::d.io\nnoswap_wildcards::.a.io\n",
            (2, 19, 5),
            "loose-item",
        ),
        (
            "default::d.io\nnoswap_wildcards::A.io\n",
            (2, 19, 4),
            "key-case",
        ),
    ] {
        let warnings = load("maps.conf", maps)
            .unwrap_or_else(|it| panic!("{maps}\n{it}"))
            .warnings;
        let found = warnings
            .iter()
            .find(|it| it.code == code)
            .unwrap_or_else(|| panic!("{maps}\n{warnings}"));
        assert_eq!(
            (found.line, found.column, found.length),
            place,
            "{maps}\n{warnings}"
        );
    }
    let warnings = load("maps.conf", SEED).unwrap().warnings;
    assert!(warnings.is_empty(), "{warnings}");
    let warnings = load("maps.conf", "default::\nreg:5000::m.io\ndocker.io::\n")
        .unwrap()
        .warnings;
    assert!(warnings.is_empty(), "{warnings}");
}

#[test]
fn a_missing_separator_is_put_where_it_was_meant() {
    for (line, help) in [
        ("r.io;m.io", "write `r.io::m.io`"),
        ("r.io = m.io", "write `r.io::m.io`"),
        ("r.io m.io # c", "write `r.io::m.io`"),
        (
            "r.io # c",
            "write `r.io::` to keep what is under it, or begin a comment with `#`",
        ),
        ("r.io:5000:m.io/p", "write `r.io:5000::m.io/p`"),
        ("default:m.io:5000", "write `default::m.io:5000`"),
        (
            "default:https://m.io",
            "write `default::m.io`: a reference has no scheme",
        ),
        (
            "https://r.io:m.io",
            "write `r.io::m.io`: a reference has no `https://`",
        ),
        (
            " # see #5",
            "only the last run of `#` begins a comment: leave one, or begin the line with it",
        ),
    ] {
        let error = load("maps.conf", line).unwrap_err();
        assert_eq!(error.0[0].help.as_deref(), Some(help), "{line}");
    }
}

#[test]
fn a_message_shows_its_place() {
    let error = load("maps.conf", "default::d.io\n\tquay.io::https://m.io/ # x\n").unwrap_err();
    let text = error.to_string();
    assert_eq!(
        text.split("\n\n").last().unwrap(),
        "error[unusable-value]: expected `registry[:port][/path]`, found `https://m.io/`, which begins no image reference
 --> maps.conf:2:11
  |
2 |  quay.io::https://m.io/ # x
  |           ^^^^^^^^^^^^^
  = help: write `m.io`: a reference has no scheme"
    );
    assert!(
        error
            .0
            .last()
            .unwrap()
            .summary()
            .starts_with("maps.conf:2:11: error[unusable-value]: expected")
    );
}
