//! Compares the webhook with a bare server.
//!
//! Rounds alternate between the servers, so that other load on the machine affects all of them. wrk
//! makes the load: eight open connections, each with one review of 3.2 KB at a time.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};
use imageswap_lab::{Lab, free_address};
use serde_json::json;

use super::server::{self, Server};
use super::{Format, Show, write};
use crate::process::{Workspace, find, output};
use crate::{toolchain, ui};

const ROUNDS: usize = 5;
const ROUND_SECONDS: u32 = 3;
const CONNECTIONS: u32 = 8;
const REVIEW_BYTES: &str = "3200";
/// As many rules as a large company's policy has.
const RULES: usize = 50;
/// Least share of the bare server's requests per second.
const MIN_RATIO: f64 = 0.85;
/// Most memory under load, in MiB.
const MAX_RESIDENT: f64 = 20.0;

/// What is compared.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    #[command(flatten)]
    show: Show,
    /// Also measure this webhook, such as one built from another commit
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

/// Programs and files that are measured.
struct Bench {
    lab: Lab,
    programs: PathBuf,
    script: PathBuf,
    maps: PathBuf,
}

/// What wrk saw in one round.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Round {
    requests_per_second: f64,
    /// Milliseconds.
    p99: f64,
    /// Answers other than 2xx, and connections that broke.
    errors: u64,
}

/// Builds for release, measures and prints.
pub(super) fn run_all(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let show = options.show;
    if find("wrk").is_none() {
        toolchain::install(&["wrk"], "load")?;
    }
    ui::step("building for release");
    server::build(workspace)?;
    let bench = Bench::new(workspace)?;
    let webhook = bench.programs.join("imageswap-webhook");
    let mut servers = vec![
        bench.bare()?,
        bench.webhook("webhook", &webhook, "info")?,
        bench.webhook("webhook, log level warn", &webhook, "warn")?,
    ];
    if let Some(other) = &options.against {
        servers.push(bench.webhook("the other webhook", other, "info")?);
    }
    ui::step(format_args!(
        "{ROUNDS} rounds of {ROUND_SECONDS} s for each of {} servers",
        servers.len()
    ));
    let mut rounds = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        for (server, rounds) in servers.iter().zip(&mut rounds) {
            rounds.push(bench.load(server, ROUND_SECONDS)?);
        }
    }
    let rows: Vec<Row> = servers
        .iter()
        .zip(&rounds)
        .map(|(server, rounds)| Row::new(server, rounds))
        .collect::<Result<_>>()?;
    let ratio = rows[1].requests_per_second / rows[0].requests_per_second;
    let limits = [
        (
            format!("{ratio:.2} of the bare server, at least {MIN_RATIO}"),
            ratio >= MIN_RATIO,
        ),
        (
            format!(
                "{:.1} MiB resident under load, under {MAX_RESIDENT} MiB",
                rows[1].resident
            ),
            rows[1].resident < MAX_RESIDENT,
        ),
    ];
    match show.output {
        Format::Json => print_json(&rows, ratio),
        Format::Table => print_tables(&rows, &limits),
    }
    let missed = limits.iter().any(|(_, met)| !met);
    Ok(ExitCode::from(u8::from(missed && show.check)))
}

struct Row {
    name: &'static str,
    requests_per_second: f64,
    p99: f64,
    resident: f64,
}

impl Row {
    /// Of the median rounds.
    fn new(server: &Server, rounds: &[Round]) -> Result<Self> {
        let errors: u64 = rounds.iter().map(|round| round.errors).sum();
        ensure!(errors == 0, "{}: {errors} failed requests", server.name);
        Ok(Self {
            name: server.name,
            requests_per_second: median(rounds.iter().map(|round| round.requests_per_second)),
            p99: median(rounds.iter().map(|round| round.p99)),
            resident: server.memory("VmHWM")?,
        })
    }
}

impl Bench {
    fn new(workspace: &Workspace) -> Result<Self> {
        let programs = workspace.target.join("release");
        let lab = Lab::new("bench")?;
        let maps = lab.path().join("maps");
        let rules: Vec<_> = (1..RULES)
            .map(|i| format!("registry{i}.example.net::registry.example.com/mirror{i}"))
            .collect();
        write(
            &maps,
            &format!("default::registry.example.com\n{}\n", rules.join("\n")),
        )?;
        let script = lab.path().join("review.lua");
        let mut review = Command::new(programs.join("examples/review"));
        write(&script, &output(review.args(["lua", REVIEW_BYTES]))?)?;
        Ok(Self {
            lab,
            programs,
            script,
            maps,
        })
    }

