//! The terms of a judgement. They are labels of metrics and values in findings, and do not change.

use crate::words::words;

words! {
    /// The policy's verdict about a container.
    pub enum Verdict {
        /// The policy leaves the image unchanged, and approves it.
        Approved = "approved",
        /// The policy would replace the image, or does not approve it.
        Drift = "drift",
        /// The policy does not apply.
        Exempt = "exempt",
        /// The image, or the policy's answer about it, is unknown. Neither fine nor a violation.
        Unresolved = "unresolved",
    }
}

words! {
    /// How the container was started.
    pub enum Route {
        /// A pod, by the kubelet.
        Pod = "pod",
        /// An ephemeral container of a pod, put there by `kubectl debug`.
        Ephemeral = "ephemeral",
        /// A pod from a file on the node.
        StaticPod = "static-pod",
        /// The CRI, without the kubelet.
        Cri = "cri",
        /// containerd's own clients: `ctr`, `nerdctl`.
        Containerd = "containerd",
        /// Docker.
        Docker = "docker",
        /// Podman.
        Podman = "podman",
        /// An OCI runtime called by hand.
        Runc = "runc",
        /// Not known.
        Unknown = "unknown",
    }
}

words! {
    /// Why the verdict is what it is.
    pub enum Reason {
        /// The policy approves the image.
        Ok = "ok",
        /// Admission would have changed the pod's image, but it was not changed.
        WebhookSkipped = "webhook-skipped",
        /// Admission left the pod with another image: it was changed afterwards, without admission.
        MutatedAfterAdmission = "mutated-after-admission",
        /// Admission left the image as written, because the registry did not have the policy's result.
        NotMirrored = "not-mirrored",
        /// Admission decided by an earlier revision of the policy.
        PolicyChanged = "policy-changed",
        /// Admission saw it and let it pass, because the policy only warns or audits.
        NotEnforced = "not-enforced",
        /// The image has an approved name, but its content was pulled under a name that is not
        /// approved.
        Retagged = "retagged",
        /// The image has an approved name, and its content was never pulled: built, imported or loaded on the node.
        SideLoaded = "side-loaded",
        /// No pod that went through admission owns the container.
        NotAdmitted = "not-admitted",
        /// The policy does not apply to this container.
        OutOfScope = "out-of-scope",
        /// A pod's sandbox; its image is the node's configuration.
        Sandbox = "sandbox",
        /// The digest has several names on this node, and the policy decides differently about
        /// them.
        Ambiguous = "ambiguous",
        /// The decision depends on something unknown about the pod, such as the labels of its
        /// namespace.
        ScopeUnknown = "scope-unknown",
        /// The container was gone before its image could be found.
        Gone = "gone",
        /// A runtime that may know the image did not answer.
        RuntimeUnreachable = "runtime-unreachable",
        /// The container runs in a container whose runtime is out of reach.
        Nested = "nested",
        /// The image has an approved name only by records that the container's user can write:
        /// rootless podman's or Docker's.
        Unverified = "unverified",
    }
}

/// The combinations of verdict and reason that [`crate::judge::judge`] can give.
pub const LEGAL: &[(Verdict, Reason)] = &[
    (Verdict::Approved, Reason::Ok),
    (Verdict::Approved, Reason::SideLoaded),
    (Verdict::Drift, Reason::WebhookSkipped),
    (Verdict::Drift, Reason::MutatedAfterAdmission),
    (Verdict::Drift, Reason::NotMirrored),
    (Verdict::Drift, Reason::PolicyChanged),
    (Verdict::Drift, Reason::NotEnforced),
    (Verdict::Drift, Reason::NotAdmitted),
    (Verdict::Drift, Reason::Retagged),
    (Verdict::Exempt, Reason::OutOfScope),
    (Verdict::Exempt, Reason::Sandbox),
    (Verdict::Unresolved, Reason::NotAdmitted),
    (Verdict::Unresolved, Reason::Ambiguous),
    (Verdict::Unresolved, Reason::ScopeUnknown),
    (Verdict::Unresolved, Reason::Gone),
    (Verdict::Unresolved, Reason::RuntimeUnreachable),
    (Verdict::Unresolved, Reason::Nested),
    (Verdict::Unresolved, Reason::Unverified),
];

/// Whether a combination of verdict, route and reason makes sense: reasons about admission apply
/// only to routes that go through admission.
pub fn is_legal(verdict: Verdict, route: Route, reason: Reason) -> bool {
    let admitted = matches!(route, Route::Pod | Route::Ephemeral);
    let of_route = match reason {
        Reason::WebhookSkipped
        | Reason::MutatedAfterAdmission
        | Reason::NotMirrored
        | Reason::PolicyChanged
        | Reason::NotEnforced => admitted,
        Reason::NotAdmitted => verdict != Verdict::Drift || !admitted,
        Reason::Sandbox => matches!(route, Route::Pod | Route::StaticPod | Route::Cri),
        _ => true,
    };
    of_route && LEGAL.contains(&(verdict, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The rows of the table in docs/detection.md: verdict, reason, and the routes if not all.
    fn documented() -> Vec<(String, String, String)> {
        let docs = include_str!("../../docs/detection.md");
        let (_, table) = docs
            .split_once("Only these combinations of verdict and reason occur")
            .unwrap();
        let rows = table.lines().skip_while(|line| !line.starts_with("| `"));
        let rows = rows.take_while(|line| line.starts_with('|'));
        rows.map(|row| {
            let mut cells = row
                .split('|')
                .skip(1)
                .map(|cell| cell.trim().replace('`', ""));
            let mut next = || cells.next().unwrap();
            (next(), next(), next())
        })
        .collect()
    }

    #[test]
    fn the_docs_list_the_combinations_that_are_given() {
        let mut told = BTreeSet::new();
        for (verdict, reason, routes) in documented() {
            for route in Route::ALL {
                let is_told = match &*routes {
                    "all" => true,
                    "all others" => !matches!(route, Route::Pod | Route::Ephemeral),
                    some => some.split(", ").any(|it| it == route.as_str()),
                };
                if is_told {
                    told.insert((verdict.clone(), route.as_str(), reason.clone()));
                }
            }
        }
        let mut given = BTreeSet::new();
        for verdict in Verdict::ALL {
            for route in Route::ALL {
                for reason in Reason::ALL {
                    if is_legal(*verdict, *route, *reason) {
                        let words = (
                            verdict.as_str().to_owned(),
                            route.as_str(),
                            reason.as_str().to_owned(),
                        );
                        given.insert(words);
                    }
                }
            }
        }
        assert_eq!(told, given);
    }
}
