//! How the container was started.

use crate::claim::{Claim, Kind, Source};
use crate::facts::Facts;
use crate::pods::Ownership;
use crate::verdict::Route;

/// dockerd's namespace for its containers in a containerd.
const DOCKERS: &str = "moby";

/// Decides from the records of the runtimes that own the process, and from the API server's.
pub(super) fn route(facts: &Facts) -> Route {
    let claim = |source| facts.claims.get(&source);
    if let Some(cri) = claim(Source::Cri) {
        return of_pod(facts, cri);
    }
    // cri-dockerd starts Pods through Docker.
    if let Some(docker) = claim(Source::Docker) {
        return facts
            .owner()
            .map_or(Route::Docker, |_| of_pod(facts, docker));
    }
    if let Some(record) = claim(Source::Containerd) {
        return of_containerd(facts, record);
    }
    if facts.claims.contains_key(&Source::Podman) {
        return Route::Podman;
    }
    // The owner of the folder in which runc keeps its state, or a user's own records.
    let other = claim(Source::Runc).or_else(|| claim(Source::User));
    match other.map(|state| state.runtime) {
        Some("docker") => Route::Docker,
        Some("podman") => Route::Podman,
        Some("runc") => Route::Runc,
        Some(_) => Route::Containerd,
        None => Route::Unknown,
    }
}

/// The route of a container that a CRI runtime made.
fn of_pod(facts: &Facts, claim: &Claim) -> Route {
    // It runs in the place of a sandbox: the kubelet names every container.
    let is_nameless = claim.source == Source::Cri && facts.container_name().is_none();
    if is_nameless && claim.kind == Some(Kind::Container) {
        return Route::Cri;
    }
    let Some(pod) = facts.owner() else {
        // Any client of the CRI can name a pod that does not exist.
        let is_denied = facts.pod.is_some();
        return match claim.static_pod {
            _ if is_denied || claim.pod.is_none() => Route::Cri,
            // An annotation says that it comes from a file; any client of the CRI can write
            // annotations.
            Some(true) => Route::Cri,
            Some(false) | None => Route::Pod,
        };
    };
    if pod.mirror_of.is_some() {
        return Route::StaticPod;
    }
    match facts.container_name() {
        Some(name) => match pod.containers.get(name) {
            Some(container) if container.ephemeral => Route::Ephemeral,
            Some(_) => Route::Pod,
            // A client of the CRI put it into the pod's sandbox; the kubelet does not know the
            // container.
            None => Route::Cri,
        },
        // The sandbox has no name.
        None => Route::Pod,
    }
}

/// The route of a record that no CRI runtime confirms.
fn of_containerd(facts: &Facts, record: &Claim) -> Route {
    let is_denied = facts.pod == Some(Ownership::Absent);
    match (&record.pod, record.runtime_namespace.as_deref()) {
        // The CRI did not answer: only the labels name the Pod, and they exempt nothing.
        (Some(_), _) if record.through_cri && !is_denied => Route::Pod,
        _ if record.through_cri => Route::Cri,
        (_, Some(DOCKERS)) => Route::Docker,
        (_, _) => Route::Containerd,
    }
}
