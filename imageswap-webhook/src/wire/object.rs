//! Objects of a review: Pods, and objects with a Pod template, with the fields that matter here.

use std::fmt;

use imageswap_policy::manifest::List;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Text;
use super::bounded::{Items, Labels, MAX_ENTRIES};

/// A Pod, or an object with a Pod template in one of the places of Kubernetes' own kinds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object<'a> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
    /// For a v1 EphemeralContainers, the form in which API servers before 1.22 sent
    /// `pods/ephemeralcontainers`.
    #[serde(borrow)]
    ephemeral_containers: Option<Items<Option<Container<'a>>>>,
}

/// A place in an object that names an image. Displays as a JSON Pointer (RFC 6901).
#[derive(Debug, Clone, Copy)]
pub struct ImageField<'o> {
    base: &'static str,
    /// The list that contains it.
    pub list: List,
    index: usize,
    /// Name of the container or volume; empty when it has none.
    pub name: &'o str,
    /// The image as written.
    pub image: &'o str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    generate_name: Option<Text<'a>>,
    #[serde(borrow)]
    labels: Option<Labels<'a>>,
    #[serde(borrow)]
    annotations: Option<Annotations<'a>>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Annotations<'a> {
    /// Set by kubelets on the mirror Pods of static Pods.
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
    /// [`imageswap_policy::note::ANNOTATION`].
    #[serde(borrow, rename = "imageswap.io/note")]
    note: Option<Text<'a>>,
}

/// A specification: a Pod's, or one with the template of a Pod `T` or of a Job `J`. It is no deeper
/// than Kubernetes' own kinds.
#[derive(Debug, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "T: Deserialize<'de>, J: Deserialize<'de>")
)]
struct Spec<'a, T = Template<'a>, J = JobTemplate<'a>> {
    #[serde(borrow)]
    containers: Option<Items<Option<Container<'a>>>>,
    #[serde(borrow)]
    init_containers: Option<Items<Option<Container<'a>>>>,
    #[serde(borrow)]
    ephemeral_containers: Option<Items<Option<Container<'a>>>>,
    #[serde(borrow)]
    volumes: Option<Items<Option<Volume<'a>>>>,
    #[serde(borrow)]
    image_pull_secrets: Option<Items<Option<PullSecret<'a>>>>,
    template: Option<Box<T>>,
    job_template: Option<Box<J>>,
}

/// The specification of a Pod in a template.
type PodSpec<'a> = Spec<'a, IgnoredAny, IgnoredAny>;

#[derive(Debug, Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    spec: Option<PodSpec<'a>>,
}

#[derive(Debug, Deserialize)]
struct JobTemplate<'a> {
    #[serde(borrow)]
    spec: Option<JobSpec<'a>>,
}

#[derive(Debug, Deserialize)]
struct JobSpec<'a> {
    #[serde(borrow)]
    template: Option<Template<'a>>,
}

#[derive(Debug, Deserialize)]
struct Container<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    image: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct Volume<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    image: Option<VolumeImage<'a>>,
}

#[derive(Debug, Deserialize)]
struct VolumeImage<'a> {
    #[serde(borrow)]
    reference: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
struct PullSecret<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
}

impl Object<'_> {
    /// The most entries of one list or map that are read.
    pub const MAX_ENTRIES: usize = MAX_ENTRIES;

    /// Labels of the object itself; empty when it has none.
    pub fn labels(&self) -> &Labels<'_> {
        labels(self.metadata.as_ref())
    }

    /// Labels that the Pods of its template get; empty when there are none.
    pub fn template_labels(&self) -> &Labels<'_> {
        let template = self.job_template().or(self.template());
        labels(template.and_then(|it| it.metadata.as_ref()))
    }

    /// The name of a list or map that has more than [`Self::MAX_ENTRIES`] entries, of which only
    /// the beginning was read.
    pub fn cut(&self) -> Option<&'static str> {
        let templates = [self.template(), self.job_template()].into_iter().flatten();
        let specs = templates.clone().filter_map(|it| it.spec.as_ref());
        let ephemeral = is_cut(self.ephemeral_containers.as_ref());
        let metadata = templates.filter_map(|it| it.metadata.as_ref());
        let mut metadata = self.metadata.iter().chain(metadata);
        (self.spec.as_ref().and_then(Spec::cut))
            .or_else(|| specs.into_iter().find_map(Spec::cut))
            .or_else(|| ephemeral.then(|| List::EphemeralContainers.as_str()))
            .or_else(|| {
                let cut = |it: &Metadata<'_>| it.labels.as_ref().is_some_and(|it| it.is_cut);
                metadata.any(cut).then_some("labels")
            })
    }

    /// The prefix for a name that the API server will generate.
    pub fn generate_name(&self) -> Option<&str> {
        self.metadata
            .as_ref()?
            .generate_name
            .as_ref()
            .map(Text::as_str)
    }

    /// Whether it is marked as a kubelet's mirror of a static Pod. Anybody can set that mark.
    pub fn is_mirror(&self) -> bool {
        self.annotations().is_some_and(|it| it.mirror.is_some())
    }

    /// Whether it has annotations, which a patch needs to know; `None` if it has no metadata.
    pub fn has_annotations(&self) -> Option<bool> {
        Some(self.metadata.as_ref()?.annotations.is_some())
    }

    /// The note of an earlier admission, or foreign text in its place.
    pub fn note(&self) -> Option<&str> {
        self.annotations()?.note.as_ref().map(Text::as_str)
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.metadata
            .as_ref()
            .is_some_and(|metadata| metadata.deletion_timestamp.is_some())
    }

    /// Names of a Pod's image pull Secrets; `None` if it has no such list.
    pub fn pull_secrets(&self) -> Option<impl Iterator<Item = &str>> {
        let list = self.spec.as_ref()?.image_pull_secrets.as_ref()?;
        let names = list
            .items
            .iter()
            .flatten()
            .filter_map(|it| it.name.as_ref());
        Some(names.map(Text::as_str))
    }

    /// The images of a Pod, from the given lists.
    pub fn pod_images(&self, lists: &[List]) -> impl Iterator<Item = ImageField<'_>> {
        images("/spec", self.spec.as_ref(), lists)
    }

    /// The images of a v1 EphemeralContainers.
    pub fn ephemeral_images(&self) -> impl Iterator<Item = ImageField<'_>> {
        containers(
            "",
            List::EphemeralContainers,
            self.ephemeral_containers.as_ref(),
        )
    }

    /// The images of the Pod template, at `spec.template` and at `spec.jobTemplate.spec.template`.
    pub fn template_images(&self, lists: &[List]) -> impl Iterator<Item = ImageField<'_>> {
        let pod = self.template().and_then(|it| it.spec.as_ref());
        let job = self.job_template().and_then(|it| it.spec.as_ref());
        images("/spec/template/spec", pod, lists).chain(images(
            "/spec/jobTemplate/spec/template/spec",
            job,
            lists,
        ))
    }

    fn annotations(&self) -> Option<&Annotations<'_>> {
        self.metadata.as_ref()?.annotations.as_ref()
    }
}

