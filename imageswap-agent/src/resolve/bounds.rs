//! Bounds of what is kept about each start.
//!
//! Clients of a runtime can give an image any number of names and sources, and whoever may create Pods
//! can write labels and notes of megabytes. What is left out approves nothing. Pods' labels and notes
//! are stored once for all their starts.

use crate::claim::{Claim, Content, Source};
use crate::evidence::containerd::Names;
use crate::pods::{labels_within, note_within};
use imageswap_policy::Reference;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Longer than any reference that a registry would serve: a host, a repository, a tag, a digest.
const LONGEST_NAME: usize = 1 << 10;

/// Names of one digest, and their length.
const MOST_NAMES: usize = 256;
const ALL_NAMES: usize = 32 << 10;

/// Sources of one image's content, and their length.
const MOST_SOURCES: usize = 64;
const ALL_SOURCES: usize = 16 << 10;

/// Longer than any name in Kubernetes, and than any namespace of a runtime.
const LONGEST_PART: usize = 253;

/// Stores equal values once.
#[derive(Debug)]
pub(super) struct Shared<T: ?Sized>(Arc<Mutex<HashSet<Arc<T>>>>);

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: ?Sized + Hash + Eq> Shared<T> {
    /// The stored equal of a value. Values that nobody else has any more are dropped.
    fn share(&self, value: Arc<T>) -> Arc<T> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&value) {
            return Arc::clone(known);
        }
        known.retain(|it| Arc::strong_count(it) > 1);
        known.insert(Arc::clone(&value));
        value
    }
}

/// What the starts of a Pod have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    labels: Shared<BTreeMap<String, String>>,
    notes: Shared<str>,
}

impl Common {
    /// The claim within all bounds.
    pub(super) fn bounded(&self, claim: Claim) -> Claim {
        let mut claim = bounded(claim);
        claim.labels = claim.labels.map(|labels| self.labels.share(labels));
        claim.note = claim.note.map(|note| self.notes.share(note));
        claim
    }
}

/// The names of an image that a claim about `image` keeps.
pub(super) fn few_names(image: &str, names: Names) -> Names {
    let mut claim = Claim {
        image: Some(image.to_owned()),
        names: names.known.into_iter().collect(),
        names_left_out: names.left_out,
        ..Claim::new(Source::Containerd, "", "containerd")
    };
    bound_names(&mut claim);
    Names {
        known: claim.names.into_iter().collect(),
        left_out: claim.names_left_out,
    }
}

/// The claim within the bounds of one claim. What the starts of a Pod have in common is not shared.
pub(super) fn bounded(mut claim: Claim) -> Claim {
    if let Some(image) = claim.image.take_if(|image| image.len() > LONGEST_NAME) {
        claim.image = Some(shortened(image, LONGEST_NAME));
        // The policy's answer about the rest is unknown.
        claim.names_left_out = true;
    }
    bound_names(&mut claim);
    let is_known = |digest: &String| digest.len() <= LONGEST_NAME;
    let sources = claim.pulled_from.iter().flatten();
    let length: usize = sources.map(|it| it.host.len() + it.repository.len()).sum();
    let many = claim
        .pulled_from
        .as_ref()
        .is_some_and(|it| it.len() > MOST_SOURCES);
    if many || length > ALL_SOURCES || !claim.digest.iter().all(is_known) {
        claim.digest = claim.digest.filter(is_known);
        claim.pulled_from = None;
        if !claim.content.is_another() {
            claim.content = Content::Another;
        }
    }
    claim.id = shortened(claim.id, LONGEST_NAME);
    claim.runtime_namespace = claim
        .runtime_namespace
        .map(|it| shortened(it, LONGEST_PART));
    claim.container_name = claim.container_name.map(|it| shortened(it, LONGEST_PART));
    // No Pod has such a name.
    claim.pod = claim.pod.filter(|pod| {
        let parts = [&pod.namespace, &pod.name, &pod.uid];
        parts.into_iter().all(|part| part.len() <= LONGEST_PART)
    });
    claim.labels = claim.labels.filter(|labels| labels_within(labels));
    claim.note = claim.note.filter(|note| note_within(note));
    claim
}

/// What a claim takes in memory, without the labels and the note that starts share.
pub(super) fn bytes_of(claim: &Claim) -> usize {
    let of_texts = |lengths: usize, count: usize| lengths + count * size_of::<String>();
    let names = of_texts(claim.names.iter().map(String::len).sum(), claim.names.len());
    let sources = claim.pulled_from.iter().flatten();
    let sources = sources.map(|it| of_texts(it.host.len() + it.repository.len(), 2));
    size_of::<Claim>() + names + sources.sum::<usize>()
}

