//! Findings of a day on a few nodes, for tests and for the picture in the documentation.

use serde_json::{Value, json};
use std::fmt::Write as _;

/// Seconds since the beginning of 2026-11-28.
pub(crate) fn at(seconds: u64) -> String {
    format!(
        "2026-11-28T{:02}:{:02}:{:02}.000000Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// A record of a node's agent about itself.
pub(crate) fn agent(node: &str, seconds: u64, event: &str, more: &Value) -> String {
    let mut record = json!({
        "kind": "agent", "event": event, "time": at(seconds), "node": node, "boot_id": format!("boot-of-{node}"),
        "version": "0.1.0", "policies": {"set_revision": "3152d41e8e7d", "names": ["corp"]},
        "previous_set_revision": null, "resumed": null, "level": "all", "interval": 300, "lost": null, "reason": null,
    });
    merge(&mut record, more);
    line(&record)
}

/// A container and what was found about it.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) id: u64,
    pub(crate) node: String,
    pub(crate) namespace: &'static str,
    pub(crate) workload: &'static str,
    pub(crate) image: String,
    pub(crate) verdict: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

/// A container that runs for ten seconds on node `n1`.
pub(crate) fn one(verdict: &'static str, reason: &'static str) -> Story {
    Story {
        id: 1,
        node: "n1".to_owned(),
        namespace: "shop",
        workload: "web",
        image: "docker.io/library/nginx".to_owned(),
        verdict,
        reason,
        from: 20,
        to: Some(30),
    }
}

impl Story {
    pub(crate) fn lines(&self) -> Vec<String> {
        let finding = |event: &str, seconds: u64| {
            let Self {
                id,
                node,
                namespace,
                workload,
                image,
                verdict,
                reason,
                from,
                ..
            } = self;
            let is_pod = !namespace.is_empty();
            line(&json!({
                "kind": "container", "start_id": format!("boot-of-{node}/{id}"), "event": event, "time": at(seconds),
                "started": at(*from), "node": node, "verdict": verdict, "route": if is_pod { "pod" } else { "containerd" },
                "reason": reason, "rule": "hub",
                "policy": {"name": "corp", "revision": "3152d41e8e7d", "set_revision": "3152d41e8e7d"},
                "image": (!image.is_empty()).then_some(image), "names": [],
                "expected_image": (!image.is_empty()).then(|| format!("registry.example.com/{}", image.split_once('/').map_or(&**image, |it| it.1))),
                "digest": null, "provenance": null, "confidence": "high",
                "container": {"id": format!("c{id}"), "name": is_pod.then_some("app"), "kind": "container"},
                "pod": is_pod.then(|| json!({"namespace": namespace, "name": format!("{workload}-{id}"), "uid": format!("u{id}"),
                    "owner": {"kind": "Deployment", "name": workload}})),
                "runtime": "containerd", "runtime_namespace": null, "process": {"pid": 7, "comm": "sh"},
                "cgroup": "/x", "detect_us": null,
            }))
        };
        let mut lines = vec![finding("start", self.from)];
        lines.extend(self.to.map(|to| finding("stopped", to)));
        lines
    }
}

/// With the schema first, as agents write it.
fn line(record: &Value) -> String {
    let text = record.to_string();
    format!("{{\"schema\":\"imageswap.io/finding/v1\",{}", &text[1..])
}

fn merge(record: &mut Value, more: &Value) {
    if let (Some(record), Some(more)) = (record.as_object_mut(), more.as_object()) {
        record.extend(more.clone());
    }
}

/// A day on three nodes: a workload that slipped in, images that nobody knows, something started by
/// hand, and two times in which nobody watched.
pub(crate) fn day() -> [String; 2] {
    let mut files = [String::new(), String::new()];
    let mut add = |file: usize, line: &str| writeln!(files[file], "{line}").unwrap();
    let no = Value::Null;
    for node in ["node-1", "node-2", "node-3"] {
        let file = usize::from(node == "node-3");
        add(
            file,
            &agent(node, 0, "agent-started", &json!({"resumed": false})),
        );
        for tick in 1..288 {
            // One was killed, and one was stopped for an update.
            let [from, to] = dead(node);
            if !(from..to).contains(&(tick * 300)) {
                let later =
                    json!({"policies": {"set_revision": "9f0c51aa77d2", "names": ["corp"]}});
                let more = if tick * 300 > 61_203 { &later } else { &no };
                add(file, &agent(node, tick * 300, "agent-watching", more));
            }
        }
        add(file, &agent(node, 86_399, "agent-watching", &no));
    }
    add(
        0,
        &agent(
            "node-2",
            56 * 300 - 20,
            "agent-started",
            &json!({"resumed": false}),
        ),
    );
    add(
        1,
        &agent(
            "node-3",
            168 * 300 - 60,
            "agent-stopped",
            &json!({"reason": "signal"}),
        ),
    );
    add(
        1,
        &agent(
            "node-3",
            171 * 300 - 90,
            "agent-started",
            &json!({"resumed": false}),
        ),
    );
    let lost = json!({"lost": {"cause": "ring-full-exec", "events": 41}});
    add(0, &agent("node-1", 37_000, "events-lost", &lost));
    for (node, seconds) in [("node-1", 61_200), ("node-2", 61_201), ("node-3", 61_203)] {
        let policies = json!({"policies": {"set_revision": "9f0c51aa77d2", "names": ["corp"]}, "previous_set_revision": "3152d41e8e7d"});
        add(
            usize::from(node == "node-3"),
            &agent(node, seconds, "policy-changed", &policies),
        );
    }
    for story in stories() {
        let [from, to] = dead(&story.node);
        let is_seen = |at: u64| !(from..to).contains(&at);
        let [started, stopped] = [Some(story.from), story.to].map(|at| at.is_some_and(is_seen));
        let lines = story.lines().into_iter().zip([started, stopped]);
        for (line, _) in lines.filter(|(_, is_seen)| *is_seen) {
            add(usize::from(story.node == "node-3"), &line);
        }
    }
    files
}

/// When no agent ran on a node.
fn dead(node: &str) -> [u64; 2] {
    match node {
        "node-2" => [48 * 300 - 200, 56 * 300 - 20],
        "node-3" => [168 * 300 - 60, 171 * 300 - 90],
        _ => [0, 0],
    }
}

fn stories() -> Vec<Story> {
    let mut stories = Vec::new();
    let mut id = 100;
    let mut add = |node: u64,
                   place: (&'static str, &'static str),
                   image: &str,
                   why: (&'static str, &'static str),
                   from: u64,
                   to: Option<u64>| {
        id += 1;
        stories.push(Story {
            id,
            node: format!("node-{node}"),
            namespace: place.0,
            workload: place.1,
            image: image.to_owned(),
            verdict: why.0,
            reason: why.1,
            from,
            to,
        });
    };
    let skipped = ("drift", "webhook-skipped");
    for at in 0..40 {
        add(
            1 + at % 3,
            ("shop", "web"),
            "docker.io/library/nginx:1.25",
            skipped,
            7_200 + at * 97,
            Some(25_000 + at * 211),
        );
    }
    for at in 0..14 {
        add(
            1 + at % 3,
            ("shop", "cart"),
            "quay.io/acme/cart:2.1",
            skipped,
            30_000 + at * 40,
            Some(47_000 + at * 60),
        );
    }
    for at in 0..9 {
        add(
            2,
            ("batch", "nightly"),
            "ghcr.io/acme/nightly:7",
            ("drift", "policy-changed"),
            62_000 + at * 600,
            Some(62_400 + at * 600),
        );
    }
    for at in 0..16 {
        add(
            1 + at % 2,
            ("ci", "runner"),
            "",
            ("unresolved", "runtime-unreachable"),
            41_000 + at * 130,
            Some(43_500 + at * 160),
        );
    }
    for at in 0..60 {
        add(
            1 + at % 3,
            ("shop", "api"),
            "registry.example.com/shop/api:3",
            ("approved", "ok"),
            600 + at * 900,
            Some(4_000 + at * 900),
        );
    }
    add(
        3,
        ("", ""),
        "evil.example.net/miner:latest",
        ("drift", "not-admitted"),
        50_000,
        Some(52_700),
    );
    add(
        2,
        ("team-a", "debug"),
        "docker.io/library/busybox:latest",
        ("drift", "webhook-skipped"),
        70_000,
        None,
    );
    stories
}

/// `findings` findings about containers on twenty nodes, two per container.
pub(crate) fn many(findings: u64) -> String {
    let namespaces = [
        "shop", "batch", "ci", "team-a", "team-b", "data", "web", "legacy",
    ];
    let images = [
        "docker.io/library/nginx",
        "quay.io/acme/cart",
        "ghcr.io/acme/nightly",
        "evil.example.net/miner",
        "",
    ];
    let reasons = [
        "webhook-skipped",
        "not-admitted",
        "policy-changed",
        "retagged",
    ];
    let pick = |list: &[&'static str], at: u64| list[usize::try_from(at).unwrap() % list.len()];
    let mut text = String::new();
    for node in 0..20 {
        let node = format!("node-{node}");
        writeln!(
            text,
            "{}",
            agent(&node, 0, "agent-started", &json!({"resumed": false}))
        )
        .unwrap();
        for tick in 1..288 {
            writeln!(
                text,
                "{}",
                agent(&node, tick * 300, "agent-watching", &Value::Null)
            )
            .unwrap();
        }
    }
    for id in 0..findings / 2 {
        let image = pick(&images, id / 7);
        let from = id * 7919 % 80_000;
        let image = if image.is_empty() {
            String::new()
        } else {
            format!("{image}:{}", id % 300)
        };
        let story = Story {
            id,
            node: format!("node-{}", id % 20),
            namespace: pick(&namespaces, id),
            workload: pick(&["web", "api", "db", "cache", "worker"], id / 3),
            verdict: if image.is_empty() {
                "unresolved"
            } else {
                "drift"
            },
            reason: if image.is_empty() {
                "gone"
            } else {
                pick(&reasons, id / 5)
            },
            image,
            from,
            to: Some(from + 10 + id % 5_000),
        };
        for line in story.lines() {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}
