//! The answer to every combination of webhook, operation, kind, field, enforcement, scope and
//! image.

use std::collections::BTreeMap;

use imageswap_policy::{Policies, maps};
use imageswap_runtime::metrics::Exporter;
use imageswap_runtime::source::{Namespaces, PolicySource};
use imageswap_webhook::admit::Admission;
use imageswap_webhook::metrics::{Outcome, Webhook, WebhookMetrics};
use serde_json::{Value, json};

use crate::client::{decide, patched, pod_review, policies, take_note};

/// The first matching row decides; `*` is any value, `|` is or.
///
/// - `change` is an UPDATE that gives the container another image, `keep` one that changes
///   something else, `reapply` one for a container whose stored image is the policy's result for
///   `swap`, `deleting` one of an object that is being deleted. `forged` is a CREATE of an object
///   that claims to be deleted already.
/// - `out` is a namespace that the policy leaves out, `opted-out` a Pod with the label that skips the swap. A maps file
///   takes such a Pod out of scope.
/// - The policy swaps `docker.io` (image `swap`), approves the target (`fine`), and knows no other
///   registry (`evil`).
const TABLE: &str = "
webhook   operation  kind       field                enforcement  scope      image       answer
*         deleting   *          *                    *            *          *           skipped
*         keep       *          *                    *            *          *           skipped
*         reapply    *          *                    *            *          fine        skipped
*         *          *          *                    *            out        *           skipped
*         *          *          *                    maps         opted-out  *           skipped
*         *          Ephemeral  containers           *            *          *           skipped
*         *          Ephemeral  initContainers       *            *          *           skipped
*         *          Ephemeral  volumes              *            *          *           skipped

mutate    *          *          *                    audit        *          *           unchanged
mutate    reapply    *          *                    *            in         swap        swapped
mutate    change     Pod        ephemeralContainers  *            *          *           unchanged-but-noted
mutate    change     Pod        volumes              *            *          *           unchanged-but-noted
mutate    change     Job        *                    *            *          *           unchanged
mutate    *          *          *                    *            in         swap        swapped
mutate    *          *          *                    *            *          *           unchanged-but-noted

validate  *          *          *                    maps         *          fine|evil   unchanged
validate  *          *          *                    *            *          fine        unchanged
validate  *          workload   *                    *            in         swap        unchanged
validate  *          *          *                    deny         *          *           denied
validate  *          *          *                    warn         *          *           warned
validate  *          *          *                    audit|maps   *          *           unchanged
";

const WEBHOOKS: [&str; 2] = ["mutate", "validate"];
const OPERATIONS: [&str; 6] = ["create", "forged", "change", "keep", "reapply", "deleting"];
const KINDS: [(&str, &str); 9] = [
    ("Pod", ""),
    ("Ephemeral", ""),
    ("Deployment", "apps"),
    ("StatefulSet", "apps"),
    ("DaemonSet", "apps"),
    ("ReplicaSet", "apps"),
    ("ReplicationController", ""),
    ("Job", "batch"),
    ("CronJob", "batch"),
];
const FIELDS: [&str; 4] = [
    "containers",
    "initContainers",
    "ephemeralContainers",
    "volumes",
];
const ENFORCEMENTS: [&str; 4] = ["deny", "warn", "audit", "maps"];
const SCOPES: [&str; 3] = ["in", "out", "opted-out"];
const IMAGES: [(&str, &str); 3] = [
    ("swap", "docker.io/team/app:1"),
    ("fine", "r.io/team/app:1"),
    ("evil", "evil.io/app"),
];
const OPT_OUT: &str = "k8s.twr.io/imageswap";

struct Case {
    webhook: &'static str,
    operation: &'static str,
    kind: &'static str,
    group: &'static str,
    field: &'static str,
    enforcement: &'static str,
    scope: &'static str,
    image: (&'static str, &'static str),
}

#[test]
fn every_combination_is_answered_as_the_table_says() {
    let rows: Vec<Vec<&str>> = TABLE
        .lines()
        .filter(|it| !it.trim().is_empty())
        .skip(1)
        .map(|it| it.split_whitespace().collect())
        .collect();
    let mut used = vec![0; rows.len()];
    let mut asked = 0;
    for enforcement in ENFORCEMENTS {
        let admission = admission(enforcement);
        for case in cases(enforcement) {
            let decides = rows.iter().position(|row| case.fits(row));
            let at = decides.unwrap_or_else(|| panic!("no row for {case}"));
            used[at] += 1;
            case.check(&admission, rows[at][7]);
            asked += 1;
        }
    }
    assert_eq!(asked, 2 * 6 * 9 * 4 * 4 * 3 * 3);
    let unused: Vec<_> = rows.iter().zip(&used).filter(|it| *it.1 == 0).collect();
    assert!(unused.is_empty(), "rows that decide nothing: {unused:?}");
}

fn cases(enforcement: &'static str) -> impl Iterator<Item = Case> {
    WEBHOOKS.into_iter().flat_map(move |webhook| {
        OPERATIONS.into_iter().flat_map(move |operation| {
            KINDS.into_iter().flat_map(move |(kind, group)| {
                FIELDS.into_iter().flat_map(move |field| {
                    SCOPES.into_iter().flat_map(move |scope| {
                        IMAGES.into_iter().map(move |image| Case {
                            webhook,
                            operation,
                            kind,
                            group,
                            field,
                            enforcement,
                            scope,
                            image,
                        })
                    })
                })
            })
        })
    })
}

