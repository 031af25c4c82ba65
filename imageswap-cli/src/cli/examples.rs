//! Examples for `--help`.

use clap::Command;

/// Examples by the words of the command.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "explain",
        "\
imageswap explain --policy corp.yaml nginx:1.25
imageswap explain --policy corp.yaml -n shop --labels app=web nginx
imageswap explain --maps maps.conf -o json - < images.txt",
    ),
    (
        "check",
        "\
imageswap check --policy corp.yaml -f deploy/
helm template web | imageswap check --policy corp.yaml -f -
imageswap check --policy corp.yaml -f deploy/ --deny-swaps -o sarif",
    ),
    (
        "rewrite",
        "\
imageswap rewrite --policy corp.yaml -f deploy/ --diff
helm template web | imageswap rewrite --policy corp.yaml -f - > web.yaml",
    ),
    (
        "images",
        "\
imageswap images --policy corp.yaml -f deploy/
imageswap images --policy corp.yaml -f deploy/ --missing -o skopeo
imageswap images --policy corp.yaml -f deploy/ -o skopeo",
    ),
    (
        "scan",
        "\
imageswap scan --policy corp.yaml
imageswap scan -n shop -o wide
imageswap scan --policy corp.yaml --as deny --summary",
    ),
    (
        "drift",
        "\
imageswap drift
imageswap drift -n shop --watch 5
imageswap drift --agent 127.0.0.1:9465 -o json",
    ),
    (
        "report",
        "\
imageswap report findings/*.jsonl.gz --since 2026-11-01 --until 2026-12-01
imageswap report findings/*.jsonl.gz --since 24h -o html > report.html",
    ),
    (
        "diff",
        "\
imageswap diff old.yaml new.yaml -f images.txt
imageswap diff old.yaml new.yaml -f images.txt -n shop -o json",
    ),
    (
        "test",
        "\
imageswap test tests/
imageswap test tests/cases.yaml --namespace-labels shop:team=a",
    ),
    (
        "lint",
        "\
imageswap lint corp.yaml
imageswap lint policies/ maps.conf --deny-warnings -o github",
    ),
    ("schema", "imageswap schema > imageswap-policy.schema.json"),
    (
        "init",
        "imageswap init -f deploy/ --to registry.example.com > policy.yaml",
    ),
    (
        "import",
        "\
imageswap import -f kyverno/ > policies.yaml
imageswap import -f /etc/containerd/certs.d --verify images.txt",
    ),
    (
        "import kyverno",
        "imageswap import kyverno -f policies/ > policies.yaml",
    ),
    (
        "import maps",
        "imageswap import maps -f maps.conf > policy.yaml",
    ),
    (
        "export",
        "imageswap export admission-policy --policy corp.yaml | kubectl apply -f -",
    ),
    (
        "export admission-policy",
        "\
imageswap export admission-policy --policy corp.yaml | kubectl apply -f -
imageswap export admission-policy --policy corp.yaml -o json",
    ),
    (
        "export hosts-toml",
        "imageswap export hosts-toml --policy corp.yaml /etc/containerd/certs.d",
    ),
    (
        "export registries.conf",
        "imageswap export registries.conf --policy corp.yaml > 50-imageswap.conf",
    ),
    ("version", "imageswap version"),
    (
        "completions",
        "\
imageswap completions bash > /etc/bash_completion.d/imageswap
imageswap completions kubectl > ~/bin/kubectl_complete-imageswap",
    ),
];

/// Adds the examples to the help of a command's commands.
pub(crate) fn add(command: Command) -> Command {
    below(command, "")
}

fn below(command: Command, path: &str) -> Command {
    let names: Vec<_> = command
        .get_subcommands()
        .map(|it| it.get_name().to_owned())
        .collect();
    let command = names.into_iter().fold(command, |command, name| {
        let path = format!("{path} {name}");
        command.mut_subcommand(name, |it| below(it, path.trim_start()))
    });
    let Some((_, examples)) = EXAMPLES.iter().find(|it| it.0 == path) else {
        return command;
    };
    let lines: Vec<_> = examples.lines().map(|it| format!("  {it}")).collect();
    let examples = format!("Examples:\n{}", lines.join("\n"));
    let help = match command.get_after_help() {
        Some(help) => format!("{help}\n\n{examples}"),
        None => examples,
    };
    command.after_help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;
    use imageswap_runtime::text::WIDTH;
    use std::collections::BTreeMap;

    /// The words of the commands that people see.
    fn shown(command: &Command, path: &str) -> Vec<String> {
        let commands = command.get_subcommands();
        let commands = commands.filter(|it| !it.is_hide_set() && it.get_name() != "help");
        commands
            .flat_map(|it| {
                let path = format!("{path} {}", it.get_name()).trim_start().to_owned();
                let mut all = shown(it, &path);
                all.push(path);
                all
            })
            .collect()
    }

    #[test]
    fn every_command_has_examples_that_it_understands() {
        let mut missing = shown(&command(), "");
        assert!(missing.len() > 15, "{missing:?}");
        for (path, examples) in EXAMPLES {
            missing.retain(|it| it != path);
            for line in examples.lines() {
                // With the margin; clap breaks a line before the last columns.
                assert!(line.chars().count() + 6 <= WIDTH, "{line}");
                let parts = line.split([';', '|']).map(str::trim);
                let ours: Vec<_> = parts.filter(|it| it.starts_with("imageswap ")).collect();
                assert!(
                    ours.iter()
                        .any(|it| it.starts_with(&format!("imageswap {path}"))),
                    "{line}"
                );
                for part in ours {
                    let words = part.split(['<', '>']).next().unwrap().split_whitespace();
                    let parsed = command().try_get_matches_from(words);
                    assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                }
            }
        }
        assert!(missing.is_empty(), "without an example: {missing:?}");
    }

    #[test]
    fn help_fits_80_columns() {
        for path in shown(&command(), "") {
            for flag in ["-h", "--help"] {
                let words = std::iter::once("imageswap")
                    .chain(path.split(' '))
                    .chain([flag]);
                let help = command()
                    .try_get_matches_from(words)
                    .unwrap_err()
                    .to_string();
                let wide: Vec<_> = help
                    .lines()
                    .filter(|it| it.chars().count() > WIDTH)
                    .collect();
                assert!(wide.is_empty(), "{path} {flag}: {wide:#?}");
                assert!(help.contains("\nExamples:\n  "), "{path}: {help}");
            }
        }
    }

    /// Flags with another value in another command: labels of one Pod's namespace or of several
    /// namespaces; `to` of a rule that `init` writes, and the results that `images --to` prints.
    const DIFFERENT: [&str; 2] = ["namespace-labels", "to"];

    #[test]
    fn flags_mean_the_same_everywhere() {
        let mut command = command();
        command.build();
        let (mut letters, mut flags) = (BTreeMap::new(), BTreeMap::new());
        for path in shown(&command, "") {
            let words = path.split(' ');
            let leaf = words.fold(&command, |at, name| at.find_subcommand(name).unwrap());
            for arg in leaf.get_arguments() {
                let Some(long) = arg.get_long() else { continue };
                let short = arg.get_short();
                // Every command reads its input with `-f`.
                if let Some(letter) = short.filter(|it| *it != 'f') {
                    let first = letters.entry(letter).or_insert(long);
                    assert_eq!(*first, long, "{path}: -{letter}");
                }
                let value = (short, arg.get_value_names());
                let first = flags.entry(long).or_insert(value);
                assert!(
                    *first == value || DIFFERENT.contains(&long),
                    "{path}: --{long} is {value:?}, elsewhere {first:?}"
                );
            }
        }
        assert!(flags.len() > 40, "{flags:?}");
    }
}
