//! Configurations of harbor-container-webhook and k8s-image-swapper.

use super::helpers::{decide, files, imported, result};
use imageswap_import::{Import, Status};
use Status::{CarriedOver, Differs, LeftOut};

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn webhook(name: &str, path: &str, more: &str) -> String {
    format!(
        "\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {{name: w}}\nwebhooks:\n- name: {name}\n  clientConfig: {{service: {{name: w, namespace: w, path: {path}}}}}\n  rules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}}]\n  sideEffects: None\n  admissionReviewVersions: [v1]\n{more}"
    )
}

/// The configuration with its webhook, as a chart has both.
fn together(config: &str, webhook: &str) -> Import {
    files(&[("config.yaml", config), ("webhook.yaml", webhook)])
}

fn harbor(config: &str) -> Import {
    together(config, &webhook("hcw.example", "/webhook-v1-pod", ""))
}

fn swapper(config: &str) -> Import {
    together(config, &webhook("k8s-image-swapper.github.io", "/webhook", ""))
}

fn told(it: &Import) -> String {
    let each = it.report.rules.iter().map(|it| format!("{}:{} {it} {}", it.line, it.column, it.notes.join("; ")));
    each.collect::<Vec<_>>().join(" / ")
}

#[test]
fn every_field_of_harbor_is_understood_or_the_rule_is_left_out() {
    let rule = "rules:\n- name: hub\n  matches: ['^quay\\.io/']\n  replace: h.example/quay\n";
    for (text, status, part) in [
        (rule.to_owned(), CarriedOver, ""),
        (format!("port: 9443\ncertDir: /a\nmetricsAddr: \":1\"\nhealthAddr: \":2\"\nverbose: true\n{rule}"), CarriedOver, ""),
        (format!("{rule}  excludes:\n"), CarriedOver, ""),
        (format!("{rule}  checkUpstream: false\n  platforms: [linux/arm64]\n  authSecretName: s\n"), CarriedOver, ""),
        (format!("{rule}  checkUpstream: true\n"), Differs, "stays there if `h.example/quay` lacks it"),
        (format!("{rule}  checkUpstream: yes\n"), LeftOut, "5:18 left out: `checkUpstream` is neither"),
        (format!("{rule}  platforms: linux/arm64\n"), LeftOut, "5:14 left out: `platforms` is not a list"),
        (format!("{rule}  authSecretName: [s]\n"), LeftOut, "5:19 left out"),
        (format!("{rule}  replaceImagePullSecrets: true\n"), LeftOut, "5:3 left out: `replaceImagePullSecrets` is not understood"),
        (format!("static: {{}}\n{rule}"), LeftOut, "`static` is not understood (line 1, column 1)"),
        (rule.replace("'^quay\\.io/'", "'^quay\\.io(/'"), LeftOut, "3:12 left out: the expression `^quay\\.io(/` is not understood"),
        (rule.replace("'^quay\\.io/'", "'^[a-z&&[^b]]quay'"), LeftOut, "is not understood"),
        (rule.replace("h.example/quay", "h.example/quay/"), LeftOut, "expected a registry"),
        (rule.replace("h.example/quay", "harbor/quay"), LeftOut, "4:12 left out: `replace` is `harbor/quay`"),
        (rule.replace("h.example/quay", "''"), LeftOut, "expected a registry"),
        (rule.replace("['^quay\\.io/']", "'^quay\\.io/'"), LeftOut, "3:12 left out: `matches` is not a list"),
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
            (&format!("quay.io/a/b{DIGEST}"), &*format!("h.example/quay/a/b{DIGEST}")),
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
        assert_eq!(result(&it, image), moved, "{image}: {}", told(&it));
    }
    // A rule that is not understood takes nothing for granted.
    let it = harbor(
        "rules:\n- {name: a, matches: ['^quay[.]io/'], replace: h.example/quay}\n- {name: b, matches: ['(?x)^ghcr'], replace: h.example/b}\n- {name: c, matches: ['^ghcr[.]io/'], replace: h.example/c}\n",
    );
    assert_eq!(result(&it, "quay.io/a:1"), "h.example/quay/a:1");
    assert_eq!(result(&it, "ghcr.io/a:1"), "ghcr.io/a:1");
    assert!(told(&it).contains("the rule `b` before it"), "{}", told(&it));
    assert_eq!(it.report.count(LeftOut), 2);
}

