//! Makes the AdmissionReview that the webhook is measured with.
//!
//! `review json BYTES` prints it, `review lua BYTES` prints a script for wrk that posts it, and
//! `review time BYTES` prints how long the webhook takes from a body's bytes to the answer's.
//! `review mutate|validate BYTES ROUNDS` answers it that many times, for a program that counts
//! instructions. With a level in `LOG`, it writes the log to standard error.

use std::hint::black_box;
use std::time::Instant;

use imageswap_lab::hostile::review;
use imageswap_policy::{Policies, maps};
use imageswap_runtime::log::{self, LogArgs, LogFormat};
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::PolicySource;
use imageswap_webhook::admit::Admission;
use imageswap_webhook::metrics::{Webhook, WebhookMetrics};

/// Rules of the measured policy; as many as a large company's.
const RULES: usize = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(what), Some(bytes)) = (args.next(), args.next()) else {
        return Err(
            "usage: review json|lua|time BYTES, or review mutate|validate BYTES ROUNDS".into(),
        );
    };
    let rounds = args.next().map_or(Ok(1), |it| it.parse())?;
    let body = review(bytes.parse()?).to_string();
    match what.as_str() {
        "json" => println!("{body}"),
        "lua" => println!(
            "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = [==[{body}]==]"
        ),
        "time" => time(&body)?,
        "mutate" => answer(Webhook::Mutate, &body, rounds)?,
        "validate" => answer(Webhook::Validate, &body, rounds)?,
        other => return Err(format!("unknown command {other:?}").into()),
    }
    Ok(())
}

fn admission() -> Result<Admission, Box<dyn std::error::Error>> {
    let text: String = std::iter::once("default::registry.example.com\n".to_owned())
        .chain(
            (1..RULES)
                .map(|i| format!("registry{i}.example.net::registry.example.com/mirror{i}\n")),
        )
        .collect();
    let policy = maps::load("measured.maps", &text)?.policy;
    Ok(Admission::new(
        PolicySource::fixed(Policies::one(policy)),
        WebhookMetrics::new(&Exporter::new()),
    ))
}

fn answer(webhook: Webhook, body: &str, rounds: u32) -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(level) = std::env::var("LOG") {
        log::init(&LogArgs {
            log_format: LogFormat::Text,
            log_level: level,
        })?;
    }
    let admission = admission()?;
    for _ in 0..rounds {
        black_box(admission.answer(webhook, black_box(body.as_bytes())));
    }
    Ok(())
}

fn time(body: &str) -> Result<(), Box<dyn std::error::Error>> {
    let admission = admission()?;
    let rounds = 100_000_u32;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(admission.answer(Webhook::Mutate, black_box(body.as_bytes())));
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds));
    }
    println!(
        "{} bytes in to bytes out: {:.2} µs (best of 5 x {rounds})",
        body.len(),
        best * 1e6
    );
    Ok(())
}
