//! `imageswap diff`: compares two policies for a list of images.

use crate::explain::images;
use crate::policy::{DateArgs, load_any};
use crate::scope::{ScopeArgs, Undecided};
use crate::screen::{Colour, Output, Tone};
use crate::{Outcome, input};
use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use imageswap_policy::{Decision, Reason};
use imageswap_runtime::text::shown;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `imageswap diff`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The present policy: ImageSwapPolicies (a file or folder), or a maps file
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The changed policy
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Images, one per line; `-` is standard input
    #[arg(short = 'f', long = "images", value_name = "FILE", required = true)]
    images: Vec<PathBuf>,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    date: DateArgs,
    /// Output format; json is one object per line
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One policy's decision about an image.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Side<'a> {
    result: &'a str,
    approved: bool,
    in_scope: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Change<'a> {
    image: &'a str,
    old: Side<'a>,
    new: Side<'a>,
}

/// Runs the command: 0 if nothing changes, 1 if something does, 2 if too little is known about the
/// Pod to decide.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let (old, new) = (load_any(&args.old)?, load_any(&args.new)?);
    let mut texts = Vec::new();
    for path in &args.images {
        texts.push(input::read(path)?.text);
    }
    let images: Vec<_> = texts.iter().flat_map(|it| images(it)).collect();
    if images.is_empty() {
        bail!("expected images, one a line, found none");
    }
    let date = args.date.date();
    let colour = Colour::of_stdout();
    let sides = [&old, &new].map(|it| args.scope.select(it, date));
    let mut undecided = Undecided::default();
    let (mut changes, mut unknown) = (0_usize, 0_usize);
    for image in &images {
        let [before, after] = sides.each_ref().map(|it| it.decide(image));
        let mut known = true;
        for (side, decision) in sides.iter().zip([&before, &after]) {
            if decision.reason == Reason::ScopeUnknown {
                undecided.add(side, None, None);
                known = false;
            }
        }
        if !known {
            unknown += 1;
            continue;
        }
        let change = Change {
            image,
            old: side(&before),
            new: side(&after),
        };
        if (change.old.result, change.old.approved) == (change.new.result, change.new.approved) {
            continue;
        }
        changes += 1;
        match args.output {
            Output::Json => writeln!(out, "{}", serde_json::to_string(&change)?)?,
            Output::Table => {
                writeln!(out, "{}", colour.paint(Tone::Title, &shown(image)))?;
                for (tone, sign, side) in [
                    (Tone::Bad, '-', &change.old),
                    (Tone::Good, '+', &change.new),
                ] {
                    let line = format!("{sign} {}", shown(&text(side)));
                    writeln!(out, "{}", colour.paint(tone, &line))?;
                }
            }
        }
    }
    if args.output == Output::Table {
        let total = images.len();
        write!(out, "{changes} of {total} images change")?;
        match unknown {
            0 => writeln!(out)?,
            _ => writeln!(out, ", {unknown} not decided")?,
        }
    }
    out.flush()?;
    undecided.report();
    Ok(Outcome::of(undecided.is_empty(), changes > 0))
}

fn side<'a>(decision: &'a Decision<'_>) -> Side<'a> {
    Side {
        result: &decision.result,
        approved: decision.approved,
        in_scope: decision.in_scope,
        rule: decision.rule,
    }
}

fn text(side: &Side<'_>) -> String {
    let approval = match (side.in_scope, side.approved) {
        (false, _) => "no policy applies",
        (true, true) => "approved",
        (true, false) => "not approved",
    };
    let rule = side.rule.map(|it| format!(", rule {it}"));
    format!("{} ({approval}{})", side.result, rule.unwrap_or_default())
}