/// Keeps the names in the repository of the claim's image, and then the first ones.
fn bound_names(claim: &mut Claim) {
    let is_bounded = |names: &BTreeSet<String>| {
        names.len() <= MOST_NAMES && names.iter().map(String::len).sum::<usize>() <= ALL_NAMES
    };
    if is_bounded(&claim.names) {
        return;
    }
    let repository = |name: &str| Some(Reference::parse(name).ok()?.canonical_name());
    let own = claim.image.as_deref().and_then(repository);
    let (first, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut claim.names)
        .into_iter()
        .partition(|name| own.is_some() && repository(name) == own);
    let mut left = ALL_NAMES;
    for name in first.into_iter().chain(rest) {
        if claim.names.len() < MOST_NAMES && name.len() <= left {
            left -= name.len();
            claim.names.insert(name);
        } else {
            claim.names_left_out = true;
        }
    }
}

/// The beginning of a text, with a mark that no name has.
fn shortened(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::ContentSource;
    use crate::pods::PodName;

    fn claim() -> Claim {
        Claim {
            image: Some("registry.example.com/app:1".to_owned()),
            names: ["registry.example.com/app:1", "z.example.com/app:1"]
                .map(str::to_owned)
                .into(),
            digest: Some(format!("sha256:{}", "a".repeat(64))),
            content: Content::Its,
            pulled_from: Some(vec![ContentSource {
                host: "registry.example.com".to_owned(),
                repository: "app".to_owned(),
                has_port: false,
            }]),
            container_name: Some("app".to_owned()),
            pod: Some(PodName {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
                uid: "u".to_owned(),
            }),
            labels: Some(Arc::new([("a".to_owned(), "b".to_owned())].into())),
            note: Some("{}".into()),
            ..Claim::new(Source::Cri, "id", "cri")
        }
    }

    #[test]
    fn an_ordinary_claim_stays() {
        assert_eq!(bounded(claim()), claim());
    }

    #[test]
    fn of_many_names_those_of_the_image_stay() {
        let many = |length: usize, count: usize| {
            let host = "x".repeat(length);
            let names = (0..count).map(move |at| format!("evil.example.net/{host}{at}:1"));
            Claim {
                names: claim().names.into_iter().chain(names).collect(),
                ..claim()
            }
        };
        for (length, count) in [(8000, 1000), (1, 1000), (200, 200)] {
            let bounded = bounded(many(length, count));
            assert!(bounded.names_left_out, "{length} x {count}");
            assert!(bounded.names.contains("registry.example.com/app:1"));
            assert!(bounded.names.len() <= MOST_NAMES);
            assert!(bounded.names.iter().map(String::len).sum::<usize>() <= ALL_NAMES);
        }
        assert!(!bounded(many(1, 100)).names_left_out);
    }

    #[test]
    fn nothing_of_a_claim_is_long() {
        let long = || "x".repeat(1 << 20);
        let sources = |count, repository: String| {
            let source = ContentSource {
                host: "a.example.com".to_owned(),
                repository,
                has_port: false,
            };
            Some(vec![source; count])
        };
        let pod = PodName {
            uid: long(),
            ..claim().pod.unwrap()
        };
        for (what, claim) in [
            (
                "image",
                Claim {
                    image: Some(long()),
                    ..claim()
                },
            ),
            (
                "digest",
                Claim {
                    digest: Some(long()),
                    ..claim()
                },
            ),
            (
                "id",
                Claim {
                    id: long(),
                    ..claim()
                },
            ),
            (
                "namespace",
                Claim {
                    runtime_namespace: Some(long()),
                    ..claim()
                },
            ),
            (
                "container",
                Claim {
                    container_name: Some(long()),
                    ..claim()
                },
            ),
            (
                "pod",
                Claim {
                    pod: Some(pod),
                    ..claim()
                },
            ),
            (
                "labels",
                Claim {
                    labels: Some(Arc::new([(long(), String::new())].into())),
                    ..claim()
                },
            ),
            (
                "note",
                Claim {
                    note: Some(long().into()),
                    ..claim()
                },
            ),
            (
                "a source",
                Claim {
                    pulled_from: sources(1, long()),
                    ..claim()
                },
            ),
            (
                "sources",
                Claim {
                    pulled_from: sources(1000, "app".to_owned()),
                    ..claim()
                },
            ),
            (
                "names",
                Claim {
                    names: [long()].into(),
                    ..claim()
                },
            ),
        ] {
            let claim = bounded(claim);
            let length = format!("{claim:?}").len();
            assert!(length < 4096, "{what}: {length}");
            let is_strict = claim.names_left_out || claim.content == Content::Another;
            let of_image = ["image", "digest", "a source", "sources", "names"].contains(&what);
            assert_eq!(is_strict, of_image, "{what}");
            assert!(
                claim.container_name.is_some(),
                "without it a container is a sandbox"
            );
        }
    }

    #[test]
    fn the_starts_of_a_pod_share_its_labels() {
        let common = Common::default();
        let [a, b] = [(); 2].map(|()| common.bounded(claim()));
        assert!(Arc::ptr_eq(&a.labels.unwrap(), b.labels.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&a.note.unwrap(), b.note.as_ref().unwrap()));
        drop(b);
        let other = Claim {
            labels: Some(Arc::default()),
            note: None,
            ..claim()
        };
        let other = common.bounded(other);
        assert_eq!(
            common.labels.0.lock().unwrap().len(),
            1,
            "the first ones are gone"
        );
        drop(other);
    }
}
