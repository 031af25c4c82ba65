//! Security settings of the Pods: the webhook's meet the restricted Pod Security standard, the
//! agent's all but its needs.

use imageswap_lab::require;
use serde_json::{Value, json};

use super::helm::{Helm, NEW, OLD, Object, one, values_file, values_files};

/// A rule of the restricted standard (which includes the baseline).
struct Rule {
    name: &'static str,
    holds: fn(&Value) -> bool,
}

const RESTRICTED: [Rule; 16] = [
    Rule {
        name: "no HostProcess",
        holds: |pod| each(pod, "windowsOptions", |it| it["hostProcess"] != true),
    },
    Rule {
        name: "no host namespaces",
        holds: |pod| {
            ["hostNetwork", "hostPID", "hostIPC"]
                .iter()
                .all(|it| pod[it] != true)
        },
    },
    Rule {
        name: "not privileged",
        holds: |pod| containers(pod).all(|it| it["securityContext"]["privileged"] != true),
    },
    Rule {
        name: "no hostPath",
        holds: |pod| volumes(pod).all(|it| it.get("hostPath").is_none()),
    },
    Rule {
        name: "no host ports",
        holds: |pod| {
            containers(pod).all(|it| {
                list(&it["ports"]).all(|port| port["hostPort"].as_u64().unwrap_or(0) == 0)
            })
        },
    },
    Rule {
        name: "AppArmor not off",
        holds: |pod| {
            each(pod, "appArmorProfile", |it| {
                matches!(
                    it["type"].as_str(),
                    None | Some("RuntimeDefault" | "Localhost")
                )
            })
        },
    },
    Rule {
        name: "SELinux types of containers",
        holds: |pod| {
            each(pod, "seLinuxOptions", |it| {
                let kind = it["type"].as_str().unwrap_or_default();
                let plain = ["user", "role"]
                    .iter()
                    .all(|key| it[key].as_str().unwrap_or_default().is_empty());
                plain && ["", "container_t", "container_init_t", "container_kvm_t"].contains(&kind)
            })
        },
    },
    Rule {
        name: "/proc as it is",
        holds: |pod| {
            containers(pod).all(|it| {
                matches!(
                    it["securityContext"]["procMount"].as_str(),
                    None | Some("Default")
                )
            })
        },
    },
    Rule {
        name: "no sysctls",
        holds: |pod| list(&pod["securityContext"]["sysctls"]).next().is_none(),
    },
    Rule {
        name: "no hosts of lifecycle hooks and probes",
        holds: |pod| {
            containers(pod).all(|it| {
                ["livenessProbe", "readinessProbe", "startupProbe"]
                    .iter()
                    .all(|probe| it[probe]["httpGet"].get("host").is_none())
                    && it.get("lifecycle").is_none()
            })
        },
    },
    Rule {
        name: "volumes of the allowed types",
        holds: |pod| {
            let allowed = [
                "configMap",
                "csi",
                "downwardAPI",
                "emptyDir",
                "ephemeral",
                "persistentVolumeClaim",
                "projected",
                "secret",
            ];
            volumes(pod).all(|it| {
                it.as_object()
                    .unwrap()
                    .keys()
                    .all(|key| key == "name" || allowed.contains(&key.as_str()))
            })
        },
    },
    Rule {
        name: "no privilege escalation",
        holds: |pod| {
            containers(pod).all(|it| it["securityContext"]["allowPrivilegeEscalation"] == false)
        },
    },
    Rule {
        name: "not root, and said so",
        holds: |pod| effective(pod, "runAsNonRoot").all(|it| it == true),
    },
    Rule {
        name: "no user 0",
        holds: |pod| {
            pod["securityContext"]["runAsUser"] != 0
                && containers(pod).all(|it| it["securityContext"]["runAsUser"] != 0)
        },
    },
    Rule {
        name: "seccomp, and said so",
        holds: |pod| {
            effective(pod, "seccompProfile")
                .all(|it| matches!(it["type"].as_str(), Some("RuntimeDefault" | "Localhost")))
        },
    },
    Rule {
        name: "all capabilities dropped",
        holds: |pod| {
            containers(pod).all(|it| {
                let capabilities = &it["securityContext"]["capabilities"];
                list(&capabilities["drop"]).any(|it| it == "ALL")
                    && list(&capabilities["add"]).all(|it| it == "NET_BIND_SERVICE")
            })
        },
    },
];

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|key| list(&pod[key]))
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["volumes"])
}

