//! Configurations of k8s-image-swapper.

use super::helpers::{becomes, decide, result, says, together, told, webhook};
use imageswap_import::Import;
use imageswap_import::Status::LeftOut;

pub(crate) const TARGET: &str =
    "target: {type: aws, aws: {accountId: 123456789012, region: eu-west-1}}\n";
/// Filter, namespace, labels, and whether images move there.
type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], bool);

pub(crate) const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

#[test]
fn every_field_of_the_swapper_is_understood_or_it_is_left_out() {
    let always = "dryRun: false\nimageSwapPolicy: always\n";
    let base = format!("{always}{TARGET}");
    for (text, left_out, part) in [
        (base.clone(), false, "copies images into the target"),
        (
            format!(
                "{base}logLevel: debug\nlogFormat: json\nimageCopyPolicy: none\nimageCopyDeadline: 8s\n"
            ),
            false,
            "",
        ),
        (
            base.replace("always", "exists"),
            false,
            "until the target has it",
        ),
        (
            base.replace("imageSwapPolicy: always\n", ""),
            false,
            "until the target has it",
        ),
        (
            base.replace("imageSwapPolicy", "IMAGESWAPPOLICY"),
            false,
            "",
        ),
        (
            base.replace("dryRun: false\n", ""),
            false,
            "does not say `dryRun`",
        ),
        (
            base.replace("dryRun: false", "dryRun: true"),
            true,
            "1:9 left out: `dryRun: true` means",
        ),
        (
            base.replace("dryRun: false", "dryRun: 'no'"),
            true,
            "`dryRun` is neither true nor false",
        ),
        (
            base.replace("always", "sometimes"),
            true,
            "2:18 left out: the policy `sometimes`",
        ),
        (
            format!("{base}imageCopyPolicy: later\n"),
            true,
            "the policy `later`",
        ),
        (
            format!("{base}cacheTtlMinutes: 5\n"),
            true,
            "4:1 left out: `cacheTtlMinutes` is not understood",
        ),
        (
            format!("{base}DRYRUN: false\n"),
            true,
            "`DRYRUN` is given twice",
        ),
        (base.replace("123456789012", "'123456789012'"), false, ""),
        (
            base.replace("123456789012", "0123456789012"),
            true,
            "write it in quotes",
        ),
        (base.replace("type: aws, ", ""), false, ""),
        (
            base.replace("type: aws", "type: azure"),
            true,
            "the type `azure`",
        ),
        (
            base.replace("region: eu-west-1", "role: a"),
            true,
            "it has no `region`",
        ),
        (
            base.replace(
                "region: eu-west-1",
                "region: eu-west-1, ecrOptions: {tags: []}, role: r",
            ),
            false,
            "",
        ),
        (
            base.replace("region: eu-west-1", "region: eu-west-1, zone: a"),
            true,
            "`zone` is not understood",
        ),
        (
            base.replace("aws:", "azure:"),
            true,
            "`azure` is not understood",
        ),
        (
            format!("{always}imageCopyPolicy: none\n"),
            true,
            "it has no `target`",
        ),
        (
            format!(
                "{base}source: {{registries: [{{type: aws, aws: {{accountId: 1, region: r-1}}}}]}}\n"
            ),
            false,
            "",
        ),
        (
            format!("{base}source: {{registries: [{{aws: {{}}}}]}}\n"),
            true,
            "it has no `accountId`",
        ),
        (
            format!("{base}source: {{privateRegistries: []}}\n"),
            true,
            "`privateRegistries` is not understood",
        ),
        (
            format!("{base}source: {{filters: [{{}}]}}\n"),
            true,
            "a filter has no `jmespath`",
        ),
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
        (
            "{type: aws, aws: {accountId: 1, region: cn-north-1}}",
            "1.dkr.ecr.cn-north-1.amazonaws.com.cn/quay.io/a:1",
        ),
        (
            "{type: aws, aws: {accountId: 1, region: r-1, prefix: /cache}}",
            "1.dkr.ecr.r-1.amazonaws.com/cache/quay.io/a:1",
        ),
        (
            "{type: gcp, gcp: {location: eu, projectId: p, repositoryId: r}}",
            "eu-docker.pkg.dev/p/r/quay.io/a:1",
        ),
    ] {
        let it = swapper(&format!("{base}target: {target}\n"));
        assert!(!it.policies.is_empty(), "{}", told(&it));
        becomes(&it, "quay.io/a:1", moved);
    }
    let it = swapper(&format!(
        "{base}target: {{aws: {{accountId: 1, region: r, prefix: Upper}}}}\n"
    ));
    says(&it, "no image can name");
}

