//! Which images are found, where, and the text after replacing them.

use super::*;
use crate::diagnostic::Severity;
use proptest::prelude::*;
use std::fmt::Write;

mod files;
mod places;

fn manifest(text: &str) -> Manifest {
    let found = read("m.yaml", text, &[]).unwrap();
    assert_eq!(found.problems, [], "{text}");
    found
}

/// Every image as `title: field: path = image @ line:column`.
fn listed(found: &Manifest) -> Vec<String> {
    let lines = found.pods.iter().flat_map(|pod| {
        pod.images.iter().map(|it| {
            let Span { line, column, .. } = it.span;
            let title = pod.title("default");
            format!(
                "{title}: {}: {} = {} @ {line}:{column}",
                it.field, it.path, it.image
            )
        })
    });
    lines.collect()
}

/// The text with every image replaced by `to(image)`.
fn replaced(text: &str, to: impl Fn(&str) -> String) -> Result<String, Clash> {
    let found = read("m.yaml", text, &[]).unwrap();
    let images: Vec<_> = found.pods.iter().flat_map(|it| &it.images).collect();
    let results: Vec<_> = images.iter().map(|it| to(&it.image)).collect();
    let pairs: Vec<_> = images
        .iter()
        .copied()
        .zip(results.iter().map(String::as_str))
        .collect();
    replace(text, &pairs)
}

fn mirror(image: &str) -> String {
    if image.starts_with("r.io/") {
        image.to_owned()
    } else {
        format!("r.io/{image}")
    }
}

#[test]
fn every_list_of_a_pod_is_read() {
    let text = "\
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop, labels: {app: web, n: 1}}
spec:
  volumes:
  - name: models
    image: {reference: quay.io/m:1, pullPolicy: Always}
  - name: empty
    emptyDir: {}
  - image:
  initContainers:
  - {name: setup, image: 'busybox'}
  containers:
  - name: web
    image: \"nginx:1.25\"   # the server
  - image: redis
  - name: no-image
  - name: null-image
    image: null
  ephemeralContainers:
  - name: debug
    image: alpine
";
    let found = manifest(text);
    assert_eq!(
        listed(&found),
        [
            "Pod shop/p: volume models: spec.volumes[0].image.reference = quay.io/m:1 @ 7:24",
            "Pod shop/p: init container setup: spec.initContainers[0].image = busybox @ 12:26",
            "Pod shop/p: container web: spec.containers[0].image = nginx:1.25 @ 15:12",
            "Pod shop/p: container #2: spec.containers[1].image = redis @ 16:12",
            "Pod shop/p: ephemeral container debug: spec.ephemeralContainers[0].image = alpine @ 22:12",
        ]
    );
    let labels = found.pods[0].labels.as_ref().unwrap();
    assert_eq!(
        labels.iter().collect::<Vec<_>>(),
        [(&"app".to_owned(), &"web".to_owned())]
    );
}

