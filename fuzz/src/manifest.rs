//! Kubernetes manifests: the images they name, and the text in which these are replaced.

use std::sync::LazyLock;

use imageswap_policy::manifest::{self, Image, ImagePath, Manifest};
use imageswap_policy::{Date, Policies, Reference, Scope, Selected, maps};

use crate::{Target, sound};

/// See the module.
pub const TARGET: Target = Target {
    name: "manifest",
    check,
    seeds,
    words: &[
        "apiVersion: v1\n",
        "apiVersion: apps/v1\n",
        "kind: Pod\n",
        "kind: Deployment\n",
        "kind: CronJob\n",
        "kind: List\n",
        "kind: Rollout\n",
        "kind: Widget\n",
        "kind: Namespace\n",
        "metadata:\n",
        "  name: a\n",
        "  namespace: b\n",
        "  labels: {a: b}\n",
        "items:\n",
        "- ",
        "spec:\n",
        "template:\n",
        "jobTemplate:\n",
        "pods:\n",
        "containers:\n",
        "initContainers:\n",
        "ephemeralContainers:\n",
        "volumes:\n",
        "image: ",
        "images:\n",
        "newName: ",
        "newTag: ",
        "services:\n",
        "kind: Kustomization\n",
        "kind: Prometheus\n",
        "kind: HelmRelease\n",
        "repository: ",
        "registry: ",
        "tag: ",
        "reference: ",
        "name: ",
        "nginx",
        "quay.io/a/b:1",
        "\n---\n",
        "\n...\n",
        "# c\n",
        "|\n",
        "|-\n",
        ">\n",
        ">+2\n",
        "&a ",
        "*a",
        "<<: *a",
        "!!str ",
        "!x ",
        "\"",
        "'",
        "\\x41",
        "\\\n",
        "''",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "? ",
        "null",
        "~",
        "true",
        "1e3",
        "\t",
        "\r\n",
        "\r",
        "\u{feff}",
        "\u{85}",
        "\u{2028}",
        "\u{e9}",
        "%YAML 1.2\n",
        "\"image\":",
        "\"kind\":\"Pod\"",
    ],
};

/// Moves every image that can be moved.
static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    let loaded = maps::load("maps", "default::registry.example.com:5000/m\n");
    Policies::one(loaded.expect("the text is sound").policy)
});

static TEMPLATES: LazyLock<Vec<ImagePath>> = LazyLock::new(|| {
    ["Rollout=spec.template", "Widget=spec.pods[*]"]
        .map(|path| path.parse().expect("the path is sound"))
        .into()
});

fn check(text: &str) {
    let lines = sound::yaml_lines(text);
    let found = match manifest::read("manifest", text, &TEMPLATES) {
        Ok(found) => found,
        Err(errors) => return sound::diagnostics(&lines, &errors),
    };
    for problem in &found.problems {
        sound::diagnostic(&lines, problem);
    }
    let policy = POLICIES.select(Scope::Node, Date::MIN);
    for image in images(&found) {
        assert!(
            image.span.start <= image.span.end && text.is_char_boundary(image.span.end),
            "{image:?}"
        );
        sound::decision(&policy, &image.image);
    }
    let same: Vec<_> = images(&found)
        .map(|image| (image, image.image.as_str()))
        .collect();
    assert_eq!(manifest::replace(text, &same).as_deref(), Ok(text));

    let rewritten = rewrite(text, &found, &policy);
    let again = manifest::read("manifest", &rewritten, &TEMPLATES)
        .unwrap_or_else(|error| panic!("{text:?} became {rewritten:?}: {error}"));
    assert_eq!(
        images(&again).count(),
        images(&found).count(),
        "{rewritten:?}"
    );
    for (before, after) in images(&found).zip(images(&again)) {
        let expected = policy.decide(&before.image).result;
        // An image in several fields stays if they cannot name the result, and its registry is
        // written in full.
        let expected = match before.can_become(&expected) {
            Ok(()) => expected,
            Err(_) => before.image.as_str().into(),
        };
        let canonical = |it: &str| Reference::parse(it).map_or(it.to_owned(), |it| it.canonical());
        assert_eq!(
            (canonical(&expected), &before.path),
            (canonical(&after.image), &after.path),
            "{rewritten:?}"
        );
    }
    assert_eq!(rewrite(&rewritten, &again, &policy), rewritten);
    let untouched = [rest(text, &found), rest(&rewritten, &again)];
    assert_eq!(untouched[0], untouched[1], "{rewritten:?}");
}

fn images(manifest: &Manifest) -> impl Iterator<Item = &Image> {
    manifest.pods.iter().flat_map(|pod| &pod.images)
}