#[test]
fn filters_of_the_swapper_are_a_scope_or_are_about_images() {
    let filters = |all: &[&str]| {
        let all: Vec<_> = all
            .iter()
            .map(|it| format!("  - jmespath: \"{}\"\n", it.replace('"', "\\\"")))
            .collect();
        swapper(&format!(
            "dryRun: false\nimageSwapPolicy: always\n{TARGET}source:\n  filters:\n{}",
            all.concat()
        ))
    };
    let moves = |it: &Import, namespace: &str, labels: &[(&str, &str)], image: &str| {
        decide(it, namespace, labels, image).is_some_and(|it| it.0.starts_with(ECR))
    };
    let image = "quay.io/a:1";
    let rows: &[Row<'_>] = &[
        (
            "obj.metadata.namespace == 'kube-system'",
            "kube-system",
            &[],
            false,
        ),
        (
            "obj.metadata.namespace == 'kube-system'",
            "other",
            &[],
            true,
        ),
        ("obj.metadata.namespace == 'lab'", "kube-system", &[], true),
        (
            "obj.metadata.namespace != 'playground'",
            "playground",
            &[],
            true,
        ),
        (
            "obj.metadata.namespace != 'playground'",
            "other",
            &[],
            false,
        ),
        (
            "ends_with(obj.metadata.namespace,'-dev')",
            "a-dev",
            &[],
            false,
        ),
        ("ends_with(obj.metadata.namespace,'-dev')", "dev", &[], true),
        (
            "starts_with(obj.metadata.namespace, 'kube-')",
            "kube-x",
            &[],
            false,
        ),
        (
            "contains(obj.metadata.namespace, 'test')",
            "a-test-b",
            &[],
            false,
        ),
        ("contains(obj.metadata.namespace, 'test')", "tes", &[], true),
        (
            "contains(['a', 'b'], obj.metadata.namespace)",
            "b",
            &[],
            false,
        ),
        (
            "contains(['a', 'b'], obj.metadata.namespace)",
            "c",
            &[],
            true,
        ),
        ("!(obj.metadata.namespace == 'a')", "a", &[], true),
        (
            "obj.metadata.namespace == 'a' || obj.metadata.namespace == 'b'",
            "b",
            &[],
            false,
        ),
        (
            "obj.metadata.namespace == 'a' && obj.metadata.labels.x == 'y'",
            "a",
            &[("x", "y")],
            false,
        ),
        (
            "obj.metadata.namespace == 'a' && obj.metadata.labels.x == 'y'",
            "a",
            &[],
            true,
        ),
        (
            "obj.metadata.labels.app == 'db'",
            "a",
            &[("app", "db")],
            false,
        ),
        ("obj.metadata.labels.app != 'db'", "a", &[], false),
        (
            "obj.metadata.labels.app != 'db'",
            "a",
            &[("app", "db")],
            true,
        ),
        (
            "obj.metadata.labels.\"a.b/c\" == 'd'",
            "a",
            &[("a.b/c", "d")],
            false,
        ),
        ("obj.metadata.labels.app == `null`", "a", &[], false),
        (
            "obj.metadata.labels.app == `null`",
            "a",
            &[("app", "x")],
            true,
        ),
    ];
    for (filter, namespace, labels, expected) in rows {
        let it = filters(&[filter]);
        assert_ne!(
            it.report.rules[0].status,
            LeftOut,
            "{filter}: {}",
            told(&it)
        );
        assert_eq!(
            moves(&it, namespace, labels, image),
            *expected,
            "{filter} {namespace} {labels:?}: {}",
            told(&it)
        );
    }
    for (all, image, expected) in [
        (
            &[
                "contains(container.image, '.dkr.ecr.') && contains(container.image, '.amazonaws.com')",
            ][..],
            "9.dkr.ecr.us-1.amazonaws.com/a:1",
            false,
        ),
        (
            &["starts_with(container.image, 'quay.io/')"],
            "quay.io/a:1",
            false,
        ),
        (
            &["starts_with(container.image, 'quay.io/')"],
            "ghcr.io/a:1",
            true,
        ),
        (
            &[
                "starts_with(container.image, 'quay.io/')",
                "starts_with(container.image, 'ghcr.io/')",
            ],
            "ghcr.io/a:1",
            false,
        ),
        (
            &["starts_with(container.image, 'quay.io/') || obj.metadata.namespace == 'lab'"],
            "quay.io/a:1",
            false,
        ),
        (&["container.image"], "quay.io/a:1", true),
    ] {
        let it = filters(all);
        assert_eq!(
            moves(&it, "any", &[], image),
            expected,
            "{all:?}: {}",
            told(&it)
        );
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
        assert_eq!(
            it.report.rules[0].status,
            LeftOut,
            "{filter}: {}",
            told(&it)
        );
        assert!(told(&it).contains("6:"), "{filter}: {}", told(&it));
        assert!(it.policies.is_empty());
    }
}

fn swapper(config: &str) -> Import {
    together(
        config,
        &webhook("k8s-image-swapper.github.io", "/webhook", ""),
    )
}
