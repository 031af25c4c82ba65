//! The name under which the runtimes are asked for a container.

use super::{Asked, Question, Sources};
use crate::evidence::bundle::{Bundle, read_bundle};
use crate::evidence::containerd::Containerd;
use crate::evidence::runc::RuncState;
use std::sync::Arc;

/// Under which name a runtime may know a container.
pub(super) struct Whose {
    pub id: String,
    /// containerd's.
    pub namespace: Option<String>,
    pub bundle: Option<Bundle>,
    /// Of the container's first process, where that was asked for.
    pub state: Option<RuncState>,
}

impl Sources {
    /// As its cgroup's path shows it. What was put into another container's cgroup is not what the path says.
    pub(super) async fn by_path(
        self: &Arc<Self>,
        asked: &mut Asked,
        question: &Question,
    ) -> Option<Whose> {
        let Question {
            start,
            cgroup,
            identity,
            ..
        } = question;
        if start.put.is_some() {
            return None;
        }
        let path = cgroup.clone();
        let bundle = move |it: &Self| it.bundles.of_cgroup(&path);
        let bundle = self.read(asked, bundle).await.flatten();
        let of_bundle = bundle.as_ref();
        // A hand-made path ends with the id more often than not; the record's own path tells whether it is it.
        let last_part = cgroup.rsplit('/').next().filter(|part| !part.is_empty());
        let id = identity.container_id.clone();
        let namespace = identity.containerd_namespace.clone();
        Some(Whose {
            id: id
                .or_else(|| of_bundle.map(|bundle| bundle.id.clone()))
                .or_else(|| last_part.map(str::to_owned))?,
            namespace: namespace.or_else(|| of_bundle?.namespace.clone()),
            bundle,
            state: None,
        })
    }

    /// As whoever knows its first process does; a path that looks like a container's may be a hand-made one.
    pub(super) async fn by_process(
        self: &Arc<Self>,
        asked: &mut Asked,
        question: &Question,
    ) -> Option<Whose> {
        let pid = question.process;
        let path = question.cgroup.clone();
        let state = move |it: &Self| {
            let state = pid.and_then(|pid| it.runc.of_process(pid));
            Ok(state.filter(|state| state.cgroup_paths.contains(&path)))
        };
        if let Some(state) = self.read(asked, state).await.flatten() {
            let folder = state.bundle.clone();
            let bundle = move |_: &Self| match folder {
                Some(folder) => read_bundle(&folder),
                None => Ok(None),
            };
            return Some(Whose {
                id: state.id.clone(),
                namespace: self.runc.namespace_of(&state),
                bundle: self.read(asked, bundle).await.flatten(),
                state: Some(state),
            });
        }
        let (namespace, id) = match (&question.named, pid) {
            (Some(named), _) => named.clone(),
            (None, pid) => self.task_of(asked, pid?).await?,
        };
        Some(Whose {
            id,
            namespace: Some(namespace),
            bundle: None,
            state: None,
        })
    }

    /// Namespace and id of the containerd task whose first process this is.
    async fn task_of(&self, asked: &mut Asked, pid: u32) -> Option<(String, String)> {
        let asks = self.containerds.iter().map(|it| task_of(it, pid));
        asked.first(asks).await
    }
}

async fn task_of(containerd: &Containerd, pid: u32) -> (Option<(String, String)>, Asked) {
    let mut asked = Asked::default();
    let tasks = asked.remote(containerd.socket().display(), containerd.tasks().await);
    let mut tasks = tasks.into_iter().flatten();
    let task = tasks.find(|task| task.pid == pid);
    (task.map(|task| (task.namespace, task.id)), asked)
}
