//! Checks that messages never use a parser's words, for any broken text.

use crate::Severity;
use crate::document::load;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Words of the parsers of YAML, JSON and expressions, which do not help users.
const FOREIGN: &[&str] = &[
    "scalar",
    "sequence",
    "anchor",
    "EOF",
    "eof",
    "flow mapping",
    "block mapping",
    "flow sequence",
    "block collection",
    "block entry",
    "block sequence",
    "node content",
    "while parsing",
    "while scanning",
    "did not find",
    "document start",
    "stream-start",
    "indicator",
    "plain text",
    "mapping values",
    "mapping keys",
    "simple key",
    "disallowed",
    "misplaced",
    "mismatched",
    "trailing content",
    "unexpected",
    "invalid type",
    "invalid value",
    "invalid length",
    "unknown variant",
    "unknown field",
    "missing field",
    "duplicate field",
    "duplicate entry",
    "expected struct",
    "expected unit",
    "at line",
    "trailing characters",
    "i32",
    "i64",
    "u32",
    "u64",
    "f64",
    "untagged",
    "data did not match",
    "variant",
    "unclosed group",
    "unopened group",
    "character class",
    "repetition operator",
    "look-around",
    "backreference",
    "escape sequence",
    "NFA",
    "DFA",
    "deserializ",
    "recursion",
    "lookahead",
    "surrogate",
    "tag handle",
    "directive",
];

/// Checks that a message about `text` has none of these words.
pub(super) fn assert_is_ours(text: &str, message: &str) {
    for word in FOREIGN {
        // Words that the text itself contains may be repeated.
        assert!(
            !message.contains(word) || text.contains(word),
            "`{word}` in:\n{message}"
        );
    }
}

const GOOD: [&str; 3] = [
    include_str!("../../../../deploy/examples/policy.yaml"),
    include_str!("../../../../deploy/examples/pull-secrets.yaml"),
    "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata:\n  name: corp\nspec:\n  priority: 10\n  match:\n    namespaceSelector:\n      matchLabels: {team: a}\n    objectSelector:\n      matchExpressions:\n      - {key: tier, operator: NotIn, values: [system]}\n    nodeLevel: false\n  rules:\n  - name: quay\n    regex: '^quay\\.io/(.*)$'\n    to: r.io/quay/$1\n  - {name: hub, from: \"docker.io/**\", to: r.io/hub}\n  approved: [\"r.io/**\", 's.io/**']\n  exceptions:\n  - pattern: ghcr.io/acme/debug\n    until: 2027-01-31\n    reason: INC-1234\n  message: \"Only ours, please\"\n",
];

/// Pieces that break a text in ways that each have a parser's message.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "\n",
    "\t",
    ":",
    ": ",
    "- ",
    "-",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "#",
    " #",
    "*",
    "&",
    "&a ",
    "*a",
    "!",
    "!x ",
    "!!int ",
    "%",
    "@",
    "`",
    "|",
    ">",
    "|x",
    "? ",
    "---",
    "\n---\n",
    "...",
    "\\",
    "\\q",
    "\\u12",
    "<<: ",
    "null",
    "true",
    "1",
    "-5.5",
    "~",
    "(",
    ")",
    "?",
    "$",
    "${",
    "+",
    "(?",
    "\\1",
    "\\p",
    "*.a",
    "{{ x }}",
    "\u{feff}",
    "\u{1}",
    "é",
    "99999999999999999999",
    "\r",
    "from: ",
    "  x: y\n",
    "[1, {a: b}]",
];

#[derive(Debug, Clone)]
struct Change {
    at: prop::sample::Index,
    removed: usize,
    piece: usize,
}

fn mutated(text: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for it in changes {
        let at = it.at.index(chars.len() + 1);
        let end = (at + it.removed).min(chars.len());
        drop(chars.splice(at..end, PIECES[it.piece].chars()));
    }
    chars.into_iter().collect()
}

#[test]
fn no_words_of_a_parser_reach_a_user() {
    let change = (any::<prop::sample::Index>(), 0..8_usize, 0..PIECES.len());
    let change = change.prop_map(|(at, removed, piece)| Change { at, removed, piece });
    let texts = (0..GOOD.len(), prop::collection::vec(change, 1..4));
    let config = Config {
        cases: 1500,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[17; 32]);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let mut refused = std::cell::Cell::new(0);
    runner
        .run(&texts, |(good, changes)| {
            let text = mutated(GOOD[good], &changes);
            if let Err(found) = load("p.yaml", &text) {
                refused.set(refused.get() + 1);
                for it in &found {
                    assert!(it.help.is_some() || it.severity < Severity::Error, "{it}");
                    assert_is_ours(&text, &format!("{it}\n{}", it.at_field()));
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(*refused.get_mut() > 500, "the changes break texts");
}
