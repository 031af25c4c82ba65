//! Images outside of Pods: the table of kinds, paths of users, and warnings about the rest.

use super::super::kinds::{KINDS, Places, Shape};
use super::super::path::steps;
use super::*;
use serde_json::{Value as Json, json};

/// What a path of the table refers to, with one image in it; and the path of that image below.
fn sample(shape: Shape) -> (Json, &'static str, &'static str) {
    let pod = json!({"containers": [{"name": "c", "image": "quay.io/a:1"}]});
    match shape {
        Shape::Template => (
            json!({"spec": pod}),
            ".spec.containers[0].image",
            "quay.io/a:1",
        ),
        Shape::Pod => (pod, ".containers[0].image", "quay.io/a:1"),
        Shape::Container => (json!({"image": "quay.io/a:1"}), ".image", "quay.io/a:1"),
        Shape::Image => (json!("quay.io/a:1"), "", "quay.io/a:1"),
        Shape::Split => (
            json!({"repository": "quay.io/a", "tag": "1"}),
            "",
            "quay.io/a:1",
        ),
        Shape::Object => (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}),
            ".spec.containers[0].image",
            "quay.io/a:1",
        ),
        Shape::Values => (
            json!({"web": {"image": {"registry": "quay.io", "repository": "a", "tag": "1"}}}),
            ".web.image",
            "quay.io/a:1",
        ),
        Shape::Kustomize => (
            json!({"name": "a", "newName": "quay.io/a", "newTag": "1"}),
            "",
            "quay.io/a:1",
        ),
        Shape::KustomizeText => (json!("a=quay.io/a:1"), "", "quay.io/a:1"),
        Shape::Parts(_) | Shape::Any => unreachable!("it has no images of its own"),
    }
}

/// All places, with their whole paths.
fn flat(places: Places, below: &str, found: &mut Vec<(Shape, String)>) {
    for (shape, path) in places {
        let dot = if below.is_empty() || path.is_empty() {
            ""
        } else {
            "."
        };
        let path = format!("{below}{dot}{path}");
        match shape {
            Shape::Parts(places) => flat(places, &path, found),
            _ => found.push((*shape, path)),
        }
    }
}

#[test]
fn every_kind_is_listed_once() {
    let mut names = BTreeSet::new();
    for (groups, kind, _) in KINDS {
        for group in *groups {
            assert!(names.insert((group, kind)), "{kind}.{group}");
        }
    }
    assert!(names.len() > 85, "{}", names.len());
}

/// An object that has a value at a path, and the path of the value.
fn object(group: &str, kind: &str, path: &str, value: Json) -> (String, String) {
    let mut at = String::new();
    let names: Vec<_> = path.split('.').filter(|it| !it.is_empty()).collect();
    for name in &names {
        match *name {
            "*" => at.push_str("[0]"),
            _ if at.is_empty() => at.push_str(name),
            _ => write!(at, ".{name}").unwrap(),
        }
    }
    let mut value = value;
    for name in names.iter().rev() {
        value = match *name {
            "*" => json!([value]),
            _ => json!({*name: value}),
        };
    }
    let version = if group.is_empty() {
        "v1".to_owned()
    } else {
        format!("{group}/v1")
    };
    value["apiVersion"] = json!(version);
    value["kind"] = json!(kind);
    value["metadata"] = json!({"name": "x"});
    (serde_json::to_string_pretty(&value).unwrap(), at)
}

