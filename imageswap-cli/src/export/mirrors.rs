//! `imageswap export hosts-toml` and `imageswap export registries.conf`.

use super::{Summary, outcome, print_report};
use crate::Outcome;
use crate::policy::{DateArgs, PolicyArgs};
use anyhow::{Context, Result, bail};
use clap::{Args as ClapArgs, ValueEnum};
use imageswap_export::Report;
use imageswap_export::mirrors::{self, Export, Language, hosts_toml, registries_conf};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// The file of a registry in containerd's folder.
const HOSTS: &str = "hosts.toml";
/// How a file begins that this command wrote.
const OURS: &str = "# Exported by `imageswap export hosts-toml`";

/// Arguments for both runtimes.
#[derive(Debug, ClapArgs)]
struct Common {
    #[command(flatten)]
    policy: PolicyArgs,
    /// A registry that is reached without TLS, with its port; repeatable
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
    /// Output format; json is one object with the files and the report
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    date: DateArgs,
}

/// Arguments of `imageswap export hosts-toml`.
#[derive(Debug, ClapArgs)]
pub(super) struct HostsArgs {
    /// containerd's folder of registries, usually `/etc/containerd/certs.d`
    dir: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Arguments of `imageswap export registries.conf`.
#[derive(Debug, ClapArgs)]
pub(super) struct RegistriesArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    /// Texts by their names.
    files: &'a BTreeMap<String, String>,
    report: &'a Report,
    summary: Summary,
}

/// Writes a file for each registry below the folder.
///
/// # Errors
/// A file cannot be written, or somebody else wrote it.
pub(super) fn hosts(args: &HostsArgs, out: &mut impl Write) -> Result<Outcome> {
    let export = args.common.export(Language::HostsToml)?;
    let files: BTreeMap<_, _> = export
        .mirrors
        .iter()
        .map(|it| {
            let host = it.location.split('/').next().unwrap_or_default();
            let text = hosts_toml(&export.policy, it, args.common.is_plain_http(host));
            (format!("{}/{HOSTS}", it.prefix), text)
        })
        .collect();
    for name in files.keys() {
        let path = args.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) if text.starts_with(OURS) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(_) => bail!(
                "{} exists and is not from this command: move it away",
                path.display()
            ),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    for (name, text) in &files {
        let path = args.dir.join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, text)
        };
        write().with_context(|| path.display().to_string())?;
        if args.common.output == Output::Text {
            writeln!(out, "{}", path.display())?;
        }
    }
    args.common.finish(&export, &files, out)
}

/// Prints the file.
pub(super) fn registries(args: &RegistriesArgs, out: &mut impl Write) -> Result<Outcome> {
    let export = args.common.export(Language::RegistriesConf)?;
    let is_plain_http = |host: &str| args.common.is_plain_http(host);
    let mut files = BTreeMap::new();
    if !export.mirrors.is_empty() {
        let text = registries_conf(&export.policy, &export.mirrors, is_plain_http);
        if args.common.output == Output::Text {
            out.write_all(text.as_bytes())?;
        }
        files.insert("registries.conf".to_owned(), text);
    }
    args.common.finish(&export, &files, out)
}

impl Common {
    fn export(&self, language: Language) -> Result<Export> {
        let policies = self.policy.load()?;
        Ok(mirrors::export(&policies, language, self.date.date()))
    }

    fn is_plain_http(&self, registry: &str) -> bool {
        self.plain_http.iter().any(|it| it == registry)
    }

    fn finish(
        &self,
        export: &Export,
        files: &BTreeMap<String, String>,
        out: &mut impl Write,
    ) -> Result<Outcome> {
        let report = &export.report;
        if self.output == Output::Json {
            let answer = Answer {
                files,
                report,
                summary: Summary::of(report),
            };
            writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        }
        out.flush()?;
        print_report(report);
        Ok(outcome(report, files.is_empty()))
    }
}