#[test]
fn the_scope_is_that_of_the_webhook() {
    let config = "rules:\n- name: hub\n  matches: ['^quay\\.io/']\n  replace: h.example/quay\n";
    let it = imported(config);
    assert_eq!(it.report.rules[0].status, Differs);
    assert!(told(&it).contains("MutatingWebhookConfiguration"), "{}", told(&it));
    assert_eq!(decide(&it, "kube-system", &[], "quay.io/a:1").unwrap().0, "h.example/quay/a:1");
    let own = "  objectSelector: {matchExpressions: [{key: off, operator: NotIn, values: [\"true\"]}]}\n";
    let it = together(config, &webhook("hcw", "/webhook-v1-pod", own));
    assert_eq!(it.report.rules[0].status, CarriedOver, "{}", told(&it));
    assert_eq!(decide(&it, "a", &[("off", "true")], "quay.io/a:1"), None);
    assert_eq!(decide(&it, "a", &[], "quay.io/a:1").unwrap().0, "h.example/quay/a:1");
    for (more, part) in [
        ("  matchConditions: [{name: a, expression: 'true'}]\n", "`matchConditions` is not understood"),
        ("  namespaceSelector: {matchLabels: {a: \"b*\"}}\n", "is a pattern"),
    ] {
        let it = together(config, &webhook("hcw", "/webhook-v1-pod", more));
        assert!(told(&it).contains(part), "{}", told(&it));
        assert_eq!(it.report.rules[0].status, LeftOut);
    }
    let created = webhook("hcw", "/webhook-v1-pod", "").replace("CREATE, UPDATE", "CREATE");
    assert!(told(&together(config, &created)).contains("an UPDATE changes"));
    let updated = created.replace("CREATE", "DELETE");
    assert!(told(&together(config, &updated)).contains("not called for new Pods"));
}

const TARGET: &str = "target: {type: aws, aws: {accountId: 123456789012, region: eu-west-1}}\n";
const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

#[test]
fn every_field_of_the_swapper_is_understood_or_it_is_left_out() {
    let always = "dryRun: false\nimageSwapPolicy: always\n";
    let base = format!("{always}{TARGET}");
    for (text, left_out, part) in [
        (base.clone(), false, "copies images into the target"),
        (format!("{base}logLevel: debug\nlogFormat: json\nimageCopyPolicy: none\nimageCopyDeadline: 8s\n"), false, ""),
        (base.replace("always", "exists"), false, "until the target has it"),
        (base.replace("imageSwapPolicy: always\n", ""), false, "until the target has it"),
        (base.replace("imageSwapPolicy", "IMAGESWAPPOLICY"), false, ""),
        (base.replace("dryRun: false\n", ""), false, "does not say `dryRun`"),
        (base.replace("dryRun: false", "dryRun: true"), true, "1:9 left out: `dryRun: true` means"),
        (base.replace("dryRun: false", "dryRun: 'no'"), true, "`dryRun` is neither true nor false"),
        (base.replace("always", "sometimes"), true, "2:18 left out: the policy `sometimes`"),
        (format!("{base}imageCopyPolicy: later\n"), true, "the policy `later`"),
        (format!("{base}cacheTtlMinutes: 5\n"), true, "4:1 left out: `cacheTtlMinutes` is not understood"),
        (format!("{base}DRYRUN: false\n"), true, "`DRYRUN` is given twice"),
        (base.replace("123456789012", "'123456789012'"), false, ""),
        (base.replace("123456789012", "0123456789012"), true, "write it in quotes"),
        (base.replace("type: aws, ", ""), false, ""),
        (base.replace("type: aws", "type: azure"), true, "the type `azure`"),
        (base.replace("region: eu-west-1", "role: a"), true, "it has no `region`"),
        (base.replace("region: eu-west-1", "region: eu-west-1, ecrOptions: {tags: []}, role: r"), false, ""),
        (base.replace("region: eu-west-1", "region: eu-west-1, zone: a"), true, "`zone` is not understood"),
        (base.replace("aws:", "azure:"), true, "`azure` is not understood"),
        (format!("{always}imageCopyPolicy: none\n"), true, "it has no `target`"),
        (format!("{base}source: {{registries: [{{type: aws, aws: {{accountId: 1, region: r-1}}}}]}}\n"), false, ""),
        (format!("{base}source: {{registries: [{{aws: {{}}}}]}}\n"), true, "it has no `accountId`"),
        (format!("{base}source: {{privateRegistries: []}}\n"), true, "`privateRegistries` is not understood"),
        (format!("{base}source: {{filters: [{{}}]}}\n"), true, "a filter has no `jmespath`"),
    ] {
        let it = swapper(&text);
        let report = told(&it);
        let status = it.report.rules[0].status;
        assert_eq!(status == LeftOut, left_out, "{text}: {report}");
        assert!(report.contains(part), "{text}: {report}");
        assert_eq!(it.policies.is_empty(), left_out);
        if !left_out {
            for (image, moved) in [
                ("nginx:1", format!("{ECR}/docker.io/library/nginx:1")),
                ("quay.io/a/b", format!("{ECR}/quay.io/a/b")),
                (&format!("{ECR}/x:1"), format!("{ECR}/x:1")),
            ] {
                assert_eq!(result(&it, image), moved, "{text}: {report}");
            }
        }
    }
}

