//! Bodies that cost the webhook more than their sender.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;

/// The largest that the webhook accepts, less what surrounds it.
const LARGE: usize = (8 << 20) - 600;
/// Just small enough to be read without a share of the budget for large bodies.
const SMALL: usize = (32 << 10) - 600;

/// What a body consists of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content {
    /// This many containers, old and new, each with a changed image.
    Containers(usize),
    /// The same with names.
    NamedContainers(usize),
    /// As many containers as fit, each of this JSON.
    Filled(&'static str),
    Labels,
    /// Lists within lists.
    Nested,
    /// The same keys again and again.
    Duplicates,
    /// A name of an image in which every character is an escape sequence.
    Escapes,
    /// A few dozen images with long names that nearly match a rule, in a body of a usual size.
    LongNames,
    /// A policy with this many regular expressions.
    Regexes(usize),
    /// A policy with this many wildcard rules.
    Globs(usize),
    /// A policy in which every rule's result matches the next rule.
    Chain(usize),
}

impl Content {
    /// The path to post it to.
    pub(super) fn path(self, at: usize) -> &'static str {
        match self {
            Self::Regexes(_) | Self::Globs(_) | Self::Chain(_) => "/validate-policy?timeout=30s",
            _ if at.is_multiple_of(2) => "/mutate?timeout=30s",
            _ => "/validate?timeout=30s",
        }
    }

    /// The whole body.
    pub(super) fn body(self) -> Bytes {
        match self {
            Self::Containers(count) => {
                let of = |image| pod(&repeated(count, |_| format!(r#"{{"image":"{image}"}}"#)));
                review("UPDATE", &of("a"), Some(&of("b")))
            }
            Self::NamedContainers(count) => {
                let of = |image| {
                    pod(&repeated(count, |at| {
                        format!(r#"{{"name":"c{at}","image":"{image}"}}"#)
                    }))
                };
                review("UPDATE", &of("a"), Some(&of("b")))
            }
            Self::Filled(item) => {
                let count = LARGE / (item.len() + 1);
                review("CREATE", &pod(&repeated(count, |_| item.to_owned())), None)
            }
            Self::Labels => {
                let labels = repeated(LARGE / 12, |at| format!(r#""{at:x}":"""#));
                let object = format!(r#"{{"metadata":{{"labels":{{{labels}}}}}}}"#);
                review("CREATE", &object, None)
            }
            Self::Nested => {
                let depth = LARGE / 2;
                let object = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
                review("CREATE", &object, None)
            }
            Self::Duplicates => {
                let spec = r#""spec":{"containers":[{"image":"a"}]}"#;
                let count = LARGE / (spec.len() + 1);
                let object = format!("{{{}}}", repeated(count, |_| spec.to_owned()));
                review("CREATE", &object, None)
            }
            Self::Escapes => {
                let image = r"\u0061".repeat(LARGE / 6);
                review("CREATE", &pod(&format!(r#"{{"image":"{image}"}}"#)), None)
            }
            Self::LongNames => {
                let path = "a/".repeat(100);
                let containers = repeated(SMALL / 260, |at| {
                    format!(r#"{{"name":"c{at}","image":"r{at}.example.org/{path}x:1"}}"#)
                });
                review("CREATE", &pod(&containers), None)
            }
            Self::Regexes(count) => policy(count, |at| {
                let regex = format!(r"^r{at}\.io/([a-z0-9]{{1,200}})/(.{{0,400}})$");
                json!({"name": format!("r{at}"), "regex": regex, "to": "m.example.com/$1"})
            }),
            Self::Globs(count) => policy(count, |at| {
                let from = format!("**.a{at}*b*c*.io/**/x*y*/**/z*{at}/**");
                json!({"name": format!("r{at}"), "from": from, "to": "r.example.com/a/b/c"})
            }),
            Self::Chain(count) => policy(count, |at| {
                let (from, to) = (format!("h{at}.io/**"), format!("h{}.io", at + 1));
                json!({"name": format!("r{at}"), "from": from, "to": to})
            }),
        }
    }
}

/// A review of an object; an old object is what makes it an update.
fn review(operation: &str, object: &str, old: Option<&str>) -> Bytes {
    let mut text = format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"u","kind":{{"group":"","version":"v1","kind":"Pod"}},"namespace":"shop","operation":"{operation}","object":{object}"#
    );
    if let Some(old) = old {
        write!(text, r#","oldObject":{old}"#).expect("a string takes anything");
    }
    text.push_str("}}");
    text.into()
}

fn pod(containers: &str) -> String {
    format!(r#"{{"spec":{{"containers":[{containers}]}}}}"#)
}

fn policy(count: usize, rule: impl Fn(usize) -> serde_json::Value) -> Bytes {
    let rules: Vec<_> = (0..count).map(rule).collect();
    let review = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u",
            "operation": "CREATE",
            "kind": {"group": "imageswap.io", "version": "v1alpha1", "kind": "ImageSwapPolicy"},
            "object": {
                "apiVersion": "imageswap.io/v1alpha1",
                "kind": "ImageSwapPolicy",
                "metadata": {"name": "n"},
                "spec": {"rules": rules},
            },
        },
    });
    review.to_string().into()
}

/// Items with commas between them.
fn repeated(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_large_as_the_webhook_takes() {
        for content in [
            Content::Filled("{}"),
            Content::Filled(r#"{"image":"a"}"#),
            Content::Labels,
            Content::Nested,
            Content::Duplicates,
            Content::Escapes,
        ] {
            let bytes = content.body().len();
            assert!((7 << 20..=8 << 20).contains(&bytes), "{content:?}: {bytes}");
        }
        assert!((25 << 10..32 << 10).contains(&Content::LongNames.body().len()));
    }

    #[test]
    fn bodies_are_json() {
        for content in [
            Content::Containers(2),
            Content::NamedContainers(2),
            Content::Regexes(2),
        ] {
            serde_json::from_slice::<serde_json::Value>(&content.body()).unwrap();
        }
    }
}
