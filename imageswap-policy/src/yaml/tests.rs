//! Content and places of the tree.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::fmt::Write;

fn one(text: &str) -> Node {
    let mut nodes = parse("test.yaml", text).unwrap();
    assert_eq!(nodes.len(), 1, "{text:?}");
    nodes.remove(0)
}

/// Every value of a tree, keys included.
fn all(node: &Node) -> Vec<&Node> {
    let mut found = vec![node];
    found.extend(node.items().iter().flat_map(all));
    for (key, value) in node.entries() {
        found.extend(all(key));
        found.extend(all(value));
    }
    found
}

#[test]
fn values_are_those_of_the_same_json() {
    let rows = [
        (
            "a: 1\nb: [x, 'y', \"z\\n\"]\nc:\n",
            json!({"a": 1, "b": ["x", "y", "z\n"], "c": null}),
        ),
        (
            "{\n\t\"a\": \"b\\/c\",\r\n\t\"é\":[{}]}\n",
            json!({"a": "b/c", "é": [{}]}),
        ),
        ("1: a\ntrue: b\n", json!({"1": "a", "true": "b"})),
        (
            "a: &x {k: v}\nb: *x\nc: [*x]\n",
            json!({"a": {"k": "v"}, "b": {"k": "v"}, "c": [{"k": "v"}]}),
        ),
        (
            "d: &d {a: 1, b: 2}\ne:\n  <<: *d\n  b: 3\nf:\n  <<: [{a: 4}, *d]\n",
            json!({"d": {"a": 1, "b": 2}, "e": {"b": 3, "a": 1}, "f": {"a": 4, "b": 2}}),
        ),
        ("'<<': 1\n", json!({"<<": 1})),
        ("|-\n  a\n  b\n", json!("a\nb")),
        (">\n  a\n  b\n", json!("a b\n")),
        ("\u{feff}a: b\n", json!({"a": "b"})),
        ("!!str 1", json!("1")),
    ];
    for (text, expected) in rows {
        assert_eq!(one(text).to_json(), expected, "{text:?}");
    }
}

#[test]
fn documents_are_told_apart() {
    let count = |text: &str| parse("t", text).unwrap().len();
    assert_eq!(count(""), 0);
    assert_eq!(count("# nothing\n"), 0);
    assert_eq!(count("---\n---\na: b\n...\n---\nc\n"), 3);
    let error = parse("t", "a: &x 1\n---\nb: *x\n").unwrap_err().0.remove(0);
    assert_eq!((error.line, error.column, error.code), (3, 4, SYNTAX));
}

#[test]
fn json_objects_may_follow_each_other() {
    let text = "{\"a\": \"é\"} {\"b\":\n1}\n\n {\"c\": \"x\"}{}\n---\nd: e\n";
    let nodes = parse("t", text).unwrap();
    let values: Vec<_> = nodes.iter().map(Node::to_json).collect();
    let expected = [
        json!({"a": "é"}),
        json!({"b": 1}),
        json!({"c": "x"}),
        json!({}),
        json!({"d": "e"}),
    ];
    assert_eq!(values, expected);
    let at = |node: &Node| {
        (
            node.span.of(text).to_owned(),
            node.span.line,
            node.span.column,
        )
    };
    assert_eq!(at(&nodes[1]), ("{\"b\":\n1}".to_owned(), 1, 12));
    assert_eq!(at(nodes[1].get("b").unwrap()), ("1".to_owned(), 2, 1));
    assert_eq!(at(nodes[2].get("c").unwrap()), ("\"x\"".to_owned(), 4, 8));
    assert_eq!(at(&nodes[3]), ("{}".to_owned(), 4, 12));
    assert_eq!(at(nodes[4].get("d").unwrap()), ("e".to_owned(), 6, 4));

    for (text, line, column) in [
        ("{}\na: b\n", 2, 1),
        ("{}\n[]\n", 2, 1),
        ("a: b\n{}\n", 2, 1),
        ("{} {", 1, 4),
        ("{}{\n]", 1, 3),
    ] {
        let error = parse("t", text).unwrap_err().0.remove(0);
        assert_eq!(
            (error.line, error.column),
            (line, column),
            "{text:?}: {}",
            error.message
        );
    }
    let many = "{\"a\":1}\n".repeat(20_000);
    assert_eq!(parse("t", &many).unwrap().len(), 20_000);
}

