//! The possible names of a container's image.
//!
//! One digest can have several names on a node, and a webhook that swaps registries causes exactly
//! that. The runtime's own choice among them is arbitrary. The name that was asked for decides, if
//! it can be a name of this image.

use super::{Confidence, Name};
use crate::claim::{Claim, Content, Naming, Source};
use crate::facts::Facts;
use imageswap_policy::Reference;
use std::collections::BTreeSet;

/// The tag of a reference without one.
const LATEST: &str = "latest";

/// The source name in findings for a Pod's specification.
const POD_SPEC: &str = "pod-spec";

pub(super) struct Names {
    /// All names; those to judge come first.
    pub(super) all: Vec<Name>,
    /// How many of them to judge.
    telling: usize,
    pub(super) confidence: Confidence,
}

impl Names {
    /// The names that decide the verdict.
    pub(super) fn judged(&self) -> &[Name] {
        self.all.get(..self.telling).unwrap_or_default()
    }
}

/// The name that was asked for, otherwise all names of the digest, otherwise those in records that
/// somebody else may have written.
pub(super) fn names(facts: &Facts) -> Names {
    let of_digest = names_of_digest(facts);
    if let Some(asked) = asked_for(facts, &of_digest) {
        let others = of_digest.into_iter().filter(|name| name.name != asked.name);
        return Names {
            all: std::iter::once(asked.clone()).chain(others).collect(),
            telling: 1,
            confidence: Confidence::High,
        };
    }
    if !of_digest.is_empty() {
        return Names {
            telling: of_digest.len(),
            all: of_digest,
            confidence: Confidence::Medium,
        };
    }
    let claims = [Source::User, Source::Bundle].map(|source| facts.claims.get(&source));
    let mut all: Vec<Name> = Vec::new();
    for claim in claims.into_iter().flatten() {
        for it in claim.image.iter().chain(&claim.names) {
            if is_name(it) && !all.iter().any(|known| known.name == *it) {
                all.push(name(claim.source.as_str(), it));
            }
        }
    }
    Names {
        telling: all.len(),
        all,
        confidence: Confidence::Low,
    }
}

/// Whether the container belongs to its Pod in the API server: the kubelet reported it, or it is the
/// sandbox, or its image can be the one of the specification.
pub(super) fn is_the_pods(facts: &Facts) -> bool {
    let Some(pod) = facts.owner() else {
        return true;
    };
    let sandbox = super::sandbox(facts).is_some();
    let fits = |image| can_be(facts, image, &names_of_digest(facts)) == Some(true);
    facts.is_reported(pod) || sandbox || image_in_spec(facts).is_some_and(fits)
}

/// The name that was asked for, most trusted source first, if it can be this container's image. A
/// Pod's specification can be newer or older than the container, a client of the CRI can record
/// anything, and the name given to Docker may have belonged to another image a moment before.
fn asked_for(facts: &Facts, of_digest: &[Name]) -> Option<Name> {
    let in_spec = image_in_spec(facts)
        .filter(|image| can_be(facts, image, of_digest) == Some(true))
        .map(|image| name(POD_SPEC, image));
    let by_runtime = || {
        let asked = |claim: &&Claim| claim.naming == Naming::AsAsked;
        facts.of_image().filter(asked).find_map(|claim| {
            let image = claim.image.as_deref()?;
            let fits = match claim.source {
                Source::Cri => can_be(facts, image, of_digest) == Some(true),
                Source::Docker => can_be(facts, image, of_digest) != Some(false),
                Source::Containerd
                | Source::Podman
                | Source::Runc
                | Source::User
                | Source::Bundle => is_not_another(claim, image),
            };
            fits.then(|| name(claim.source.as_str(), image))
        })
    };
    in_spec.or_else(by_runtime)
}

/// The container's image in the Pod's specification. A static pod runs the image in its file, which
/// may differ from its copy in the API.
fn image_in_spec(facts: &Facts) -> Option<&str> {
    let pod = facts.owner().filter(|pod| pod.mirror_of.is_none())?;
    // Unless the CRI confirms it, the container's name may be forged, too.
    facts.claims.get(&Source::Cri)?;
    let container = pod.containers.get(facts.container_name()?)?;
    Some(&container.image)
}

/// The container's image in the Pod's specification, if it cannot be the one that runs: either is newer, or
/// the runtime was told something else than the API server.
pub(super) fn other_in_spec(facts: &Facts) -> Option<&str> {
    let of_digest = names_of_digest(facts);
    image_in_spec(facts).filter(|image| can_be(facts, image, &of_digest) != Some(true))
}

/// The container's image in the Pod's specification, and whether it can be the one that runs. No policy
/// applies to the Pod, so that of a static Pod is as in its file.
pub(super) fn in_spec_of_exempt(facts: &Facts) -> Option<(&str, bool)> {
    let pod = facts.owner()?;
    let by_name = || pod.containers.get(facts.container_name()?);
    let container = match facts.claims.get(&Source::Cri) {
        Some(_) => by_name(),
        None => facts.trusted().find_map(|claim| pod.container(&claim.id)),
    };
    let image = &container?.image;
    let fits = can_be(facts, image, &names_of_digest(facts)) != Some(false);
    Some((image, fits))
}

