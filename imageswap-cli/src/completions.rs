//! `imageswap completions`: scripts that complete the command line in shells.

use crate::Outcome;
use anyhow::Result;
use clap::builder::PossibleValue;
use clap::{Args as ClapArgs, Command, ValueEnum};
use clap_complete::aot::{Shell, generate};
use std::io::Write;

/// Arguments of `imageswap completions`.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct Args {
    /// Shell; `kubectl` completes `kubectl imageswap`
    ///
    ///   bash        source <(imageswap completions bash)
    ///   zsh         imageswap completions zsh > ~/.zfunc/_imageswap
    ///   fish        imageswap completions fish > \
    ///                 ~/.config/fish/completions/imageswap.fish
    ///   kubectl     imageswap completions kubectl > \
    ///                 /usr/local/bin/kubectl_complete-imageswap
    ///               chmod +x /usr/local/bin/kubectl_complete-imageswap
    #[arg(value_name = "SHELL", verbatim_doc_comment)]
    shell: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Shell(Shell),
    /// The program that kubectl calls to complete the words after `kubectl imageswap`.
    Kubectl,
}

impl ValueEnum for Target {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Shell(Shell::Bash),
            Self::Shell(Shell::Elvish),
            Self::Shell(Shell::Fish),
            Self::Shell(Shell::PowerShell),
            Self::Shell(Shell::Zsh),
            Self::Kubectl,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Shell(shell) => shell.to_possible_value(),
            Self::Kubectl => Some(PossibleValue::new("kubectl")),
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: Args, mut command: Command, out: &mut impl Write) -> Result<Outcome> {
    match args.shell {
        Target::Shell(shell) => {
            // The generator panics if it cannot write, so it writes to memory first.
            let mut script = Vec::new();
            generate(shell, &mut command, "imageswap", &mut script);
            out.write_all(&script)?;
        }
        Target::Kubectl => out.write_all(kubectl(&command).as_bytes())?,
    }
    out.flush()?;
    Ok(Outcome::Clean)
}

/// The template of the script, filled in with one case for each command.
const KUBECTL: &str = r#"#!/bin/sh
# Completes `kubectl imageswap`; belongs on PATH as kubectl_complete-imageswap.
path=
while [ "$#" -gt 1 ]; do
    path="$path$1 "
    shift
done
last=${1-}
case "$path" in
CASES
esac
case "$last" in
-*) words=$flags ;;
*) words=$commands ;;
esac
for word in $words; do
    case "$word" in
    "$last"*) printf '%s\n' "$word" ;;
    esac
done
# What kubectl's completion library reads: 4 is no file names, 0 leaves those to the shell.
if [ -n "$words" ]; then printf ':4\n'; else printf ':0\n'; fi
"#;

/// A program that kubectl runs with the words after `kubectl imageswap`, the last of them
/// incomplete. It prints one suggestion per line, and a directive in the last.
fn kubectl(command: &Command) -> String {
    let mut cases = Vec::new();
    push_cases(command, "", &mut cases);
    KUBECTL.replace("CASES", &cases.join("\n"))
}

/// The flags and commands after each path of commands. The deepest come first, so that the first
/// matching case is right.
fn push_cases(command: &Command, path: &str, cases: &mut Vec<String>) {
    let commands: Vec<_> = command
        .get_subcommands()
        .filter(|it| !it.is_hide_set())
        .collect();
    for it in &commands {
        push_cases(it, &format!("{path}{} ", it.get_name()), cases);
    }
    let mut flags: Vec<_> = command
        .get_arguments()
        .filter(|it| !it.is_hide_set())
        .filter_map(|it| it.get_long().map(|it| format!("--{it}")))
        .chain(["--help".to_owned()])
        .collect();
    flags.sort();
    flags.dedup();
    let flags = flags.join(" ");
    let names: Vec<_> = commands.iter().map(|it| it.get_name()).collect();
    if !names.is_empty() {
        let names = names.join(" ");
        cases.push(format!("\"{path}\") commands='{names}' flags='{flags}' ;;"));
    }
    cases.push(format!("\"{path}\"*) commands= flags='{flags}' ;;"));
}