#[test]
fn every_built_in_kind_is_read() {
    let spec = "{containers: [{name: c, image: i}]}";
    let template = format!("{{metadata: {{labels: {{from: template}}}}, spec: {spec}}}");
    let deep = format!("spec: {{template: {template}}}");
    let rows = [
        ("v1", "Pod", format!("spec: {spec}"), "spec."),
        (
            "v1",
            "PodTemplate",
            format!("template: {template}"),
            "template.spec.",
        ),
        (
            "v1",
            "ReplicationController",
            deep.clone(),
            "spec.template.spec.",
        ),
        ("apps/v1", "Deployment", deep.clone(), "spec.template.spec."),
        (
            "extensions/v1beta1",
            "Deployment",
            deep.clone(),
            "spec.template.spec.",
        ),
        (
            "apps/v1",
            "StatefulSet",
            deep.clone(),
            "spec.template.spec.",
        ),
        ("apps/v1", "DaemonSet", deep.clone(), "spec.template.spec."),
        ("apps/v1", "ReplicaSet", deep.clone(), "spec.template.spec."),
        ("batch/v1", "Job", deep.clone(), "spec.template.spec."),
        (
            "batch/v1",
            "CronJob",
            format!("spec: {{jobTemplate: {{{deep}}}}}"),
            "spec.jobTemplate.spec.template.spec.",
        ),
    ];
    for (version, kind, body, prefix) in rows {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, labels: {{from: object}}}}\n{body}\n"
        );
        let found = manifest(&text);
        assert_eq!(found.pods.len(), 1, "{kind}");
        assert_eq!(found.others, 0, "{kind}");
        assert_eq!(
            found.pods[0].images[0].path,
            format!("{prefix}containers[0].image")
        );
        let from = if kind == "Pod" { "object" } else { "template" };
        assert_eq!(
            found.pods[0].labels.as_ref().unwrap()["from"],
            from,
            "{kind}"
        );
        let elsewhere = text.replace(
            &format!("apiVersion: {version}"),
            "apiVersion: own.example/v1",
        );
        let found = read("m.yaml", &elsewhere, &[]).unwrap();
        assert_eq!((found.pods.len(), found.others), (0, 1), "{kind}");
        assert_eq!(found.problems[0].code, "image-elsewhere", "{kind}");
    }
}

#[test]
fn lists_are_read_at_any_depth_and_other_documents_are_counted() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "PodList", "items": [
    {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "one"}]}},
    {"metadata": {"generateName": "b-"}, "spec": {"containers": [{"name": "c", "image": "t\u0077o"}]}}]},
  {"apiVersion": "apps/v1", "kind": "DeploymentList", "items": null},
  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": {"a": "b"}}}]}
"#;
    let found = manifest(text);
    assert_eq!(
        listed(&found),
        [
            "Pod default/a: container c: spec.containers[0].image = one @ 3:80",
            "Pod default/b-*: container c: spec.containers[0].image = two @ 4:89",
        ]
    );
    assert_eq!(found.namespaces["n"]["a"], "b");
    assert_eq!(found.others, 1);

    let text = "---\n# nothing\n---\na: b\n---\n- c\n---\nkind: Pod\n---\n\
                apiVersion: v1\nkind: ConfigMap\ndata: {picture: nginx}\n---\n\
                apiVersion: apps/v1\nkind: Deployment\nspec: {template: null}\n";
    let found = manifest(text);
    assert_eq!((found.pods.len(), found.others), (0, 5));
}

#[test]
fn custom_resources_are_read_where_a_path_leads() {
    let text = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: r}
spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: one}]}}}
---
apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {name: t}
spec:
  replicaSpecs:
    Master: {template: {spec: {containers: [{name: c, image: two}]}}}
    Worker: {template: {spec: {initContainers: [{name: i, image: three}]}}}
---
apiVersion: own.example/v1
kind: Own
metadata: {name: o}
spec: {pods: [{containers: [{image: four}]}, {containers: [{image: five}]}]}
";
    let paths = [
        "Rollout.argoproj.io=spec.template",
        "PyTorchJob=spec.replicaSpecs.*.template",
        "Own=.spec.pods[*]",
        "Own.other.example=spec.nowhere",
    ];
    let paths = paths.map(|it| it.parse().unwrap());
    let found = read("m.yaml", text, &paths).unwrap();
    assert_eq!(found.problems, []);
    assert_eq!(
        listed(&found),
        [
            "Rollout default/r: container c: spec.template.spec.containers[0].image = one @ 4:84",
            "PyTorchJob default/t: container c: spec.replicaSpecs.Master.template.spec.containers[0].image = two @ 11:62",
            "PyTorchJob default/t: init container i: spec.replicaSpecs.Worker.template.spec.initContainers[0].image = three @ 12:66",
            "Own default/o: container #1: spec.pods[0].containers[0].image = four @ 17:37",
            "Own default/o: container #1: spec.pods[1].containers[0].image = five @ 17:68",
        ]
    );
    assert_eq!(found.pods[0].labels.as_ref().unwrap()["a"], "b");
    let found = read("m.yaml", text, &[]).unwrap();
    assert_eq!((found.pods.len(), found.others), (1, 2));

    let lost = ["Own=spec.elsewhere".parse().unwrap()];
    let found = read("m.yaml", text, &lost).unwrap();
    let problem = found.problems.iter().find(|it| it.code == "image-path");
    let problem = problem.unwrap();
    assert_eq!((problem.severity, problem.line), (Severity::Warning, 14));
    assert_eq!(
        problem.message,
        "expected an image or a Pod template at spec.elsewhere, found none"
    );
    assert!(found.used.is_empty());
}

