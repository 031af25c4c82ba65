//! The program's fields, whose names may be in upper or lower case.

use super::Wrong;
use imageswap_policy::yaml::{Node, Span, Value};

/// A mapping, read as the program reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Node);

/// A text with its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) span: Span,
}

impl<'a> Fields<'a> {
    /// The value of a field; one without a value is not there.
    pub(super) fn find(self, name: &str) -> Option<&'a Node> {
        let mut entries = self.0.entries().iter();
        let named = |it: &Node| it.as_str().is_some_and(|it| it.eq_ignore_ascii_case(name));
        let found = entries.find(|it| named(&it.0)).map(|it| &it.1);
        found.filter(|it| !it.is_null())
    }

    /// Refuses fields that are not known, and fields that are given twice.
    pub(super) fn only(self, known: &[&str]) -> Result<(), Wrong> {
        let mut seen: Vec<String> = Vec::new();
        for (key, _) in self.0.entries() {
            let name = key.as_str().unwrap_or("?");
            if !known.iter().any(|it| it.eq_ignore_ascii_case(name)) {
                return Err((key.span, format!("`{name}` is not understood")));
            }
            let lower = name.to_ascii_lowercase();
            if seen.contains(&lower) {
                return Err((key.span, format!("`{name}` is given twice")));
            }
            seen.push(lower);
        }
        Ok(())
    }

    pub(super) fn flag(self, name: &str) -> Result<Option<(bool, Span)>, Wrong> {
        match self.find(name).map(|it| (&it.value, it.span)) {
            None => Ok(None),
            Some((Value::Bool(it), span)) => Ok(Some((*it, span))),
            Some((_, span)) => Err((span, format!("`{name}` is neither true nor false"))),
        }
    }

    /// A text, or a number that is written like one.
    pub(super) fn text(self, name: &str, source: &str) -> Result<Option<Text>, Wrong> {
        let Some(node) = self.find(name) else {
            return Ok(None);
        };
        let span = node.span;
        let text = match &node.value {
            Value::String(it) => it.clone(),
            // Zeros at the beginning of a number are lost.
            Value::Number(it) if source.get(span.start..span.end) == Some(&it.to_string()) => {
                it.to_string()
            }
            Value::Number(_) => {
                return Err((span, format!("`{name}` is a number; write it in quotes")));
            }
            _ => return Err((span, format!("`{name}` is {}, not a text", node.kind()))),
        };
        Ok(Some(Text { text, span }))
    }

    /// A text that has to be there.
    fn needed(self, name: &str, source: &str) -> Result<Text, Wrong> {
        match self.text(name, source)? {
            Some(it) if !it.text.is_empty() => Ok(it),
            _ => Err((self.0.span, format!("it has no `{name}`"))),
        }
    }
}

/// What images of a registry begin with, and whether that is compared with the host of an image alone.
pub(super) fn target(node: &Node, source: &str) -> Result<(String, bool), Wrong> {
    let fields = Fields(node);
    fields.only(&["type", "aws", "gcp"])?;
    let kind = fields.text("type", source)?;
    match kind.as_ref().map_or("aws", |it| it.text.as_str()) {
        "aws" => {
            let node = fields
                .find("aws")
                .ok_or((node.span, "it has no `aws`".to_owned()))?;
            let aws = Fields(node);
            // Repositories are made with the options; the role signs in.
            aws.only(&["accountId", "region", "role", "prefix", "ecrOptions"])?;
            let (account, region) = (
                aws.needed("accountId", source)?,
                aws.needed("region", source)?,
            );
            let prefix = aws.text("prefix", source)?.unwrap_or_default().text;
            let domain = if region.text.starts_with("cn-") {
                "amazonaws.com.cn"
            } else {
                "amazonaws.com"
            };
            let host = format!("{}.dkr.ecr.{}.{domain}", account.text, region.text);
            checked(format!("{host}{prefix}"), &host, node).map(|it| (it, true))
        }
        "gcp" => {
            let node = fields
                .find("gcp")
                .ok_or((node.span, "it has no `gcp`".to_owned()))?;
            let gcp = Fields(node);
            gcp.only(&["location", "projectId", "repositoryId"])?;
            let of = |name| gcp.needed(name, source).map(|it| it.text);
            let host = format!("{}-docker.pkg.dev", of("location")?);
            let endpoint = format!("{host}/{}/{}", of("projectId")?, of("repositoryId")?);
            checked(endpoint, &host, node).map(|it| (it, false))
        }
        other => {
            let span = kind.as_ref().map_or(node.span, |it| it.span);
            Err((span, format!("the type `{other}` is neither aws nor gcp")))
        }
    }
}

fn checked(endpoint: String, host: &str, node: &Node) -> Result<String, Wrong> {
    let image = crate::image::Image::parse(&format!("{endpoint}/x"));
    match image {
        Some(it) if it.host == host && it.name() == format!("{endpoint}/x") => Ok(endpoint),
        _ => Err((node.span, format!("no image can name `{endpoint}`"))),
    }
}
