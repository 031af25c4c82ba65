//! A smoke test of an installation; it leaves nothing behind in the cluster.

use std::process;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use imageswap_lab::wait_until;
use serde_json::{Value, json};

use super::{Cluster, Release};
use crate::ui;

/// An image that most policies change or deny.
const IMAGE: &str = "nginx:1.25";
/// The label with which ImageSwap's maps file opts namespaces in.
const OPT_IN: (&str, &str) = ("k8s.twr.io/imageswap", "enabled");
/// The API server needs seconds to read changed configurations and to connect to the webhook.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints how the cluster answers for a Pod; fails if the webhook is not called.
pub(super) fn run(cluster: &Cluster, release: &Release) -> Result<()> {
    if asks_about_policies(cluster, release)? {
        reaches(cluster)?;
        ui::good("the API server reaches the webhook: a policy that does not load is refused");
    } else {
        ui::left_out("whether the API server reaches the webhook: policies are not validated");
    }
    let policies = in_force(cluster)?;
    ui::good(format_args!("in force: {policies}"));
    let namespace = format!("imageswap-smoke-{}", process::id());
    let object = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {OPT_IN.0: OPT_IN.1}},
    });
    if let Err(refused) = cluster.send(&["create"], &object)? {
        bail!("cannot make a namespace to try a Pod in: {refused}");
    }
    let outcome = try_pod(cluster, &namespace);
    // Nothing has ever run in the namespace.
    let gone = cluster.kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
    let outcome = outcome?;
    gone.with_context(|| format!("the namespace {namespace} is left behind"))?;
    ui::good(outcome.to_string());
    Ok(())
}

/// Whether a configuration of the release sends policies to the webhook.
fn asks_about_policies(cluster: &Cluster, release: &Release) -> Result<bool> {
    let selector = format!("app.kubernetes.io/instance={}", release.name);
    let list = cluster.json(&[
        "get",
        "validatingwebhookconfigurations",
        "--selector",
        &selector,
    ])?;
    let webhooks = list["items"].as_array().into_iter().flatten();
    let mut webhooks = webhooks.flat_map(|it| it["webhooks"].as_array().into_iter().flatten());
    Ok(webhooks.any(|it| it["name"] == "policy.imageswap.io"))
}

/// Waits until a policy that does not load is refused. Only the webhook can refuse it; while the
/// webhook is unreachable, the API server accepts it.
fn reaches(cluster: &Cluster) -> Result<()> {
    let policy = json!({
        "apiVersion": "imageswap.io/v1alpha1",
        "kind": "ImageSwapPolicy",
        "metadata": {"name": "imageswap-smoke"},
        "spec": {"rules": [{"from": "docker.io/**"}]},
    });
    let mut last = None;
    let refused = wait_until(PATIENCE, || {
        let answer = cluster.send(&["create", "--dry-run=server"], &policy);
        let refused = matches!(&answer, Ok(Err(text)) if text.contains("admission webhook"));
        last = Some(answer);
        refused
    });
    if refused {
        return Ok(());
    }
    match last.context("the API server was not asked")?? {
        Ok(answer) => bail!(
            "a policy that does not load is let in after {} s: the API server does not reach the webhook, or does not \
             trust it{}",
            PATIENCE.as_secs(),
            hint(&answer.warnings)
        ),
        Err(text) => bail!("a policy cannot be tried: {text}"),
    }
}

fn hint(warnings: &str) -> String {
    if warnings.is_empty() {
        String::new()
    } else {
        format!(": {warnings}")
    }
}

/// The policies, as the cluster has them.
fn in_force(cluster: &Cluster) -> Result<String> {
    let policies = cluster.json(&["get", "imageswappolicies.imageswap.io"])?;
    let maps = cluster.kubectl(&[
        "get",
        "configmaps",
        "--all-namespaces",
        "--field-selector",
        "metadata.name=imageswap-maps",
        "--output",
        "name",
    ])?;
    Ok(describe(&policies, !maps.trim().is_empty()))
}

fn describe(policies: &Value, maps: bool) -> String {
    let mut known = Vec::new();
    for policy in policies["items"].as_array().into_iter().flatten() {
        let name = policy["metadata"]["name"].as_str().unwrap_or_default();
        known.push(match policy["status"]["revision"].as_str() {
            Some(revision) => format!("{name} ({revision})"),
            None => format!("{name} (not accepted yet)"),
        });
    }
    match (known.is_empty(), maps) {
        (false, _) => format!("ImageSwapPolicy {}", known.join(", ")),
        (true, true) => "the maps file of ConfigMap imageswap-maps".to_owned(),
        (true, false) => "no policy, so every image stays".to_owned(),
    }
}

/// The cluster's answer for the Pod.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Runs { image: String, warnings: String },
    Refused(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Runs { image, warnings } => {
                if image == IMAGE {
                    write!(f, "a Pod of {IMAGE} would keep that image")?;
                } else {
                    write!(f, "a Pod of {IMAGE} would run {image}")?;
                }
                f.write_str(&hint(warnings))
            }
            Self::Refused(why) => write!(f, "a Pod of {IMAGE} would be refused: {why}"),
        }
    }
}

/// Creates a Pod as a dry run.
fn try_pod(cluster: &Cluster, namespace: &str) -> Result<Outcome> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "containers": [{"name": "web", "image": IMAGE}],
            // The account's token does not exist yet and is not needed.
            "automountServiceAccountToken": false,
        },
    });
    let mut last = None;
    // A namespace's service account is created a moment after the namespace.
    let answered = wait_until(PATIENCE, || {
        let answer = cluster.send(&["create", "--dry-run=server", "--output", "json"], &pod);
        let early = matches!(&answer, Ok(Err(text)) if text.contains("serviceaccount"));
        last = Some(answer);
        !early
    });
    let answer = last.context("the API server was not asked")??;
    Ok(match answer {
        Ok(answer) => {
            let pod: Value = serde_json::from_str(&answer.stdout).context("the Pod")?;
            let image = pod["spec"]["containers"][0]["image"].as_str();
            Outcome::Runs {
                image: image.context("a Pod without an image")?.to_owned(),
                warnings: answer.warnings,
            }
        }
        Err(text) if answered && text.contains("admission webhook") => Outcome::Refused(text),
        Err(text) => bail!("a Pod cannot be tried: {text}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_with_their_revisions() {
        let policies = json!({"items": [
            {"metadata": {"name": "corp"}, "status": {"revision": "1a2b3c4d"}},
            {"metadata": {"name": "new"}},
        ]});
        assert_eq!(
            describe(&policies, true),
            "ImageSwapPolicy corp (1a2b3c4d), new (not accepted yet)"
        );
        let none = json!({"items": []});
        assert_eq!(
            describe(&none, true),
            "the maps file of ConfigMap imageswap-maps"
        );
        assert_eq!(describe(&none, false), "no policy, so every image stays");
    }

    #[test]
    fn the_outcome_says_what_became_of_the_image() {
        let runs = |image: &str, warnings: &str| Outcome::Runs {
            image: image.to_owned(),
            warnings: warnings.to_owned(),
        };
        assert_eq!(
            runs("r.io/nginx:1.25", "").to_string(),
            "a Pod of nginx:1.25 would run r.io/nginx:1.25"
        );
        assert_eq!(
            runs(IMAGE, "Warning: not approved").to_string(),
            "a Pod of nginx:1.25 would keep that image: Warning: not approved"
        );
        assert!(
            Outcome::Refused("denied".to_owned())
                .to_string()
                .ends_with("refused: denied")
        );
    }
}