#[test]
fn places_are_those_of_the_text() {
    let text = "# c\nl:\n  - image: \"é:1\"  # d\n    'n' : plain  text \n\
                b: |-\r\n  block\r\n\r\nf: &x !!str {a: [1, 2]}\ng: *x\nh:\nm: 'a\n  b'\n";
    let node = one(text);
    let at = |node: &Node| {
        (
            node.span.of(text).to_owned(),
            node.span.line,
            node.span.column,
        )
    };
    let item = &node.get("l").unwrap().items()[0];
    assert_eq!(
        at(item.get("image").unwrap()),
        ("\"é:1\"".to_owned(), 3, 12)
    );
    assert_eq!(at(&item.entries()[1].0), ("'n'".to_owned(), 4, 5));
    assert_eq!(
        at(item.get("n").unwrap()),
        ("plain  text".to_owned(), 4, 11)
    );
    assert_eq!(
        item.span.of(text),
        "image: \"é:1\"  # d\n    'n' : plain  text"
    );
    assert_eq!(at(node.get("b").unwrap()), ("block".to_owned(), 6, 3));
    assert_eq!(
        at(node.get("f").unwrap()),
        ("{a: [1, 2]}".to_owned(), 8, 13)
    );
    assert_eq!(at(node.get("g").unwrap()), at(node.get("f").unwrap()));
    assert_eq!(at(node.get("h").unwrap()), (String::new(), 10, 2));
    assert_eq!(at(node.get("m").unwrap()), ("'a\n  b'".to_owned(), 11, 4));
    assert_eq!(node.span.of(text), text[4..].trim_end());
}

#[test]
fn errors_say_what_and_where() {
    let deep = format!("{}1{}", "[".repeat(129), "]".repeat(129));
    let rows: [(&str, &str, usize, usize, &str); 12] = [
        ("a: b: c\n", SYNTAX, 1, 5, "a second `: ` in one line"),
        (
            "a: 'b\n",
            SYNTAX,
            1,
            4,
            "the quote `'` that opens here is not closed",
        ),
        ("a:\n\tb: c\n", SYNTAX, 2, 1, "a tab is in a place"),
        ("a: *b\n", SYNTAX, 1, 4, "marked `&b`"),
        (
            "é: \u{0}\n",
            SYNTAX,
            1,
            4,
            "the character \\u{0} is not allowed",
        ),
        (
            "a: 1\nb:\n  c: 1\n  \"c\": 2\n",
            "yaml-duplicate-key",
            4,
            3,
            "`c` is given twice",
        ),
        (
            "{1: a, \"1\": b}",
            "yaml-duplicate-key",
            1,
            8,
            "`1` is given twice",
        ),
        (
            "[a]: b\n",
            "yaml-key",
            1,
            1,
            "expected the name of a field, found a list",
        ),
        (
            "a: &a [*a]\n",
            "yaml-alias",
            1,
            8,
            "inside the value that it names",
        ),
        ("<<: [1]\n", "yaml-merge", 1, 6, "found a number"),
        (
            "<<: {a: 1}\n<<: {b: 1}\n",
            "yaml-duplicate-key",
            2,
            1,
            "`<<`",
        ),
        (&deep, "yaml-too-deep", 1, 129, "deeper than 128"),
    ];
    for (text, code, line, column, message) in rows {
        let error = parse("f.yaml", text).unwrap_err().0.remove(0);
        assert_eq!(
            (error.code, error.line, error.column),
            (code, line, column),
            "{text:?}: {}",
            error.message
        );
        assert!(
            error.message.contains(message),
            "{text:?}: {}",
            error.message
        );
        assert!(text.contains(&error.text), "{text:?}: {:?}", error.text);
        assert_eq!(error.source, "f.yaml");
    }
}

#[test]
fn bombs_are_refused() {
    let mut lists = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    let mut depths = "a0: &a0 [x]\n".to_owned();
    for at in 1..200 {
        let before = format!("*a{}", at - 1);
        let many = [before.as_str(); 10].join(", ");
        writeln!(lists, "a{at}: &a{at} [{many}]").unwrap();
        writeln!(depths, "a{at}: &a{at} [{before}]").unwrap();
    }
    let text = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*a, ".repeat(100)
    );
    let nested: Vec<_> = (0..100).map(|it| format!("&a{it} [")).collect();
    let nested = nested.concat();
    let anchors = format!("{}[{}]{}", nested, "x, ".repeat(1 << 14), "]".repeat(100));
    let keys: Vec<_> = (0..2000).map(|it| format!("k{it}: v, ")).collect();
    let merges = format!(
        "a0: &a0 {{{}}}\nb:\n{}",
        keys.concat(),
        "- {<<: *a0}\n".repeat(1000)
    );
    for (text, code) in [
        (&lists, "yaml-too-large"),
        (&text, "yaml-too-large"),
        (&anchors, "yaml-too-large"),
        (&merges, "yaml-too-large"),
        (&depths, "yaml-too-deep"),
        (&"- ".repeat(10_000), "yaml-too-deep"),
        (&"{a: ".repeat(10_000), "yaml-too-deep"),
    ] {
        let error = parse("bomb", text).unwrap_err().0.remove(0);
        assert_eq!(error.code, code, "{}", error.message);
    }
}