#[test]
fn what_is_no_image_is_told_with_its_place() {
    let rows = [
        (
            "spec: {containers: [{image: 1.0}]}",
            29,
            "expected an image reference, found a number",
        ),
        (
            "spec: {containers: [{image: [a]}]}",
            29,
            "expected an image reference, found a list",
        ),
        (
            "spec: {containers: {image: a}}",
            20,
            "expected a list of containers, found a mapping",
        ),
        (
            "spec: {containers: [a]}",
            21,
            "expected a container, found a string",
        ),
        (
            "spec: {volumes: [{image: a}]}",
            26,
            "expected the image of a volume",
        ),
        (
            "spec: {volumes: [a]}",
            18,
            "expected a volume, found a string",
        ),
        ("spec: [a]", 7, "expected the spec of a Pod, found a list"),
    ];
    for (spec, column, message) in rows {
        let text = format!("apiVersion: v1\nkind: Pod\n{spec}\n");
        let found = read("m.yaml", &text, &[]).unwrap();
        let [problem] = found.problems.as_slice() else {
            panic!("{spec}: {:?}", found.problems);
        };
        assert!(problem.message.starts_with(message), "{}", problem.message);
        assert_eq!((problem.line, problem.column), (3, column), "{spec}");
        assert_eq!(problem.severity, Severity::Error);
    }
    let number = read(
        "m",
        "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 1.0}]}",
        &[],
    );
    assert_eq!(
        number.unwrap().problems[0].help.as_deref(),
        Some("as text it is written \"1.0\"")
    );
    let chart = read("m", "image: {{ .Values.image }}\n", &[]).unwrap_err();
    assert!(chart.0[0].help.as_ref().unwrap().contains("helm template"));
}

