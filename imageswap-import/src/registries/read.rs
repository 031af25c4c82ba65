//! The tables of one `registries.conf`.

use super::FIELDS;
use crate::config_file::{ConfigFile, flag, list, text, unknown};
use crate::image::Image;
use crate::intent::Origin;
use imageswap_policy::yaml::{Node, Span, Value};

const TABLE: [&str; 7] = [
    "prefix",
    "location",
    "insecure",
    "proxy",
    "blocked",
    "mirror",
    "mirror-by-digest-only",
];
const MIRROR: [&str; 4] = ["location", "insecure", "proxy", "pull-from-mirror"];

/// A place, and what is wrong there.
type Wrong = (Span, String);

/// A file, or a refusal for which podman and CRI-O read none of the configuration.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) registries: Vec<Registry>,
    pub(super) search: Option<(Vec<String>, Origin)>,
    pub(super) aliases: Vec<Alias>,
}

/// A `[[registry]]`.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    pub(super) origin: Origin,
    pub(super) prefix: String,
    /// Empty if images of a prefix with a wildcard keep their registry.
    pub(super) location: String,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
    /// Fields about connections.
    pub(super) settings: Vec<&'static str>,
    /// Whether all of it is understood.
    pub(super) usable: Result<(), Wrong>,
}

#[derive(Debug, Clone)]
pub(super) struct Mirror {
    pub(super) location: String,
    /// Whether it is asked for images with a digest, and for images with a tag.
    pub(super) digest: bool,
    pub(super) tag: bool,
}

/// A short name and its image; an empty one takes an earlier alias back.
#[derive(Debug, Clone)]
pub(super) struct Alias {
    pub(super) origin: Origin,
    pub(super) name: String,
    pub(super) value: String,
}

impl File {
    pub(super) fn read(file: &ConfigFile, drop_in: bool) -> Result<Self, Wrong> {
        let node = &file.node;
        if node.is_null() {
            return Err((node.span, "it cannot be read".to_owned()));
        }
        if let Some(first) = node.get("registries") {
            if drop_in {
                return Err((
                    first.span,
                    "a drop-in file has to be of version 2".to_owned(),
                ));
            }
            return first_version(file, first);
        }
        if let Some(wrong) = unknown(node, &FIELDS) {
            return Err(wrong);
        }
        if let Some(mode) = text(node, "short-name-mode")?
            && !["", "enforcing", "permissive", "disabled"].contains(&mode)
        {
            let span = node.get("short-name-mode").map_or(node.span, |it| it.span);
            return Err((
                span,
                format!("the mode `{mode}` is not one of enforcing, permissive, disabled"),
            ));
        }
        let tables = node.get("registry");
        if let Some(it) = tables.filter(|it| !matches!(it.value, Value::Sequence(_))) {
            return Err((it.span, "expected tables `[[registry]]`".to_owned()));
        }
        let tables = tables.map_or(&[][..], Node::items).iter();
        let registries: Result<Vec<_>, _> = tables.map(|it| table(file, it)).collect();
        let mut search = None;
        if let Some(it) = node.get("unqualified-search-registries") {
            let names = list(node, "unqualified-search-registries")?;
            let names: Vec<String> = names
                .iter()
                .map(|it| it.trim_end_matches('/').to_owned())
                .collect();
            if let Some(wrong) = names.iter().find(|it| !is_domain(it)) {
                return Err((it.span, format!("`{wrong}` is not the host of a registry")));
            }
            search = Some((names, file.origin(it.span, "unqualified-search-registries")));
        }
        Ok(Self {
            registries: registries?,
            search,
            aliases: aliases(file, node)?,
        })
    }
}

/// A host of a registry, with or without a port; `docker` alone is one, too.
fn is_domain(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && Image::parse(&format!("{text}/x/y")).is_some()
}

/// The lists of version 1.
fn first_version(file: &ConfigFile, node: &Node) -> Result<File, Wrong> {
    if let Some((key, _)) = file
        .node
        .entries()
        .iter()
        .find(|it| it.0.as_str() != Some("registries"))
    {
        return Err((key.span, "fields of version 1 and 2 in one file".to_owned()));
    }
    if let Some(wrong) = unknown(node, &["search", "insecure", "block"]) {
        return Err(wrong);
    }
    let mut registries: Vec<Registry> = Vec::new();
    let mut search = None;
    for (key, value) in node.entries() {
        if let Some(wrong) = unknown(value, &["registries"]) {
            return Err(wrong);
        }
        let names = list(value, "registries")?;
        let key_text = key.as_str().unwrap_or_default();
        if key_text == "search" {
            search = Some((names, file.origin(key.span, "registries.search")));
            continue;
        }
        for name in names {
            let location = location(&name, key.span)?;
            let known = registries.iter().position(|it| it.prefix == location);
            let at = if let Some(at) = known {
                at
            } else {
                registries.push(Registry {
                    origin: file.origin(key.span, &location),
                    prefix: location.clone(),
                    location,
                    blocked: false,
                    mirrors: Vec::new(),
                    settings: Vec::new(),
                    usable: Ok(()),
                });
                registries.len() - 1
            };
            registries[at].blocked |= key_text == "block";
        }
    }
    Ok(File {
        registries,
        search,
        aliases: Vec::new(),
    })
}

