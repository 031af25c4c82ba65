//! The API server, and what it allows the agent.

use super::Check;
use imageswap_runtime::cluster::ClusterArgs;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::timeout;

/// An API server that takes longer counts as down.
const DEADLINE: Duration = Duration::from_secs(10);

const NO_PODS: &str = "what the runtimes know of Pods has to do";

/// Group, resource, verbs, and the cost of missing rights.
const RIGHTS: [(&str, &str, &[&str], &str); 4] = [
    ("", "pods", &["list", "watch", "get"], NO_PODS),
    (
        "",
        "namespaces",
        &["list", "watch"],
        "pods stay unresolved where policies select by labels of namespaces",
    ),
    (
        "events.k8s.io",
        "events",
        &["create", "patch"],
        "no Events on Pods",
    ),
    (
        "",
        "pods/eviction",
        &["create"],
        "--respond evict does nothing",
    ),
];

pub(super) async fn checks(args: &ClusterArgs) -> Vec<Check> {
    let version = async {
        let client = args.client().await.map_err(|error| error.to_string())?;
        let version = client.apiserver_version().await;
        let version = version.map_err(|error| error.to_string())?;
        Ok::<_, String>((client, version.git_version))
    };
    let client = match timeout(DEADLINE, version).await {
        Ok(Ok((client, version))) => (client, version),
        Ok(Err(error)) => return vec![Check::lacking("api-server", error, NO_PODS)],
        Err(_elapsed) => return vec![Check::lacking("api-server", "no answer", NO_PODS)],
    };
    let (client, version) = client;
    let mut checks = vec![Check::ok("api-server", version)];
    for (group, resource, verbs, cost) in RIGHTS {
        let mut refused = Vec::new();
        for verb in verbs {
            if !may(&client, group, resource, verb).await {
                refused.push(*verb);
            }
        }
        checks.push(if refused.is_empty() {
            Check::ok("rights", format!("{} {resource}", verbs.join(", ")))
        } else {
            let found = format!("may not {} {resource}", refused.join(", "));
            Check::lacking("rights", found, cost)
        });
    }
    checks
}

/// Whether the API server grants this right; no answer counts as no.
async fn may(client: &Client, group: &str, resource: &str, verb: &str) -> bool {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api = Api::<SelfSubjectAccessReview>::all(client.clone());
    let params = PostParams::default();
    let answer = timeout(DEADLINE, api.create(&params, &review)).await;
    answer.is_ok_and(|answer| {
        answer.is_ok_and(|review| review.status.is_some_and(|status| status.allowed))
    })
}
