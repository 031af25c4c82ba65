//! The chart's values: which are accepted, what is printed about them, and where they are
//! documented.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use imageswap_lab::require;
use serde_json::Value;

use super::helm::{Helm, NEW, Object, chart, one, values_file, values_files};

#[test]
fn mistakes_are_refused_with_what_to_do() {
    let helm = require!(Helm::for_test("mistakes_are_refused"));
    for (set, says) in [
        (
            "certificates.mode=provided,certificates.provided.secretName=x",
            "certificates.provided.caBundle is missing",
        ),
        (
            "certificates.mode=provided,certificates.provided.caBundle=eA==",
            "certificates.provided.secretName",
        ),
        (
            "webhook.enabled=false,agent.enabled=false",
            "nothing is left to install",
        ),
        (
            "maps.data=default:x,maps.configMap=y",
            "give one of the two",
        ),
        (
            "maps.enabled=false,maps.configMap=y",
            "maps.enabled is false",
        ),
        (
            "webhook.mutating.enabled=false,webhook.validating.enabled=false",
            "webhook.enabled to false",
        ),
        (
            "webhook.drain.timeout=30",
            "greater than webhook.drain.timeout",
        ),
        ("webhook.adminPort=8443", "are the same"),
        (
            "webhook.updateStrategy.maxSurge=0",
            "no Pod could ever be replaced",
        ),
        (
            "monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true",
            "scraped twice",
        ),
        (
            "monitoring.prometheusRule.enabled=true,monitoring.prometheusRule.disabled={Typo}",
            "there is no alert Typo",
        ),
        // The schema.
        ("webhook.replica=3", "webhook"),
        ("nonsense=1", "nonsense"),
        ("webhook.failurePolicy=ignore", "webhook/failurePolicy"),
        ("webhook.registration=Never", "webhook/registration"),
        ("webhook.timeoutSeconds=31", "webhook/timeoutSeconds"),
        ("webhook.port=443", "webhook/port"),
        ("certificates.mode=vault", "certificates/mode"),
        ("webhook.image.digest=sha256:short", "webhook/image/digest"),
        (
            "agent.extraCapabilities={CAP_SYS_RESOURCE}",
            "agent/extraCapabilities",
        ),
        ("agent.extraCapabilities={ALL}", "agent/extraCapabilities"),
        ("agent.runtimeDirectories={run}", "agent/runtimeDirectories"),
        ("log.format=xml", "log/format"),
        ("otlp.endpoint=collector:4317", "otlp/endpoint"),
        ("policies[0].name=x", "policies/0"),
        ("commonLabels.a=1", "commonLabels"),
    ] {
        let error = helm.render(NEW, &["--set", set]).err();
        let error = error.unwrap_or_else(|| panic!("{set} was taken"));
        assert!(error.contains(says), "{set}: {error}");
    }
}

/// A value of values.yaml that has a comment.
struct Documented {
    name: String,
    comment: String,
}

/// The values that have comments. A value without one shares the comment of its parent.
fn documented(text: &str) -> Vec<Documented> {
    let mut out: Vec<Documented> = Vec::new();
    let (mut path, mut comment) = (Vec::new(), Vec::new());
    // Up to the first empty line the comment is about the file.
    for line in text.lines().skip_while(|it| !it.is_empty()) {
        let trimmed = line.trim();
        if let Some(more) = trimmed.strip_prefix("# ") {
            comment.push(more);
            continue;
        }
        let key = trimmed.split_once(':').map(|(key, _)| key);
        if let Some(key) = key.filter(|it| !it.starts_with('-')) {
            path.truncate((line.len() - trimmed.len()) / 2);
            path.push(key);
            let name = path.join(".");
            let is_told = out
                .iter()
                .any(|it| name.starts_with(&format!("{}.", it.name)));
            let is_group = trimmed.ends_with(':');
            assert!(
                !comment.is_empty() || is_told || is_group,
                "{name} has no comment"
            );
            if !comment.is_empty() {
                out.push(Documented {
                    name,
                    comment: comment.join(" "),
                });
            }
        }
        comment.clear();
    }
    out
}