#[test]
fn every_place_of_the_table_is_read_and_rewritten() {
    for (groups, kind, places) in KINDS {
        let mut all = Vec::new();
        flat(places, "", &mut all);
        for (shape, path) in all {
            assert!(path.is_empty() || steps(&path).is_ok(), "{kind}={path}");
            let (value, below, image) = sample(shape);
            let (text, at) = object(groups[0], kind, &path, value);
            let found = manifest(&text);
            let images: Vec<_> = found.pods.iter().flat_map(|it| &it.images).collect();
            let [only] = images.as_slice() else {
                panic!("{kind} {path}: {images:?}\n{text}");
            };
            let expected = format!("{at}{below}");
            assert_eq!(
                (only.image.as_str(), only.path.trim_start_matches('.')),
                (image, expected.trim_start_matches('.')),
                "{kind} {path}"
            );
            assert_eq!(found.others, 0, "{kind} {path}");
            let once = replaced(&text, |_| "r.io:5000/m/b:2".to_owned()).unwrap();
            let again = manifest(&once);
            let images: Vec<_> = again.pods.iter().flat_map(|it| &it.images).collect();
            assert_eq!(images[0].image, "r.io:5000/m/b:2", "{kind} {path}: {once}");
            assert_eq!(text.lines().count(), once.lines().count(), "{kind}");
        }
    }
}

#[test]
fn a_kind_of_another_group_is_not_known() {
    let (text, _) = object("own.example", "Prometheus", "spec.image", json!("a/b"));
    let found = read("m.yaml", &text, &[]).unwrap();
    assert_eq!((found.pods.len(), found.others), (0, 1));
    let warning = &found.problems[0];
    assert_eq!(
        (warning.code, warning.severity),
        ("image-elsewhere", Severity::Warning)
    );
    assert_eq!(
        warning.help.as_deref(),
        Some("give --image-path 'Prometheus.own.example=spec.image' to have it read")
    );
}

/// The flags that warnings propose.
fn proposed(found: &Manifest) -> Vec<String> {
    let helps = found.problems.iter().filter_map(|it| it.help.as_deref());
    let flags = helps.filter_map(|it| it.split('\'').nth(1));
    flags.map(str::to_owned).collect()
}

#[test]
fn a_proposed_flag_makes_the_image_known() {
    let spec = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  template:\n    spec:\n      \
                containers:\n      - name: o\n        image: quay.io/o/o:1\n";
    let rows = [
        (
            "apiVersion: x.io/v1\nkind: A\nspec: {image: nginx}\n".to_owned(),
            "A.x.io=spec.image",
            "nginx",
        ),
        (
            "apiVersion: x.io/v1\nkind: A\nspec: {parts: [{sideImage: a/b:1}]}\n".to_owned(),
            "A.x.io=spec.parts.*.sideImage",
            "a/b:1",
        ),
        (
            "apiVersion: x.io/v1\nkind: A\nspec: {image: {repository: a/b, tag: v1}}\n".to_owned(),
            "A.x.io=spec.image",
            "a/b:v1",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\ndata: {image: nginx}\n".to_owned(),
            "ConfigMap=data.image",
            "nginx",
        ),
        ("web: {image: a/b:1}\n".to_owned(), "-=web.image", "a/b:1"),
        ("- {image: a/b:1}\n".to_owned(), "", "a/b:1"),
        (
            format!("{spec}        args: ['--reloader=quay.io/o/r:1', --port=8080]\n"),
            "Deployment.apps=spec.template.spec.containers.*.args[--reloader]",
            "quay.io/o/r:1",
        ),
        (
            format!(
                "{spec}        env: [{{name: RELATED.X, value: quay.io/o/r:1}}, {{name: B, value: 'b:1'}}]\n"
            ),
            "Deployment.apps=spec.template.spec.containers.*.env[RELATED.X].value",
            "quay.io/o/r:1",
        ),
    ];
    for (text, flag, image) in rows {
        let found = read("m.yaml", &text, &[]).unwrap();
        let before = found.pods.iter().flat_map(|it| &it.images).count();
        if flag.is_empty() {
            assert_eq!(found.problems.len(), 1, "{text}");
            continue;
        }
        assert_eq!(proposed(&found), [flag], "{text}");
        let path: ImagePath = flag.parse().unwrap();
        assert_eq!(path.to_string(), flag);
        let found = read("m.yaml", &text, &[path]).unwrap();
        assert_eq!(found.problems, [], "{text}");
        assert!(found.used.contains(&0));
        let images: Vec<_> = found.pods.iter().flat_map(|it| &it.images).collect();
        assert_eq!(images.len(), before + 1);
        let wanted = images.iter().find(|it| it.image == image).unwrap();
        let once = replace(&text, &[(wanted, "r.io/m:2")]).unwrap();
        let again = read("m.yaml", &once, &[flag.parse().unwrap()]).unwrap();
        let images = again.pods.iter().flat_map(|it| &it.images);
        assert!(
            images.into_iter().any(|it| it.image.starts_with("r.io/m")),
            "{once}"
        );
    }
}