#[test]
fn long_texts_and_keys_are_read() {
    let key = "k".repeat(5000);
    let json = format!("{{\"{key}\":{{\"a\":[{}1]}}}}", "\"x\",".repeat(100_000));
    let node = one(&json);
    assert_eq!(node.entries()[0].1.get("a").unwrap().items().len(), 100_001);
}

/// Texts that look like YAML, and often are.
fn texts() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "a",
        "b",
        "a: ",
        "b:\n",
        "- ",
        "\n",
        "\n",
        "  ",
        "    ",
        "'x y'",
        "\"y\\n\\u00e9\"",
        "'",
        "\"",
        "|\n",
        "|-\n  t\n",
        ">+\n",
        "&a ",
        "*a",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "é",
        "# c\n",
        "<<: ",
        "---\n",
        "...\n",
        "\r\n",
        "\r",
        "!!str ",
        "!x ",
        "1",
        "~",
        "?",
        "\t",
        "\u{feff}",
        "%YAML 1.2\n",
        "\u{85}",
        "nginx:1.25",
        "\\",
        "@",
        "`",
        "\u{2028}",
    ]);
    let looks = prop::collection::vec(part, 0..24).prop_map(|it| it.concat());
    prop_oneof![4 => looks, 1 => any::<String>()]
}

/// A value, and one of its texts in flow style.
fn written() -> impl Strategy<Value = (serde_json::Value, String)> {
    let leaf = any::<String>().prop_map(|it| {
        let text = serde_json::to_string(&it).unwrap();
        (json!(it), text)
    });
    let number = any::<i32>().prop_map(|it| (json!(it), it.to_string()));
    let single = "[a-z #:,é\\[\\]]{0,8}".prop_map(|it| (json!(it), format!("'{it}'")));
    let plain = "[a-z]{1,5}[:/.][a-z]{1,5}".prop_map(|it| (json!(it), it));
    prop_oneof![leaf, number, single, plain].prop_recursive(4, 32, 4, |inner| {
        let list = prop::collection::vec((inner.clone(), " {0,2}"), 0..4).prop_map(|items| {
            let text: Vec<_> = items
                .iter()
                .map(|((_, it), gap)| format!("{gap}{it}{gap}"))
                .collect();
            let values: Vec<_> = items.into_iter().map(|((it, _), _)| it).collect();
            (json!(values), format!("[{}]", text.join(",")))
        });
        let map = prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|entries| {
            let text: Vec<_> = entries
                .iter()
                .map(|(key, (_, it))| format!("\"{key}\": {it}"))
                .collect();
            let values: Map<_, _> = entries
                .into_iter()
                .map(|(key, (it, _))| (key, it))
                .collect();
            (
                serde_json::Value::from(values),
                format!("{{{}}}", text.join(", ")),
            )
        });
        prop_oneof![list, map]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_is_too_strange(text in texts()) {
        match parse("t", &text) {
            Ok(nodes) => for node in nodes.iter().flat_map(all) {
                let Span { start, end, line, column } = node.span;
                prop_assert!(text.get(start..end).is_some(), "{node:?}");
                let shown = node.span.error("t", &text, SYNTAX, "");
                prop_assert!(shown.length >= 1);
                // A BOM that the parser skips has no column.
                if !text.contains('\u{feff}') {
                    let before: Vec<_> = text[..start].replace("\r\n", "\n").replace('\r', "\n")
                        .split('\n').map(|it| it.chars().count()).collect();
                    prop_assert_eq!((line, column), (before.len(), before[before.len() - 1] + 1));
                }
            },
            Err(errors) => for error in &errors {
                prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
            },
        }
    }

    #[test]
    fn a_place_holds_the_value_as_written((value, text) in written()) {
        let node = one(&text);
        prop_assert_eq!(node.to_json(), value);
        prop_assert_eq!(node.span.of(&text), text.trim());
        for node in all(&node) {
            prop_assert_eq!(one(node.span.of(&text)).to_json(), node.to_json());
        }
    }

    #[test]
    fn in_any_text_a_place_alone_reads_as_the_same_value(text in texts()) {
        for node in parse("t", &text).unwrap_or_default().iter().flat_map(all) {
            let alone = node.span.of(&text);
            let scalar = matches!(node.style, Style::Plain | Style::SingleQuoted | Style::DoubleQuoted);
            // A colon at the end is text only before another, and characters such as `?` are text
            // only in some places.
            let alone_on_its_line = scalar
                && !alone.is_empty()
                && !alone.contains(['\n', '\r'])
                // The value's place does not include its tag.
                && !text.contains('!')
                && (node.style != Style::Plain
                    || alone.starts_with(char::is_alphanumeric) && !alone.ends_with(':'));
            if alone_on_its_line {
                let item = one(&format!("- {alone}"));
                let again = item.items()[0].clone();
                prop_assert_eq!((again.style, again.value), (node.style, node.value.clone()), "{:?}", alone);
            }
        }
    }
}