#[test]
fn only_images_are_replaced() {
    let text = "\
# A comment\r
apiVersion: v1
kind:   Pod
metadata: {name: \"p\"}   # image: nginx
spec:
  containers:
    - image: nginx:1.25 # latest?
      name: 'nginx:1.25'
    - { name: b, image: b,c: d }
    - image: 'single'
    - \"image\": \"dou\\u0062le\"
    - image: |-  # literal
        literal

    - image: >-
          folded
      name: e
    - image: !!str &x anchored
      env: [{name: A, value: *x}]
    - image: \"spl\\
        it\"
    - ? image
      : odd
    - image: r.io/there
\t
";
    let expected = text
        .replace("image: nginx:1.25 #", "image: r.io/nginx:1.25 #")
        .replace("image: b,", "image: r.io/b,")
        .replace("'single'", "'r.io/single'")
        .replace("\"dou\\u0062le\"", "\"r.io/double\"")
        .replace("        literal\n", "        r.io/literal\n")
        .replace("          folded\n", "          r.io/folded\n")
        .replace("&x anchored", "&x r.io/anchored")
        .replace("\"spl\\\n        it\"", "\"r.io/split\"")
        .replace(": odd", ": r.io/odd");
    let once = replaced(text, mirror).unwrap();
    assert_eq!(once, expected);
    assert_eq!(replaced(&once, mirror).unwrap(), once);
    assert_eq!(replaced(text, str::to_owned).unwrap(), text);
}

#[test]
fn quotes_come_where_they_are_needed() {
    let rows = [
        ("a", "[::1]:5000/a", "\"[::1]:5000/a\""),
        ("'a'", "[::1]:5000/a", "'[::1]:5000/a'"),
        ("a", "on", "\"on\""),
        ("a", "1.5", "\"1.5\""),
        ("a", "r.io:5000/a@sha256:0", "r.io:5000/a@sha256:0"),
        ("'a'", "it's", "'it''s'"),
        ("'a'", "a\nb", "\"a\\nb\""),
        ("\"a\"", "a\"b\\", "\"a\\\"b\\\\\""),
        ("a", "a: b", "\"a: b\""),
        ("a", "a #b", "\"a #b\""),
    ];
    for (from, to, written) in rows {
        let text = |it: &str| {
            format!("{{apiVersion: v1, kind: Pod, spec: {{containers: [{{image: {it}}}]}}}}")
        };
        let result = replaced(&text(from), |_| to.to_owned()).unwrap();
        assert_eq!(result, text(written));
        assert_eq!(manifest(&result).pods[0].images[0].image, to);
    }
}

#[test]
fn uses_of_one_anchor_go_together_or_not_at_all() {
    let text = "\
apiVersion: v1
kind: Pod
x: &image nginx
spec:
  containers:
  - {name: a, image: *image}
  - {name: b, image: *image}
";
    let once = replaced(text, mirror).unwrap();
    assert_eq!(once, text.replace("nginx", "r.io/nginx"));

    let found = manifest(text);
    let images = &found.pods[0].images;
    let clash = replace(text, &[(&images[0], "nginx"), (&images[1], "r.io/nginx")]);
    assert_eq!(
        clash,
        Err(Clash {
            first: 0,
            second: 1
        })
    );

    let merged = text.replace(
        "{name: b, image: *image}",
        "&c {name: c, image: quay.io/c}\n  - {<<: *c, name: d}",
    );
    let expected = merged
        .replace("nginx", "r.io/nginx")
        .replace("quay.io/c", "r.io/quay.io/c");
    assert_eq!(replaced(&merged, mirror).unwrap(), expected);
}

#[test]
fn images_of_another_text_change_nothing() {
    let found = manifest("apiVersion: v1\nkind: Pod\nspec: {containers: [{image: nginx}]}");
    let image = &found.pods[0].images[0];
    for text in ["", "é".repeat(22).as_str(), "short"] {
        assert_eq!(replace(text, &[(image, "other")]).unwrap(), text);
    }
}

/// A reference, or something near it.
fn images() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z][a-z0-9.-]{0,8}(:[0-9]{2,4})?/[a-z0-9/]{1,9}(:[a-zA-Z0-9.]{1,4})?",
        1 => "[!-~]{1,12}",
        1 => "[ -~é\\n\t]{1,8}",
    ]
}

