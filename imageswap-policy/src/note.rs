//! Admission's note on a Pod: each container's original image, and the policy revision that
//! decided.
//!
//! It is an annotation, [`ANNOTATION`], whose text is JSON:
//!
//! ```json
//! {"v":1,"containers":{"web":{"image":"nginx:1.25","revision":"9f86d081884c"}}}
//! ```
//!
//! There is an entry for every container whose image a policy decided, even if it stayed. The note
//! is not trusted: a reader decides the noted image again and compares ([`Entry::explains`]). So a
//! forged note can make a container look admitted although it was not, but never approve its image.

use crate::decision::Reason;
use crate::policies::Selected;
use serde::{Deserialize, Serialize};
use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;

/// Name of the annotation.
pub const ANNOTATION: &str = "imageswap.io/note";
/// The format's version, which the text carries.
pub const VERSION: u32 = 1;
/// The longest text of a note. Kubernetes allows 256 KiB for all annotations of an object.
pub const MAX_BYTES: usize = 256 << 10;

/// A Pod's annotation, by container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note<'a> {
    containers: BTreeMap<Key<'a>, Entry<'a>>,
}

/// The entry of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// The image as it was before admission.
    #[serde(borrow)]
    pub image: Cow<'a, str>,
    /// Revision of the policy that decided.
    #[serde(borrow)]
    pub revision: Cow<'a, str>,
}

/// Why an annotation is not a note.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    /// It is not JSON, or JSON of another shape.
    #[error("the annotation {ANNOTATION} is not a note: it has another shape")]
    Json(#[from] serde_json::Error),
    /// Another version of this program wrote it.
    #[error("the annotation {ANNOTATION} has version {0}, expected {VERSION}")]
    Version(u32),
    /// Larger than an annotation can be.
    #[error("the annotation {ANNOTATION} has {0} bytes, expected at most {MAX_BYTES}")]
    TooLarge(usize),
}

#[derive(Serialize)]
struct Written<'n, 'a> {
    v: u32,
    containers: &'n BTreeMap<Key<'a>, Entry<'a>>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow, default)]
    containers: BTreeMap<Key<'a>, Entry<'a>>,
}

/// A key that borrows if possible, which a bare `Cow` in a map does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrow<str> for Key<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

impl<'a> Note<'a> {
    /// Reads an annotation's text. Unknown fields are ignored; another version is an error.
    pub fn parse(text: &'a str) -> Result<Self, NoteError> {
        if text.len() > MAX_BYTES {
            return Err(NoteError::TooLarge(text.len()));
        }
        let Version { v } = serde_json::from_str(text)?;
        if v != VERSION {
            return Err(NoteError::Version(v));
        }
        let Read { containers } = serde_json::from_str(text)?;
        Ok(Self { containers })
    }

    /// The entry of a container.
    pub fn get(&self, container: &str) -> Option<&Entry<'a>> {
        self.containers.get(container)
    }

    /// Sets the entry of a container.
    pub fn set(&mut self, container: impl Into<Cow<'a, str>>, entry: Entry<'a>) {
        self.containers.insert(Key(container.into()), entry);
    }

    /// Keeps the entries of containers for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.containers.retain(|container, _| keep(&container.0));
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }

    /// The annotation's text; equal notes have equal texts.
    ///
    /// # Panics
    /// Never: strings and maps of them can be written as JSON.
    pub fn text(&self) -> String {
        let text = Written {
            v: VERSION,
            containers: &self.containers,
        };
        serde_json::to_string(&text).expect("strings and maps of them can be written as JSON")
    }

    /// Containers and their entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry<'a>)> {
        self.containers
            .iter()
            .map(|(name, entry)| (&*name.0, entry))
    }
}

