//! `imageswap drift`: lists containers that run in a cluster now and should not, as its agents
//! report.

use crate::finding::{Finding, Verdict};
use crate::moment::Moment;
use crate::screen::Colour;
use crate::wait::runtime;
use crate::{Outcome, report};
use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_runtime::cluster::ClusterArgs;
use imageswap_runtime::text;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

mod agents;
mod groups;
mod table;

const EXIT_CODES: &str = "\
Exit codes: 0 when nothing drifts; 1 when something does; 2 when an agent did
not answer or could not be found, whatever the others said.";

/// The path of the findings on an agent's admin port.
const PAGE: &str = "/drift";

/// Moves a terminal's cursor home, and clears the screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J\x1b[3J";

/// Arguments of `imageswap drift`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Admin port of an agent, as http://HOST:PORT, instead of a cluster's agents; repeatable
    #[arg(long, value_name = "URL", conflicts_with_all = ["kubeconfig", "context"])]
    agent: Vec<String>,
    /// Namespace of the agents [default: all]
    #[arg(long, value_name = "NAME")]
    agents_namespace: Option<String>,
    /// Label selector of the agents' Pods
    #[arg(
        long,
        value_name = "LABELS",
        default_value = "app.kubernetes.io/name=imageswap-agent"
    )]
    agents_selector: String,
    /// Admin port of the agents' Pods
    #[arg(long, value_name = "PORT", default_value_t = 9465)]
    agents_port: u16,
    /// Only containers of this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Also list containers whose image is unknown
    #[arg(long)]
    unresolved: bool,
    /// Ask again every so many seconds, until stopped
    #[arg(
        short,
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,
    /// Output format; wide is a line per container, json is one object
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Wide,
    Json,
}

/// The usual cause if agents do not answer through the API server.
const BLOCKED: &str = "note: the chart's NetworkPolicy blocks the API server's proxy unless \
    networkPolicy.adminFrom has its addresses; --agent asks one agent, for example through \
    kubectl port-forward";

/// What to check if agents that are named do not answer.
const NAMED: &str = "note: check host and port: the agent's --admin sets them, by default \
    127.0.0.1:9465; kubectl port-forward reaches an agent in a cluster";

/// An agent that did not answer, and why.
#[derive(Debug, Serialize)]
struct Silent {
    agent: String,
    error: String,
}

/// The output for programs.
#[derive(Serialize)]
struct Answer<'a> {
    /// Number of agents that answered.
    agents: usize,
    silent: &'a [Silent],
    /// Number of findings for which an agent's answer had no room.
    left_out: u64,
    findings: &'a [Value],
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let runtime = runtime()?;
    let Some(seconds) = args.watch else {
        return runtime.block_on(args.drift(out));
    };
    loop {
        if args.output != Output::Json {
            start_page(out)?;
        }
        // Agents come and go: the next round may reach them.
        if let Err(error) = runtime.block_on(args.drift(out)) {
            report(&format!("error: {error:#}"));
        }
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

/// Begins a round of `--watch`: on a terminal in place of the last one.
fn start_page(out: &mut impl Write) -> Result<()> {
    if io::stdout().is_terminal() {
        // Not through `out`, which shows control characters instead of obeying them.
        io::stdout().write_all(CLEAR)?;
        io::stdout().flush()?;
    }
    writeln!(out, "{} UTC\n", Moment::now())?;
    Ok(())
}

impl Args {
    async fn drift(&self, out: &mut impl Write) -> Result<Outcome> {
        let heard = agents::ask(self).await?;
        let is_meant = |finding: &Finding| {
            let of_pod = finding.pod.as_ref().map(|pod| &pod.namespace);
            self.namespace.is_none() || self.namespace.as_ref() == of_pod
        };
        let (drift, unresolved): (Vec<_>, Vec<_>) = heard
            .findings
            .into_iter()
            .filter(|(finding, _)| is_meant(finding))
            .partition(|(finding, _)| finding.verdict == Verdict::Drift);
        let counts = [drift.len(), unresolved.len()];
        let unresolved = unresolved.into_iter().filter(|_| self.unresolved);
        let listed: Vec<_> = drift.into_iter().chain(unresolved).map(|it| it.1).collect();
        let (now, colour) = (Moment::now(), Colour::of_stdout());
        match self.output {
            Output::Json => {
                let answer = Answer {
                    agents: heard.answered,
                    silent: &heard.silent,
                    left_out: heard.left_out,
                    findings: &listed,
                };
                serde_json::to_writer(&mut *out, &answer)?;
                writeln!(out)?;
            }
            Output::Table => table::write(&shown(listed)?, now, colour, out)?,
            Output::Wide => table::wide(&shown(listed)?, now, colour, out)?,
        }
        if self.output != Output::Json {
            table::end(counts, self.unresolved, heard.answered, out)?;
        }
        out.flush()?;
        for Silent { agent, error } in &heard.silent {
            report(&format!("error: {agent} did not answer: {error}"));
        }
        if !heard.silent.is_empty() {
            report(if self.agent.is_empty() {
                BLOCKED
            } else {
                NAMED
            });
        }
        if heard.left_out > 0 {
            let number = heard.left_out;
            report(&format!(
                "error: the agents' answers leave out {number} findings; see their findings files"
            ));
        }
        let is_whole = heard.silent.is_empty() && heard.left_out == 0;
        Ok(Outcome::of(is_whole, counts[0] > 0))
    }
}

/// The findings made safe for a terminal: agents report names and images written by others.
fn shown(mut findings: Vec<Value>) -> Result<Vec<Finding>> {
    fn escape(value: &mut Value) {
        match value {
            Value::String(text) => *text = text::shown(text).into_owned(),
            Value::Array(values) => values.iter_mut().for_each(escape),
            Value::Object(fields) => fields.values_mut().for_each(escape),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    findings.iter_mut().for_each(escape);
    Ok(serde_json::from_value(Value::Array(findings))?)
}
