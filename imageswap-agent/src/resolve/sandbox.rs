//! Compares a Pod's sandbox in containerd with what the CRI plugin makes: the command of its image,
//! without volumes. Any client of containerd can make the container of a sandbox again.

use super::{Asked, Sources};
use crate::evidence::containerd::{Containerd, TaskRecord};
use crate::evidence::sandbox;
use crate::facts::{Claim, Content};
use crate::process::Subject;
use std::sync::Arc;

/// A sandbox that runs on the layers of its image.
pub(super) struct Sandbox<'a> {
    pub containerd: &'a Containerd,
    pub task: &'a TaskRecord,
    /// The task's process.
    pub process: Subject,
    /// The snapshot below the sandbox's own.
    pub layers: Option<&'a str>,
    /// Its command by containerd's record, if that is otherwise as usual.
    pub command: Option<Vec<String>>,
}

impl Sources {
    /// Whether the sandbox is that of its image. The record can be changed after the task was made,
    /// so the configuration in the bundle has to agree with it, if there is one.
    pub(super) async fn content_of_sandbox(
        self: &Arc<Self>,
        asked: &mut Asked,
        made: Sandbox<'_>,
        claim: &Claim,
    ) -> Content {
        let Sandbox {
            containerd,
            task,
            process,
            layers,
            command,
        } = made;
        let (namespace, id) = (task.namespace.clone(), task.id.clone());
        let bundle = move |it: &Self| {
            let bundles = &it.bundles;
            let json = bundles.configuration(&namespace, &id, process, sandbox::LARGEST)?;
            Ok(json.map(|json| sandbox::command(&json)))
        };
        let (Some(command), Some(digest), Some(in_bundle)) =
            (command, &claim.digest, self.read(asked, bundle).await)
        else {
            return Content::Another;
        };
        let images = containerd.configurations(&task.namespace, digest).await;
        let images = asked.remote(containerd.socket().display(), images);
        let mut images = images.into_iter().flatten();
        let is_its = images.any(|it| Some(&*it.chain) == layers && it.command == command);
        if is_its && in_bundle.is_none_or(|it| it.as_ref() == Some(&command)) {
            Content::Its
        } else {
            Content::Another
        }
    }
}
