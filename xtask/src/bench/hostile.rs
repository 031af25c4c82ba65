//! Attacks the webhook under its container's memory limit with each of the lab's hostile clients in
//! turn.
//!
//! Each attack gets a fresh webhook. The API server's latency is compared with its latency before
//! the attack on the same webhook. Attackers run on the same machine, so the processor time that
//! they use counts too.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use imageswap_lab::hostile::{ATTACKS, Attack, Container};
use imageswap_lab::is_root;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::{Workspace, cargo, output, run};
use crate::ui;

/// Has the Deployment whose limits and probes are used, as generated from the chart.
const DEPLOYMENT: &str = "deploy/install.yaml";
/// Milliseconds within which 99 of 100 reviews of the API server must be answered.
const MAX_P99: f64 = 50.0;
/// Seconds to start and stop a webhook, and for reviews that are not counted.
const AROUND: u64 = 4;

/// Which attacks, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Only these attacks (repeatable, or with commas)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// All attacks but these (repeatable, or with commas)
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with = "only"
    )]
    except: Vec<String>,
    /// Seconds that each attack lasts
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Attack this program instead of building one
    #[arg(long, value_name = "FILE")]
    webhook: Option<PathBuf>,
    /// Exit with code 1 when a limit is not kept
    #[arg(long)]
    check: bool,
    /// How the figures are printed
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people
    Table,
    /// The table of docs/performance.md
    Markdown,
    /// For programs
    Json,
}

