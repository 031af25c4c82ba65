//! Attacks a webhook, and prints what its API server and its kubelet noticed, as JSON.
//!
//! `hostile trial WEBHOOK DEPLOYMENT CALM SECONDS NAME` starts the program `WEBHOOK` afresh for
//! each trial, with the limits and probes of the Deployment in the file `DEPLOYMENT`. It runs
//! itself a second time for the attackers.

use std::fs;
use std::path::Path;
use std::time::Duration;

use imageswap_lab::hostile::{
    Attack, Attackers, Container, Outcome, Probes, Reviews, Target, Trial,
};
use serde_json::{Value, json};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The API server's timeout in the chart's configuration.
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match &args[..] {
        ["trial", webhook, deployment, calm, seconds, name] => {
            let trial = Trial {
                program: webhook.into(),
                container: Container::read(Path::new(deployment))?,
                attackers: Attackers::Program(std::env::current_exe()?),
                timeout: TIMEOUT,
                calm: Duration::from_secs(calm.parse()?),
                attack: Duration::from_secs(seconds.parse()?),
            };
            println!("{}", shown(&trial.run(named(name)?)?));
            Ok(())
        }
        ["attack", name, https, admin, ca, seconds] => {
            let target = Target::new(https.parse()?, admin.parse()?, &fs::read(ca)?)?;
            let duration = Duration::from_secs(seconds.parse()?);
            Ok(named(name)?.run(&target, duration)?)
        }
        _ => Err(
            "usage: hostile trial WEBHOOK DEPLOYMENT CALM SECONDS NAME, or \
                  hostile attack NAME HTTPS ADMIN CA SECONDS"
                .into(),
        ),
    }
}

fn named(name: &str) -> Result<&'static Attack> {
    Attack::named(name).ok_or_else(|| format!("there is no attack {name:?}").into())
}

fn shown(outcome: &Outcome) -> Value {
    json!({
        "calm": reviews(&outcome.calm),
        "reviews": reviews(&outcome.reviews),
        "new_connections": reviews(&outcome.fresh),
        "large": reviews(&outcome.large),
        "livez": probes(&outcome.liveness),
        "readyz": probes(&outcome.readiness),
        "memory": {
            "peak": outcome.memory.peak,
            "limit_reached": outcome.memory.limit_reached,
            "killed": outcome.memory.killed,
        },
        "logged": outcome.logged,
        "ended": outcome.ended,
    })
}

fn reviews(reviews: &Reviews) -> Value {
    json!({
        "sent": reviews.sent,
        "failed": reviews.failures(),
        "reasons": reviews.failed,
        "p50_milliseconds": reviews.percentile(50),
        "p99_milliseconds": reviews.percentile(99),
        "max_milliseconds": reviews.percentile(100),
    })
}

fn probes(probes: &Probes) -> Value {
    let (made, failed) = probes.failed();
    json!({
        "made": made,
        "failed": failed,
        "kubelet_acts": probes.would_act(),
        "age_seconds": probes.age().as_secs_f64(),
    })
}
