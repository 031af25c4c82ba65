//! The reader beside serde_json: it returns the same value, or nothing.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::{Envelope, Object};
use super::from_slice;

fn both(text: &[u8]) -> (Option<String>, Option<String>) {
    type Read<'a> = Envelope<'a, Object<'a>>;
    let here = from_slice::<Read<'_>>(text).ok();
    let serde = serde_json::from_slice::<Read<'_>>(text).ok();
    (
        here.map(|it| format!("{it:?}")),
        serde.map(|it| format!("{it:?}")),
    )
}

/// A review with a text in place of a value that nobody asks for.
fn with(skipped: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","x":{skipped},"request":{{"uid":"u","object":{{"spec":{{}}}}}}}}"#
    )
}

#[test]
fn json_is_passed_over() {
    for skipped in [
        "0",
        "-0",
        "12",
        "-1.50",
        "1e9",
        "0E-7",
        "1.0e+30",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        " [ ] ",
        "{ }",
        "[[],{}]",
        r#""""#,
        r#""\\\"\/\b\f\n\r\t\u00e9""#,
        r#""eight by""#,
        r#""eight byt\\es""#,
        "\"\u{7f}\u{e9}\u{1f600}\"",
        r#"{"a":[1,{"b":"]}"}],"c":null}"#,
        "[1 ,\n2\t,\r3]",
    ] {
        let text = with(skipped);
        let (here, serde) = both(text.as_bytes());
        assert!(here.is_some(), "{text}");
        assert_eq!(here, serde, "{text}");
    }
}

#[test]
fn what_is_not_json_is_left_to_serde_json() {
    for skipped in [
        "",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "NaN",
        "tru",
        "nul",
        "trues",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[",
        "]",
        "[}",
        "{]",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "'a'",
        "\"a",
        r#""\x""#,
        r#""\u12g4""#,
        r#""\u12""#,
        "\"\n\"",
        "\"12345678\u{1}\"",
        "\"\t\"",
        "1,2",
        "// x\n1",
        "\u{feff}1",
    ] {
        let text = with(skipped);
        let (here, serde) = both(text.as_bytes());
        assert_eq!((here, serde), (None, None), "{text}");
    }
    for text in ["", " ", "{", &(with("1") + "x"), &(with("1") + "{}")] {
        assert_eq!(both(text.as_bytes()), (None, None), "{text}");
    }
    assert!(from_slice::<Value>(b"{\"a\":\"\xff\"}").is_err());
}

#[test]
fn deep_and_unusual_json_is_left_to_serde_json() {
    for (skipped, read) in [
        ("[".repeat(64) + &"]".repeat(64), true),
        ("[".repeat(66) + &"]".repeat(66), false),
        (r#"{"a":"#.repeat(66) + "1" + &"}".repeat(66), false),
        (r#""\ud83d\ude00""#.to_owned(), false),
        ("[".repeat(100_000), false),
    ] {
        let text = with(&skipped);
        let (here, serde) = both(text.as_bytes());
        assert_eq!(here.is_some(), read, "{text}");
        assert!(here.is_none() || here == serde, "{text}");
    }
}

#[test]
fn strings_end_at_every_place_of_a_word() {
    for pad in 0..20 {
        for end in ["", r"\\", r#"\""#, r"\u0041", "\u{e9}", "\u{1f600}"] {
            let text = "p".repeat(pad) + end;
            let body = format!(
                r#"{{"kind":"{text}","{text}":"{text}","request":{{"uid":"{text}","name":"{text}"}}}}"#
            );
            let (here, serde) = both(body.as_bytes());
            assert!(here.is_some(), "{body}");
            assert_eq!(here, serde, "{body}");
        }
    }
}

const KEYS: [&str; 26] = [
    "kind",
    "apiVersion",
    "request",
    "uid",
    "name",
    "namespace",
    "operation",
    "userInfo",
    "username",
    "object",
    "oldObject",
    "metadata",
    "labels",
    "annotations",
    "imageswap.io/note",
    "generateName",
    "deletionTimestamp",
    "spec",
    "containers",
    "initContainers",
    "volumes",
    "image",
    "reference",
    "imagePullSecrets",
    "template",
    "jobTemplate",
];

fn string() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "[a-z./:]{0,40}",
        2 => "[\\\\\"{}\\[\\],:a]{0,20}",
        1 => "\\PC{0,20}",
        1 => Just("\n\t\u{1}\u{7f}\u{e9}\u{1f600}".to_owned()),
    ]
    .boxed()
}

fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        6 => string().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(|it| json!(it)),
    ];
    let key = prop_oneof![5 => prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned), 1 => string()];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            3 => prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|all| Value::from(all.into_iter().collect::<Map<_, _>>())),
        ]
    })
    .boxed()
}

/// A review of the right shape.
fn review() -> BoxedStrategy<Value> {
    let container = (string(), string(), value())
        .prop_map(|(name, image, more)| json!({"a": more, "name": name, "b": [more], "image": image, "c": more}));
    let labels = prop::collection::btree_map(string(), string(), 0..4);
    (string(), prop::collection::vec(container, 0..4), value(), labels)
        .prop_map(|(uid, containers, more, labels)| {
            let spec = json!({"containers": containers, "more": more, "volumes": [{"name": "v", "image": {"reference": "r"}}]});
            let metadata = json!({"labels": labels, "managedFields": more, "annotations": {"x": "y", "imageswap.io/note": "n"}});
            let spec = json!({"template": {"spec": spec}, "containers": containers, "z": more});
            let request = json!({"uid": uid, "options": more, "object": {"metadata": metadata, "spec": spec}});
            json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "more": more, "request": request})
        })
        .boxed()
}

fn text(value: &Value, pretty: bool) -> Vec<u8> {
    let text = if pretty {
        serde_json::to_vec_pretty(value)
    } else {
        serde_json::to_vec(value)
    };
    text.unwrap()
}

proptest! {
    #[test]
    fn reviews_are_read_as_serde_json_reads_them(value in review(), pretty: bool) {
        let (here, serde) = both(&text(&value, pretty));
        prop_assert!(here.is_some(), "{}", value);
        prop_assert_eq!(here, serde, "{}", value);
    }

    #[test]
    fn no_text_is_read_otherwise(
        value in prop_oneof![value(), review()],
        pretty: bool,
        at: prop::sample::Index,
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\0-. u".to_vec())],
        cut: bool,
    ) {
        let mut text = text(&value, pretty);
        let at = at.index(text.len());
        if cut {
            text.truncate(at);
        } else {
            text[at] = byte;
        }
        let (here, serde) = both(&text);
        prop_assert!(here.is_none() || here == serde, "{}", String::from_utf8_lossy(&text));
    }
}
