//! JSON that others write, read entry by entry: an entry that is not wanted takes no memory. Otherwise
//! a file of tiny entries takes ten times its size.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::EvidenceError;
use super::file::{malformed, parse_json};

/// Storage drivers allow a few hundred layers, and a claim keeps fewer names.
pub(super) const MOST_TEXTS: usize = 1024;
pub(super) const ALL_TEXTS: usize = 128 << 10;

/// Passes each entry of a list to `take`, whose error ends the reading and says what is wrong.
pub(super) fn each<'b, T: Deserialize<'b>>(
    path: &Path,
    bytes: &'b [u8],
    mut take: impl FnMut(T) -> Result<(), String>,
) -> Result<(), EvidenceError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let visitor = Each::new(|_: String, entry| take(entry));
    let read = json.deserialize_seq(visitor).and_then(|()| json.end());
    read.map_err(|error| malformed(path, &error))
}

/// Passes each key of an object, with its value, to `take`.
pub(super) fn each_value<'b, T: Deserialize<'b>>(
    path: &Path,
    bytes: &'b [u8],
    take: impl FnMut(String, T) -> Result<(), String>,
) -> Result<(), EvidenceError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = json.deserialize_map(Each::new(take));
    let read = read.and_then(|()| json.end());
    read.map_err(|error| malformed(path, &error))
}

/// The first entry of a list whose field `id` is `id`.
pub(super) fn with_id<T: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    id: &str,
) -> Result<Option<T>, EvidenceError> {
    let mut found = None;
    each(path, bytes, |entry: &RawValue| {
        let own: Id<'_> = serde_json::from_str(entry.get()).map_err(|error| error.to_string())?;
        if own.id == id {
            found = found.or(Some(entry));
        }
        Ok(())
    })?;
    let entry = found.map(|entry| parse_json(path, entry.get().as_bytes()));
    entry.transpose()
}

/// Ids are hex digits, which nobody escapes.
#[derive(Deserialize)]
struct Id<'b> {
    id: &'b str,
}

struct Each<T, F> {
    take: F,
    entry: PhantomData<T>,
}

impl<T, F: FnMut(String, T) -> Result<(), String>> Each<T, F> {
    const fn new(take: F) -> Self {
        Self {
            take,
            entry: PhantomData,
        }
    }
}

impl<'de, T, F> Visitor<'de> for Each<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(String, T) -> Result<(), String>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element()? {
            (self.take)(String::new(), entry).map_err(A::Error::custom)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry()? {
            (self.take)(key, value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A text; a longer one than counts is an error.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        if text.len() > ALL_TEXTS {
            return Err(E::custom(format_args!(
                "a text is longer than {ALL_TEXTS} bytes"
            )));
        }
        Ok(Text(text.to_owned()))
    }
}

/// A list of texts. `None` if it is a single text, or too long to be kept: whoever makes an image
/// decides that.
#[derive(Debug)]
pub(super) struct Texts(pub(super) Option<Vec<String>>);

impl Default for Texts {
    fn default() -> Self {
        Self(Some(Vec::new()))
    }
}

impl Texts {
    /// The texts, or an error that names the list.
    pub(super) fn all(self, path: &Path, what: &str) -> Result<Vec<String>, EvidenceError> {
        self.0.ok_or_else(|| EvidenceError::Malformed {
            path: path.to_owned(),
            message: too_many(what),
        })
    }
}

/// Why a list of texts is not kept.
pub(super) fn too_many(what: &str) -> String {
    format!("the {what} are more than {MOST_TEXTS}, or longer than {ALL_TEXTS} bytes")
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_str<E>(self, _: &str) -> Result<Texts, E> {
        Ok(Texts(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        let mut length = 0;
        while let Some(text) = list.next_element::<String>()? {
            length += text.len();
            if texts.len() >= MOST_TEXTS || length > ALL_TEXTS {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Texts(None));
            }
            texts.push(text);
        }
        Ok(Texts(Some(texts)))
    }
}
