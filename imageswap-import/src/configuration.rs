//! Configuration files of other programs: finds them among the texts, and reads those that one program reads together.

use crate::config_file::{ConfigFile, Format, split};
use crate::intent::{Intent, Reading};
use crate::report::Status;
use crate::{containerd, harbor, registries, swapper, toml};
use imageswap_policy::yaml::{Node, Value};

/// Larger TOML texts are refused; a configuration has some kilobytes.
const TOML_SIZE: usize = 1 << 20;

/// A text in which a configuration is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// Its name in the report.
    pub(crate) name: &'a str,
    /// Its path; for a key of a ConfigMap the key.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// The documents of the text, if it is YAML.
    pub(crate) documents: Option<&'a [Node]>,
}

/// What a text is.
pub(crate) enum Found {
    File(Box<ConfigFile>),
    /// It should be a configuration, and cannot be read; the place and what is wrong.
    Broken(usize, usize, String),
    /// TOML of a program that is not known.
    Other,
    None,
}

/// Finds out whether a text is a configuration file.
pub(crate) fn find(it: Candidate<'_>) -> Found {
    let (folder, base) = split(it.path);
    let drop_in = split(folder).1 == "registries.conf.d";
    let expected = base == "hosts.toml" || base == "registries.conf" || drop_in;
    let ends = |ending: &str| {
        base.rsplit_once('.')
            .is_some_and(|it| it.1.eq_ignore_ascii_case(ending))
    };
    let object = |it: &Node| matches!(it.value, Value::Mapping(_));
    let yaml = it
        .documents
        .is_some_and(|it| it.iter().any(object) || it.is_empty());
    let made = |format, node| {
        Found::File(Box::new(ConfigFile {
            format,
            name: it.name.to_owned(),
            path: it.path.to_owned(),
            text: it.text.to_owned(),
            node,
        }))
    };
    if expected || ends("toml") || ends("conf") || !yaml {
        if it.text.len() > TOML_SIZE {
            return if expected {
                Found::Broken(1, 1, "it has more than 1 MiB".to_owned())
            } else {
                Found::None
            };
        }
        match toml::parse(it.text) {
            Ok(node) => {
                let format = if base == "hosts.toml" || containerd::is_hosts(&node) {
                    Some(Format::Hosts)
                } else if expected || registries::is_registries(&node) {
                    Some(Format::Registries)
                } else {
                    None
                };
                match format {
                    Some(format) => return made(format, node),
                    None if !yaml && !node.entries().is_empty() => return Found::Other,
                    None => {}
                }
            }
            Err(at) if expected => {
                let what = "it is not TOML: expected `KEY = VALUE` or `[TABLE]`";
                return Found::Broken(at.line, at.column, what.to_owned());
            }
            Err(_) => {}
        }
    }
    match it.documents {
        Some([node]) if harbor::is_harbor(node) => made(Format::Harbor, node.clone()),
        Some([node]) if swapper::is_swapper(node) => made(Format::Swapper, node.clone()),
        _ => Found::None,
    }
}

/// Reads the files; each list belongs to one configuration.
pub(crate) fn read(files: Vec<ConfigFile>, documents: &[(&str, Node)]) -> Vec<Vec<Reading>> {
    let mut groups: Vec<(Format, String, Vec<ConfigFile>)> = Vec::new();
    for file in files {
        let (folder, _) = split(&file.path);
        let root = match file.format {
            Format::Hosts => split(folder).0.to_owned(),
            Format::Registries if split(folder).1 == "registries.conf.d" => {
                split(folder).0.to_owned()
            }
            // Keys of a ConfigMap belong together.
            Format::Registries if folder.is_empty() => {
                file.name.split(" (").next().unwrap_or_default().to_owned()
            }
            Format::Registries => folder.to_owned(),
            Format::Harbor | Format::Swapper => file.name.clone(),
        };
        let known =
            |it: &&mut (Format, String, Vec<ConfigFile>)| it.0 == file.format && it.1 == root;
        match groups.iter_mut().find(known) {
            Some(group) => group.2.push(file),
            None => groups.push((file.format, root, vec![file])),
        }
    }
    let read = groups.iter().map(|(format, _, files)| match format {
        Format::Hosts => containerd::read(files),
        Format::Registries => registries::read(files),
        Format::Harbor => harbor::read(&files[0], documents),
        Format::Swapper => swapper::read(&files[0], documents),
    });
    read.collect()
}

/// The same readings, all left out.
pub(crate) fn left_out(readings: Vec<Reading>, why: &str) -> Vec<Reading> {
    let left_out = |it: Reading| match it {
        Reading::Understood(Intent { origin, .. })
        | Reading::Settled(origin, Status::Differs, _) => Reading::LeftOut(origin, why.to_owned()),
        other => other,
    };
    readings.into_iter().map(left_out).collect()
}
