//! Asks every agent: through the API server, or directly if they are named.

use super::{Args, PAGE, Silent};
use crate::finding::Finding;
use anyhow::{Context as _, Result, anyhow, bail};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Config, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::Value;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::time::timeout;

/// A healthy agent answers in milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// The findings and failures.
pub(super) struct Heard {
    /// Each finding as read, and with all its fields.
    pub(super) findings: Vec<(Finding, Value)>,
    pub(super) answered: usize,
    pub(super) silent: Vec<Silent>,
    /// Findings for which an agent's answer had no room.
    pub(super) left_out: u64,
}

/// An agent: its client, path, and name in messages.
struct Agent {
    name: String,
    client: Client,
    path: String,
}

pub(super) async fn ask(args: &Args) -> Result<Heard> {
    let agents = if args.agent.is_empty() {
        of_cluster(args).await?
    } else {
        named(&args.agent)?
    };
    let mut heard = Heard {
        findings: Vec::new(),
        answered: 0,
        silent: Vec::new(),
        left_out: 0,
    };
    for agent in agents {
        match agent.ask().await {
            Ok((findings, left_out)) => {
                heard.answered += 1;
                heard.left_out += left_out;
                heard.findings.extend(findings);
            }
            Err(error) => heard.silent.push(Silent {
                agent: agent.name,
                error: format!("{error:#}"),
            }),
        }
    }
    Ok(heard)
}

fn named(urls: &[String]) -> Result<Vec<Agent>> {
    urls.iter()
        .map(|url| {
            // Without a scheme, as curl takes it.
            let full = match url.split_once("://") {
                Some(("http" | "https", _)) => url.clone(),
                Some(_) => bail!("--agent {url}: write http://HOST:PORT"),
                None => format!("http://{url}"),
            };
            let uri = full.parse().with_context(|| format!("--agent {url}"))?;
            let mut config = Config::new(uri);
            config.connect_timeout = Some(DEADLINE);
            Ok(Agent {
                name: url.clone(),
                client: Client::try_from(config).with_context(|| format!("--agent {url}"))?,
                path: PAGE.to_owned(),
            })
        })
        .collect()
}

async fn of_cluster(args: &Args) -> Result<Vec<Agent>> {
    let client = args.cluster.client().await?;
    let api = match &args.agents_namespace {
        Some(namespace) => Api::<Pod>::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let params = ListParams::default().labels(&args.agents_selector);
    let pods = api.list(&params).await.map_err(said);
    let pods = pods.context("cannot list the agents' Pods at the API server")?;
    if pods.items.is_empty() {
        bail!(
            "no Pod has the labels {}; --agents-selector names others",
            args.agents_selector
        );
    }
    let agents = pods.items.iter().map(|pod| {
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let port = args.agents_port;
        Agent {
            name: format!("{namespace}/{name} on {}", node.unwrap_or("no node")),
            client: client.clone(),
            path: format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{PAGE}"),
        }
    });
    Ok(agents.collect())
}

/// What the API server said without the object around it, or what failed without the layers of the
/// client, each of which repeats its cause.
fn said(error: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(status) = error {
        return anyhow!(status.message);
    }
    let error = anyhow::Error::from(error);
    let cause = error.root_cause();
    match cause.downcast_ref().map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => anyhow!("connection refused: nothing listens there"),
        _ => anyhow!("{cause}"),
    }
}

impl Agent {
    /// Its findings, and how many more it has than its answer has room for.
    async fn ask(&self) -> Result<(Vec<(Finding, Value)>, u64)> {
        let request = Request::get(&self.path).body(Vec::new())?;
        let text = timeout(DEADLINE, self.client.request_text(request));
        let text = text
            .await
            .map_err(|_elapsed| anyhow!("no answer in 10 s"))?;
        let text = text.map_err(said)?;
        let lines = text.lines().map(serde_json::from_str);
        let mut lines: Vec<Value> = lines
            .collect::<Result<_, _>>()
            .context("the answer is not a finding")?;
        let left_out = lines.last().and_then(|line| line["left_out"].as_u64());
        if left_out.is_some() {
            lines.pop();
        }
        let findings = lines
            .into_iter()
            .map(|whole| Ok((Finding::deserialize(&whole)?, whole)));
        let findings: Result<_, serde_json::Error> = findings.collect();
        let findings = findings.context("the answer is not a finding")?;
        Ok((findings, left_out.unwrap_or(0)))
    }
}
