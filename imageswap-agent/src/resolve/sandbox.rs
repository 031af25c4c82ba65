//! Compares a Pod's sandbox with its bundle, and its image with the one in the runtime's
//! configuration: any client of containerd can make the container of a sandbox again, or change its
//! record.

use super::{Asked, Sources};
use crate::claim::{Claim, Content, Kind};
use crate::evidence::containerd::TaskRecord;
use crate::evidence::sandbox::{self, Place};
use crate::process::Subject;
use imageswap_policy::Reference;
use std::sync::Arc;

impl Sources {
    /// Whether the bundle shows that the sandbox of this task was made with this command, and without
    /// volumes. The record can be changed after the task was made.
    pub(super) async fn is_in_bundle(
        self: &Arc<Self>,
        asked: &Asked,
        task: &TaskRecord,
        process: Subject,
        command: Vec<String>,
    ) -> bool {
        let (namespace, id) = (task.namespace.clone(), task.id.clone());
        let bundle = move |it: &Self| {
            let bundles = &it.bundles;
            let json = bundles.configuration(&namespace, &id, process, sandbox::LARGEST)?;
            let made = json.and_then(|json| sandbox::command(&json, Place::Bundle));
            Ok(made == Some(command))
        };
        self.read(asked, bundle).await.unwrap_or(false)
    }
}

/// The CRI's claim about a sandbox, compared with the image in the runtime's configuration, if that
/// is known, and with containerd's record. Any client of containerd can make the container of a
/// sandbox again, of another image: then it is a container like others.
///
/// Only the repository is compared. A sandbox keeps its image when the configuration names a newer one.
pub(super) fn checked(claim: Claim, configured: Option<&str>, record: &Claim) -> Claim {
    let content = match claim.content {
        Content::Unknown => record.content,
        known => known,
    };
    let claim = Claim { content, ..claim };
    let Some(configured) = configured else {
        return claim;
    };
    let repository = |name: &str| Some(Reference::parse(name).ok()?.canonical_name());
    let own = repository(configured);
    // The record has any name of the digest.
    let mut names = claim.image.iter().chain(&record.image).chain(&record.names);
    match names.find(|name| own.is_some() && repository(name) == own) {
        Some(name) => Claim {
            image: Some(name.clone()),
            ..claim
        },
        None => Claim {
            kind: Some(Kind::Container),
            ..claim
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::Source;
    use crate::evidence::containerd::TaskStatus;
    use crate::pods::Pods;
    use crate::resolve::Resolver;
    use serde_json::json;
    use std::fs;

    const PAUSE: &str = "registry.k8s.io/pause:3.9";
    const EVIL: &str = "evil.example.net/pause:3.9";

    /// The claims of the CRI and containerd about a sandbox of this image.
    fn claims(image: &str, names: &[&str]) -> [Claim; 2] {
        let claim = |source| Claim {
            kind: Some(Kind::Sandbox),
            image: Some(image.to_owned()),
            ..Claim::new(source, "id", "containerd")
        };
        let record = Claim {
            content: Content::Its,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ..claim(Source::Containerd)
        };
        [claim(Source::Cri), record]
    }

    #[test]
    fn a_sandbox_has_an_image_of_the_configured_repository() {
        let (older, id) = ("registry.k8s.io/pause:3.6", "sha256:1f2e");
        let short = "rancher/mirrored-pause:3.6";
        let full = "docker.io/rancher/mirrored-pause:3.6";
        for (what, configured, image, names, expected) in [
            ("the same", Some(PAUSE), PAUSE, &[PAUSE][..], Some(PAUSE)),
            ("an older one", Some(PAUSE), older, &[], Some(older)),
            ("the short name", Some(short), full, &[full], Some(full)),
            (
                "another name of it",
                Some(PAUSE),
                EVIL,
                &[EVIL, PAUSE],
                Some(PAUSE),
            ),
            ("its id", Some(PAUSE), id, &[PAUSE], Some(PAUSE)),
            ("another", Some(PAUSE), EVIL, &[EVIL], None),
            ("a nameless one", Some(PAUSE), id, &[], None),
            (
                "of a runtime that shows nothing",
                None,
                EVIL,
                &[EVIL],
                Some(EVIL),
            ),
            ("an odd configuration", Some("?"), PAUSE, &[PAUSE], None),
        ] {
            let [claim, record] = claims(image, names);
            let found = checked(claim, configured, &record);
            assert_eq!(found.content, Content::Its, "{what}");
            let kind = expected.map_or(Kind::Container, |_| Kind::Sandbox);
            assert_eq!(found.kind, Some(kind), "{what}");
            let image = expected.unwrap_or(image);
            assert_eq!(found.image.as_deref(), Some(image), "{what}");
        }
    }

    #[tokio::test]
    async fn a_sandbox_is_as_it_was_made_only_if_its_bundle_shows_that() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let host = tempfile::tempdir().unwrap();
        let (answers, _answers) = tokio::sync::mpsc::channel(1);
        let resolver = Resolver::new(host.path(), Pods::default(), None, answers);
        let process = Subject {
            pid: 8,
            started: Some(1),
        };
        let task = TaskRecord {
            namespace: "k8s.io".to_owned(),
            socket: "/x.sock".into(),
            id: "web".to_owned(),
            pid: 8,
            status: TaskStatus::Running,
        };
        let is_in_bundle = async || {
            let command = vec!["/pause".to_owned()];
            let asked = Asked::default();
            let sources = &resolver.sources;
            sources.is_in_bundle(&asked, &task, process, command).await
        };
        assert!(!is_in_bundle().await, "there is none");
        let folder = "run/containerd/io.containerd.runtime.v2.task/k8s.io/web";
        let folder = host.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("init.pid"), "8").unwrap();
        for (program, expected) in [("/pause", true), ("/evil", false)] {
            let json = json!({"process": {"args": [program]}, "root": {"path": "rootfs"}});
            fs::write(folder.join("config.json"), json.to_string()).unwrap();
            assert_eq!(is_in_bundle().await, expected, "{program}");
        }
    }

    #[test]
    fn a_process_that_the_cri_does_not_know_is_not_the_sandboxs() {
        let [claim, record] = claims(PAUSE, &[PAUSE]);
        let claim = Claim {
            content: Content::Another,
            ..claim
        };
        assert_eq!(checked(claim, None, &record).content, Content::Another);
    }
}
