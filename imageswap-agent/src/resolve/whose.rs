//! The name under which the runtimes are asked for a container.

use super::{Asked, Question, Sources};
use crate::evidence::bundle::{Bundle, read_bundle};
use crate::evidence::runc::RuncState;

/// Under which name a runtime may know a container.
pub(super) struct Whose {
    pub bundle: Option<Bundle>,
    /// Of the container's first process, where its cgroup does not tell whose it is.
    pub state: Option<RuncState>,
    pub id: Option<String>,
    /// containerd's.
    pub namespace: Option<String>,
}

impl Sources {
    /// Under which name to ask for a container: as its cgroup shows it, or else as whoever knows its first process does.
    pub(super) async fn whose(&self, asked: &mut Asked, question: &Question) -> Whose {
        let Question {
            start,
            cgroup,
            identity,
            process,
            named,
            ..
        } = question;
        // What was put into another container's cgroup is not what the path says.
        let is_own = start.put.is_none();
        let bundle = is_own
            .then(|| asked.local(self.bundles.of_cgroup(cgroup)).flatten())
            .flatten();
        let id = identity.container_id.clone();
        if let Some(id) = id.or_else(|| bundle.as_ref().map(|bundle| bundle.id.clone())) {
            let namespace = identity.containerd_namespace.clone();
            return Whose {
                id: Some(id),
                namespace: namespace.or_else(|| bundle.as_ref()?.namespace.clone()),
                bundle,
                state: None,
            };
        }
        let state = process.and_then(|pid| self.runc.of_process(pid));
        let state = state.filter(|state| state.cgroup_paths.iter().any(|path| path == cgroup));
        if let Some(state) = state {
            let folder = state.bundle.as_deref();
            return Whose {
                bundle: folder.and_then(|folder| asked.local(read_bundle(folder)).flatten()),
                id: Some(state.id.clone()),
                namespace: self.runc.namespace_of(&state),
                state: Some(state),
            };
        }
        let task = match (named, process) {
            (Some(named), _) => Some(named.clone()),
            (None, Some(pid)) => self.task_of(asked, *pid).await,
            (None, None) => None,
        };
        let (namespace, id) = task.unzip();
        // A hand-made path ends with the id more often than not; the record's own path tells whether it is it.
        let last_part = cgroup.rsplit('/').next();
        let last_part = last_part.filter(|part| is_own && !part.is_empty());
        Whose {
            bundle: None,
            state: None,
            id: id.or_else(|| last_part.map(str::to_owned)),
            namespace,
        }
    }

    /// Namespace and id of the containerd task whose first process this is.
    async fn task_of(&self, asked: &mut Asked, pid: u32) -> Option<(String, String)> {
        for containerd in &self.containerds {
            let tasks = asked.remote(containerd.socket().display(), containerd.tasks().await);
            let mut tasks = tasks.into_iter().flatten();
            if let Some(task) = tasks.find(|task| task.pid == pid) {
                return Some((task.namespace, task.id));
            }
        }
        None
    }
}