#[test]
fn targets_of_the_swapper_have_its_names() {
    let base = "dryRun: false\nimageSwapPolicy: always\n";
    for (target, moved) in [
        ("{type: aws, aws: {accountId: 1, region: cn-north-1}}", "1.dkr.ecr.cn-north-1.amazonaws.com.cn/quay.io/a:1"),
        ("{type: aws, aws: {accountId: 1, region: r-1, prefix: /cache}}", "1.dkr.ecr.r-1.amazonaws.com/cache/quay.io/a:1"),
        ("{type: gcp, gcp: {location: eu, projectId: p, repositoryId: r}}", "eu-docker.pkg.dev/p/r/quay.io/a:1"),
    ] {
        let it = swapper(&format!("{base}target: {target}\n"));
        assert_eq!(result(&it, "quay.io/a:1"), moved, "{}", told(&it));
    }
    let it = swapper(&format!("{base}target: {{aws: {{accountId: 1, region: r, prefix: Upper}}}}\n"));
    assert!(told(&it).contains("no image can name"), "{}", told(&it));
}

#[test]
fn filters_of_the_swapper_are_a_scope_or_are_about_images() {
    let filters = |all: &[&str]| {
        let all: Vec<_> = all.iter().map(|it| format!("  - jmespath: \"{}\"\n", it.replace('"', "\\\""))).collect();
        swapper(&format!("dryRun: false\nimageSwapPolicy: always\n{TARGET}source:\n  filters:\n{}", all.concat()))
    };
    let moves = |it: &Import, namespace: &str, labels: &[(&str, &str)], image: &str| {
        decide(it, namespace, labels, image).is_some_and(|it| it.0.starts_with(ECR))
    };
    let image = "quay.io/a:1";
    // Filter, namespace, labels, and whether images move there.
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], bool);
    let rows: &[Row<'_>] = &[
        ("obj.metadata.namespace == 'kube-system'", "kube-system", &[], false),
        ("obj.metadata.namespace == 'kube-system'", "other", &[], true),
        ("obj.metadata.namespace == 'lab'", "kube-system", &[], true),
        ("obj.metadata.namespace != 'playground'", "playground", &[], true),
        ("obj.metadata.namespace != 'playground'", "other", &[], false),
        ("ends_with(obj.metadata.namespace,'-dev')", "a-dev", &[], false),
        ("ends_with(obj.metadata.namespace,'-dev')", "dev", &[], true),
        ("starts_with(obj.metadata.namespace, 'kube-')", "kube-x", &[], false),
        ("contains(obj.metadata.namespace, 'test')", "a-test-b", &[], false),
        ("contains(obj.metadata.namespace, 'test')", "tes", &[], true),
        ("contains(['a', 'b'], obj.metadata.namespace)", "b", &[], false),
        ("contains(['a', 'b'], obj.metadata.namespace)", "c", &[], true),
        ("!(obj.metadata.namespace == 'a')", "a", &[], true),
        ("obj.metadata.namespace == 'a' || obj.metadata.namespace == 'b'", "b", &[], false),
        ("obj.metadata.namespace == 'a' && obj.metadata.labels.x == 'y'", "a", &[("x", "y")], false),
        ("obj.metadata.namespace == 'a' && obj.metadata.labels.x == 'y'", "a", &[], true),
        ("obj.metadata.labels.app == 'db'", "a", &[("app", "db")], false),
        ("obj.metadata.labels.app != 'db'", "a", &[], false),
        ("obj.metadata.labels.app != 'db'", "a", &[("app", "db")], true),
        ("obj.metadata.labels.\"a.b/c\" == 'd'", "a", &[("a.b/c", "d")], false),
        ("obj.metadata.labels.app == `null`", "a", &[], false),
        ("obj.metadata.labels.app == `null`", "a", &[("app", "x")], true),
    ];
    for (filter, namespace, labels, expected) in rows {
        let it = filters(&[filter]);
        assert_ne!(it.report.rules[0].status, LeftOut, "{filter}: {}", told(&it));
        assert_eq!(moves(&it, namespace, labels, image), *expected, "{filter} {namespace} {labels:?}: {}", told(&it));
    }
    for (all, image, expected) in [
        (&["contains(container.image, '.dkr.ecr.') && contains(container.image, '.amazonaws.com')"][..], "9.dkr.ecr.us-1.amazonaws.com/a:1", false),
        (&["starts_with(container.image, 'quay.io/')"], "quay.io/a:1", false),
        (&["starts_with(container.image, 'quay.io/')"], "ghcr.io/a:1", true),
        (&["starts_with(container.image, 'quay.io/')", "starts_with(container.image, 'ghcr.io/')"], "ghcr.io/a:1", false),
        (&["starts_with(container.image, 'quay.io/') || obj.metadata.namespace == 'lab'"], "quay.io/a:1", false),
        (&["container.image"], "quay.io/a:1", true),
    ] {
        let it = filters(all);
        assert_eq!(moves(&it, "any", &[], image), expected, "{all:?}: {}", told(&it));
        assert!(it.policies.is_empty() || it.report.count(LeftOut) == 0);
    }
    for filter in [
        "obj.metadata.name == 'a'",
        "container.name == 'proxy'",
        "obj.metadata.annotations.skip == 'true'",
        "obj.spec.hostNetwork",
        "obj.metadata.namespace == 'a' && starts_with(container.image, 'b')",
        "starts_with(obj.metadata.labels.app, 'db')",
        "regex_match('a', container.image)",
        "obj.metadata.namespace",
        "obj.spec.containers[?image == 'a'] | length(@) > `0`",
        "!obj.metadata.labels.app",
        "obj.metadata.namespace ==",
        "obj.metadata.namespace == 'Upper*'",
        "obj",
        "container",
        "@",
    ] {
        let it = filters(&[filter]);
        assert_eq!(it.report.rules[0].status, LeftOut, "{filter}: {}", told(&it));
        assert!(told(&it).contains("7:"), "{filter}: {}", told(&it));
        assert!(it.policies.is_empty());
    }
}

