//! Images that are written in several fields, such as `registry`, `repository` and `tag`.

use super::find::Finder;
use super::{Field, Image, Part, Parts};
use crate::Reference;
use crate::yaml::{Node, Value};

/// Names of the field that holds the repository, in order of precedence.
const REPOSITORIES: [&str; 3] = ["repository", "image", "name"];
/// The largest whole number that Helm writes without an exponent.
const WHOLE_MAX: u64 = 999_999;

impl Finder<'_> {
    /// A mapping with the fields of an image.
    pub(super) fn split(&mut self, node: &Node, path: &str) {
        let repository = REPOSITORIES.iter().find_map(|it| node.get(it));
        if let Some(repository) = repository {
            self.parts(
                [
                    node.get("registry"),
                    Some(repository),
                    node.get("tag"),
                    node.get("digest"),
                ],
                path,
            );
        }
    }

    /// Registry, repository, tag and digest. Parts that are empty count as missing, because charts
    /// treat them so.
    pub(super) fn parts(&mut self, nodes: [Option<&Node>; 4], path: &str) {
        let [registry, repository, tag, digest] = nodes;
        let (Ok(registry), Ok(Some(repository)), Ok(tag), Ok(digest)) = (
            self.part(registry, "a registry"),
            self.part(repository, "a repository"),
            self.part(tag, "a tag"),
            self.part(digest, "a digest"),
        ) else {
            return;
        };
        let parts = Parts {
            registry,
            repository,
            tag,
            digest,
            is_fixed: false,
        };
        let full = self.full(path);
        self.loose.push(Image {
            image: parts.joined(),
            field: Field::default(),
            path: full,
            span: parts.repository.span,
            style: parts.repository.style,
            parts: Some(Box::new(parts)),
        });
    }

    /// The error is that it is not a text, which is reported.
    fn part(&mut self, node: Option<&Node>, what: &str) -> Result<Option<Part>, ()> {
        let Some(node) = node else { return Ok(None) };
        let text = match &node.value {
            Value::Null => return Ok(None),
            Value::String(text) => text.clone(),
            // Helm makes floating-point numbers of all numbers, and their texts may differ.
            Value::Number(number) if is_as_written(number, node.span.of(self.text)) => {
                number.to_string()
            }
            _ => {
                self.unexpected(node, what);
                return Err(());
            }
        };
        Ok((!text.is_empty()).then_some(Part {
            text,
            span: node.span,
            style: node.style,
        }))
    }
}

fn is_as_written(number: &serde_json::Number, written: &str) -> bool {
    let is_short = number.as_u64().is_none_or(|it| it <= WHOLE_MAX);
    is_short && number.to_string() == written
}

impl Parts {
    /// The reference that the fields name together.
    pub(super) fn joined(&self) -> String {
        let mut text = String::new();
        if let Some(registry) = &self.registry {
            text.push_str(registry.text.trim_end_matches('/'));
            text.push('/');
        }
        text.push_str(&self.repository.text);
        if let Some(tag) = &self.tag {
            text.push(if is_digest(&tag.text) { '@' } else { ':' });
            text.push_str(&tag.text);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.text);
        }
        text
    }

    /// The fields, and their texts if they are to name `to`.
    ///
    /// # Errors
    /// A field is missing, as a sentence.
    pub(super) fn distribute(&self, to: &str) -> Result<Vec<(&Part, String)>, String> {
        let reference = Reference::parse(to).map_err(|it| it.to_string())?;
        let mut fields = Vec::new();
        if let Some(registry) = &self.registry {
            fields.push((registry, reference.registry().to_owned()));
            let path = reference.canonical_path().into_owned();
            fields.push((&self.repository, path));
        } else {
            let end = [reference.tag(), reference.digest()];
            let end: usize = end.iter().flatten().map(|it| it.len() + 1).sum();
            let name = &to[..to.len() - end];
            fields.push((&self.repository, name.to_owned()));
        }
        if let Some((_, name)) = fields
            .last()
            .filter(|it| self.is_fixed && it.1 != it.0.text)
        {
            return Err(format!("add `newName: {name}`"));
        }
        let (mut tag, mut digest) = (reference.tag(), reference.digest());
        if let Some(part) = &self.tag {
            let text = match (tag.take(), &self.digest) {
                (Some(tag), None) if part.text.contains('@') => match digest.take() {
                    Some(digest) => format!("{tag}@{digest}"),
                    None => return Err(format!("`{to}` has no digest")),
                },
                (Some(tag), _) => tag.to_owned(),
                (None, None) if is_digest(&part.text) => {
                    digest.take().unwrap_or_default().to_owned()
                }
                (None, _) => return Err(format!("`{to}` has no tag")),
            };
            fields.push((part, text));
        }
        if let Some(part) = &self.digest {
            let Some(digest) = digest.take() else {
                return Err(format!("`{to}` has no digest"));
            };
            fields.push((part, digest.to_owned()));
        }
        match (tag, digest) {
            (None, None) => Ok(fields),
            (Some(tag), _) => Err(format!("there is no field for the tag `{tag}`")),
            (None, Some(digest)) => Err(format!("there is no field for the digest `{digest}`")),
        }
    }

    /// All fields, in the order of a reference.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        let Self {
            registry,
            repository,
            tag,
            digest,
            is_fixed: _,
        } = self;
        let registry = registry.iter().chain(Some(repository));
        registry.chain(tag).chain(digest)
    }
}

/// Whether a field for the tag holds a digest.
fn is_digest(tag: &str) -> bool {
    tag.starts_with("sha256:")
}