/// An image, written in one of the possible ways as the value of a key.
fn spelled() -> impl Strategy<Value = (String, String)> {
    (images(), 0..6_usize).prop_map(|(image, way)| {
        let plain = image
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "./:".contains(it))
            && !image.ends_with(':')
            && image.contains('/')
            && !image.starts_with(':');
        let line = !image.contains(char::is_control) && image.trim() == image;
        let text = match way {
            0 | 1 if plain => format!("{image} # c"),
            2 if line => format!("'{}'", image.replace('\'', "''")),
            3 if line => format!("|-\n          {image}"),
            4 if line => format!(">-  # c\n          {image}\n"),
            _ => serde_json::to_string(&image).unwrap(),
        };
        (image, text)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn replacing_changes_the_images_and_nothing_else(
        written in prop::collection::vec((spelled(), images()), 1..6),
        crlf in any::<bool>(),
    ) {
        let mut text = "# c\napiVersion: v1\nkind: Pod\nspec:\n  containers:\n".to_owned();
        for ((_, spelled), _) in &written {
            writeln!(text, "    - name: &n \"é\"\n      image: {spelled}\n      args: [*n] # d").unwrap();
        }
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        let found = manifest(&text);
        let images = &found.pods[0].images;
        let expected: Vec<_> = written.iter().map(|((image, _), _)| image.as_str()).collect();
        let seen: Vec<_> = images.iter().map(|it| it.image.as_str()).collect();
        prop_assert_eq!(seen, expected, "{}", text);

        let pairs: Vec<_> = images.iter().zip(&written).map(|(before, (_, to))| {
            let block = matches!(before.style, Style::Literal | Style::Folded);
            // A block cannot hold these unchanged, and the result is not an image anyway.
            let fits = !block || !to.contains(char::is_control) && to.trim() == *to;
            (before, if fits { to.as_str() } else { "r.io/x" })
        }).collect();
        let result = replace(&text, &pairs).unwrap();
        let after = manifest(&result);
        let mut kept = 0;
        for (after, (before, to)) in after.pods[0].images.iter().zip(&pairs) {
            prop_assert_eq!(&after.image, to, "{}", result);
            prop_assert_eq!(
                text.get(kept..before.span.start).map(str::len),
                Some(before.span.start - kept)
            );
            kept = before.span.end;
        }
        let gaps = |text: &str, found: &Manifest| {
            let mut from = 0;
            let mut gaps: Vec<_> = found.pods[0].images.iter().map(|it| {
                let gap = text[from..it.span.start].to_owned();
                from = it.span.end;
                gap
            }).collect();
            gaps.push(text[from..].to_owned());
            gaps
        };
        prop_assert_eq!(gaps(&text, &found), gaps(&result, &after));
        let again: Vec<_> = after.pods[0].images.iter().map(|it| (it, it.image.as_str())).collect();
        prop_assert_eq!(replace(&result, &again).unwrap(), result);
    }

    #[test]
    fn rewriting_twice_is_rewriting_once(parts in prop::collection::vec(spelled(), 0..4)) {
        let mut text = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n".to_owned();
        for (_, spelled) in &parts {
            writeln!(text, "    - image: {spelled}").unwrap();
        }
        let once = replaced(&text, mirror).unwrap();
        prop_assert_eq!(replaced(&once, mirror).unwrap(), once);
    }

    #[test]
    fn no_text_is_too_strange(text in strange()) {
        let templates = ["Pod=spec.*", "A=*.b[*]"].map(|it| it.parse().unwrap());
        if let Ok(found) = read("m", &text, &templates) {
            let images: Vec<_> = found.pods.iter().flat_map(|it| &it.images).collect();
            for image in &images {
                prop_assert!(text.get(image.span.start..image.span.end).is_some());
            }
            let stay: Vec<_> = images.iter().map(|it| (*it, it.image.as_str())).collect();
            prop_assert_eq!(replace(&text, &stay), Ok(text.clone()));
            let swap: Vec<_> = images.iter().map(|it| (*it, "r.io/x")).collect();
            if let Ok(result) = replace(&text, &swap) {
                prop_assert!(read("m", &result, &templates).is_ok(), "{}", result);
            }
        }
    }

    #[test]
    fn no_path_is_too_strange(text in "[A-Za-z=.*\\[\\]é ]{0,16}") {
        drop(text.parse::<ImagePath>());
    }
}

/// Texts that look like manifests.
fn strange() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "apiVersion: v1\n",
        "kind: Pod\n",
        "kind: List\n",
        "items:\n",
        "spec:\n",
        "  containers:\n",
        "  - image: nginx\n",
        "  - {image: 'a', name: b}\n",
        "  - image: &a nginx\n",
        "  - image: *a\n",
        "  - <<: *a\n",
        "  - image: |-\n     x\n",
        "---\n",
        "  volumes: [{image: {reference: a}}]\n",
        "{",
        "}",
        "image: 1\n",
        "\r\n",
        "é",
        "  initContainers: null\n",
        "A: ",
        "- ",
        "\"",
        "  - image: >\n",
        "template: ",
        "kind: A\n",
    ]);
    let pod = Just("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n".to_owned());
    let parts = prop::collection::vec(part, 0..16).prop_map(|it| it.concat());
    (prop_oneof![pod, Just(String::new())], parts).prop_map(|(head, rest)| head + &rest)
}
