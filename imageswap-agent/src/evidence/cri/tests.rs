use prost::Message as _;

use super::info;
use super::wire;
use super::*;
use crate::claim::{Content, Naming};

/// A status as containerd sends it, encoded and decoded.
fn status() -> wire::ContainerStatus {
    let status = wire::ContainerStatus {
        id: "c".to_owned(),
        metadata: Some(wire::ContainerMetadata {
            name: "app".to_owned(),
        }),
        image: Some(wire::ImageSpec {
            image: "a.example.com/alias:1".to_owned(),
            user_specified_image: String::new(),
        }),
        image_ref: "a.example.com/alias@sha256:0".to_owned(),
        ..Default::default()
    };
    wire::ContainerStatus::decode(status.encode_to_vec().as_slice()).unwrap()
}

fn parse(json: &str) -> info::Info {
    info::parse(&[("info".to_owned(), json.to_owned())].into())
}

#[test]
fn the_verbose_answer_says_what_the_pod_asked_for() {
    let info = parse(
        r#"{"sandboxID":"s","pid":42,"removing":false,"snapshotter":"overlayfs",
            "config":{"metadata":{"name":"app"},"image":{"image":"sha256:0","user_specified_image":"asked.example.com/app"}},
            "runtimeSpec":{"annotations":{"k":"v"},"linux":{"cgroupsPath":"/kubepods/podu/c"}}}"#,
    );
    let container = CriContainer::of_status(status(), info);
    assert_eq!(
        container.user_specified_image.as_deref(),
        Some("asked.example.com/app")
    );
    assert_eq!(container.image, "a.example.com/alias:1");
    assert_eq!(container.image_id, None);
    assert_eq!(container.name, "app");
    assert_eq!(container.sandbox_id.as_deref(), Some("s"));
    assert_eq!(container.pid, Some(42));
}

#[test]
fn the_status_itself_comes_first() {
    let mut status = status();
    status.image.as_mut().unwrap().user_specified_image = "status.example.com/app".to_owned();
    let info = parse(r#"{"config":{"image":{"user_specified_image":"info.example.com/app"}}}"#);
    let container = CriContainer::of_status(status, info);
    assert_eq!(
        container.user_specified_image.as_deref(),
        Some("status.example.com/app")
    );
}

#[test]
fn a_runtime_that_tells_less_leaves_it_unknown() {
    for json in [
        "",
        "[]",
        "{}",
        r#"{"pid":0,"config":null,"runtimeSpec":null,"sandboxID":""}"#,
    ] {
        let container = CriContainer::of_status(status(), parse(json));
        assert_eq!(container.image, "a.example.com/alias:1", "{json}");
        let unknown = (
            container.pid,
            container.sandbox_id,
            container.user_specified_image,
        );
        assert_eq!(unknown, (None, None, None), "{json}");
    }
    assert_eq!(info::parse(&BTreeMap::new()).pid(), None);
}

#[test]
fn crio_says_that_a_container_was_restored() {
    for (json, expected) in [
        (r#"{"restored":true}"#, true),
        (r#"{"restored":false}"#, false),
    ] {
        let container = CriContainer::of_status(status(), parse(json));
        assert_eq!(container.is_restored, expected, "{json}");
    }
}

#[test]
fn the_configuration_of_containerd_names_the_image_of_sandboxes() {
    let pause = "registry.k8s.io/pause:3.9";
    let of_1_7 =
        format!(r#"{{"containerd":{{"snapshotter":"overlayfs"}},"sandboxImage":"{pause}"}}"#);
    for (config, expected) in [
        (&*of_1_7, Some(pause)),
        (r#"{"containerd":{"defaultRuntimeName":"runc"}}"#, None),
        (r#"{"sandboxImage":""}"#, None),
        ("[crio]", None),
    ] {
        let info = [("config".to_owned(), config.to_owned())].into();
        assert_eq!(info::sandbox_image(&info).as_deref(), expected, "{config}");
    }
    assert_eq!(info::sandbox_image(&BTreeMap::new()), None);
}

#[test]
fn a_claim_without_the_image_approves_nothing() {
    let claim = |image| CriContainer::of_status(status(), info::Info::default()).claim(image, None);
    let image = CriImage {
        id: "sha256:1".to_owned(),
        repo_tags: vec!["a.example.com/alias:1".to_owned()],
        repo_digests: vec!["a.example.com/alias@sha256:0".to_owned()],
    };
    for (image, content, names) in [
        (Some(image), Content::Unknown, 2),
        (None, Content::Another, 0),
    ] {
        let claim = claim(image);
        assert_eq!((claim.content, claim.names.len()), (content, names));
        assert_eq!(claim.naming, Naming::AnyOfDigest);
        assert_eq!(claim.digest.as_deref(), Some("sha256:0"));
    }
}

#[test]
fn a_sandbox_says_where_its_pod_comes_from() {
    for (source, expected) in [
        (Some("api"), Some(false)),
        (Some("file"), Some(true)),
        (None, None),
    ] {
        let source = source.map(|it| ("kubernetes.io/config.source".to_owned(), it.to_owned()));
        let sandbox = CriSandbox {
            id: "s".to_owned(),
            pod: PodName::default(),
            labels: BTreeMap::new(),
            annotations: source.into_iter().collect(),
            image: None,
            pid: None,
        };
        assert_eq!(sandbox.claim().static_pod, expected);
    }
}

/// The image that was asked for is not the one in the status, and the container's files and memory are the
/// checkpoint's.
#[test]
fn a_container_that_was_restored_from_a_checkpoint_does_not_run_the_image() {
    let mut bytes = status().encode_to_vec();
    // An entry of `map<string, string> annotations = 13`.
    let (key, value) = ("checkpointImage", "evil.example.net/checkpoint:1");
    let field =
        |tag: u8, text: &[u8]| [&[tag << 3 | 2, u8::try_from(text.len()).unwrap()], text].concat();
    let entry = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
    for (annotations, expected) in [
        (Vec::new(), Content::Unknown),
        (field(13, &field(1, b"other")), Content::Unknown),
        (field(13, &entry), Content::Another),
    ] {
        bytes.extend(annotations);
        let status = wire::ContainerStatus::decode(bytes.as_slice()).unwrap();
        let image = CriImage {
            id: "sha256:1".to_owned(),
            repo_tags: vec!["a.example.com/alias:1".to_owned()],
            repo_digests: Vec::new(),
        };
        let container = CriContainer::of_status(status, info::Info::default());
        assert_eq!(container.claim(Some(image), None).content, expected);
    }
}
