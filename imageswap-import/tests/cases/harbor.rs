//! Configurations of harbor-container-webhook.

use super::helpers::{DIGEST, becomes, decide, imported, result, says, together, told, webhook};
use Status::{CarriedOver, Differs, LeftOut};
use imageswap_import::{Import, Status};

fn harbor(config: &str) -> Import {
    together(config, &webhook("hcw.example", "/webhook-v1-pod", ""))
}

#[test]
fn every_field_of_harbor_is_understood_or_the_rule_is_left_out() {
    let rule = "rules:\n- name: hub\n  matches: ['^quay\\.io/']\n  replace: h.example/quay\n";
    for (text, status, part) in [
        (rule.to_owned(), CarriedOver, ""),
        (
            format!(
                "port: 9443\ncertDir: /a\nmetricsAddr: \":1\"\nhealthAddr: \":2\"\nverbose: true\n{rule}"
            ),
            CarriedOver,
            "",
        ),
        (format!("{rule}  excludes:\n"), CarriedOver, ""),
        (
            format!(
                "{rule}  checkUpstream: false\n  platforms: [linux/arm64]\n  authSecretName: s\n"
            ),
            CarriedOver,
            "",
        ),
        (
            format!("{rule}  checkUpstream: true\n"),
            Differs,
            "stays there if `h.example/quay` lacks it",
        ),
        (
            format!("{rule}  checkUpstream: yes\n"),
            LeftOut,
            "5:18 left out: `checkUpstream` is neither",
        ),
        (
            format!("{rule}  platforms: linux/arm64\n"),
            LeftOut,
            "5:14 left out: `platforms` is not a list",
        ),
        (
            format!("{rule}  authSecretName: [s]\n"),
            LeftOut,
            "5:19 left out",
        ),
        (
            format!("{rule}  replaceImagePullSecrets: true\n"),
            LeftOut,
            "5:3 left out: `replaceImagePullSecrets` is not understood",
        ),
        (
            format!("static: {{}}\n{rule}"),
            LeftOut,
            "`static` is not understood (line 1, column 1)",
        ),
        (
            rule.replace("'^quay\\.io/'", "'^quay\\.io(/'"),
            LeftOut,
            "3:12 left out: the expression `^quay\\.io(/` is not understood",
        ),
        (
            rule.replace("'^quay\\.io/'", "'^[a-z&&[^b]]quay'"),
            LeftOut,
            "is not understood",
        ),
        (
            rule.replace("h.example/quay", "h.example/quay/"),
            LeftOut,
            "expected a registry",
        ),
        (
            rule.replace("h.example/quay", "harbor/quay"),
            LeftOut,
            "4:12 left out: `replace` is `harbor/quay`",
        ),
        (
            rule.replace("h.example/quay", "''"),
            LeftOut,
            "expected a registry",
        ),
        (
            rule.replace("['^quay\\.io/']", "'^quay\\.io/'"),
            LeftOut,
            "3:12 left out: `matches` is not a list",
        ),
    ] {
        let it = harbor(&text);
        let report = told(&it);
        assert_eq!(it.report.rules[0].status, status, "{text}: {report}");
        assert!(report.contains(part), "{text}: {report}");
        assert!(it.report.others.is_empty(), "{:?}", it.report.others);
        if status == LeftOut {
            assert!(it.policies.is_empty());
            continue;
        }
        for (image, moved) in [
            ("quay.io/a/b:1", "h.example/quay/a/b:1"),
            (
                &format!("quay.io/a/b{DIGEST}"),
                &*format!("h.example/quay/a/b{DIGEST}"),
            ),
            ("quay.io.evil.example/a:1", "quay.io.evil.example/a:1"),
            ("nginx:1", "nginx:1"),
        ] {
            assert_eq!(result(&it, image), moved, "{text}");
        }
    }
}

#[test]
fn the_first_rule_of_harbor_that_matches_decides() {
    let it = harbor(
        "rules:\n- name: hub\n  matches: ['^docker.io']\n  excludes: ['^docker.io/(library/)?ubuntu:.*$']\n  replace: h.example/hub\n- name: ubuntu\n  matches: ['^docker.io/(library/)?ubuntu:.*$']\n  replace: h.example/ubuntu\n- name: never\n  matches: ['^docker.io/']\n  excludes: ['^docker.io/(library/)?ubuntu:.*$']\n  replace: h.example/never\n",
    );
    for (image, moved) in [
        ("nginx:1", "h.example/hub/library/nginx:1"),
        ("library/nginx", "h.example/hub/library/nginx"),
        ("bitnami/redis:7", "h.example/hub/bitnami/redis:7"),
        ("ubuntu:22.04", "h.example/ubuntu/library/ubuntu:22.04"),
        ("ubuntu", "h.example/ubuntu/library/ubuntu"),
        ("quay.io/a:1", "quay.io/a:1"),
    ] {
        becomes(&it, image, moved);
    }
    // A rule that is not understood takes nothing for granted.
    let it = harbor(
        "rules:\n- {name: a, matches: ['^quay[.]io/'], replace: h.example/quay}\n- {name: b, matches: ['(?x)^ghcr'], replace: h.example/b}\n- {name: c, matches: ['^ghcr[.]io/'], replace: h.example/c}\n",
    );
    becomes(&it, "quay.io/a:1", "h.example/quay/a:1");
    becomes(&it, "ghcr.io/a:1", "ghcr.io/a:1");
    says(&it, "the rule `b` before it");
    assert_eq!(it.report.count(LeftOut), 2);
}

#[test]
fn the_scope_is_that_of_the_webhook() {
    let config = "rules:\n- name: hub\n  matches: ['^quay\\.io/']\n  replace: h.example/quay\n";
    let it = imported(config);
    assert_eq!(it.report.rules[0].status, Differs);
    says(&it, "MutatingWebhookConfiguration");
    assert_eq!(
        decide(&it, "kube-system", &[], "quay.io/a:1").unwrap().0,
        "h.example/quay/a:1"
    );
    let own =
        "  objectSelector: {matchExpressions: [{key: off, operator: NotIn, values: [\"true\"]}]}\n";
    let it = together(config, &webhook("hcw", "/webhook-v1-pod", own));
    assert_eq!(it.report.rules[0].status, CarriedOver, "{}", told(&it));
    assert_eq!(decide(&it, "a", &[("off", "true")], "quay.io/a:1"), None);
    assert_eq!(
        decide(&it, "a", &[], "quay.io/a:1").unwrap().0,
        "h.example/quay/a:1"
    );
    for (more, part) in [
        (
            "  matchConditions: [{name: a, expression: 'true'}]\n",
            "`matchConditions` is not understood",
        ),
        (
            "  namespaceSelector: {matchLabels: {a: \"b*\"}}\n",
            "is a pattern",
        ),
    ] {
        let it = together(config, &webhook("hcw", "/webhook-v1-pod", more));
        says(&it, part);
        assert_eq!(it.report.rules[0].status, LeftOut);
    }
    let created = webhook("hcw", "/webhook-v1-pod", "").replace("CREATE, UPDATE", "CREATE");
    assert!(told(&together(config, &created)).contains("an UPDATE changes"));
    let updated = created.replace("CREATE", "DELETE");
    assert!(told(&together(config, &updated)).contains("not called for new Pods"));
}