/// The text with the policy's results as images. One anchor holds one image, so it cannot need two
/// results.
fn rewrite(text: &str, found: &Manifest, policy: &Selected<'_>) -> String {
    let results: Vec<_> = images(found)
        .map(|image| policy.decide(&image.image).result)
        .collect();
    let pairs: Vec<_> = images(found)
        .zip(&results)
        .map(|(image, to)| (image, &**to))
        .collect();
    manifest::replace(text, &pairs).unwrap_or_else(|clash| panic!("{text:?}: {clash:?}"))
}

/// The pieces of the text between its images.
fn rest<'t>(text: &'t str, found: &Manifest) -> Vec<&'t str> {
    let mut spans: Vec<_> = images(found)
        .flat_map(Image::spans)
        .map(|span| (span.start, span.end))
        .collect();
    spans.sort_unstable();
    spans.dedup();
    let mut pieces = Vec::new();
    let mut done = 0;
    for (start, end) in spans {
        pieces.push(&text[done..start]);
        done = end;
    }
    pieces.push(&text[done..]);
    pieces
}

fn seeds() -> Vec<String> {
    [
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  initContainers:\n  - {name: i, image: 'busybox'}\n\
         \x20 containers: # all of them\n  - name: web\n    image: nginx:1.27 # the web\n  - image: \"quay.io/a/b\"\n\
         \x20   name: side\n  volumes:\n  - name: v\n    image: {reference: quay.io/a/data:1, pullPolicy: Always}\n",
        "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: web, namespace: shop}\nspec:\n  template:\n\
         \x20   metadata: {labels: {app: web}}\n    spec:\n      containers:\n      - image: >-\n          nginx\n\
         \x20       name: a\n      - image: |-\n          docker.io/library/nginx:1\n        name: b\n",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: batch/v1\n  kind: CronJob\n  metadata: {name: c}\n  spec:\n\
         \x20   jobTemplate: {spec: {template: {spec: {containers: [{name: a, image: nginx}, {name: b, image: 'a''b'}]}}}}\n\
         - apiVersion: v1\n  kind: ConfigMap\n  data: {image: nginx}\n",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"j\"},\"spec\":{\"containers\":[\n\
         {\"name\":\"a\",\"image\":\"nginx\\u003a1\"},{\"name\":\"b\",\"image\":\"reg:5000/a\"}]}}\n",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - &one\n    name: a\n    image: &i nginx\n\
         \x20 - {<<: *one, name: b}\n  - {name: c, image: *i}\n---\n# nothing\n---\nkind: Namespace\napiVersion: v1\n\
         metadata: {name: shop, labels: {a: b}}\n...\n",
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec:\n  template:\n    spec:\n      containers:\n\
         \x20     - image: !!str nginx\n---\napiVersion: x.io/v1\nkind: Widget\nspec:\n  pods:\n    a: {spec: {containers: \
         [{image: a/b}]}}\n    b: {spec: {ephemeralContainers: [{image: c}, {image: 5}, {image: }]}}\n",
        "\u{feff}apiVersion: v1\r\nkind: Pod\r\nspec:\r\n  containers:\r\n  - image: nginx\r\n  - image: \"r\u{e9}g/a\"\r\n",
        "apiVersion: v1\nkind: Pod\nspec:\n  containers: {image: nginx}\n  volumes: [1, {image: nginx}]\n",
        "image: {{ .Values.image }}\n",
        "services:\n  web: {image: 'nginx:1'}\n  db:\n    image: \"redis\" # c\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nimages:\n- {name: a, newName: nginx, newTag: 1.2}\n\
         - name: b\n  newTag: v1\n",
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nspec:\n  values:\n    image: {registry: quay.io, repository: \
         a/b, tag: '1'}\n    side:\n      image:\n        repository: nginx\n        tag: 7\n",
        "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nspec:\n  image: quay.io/p:1\n  containers:\n  - {image: a, \
         args: ['--x=quay.io/y:1']}\n",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"nginx\"}]}}\n\
         {\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"image\":\"a/b:1\"}]}} \
         {\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"x\"}}\n",
    ]
    .map(str::to_owned)
    .into()
}

#[cfg(test)]
mod tests {
    use imageswap_policy::yaml::Style;

    use super::*;

    #[test]
    fn seeds_name_images_of_every_style() {
        let mut styles = Vec::new();
        for seed in seeds() {
            if let Ok(found) = manifest::read("seed", &seed, &TEMPLATES) {
                styles.extend(images(&found).map(|image| image.style));
            }
        }
        for style in [
            Style::Plain,
            Style::SingleQuoted,
            Style::DoubleQuoted,
            Style::Literal,
            Style::Folded,
        ] {
            assert!(styles.contains(&style), "{style:?} is not in {styles:?}");
        }
    }

    #[test]
    fn seeds_have_a_stream_of_json_documents() {
        let stream = |seed: &String| {
            let found = manifest::read("seed", seed, &TEMPLATES);
            seed.starts_with('{') && found.is_ok_and(|it| it.pods.len() == 2 && it.others == 1)
        };
        assert!(seeds().iter().any(stream));
    }
}