impl<'a> Object<'a> {
    fn template(&self) -> Option<&Template<'a>> {
        self.spec.as_ref()?.template.as_deref()
    }

    fn job_template(&self) -> Option<&Template<'a>> {
        let job = self.spec.as_ref()?.job_template.as_ref()?;
        job.spec.as_ref()?.template.as_ref()
    }
}

impl<'a, T, J> Spec<'a, T, J> {
    fn list(&self, list: List) -> Option<&Items<Option<Container<'a>>>> {
        match list {
            List::Containers => self.containers.as_ref(),
            List::InitContainers => self.init_containers.as_ref(),
            List::EphemeralContainers => self.ephemeral_containers.as_ref(),
            List::Volumes => None,
        }
    }

    fn cut(&self) -> Option<&'static str> {
        let volumes = is_cut(self.volumes.as_ref()).then_some(List::Volumes);
        let list = List::ALL.into_iter().find(|list| is_cut(self.list(*list)));
        list.or(volumes).map(List::as_str)
    }
}

impl fmt::Display for ImageField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf = if self.list == List::Volumes {
            "image/reference"
        } else {
            "image"
        };
        write!(
            f,
            "{}/{}/{}/{leaf}",
            self.base,
            self.list.as_str(),
            self.index
        )
    }
}

fn is_cut<T>(list: Option<&Items<T>>) -> bool {
    list.is_some_and(|it| it.is_cut)
}

fn labels<'o>(metadata: Option<&'o Metadata<'_>>) -> &'o Labels<'o> {
    static NONE: Labels<'_> = Labels::NONE;
    metadata.and_then(|it| it.labels.as_ref()).unwrap_or(&NONE)
}

fn images<'o, T, J>(
    base: &'static str,
    spec: Option<&'o Spec<'_, T, J>>,
    lists: &[List],
) -> impl Iterator<Item = ImageField<'o>> {
    spec.into_iter().flat_map(move |spec| {
        lists.iter().flat_map(move |&list| {
            let volumes = spec.volumes.as_ref().filter(|_| list == List::Volumes);
            let volumes = volumes.map_or(&[][..], |it| &it.items).iter().enumerate();
            let volumes = volumes.filter_map(move |(index, it)| {
                let volume = it.as_ref()?;
                let image = volume.image.as_ref()?.reference.as_ref()?;
                Some(field(base, list, index, volume.name.as_ref(), image))
            });
            containers(base, list, spec.list(list)).chain(volumes)
        })
    })
}

fn containers<'o>(
    base: &'static str,
    list: List,
    items: Option<&'o Items<Option<Container<'_>>>>,
) -> impl Iterator<Item = ImageField<'o>> {
    let items = items.map_or(&[][..], |it| &it.items).iter().enumerate();
    items.filter_map(move |(index, it)| {
        let container = it.as_ref()?;
        let image = container.image.as_ref()?;
        Some(field(base, list, index, container.name.as_ref(), image))
    })
}

fn field<'o>(
    base: &'static str,
    list: List,
    index: usize,
    name: Option<&'o Text<'_>>,
    image: &'o Text<'_>,
) -> ImageField<'o> {
    ImageField {
        base,
        list,
        index,
        name: name.map_or("", Text::as_str),
        image: image.as_str(),
    }
}
