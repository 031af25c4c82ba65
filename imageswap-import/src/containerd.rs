//! containerd's `hosts.toml` trees: the mirrors of a registry as rules.
//!
//! containerd asks the hosts of a file in their order, and last the server. A host without `resolve` is not asked what
//! a tag is, one without `pull` has no content. The image keeps its name on the node, whichever host it comes from.

use crate::config_file::{ConfigFile, flag, list, split, text, unknown};
use crate::image::Image;
use crate::intent::{Effect, Origin, Reading, Vocabulary};
use crate::report::Status;
use endpoint::Endpoint;
use imageswap_policy::yaml::{Node, Span, Value};
use std::rc::Rc;

mod endpoint;

/// The folder for registries that have none of their own.
const DEFAULT: &str = "_default";
/// Fields of a host, and of the file for its `server`.
const FIELDS: [&str; 8] = [
    "capabilities",
    "override_path",
    "ca",
    "client",
    "skip_verify",
    "header",
    "dial_timeout",
    "proxy",
];

/// Whether a TOML text has the tables of a `hosts.toml`.
pub(crate) fn is_hosts(node: &Node) -> bool {
    let table = |it: &Node| !it.entries().is_empty();
    let urls = |it: &Node| {
        let keys = it.entries().iter().filter_map(|it| it.0.as_str());
        keys.into_iter().any(|it| it.contains("://"))
    };
    node.get("host").is_some_and(|it| table(it) && urls(it))
        || node.get("server").and_then(Node::as_str).is_some()
            && unknown(node, &[&FIELDS[..], &["server", "host"]].concat()).is_none()
}

/// The hosts of one registry.
#[derive(Debug, Clone)]
struct Namespace {
    /// The registry, or `_default`.
    registry: String,
    /// In the order in which they are asked; the server is the last one.
    endpoints: Vec<Endpoint>,
}

/// Reads the files of one tree.
pub(crate) fn read(files: &[ConfigFile]) -> Vec<Reading> {
    let mut readings = Vec::new();
    let mut namespaces: Vec<(Origin, Namespace)> = Vec::new();
    let mut known: Vec<String> = Vec::new();
    // `HOST_PORT_` is looked for before `HOST:PORT`.
    let mut files: Vec<&ConfigFile> = files.iter().collect();
    files.sort_by_key(|it| folder(it).contains(':'));
    for file in files {
        let origin = file.origin(file.node.span, "mirrors");
        let Some(registry) = registry(folder(file)) else {
            if file.node.is_null() {
                continue;
            }
            readings.push(Reading::LeftOut(origin, "which registry it is for is the name of its folder: import the folder, such as `certs.d/docker.io/hosts.toml`".to_owned()));
            continue;
        };
        if known.contains(&registry) {
            readings.push(Reading::LeftOut(
                origin,
                format!("another folder for `{registry}` comes before it"),
            ));
            continue;
        }
        known.push(registry.clone());
        // The report has it already; its folder is there all the same.
        if file.node.is_null() {
            continue;
        }
        match endpoints(file, &registry) {
            Err((span, why)) => readings.push(Reading::LeftOut(file.origin(span, "mirrors"), why)),
            Ok(endpoints) if endpoints.iter().all(|it| it.upstream) => {
                let note = "it names no other registry, so its images stay".to_owned();
                readings.push(Reading::Settled(origin, Status::CarriedOver, note));
            }
            Ok(endpoints) => namespaces.push((
                origin,
                Namespace {
                    registry,
                    endpoints,
                },
            )),
        }
    }
    let known: Rc<[String]> = known.into();
    let all: Vec<Namespace> = namespaces.iter().map(|it| it.1.clone()).collect();
    for (origin, namespace) in namespaces {
        readings.push(intent(origin, namespace, &known, &all));
    }
    readings
}

fn folder(file: &ConfigFile) -> &str {
    split(split(&file.path).0).1
}

/// The registry of a folder's name; `None` if it has none.
fn registry(folder: &str) -> Option<String> {
    if folder == DEFAULT {
        return Some(folder.to_owned());
    }
    let name = match folder.strip_suffix('_').and_then(|it| it.rsplit_once('_')) {
        Some((host, port)) => format!("{host}:{port}"),
        None => folder.to_owned(),
    };
    let image = Image::parse(&format!("{name}/x"))?;
    (image.host == name).then_some(name)
}

/// The hosts in their order, and the server.
fn endpoints(file: &ConfigFile, registry: &str) -> Result<Vec<Endpoint>, (Span, String)> {
    let node = &file.node;
    if let Some(unknown) = unknown(node, &[&FIELDS[..], &["server", "host"]].concat()) {
        return Err(unknown);
    }
    let mut endpoints = Vec::new();
    if let Some(hosts) = node.get("host") {
        if !matches!(hosts.value, Value::Mapping(_)) {
            return Err((hosts.span, "`host` is not a table".to_owned()));
        }
        for (key, value) in hosts.entries() {
            // containerd only finds the order of tables with a header of their own.
            let line = file.text.lines().nth(key.span.line - 1).unwrap_or_default();
            if !line.trim_start().starts_with('[') {
                let why = "a host without a header of its own is not asked by containerd; write `[host.\"URL\"]`";
                return Err((key.span, why.to_owned()));
            }
            if let Some(unknown) = unknown(value, &FIELDS) {
                return Err(unknown);
            }
            let url = key.as_str().unwrap_or_default();
            endpoints.push(Endpoint::read(Some(url), key.span, value, registry)?);
        }
    }
    let server = text(node, "server")?.filter(|it| !it.is_empty());
    let span = node.get("server").map_or(node.span, |it| it.span);
    endpoints.push(Endpoint::read(server, span, node, registry)?);
    if let Some(it) = endpoints.iter().find(|it| it.resolve && !it.pull) {
        let why = "it may `resolve` tags but not `pull`, and here one registry does both";
        return Err((it.span, why.to_owned()));
    }
    endpoints.retain(|it| it.pull);
    for digest in [false, true] {
        if !endpoints.iter().any(|it| it.resolve || digest) {
            let what = if digest { "digests" } else { "tags" };
            let why =
                format!("none of its hosts may be asked for {what}, so nothing can be pulled");
            return Err((node.span, why));
        }
    }
    Ok(endpoints)
}

