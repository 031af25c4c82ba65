//! `imageswap import`: converts policies of other programs to ImageSwapPolicies.

use crate::input::{self, Input};
use crate::screen::report_wrapped;
use crate::{Outcome, report};
use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_import::{Import, Item, Source, Status, import, write};
use imageswap_policy::document::ImageSwapPolicy;
use imageswap_runtime::text::columns;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Extensions of the files that are read in a folder.
const ENDINGS: [&str; 5] = ["yaml", "yml", "json", "toml", "conf"];
/// Files of other programs that are read although their names begin with a dot.
const NAMES: [&str; 2] = [".k8s-image-swapper.yml", ".k8s-image-swapper.yaml"];

/// Arguments for every format.
#[derive(Debug, ClapArgs)]
pub(super) struct PolicyFiles {
    /// Policies and configurations of other programs: files, folders, or `-`
    #[arg(
        short,
        long = "file",
        alias = "filename",
        value_name = "PATH",
        required = true
    )]
    files: Vec<PathBuf>,
    /// Output format; json is one object with the policies and the report
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
    /// Also compare source and policies for these images: a file with one image per line, or `-`
    #[arg(long, value_name = "IMAGES")]
    verify: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    policies: &'a [ImageSwapPolicy],
    report: &'a imageswap_import::Report,
    summary: Summary,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    carried_over: usize,
    differs: usize,
    left_out: usize,
    other_documents: usize,
}

/// Runs the command: policies go to `out`, the report to standard error.
pub(super) fn run(args: &PolicyFiles, out: &mut impl Write) -> Result<Outcome> {
    let (mut inputs, errors) = input::read_all_of(&args.files, &ENDINGS, &NAMES);
    shield(&mut inputs);
    let unread = !errors.is_empty();
    for error in errors {
        report(&format!("error: {error:#}"));
    }
    let sources: Vec<Source<'_>> = inputs
        .iter()
        .map(|it| Source {
            name: &it.name,
            text: &it.text,
        })
        .collect();
    let imported = import(&sources);
    if imported.report.rules.is_empty() && imported.report.others.is_empty() {
        bail!("expected policies of another program, found none");
    }
    match args.output {
        Output::Yaml => {
            for (at, policy) in imported.policies.iter().enumerate() {
                let gap = if at == 0 { "" } else { "---\n" };
                let head = "Imported by `imageswap import`.";
                let comments = imported.comments.get(at).map_or(&[][..], Vec::as_slice);
                write!(out, "{gap}{}", write::policy(policy, head, comments))?;
            }
        }
        Output::Json => {
            let answer = Answer {
                policies: &imported.policies,
                report: &imported.report,
                summary: summary(&imported),
            };
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        }
    }
    out.flush()?;
    print_report(&imported);
    if let Some(path) = &args.verify {
        verify(&imported, &input::read(path)?.text);
    }
    let findings = unread || !imported.report.is_exact();
    Ok(Outcome::of(!imported.policies.is_empty(), findings))
}

/// Adds the folders beside containerd's `_default`, for which it is not: their files, or an empty file for a folder
/// that has none.
fn shield(inputs: &mut Vec<Input>) {
    let roots: Vec<PathBuf> = inputs
        .iter()
        .filter_map(|it| {
            let folder = it.path.as_ref()?.parent()?;
            let default = folder.file_name().is_some_and(|it| it == "_default");
            default.then(|| folder.parent().map(Path::to_owned))?
        })
        .collect();
    let mut folders: Vec<PathBuf> = Vec::new();
    for root in roots {
        let here = root.as_os_str().is_empty();
        let entries = std::fs::read_dir(if here { Path::new(".") } else { &root });
        let entries = entries.into_iter().flatten().flatten();
        folders.extend(entries.map(|it| root.join(it.file_name())));
    }
    folders.sort();
    for folder in folders.iter().filter(|it| it.is_dir()) {
        let file = folder.join("hosts.toml");
        if inputs.iter().any(|it| it.path.as_ref() == Some(&file)) {
            continue;
        }
        inputs.push(input::read(&file).unwrap_or_else(|_unread| Input {
            name: file.display().to_string(),
            path: None,
            text: String::new(),
        }));
    }
}

fn summary(imported: &Import) -> Summary {
    Summary {
        carried_over: imported.report.count(Status::CarriedOver),
        differs: imported.report.count(Status::Differs),
        left_out: imported.report.count(Status::LeftOut),
        other_documents: imported.report.others.len(),
    }
}

/// Writes the report for people.
fn print_report(imported: &Import) {
    for it in &imported.report.rules {
        report_wrapped(&format!("{}: {it}", place(it)));
        for note in &it.notes {
            report_wrapped(&format!("  note: {note}"));
        }
    }
    for it in &imported.report.others {
        let what = if it.unreadable {
            "cannot be read"
        } else {
            "not a policy that is read"
        };
        report_wrapped(&format!(
            "{}:{}:{}: {what}: {}",
            it.source, it.line, it.column, it.what
        ));
    }
    let Summary {
        carried_over,
        differs,
        left_out,
        other_documents,
    } = summary(imported);
    let others = match other_documents {
        0 => String::new(),
        count => format!("; {count} other documents"),
    };
    report(&format!(
        "{carried_over} rules carried over, {differs} carried over with differences, {left_out} left out{others}"
    ));
}

/// Writes the answers of source and policies side by side.
fn verify(imported: &Import, images: &str) {
    let mut rows = vec![["IMAGE", "POLICY", "SOURCE", "HERE", ""].map(str::to_owned)];
    for it in crate::explain::images(images).flat_map(|it| imported.verify(it)) {
        let same = if it.same { "" } else { "differs" };
        rows.push([it.image, it.policy, it.source, it.ours, same.to_owned()]);
    }
    for line in columns(&rows, |_, _, padded| padded) {
        report(&line);
    }
}

fn place(it: &Item) -> String {
    let rule = if it.rule.is_empty() {
        String::new()
    } else {
        format!(" rule {}", it.rule)
    };
    format!(
        "{}:{}:{}: {}{rule}",
        it.source, it.line, it.column, it.policy
    )
}
