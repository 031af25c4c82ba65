//! The table of flags in `docs/cli.md` is the command line's own.

use super::command;
use clap::{Arg, Command};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// The section of the page.
const HEAD: &str = "## Flags\n";
const ABOUT: &str = "
Every command has `-h`, `--help` and `-V`, `--version`. A flag means the same in every command that has
it; where its words differ, it has several rows.

| flag | commands | meaning |
|---|---|---|
";

/// The flags of all commands, with the commands that have them by their meaning.
fn table() -> String {
    let mut command = command();
    command.build();
    let mut rows: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    collect(&command, "", &mut rows);
    let mut text = format!("{HEAD}{ABOUT}");
    for ((flag, meaning), commands) in rows {
        let commands: Vec<_> = commands.iter().map(|it| format!("`{it}`")).collect();
        let flag = flag
            .split_once(' ')
            .expect("a name to sort by, and the flag")
            .1;
        writeln!(text, "| {flag} | {} | {meaning} |", commands.join(", ")).expect("a String");
    }
    text
}

fn collect(command: &Command, path: &str, rows: &mut BTreeMap<(String, String), BTreeSet<String>>) {
    let flags = command
        .get_arguments()
        .filter(|it| !it.is_hide_set() && !["help", "version"].contains(&it.get_id().as_str()));
    for (arg, long) in flags.filter_map(|it| Some((it, it.get_long()?))) {
        rows.entry((format!("{long} {}", spelled(arg, long)), meaning(arg)))
            .or_default()
            .insert(path.to_owned());
    }
    for it in command
        .get_subcommands()
        .filter(|it| !it.is_hide_set() && it.get_name() != "help")
    {
        collect(it, format!("{path} {}", it.get_name()).trim_start(), rows);
    }
}

/// `-n`, `--namespace NAME`.
fn spelled(arg: &Arg, long: &str) -> String {
    let short = arg
        .get_short()
        .map(|it| format!("`-{it}`, "))
        .unwrap_or_default();
    let takes_value = arg.get_action().takes_values();
    let values = arg.get_value_names().unwrap_or_default().iter();
    let values = values.filter(|_| takes_value).map(|it| format!(" {it}"));
    format!("{short}`--{long}{}`", values.collect::<String>())
}

/// The help, the values and the default, for a cell of a table.
fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if !arg.get_action().takes_values() {
        return text;
    }
    let values = arg.get_possible_values();
    let values: Vec<_> = (values.iter().filter(|it| !it.is_hide_set()))
        .map(|it| format!("`{}`", it.get_name()))
        .collect();
    if !values.is_empty() {
        write!(text, ": {}", values.join(", ")).expect("a String");
    }
    let defaults: Vec<_> = (arg.get_default_values().iter())
        .map(|it| format!("`{}`", it.to_string_lossy()))
        .collect();
    if !defaults.is_empty() {
        write!(text, " (default: {})", defaults.join(", ")).expect("a String");
    }
    text.replace('|', "\\|")
}

/// `IMAGESWAP_WRITE=1` writes the page.
#[test]
fn the_page_has_every_flag() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, section) = page.split_at(page.find(HEAD).expect("docs/cli.md has `## Flags`"));
    let end = section[HEAD.len()..]
        .find("\n## ")
        .map_or(section.len(), |it| HEAD.len() + it + 1);
    let (section, after) = section.split_at(end);
    let table = table();
    if std::env::var_os("IMAGESWAP_WRITE").is_some() {
        std::fs::write(&path, format!("{before}{table}{after}")).unwrap();
        return;
    }
    assert!(table.lines().count() > 50, "{table}");
    assert_eq!(
        section.trim_end(),
        table.trim_end(),
        "IMAGESWAP_WRITE=1 writes it anew"
    );
}