#[test]
fn configurations_are_recognised_wherever_they_are() {
    let indent = |text: &str| text.lines().map(|it| format!("    {it}\n")).collect::<String>();
    let map = |key: &str, text: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata:\n  {key}: |\n{}", indent(text));
    let harbor = "rules:\n- {name: a, matches: ['^quay[.]io/'], replace: h.example/quay}\n";
    let swapper = format!("dryRun: false\nimageSwapPolicy: always\n{TARGET}");
    let registries = "unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nprefix = \"quay.io\"\nlocation = \"h.example/quay\"\n";
    let hosts = "[host.\"https://h.example/v2/quay\"]\noverride_path = true\n";
    for (key, text) in [("webhook-config.yaml", harbor), (".k8s-image-swapper.yml", swapper.as_str()), ("registries.conf", registries)] {
        let expected = if key.starts_with('.') { format!("{ECR}/quay.io/a:1") } else { "h.example/quay/a:1".to_owned() };
        let document = map(key, text);
        let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", indent(&document).trim_start());
        let json = serde_json::to_string(&serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {key: text}})).unwrap();
        for (name, it) in [
            ("plain", files(&[("standard input", text)])),
            ("file", files(&[(key, text)])),
            ("map", imported(&document)),
            ("list", imported(&list)),
            ("json", imported(&json)),
        ] {
            assert!(it.report.others.is_empty(), "{key} {name} {:?}", it.report.others);
            assert_eq!(result(&it, "quay.io/a:1"), expected, "{key} {name}: {}", told(&it));
        }
        let it = imported(&document);
        assert_eq!(it.report.rules[0].source, format!("test.yaml (data.{key})"));
    }
    let it = files(&[("certs.d/quay.io/hosts.toml", hosts)]);
    assert_eq!(result(&it, "quay.io/a:1"), "h.example/quay/a:1");
    let it = imported(&map("hosts.toml", hosts));
    assert!(told(&it).contains("the name of its folder"), "{}", told(&it));
    // Two configurations, or one beside policies, have no order that is known.
    let it = files(&[("h.yaml", harbor), ("registries.conf", registries), ("m.conf", "default:a.io\n")]);
    assert!(it.policies.is_empty() && told(&it).contains("has to be imported alone"), "{}", told(&it));
    let policy = "apiVersion: constraints.gatekeeper.sh/v1beta1\nkind: K8sAllowedRepos\nmetadata: {name: r}\nspec: {parameters: {repos: [a.io/]}}\n";
    let it = files(&[("h.yaml", harbor), ("p.yaml", policy)]);
    assert_eq!((it.policies.len(), it.report.count(LeftOut)), (1, 1), "{}", told(&it));
}

#[test]
fn other_files_are_named_and_broken_ones_have_a_place() {
    for (name, text, line, unreadable) in [
        ("a/registries.conf", "a = = 1\n", 1, true),
        ("certs.d/quay.io/hosts.toml", "\n[host\n", 2, true),
        ("c/registries.conf.d/x.conf", "[[registry]\n", 1, true),
        ("Cargo.toml", "[package]\nname = \"a\"\n", 1, false),
        ("values.yaml", "rules: [{a: b}]\n", 1, false),
        ("values.yaml", "target: {port: 80}\nsource: a\n", 1, false),
    ] {
        let it = files(&[(name, text)]);
        assert!(it.policies.is_empty(), "{name}");
        let other = &it.report.others[0];
        assert_eq!((other.line, other.unreadable), (line, unreadable), "{name}: {other:?}");
    }
}