/// A location without the slashes at its end.
fn location(text: &str, span: Span) -> Result<String, Wrong> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err((
            span,
            format!("`{text}` has a scheme, which no location has"),
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn placed(node: &Node, key: &str) -> Result<String, Wrong> {
    let span = node.get(key).map_or(node.span, |it| it.span);
    location(text(node, key)?.unwrap_or_default(), span)
}

fn table(file: &ConfigFile, node: &Node) -> Result<Registry, Wrong> {
    let span_of = |key: &str| node.get(key).map_or(node.span, |it| it.span);
    let place = placed(node, "location")?;
    let mut prefix = placed(node, "prefix")?;
    if prefix.is_empty() {
        if place.is_empty() {
            return Err((
                node.span,
                "it has neither `prefix` nor `location`".to_owned(),
            ));
        }
        prefix.clone_from(&place);
    }
    let wild = prefix.starts_with("*.");
    if place.is_empty() && !wild {
        return Err((span_of("prefix"), "it has no `location`".to_owned()));
    }
    if wild && prefix.contains(['/', '@', ':']) {
        return Err((
            span_of("prefix"),
            format!("`{prefix}`: only a host can begin with `*.`"),
        ));
    }
    let digest_only = flag(node, "mirror-by-digest-only")?.unwrap_or(false);
    let mirrors = node.get("mirror");
    if let Some(it) = mirrors.filter(|it| !matches!(it.value, Value::Sequence(_))) {
        return Err((it.span, "expected tables `[[registry.mirror]]`".to_owned()));
    }
    let mut usable = unknown(node, &TABLE).map_or(Ok(()), Err);
    let mut settings = settings(node)?;
    let mut read = Vec::new();
    for it in mirrors.map_or(&[][..], Node::items) {
        if let Some(wrong) = unknown(it, &MIRROR) {
            usable = usable.and(Err(wrong));
        }
        settings.extend(self::settings(it)?);
        let place = placed(it, "location")?;
        if place.is_empty() {
            return Err((it.span, "a mirror has no `location`".to_owned()));
        }
        let pull = text(it, "pull-from-mirror")?.unwrap_or_default();
        let span = it.get("pull-from-mirror").map_or(it.span, |it| it.span);
        if digest_only && !pull.is_empty() {
            return Err((
                span,
                "`pull-from-mirror` beside `mirror-by-digest-only`".to_owned(),
            ));
        }
        if !["", "all", "digest-only", "tag-only"].contains(&pull) {
            return Err((
                span,
                format!("`{pull}` is not one of all, digest-only, tag-only"),
            ));
        }
        read.push(Mirror {
            digest: pull != "tag-only",
            tag: pull != "digest-only" && !digest_only,
            location: place,
        });
    }
    settings.sort_unstable();
    settings.dedup();
    let origin = file.origin(
        span_of(if node.get("prefix").is_some() {
            "prefix"
        } else {
            "location"
        }),
        &prefix,
    );
    for it in read.iter().map(|it| &it.location).chain([&place]) {
        if usable.is_ok() && !it.is_empty() && !can_be_named(it) {
            usable = Err((node.span, format!("no image can name `{it}`")));
        }
    }
    Ok(Registry {
        origin,
        prefix,
        location: place,
        blocked: flag(node, "blocked")?.unwrap_or(false),
        mirrors: read,
        settings,
        usable,
    })
}

/// Whether a location begins with the host of a registry, below which every image can be named.
fn can_be_named(location: &str) -> bool {
    let first = location.split('/').next().unwrap_or_default();
    let host = first == "localhost" || first.contains(['.', ':']);
    host && Image::parse(&format!("{location}/x")).is_some()
        || location.contains('/') && Image::parse(location).is_some() && host
}

fn settings(node: &Node) -> Result<Vec<&'static str>, Wrong> {
    let mut found = Vec::new();
    if flag(node, "insecure")?.unwrap_or(false) {
        found.push("insecure");
    }
    if text(node, "proxy")?.is_some_and(|it| !it.is_empty()) {
        found.push("proxy");
    }
    Ok(found)
}

fn aliases(file: &ConfigFile, node: &Node) -> Result<Vec<Alias>, Wrong> {
    let Some(table) = node.get("aliases") else {
        return Ok(Vec::new());
    };
    if !matches!(table.value, Value::Mapping(_)) {
        return Err((table.span, "`aliases` is not a table".to_owned()));
    }
    let mut aliases = Vec::new();
    for (key, value) in table.entries() {
        let name = key.as_str().unwrap_or_default();
        let Some(image) = value.as_str() else {
            return Err((value.span, format!("the alias `{name}` is not a text")));
        };
        let first = name.split('/').next().unwrap_or_default();
        let host = first.contains(['.', ':']) || first == "localhost" && name.contains('/');
        let short = !host;
        let plain = |it: &str| {
            !it.contains('@') && !it[it.rfind('/').map_or(0, |it| it + 1)..].contains(':')
        };
        if !short || !plain(name) || Image::parse(name).is_none() {
            return Err((
                key.span,
                format!("`{name}` is not a name without registry, tag and digest"),
            ));
        }
        if !image.is_empty() {
            let host = image.split_once('/').map(|it| it.0);
            let host = host.is_some_and(|it| it == "localhost" || it.contains(['.', ':']));
            if !host || !plain(image) || Image::parse(image).is_none() {
                return Err((
                    value.span,
                    format!("`{image}` is not a name with a registry, without tag and digest"),
                ));
            }
        }
        aliases.push(Alias {
            origin: file.origin(key.span, &format!("alias {name}")),
            name: name.to_owned(),
            value: image.to_owned(),
        });
    }
    Ok(aliases)
}