fn admission(enforcement: &str) -> Admission {
    let policies = if enforcement == "maps" {
        let loaded = maps::load("maps", "docker.io::r.io\ndefault::").unwrap();
        Policies::one(loaded.policy)
    } else {
        let text = format!(
            "{{apiVersion: imageswap.io/v1alpha1, kind: ImageSwapPolicy, metadata: {{name: p}}, spec: {{\
             enforcement: {enforcement}, match: {{allowOptOut: true}}, rules: [{{from: docker.io/**, to: r.io}}]}}}}"
        );
        policies(&text)
    };
    let label = BTreeMap::from([(OPT_OUT.to_owned(), "enabled".to_owned())]);
    let namespaces = Namespaces::fixed([
        ("shop".to_owned(), label),
        ("kube-system".to_owned(), BTreeMap::new()),
    ]);
    let metrics = WebhookMetrics::new(&Exporter::new());
    Admission::new(PolicySource::fixed(policies), metrics).with_cluster(
        namespaces,
        imageswap_runtime::source::PullSecrets::unknown(),
    )
}

impl Case {
    fn fits(&self, row: &[&str]) -> bool {
        let values = [
            self.webhook,
            self.operation,
            self.kind,
            self.field,
            self.enforcement,
            self.scope,
            self.image.0,
        ];
        values.iter().zip(row).all(|(value, cell)| {
            let workload = !matches!(self.kind, "Pod" | "Ephemeral");
            *cell == "*"
                || cell.split('|').any(|it| it == *value)
                || *cell == "workload" && *value == self.kind && workload
        })
    }

    fn check(&self, admission: &Admission, expected: &str) {
        let review = self.review();
        let webhook = match self.webhook {
            "mutate" => Webhook::Mutate,
            _ => Webhook::Validate,
        };
        let (body, _, found) = decide(admission, webhook, &review);
        let response = &body["response"];
        let said = format!("{self} -> {expected}\n{body:#}");
        let denied = expected == "denied";
        assert_eq!(response["allowed"], !denied, "{said}");
        assert_eq!(
            response["warnings"].is_array(),
            expected == "warned",
            "{said}"
        );
        assert_eq!(
            response["auditAnnotations"].is_null(),
            expected == "skipped",
            "{said}"
        );
        if denied {
            let message = response["status"]["message"].as_str().unwrap();
            assert!(
                message.contains(self.image.1) && message.contains("main"),
                "{said}"
            );
            assert_eq!(found, Outcome::Denied, "{said}");
            assert!(response["patch"].is_null(), "{said}");
            return;
        }
        let mut object = patched(&review, &body);
        let note = take_note(&mut object);
        let mut swapped = review["request"]["object"].clone();
        if expected == "swapped" {
            *self.image_of(&mut swapped) = json!("r.io/team/app:1");
        }
        assert_eq!(object, swapped, "{said}");
        // Decisions about a Pod's own containers are noted.
        let noted = self.kind == "Pod"
            && matches!(self.field, "containers" | "initContainers")
            && matches!(expected, "swapped" | "unchanged-but-noted");
        assert_eq!(note.is_some(), noted, "{said}");
        let outcome = match expected {
            "skipped" => Outcome::Skipped,
            "warned" => Outcome::Warned,
            "swapped" => Outcome::Patched,
            _ if noted => Outcome::Patched,
            _ => Outcome::Unchanged,
        };
        assert_eq!(found, outcome, "{said}");
    }

    fn review(&self) -> Value {
        let object = |image: &str| {
            let named = match self.field {
                "volumes" => json!({"name": "main", "image": {"reference": image}}),
                _ => json!({"name": "main", "image": image}),
            };
            let mut metadata = json!({"name": "x"});
            if self.scope == "opted-out" {
                metadata["labels"] = json!({OPT_OUT: "disabled"});
            }
            let spec = json!({self.field: [named]});
            let template = json!({"metadata": metadata, "spec": spec});
            match self.kind {
                "Pod" | "Ephemeral" => template,
                "CronJob" => json!({
                    "metadata": metadata,
                    "spec": {"jobTemplate": {"spec": {"template": template}}},
                }),
                _ => json!({"metadata": metadata, "spec": {"template": template}}),
            }
        };
        let mut new = object(self.image.1);
        let operation = match self.operation {
            "create" | "forged" => "CREATE",
            _ => "UPDATE",
        };
        if matches!(self.operation, "deleting" | "forged") {
            new["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let mut review = pod_review(operation, &new);
        let request = &mut review["request"];
        request["namespace"] = json!(if self.scope == "out" {
            "kube-system"
        } else {
            "shop"
        });
        let kind = if self.kind == "Ephemeral" {
            "Pod"
        } else {
            self.kind
        };
        request["kind"] = json!({"group": self.group, "version": "v1", "kind": kind});
        if self.kind == "Ephemeral" {
            request["subResource"] = json!("ephemeralcontainers");
        }
        if operation == "UPDATE" {
            let before = match self.operation {
                "keep" => self.image.1,
                "reapply" => "r.io/team/app:1",
                _ => "before.io/x",
            };
            request["oldObject"] = object(before);
        }
        review
    }

    fn image_of<'v>(&self, object: &'v mut Value) -> &'v mut Value {
        let spec = match self.kind {
            "Pod" | "Ephemeral" => &mut object["spec"],
            "CronJob" => &mut object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
            _ => &mut object["spec"]["template"]["spec"],
        };
        match self.field {
            "volumes" => &mut spec["volumes"][0]["image"]["reference"],
            field => &mut spec[field][0]["image"],
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            webhook,
            operation,
            kind,
            field,
            enforcement,
            scope,
            image,
            ..
        } = self;
        write!(
            f,
            "{webhook} {operation} {kind} {field} {enforcement} {scope} {}",
            image.0
        )
    }
}