/// README.md lists each value with its default and the comment of values.yaml, and nothing else.
#[test]
fn every_value_is_documented() {
    let text = fs::read_to_string(chart().join("values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&text).unwrap();
    let readme = fs::read_to_string(chart().join("README.md")).unwrap();
    let (_, table) = readme
        .split_once("| value | default | what |\n|---|---|---|\n")
        .unwrap();
    let mut rows = table.lines().take_while(|it| it.starts_with('|'));
    for value in documented(&text) {
        let row = rows.next().unwrap_or_default();
        let cells: Vec<_> = row.trim_matches(['|', ' ']).splitn(3, " | ").collect();
        assert_eq!(
            cells[0],
            format!("`{}`", value.name),
            "the next row of README.md"
        );
        let shown = cells[1].trim_matches('`');
        let shown = serde_json::from_str(shown).unwrap_or_else(|_| Value::from(shown));
        let default = value.name.split('.').fold(&values, |it, key| &it[key]);
        assert_eq!(&shown, default, "{}", value.name);
        assert_eq!(cells[2], value.comment, "{}", value.name);
    }
    assert_eq!(rows.next(), None, "a row of README.md that is no value");
}

#[test]
fn what_is_said_after_an_installation_fits_the_mode() {
    let helm = require!(Helm::for_test("what_is_said_after_an_installation"));
    for (file, says, never) in [
        (
            "default",
            "Without a policy every image stays",
            "\n! failurePolicy",
        ),
        ("default", "imageswap drift", "before Kubernetes"),
        (
            "policies",
            "kubectl get imageswappolicies",
            "Without a policy",
        ),
        (
            "imageswap-compat",
            "kubectl label namespace NAME k8s.twr.io/imageswap=enabled",
            "Without a policy",
        ),
        (
            "cert-manager",
            "get certificate imageswap-webhook",
            "kept by the webhook",
        ),
        ("provided", "Renew it in time", "kept by the webhook"),
        (
            "one-replica",
            "! 1 replica and failurePolicy Fail",
            "nothing is swapped.",
        ),
        ("webhook-only", "rollout status deployment", "drift"),
        (
            "agent-only",
            "! there is no webhook",
            "rollout status deployment",
        ),
        (
            "host-network",
            "! hostNetwork: ports 10260 and 10261",
            "the agent is in",
        ),
        (
            "one-namespace",
            "! the agent is in the namespace imageswap-system",
            "hostNetwork",
        ),
        (
            "ignore-respond",
            "Pods that drift are evicted",
            "only reported",
        ),
        (
            "respond-dry-run",
            "only reported",
            "Pods that drift are evicted",
        ),
    ] {
        let file = values_file(file);
        let notes = helm.notes(&["--values", file.to_str().unwrap()]);
        assert!(notes.contains(says), "{}: {notes}", file.display());
        assert!(!notes.contains(never), "{}: {notes}", file.display());
        let wide = notes.lines().find(|it| it.chars().count() > 80);
        assert_eq!(wide, None, "{}", file.display());
    }
    let args = ["--set", "webhook.registration=Always"];
    assert!(
        helm.notes(&args)
            .contains("! registration is Always and failurePolicy Fail")
    );
    let args = ["--set", "webhook.failurePolicy=Ignore,agent.enabled=false"];
    assert!(
        helm.notes(&args)
            .contains("! failurePolicy is Ignore and there is no agent")
    );
}

/// Arguments that the programs get.
#[test]
fn the_programs_get_what_they_need() {
    let helm = require!(Helm::for_test("the_programs_get_what_they_need"));
    let args = |objects: &[Object], kind: &str, name: &str| {
        let container = &one(objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
        let args = container["args"].as_array().unwrap().iter();
        args.map(|it| it.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let common = "--policy-from-cluster --maps-configmap=imageswap-system/imageswap-maps \
                  --last-good-configmap=imageswap-system/imageswap-last-good";
    let objects = helm.render_file(NEW, &values_file("default"));
    assert_eq!(
        args(&objects, "Deployment", "imageswap-webhook"),
        format!(
            "serve {common} --listen=0.0.0.0:8443 --admin=0.0.0.0:8080 \
             --tls-secret=imageswap-system/imageswap-webhook-tls --tls-service=imageswap-webhook \
             --mutating-webhook-configuration=imageswap --validating-webhook-configuration=imageswap \
             --register-mutating=imageswap --register-validating=imageswap"
        )
    );
    assert_eq!(
        args(&objects, "DaemonSet", "imageswap-agent"),
        format!(
            "run --in-cluster {common} --admin=0.0.0.0:9465 --host-root=/host --pin=/host/sys/fs/bpf/imageswap"
        )
    );
    let respond = helm.render_file(NEW, &values_file("ignore-respond"));
    let agent = args(&respond, "DaemonSet", "imageswap-agent");
    assert!(
        agent.contains(
            "--findings-level=drift --reconcile-interval=10 --policy-reports \
             --respond=evict --respond-interval=30"
        ),
        "{agent}"
    );
    assert!(
        agent.contains("--otlp-endpoint=https://collector.monitoring:4317 --otlp-ca=/otlp/ca.crt"),
        "{agent}"
    );
    let dry = helm.render_file(NEW, &values_file("respond-dry-run"));
    assert!(
        args(&dry, "DaemonSet", "imageswap-agent").contains("--respond=evict --respond-dry-run")
    );
    for mode in ["cert-manager", "provided"] {
        let objects = helm.render_file(NEW, &values_file(mode));
        let webhook = args(&objects, "Deployment", "imageswap-webhook");
        assert!(
            webhook.contains("--tls-cert=/tls/tls.crt --tls-key=/tls/tls.key"),
            "{webhook}"
        );
        assert!(!webhook.contains("--tls-secret"), "{webhook}");
    }
    let everything = helm.render_file(NEW, &values_file("everything"));
    let webhook = args(&everything, "Deployment", "imageswap-guard-webhook");
    for part in [
        "--maps-configmap=corp-config/corp-maps",
        "--disable-label=corp.example.com/imageswap",
        "--listen=[::]:8443 --admin=[::]:8080",
        "--tls-leaf-lifetime=2days --tls-ca-lifetime=90days --tls-propagation=10min --tls-san=guard.example.com",
        "--drain-delay=10 --drain-timeout=40 --client-ca=/client-ca/ca.crt --max-connections=2048 --max-in-flight=128",
    ] {
        assert!(webhook.contains(part), "{part}: {webhook}");
    }
    let pod =
        &one(&everything, "Deployment", "imageswap-guard-webhook")["spec"]["template"]["spec"];
    let authorities = pod["volumes"].as_array().unwrap().iter();
    let authorities: Vec<_> = authorities.filter(|it| it["name"] == "client-ca").collect();
    let items = serde_json::json!([{"key": "bundle.pem", "path": "ca.crt"}]);
    let from = serde_json::json!({"name": "api-servers", "items": items});
    assert_eq!(
        authorities,
        [&serde_json::json!({"name": "client-ca", "configMap": from})]
    );
    let image = &pod["containers"][0]["image"];
    let digest = "0".repeat(64);
    assert_eq!(
        image,
        &format!("ghcr.example.com/imageswap-webhook:v0.1.0@sha256:{digest}")
    );
}

#[test]
fn alerts_about_what_is_not_installed_are_left_out() {
    let helm = require!(Helm::for_test("alerts_left_out"));
    let rules = |set: &str| {
        let set = format!("monitoring.prometheusRule.enabled=true{set}");
        let objects = helm.render(NEW, &["--set", &set]).unwrap();
        let groups = one(&objects, "PrometheusRule", "imageswap")["spec"]["groups"].clone();
        let groups = groups.as_array().unwrap().iter();
        groups
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect::<Vec<_>>()
    };
    let names = |set: &str| {
        let name = |rule: Value| rule["alert"].as_str().unwrap().to_owned();
        rules(set).into_iter().map(name).collect::<BTreeSet<_>>()
    };
    let file = fs::read_to_string(chart().join("files/alerts.yaml")).unwrap();
    let all = names("");
    assert_eq!(all.len(), file.matches("- alert:").count());
    let without = |set: &str| all.difference(&names(set)).cloned().collect::<Vec<_>>();
    assert_eq!(
        without(",agent.enabled=false"),
        ["ImageSwapAgentMissing", "ImageSwapAgentsAbsent"]
    );
    assert_eq!(without(",webhook.enabled=false"), ["ImageSwapWebhookDown"]);
    // A group without alerts must be left out.
    let only = file.split("- alert: ").skip(1);
    let only: Vec<_> = only.filter_map(|it| it.lines().next()).collect();
    let (kept, others) = only.split_first().unwrap();
    let set = format!(
        ",monitoring.prometheusRule.disabled={{{}}}",
        others.join(",")
    );
    assert_eq!(names(&set), BTreeSet::from([(*kept).to_owned()]));
    // By default an alert has no link, but the command that prints its section.
    let objects = helm
        .render(NEW, &["--set", "monitoring.prometheusRule.enabled=true"])
        .unwrap();
    let sections = &one(&objects, "ConfigMap", "imageswap-runbook")["data"];
    for rule in rules("") {
        let (alert, annotations) = (rule["alert"].as_str().unwrap(), &rule["annotations"]);
        assert_eq!(annotations.get("runbook_url"), None, "{alert}");
        let command = format!(
            "kubectl -n imageswap-system get configmap imageswap-runbook -o jsonpath='{{.data.{alert}}}'"
        );
        assert_eq!(annotations["runbook"], command);
        let section = sections[alert].as_str().unwrap_or_default();
        assert!(section.starts_with(&format!("# {alert}\n")), "{section}");
        assert!(section.contains("**Means:**") && !section.contains("\n## "));
    }
    let wiki = "https://wiki.example.com/imageswap";
    for rule in rules(&format!(",monitoring.prometheusRule.runbookUrl={wiki}")) {
        let section = rule["alert"].as_str().unwrap().to_lowercase();
        let link = &rule["annotations"]["runbook_url"];
        assert_eq!(link, &format!("{wiki}#{section}"));
    }
}

/// Every rendered flag exists in the program, by the sources of its arguments.
#[test]
fn the_programs_know_every_flag() {
    let helm = require!(Helm::for_test("the_programs_know_every_flag"));
    let read = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let common: String = [
        "cluster.rs",
        "log.rs",
        "source.rs",
        "telemetry/otlp.rs",
        "tls.rs",
    ]
    .map(|it| read(&format!("imageswap-runtime/src/{it}")))
    .concat();
    let common = common + &read("imageswap-registry/src/args.rs");
    let webhook = ["cli.rs", "certificates/args.rs", "limits.rs"]
        .map(|it| read(&format!("imageswap-webhook/src/{it}")))
        .concat();
    let agent = ["cli.rs", "places.rs", "respond.rs"]
        .map(|it| read(&format!("imageswap-agent/src/{it}")))
        .concat();
    let mut seen = BTreeSet::new();
    for file in values_files() {
        let objects = helm.render_file(NEW, &file);
        for object in &objects {
            let container = &object.0["spec"]["template"]["spec"]["containers"][0];
            for arg in container["args"].as_array().into_iter().flatten() {
                let Some(flag) = arg.as_str().unwrap().strip_prefix("--") else {
                    continue;
                };
                let flag = flag.split('=').next().unwrap_or_default();
                let field = format!("pub {}:", flag.replace('-', "_"));
                let own = if object.component() == "webhook" {
                    &webhook
                } else {
                    &agent
                };
                assert!(
                    own.contains(&field) || common.contains(&field),
                    "{}: --{flag}",
                    object.shown()
                );
                seen.insert(flag.to_owned());
            }
        }
    }
    assert!(seen.len() > 25, "{seen:?}");
}

/// Only its keeper writes the caBundle.
#[test]
fn the_ca_bundle_is_given_only_where_nobody_keeps_it() {
    let helm = require!(Helm::for_test(
        "the_ca_bundle_is_given_only_where_nobody_keeps_it"
    ));
    for (file, given) in [
        ("default", false),
        ("cert-manager", false),
        ("provided", true),
    ] {
        let objects = helm.render_file(NEW, &values_file(file));
        for kind in [
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ] {
            let configuration = one(&objects, kind, "imageswap");
            for webhook in configuration["webhooks"].as_array().unwrap() {
                let bundle = &webhook["clientConfig"]["caBundle"];
                // "-----BEGIN CERTIFICATE" in base64.
                let is_pem = bundle
                    .as_str()
                    .is_some_and(|it| it.starts_with("LS0tLS1CRUdJTiBDRVJUSUZJQ0FU"));
                assert_eq!(is_pem, given, "{file}: {kind}");
                assert_eq!(bundle.is_null(), !given, "{file}: {kind}");
            }
            let injected =
                &configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
            assert_eq!(
                injected == "imageswap-system/imageswap-webhook",
                file == "cert-manager",
                "{file}"
            );
        }
        let empty = objects
            .iter()
            .filter(|it| it.kind() == "Secret")
            .collect::<Vec<_>>();
        assert_eq!(empty.len(), usize::from(file == "default"), "{file}");
        assert!(empty.iter().all(|it| it.0.get("data").is_none()), "{file}");
    }
}

/// With no policy an API server has nothing to call the webhook for, whatever its failurePolicy. The
/// rules that are written later are the ones that the chart would have.
#[test]
fn a_fresh_installation_has_no_rules_for_pods() {
    let helm = require!(Helm::for_test("a_fresh_installation_has_no_rules_for_pods"));
    for file in ["default", "cert-manager", "everything", "imageswap-compat"] {
        let file = values_file(file);
        let file = file.to_str().unwrap();
        let rendered = |registration: &str| {
            let set = format!("webhook.registration={registration}");
            let args = ["--values", file, "--set", &set];
            let objects = helm.render(NEW, &args).unwrap();
            let objects = objects.into_iter();
            let configurations = objects.filter(|it| it.kind().ends_with("WebhookConfiguration"));
            configurations.collect::<Vec<_>>()
        };
        let (itself, always) = (rendered("WithPolicy"), rendered("Always"));
        assert_eq!(itself.len(), 2);
        for (itself, always) in itself.iter().zip(&always) {
            let shown = format!("{file}: {}", itself.shown());
            let rules = |it: &Object| {
                let annotations = &it.0["metadata"]["annotations"];
                let text = annotations["imageswap.io/rules"].as_str();
                text.map_or(Value::Null, |it| serde_json::from_str(it).unwrap())
            };
            assert_eq!(rules(always), Value::Null, "{shown}");
            let (hooks, wanted) = (&itself.0["webhooks"], &always.0["webhooks"]);
            let hooks = hooks.as_array().unwrap().iter();
            for (hook, wanted) in hooks.zip(wanted.as_array().unwrap()) {
                assert_eq!(hook["name"], wanted["name"], "{shown}");
                let later = &rules(itself)[hook["name"].as_str().unwrap()];
                if hook["name"] == "policy.imageswap.io" {
                    assert_eq!(hook["rules"], wanted["rules"], "{shown}");
                    assert_eq!(later, &Value::Null, "{shown}");
                } else {
                    assert_eq!(hook.get("rules"), None, "{shown}");
                    assert_eq!(later, &wanted["rules"], "{shown}");
                }
            }
        }
    }
}

/// ImageSwap's own objects, from its install.yaml (1.5.3 and before).
#[test]
fn nothing_has_the_name_of_an_object_of_imageswaps() {
    const THEIRS: [(&str, &str); 16] = [
        ("ClusterRole", "imageswap-read"),
        ("ClusterRole", "imageswap-write"),
        ("ClusterRoleBinding", "imageswap-read-crb"),
        ("ClusterRoleBinding", "imageswap-write-crb"),
        ("ConfigMap", "imageswap-env"),
        ("ConfigMap", "imageswap-maps"),
        ("ConfigMap", "imageswap-mwc-template"),
        ("Deployment", "imageswap"),
        ("HorizontalPodAutoscaler", "imageswap"),
        ("MutatingWebhookConfiguration", "imageswap-webhook"),
        ("PodDisruptionBudget", "imageswap-pdb"),
        ("Role", "imageswap-ops"),
        ("RoleBinding", "imageswap-ops-rb"),
        ("Secret", "imageswap-tls"),
        ("Service", "imageswap"),
        ("ServiceAccount", "imageswap-sa"),
    ];
    let shipped = fs::read_to_string(chart().join("values-imageswap.yaml")).unwrap();
    let tested = fs::read_to_string(values_file("imageswap-compat")).unwrap();
    assert_eq!(
        shipped, tested,
        "the file that is rendered by the tests is the one that is shipped"
    );
    let helm = require!(Helm::for_test(
        "nothing_has_the_name_of_an_object_of_imageswaps"
    ));
    let objects = helm.render_file(NEW, &values_file("imageswap-compat"));
    for object in &objects {
        assert!(
            !THEIRS.contains(&(object.kind(), object.name())),
            "{}",
            object.shown()
        );
        // Their Service and PodDisruptionBudget select by it.
        let pod = &object.0["spec"]["template"]["metadata"]["labels"];
        assert_ne!(pod["app"], "imageswap", "{}", object.shown());
    }
    let mutating = &one(&objects, "MutatingWebhookConfiguration", "imageswap")["webhooks"];
    assert_eq!(mutating.as_array().unwrap().len(), 1);
    assert_eq!(
        mutating[0]["namespaceSelector"]["matchLabels"]["k8s.twr.io/imageswap"],
        "enabled"
    );
}
