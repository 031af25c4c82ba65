use super::*;
use crate::scan::owners::Owners;
use crate::scan::sample;
use imageswap_policy::{Date, Policies, document};
use serde_json::json;

const POLICY: &str = concat!(
    include_str!("../../../tests/data/corp.yaml"),
    "  match: {namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [infra]}]}}\n"
);

fn policies() -> Policies {
    Policies::new(document::load("p.yaml", POLICY).unwrap().policies)
}

fn census(policies: &Policies) -> Census<'_> {
    let mut census = Census::new(policies, sample::namespaces(), Date::MIN);
    let mut owners = Owners::default();
    owners.add(&sample::replica_set("rs", "web"));
    let web = sample::deployment("web", "nginx:1.25");
    census.template(&Workload::of("Deployment", &web), web.template().unwrap());
    let idle = sample::deployment("idle", "evil.example.net/miner:latest");
    census.template(&Workload::of("Deployment", &idle), idle.template().unwrap());
    for (name, image) in [
        ("web-1", "nginx:1.25"),
        ("web-2", "registry.example.com/hub/library/nginx:1.25"),
    ] {
        census.pod(&owners, &sample::pod(name, "web", image, Some("rs")));
    }
    census.pod(&owners, &sample::object(json!({
        "metadata": {"name": "etcd-n1", "namespace": "shop", "annotations": {"kubernetes.io/config.mirror": "0"}},
        "spec": {
            "initContainers": [{"name": "fetch", "image": "Not A Reference"}],
            "containers": [{"name": "etcd", "image":
                "quay.example.org/a-rather-long-path/to/some/image:with-a-tag-that-does-not-fit-a-line"}],
        },
    })));
    census.pod(
        &owners,
        &sample::object(json!({
            "metadata": {"name": "dns", "namespace": "infra"},
            "spec": {"containers": [{"name": "dns", "image": "registry.k8s.io/dns:1"}]},
        })),
    );
    census
}

fn shown(write: impl Fn(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn by_namespace_and_workload_in_80_columns() {
    let policies = policies();
    let census = census(&policies);
    let unseen = [Unseen {
        resource: "cronjobs",
        reason: "cronjobs.batch is forbidden: User \"scan\" cannot list resource \"cronjobs\" in API group \
                 \"batch\" at the cluster scope"
            .to_owned(),
    }];
    let text = shown(|out| {
        narrow(&census, Colour(false), out).unwrap();
        end(
            &Summary::of(&census, &crate::verdict::VerdictArgs::usual(false)),
            &unseen,
            out,
        )
        .unwrap();
    });
    assert_eq!(text, include_str!("table.txt"), "{text}");
    // An image is never broken.
    let long = text
        .lines()
        .filter(|it| it.chars().count() > WIDTH && it.trim().contains(' '));
    assert_eq!(long.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn colour_changes_no_letter() {
    let policies = policies();
    let census = census(&policies);
    let colours = shown(|out| narrow(&census, Colour(true), out).unwrap());
    let plain = shown(|out| narrow(&census, Colour(false), out).unwrap());
    assert_ne!(colours, plain);
    assert_eq!(anstream::adapter::strip_str(&colours).to_string(), plain);
}

#[test]
fn wide_is_a_line_for_each_image() {
    let policies = policies();
    let census = census(&policies);
    let text = shown(|out| wide(&census, Colour(false), out).unwrap());
    let lines: Vec<_> = text.trim_end().lines().collect();
    assert_eq!(lines.len(), 1 + census.rows().count());
    let cells =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(
        cells(lines[0])[..5],
        ["NAMESPACE", "OWNER", "CONTAINER", "PODS", "VERDICT"]
    );
    let swap = lines.iter().find(|it| it.contains(" swap ")).unwrap();
    assert_eq!(
        cells(swap),
        [
            "shop",
            "Deployment/web",
            "web",
            "1",
            "swap",
            "nginx:1.25",
            "registry.example.com/hub/library/nginx:1.25",
            "corp",
            "hub",
        ]
    );
}