impl Namespace {
    /// The hosts that are asked about an image, in their order.
    fn asked(&self, digest: bool) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(move |it| it.resolve || digest)
    }

    /// The image at the first host that is asked.
    fn moved(&self, text: &str, known: &[String]) -> String {
        let Some(image) = Image::parse(text) else {
            return text.to_owned();
        };
        let applies = if self.registry == DEFAULT {
            !known.contains(&image.host)
        } else {
            image.host == self.registry
        };
        let first = self.asked(image.digest.is_some()).next();
        match first.filter(|it| applies && !it.upstream) {
            Some(it) => image.named(&format!("{}/{}", it.base(), image.path.join("/"))),
            None => text.to_owned(),
        }
    }

    /// In what the hosts differ from a registry that is named in the image.
    fn differences(&self, all: &[Self]) -> Vec<String> {
        let mut differences: Vec<String> = Vec::new();
        let name = |it: &Endpoint| match (it.upstream, self.registry.as_str()) {
            (true, DEFAULT) => "the registry that the image names".to_owned(),
            (true, registry) => format!("`{registry}`"),
            (false, _) => format!("`{}`", it.base()),
        };
        for digest in [false, true] {
            let asked: Vec<&Endpoint> = self.asked(digest).collect();
            let (Some(first), rest) = (asked.first(), asked.get(1..).unwrap_or_default()) else {
                continue;
            };
            if !first.upstream && !rest.is_empty() {
                let rest: Vec<String> = rest.iter().map(|it| name(it)).collect();
                differences.push(format!(
                    "what {} lacks comes from {} there; here an image comes from {} alone",
                    name(first),
                    rest.join(", then "),
                    name(first)
                ));
            }
        }
        let content = self.endpoints.first().filter(|it| !it.resolve);
        if let Some(it) = content {
            differences.push(format!(
                "the content of an image with a tag also comes from {} there; here only images with a digest do",
                name(it)
            ));
        }
        for it in self.endpoints.iter().filter(|it| !it.upstream) {
            let shared = all.iter().filter(|other| {
                other
                    .endpoints
                    .iter()
                    .any(|other| !other.upstream && other.base() == it.base())
            });
            if self.registry == DEFAULT || shared.count() > 1 {
                differences.push(format!(
                    "{} learns there which registry is meant (`ns`), and here only the path",
                    name(it)
                ));
                break;
            }
        }
        differences.dedup();
        differences
    }
}

fn intent(origin: Origin, it: Namespace, known: &Rc<[String]>, all: &[Namespace]) -> Reading {
    let mut vocabulary = Vocabulary::default();
    let mut notes = vec![
        "images of Pods in kube-system move, too, because the file is for all Pods of a node"
            .to_owned(),
    ];
    if it.registry == DEFAULT {
        vocabulary.texts.extend(
            known
                .iter()
                .filter(|it| *it != DEFAULT)
                .map(|it| format!("{it}/")),
        );
    } else {
        vocabulary.texts.push(format!("{}/", it.registry));
        if it.endpoints.iter().any(|it| !it.resolve) {
            vocabulary.wildcards.push(format!("{}/*@*", it.registry));
        }
    }
    for endpoint in it.endpoints.iter().filter(|it| !it.upstream) {
        vocabulary.texts.push(format!("{}/", endpoint.base()));
        if !endpoint.settings.is_empty() {
            notes.push(format!(
                "nodes reach `{}` with `{}`: they need a folder of that name with the same",
                endpoint.host,
                endpoint.settings.join("`, `")
            ));
        }
    }
    let differences = it.differences(all);
    let known = Rc::clone(known);
    let effect = Effect::Swap(Rc::new(move |image| Ok(it.moved(image, &known))));
    Reading::of_nodes(origin, effect, vocabulary, differences, notes)
}

/// The capabilities of a host: whether it may pull, and resolve.
fn capabilities(node: &Node) -> Result<(bool, bool), (Span, String)> {
    let named = list(node, "capabilities")?;
    let has = |name: &str| named.iter().any(|it| it.eq_ignore_ascii_case(name));
    let unknown = named
        .iter()
        .find(|it| !["pull", "resolve", "push"].contains(&it.to_ascii_lowercase().as_str()));
    if let Some(unknown) = unknown {
        let span = node.get("capabilities").map_or(node.span, |it| it.span);
        return Err((
            span,
            format!("the capability `{unknown}` is not known, so containerd ignores the file"),
        ));
    }
    Ok((
        named.is_empty() || has("pull"),
        named.is_empty() || has("resolve"),
    ))
}

/// Whether `override_path` is set.
fn overrides(node: &Node) -> Result<bool, (Span, String)> {
    Ok(flag(node, "override_path")?.unwrap_or(false))
}
