use super::*;
use crate::scan::sample;
use imageswap_policy::document;

const TODAY: Date = Date::MIN;

fn policies(spec: &str) -> Policies {
    let text = format!(
        "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: corp}}\nspec: {spec}\n"
    );
    let loaded = document::load("p.yaml", &text).unwrap_or_else(|it| panic!("{it}"));
    Policies::new(loaded.policies)
}

fn verdict_of(policies: &Policies, image: &str) -> (Verdict, bool, bool) {
    let mut census = Census::new(policies, sample::namespaces(), TODAY);
    census.pod(&Owners::default(), &sample::pod("a", "web", image, None));
    let (key, _) = census.rows().next().unwrap();
    let [usual, strict] = [false, true].map(VerdictArgs::usual);
    (key.verdict, key.is_finding(&usual), key.is_finding(&strict))
}

#[test]
fn verdicts_say_what_admission_would_do() {
    use Verdict::{Audit, Exempt, Invalid, Keep, OutOfScope, Refuse, Swap, Warn};
    const RULES: &str = "rules: [{from: docker.io/**, to: r.io/hub}], approved: [r.io/**]";
    let of = |more: &str| policies(&format!("{{{RULES}{more}}}"));
    let deny = of("");
    let warn = of(", enforcement: warn");
    let audit = of(", enforcement: audit");
    let elsewhere = of(", match: {objectSelector: {matchLabels: {team: b}}}");
    let excepted = of(", exceptions: [{pattern: 'evil.io/**', until: 2027-01-31, reason: x}]");
    let maps = Policies::one(
        imageswap_policy::maps::load("m", "default::r.io\n")
            .unwrap()
            .policy,
    );
    #[rustfmt::skip]
    let rows = [
        (&deny,      "nginx",      Swap,       false, true),
        (&deny,      "r.io/hub/a", Keep,       false, false),
        (&deny,      "evil.io/x",  Refuse,     true,  true),
        (&deny,      "Evil",       Invalid,    true,  true),
        (&warn,      "evil.io/x",  Warn,       true,  true),
        (&warn,      "nginx",      Swap,       false, true),
        (&audit,     "evil.io/x",  Audit,      true,  true),
        (&audit,     "nginx",      Audit,      false, true),
        (&excepted,  "evil.io/x",  Exempt,     false, false),
        (&elsewhere, "evil.io/x",  OutOfScope, false, false),
        (&maps,      "evil.io/x",  Swap,       false, true),
    ];
    for (policies, image, verdict, finding, denied) in rows {
        assert_eq!(
            verdict_of(policies, image),
            (verdict, finding, denied),
            "{image} under {policies:?}"
        );
    }
}

#[test]
fn equal_pods_are_one_row_and_others_stand_beside_the_template() {
    let policies = policies("{rules: [{from: docker.io/**, to: r.io/hub}]}");
    let mut census = Census::new(&policies, sample::namespaces(), TODAY);
    let mut owners = Owners::default();
    owners.add(&sample::replica_set("rs", "web"));
    let deployment = sample::deployment("web", "nginx:2");
    let workload = Workload::of("Deployment", &deployment);
    census.template(&workload, deployment.template().unwrap());
    for at in 0..3 {
        let pod = sample::pod(&format!("web-{at}"), "web", "nginx:1", Some("rs"));
        census.pod(&owners, &pod);
    }
    census.pod(&owners, &sample::pod("web-3", "web", "nginx:2", Some("rs")));
    census.pod(
        &owners,
        &sample::finished(sample::pod("old", "web", "evil.io/x", Some("rs"))),
    );
    let rows: Vec<_> = census
        .rows()
        .map(|(key, seen)| {
            let other = census.other_in_template(key, seen);
            (key.image.as_str(), seen.pods, seen.template, other)
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("nginx:1", 3, false, Some("nginx:2")),
            ("nginx:2", 1, true, None)
        ]
    );
    assert_eq!(
        (census.pods(), census.finished(), census.workloads()),
        (4, 1, 1)
    );
    assert_eq!(census.pods_of(&workload), 4);
}

#[test]
fn labels_of_namespaces_count_and_unknown_ones_are_not_decided() {
    let policies =
        policies("{approved: [r.io/**], match: {namespaceSelector: {matchLabels: {team: a}}}}");
    for (labels, expected) in [
        (Some(("team", "a")), Verdict::Refuse),
        (Some(("team", "b")), Verdict::OutOfScope),
        (None, Verdict::Unknown),
    ] {
        let mut census = Census::new(&policies, sample::namespaces(), TODAY);
        if let Some((key, value)) = labels {
            census.namespace(&sample::namespace("shop", key, value));
        }
        census.pod(
            &Owners::default(),
            &sample::pod("a", "web", "evil.io/x", None),
        );
        assert_eq!(
            census.rows().next().unwrap().0.verdict,
            expected,
            "{labels:?}"
        );
        assert_eq!(census.undecided().is_empty(), labels.is_some());
    }
}
