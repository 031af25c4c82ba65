use std::collections::BTreeMap;

use prost::Message;

use super::wire;
use super::*;

/// As the real message, with fields that this crate does not name.
#[derive(Clone, PartialEq, Message)]
struct FullContainer {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(btree_map = "string, string", tag = "2")]
    labels: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
    #[prost(message, optional, tag = "4")]
    runtime: Option<FullRuntime>,
    #[prost(message, optional, tag = "5")]
    spec: Option<wire::Any>,
    #[prost(string, tag = "6")]
    snapshotter: String,
    #[prost(string, tag = "7")]
    snapshot_key: String,
    #[prost(btree_map = "string, message", tag = "10")]
    extensions: BTreeMap<String, wire::Any>,
    #[prost(string, tag = "11")]
    sandbox: String,
}

#[derive(Clone, PartialEq, Message)]
struct FullRuntime {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    options: Option<wire::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct FullInfo {
    #[prost(btree_map = "string, string", tag = "5")]
    labels: BTreeMap<String, String>,
}

fn full_container(spec: &str) -> FullContainer {
    let any = |value: &str| wire::Any {
        type_url: "x".into(),
        value: value.to_owned().into(),
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    FullContainer {
        id: "web".to_owned(),
        labels: [
            pair("a", "1"),
            pair("io.kubernetes.pod.uid", "1"),
            pair("z", "2"),
        ]
        .into(),
        image: "registry.example.com/app:1".to_owned(),
        runtime: Some(FullRuntime {
            name: "io.containerd.runc.v2".to_owned(),
            options: Some(any("o")),
        }),
        spec: Some(any(spec)),
        snapshotter: "overlayfs".to_owned(),
        snapshot_key: "web".to_owned(),
        extensions: [("e".to_owned(), any("v"))].into(),
        sandbox: "s".to_owned(),
    }
}

fn decode(container: &FullContainer) -> ContainerRecord {
    let bytes = container.encode_to_vec();
    ContainerRecord::of(
        "default",
        wire::Container::decode(bytes.as_slice()).unwrap(),
    )
}

#[test]
fn a_container_decodes_past_what_is_not_named() {
    let spec = r#"{"process":{"args":[]},"root":{"path":"/srv/web"},"annotations":{"k":"v"},"linux":{"cgroupsPath":"/default/web"}}"#;
    let record = decode(&full_container(spec));
    assert_eq!(
        record,
        ContainerRecord {
            namespace: "default".to_owned(),
            id: "web".to_owned(),
            image: "registry.example.com/app:1".to_owned(),
            labels: [("io.kubernetes.pod.uid".to_owned(), "1".to_owned())].into(),
            snapshot: Some(("overlayfs".to_owned(), "web".to_owned())),
            root: Some("/srv/web".into()),
            sandbox_command: None,
        }
    );
}

#[test]
fn little_is_kept_of_a_record_whatever_a_client_writes() {
    let many = |prefix: &'static str| {
        (0..90_000).map(move |at| (format!("{prefix}{at:06}"), "x".repeat(20)))
    };
    let mut container = full_container("{}");
    let others = ["a", "io.kubernetes.", "z"];
    container.labels = others.into_iter().flat_map(many).collect();
    let kind = ("io.cri-containerd.kind".to_owned(), "container".to_owned());
    container.labels.extend([kind.clone()]);
    assert_eq!(decode(&container).labels, [kind].into());

    container.image = "é".repeat(1 << 20);
    container.snapshot_key = "k".repeat(LONGEST + 1);
    let record = decode(&container);
    let info = FullInfo {
        labels: many(SOURCE_LABEL).collect(),
    };
    let info = wire::Info::decode(info.encode_to_vec().as_slice()).unwrap();
    let kept = info.labels.unwrap().into_kept();
    assert!(kept.len() > 1);
    let bytes = kept.iter().map(|(key, value)| key.len() + value.len());
    assert!(bytes.sum::<usize>() < 100 << 10);
    assert_eq!((record.image.len(), record.snapshot), (LONGEST, None));
}

#[test]
fn the_command_of_a_sandbox_is_read() {
    let spec = r#"{"process":{"args":["/pause"]},"root":{"path":"rootfs"}}"#;
    let mut container = full_container(spec);
    assert_eq!(decode(&container).sandbox_command, None);
    let kind = ("io.cri-containerd.kind".to_owned(), "sandbox".to_owned());
    container.labels = [kind].into();
    let command = decode(&container).sandbox_command;
    assert_eq!(command, Some(vec!["/pause".to_owned()]));
}

#[test]
fn a_record_without_a_readable_configuration_keeps_its_image() {
    for spec in [
        "",
        "not json",
        "null",
        r#"{"linux":null,"annotations":null,"root":null}"#,
        r#"{"root":{"path":"rootfs"}}"#,
    ] {
        let record = decode(&full_container(spec));
        assert_eq!(record.image, "registry.example.com/app:1", "{spec}");
        assert_eq!(record.root, None, "{spec}");
    }
    let bare = decode(&FullContainer {
        id: "bare".to_owned(),
        ..Default::default()
    });
    assert_eq!(bare.snapshot, None);
}

#[test]
fn a_task_is_named_by_either_field() {
    let task = |container_id: &str, id: &str, status| {
        let process = wire::Process {
            container_id: container_id.to_owned(),
            id: id.to_owned(),
            pid: 7,
            status,
        };
        let task = TaskRecord::of(Path::new("/c.sock"), "default", process);
        (task.id, task.status, task.status.has_started())
    };
    assert_eq!(
        task("", "web", 1),
        ("web".to_owned(), TaskStatus::Created, false)
    );
    assert_eq!(
        task("web", "exec", 2),
        ("web".to_owned(), TaskStatus::Running, true)
    );
    assert_eq!(
        task("", "web", 3),
        ("web".to_owned(), TaskStatus::Stopped, true)
    );
    assert_eq!(
        task("", "web", 99),
        ("web".to_owned(), TaskStatus::Unknown, false)
    );
}

#[test]
fn content_names_the_repositories_it_was_pulled_from() {
    let labels = [
        (
            "containerd.io/distribution.source.docker.io",
            "library/nginx,me/nginx",
        ),
        ("containerd.io/distribution.source.127.0.0.1", "app"),
        ("containerd.io/distribution.source.empty.example.com", ""),
        ("containerd.io/gc.ref.content.0", "sha256:0"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let found: Vec<String> = sources_of(&labels)
        .iter()
        .map(|s| format!("{}/{}", s.host, s.repository))
        .collect();
    assert_eq!(
        found,
        [
            "127.0.0.1/app",
            "docker.io/library/nginx",
            "docker.io/me/nginx"
        ]
    );
}

#[test]
fn only_digests_go_into_a_filter() {
    let hex = "a".repeat(64);
    assert!(is_digest(&format!("sha256:{hex}")));
    assert!(is_digest(&format!("sha512+b64:{hex}")));
    for text in [
        "",
        "sha256:",
        ":a",
        "sha256",
        "sha256:a,name==b",
        "sha256:a b",
        "sha256:a\"b",
        "a:b:c",
    ] {
        assert!(!is_digest(text), "{text:?}");
    }
    assert!(is_id(&format!("sha256:{hex}")));
    for name in [
        "docker.io/library/nginx:1",
        "sha256:1",
        &format!("a.example.com/b@sha256:{hex}"),
    ] {
        assert!(!is_id(name), "{name}");
    }
}
