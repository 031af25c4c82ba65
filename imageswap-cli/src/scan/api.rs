//! Lists of the API server, page by page.

use super::objects::{Object, Page};
use anyhow::{Context as _, Result};
use kube::api::{GetParams, ListParams, Request};
use kube::{Client, Error};
use std::io::{self, IsTerminal as _, Write as _};

/// Objects per request, as for kubectl.
const PAGE: u32 = 500;

/// A list of the API.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resource {
    pub(super) kind: &'static str,
    /// The API paths that may have it, the newest first.
    pub(super) paths: &'static [&'static str],
    pub(super) plural: &'static str,
}

/// A list that could not be read, so that the output is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Unseen {
    /// Its name in the API, such as `deployments`.
    pub(super) resource: &'static str,
    /// The API server's reason.
    pub(super) reason: String,
}

/// Lists of one cluster, of one namespace or of all.
pub(super) struct Lister<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    progress: bool,
    pub(super) unseen: Vec<Unseen>,
}

impl<'a> Lister<'a> {
    pub(super) fn new(client: &'a Client, namespace: Option<&'a str>) -> Self {
        Self {
            client,
            namespace,
            progress: io::stderr().is_terminal(),
            unseen: Vec::new(),
        }
    }

    /// Calls `visit` for every object of a list. A list that the API server does not allow is
    /// recorded as unseen.
    ///
    /// # Errors
    /// The API server cannot be reached, or its answer is not a list.
    pub(super) async fn each(
        &mut self,
        resource: Resource,
        selector: Option<&str>,
        mut visit: impl FnMut(Object),
    ) -> Result<()> {
        for path in resource.paths {
            let url = match self.namespace {
                Some(namespace) => format!("{path}/namespaces/{namespace}/{}", resource.plural),
                None => format!("{path}/{}", resource.plural),
            };
            let found = self.pages(&url, resource, selector, &mut visit).await;
            self.clear();
            match found {
                // This API server does not have the version; its other versions hold the same
                // objects.
                Err(Error::Api(status)) if status.code == 404 => {}
                Err(Error::Api(status)) => {
                    self.unseen.push(Unseen {
                        resource: resource.plural,
                        reason: status.message.clone(),
                    });
                    return Ok(());
                }
                found => return found.with_context(|| format!("cannot list {}", resource.plural)),
            }
        }
        Ok(())
    }

    /// The namespaces, with their labels: the scanned one, or all.
    pub(super) async fn namespaces(&mut self, mut visit: impl FnMut(Object)) -> Result<()> {
        let Some(name) = self.namespace else {
            return self.each(NAMESPACES, None, visit).await;
        };
        let request = Request::new("/api/v1/namespaces").get(name, &GetParams::default());
        let request = request.context("cannot ask for the namespace")?;
        match self.client.request::<Object>(request).await {
            Ok(namespace) => visit(namespace),
            Err(Error::Api(status)) if status.code == 404 => {
                anyhow::bail!("no namespace `{name}` in this cluster")
            }
            Err(Error::Api(status)) => self.unseen.push(Unseen {
                resource: NAMESPACES.plural,
                reason: status.message.clone(),
            }),
            Err(error) => return Err(error).context("cannot read the namespace"),
        }
        Ok(())
    }

    async fn pages(
        &self,
        url: &str,
        resource: Resource,
        selector: Option<&str>,
        visit: &mut impl FnMut(Object),
    ) -> Result<(), Error> {
        let mut params = ListParams::default().limit(PAGE);
        if let Some(selector) = selector {
            params = params.labels(selector);
        }
        let mut seen = 0;
        loop {
            let request = Request::new(url)
                .list(&params)
                .map_err(Error::BuildRequest)?;
            let page: Page = self.client.request(request).await?;
            let next = page.next();
            for object in page.items() {
                seen += 1;
                visit(object);
            }
            self.show_progress(resource, seen);
            match next {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(()),
            }
        }
    }

    /// Shows the progress on one line, which is overwritten.
    fn show_progress(&self, resource: Resource, seen: usize) {
        if self.progress {
            drop(write!(io::stderr(), "\r\x1b[K{}: {seen}", resource.plural));
        }
    }

    fn clear(&self) {
        if self.progress {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

const CORE: &[&str] = &["/api/v1"];
const APPS: &[&str] = &["/apis/apps/v1"];

pub(super) const NAMESPACES: Resource = resource("Namespace", CORE, "namespaces");
pub(super) const PODS: Resource = resource("Pod", CORE, "pods");
/// Workloads that people write and nothing controls.
pub(super) const WORKLOADS: [Resource; 5] = [
    resource("Deployment", APPS, "deployments"),
    resource("StatefulSet", APPS, "statefulsets"),
    resource("DaemonSet", APPS, "daemonsets"),
    resource("ReplicationController", CORE, "replicationcontrollers"),
    // The second is for Kubernetes before 1.21.
    resource(
        "CronJob",
        &["/apis/batch/v1", "/apis/batch/v1beta1"],
        "cronjobs",
    ),
];
/// Objects that workloads create, or people write.
pub(super) const BETWEEN: [Resource; 2] = [
    resource("ReplicaSet", APPS, "replicasets"),
    resource("Job", &["/apis/batch/v1"], "jobs"),
];

const fn resource(
    kind: &'static str,
    paths: &'static [&'static str],
    plural: &'static str,
) -> Resource {
    Resource {
        kind,
        paths,
        plural,
    }
}
