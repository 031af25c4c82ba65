//! `registries.conf` of podman and CRI-O, with its drop-in files: locations and mirrors as rules, blocked registries as
//! denials.
//!
//! The table with the longest prefix decides about an image, once. Mirrors are asked before the location, and the image
//! keeps its name on the node.

use crate::config_file::{ConfigFile, split};
use crate::intent::{Effect, Origin, Reading, Vocabulary};
use crate::report::Status;
use imageswap_policy::document::Enforcement;
use imageswap_policy::yaml::Node;
use lookup::Lookup;
use read::{File, Registry};
use std::rc::Rc;

mod lookup;
mod read;

/// The fields at the top of a file.
const FIELDS: [&str; 6] = [
    "registry",
    "unqualified-search-registries",
    "short-name-mode",
    "aliases",
    "credential-helpers",
    "additional-layer-store-auth-helper",
];

/// Whether a TOML text has tables of a `registries.conf`.
pub(crate) fn is_registries(node: &Node) -> bool {
    let first = node.get("registries");
    let of_first = ["search", "insecure", "block"];
    FIELDS.iter().any(|it| node.get(it).is_some())
        || first.is_some_and(|it| of_first.iter().any(|key| it.get(key).is_some()))
}

/// Reads the files of one folder: the main file, then its drop-in files by name.
pub(crate) fn read(files: &[ConfigFile]) -> Vec<Reading> {
    let drop_in = |it: &ConfigFile| split(split(&it.path).0).1 == "registries.conf.d";
    let mut files: Vec<&ConfigFile> = files.iter().collect();
    files.sort_by_key(|it| (drop_in(it), it.path.clone()));
    let mains = files.iter().filter(|it| !drop_in(it)).count();
    let mut refused: Option<(Origin, String)> = None;
    let mut read: Vec<File> = Vec::new();
    for file in &files {
        match File::read(file, drop_in(file)) {
            Ok(it) => read.push(it),
            Err((span, why)) => {
                refused.get_or_insert((file.origin(span, ""), why));
            }
        }
    }
    if let Some((origin, why)) = refused {
        let place = format!("{}:{}:{}", origin.source, origin.line, origin.column);
        let others = format!("podman and CRI-O refuse the configuration because of {place}");
        let mut readings = vec![Reading::LeftOut(origin, why)];
        let tables = read.into_iter().flat_map(|it| it.registries);
        readings.extend(tables.map(|it| Reading::LeftOut(it.origin, others.clone())));
        return readings;
    }
    if mains > 1 {
        let why = "two configurations in one folder: import them one at a time";
        let origins = files.iter().map(|it| it.origin(it.node.span, ""));
        return origins
            .map(|it| Reading::LeftOut(it, why.to_owned()))
            .collect();
    }
    let mut readings = Vec::new();
    let lookup = Rc::new(Lookup::merged(read, &mut readings));
    readings.extend(short_names(&lookup, files[0]));
    let mut order: Vec<usize> = (0..lookup.registries.len()).collect();
    order.sort_by_key(|&at| {
        let origin = &lookup.registries[at].origin;
        (origin.source.clone(), origin.line)
    });
    readings.extend(order.into_iter().map(|at| registry(&lookup, at)));
    for at in 0..lookup.aliases.len() {
        readings.push(alias(&lookup, at));
    }
    readings
}

/// How names without a registry are completed.
fn short_names(lookup: &Lookup, main: &ConfigFile) -> Option<Reading> {
    let Some((search, origin)) = &lookup.search else {
        let origin = main.origin(main.node.span, "unqualified-search-registries");
        let message = "it does not say where names without a registry are looked for; here `nginx` is `docker.io/library/nginx`";
        return Some(Reading::Settled(
            origin,
            Status::Differs,
            message.to_owned(),
        ));
    };
    let origin = origin.clone();
    match search.as_slice() {
        [one] if one == "docker.io" => None,
        [] => {
            let message = "names without a registry cannot be pulled there; here `nginx` is `docker.io/library/nginx`";
            Some(Reading::Settled(
                origin,
                Status::Differs,
                message.to_owned(),
            ))
        }
        _ => {
            let why = format!(
                "here names without a registry are of `docker.io`, and `{}` are searched: write the registry into the images",
                search.join("`, `")
            );
            Some(Reading::LeftOut(origin, why))
        }
    }
}