    /// A server with the same TLS and HTTP that answers as many bytes without reading the review.
    fn bare(&self) -> Result<Server> {
        let addr = free_address(Ipv4Addr::LOCALHOST)?;
        let mut command = Command::new(self.programs.join("examples/bare"));
        command
            .arg(addr.to_string())
            .arg(self.certificates())
            .arg(self.answer_bytes()?.to_string());
        Server::start("bare server", command, addr)
    }

    fn webhook(&self, name: &'static str, program: &Path, log_level: &str) -> Result<Server> {
        let policy = [OsStr::new("--maps"), self.maps.as_ref()];
        let log_level = ["--log-level", log_level].map(OsStr::new);
        Server::webhook(
            name,
            program,
            &self.certificates(),
            &[policy, log_level].concat(),
        )
    }

    fn certificates(&self) -> PathBuf {
        self.lab.path().join("tls")
    }

    /// Bytes of the webhook's answer to the review.
    fn answer_bytes(&self) -> Result<usize> {
        let webhook = self.programs.join("imageswap-webhook");
        let webhook = self.webhook("webhook", &webhook, "warn")?;
        let mut review = Command::new(self.programs.join("examples/review"));
        let review = output(review.args(["json", REVIEW_BYTES]))?;
        let ca = fs::read(self.certificates().join("ca.crt"))?;
        let client = imageswap_lab::HttpClient::with_tls(webhook.addr, "localhost", &ca)?;
        let answer = client.post("/mutate", "application/json", review)?;
        ensure!(answer.status.is_success(), "the review: {}", answer.status);
        Ok(answer.body.len())
    }

    fn load(&self, server: &Server, seconds: u32) -> Result<Round> {
        let mut wrk = Command::new("wrk");
        wrk.args(["--latency", "--threads=2", "--timeout=10s"])
            .arg(format!("--connections={CONNECTIONS}"))
            .arg(format!("--duration={seconds}s"))
            .arg("--script")
            .arg(&self.script)
            .arg(format!("https://{}/mutate?timeout=10s", server.addr));
        Round::read(&output(&mut wrk)?)
    }
}

impl Round {
    /// Reads what wrk prints.
    fn read(text: &str) -> Result<Self> {
        let line = |start: &str| {
            text.lines()
                .find_map(|line| line.trim().strip_prefix(start).map(str::trim))
        };
        let requests_per_second = line("Requests/sec:").and_then(|it| it.parse().ok());
        let p99 = line("99%").and_then(milliseconds);
        let (Some(requests_per_second), Some(p99)) = (requests_per_second, p99) else {
            bail!("wrk printed something else than expected:\n{text}");
        };
        let refused = line("Non-2xx or 3xx responses:").and_then(|it| it.parse().ok());
        // `connect 0, read 3, write 0, timeout 1`
        let broken: u64 = line("Socket errors:")
            .into_iter()
            .flat_map(|it| it.split(|c: char| !c.is_ascii_digit()))
            .filter_map(|number| number.parse::<u64>().ok())
            .sum();
        Ok(Self {
            requests_per_second,
            p99,
            errors: refused.unwrap_or(0) + broken,
        })
    }
}

/// A time as wrk prints it: `240.00us`, `1.20ms`, `3.00s`.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)];
    units.into_iter().find_map(|(unit, size)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * size)
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_tables(rows: &[Row], limits: &[(String, bool)]) {
    let mut table = vec![["", "reviews/s", "p99", "resident"].map(str::to_owned)];
    table.extend(rows.iter().map(|row| {
        [
            row.name.to_owned(),
            format!("{:.0}", row.requests_per_second),
            format!("{:.2} ms", row.p99),
            format!("{:.1} MiB", row.resident),
        ]
    }));
    ui::table(&table);
    println!();
    for (text, met) in limits {
        ui::outcome(text, *met);
    }
}

fn print_json(rows: &[Row], ratio: f64) {
    let servers: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "requests_per_second": row.requests_per_second,
                "p99_milliseconds": row.p99,
                "resident_mib": row.resident,
            })
        })
        .collect();
    println!("{}", json!({"servers": servers, "ratio": ratio}));
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "\
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   120.00us   20.00us   1.00ms   90.00%
  Latency Distribution
     50%  110.00us
     99%  240.00us
  246000 requests in 3.00s, 90.00MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 5
Requests/sec:  82000.50
";

    #[test]
    fn what_wrk_prints_is_read() {
        let round = Round::read(WRK).unwrap();
        assert_eq!(
            round,
            Round {
                requests_per_second: 82000.5,
                p99: 0.24,
                errors: 9,
            }
        );
        assert!(Round::read("unable to connect").is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(milliseconds("1.50ms"), Some(1.5));
        assert_eq!(milliseconds("2.00s"), Some(2000.0));
        assert_eq!(milliseconds("soon"), None);
    }
}