/// An attack and its outcome.
struct Row {
    attack: &'static Attack,
    outcome: Outcome,
    limit: u64,
    /// As it was printed.
    json: Value,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    calm: Reviews,
    reviews: Reviews,
    new_connections: Reviews,
    large: Reviews,
    livez: Probes,
    readyz: Probes,
    memory: Memory,
    ended: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Reviews {
    sent: usize,
    failed: usize,
    reasons: std::collections::BTreeMap<String, usize>,
    p50_milliseconds: Option<f64>,
    p99_milliseconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Probes {
    failed: usize,
    kubelet_acts: bool,
    age_seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Memory {
    peak: u64,
    limit_reached: u64,
    killed: u64,
}

/// Builds for release, attacks, and prints.
pub(super) fn run_all(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    ensure!(
        is_root(),
        "a memory limit needs root: sudo -E cargo xtask bench hostile"
    );
    let attacks = chosen(options)?;
    let deployment = workspace.root.join(DEPLOYMENT);
    let limit = Container::read(&deployment)?.memory;
    let programs = build(workspace, options.webhook.is_none())?;
    let webhook = options.webhook.clone();
    let webhook = webhook.unwrap_or_else(|| programs.join("imageswap-webhook"));
    let calm = (options.seconds / 6).clamp(2, 3);
    let each = options.seconds + calm + AROUND;
    ui::step(format_args!(
        "{} attacks, {}",
        attacks.len(),
        ui::Took(Duration::from_secs(each * attacks.len() as u64))
    ));
    let mut rows = Vec::new();
    // A trial that fails to start must not hide the results of the others.
    let mut broken = Vec::new();
    for (at, attack) in (1..).zip(&attacks) {
        let of = format_args!("{at}/{}", attacks.len());
        ui::step(format_args!(
            "{of} {}: {} ({})",
            attack.name, attack.what, attack.clients
        ));
        let mut trial = Command::new(programs.join("examples/hostile"));
        trial.arg("trial").arg(&webhook).arg(&deployment);
        trial.args([&calm.to_string(), &options.seconds.to_string(), attack.name]);
        match Row::read(attack, limit, &mut trial) {
            Ok(row) => {
                eprintln!("    {}", row.summary());
                rows.push(row);
            }
            Err(error) => {
                eprintln!("    no result: {error:#}");
                broken.push(format!("{}: {error:#}", attack.name));
            }
        }
    }
    match options.output {
        Format::Json => println!("{}", json_of(&rows, limit)),
        Format::Markdown => print_markdown(&rows),
        Format::Table => print_table(&rows, limit),
    }
    for error in &broken {
        eprintln!("error: {error}");
    }
    let missed = rows.iter().any(|row| !row.missed().is_empty());
    let failed = !broken.is_empty() || (missed && options.check);
    Ok(ExitCode::from(u8::from(failed)))
}

fn chosen(options: &Options) -> Result<Vec<&'static Attack>> {
    for name in options.only.iter().chain(&options.except) {
        if Attack::named(name).is_none() {
            let all: Vec<_> = ATTACKS.iter().map(|attack| attack.name).collect();
            bail!("no attack {name:?}; there are {}", all.join(", "));
        }
    }
    let named = |names: &[String], attack: &Attack| names.iter().any(|it| it == attack.name);
    let attacks = ATTACKS.iter().filter(|attack| {
        (options.only.is_empty() || named(&options.only, attack)) && !named(&options.except, attack)
    });
    Ok(attacks.collect())
}

/// The folder with the programs.
fn build(workspace: &Workspace, webhook: bool) -> Result<PathBuf> {
    ui::step("building for release");
    let programs = [
        ("imageswap-lab", "--example=hostile"),
        ("imageswap-webhook", "--bins"),
    ];
    for (package, what) in &programs[..=usize::from(webhook)] {
        let mut build = cargo();
        build.current_dir(&workspace.root);
        build.args(["build", "--release", "--quiet", "--package", package, what]);
        run(&mut build)?;
    }
    Ok(workspace.target.join("release"))
}

impl Row {
    fn read(attack: &'static Attack, limit: u64, trial: &mut Command) -> Result<Self> {
        let printed = output(trial)?;
        let json: Value = serde_json::from_str(&printed).context("what the trial printed")?;
        Ok(Self {
            attack,
            outcome: Outcome::deserialize(&json).context("what the trial printed")?,
            limit,
            json,
        })
    }

    /// The limits that were not kept, in words.
    fn missed(&self) -> Vec<String> {
        let Outcome {
            reviews,
            new_connections,
            livez,
            readyz,
            memory,
            ended,
            ..
        } = &self.outcome;
        let mut missed = Vec::new();
        for (what, seen) in [("reviews", reviews), ("new connections", new_connections)] {
            if seen.failed > 0 || seen.sent == 0 {
                missed.push(format!("{} of {} {what} failed", seen.failed, seen.sent));
            }
        }
        if !reviews.p99_milliseconds.is_some_and(|it| it < MAX_P99) {
            missed.push(format!("p99 is not under {MAX_P99} ms"));
        }
        if livez.kubelet_acts {
            missed.push("a kubelet restarts it".to_owned());
        }
        if readyz.kubelet_acts {
            missed.push("a kubelet takes it out of service".to_owned());
        }
        if memory.killed > 0 {
            missed.push("killed because memory ran out".to_owned());
        } else if memory.peak >= self.limit || memory.limit_reached > 0 {
            missed.push("the memory limit was reached".to_owned());
        }
        if let Some(ended) = ended {
            let status = ended.lines().next().unwrap_or_default();
            missed.push(format!("it ended: {status}"));
        }
        missed
    }

    /// How many reviews of usual Pods failed, and how many there were.
    fn failed(&self) -> (usize, usize) {
        let (kept, new) = (&self.outcome.reviews, &self.outcome.new_connections);
        (kept.failed + new.failed, kept.sent + new.sent)
    }

    /// The p99, and what that is times the p99 before the attack.
    fn p99(&self) -> (Option<f64>, Option<f64>) {
        let p99 = self.outcome.reviews.p99_milliseconds;
        let calm = self.outcome.calm.p99_milliseconds;
        (p99, p99.zip(calm).map(|(p99, calm)| p99 / calm))
    }

    fn summary(&self) -> String {
        let missed = self.missed();
        if !missed.is_empty() {
            return format!("missed: {}", missed.join("; "));
        }
        let (p99, ratio) = self.p99();
        format!(
            "none of {} failed, p99 {} ms ({} x calm)",
            self.failed().1,
            shown(p99),
            shown(ratio)
        )
    }

    fn cells(&self) -> [String; 9] {
        let outcome = &self.outcome;
        let (p99, ratio) = self.p99();
        let mark = if self.missed().is_empty() { "" } else { " !" };
        [
            self.attack.name.to_owned(),
            self.attack.clients.to_string(),
            self.failed().0.to_string(),
            outcome.large.failed.to_string(),
            shown(outcome.reviews.p50_milliseconds),
            shown(p99),
            shown(ratio),
            format!("{:.0}", mebibytes(outcome.memory.peak)),
            format!(
                "{:.1}, {}{mark}",
                outcome.livez.age_seconds, outcome.livez.failed
            ),
        ]
    }
}

fn shown(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |it| format!("{it:.1}"))
}

/// The table of docs/performance.md, and what was missed.
fn print_markdown(rows: &[Row]) {
    println!("| | clients | failed | p50 | p99 | x calm | memory | `/livez` |");
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        let (failed, sent) = row.failed();
        let (p99, ratio) = row.p99();
        let outcome = &row.outcome;
        let cells = [
            row.attack.what.to_owned(),
            row.attack.clients.to_string(),
            format!("{failed} of {sent}"),
            format!("{} ms", shown(outcome.reviews.p50_milliseconds)),
            format!("{} ms", shown(p99)),
            shown(ratio),
            format!("{:.0} MiB", mebibytes(outcome.memory.peak)),
            format!("{:.1} s", outcome.livez.age_seconds),
        ];
        println!("| {} |", cells.join(" | "));
    }
    let large = rows.iter().filter(|row| row.outcome.large.failed > 0);
    let large = large.map(|row| {
        let large = &row.outcome.large;
        format!("{} {} of {}", row.attack.name, large.failed, large.sent)
    });
    let missed = rows.iter().filter(|row| !row.missed().is_empty());
    let missed = missed.map(|row| format!("{}: {}", row.attack.name, row.missed().join(", ")));
    for (what, list) in [
        ("Reviews of 150 KB that failed", large.collect::<Vec<_>>()),
        ("Limits missed", missed.collect()),
    ] {
        let list = if list.is_empty() {
            "none".to_owned()
        } else {
            list.join("; ")
        };
        println!("\n{what}: {list}.");
    }
}

