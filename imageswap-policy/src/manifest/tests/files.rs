//! Kustomizations, values of Helm charts and Compose files.

use super::*;

/// The images of a file as `path = image`.
fn images(name: &str, text: &str) -> Vec<String> {
    let found = read(name, text, &[]).unwrap();
    let all = found.pods.iter().flat_map(|it| &it.images);
    all.map(|it| format!("{} = {}", it.path, it.image))
        .collect()
}

/// A file with its images replaced.
fn rewritten(name: &str, text: &str, to: impl Fn(&str) -> String) -> String {
    let found = read(name, text, &[]).unwrap();
    let all: Vec<_> = found.pods.iter().flat_map(|it| &it.images).collect();
    let results: Vec<_> = all.iter().map(|it| to(&it.image)).collect();
    let pairs: Vec<_> = all
        .iter()
        .copied()
        .zip(results.iter().map(String::as_str))
        .collect();
    replace(text, &pairs).unwrap()
}

const VALUES: &str = "\
# A chart's values.
global: {storageClass: ''}
image:
  registry: docker.io   # of all
  repository: bitnami/nginx
  tag: \"1.25\"
  digest: ''
  pullPolicy: IfNotPresent
metrics: {enabled: true, image: {repository: 'quay.io/m/exporter', tag: 7}}
sidecar: {image: quay.io/k/sidecar:1.2, logo: {image: A picture}}
elastic: {image: docker.elastic.co/e/e, imageTag: '8.5.1'}
controller:
  image: {registry: registry.k8s.io, image: ingress/controller, tag: v1, digest: sha256:DIGEST}