/// Whether `holds` is true for a setting of the Pod and of every container.
fn each(pod: &Value, setting: &str, holds: fn(&Value) -> bool) -> bool {
    holds(&pod["securityContext"][setting])
        && containers(pod).all(|it| holds(&it["securityContext"][setting]))
}

/// The effective setting of each container: its own, or the Pod's.
fn effective<'a>(pod: &'a Value, setting: &'a str) -> impl Iterator<Item = &'a Value> {
    containers(pod).map(move |it| match &it["securityContext"][setting] {
        Value::Null => &pod["securityContext"][setting],
        own => own,
    })
}

fn broken(pod: &Value) -> Vec<&'static str> {
    let rules = RESTRICTED.iter().filter(|rule| !(rule.holds)(pod));
    rules.map(|rule| rule.name).collect()
}

fn pods<'a>(objects: &'a [Object], component: &'a str) -> impl Iterator<Item = &'a Value> {
    objects
        .iter()
        .filter(move |it| it.component() == component)
        .map(|it| &it.0["spec"]["template"]["spec"])
        .filter(|it| it.is_object())
}

#[test]
fn the_webhook_is_restricted_in_every_mode() {
    let helm = require!(Helm::for_test("the_webhook_is_restricted"));
    let mut seen = 0;
    for file in values_files() {
        for kubernetes in [OLD, NEW] {
            let objects = helm.render_file(kubernetes, &file);
            // On the node's network nothing can be restricted; everything else has to be.
            let allowed: &[_] = if file == values_file("host-network") {
                &["no host namespaces"]
            } else {
                &[]
            };
            for pod in pods(&objects, "webhook") {
                assert_eq!(broken(pod), allowed, "{}", file.display());
                for container in containers(pod) {
                    let read_only = &container["securityContext"]["readOnlyRootFilesystem"];
                    assert_eq!(read_only, true, "{}", file.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 10, "{seen}");
}

/// Shows that the rules can fail, with a Pod that breaks each.
#[test]
fn every_rule_finds_what_it_is_for() {
    let good = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        }}],
    });
    assert!(broken(&good).is_empty());
    let security = "/containers/0/securityContext";
    let breaks = [
        (security, "windowsOptions", json!({"hostProcess": true})),
        ("", "hostNetwork", json!(true)),
        (security, "privileged", json!(true)),
        (
            "",
            "volumes",
            json!([{"name": "x", "hostPath": {"path": "/"}}]),
        ),
        ("/containers/0", "ports", json!([{"hostPort": 80}])),
        (security, "appArmorProfile", json!({"type": "Unconfined"})),
        (
            "/securityContext",
            "seLinuxOptions",
            json!({"type": "spc_t"}),
        ),
        (security, "procMount", json!("Unmasked")),
        (
            "/securityContext",
            "sysctls",
            json!([{"name": "kernel.msgmax", "value": "1"}]),
        ),
        (
            "/containers/0",
            "livenessProbe",
            json!({"httpGet": {"host": "192.0.2.1"}}),
        ),
        ("", "volumes", json!([{"name": "x", "nfs": {}}])),
        (security, "allowPrivilegeEscalation", json!(true)),
        (security, "runAsNonRoot", json!(false)),
        (security, "runAsUser", json!(0)),
        (security, "seccompProfile", json!({"type": "Unconfined"})),
        (
            security,
            "capabilities",
            json!({"drop": ["ALL"], "add": ["NET_RAW"]}),
        ),
    ];
    for ((place, key, value), rule) in breaks.into_iter().zip(&RESTRICTED) {
        let mut pod = good.clone();
        pod.pointer_mut(place).unwrap()[key] = value;
        let broken = broken(&pod);
        assert!(broken.contains(&rule.name), "{}: {broken:?}", rule.name);
    }
}