fn registry(lookup: &Rc<Lookup>, at: usize) -> Reading {
    let it: &Registry = &lookup.registries[at];
    let origin = it.origin.clone();
    if let Err((span, why)) = &it.usable {
        let origin = origin.at(*span);
        return Reading::LeftOut(origin, why.clone());
    }
    let mut vocabulary = Vocabulary::default();
    vocabulary.texts.push(match it.prefix.strip_prefix("*.") {
        Some(domain) => {
            vocabulary.wildcards.push(format!("*.{domain}/*"));
            format!("a.{domain}/")
        }
        None => it.prefix.clone(),
    });
    vocabulary.wildcards.push(format!("{}/*", it.prefix));
    // Longer prefixes are exceptions to this one.
    let others = lookup
        .registries
        .iter()
        .filter(|other| other.prefix.len() > it.prefix.len());
    for other in others {
        vocabulary
            .wildcards
            .extend([other.prefix.clone(), format!("{}/*", other.prefix)]);
    }
    let places = it
        .mirrors
        .iter()
        .map(|it| &it.location)
        .chain([&it.location]);
    vocabulary
        .texts
        .extend(places.filter(|it| !it.is_empty()).cloned());
    let mut differences = Vec::new();
    if !it.prefix.contains(['/', ':']) {
        differences.push(format!(
            "images of `{}:PORT` are also matched by today's podman and CRI-O, which call that unintended; here they are not",
            it.prefix
        ));
    }
    let (inner, mut notes) = (Rc::clone(lookup), vec!["images of Pods in kube-system are included, because the file is for all Pods of a node".to_owned()]);
    if !it.settings.is_empty() {
        notes.push(format!(
            "nodes reach its registries with `{}`: their own names need the same",
            it.settings.join("`, `")
        ));
    }
    let effect = if it.blocked {
        differences.push(
            "an image that a node already has still runs there; here its Pod is refused".to_owned(),
        );
        let holds = move |text: &str| Ok(inner.table_of(text) != Some(at));
        Effect::Check {
            holds: Rc::new(holds),
            enforcement: Enforcement::Deny,
            message: Some(format!("{} is blocked", it.prefix)),
        }
    } else if it.mirrors.is_empty() && (it.location == it.prefix || it.location.is_empty()) {
        let note = "it names no other registry, so its images stay".to_owned();
        return Reading::Settled(origin, Status::CarriedOver, note);
    } else {
        if it.mirrors.iter().any(|it| it.digest != it.tag) {
            vocabulary.wildcards.push(format!("{}/*@*", it.prefix));
        }
        differences.extend(fallbacks(it));
        let swap = move |text: &str| Ok(inner.moved(text, at));
        Effect::Swap(Rc::new(swap))
    };
    Reading::of_nodes(origin, effect, vocabulary, differences, notes)
}

/// Where images come from that the first registry lacks.
fn fallbacks(it: &Registry) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for digest in [false, true] {
        let mirrors = it
            .mirrors
            .iter()
            .filter(|it| if digest { it.digest } else { it.tag });
        let mut places: Vec<&str> = mirrors.map(|it| it.location.as_str()).collect();
        let Some((&first, _)) = places.split_first() else {
            continue;
        };
        places.push(if it.location.is_empty() {
            &it.prefix
        } else {
            &it.location
        });
        let message = format!(
            "what `{first}` lacks comes from `{}` there; here an image comes from `{first}` alone",
            places[1..].join("`, then `")
        );
        if !all.contains(&message) {
            all.push(message);
        }
    }
    all
}

fn alias(lookup: &Rc<Lookup>, at: usize) -> Reading {
    let it = &lookup.aliases[at];
    let mut vocabulary = Vocabulary::default();
    vocabulary.texts.push(it.value.clone());
    vocabulary.wildcards.push(it.name.clone());
    vocabulary.wildcards.push(format!("docker.io/{}", it.name));
    let inner = Rc::clone(lookup);
    let swap = move |text: &str| Ok(inner.aliased(text, at));
    let effect = Effect::Swap(Rc::new(swap));
    Reading::of_nodes(
        it.origin.clone(),
        effect,
        vocabulary,
        Vec::new(),
        Vec::new(),
    )
}
