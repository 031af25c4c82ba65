//! The way on which a container came to run.

use crate::container::RuntimeHint;
use crate::facts::{Facts, Source};
use crate::pods::{Ownership, PodRecord};
use crate::verdict::Route;

/// By the runtime's record first, then by the API server's, then by the form of the cgroup's path.
pub(super) fn route(facts: &Facts) -> Route {
    let through_cri = facts.first(|claim| match claim.source {
        Source::Cri => Some(true),
        Source::Containerd => Some(claim.through_cri),
        Source::Docker | Source::Podman | Source::Runc | Source::Bundle => None,
    });
    let is_dockers = facts.claims.contains_key(&Source::Docker);
    match (through_cri, facts.identity.runtime) {
        // Whatever cgroup it was told to make the container's in. cri-dockerd starts Pods through it.
        (None | Some(false), _) if is_dockers => Route::Docker,
        // Docker keeps its containers in a containerd too.
        (Some(false), RuntimeHint::Docker) if facts.identity.pod_uid.is_none() => Route::Docker,
        // A record of containerd's that the CRI did not make is no pod's, in whatever cgroup it was put.
        (Some(false), _) => Route::Containerd,
        _ if facts.claims.contains_key(&Source::Podman) => Route::Podman,
        // State that runc keeps where no shim of containerd tells it to: started by hand, in whatever cgroup.
        _ if by_hand(facts) => Route::Runc,
        _ => of_pod(facts, through_cri.is_some()).unwrap_or_else(|| outside_pods(facts)),
    }
}

/// The route where a pod owns the container; `None` where none does.
fn of_pod(facts: &Facts, through_cri: bool) -> Option<Route> {
    let in_pod = facts.identity.pod_uid.is_some();
    match &facts.pod {
        Some(Ownership::Known(pod)) if in_pod || runs(facts, pod) => {
            if is_static(facts) || pod.mirror_of.is_some() {
                return Some(Route::StaticPod);
            }
            match facts.container_name() {
                Some(name) => match pod.containers.get(name) {
                    Some(container) if container.ephemeral => Some(Route::Ephemeral),
                    Some(_) => Some(Route::Pod),
                    // A client of the CRI put it into the pod's sandbox; the kubelet knows of no such container.
                    None => Some(Route::Cri),
                },
                // The sandbox has no name.
                None => Some(Route::Pod),
            }
        }
        // Anyone who may call the CRI can name a cgroup and a pod that is none. The copy of a static pod in the API
        // can be missing, or bear another UID.
        Some(Ownership::Absent) if in_pod && !is_static(facts) => through_cri.then_some(Route::Cri),
        _ if in_pod && is_static(facts) => Some(Route::StaticPod),
        _ => in_pod.then_some(Route::Pod),
    }
}

/// Whether the kubelet reported this container as one of the pod's.
fn runs(facts: &Facts, pod: &PodRecord) -> bool {
    facts.trusted().any(|claim| pod.runs(&claim.id))
}

fn by_hand(facts: &Facts) -> bool {
    let state = facts.claims.get(&Source::Runc);
    state.is_some_and(|state| state.runtime == "runc") && facts.trusted().count() == 1
}

fn is_static(facts: &Facts) -> bool {
    facts.identity.static_pod || facts.trusted().any(|claim| claim.static_pod == Some(true))
}

fn outside_pods(facts: &Facts) -> Route {
    if facts.claims.contains_key(&Source::Cri) || facts.trusted().any(|claim| claim.through_cri) {
        return Route::Cri;
    }
    match facts.identity.runtime {
        RuntimeHint::CriO => Route::Cri,
        RuntimeHint::Docker => Route::Docker,
        RuntimeHint::Podman => Route::Podman,
        RuntimeHint::Nerdctl => Route::Containerd,
        _ => of_runc(facts),
    }
}

/// By whose folder runc keeps its state in.
fn of_runc(facts: &Facts) -> Route {
    match facts.claims.get(&Source::Runc) {
        Some(state) if state.runtime == "docker" => Route::Docker,
        Some(_) => Route::Containerd,
        None => Route::Unknown,
    }
}