fn print_table(rows: &[Row], limit: u64) {
    let head = [
        "", "clients", "failed", "large", "p50 ms", "p99 ms", "x calm", "MiB", "livez",
    ];
    let mut table = vec![head.map(str::to_owned)];
    table.extend(rows.iter().map(Row::cells));
    ui::table(&table);
    println!();
    println!("  failed: reviews of 3.2 KB without an answer in 5 s; large: of 150 KB");
    println!("  livez: seconds without a good answer, and probes that failed, of one a second");
    println!(
        "  limits: none failed, p99 {MAX_P99} ms, {:.0} MiB\n",
        mebibytes(limit)
    );
    let mut good = true;
    for row in rows {
        for missed in row.missed() {
            good = false;
            ui::bad(format_args!("{}: {missed}", row.attack.name));
        }
        let seen = [
            &row.outcome.reviews,
            &row.outcome.new_connections,
            &row.outcome.large,
        ];
        for (reason, count) in seen.iter().flat_map(|it| &it.reasons) {
            println!("      {count} x {reason}");
        }
    }
    if good {
        ui::good(format_args!("{} attacks, all limits met", rows.len()));
    }
}

fn json_of(rows: &[Row], limit: u64) -> Value {
    let attacks: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.attack.name,
                "what": row.attack.what,
                "clients": row.attack.clients,
                "missed": row.missed(),
                "outcome": row.json,
            })
        })
        .collect();
    json!({"memory_limit": limit, "p99_limit_milliseconds": MAX_P99, "attacks": attacks})
}

#[expect(clippy::cast_precision_loss, reason = "no machine has so much memory")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
