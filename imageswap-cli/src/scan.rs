//! `imageswap scan`: checks a running cluster against the policy, before admission is switched on.

use crate::missing::MissingArgs;
use crate::policy::{DateArgs, PolicyFlags};
use crate::scope::{NamespaceArgs, Namespaces};
use crate::screen::Colour;
use crate::verdict::VerdictArgs;
use crate::wait::runtime;
use crate::{Outcome, report};
use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_policy::Policies;
use imageswap_runtime::cluster::{ClusterArgs, ObjectName};
use imageswap_runtime::policy_report::ReportApi;
use imageswap_runtime::source::Wanted;
use kube::Client;
use std::io::Write;

use api::{BETWEEN, Lister, PODS, Unseen, WORKLOADS};
use census::Census;
use missing::Missing;
use owners::{Owners, Workload};
use summary::Summary;

mod answer;
mod api;
mod census;
mod missing;
mod objects;
mod owners;
mod reports;
#[cfg(test)]
mod sample;
mod summary;
mod table;

const EXIT_CODES: &str = "\
Without a policy flag the policy is what is in force in the cluster: its
ImageSwapPolicies and the ConfigMap imageswap-system/imageswap-maps.

Exit codes: 0 when every image is approved; 1 when one is not, or what else
--fail-on names was found, or --missing and one is missing; 2 when something
could not be asked, seen or decided, whatever was found besides.";

/// Arguments of `imageswap scan`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    policy: PolicyFlags,
    /// The cluster's ImageSwapPolicies alone, without the maps ConfigMap
    #[arg(long, conflicts_with = "PolicyFlags")]
    policy_from_cluster: bool,
    /// ConfigMap whose key `maps` is a maps file of the Python ImageSwap
    #[arg(long, value_name = "NS/NAME", conflicts_with = "PolicyFlags")]
    maps_configmap: Option<ObjectName>,
    /// Namespace to scan [default: all]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Scan all namespaces, which is the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Only Pods and workloads with these labels (a label selector, as for kubectl)
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    #[command(flatten)]
    verdict: VerdictArgs,
    /// Print the counts only, by registry too
    #[arg(long)]
    summary: bool,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    date: DateArgs,
    /// Output format; wide is a line per image, json is one object, reports and policyreports are
    /// objects for kubectl apply (of openreports.io and wgpolicyk8s.io)
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    // With sections of their own, which contain all flags behind them.
    #[command(flatten)]
    missing: MissingArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Wide,
    Json,
    Reports,
    #[value(name = "policyreports")]
    PolicyReports,
}

/// Runs the command: 0 if everything is approved, 1 if something is not, 2 if something could not
/// be read.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    runtime()?.block_on(args.scan(out))
}

impl Args {
    async fn scan(&self, out: &mut impl Write) -> Result<Outcome> {
        // A policy in a file is read first: a bad one needs no cluster.
        let of_file = self
            .policy
            .given()
            .then(|| self.policy.load())
            .transpose()?;
        let client = self.cluster.client().await?;
        let policies = match of_file {
            Some(policies) => policies,
            None => self.in_force(&client).await?,
        };
        let mut census = Census::new(
            &policies,
            Namespaces::new(&self.namespaces),
            self.date.date(),
        )
        .judging(&self.verdict);
        let unseen = self.look(&client, &mut census).await?;
        let missing = Missing::ask(&self.missing, &census).await?;
        let summary = Summary::of(&census, &self.verdict);
        let colour = Colour::of_stdout();
        match self.output {
            Output::Json => {
                let found = answer::Found {
                    census: &census,
                    summary: &summary,
                    unseen: &unseen,
                    missing: missing.as_ref(),
                };
                let (verdict, rows) = (&self.verdict, !self.summary);
                answer::write(&found, &policies, verdict, rows, out)?;
            }
            Output::Reports => {
                reports::write(&census, ReportApi::OpenReports, &self.verdict, out)?;
            }
            Output::PolicyReports => {
                reports::write(&census, ReportApi::PolicyReports, &self.verdict, out)?;
            }
            Output::Table | Output::Wide if self.summary => {}
            Output::Table => table::narrow(&census, colour, out)?,
            Output::Wide => table::wide(&census, colour, out)?,
        }
        if matches!(self.output, Output::Table | Output::Wide) {
            if let Some(missing) = &missing {
                missing.write(out)?;
            }
            table::end(&summary, &unseen, out)?;
        }
        out.flush()?;
        for it in &unseen {
            report(&format!(
                "error: cannot list {}: {}",
                it.resource, it.reason
            ));
        }
        census.undecided().report();
        let unknown = missing.as_ref().is_some_and(Missing::report_unknown);
        let complete = unseen.is_empty() && census.undecided().is_empty() && !unknown;
        let absent = missing.as_ref().map_or(0, Missing::count);
        Ok(Outcome::of(complete, summary.findings + absent > 0))
    }

    /// The policies that would be in force in the services.
    async fn in_force(&self, client: &Client) -> Result<Policies> {
        let wanted = match (self.policy_from_cluster, &self.maps_configmap) {
            (false, None) => Wanted::default(),
            (documents, maps) => Wanted {
                documents,
                maps: maps.clone(),
                ..Wanted::default()
            },
        };
        let found = wanted.read(client).await?;
        for message in &found.messages {
            report(&format!("warning: {message}"));
        }
        if found.policies.is_empty() {
            bail!(
                "no policy is in force in this cluster; give one with --policy, --maps or \
                 --image-prefix"
            );
        }
        Ok(found.policies)
    }

    /// Lists everything, and reports what could not be read.
    async fn look(&self, client: &Client, census: &mut Census<'_>) -> Result<Vec<Unseen>> {
        let selector = self.selector.as_deref();
        let mut lister = Lister::new(client, self.namespace.as_deref());
        lister.namespaces(|it| census.namespace(&it)).await?;
        for resource in WORKLOADS {
            let take = |object| template(census, resource.kind, &object);
            lister.each(resource, selector, take).await?;
        }
        let mut owners = Owners::default();
        for resource in BETWEEN {
            // The Pods of a workload need not have the workload's labels, but their owners are
            // still needed.
            let take = |object| {
                owners.add(&object);
                if selector.is_none() {
                    template(census, resource.kind, &object);
                }
            };
            lister.each(resource, None, take).await?;
            if selector.is_some() {
                let take = |object| template(census, resource.kind, &object);
                lister.each(resource, selector, take).await?;
            }
        }
        let take = |pod| census.pod(&owners, &pod);
        lister.each(PODS, selector, take).await?;
        let mut unseen = lister.unseen;
        unseen.dedup();
        Ok(unseen)
    }
}

/// Adds the template of a workload without a controller; other templates belong to their owners.
fn template(census: &mut Census<'_>, kind: &str, object: &objects::Object) {
    if object.controller().is_none()
        && let Some(content) = object.template()
    {
        census.template(&Workload::of(kind, object), content);
    }
}
