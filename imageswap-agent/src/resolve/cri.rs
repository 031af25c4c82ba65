//! Asks the CRI runtimes about an id.

use super::bounds::bounded;
use super::{Asked, Sources};
use crate::claim::{Claim, Content};
use crate::evidence::EvidenceError;
use crate::evidence::containerd::TaskRecord;
use crate::evidence::cri::Cri;
use crate::process::Subject;
use std::time::Duration;
use tokio::time::sleep;

/// The containerd namespace of the CRI plugin.
pub(super) const CRI_NAMESPACE: &str = "k8s.io";

/// How often the CRI is asked again about a container that has its mark. containerd's plugin starts
/// a container before it knows the process; the plugin and CRI-O start a sandbox before they list
/// it.
const DENIALS: usize = 15;
const BETWEEN_DENIALS: Duration = Duration::from_millis(200);

/// A CRI runtime's answer about an id.
pub(super) enum OfCri {
    /// It is the container of this process.
    Is(Box<Claim>, Image),
    /// The runtime does not know the process yet, or does not know the id.
    NotYet,
    /// It is another process.
    Another,
}

/// The image of a container, as a CRI runtime knows it.
pub(super) enum Image {
    /// Its id.
    Id(String),
    /// For a sandbox: the image that the runtime's configuration names, if that was asked for and
    /// the runtime shows it.
    Configured(Option<String>),
}

impl OfCri {
    pub(super) fn is(self) -> Option<(Claim, Image)> {
        match self {
            Self::Is(claim, image) => Some((*claim, image)),
            Self::NotYet | Self::Another => None,
        }
    }
}

impl Sources {
    /// The CRI runtimes' answer about an id. `task` comes from a containerd: if that serves the CRI
    /// as well, its answer about the process counts for both. Without it, nothing shows what the
    /// process runs on, so the CRI's answer approves nothing.
    pub(super) async fn of_cri(
        &self,
        asked: &Asked,
        id: &str,
        firsts: &[Subject],
        task: Option<&TaskRecord>,
    ) -> OfCri {
        let ask = |cri| async move {
            let asked = Asked::default();
            let mut found = asked.cri(cri, id, firsts, task).await;
            if task.is_none()
                && self.containerd_at(cri.socket()).is_some()
                && let Some(OfCri::Is(claim, _)) = &mut found
            {
                claim.content = Content::Another;
            }
            (found, asked)
        };
        let found = asked.first(self.cris.iter().map(ask)).await;
        let found = found.unwrap_or(OfCri::NotYet);
        // A task's process was checked by its containerd. Otherwise, if a process is gone, another
        // one may have its pid by now.
        match found {
            OfCri::Is(..) if task.is_none() && !firsts.iter().all(|it| it.is_alive(&self.proc)) => {
                OfCri::Another
            }
            found => found,
        }
    }

    /// The CRI's answer about an id that it should know sooner or later, with the image.
    pub(super) async fn of_cri_at_last(
        &self,
        asked: &Asked,
        id: &str,
        firsts: &[Subject],
        task: Option<&TaskRecord>,
    ) -> Option<(Claim, Image)> {
        for _ in 0..DENIALS {
            let found = self.of_cri(asked, id, firsts, task).await;
            // Of a container that no containerd has as a task, another runtime may learn, while the
            // process lives.
            let by_others = || {
                let mut others = self.cris.iter();
                others.any(|cri| self.containerd_at(cri.socket()).is_none())
                    && firsts.iter().all(|it| it.is_alive(&self.proc))
            };
            let may_come = !self.cris.is_empty()
                && asked.unreachable.is_empty()
                && (task.is_some() || by_others());
            if !matches!(found, OfCri::NotYet) || !may_come {
                return found.is();
            }
            sleep(BETWEEN_DENIALS).await;
        }
        None
    }
}

impl Asked {
    /// `None` if the runtime does not know the id.
    async fn cri(
        &self,
        cri: &Cri,
        id: &str,
        firsts: &[Subject],
        task: Option<&TaskRecord>,
    ) -> Option<OfCri> {
        let socket = cri.socket().display();
        let is_same =
            task.is_some_and(|task| task.socket == cri.socket() && task.namespace == CRI_NAMESPACE);
        let process = |said: Option<u32>, claim, image| match said {
            Some(said) if firsts.iter().any(|it| it.pid == said) => {
                OfCri::Is(Box::new(claim), image)
            }
            Some(_) => OfCri::Another,
            None if is_same => OfCri::Is(Box::new(claim), image),
            None => OfCri::NotYet,
        };
        if let Some(container) = self.remote(&socket, cri.container(id).await).flatten() {
            let sandbox = match &container.sandbox_id {
                Some(sandbox) => self.remote(&socket, cri.sandbox(sandbox).await).flatten(),
                None => None,
            };
            let said = container.pid;
            let image = container.image_id.as_deref();
            let image = cri.image(image.unwrap_or(&container.image_ref)).await;
            let names_left_out = matches!(image, Err(EvidenceError::TooLarge { .. }));
            let image = match image {
                Err(_) if names_left_out => None,
                image => self.remote(&socket, image).flatten(),
            };
            let id = image.as_ref().map(|image| image.id.clone());
            let claim = bounded(Claim {
                names_left_out,
                ..container.claim(image, sandbox)
            });
            return Some(process(said, claim, Image::Id(id.unwrap_or_default())));
        }
        let sandbox = self.remote(&socket, cri.sandbox(id).await).flatten()?;
        // Other runtimes than containerd let no client choose the image of a sandbox.
        let configured = match task {
            Some(_) => self.remote(&socket, cri.sandbox_image().await)?,
            None => None,
        };
        let said = sandbox.pid;
        let is_its = firsts.iter().any(|it| Some(it.pid) == said);
        let mut claim = sandbox.claim();
        // The plugin lists a sandbox together with its process, and forgets the process when that
        // ends: this one was made again by a client of containerd.
        claim.is_again = is_same.then_some(!is_its);
        if !is_its {
            claim.content = Content::Another;
        }
        let image = Image::Configured(configured);
        if is_same {
            return Some(OfCri::Is(Box::new(claim), image));
        }
        Some(process(said, claim, image))
    }
}