#[test]
fn the_agent_has_what_it_needs_and_no_more() {
    let helm = require!(Helm::for_test("the_agent_has_what_it_needs"));
    let writable = |pod: &Value| -> Vec<String> {
        let mounts = list(&pod["containers"][0]["volumeMounts"]);
        mounts
            .filter(|it| it["readOnly"] != true)
            .map(|it| it["mountPath"].as_str().unwrap().to_owned())
            .collect()
    };
    for (file, host_paths, added, may_write) in [
        (
            "default",
            &["/proc", "/sys/fs/cgroup", "/run", "/sys/fs/bpf/imageswap"][..],
            &["BPF", "PERFMON"][..],
            true,
        ),
        (
            "one-replica",
            &[
                "/proc",
                "/sys/fs/cgroup",
                "/run",
                "/var/lib/containers",
                "/var/lib/docker",
            ],
            &["BPF", "PERFMON", "SYS_RESOURCE"],
            false,
        ),
        (
            "everything",
            &[
                "/proc",
                "/sys/fs/cgroup",
                "/run/containerd",
                "/var/snap/microk8s/common/run",
                "/sys/fs/bpf/imageswap",
            ],
            &["BPF", "PERFMON"],
            true,
        ),
    ] {
        let objects = helm.render_file(NEW, &values_file(file));
        let pod = pods(&objects, "agent").next().unwrap();
        let paths: Vec<_> = volumes(pod)
            .filter_map(|it| it["hostPath"]["path"].as_str())
            .collect();
        assert_eq!(paths, host_paths, "{file}");
        let expected: &[_] = if may_write {
            &["/host/sys/fs/bpf/imageswap"]
        } else {
            &[]
        };
        assert_eq!(writable(pod), expected, "{file}");
        let security = &pod["containers"][0]["securityContext"];
        assert_eq!(security["privileged"], false, "{file}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{file}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{file}");
        assert_eq!(
            security["capabilities"],
            json!({"drop": ["ALL"], "add": added}),
            "{file}"
        );
        assert_eq!(pod["securityContext"]["runAsUser"], 0, "{file}");
        assert_eq!(pod["hostPID"], true, "{file}");
        for absent in ["hostNetwork", "hostIPC", "initContainers"] {
            assert!(pod.get(absent).is_none(), "{file}: {absent}");
        }
        let profile = if file == "everything" {
            "Unconfined"
        } else {
            "RuntimeDefault"
        };
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"], profile,
            "{file}"
        );
    }
}

#[test]
fn the_agent_is_in_a_namespace_that_allows_it_and_the_webhook_is_not_asked_about() {
    let helm = require!(Helm::for_test("the_agent_is_in_a_namespace_that_allows_it"));
    for (file, agent, made) in [
        ("default", "imageswap-agent", true),
        ("one-namespace", "imageswap-system", false),
    ] {
        let objects = helm.render_file(NEW, &values_file(file));
        let set = objects.iter().find(|it| it.kind() == "DaemonSet").unwrap();
        assert_eq!(set.0["metadata"]["namespace"], agent, "{file}");
        assert_eq!(
            set.0["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"],
            "imageswap-agent"
        );
        let standard = |namespace: &Object| {
            namespace.0["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
                .as_str()
                .map(str::to_owned)
        };
        let own = objects
            .iter()
            .find(|it| it.kind() == "Namespace" && it.name() == agent);
        assert_eq!(
            own.and_then(standard).as_deref(),
            Some("privileged"),
            "{file}"
        );
        let by_agent = own.is_some_and(|it| it.component() == "agent");
        assert_eq!(by_agent, made, "{file}");
        let name = if file == "default" {
            "imageswap"
        } else {
            "swap"
        };
        for kind in [
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ] {
            let excluded = &one(&objects, kind, name)["webhooks"][0]["namespaceSelector"]["matchExpressions"]
                [0];
            assert_eq!(excluded["operator"], "NotIn");
            let names: Vec<_> = list(&excluded["values"]).collect();
            for namespace in ["kube-system", "imageswap-system", agent] {
                assert!(
                    names.iter().any(|it| *it == namespace),
                    "{file}: {kind}: {namespace}"
                );
            }
        }
    }
}