#[test]
fn what_cannot_run_is_no_reason_for_a_warning() {
    for text in [
        "apiVersion: x.io/v1\nkind: A\nmetadata: {annotations: {image: nginx}}\nstatus: {image: nginx}\n",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {example: {image: nginx}}\n",
        "apiVersion: x.io/v1\nkind: A\nspec: {image: 'A picture', imageName: logo, image: {}, fooImage: 5}\n",
        "apiVersion: x.io/v1\nkind: A\nspec: {args: ['a/b:1', '--x=http://a.io/b:1', '--y=a.io:80/b']}\n",
        "apiVersion: x.io/v1\nkind: A\nspec: {image: ''}\n",
    ] {
        let text = text.replace(", image: {}", "");
        let found = read("m.yaml", &text, &[]).unwrap();
        assert_eq!(found.problems, [], "{text}");
    }
}

#[test]
fn warnings_are_bounded() {
    let mut text = "apiVersion: x.io/v1\nkind: A\nspec:\n".to_owned();
    for at in 0..1000 {
        writeln!(text, "  f{at}: {{image: nginx}}").unwrap();
    }
    assert_eq!(read("m.yaml", &text, &[]).unwrap().problems.len(), 20);
}

#[test]
fn a_path_to_a_known_place_changes_nothing() {
    let text = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r}\n\
                spec: {template: {spec: {containers: [{name: c, image: one}]}}}\n";
    let paths = [
        "Rollout=spec.template",
        "Rollout=spec.template.spec.containers.*.image",
    ];
    let found = read("m.yaml", text, &paths.map(|it| it.parse().unwrap())).unwrap();
    assert_eq!(found.problems, []);
    assert_eq!(found.used, [0, 1].into());
    assert_eq!(found.pods, manifest(text).pods);
}

#[test]
fn labels_of_pods_that_an_operator_makes_are_not_known() {
    let text = "apiVersion: monitoring.coreos.com/v1\nkind: Prometheus\nmetadata: {name: k8s, namespace: m}\n\
                spec: {image: quay.io/p:1, containers: [{name: c, image: a}]}\n";
    let found = manifest(text);
    assert!(found.pods.iter().all(|it| it.labels.is_none()));
    assert_eq!(
        listed(&found),
        [
            "Prometheus m/k8s: container c: spec.containers[0].image = a @ 4:58",
            "Prometheus m/k8s: image #1: spec.image = quay.io/p:1 @ 4:15",
        ]
    );
}

#[test]
fn objects_in_objects_keep_their_path() {
    let text = "apiVersion: template.openshift.io/v1\nkind: Template\nobjects:\n\
                - {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: one}]}}\n\
                - {apiVersion: x.io/v1, kind: Own, spec: {image: two}}\n";
    let found = read("m.yaml", text, &["Own=spec.image".parse().unwrap()]).unwrap();
    assert_eq!(
        listed(&found),
        [
            "Pod default/p: container c: objects[0].spec.containers[0].image = one @ 4:89",
            "Own default/(no name): image #1: objects[1].spec.image = two @ 5:50",
        ]
    );
    assert_eq!(found.problems, []);
    let found = read("m.yaml", text, &[]).unwrap();
    assert_eq!(proposed(&found), ["Own.x.io=spec.image"]);
}