impl Entry<'_> {
    /// Whether the policy that decides now turns the noted image into `image`, which the container
    /// has.
    pub fn explains(&self, selected: &Selected<'_>, image: &str) -> bool {
        let decision = selected.decide(&self.image);
        let is_result = decision.reason != Reason::ScopeUnknown && decision.result == image;
        is_result || self.is_kept(selected, image)
    }

    /// Whether admission can have left `image`, which the container has, because a registry did not have the result.
    pub fn is_kept(&self, selected: &Selected<'_>, image: &str) -> bool {
        self.image == image && selected.decide(&self.image).conditional
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policies, Scope, document};
    use proptest::prelude::*;

    fn entry(image: &str) -> Entry<'_> {
        Entry {
            image: image.into(),
            revision: "r1".into(),
        }
    }

    #[test]
    fn the_text_is_that_of_the_docs() {
        let mut note = Note::default();
        note.set("web", entry("nginx:1.25"));
        note.set("init", entry("busybox"));
        let text = r#"{"v":1,"containers":{"init":{"image":"busybox","revision":"r1"},"web":{"image":"nginx:1.25","revision":"r1"}}}"#;
        assert_eq!(note.text(), text);
        assert_eq!(Note::parse(text).unwrap(), note);
    }

    #[test]
    fn reading_borrows_from_the_annotation() {
        let note = Note::parse(r#"{"v":1,"containers":{"web":{"image":"nginx","revision":"r"}}}"#);
        let note = note.unwrap();
        let (name, entry) = note.containers.iter().next().unwrap();
        assert!(matches!(name.0, Cow::Borrowed(_)));
        assert!(matches!(entry.image, Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_note_is_told() {
        for (text, says) in [
            ("", "is not a note"),
            ("[]", "is not a note"),
            (r#"{"v":2,"containers":[]}"#, "has version 2, expected 1"),
            (r#"{"v":1,"containers":{"a":"nginx"}}"#, "is not a note"),
        ] {
            let error = Note::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let large = format!(r#"{{"v":1,"x":"{}"}}"#, "x".repeat(MAX_BYTES));
        assert!(matches!(Note::parse(&large), Err(NoteError::TooLarge(_))));
        let later = r#"{"v":1,"containers":{"a":{"image":"x","revision":"r","by":"y"}},"more":1}"#;
        assert!(Note::parse(later).unwrap().get("a").is_some());
    }

    #[test]
    fn a_note_explains_only_what_the_policy_makes_of_it() {
        let text = "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: p}\n\
                    spec: {rules: [{from: '**', to: r.io}]}";
        let policies = Policies::new(document::load("p", text).unwrap().policies);
        let today = crate::Date::from_calendar_date(2026, time::Month::January, 1).unwrap();
        let selected = policies.select(Scope::Node, today);
        assert!(entry("nginx").explains(&selected, "r.io/library/nginx"));
        assert!(entry("r.io/a").explains(&selected, "r.io/a"));
        assert!(!entry("nginx").explains(&selected, "nginx"));
        assert!(!entry("evil.io/x").explains(&selected, "evil.io/x"));
    }

    #[test]
    fn a_note_explains_an_image_that_the_registry_lacked() {
        let text = "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {name: p}\n\
                    spec: {rules: [{from: 'quay.io/**', to: r.io}, {from: '**', to: r.io, ifMissing: keep}]}";
        let policies = Policies::new(document::load("p", text).unwrap().policies);
        let today = crate::Date::from_calendar_date(2026, time::Month::January, 1).unwrap();
        let selected = policies.select(Scope::Node, today);
        for (noted, image, explained, kept) in [
            ("nginx", "nginx", true, true),
            ("nginx", "r.io/library/nginx", true, false),
            ("nginx", "redis", false, false),
            ("quay.io/a", "quay.io/a", false, false),
            ("r.io/a", "r.io/a", true, false),
        ] {
            let entry = entry(noted);
            assert_eq!(
                entry.explains(&selected, image),
                explained,
                "{noted} {image}"
            );
            assert_eq!(entry.is_kept(&selected, image), kept, "{noted} {image}");
        }
    }

    proptest! {
        #[test]
        fn notes_round_trip(pairs in prop::collection::btree_map("\\PC{0,8}", ("\\PC{0,12}", "\\PC{0,4}"), 0..5)) {
            let mut note = Note::default();
            for (name, (image, revision)) in &pairs {
                note.set(name.as_str(), Entry { image: image.as_str().into(), revision: revision.as_str().into() });
            }
            let text = note.text();
            prop_assert_eq!(Note::parse(&text).unwrap(), note);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}|\\{\"v\":1,\"containers\":\\{.{0,40}\\}\\}") {
            let _either = Note::parse(&text).is_ok();
        }
    }
}
