//! `imageswap report`: what ran between two times that was not approved, by the agents' findings.

use crate::moment::{Moment, parse_span};
use crate::{Outcome, report as say};
use answer::{Report, Summary};
use anyhow::{Result, anyhow, bail};
use clap::{Args as ClapArgs, ValueEnum};
use containers::Containers;
use imageswap_runtime::text::Escaping;
use lines::FileSummary;
use record::Record;
use std::io::Write;
use std::path::PathBuf;
use watch::Watches;

mod answer;
mod containers;
mod csv;
mod groups;
mod html;
mod lines;
mod record;
mod table;
mod watch;

const EXIT_CODES: &str = "\
Exit codes: 0 when everything that ran was approved and every node was watched;
1 when something was not approved, or nobody watched for a while; 2 when a
finding or a file could not be read, whatever else was found.

Times are in RFC 3339 (2026-11-28T10:00:00Z), days in UTC (2026-11-28), or an
age (90s, 15m, 24h, 7d).";

/// Arguments of `imageswap report`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    /// Files of agents' findings, one JSON object per line, also compressed with gzip or zstd; of
    /// any number of nodes, in any order; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only what ran at this time or later [default: the first record]
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what ran before this time [default: the last record]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Nodes that should have been watched: one without records is reported; separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    expect_nodes: Vec<String>,
    /// Only containers of this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Output format; csv has a line per container, html is one page without scripts
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
    Csv,
    Html,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let mut containers = Containers::default();
    let mut watches = Watches::default();
    let mut take = |record: Record| match record {
        Record::Finding(finding) => {
            watches.finding(&finding.node, finding.time);
            containers.add(finding);
        }
        Record::Agent(record) => watches.add(record),
    };
    let files: Vec<_> = args
        .files
        .iter()
        .map(|path| lines::read_file(path, &mut take))
        .collect();
    for node in &args.expect_nodes {
        watches.expect(node);
    }
    watches.sort();
    let (since, until) = args.window(&watches)?;
    let starts = containers.count();
    let mut rows = containers.rows(since, until, &watches);
    if let Some(namespace) = &args.namespace {
        rows.retain(|row| row.namespace.as_ref() == Some(namespace));
    }
    let unwatched = watches.gaps(since, until);
    let lost = watches.losses(since, until);
    let report = Report {
        schema: answer::SCHEMA,
        since,
        until,
        complete: files.iter().all(|it| it.problems == 0),
        watched: unwatched.is_empty() && lost.is_empty(),
        nodes: watches.nodes(),
        starts,
        summary: Summary::of(&rows),
        policy_changes: watches.policy_changes(since, until),
        unwatched,
        lost,
        containers: rows,
        files,
    };
    match args.output {
        Output::Json => {
            serde_json::to_writer(&mut *out, &report)?;
            writeln!(out)?;
        }
        Output::Csv => csv::write(&report.containers, out)?,
        Output::Html => html::write(&report, out)?,
        Output::Table => table::write(&report, &mut Escaping::new(&mut *out))?,
    }
    out.flush()?;
    complain(&report.files);
    let is_fine = report.containers.is_empty() && report.watched;
    Ok(Outcome::of(report.complete, !is_fine))
}

impl Args {
    /// The window, by default from the first record to the last.
    fn window(&self, watches: &Watches) -> Result<(Moment, Moment)> {
        let given = |flag: &str, text: &Option<String>| -> Result<Option<Moment>> {
            let Some(text) = text else { return Ok(None) };
            let age = || Some(Moment::now().minus(parse_span(text)?));
            let moment = Moment::parse(text).or_else(age);
            moment.map(Some).ok_or_else(|| {
                anyhow!("--{flag} {text}: write a time such as 2026-11-28T10:00:00Z, a day such as 2026-11-28, or an age such as 24h")
            })
        };
        let (since, until) = (given("since", &self.since)?, given("until", &self.until)?);
        let Some((first, last)) = watches.extent() else {
            return match (since, until) {
                (Some(since), Some(until)) if since < until => Ok((since, until)),
                _ => bail!(
                    "no file has a finding, so there is no time to report on; give --since and --until"
                ),
            };
        };
        // The last record belongs to the window.
        let last = last.plus(std::time::Duration::from_micros(1));
        let (since, until) = (since.unwrap_or(first), until.unwrap_or(last));
        if since >= until {
            bail!("--since {since} has to be before --until {until}");
        }
        Ok((since, until))
    }
}

/// Reports what could not be read.
fn complain(files: &[FileSummary]) {
    for file in files {
        for problem in &file.listed {
            let line = problem
                .line
                .map(|line| format!(":{line}"))
                .unwrap_or_default();
            say(&format!("error: {}{line}: {}", file.name, problem.what));
        }
        let more = file.problems - file.listed.len() as u64;
        if more > 0 {
            say(&format!(
                "error: {}: {more} more lines like these",
                file.name
            ));
        }
        if let Some(first) = file.first_foreign_line {
            let lines = match file.foreign_lines {
                1 => "a line is".to_owned(),
                n => format!("{n} lines are"),
            };
            say(&format!(
                "note: {}:{first}: {lines} not a finding",
                file.name
            ));
        }
    }
}