/// Whether `image` can be the image whose digest has these names; `None` if there are no names to
/// compare with.
fn can_be(facts: &Facts, image: &str, of_digest: &[Name]) -> Option<bool> {
    let Ok(asked) = Reference::parse(image) else {
        return Some(false);
    };
    let repository = asked.canonical_name();
    let is_pulled = pulled_from(facts, &repository);
    if of_digest.is_empty() && !is_pulled {
        return None;
    }
    if !digest_fits(facts, image) {
        return Some(false);
    }
    if asked.digest().is_none() && is_tagged_otherwise(of_digest, &asked, &repository) {
        return Some(false);
    }
    let fits = |name: &Name| {
        Reference::parse(&name.name).is_ok_and(|known| {
            // A tag can move to another image; the pull from the repository stays recorded as
            // `repository@digest`.
            known.canonical_name() == repository
                && (known.digest().is_none()
                    || asked.digest().is_none()
                    || known.digest() == asked.digest())
        })
    };
    Some(is_pulled || of_digest.iter().any(fits))
}

/// Whether a name has no digest other than the claim's.
fn is_not_another(claim: &Claim, name: &str) -> bool {
    let reference = Reference::parse(name).ok();
    let digests = reference
        .as_ref()
        .and_then(Reference::digest)
        .zip(claim.digest.as_deref());
    digests.is_none_or(|(named, its)| named == its)
}

/// Whether a name has no digest, or that of the image.
fn digest_fits(facts: &Facts, name: &str) -> bool {
    let reference = Reference::parse(name).ok();
    let digest = reference.as_ref().and_then(Reference::digest);
    digest.is_none_or(|digest| has_digest(facts, digest))
}

/// Whether a digest is that of the image, by the source that has compared its layers with what runs; or,
/// if none has, by any. The same content can be in any repository: a digest does not show its origin.
fn has_digest(facts: &Facts, digest: &str) -> bool {
    let mut known = false;
    let mut is_its = |claim: &Claim| {
        let in_names = claim.names.iter().filter_map(|name| name.split_once('@'));
        let mut digests = claim
            .digest
            .as_deref()
            .into_iter()
            .chain(in_names.map(|(_, digest)| digest))
            .peekable();
        known |= digests.peek().is_some();
        digests.any(|it| it == digest)
    };
    match facts.compared() {
        // That of a sandbox has no digest of its own.
        Some(claim) if claim.content == Content::Its => {
            let mut compared = facts.of_image().filter(|it| it.content == Content::Its);
            compared.any(is_its)
        }
        Some(claim) => is_its(claim),
        None => facts.of_image().any(is_its) || !known,
    }
}

/// Whether the image has other tags in this repository: then another image has the tag. If it has none at
/// all, its tag may have moved to a newer image.
fn is_tagged_otherwise(of_digest: &[Name], asked: &Reference<'_>, repository: &str) -> bool {
    let names = of_digest
        .iter()
        .filter_map(|name| Reference::parse(&name.name).ok());
    let mut tags = names
        .filter(|name| name.canonical_name() == repository && name.digest().is_none())
        .map(|name| name.tag().unwrap_or(LATEST))
        .peekable();
    let asked = asked.tag().unwrap_or(LATEST);
    tags.peek().is_some() && tags.all(|tag| tag != asked)
}

/// Whether the runtime recorded that the image's content was pulled from the repository.
fn pulled_from(facts: &Facts, repository: &str) -> bool {
    let mut sources = facts
        .of_image()
        .filter(|claim| !claim.only_layers)
        .filter_map(|claim| claim.pulled_from.as_ref())
        .flatten();
    sources.any(|source| source.can_be(repository))
}

/// All names of the image's digest that the runtimes know.
pub(super) fn names_of_digest(facts: &Facts) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    // Clients of a containerd can give any image a name with the digest of another one.
    let is_its = facts.content() == Content::Its;
    for claim in facts.of_image() {
        let image = claim
            .image
            .iter()
            .filter(|_| claim.naming == Naming::AnyOfDigest);
        let fits = |it: &String| is_name(it) && (!is_its || digest_fits(facts, it));
        for it in image.chain(&claim.names).filter(|it| fits(it)) {
            if !names.iter().any(|known| known.name == *it) {
                names.push(name(claim.source.as_str(), it));
            }
        }
    }
    // `repository@digest` beside `repository:tag` is the runtime's own second name for the same
    // image.
    let tagged: BTreeSet<_> = names
        .iter()
        .filter_map(|name| repository_of_tag(&name.name))
        .collect();
    names.retain(|name| {
        Reference::parse(&name.name).is_ok_and(|reference| {
            reference.digest().is_none() || !tagged.contains(&reference.canonical_name())
        })
    });
    names
}

fn name(source: &'static str, name: &str) -> Name {
    Name {
        name: name.to_owned(),
        source,
    }
}

/// Whether this is a name rather than an image id, which looks like a repository `sha256` with a
/// tag.
fn is_name(text: &str) -> bool {
    !text.starts_with("sha256:") && Reference::parse(text).is_ok()
}

/// The repository of a name that has a tag and no digest.
fn repository_of_tag(name: &str) -> Option<String> {
    let reference = Reference::parse(name).ok()?;
    reference
        .digest()
        .is_none()
        .then(|| reference.canonical_name())
}
