//! The change of a Pod: its images, the note, and image pull Secrets.

use super::objects::{Mutation, Variable};
use super::steps::last;
use super::{cel, variable};
use imageswap_policy::manifest::List;
use imageswap_policy::{Policy, note};

/// A longer note is not written: Kubernetes allows 256 KiB for all annotations.
const MAX_NOTE: usize = 200_000;
/// Pods with more images get no note: looking for the entry of each of 70 images costs more than the
/// API server allows.
const MAX_NOTED: usize = 40;

/// The variables and the change of a policy that swaps.
pub(super) struct Change {
    pub(super) variables: Vec<Variable>,
    pub(super) mutations: Vec<Mutation>,
}

pub(super) fn write(policy: &Policy) -> Change {
    let outline = policy.outline();
    let last = outline.as_ref().map(last).unwrap_or_default();
    // Of a stored Pod only images of containers can change. Others may be written as stored:
    // applying a manifest again repeats what was swapped when the Pod was created.
    let swaps = format!(
        "{last}.filter(x, x.now != x.image && (request.operation == 'CREATE' || request.?subResource.orValue('') == 'ephemeralcontainers'\n  \
           || x.list in ['containers', 'initContainers']\n  \
           || {{'list': x.list, 'name': x.name, 'image': x.now}} in variables.stored))"
    );
    let mut variables = vec![variable("swaps", swaps)];
    variables.extend(note_variables(policy, &last));
    let lists = List::CONTAINERS
        .map(|list| containers(list.as_str()))
        .join(",\n    ");
    let expression = format!(
        "Object{{\n  \
           ?metadata: variables.note != '' ? optional.of(Object.metadata{{annotations: {{{annotation}: variables.note}}}}) : optional.none(),\n  \
           spec: Object.spec{{\n    \
             {lists},\n    \
             ?volumes: variables.swaps.exists(s, s.list == 'volumes') ? optional.of(object.spec.volumes.map(v, Object.spec.volumes{{name: v.name,\n      \
               ?image: has(v.image) ? optional.of(Object.spec.volumes.image{{reference: {volume}}}) : optional.none()}})) : optional.none()\n  \
           }}\n\
         }}",
        annotation = cel::text(note::ANNOTATION),
        volume = result(
            "volumes",
            "v.name",
            "string(v.image.?reference.orValue(''))"
        ),
    );
    let mut mutations = vec![Mutation::apply(expression)];
    if !policy.pull_secrets().is_empty() {
        variables.push(variable("secrets", secrets(policy, &last)));
        mutations.push(Mutation::patch(ADD_SECRETS.to_owned()));
    }
    Change {
        variables,
        mutations,
    }
}

/// All containers of a list, in their order, with the images they should have.
fn containers(list: &str) -> String {
    format!(
        "?{list}: variables.swaps.exists(s, s.list == '{list}') ? optional.of(object.spec.{list}.map(c, Object.spec.{list}{{name: c.name,\n      \
           image: {}}})) : optional.none()",
        result(list, "c.name", "string(c.?image.orValue(''))")
    )
}

fn result(list: &str, name: &str, image: &str) -> String {
    format!(
        "(variables.swaps.filter(s, s.list == '{list}' && s.name == {name}).map(s, s.now) + [{image}])[0]"
    )
}

/// The note that the webhook would write: each container's original image and the revision.
///
/// Only new and changed images get an entry. Kubernetes may evaluate a policy several times for one
/// request; then images are results already, and the entries of the first time stay: those that the
/// stored object does not have.
fn note_variables(policy: &Policy, last: &str) -> [Variable; 2] {
    let annotation = cel::text(note::ANNOTATION);
    let revision = policy.revision();
    let entry = |object: &str| {
        format!(
            "{object}.metadata.?annotations[?{annotation}].orValue('').find('\"' + c.name + r'\":\\{{\"image\":\"[^\"\\\\]*\",\"revision\":\"[^\"\\\\]*\"\\}}')"
        )
    };
    let entries = format!(
        "request.?subResource.orValue('') != '' || size(variables.images) == 0 || size(variables.images) > {MAX_NOTED} ? [] :\n\
         (object.spec.containers + object.spec.?initContainers.orValue([])).filter(c, c.name.matches(r'^[a-z0-9\\-]+$')).map(c,\n  \
           [{last}.filter(x, x.name == c.name && x.list in ['containers', 'initContainers'] && x.canonical != '')].map(d,\n    \
             size(d) > 0 && (d[0].now != d[0].image\n      \
               || {now} == (request.operation == 'UPDATE' ? {before} : ''))\n      \
               ? '\"' + c.name + '\":{{\"image\":\"' + d[0].image + '\",\"revision\":\"{revision}\"}}'\n      \
               : {now})[0]\n\
         ).filter(e, e != '')",
        now = entry("object"),
        before = entry("oldObject"),
    );
    let note = format!(
        "[size(variables.entries) == 0 ? '' : '{{\"v\":{version},\"containers\":{{' + variables.entries.join(',') + '}}}}'].map(n, size(n) > {MAX_NOTE} ? '' : n)[0]",
        version = note::VERSION,
    );
    [variable("entries", entries), variable("note", note)]
}

/// Names of Secrets for the registries of the Pod's images, without those that it has. Kubernetes
/// takes them for new Pods only.
fn secrets(policy: &Policy, last: &str) -> String {
    let each: Vec<_> = policy
        .pull_secrets()
        .iter()
        .map(|it| {
            format!(
                "({last}.exists(x, x.full.startsWith({})) ? [{}] : [])",
                cel::text(&format!("{}/", it.registry())),
                cel::text(it.name())
            )
        })
        .collect();
    format!(
        "request.operation != 'CREATE' ? [] :\n({}).filter(n, !object.spec.?imagePullSecrets.orValue([]).exists(s, s.name == n))",
        each.join("\n + ")
    )
}

/// References to Secrets are atomic, so server-side apply does not add to them.
const ADD_SECRETS: &str = "\
size(variables.secrets) == 0 ? []
: has(object.spec.imagePullSecrets) ? variables.secrets.map(n, JSONPatch{op: 'add', path: '/spec/imagePullSecrets/-', value: {'name': n}})
: [JSONPatch{op: 'add', path: '/spec/imagePullSecrets', value: variables.secrets.map(n, {'name': n})}]";