pinned: {image: {repository: a/b, tag: '1@sha256:DIGEST'}}
none: {image: {repository: '', tag: ''}, repository: https://charts.example.com}
untagged: {image: {repository: a/c, tag: ''}}
extra: [{name: x, image: busybox}]
config: {git: {repository: acme/code, branch: main}}
";

fn values() -> String {
    VALUES.replace("DIGEST", &"0".repeat(64))
}

#[test]
fn images_of_values_are_read_in_every_form() {
    let digest = "0".repeat(64);
    assert_eq!(
        images("chart/values-prod.yaml", &values()),
        [
            "image = docker.io/bitnami/nginx:1.25".to_owned(),
            "metrics.image = quay.io/m/exporter:7".to_owned(),
            "sidecar.image = quay.io/k/sidecar:1.2".to_owned(),
            "elastic.image = docker.elastic.co/e/e:8.5.1".to_owned(),
            format!("controller.image = registry.k8s.io/ingress/controller:v1@sha256:{digest}"),
            format!("pinned.image = a/b:1@sha256:{digest}"),
            "untagged.image = a/c".to_owned(),
            "extra[0].image = busybox".to_owned(),
        ]
    );
    let found = read("values.yaml", &values(), &[]).unwrap();
    assert_eq!(found.problems, []);
    assert_eq!(
        (found.pods[0].kind.as_str(), found.pods[0].name.as_deref()),
        ("HelmValues", Some("values.yaml"))
    );
}

#[test]
fn values_are_rewritten_field_by_field() {
    let text = values();
    let hub = |it: &str| {
        let rest = it.strip_prefix("docker.io/").unwrap_or(it);
        if it.starts_with("r.io/") {
            it.to_owned()
        } else {
            format!("r.io/hub/{rest}")
        }
    };
    let once = rewritten("values.yaml", &text, hub);
    let expected = text
        .replace("registry: docker.io   #", "registry: r.io   #")
        .replace("repository: bitnami/nginx", "repository: hub/bitnami/nginx")
        .replace("'quay.io/m/exporter'", "'r.io/hub/quay.io/m/exporter'")
        .replace("quay.io/k/sidecar:1.2", "r.io/hub/quay.io/k/sidecar:1.2")
        .replace(
            "image: docker.elastic.co/e/e,",
            "image: r.io/hub/docker.elastic.co/e/e,",
        )
        .replace("registry: registry.k8s.io", "registry: r.io")
        .replace(
            "image: ingress/controller",
            "image: hub/registry.k8s.io/ingress/controller",
        )
        .replace("repository: a/b", "repository: r.io/hub/a/b")
        .replace("repository: a/c", "repository: r.io/hub/a/c")
        .replace("image: busybox", "image: r.io/hub/busybox");
    assert_eq!(once, expected);
    assert_eq!(rewritten("values.yaml", &once, hub), once);
    assert_eq!(rewritten("values.yaml", &text, str::to_owned), text);
}

#[test]
fn numbers_that_helm_would_write_differently_are_errors() {
    for (tag, image) in [
        ("1.25", Some("a/b:1.25")),
        ("7", Some("a/b:7")),
        ("1.10", None),
        ("20240101", None),
        ("0x10", None),
        ("true", None),
        ("'1.10'", Some("a/b:1.10")),
    ] {
        let text = format!("image: {{repository: a/b, tag: {tag}}}\n");
        let found = read("values.yaml", &text, &[]).unwrap();
        let one = found.pods.first().map(|it| it.images[0].image.as_str());
        assert_eq!(one, image, "{tag}");
        let error = found
            .problems
            .iter()
            .any(|it| it.severity == Severity::Error);
        assert_eq!(error, image.is_none(), "{tag}: {:?}", found.problems);
    }
}

#[test]
fn a_registry_for_all_images_is_a_warning() {
    let text = "global:\n  imageRegistry: r.io\nimage: {repository: a/b, tag: '1'}\n";
    let found = read("values.yaml", text, &[]).unwrap();
    let warning = &found.problems[0];
    assert_eq!((warning.code, warning.line), ("helm-registry", 2));
    assert!(warning.help.as_ref().unwrap().contains("helm template"));
}

#[test]
fn parts_that_are_missing_are_not_invented() {
    let rows = [
        (
            "{repository: a/b, tag: '1'}",
            "r.io/b:2",
            Ok("{repository: r.io/b, tag: '2'}"),
        ),
        (
            "{repository: a/b, tag: '1'}",
            "r.io/b",
            Err("`r.io/b` has no tag"),
        ),
        (
            "{repository: a/b, pullPolicy: Always}",
            "r.io/b:2",
            Err("there is no field for the tag `2`"),
        ),
        (
            "{registry: q.io, repository: b, tag: '1'}",
            "c:1",
            Ok("{registry: docker.io, repository: library/c, tag: '1'}"),
        ),
        (
            "{registry: null, repository: b, tag: '1'}",
            "r.io/b:1",
            Ok("{registry: null, repository: r.io/b, tag: '1'}"),
        ),
    ];
    for (value, to, expected) in rows {
        let text = format!("image: {value}\n");
        let found = read("values.yaml", &text, &[]).unwrap();
        let image = &found.pods[0].images[0];
        let result = replace(&text, &[(image, to)]).unwrap();
        match expected {
            Ok(expected) => assert_eq!(result, format!("image: {expected}\n"), "{value}"),
            Err(why) => {
                assert_eq!(image.can_become(to), Err(why.to_owned()), "{value}");
                assert_eq!(result, text);
            }
        }
    }
}

#[test]
fn kustomizations_are_read_and_rewritten() {
    let text = "\
resources: [app.yaml]
namespace: shop
images:
- name: nginx
  newName: quay.io/acme/nginx   # ours
  newTag: \"1.25\"
- {name: redis, newTag: 7.2}
- {name: plain}
- {name: x, newName: a/x, digest: 'sha256:DIGEST'}
";
    let text = text.replace("DIGEST", &"0".repeat(64));
    for (name, head) in [
        ("base/kustomization.yaml", ""),
        (
            "k.yaml",
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
        ),
        (
            "k.yaml",
            "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\n",
        ),
    ] {
        let text = format!("{head}{text}");
        assert_eq!(
            images(name, &text),
            [
                "images[0] = quay.io/acme/nginx:1.25".to_owned(),
                "images[1] = redis:7.2".to_owned(),
                format!("images[3] = a/x@sha256:{}", "0".repeat(64)),
            ],
            "{name}"
        );
        let found = read(name, &text, &[]).unwrap();
        assert_eq!(found.pods[0].namespace.as_deref(), Some("shop"));
        let fixed = &found.pods[0].images[1];
        assert_eq!(
            fixed.can_become("r.io/redis:7.2"),
            Err("add `newName: r.io/redis`".to_owned())
        );
        let once = rewritten(name, &text, mirror);
        let expected = text
            .replace("newName: quay.io", "newName: r.io/quay.io")
            .replace("newName: a/x", "newName: r.io/a/x");
        assert_eq!(once, expected);
    }
}

#[test]
fn compose_files_are_read_by_their_content() {
    let text = "\
# stack
x-base: &base {image: redis:7}
services:
  web:
    image: \"nginx:1.25\"
    build: .
  db: {<<: *base}
  built: {build: ./x}
";
    let expected = [
        "services.web.image = nginx:1.25",
        "services.db.image = redis:7",
    ];
    let mut found = images("compose.yaml", text);
    found.sort();
    let mut sorted = expected.map(str::to_owned);
    sorted.sort();
    assert_eq!(found, sorted);
    assert_eq!(images("any.yml", text).len(), 2);
    assert_eq!(
        rewritten("compose.yaml", text, mirror),
        text.replace("redis:7", "r.io/redis:7")
            .replace("nginx:1.25", "r.io/nginx:1.25")
    );
    assert_eq!(read("compose.yaml", text, &[]).unwrap().problems, []);
}

#[test]
fn the_layout_depends_on_kind_name_and_content() {
    let values = "image: {repository: a/b, tag: v1}\n";
    for (name, text, kind) in [
        ("values.yaml", values, Some("HelmValues")),
        ("charts\\x\\my-Values.YAML", values, Some("HelmValues")),
        ("other.yaml", values, None),
        ("values/other.yaml", values, None),
        (
            "values.yaml",
            "kind: X\napiVersion: a/v1\nimage: {repository: a/b, tag: v1}\n",
            None,
        ),
        (
            "kustomization.yml",
            "images: [{name: a, newName: b/c}]\n",
            Some("Kustomization"),
        ),
        ("other.yaml", "images: [{name: a, newName: b/c}]\n", None),
        (
            "values.yaml",
            "services: {a: {image: b/c}}\n",
            Some("Compose"),
        ),
        (
            "values.yaml",
            "services: {a: {image: {repository: b/c, tag: v1}}}\n",
            Some("HelmValues"),
        ),
    ] {
        let found = read(name, text, &[]).unwrap();
        assert_eq!(
            found.pods.first().map(|it| it.kind.as_str()),
            kind,
            "{name}: {text}"
        );
        assert_eq!(found.others, usize::from(kind.is_none()), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn split_images_are_rewritten_or_stay(
        registry in prop::option::of("[a-z]{1,4}\\.io(:[0-9]{2})?"),
        repository in "[a-z]{1,4}(/[a-z]{1,4}){0,2}",
        tag in prop::option::of("[a-z0-9.]{1,4}"),
        digest in any::<bool>(),
        to in "(r\\.io/)?[a-z]{1,3}(:[a-z]{1,2})?",
    ) {
        let mut text = "a:\n  image:\n    pullPolicy: Always\n".to_owned();
        if let Some(registry) = &registry {
            writeln!(text, "    registry: {registry}  # r").unwrap();
        }
        writeln!(text, "    repository: '{repository}'").unwrap();
        if let Some(tag) = &tag {
            writeln!(text, "    tag: \"{tag}\"").unwrap();
        }
        if digest {
            writeln!(text, "    digest: sha256:{}", "1".repeat(64)).unwrap();
        }
        let found = read("values.yaml", &text, &[]).unwrap();
        let image = &found.pods[0].images[0];
        let to = if digest { format!("{to}@sha256:{}", "1".repeat(64)) } else { to };
        let result = replace(&text, &[(image, &to)]).unwrap();
        if image.can_become(&to).is_ok() {
            let again = read("values.yaml", &result, &[]).unwrap();
            let again = crate::Reference::parse(&again.pods[0].images[0].image).unwrap().canonical();
            let expected = crate::Reference::parse(&to).unwrap().canonical();
            prop_assert_eq!(again, expected, "{}", result);
            prop_assert_eq!(text.lines().count(), result.lines().count());
        } else {
            prop_assert_eq!(result, text);
        }
    }
}
