//! AdmissionReviews as JSON: the only module that knows their shape.
//!
//! A review is read into borrowed structures that name the few fields that matter; everything else is skipped without
//! being built. Strings borrow from the body, except the few that the API server has to escape.
//! The shape is that of `admission.k8s.io/v1` and `v1beta1`, which differ in nothing that is read or written here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::patch::{Patch, write_string};

/// A review's request, and the version to answer in.
#[derive(Debug)]
pub struct Review<'a> {
    /// Version that the request was sent in.
    pub version: Version,
    /// What is asked.
    pub request: Request<'a>,
    /// Why [`Request::object`] is missing although something was sent in its place.
    pub unusable: Option<serde_json::Error>,
}

/// Version of the AdmissionReview API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `admission.k8s.io/v1`
    V1,
    /// `admission.k8s.io/v1beta1`
    V1Beta1,
}

/// Why a body is no review.
#[derive(Debug, thiserror::Error)]
pub enum NotAReview {
    /// It is no JSON, or JSON of another shape.
    #[error("the body is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// It says that it is something else.
    #[error(
        "the body is no AdmissionReview: expected kind AdmissionReview of admission.k8s.io/v1 or \
         admission.k8s.io/v1beta1, found kind {kind:?} of {api_version:?}"
    )]
    Kind {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        api_version: String,
    },
    /// It asks nothing.
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

/// What the API server asks about. `O` is the form that its objects are read into.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Request<'a, O = Object<'a>> {
    /// Identifies the request; the answer repeats it.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// Group, version and kind of the object.
    #[serde(borrow, default)]
    pub kind: Kind<'a>,
    /// The part of the resource that is concerned, such as `ephemeralcontainers`.
    #[serde(borrow)]
    pub sub_resource: Option<Text<'a>>,
    /// Name of the object; empty when the API server is to make one.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// Namespace of the object; none for what is cluster-scoped.
    #[serde(borrow)]
    pub namespace: Option<Text<'a>>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(borrow)]
    pub operation: Option<Text<'a>>,
    /// The object as it would be stored; none on DELETE.
    pub object: Option<O>,
    /// The object as it is stored; on UPDATE and DELETE.
    pub old_object: Option<O>,
}

/// Group and kind of an object.
#[derive(Debug, Default, Deserialize)]
pub struct Kind<'a> {
    /// API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// Kind, such as `Pod`.
    #[serde(borrow, default)]
    pub kind: Cow<'a, str>,
}

/// A Pod, or an object with a Pod template at one of the places where Kubernetes' own kinds have it.
#[derive(Debug, Deserialize)]
pub struct Object<'a> {
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
}

/// A string that borrows also where it is optional, which a bare `Option<Cow<str>>` does not.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A list of a Pod's specification whose items name images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// `containers`
    Containers,
    /// `initContainers`, sidecars among them
    InitContainers,
    /// `ephemeralContainers`
    EphemeralContainers,
    /// `volumes`, for volumes of type `image`
    Volumes,
}

/// One place in an object that names an image. Displays as a JSON Pointer (RFC 6901).
#[derive(Debug, Clone, Copy)]
pub struct ImageField<'o> {
    base: &'static str,
    list: List,
    index: usize,
    /// Name of the container or volume; empty when it has none.
    pub name: &'o str,
    /// The image as written.
    pub image: &'o str,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "O: Deserialize<'de>"))]
struct Envelope<'a, O> {
    #[serde(borrow, rename = "apiVersion", default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Request<'a, O>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    generate_name: Option<Text<'a>>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<Annotations>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    /// Set by kubelets on the mirror Pods of static Pods.
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow)]
    containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    init_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    ephemeral_containers: Option<Vec<Container<'a>>>,
    #[serde(borrow)]
    volumes: Option<Vec<Volume<'a>>>,
    #[serde(borrow)]
    template: Option<Box<Template<'a>>>,
    #[serde(borrow)]
    job_template: Option<Box<Template<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Template<'a> {
    #[serde(borrow)]
    spec: Option<Spec<'a>>,
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

impl<'a> Review<'a> {
    /// Reads a request's body.
    ///
    /// An object that cannot be read does not spoil the review: there is still a request to answer.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotAReview> {
        match serde_json::from_slice::<Envelope<'a, Object<'a>>>(body) {
            Ok(envelope) => Self::open(envelope, None),
            Err(error) => {
                let envelope: Envelope<'a, IgnoredAny> = serde_json::from_slice(body)?;
                Self::open(envelope.without_objects(), Some(error))
            }
        }
    }

    fn open(
        envelope: Envelope<'a, Object<'a>>,
        unusable: Option<serde_json::Error>,
    ) -> Result<Self, NotAReview> {
        let Envelope {
            api_version,
            kind,
            request,
        } = envelope;
        let version = match (&*kind, &*api_version) {
            ("AdmissionReview", "admission.k8s.io/v1") => Version::V1,
            ("AdmissionReview", "admission.k8s.io/v1beta1") => Version::V1Beta1,
            _ => {
                let (kind, api_version) = (kind.into_owned(), api_version.into_owned());
                return Err(NotAReview::Kind { kind, api_version });
            }
        };
        let request = request.ok_or(NotAReview::NoRequest)?;
        Ok(Self {
            version,
            request,
            unusable,
        })
    }

    /// The answer that allows the request, changed by `patch`.
    pub fn allow(&self, patch: &Patch) -> Vec<u8> {
        let mut answer = Vec::with_capacity(256 + patch.base64_len());
        answer.extend_from_slice(br#"{"apiVersion":""#);
        answer.extend_from_slice(self.version.as_str().as_bytes());
        answer.extend_from_slice(br#"","kind":"AdmissionReview","response":{"uid":"#);
        write_string(&mut answer, &self.request.uid);
        answer.extend_from_slice(br#","allowed":true"#);
        if !patch.is_empty() {
            answer.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
            patch.write_base64(&mut answer);
            answer.push(b'"');
        }
        answer.extend_from_slice(b"}}");
        answer
    }
}

impl<'a> Envelope<'a, IgnoredAny> {
    fn without_objects(self) -> Envelope<'a, Object<'a>> {
        let Self {
            api_version,
            kind,
            request,
        } = self;
        let request = request.map(|request| Request {
            uid: request.uid,
            kind: request.kind,
            sub_resource: request.sub_resource,
            name: request.name,
            namespace: request.namespace,
            operation: request.operation,
            object: None,
            old_object: None,
        });
        Envelope {
            api_version,
            kind,
            request,
        }
    }
}

impl Version {
    /// The version as `apiVersion` names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

impl Object<'_> {
    /// Labels of the object itself; empty when it has none.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata
            .as_ref()
            .and_then(|metadata| metadata.labels.as_ref())
            .unwrap_or(&NONE)
    }

    /// The prefix that the API server is to make a name from.
    pub fn generate_name(&self) -> Option<&str> {
        self.metadata
            .as_ref()?
            .generate_name
            .as_ref()
            .map(Text::as_str)
    }

    /// Whether it is a kubelet's mirror of a static Pod. No kubelet ever starts one.
    pub fn is_mirror(&self) -> bool {
        let annotations = self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.annotations.as_ref());
        annotations.is_some_and(|annotations| annotations.mirror.is_some())
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.metadata
            .as_ref()
            .is_some_and(|metadata| metadata.deletion_timestamp.is_some())
    }

    /// The images of a Pod, from the given lists.
    pub fn pod_images(&self, lists: &[List]) -> impl Iterator<Item = ImageField<'_>> {
        images("/spec", self.spec.as_ref(), lists)
    }

    /// The images of the Pod template, at `spec.template` and at `spec.jobTemplate.spec.template`.
    pub fn template_images(&self, lists: &[List]) -> impl Iterator<Item = ImageField<'_>> {
        let spec = self.spec.as_ref();
        let job = spec.and_then(|spec| spec.job_template.as_ref()?.spec.as_ref());
        images("/spec/template/spec", spec.and_then(Spec::pod), lists).chain(images(
            "/spec/jobTemplate/spec/template/spec",
            job.and_then(Spec::pod),
            lists,
        ))
    }
}

impl<'a> Spec<'a> {
    /// The Pod's specification in a template.
    fn pod(&self) -> Option<&Self> {
        self.template.as_ref()?.spec.as_ref()
    }

    fn containers(&self, list: List) -> &[Container<'a>] {
        let containers = match list {
            List::Containers => &self.containers,
            List::InitContainers => &self.init_containers,
            List::EphemeralContainers => &self.ephemeral_containers,
            List::Volumes => &None,
        };
        containers.as_deref().unwrap_or_default()
    }

    fn image_volumes(&self, list: List) -> &[Volume<'a>] {
        let volumes = if list == List::Volumes {
            self.volumes.as_deref()
        } else {
            None
        };
        volumes.unwrap_or_default()
    }
}

impl Text<'_> {
    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl List {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Containers,
        Self::InitContainers,
        Self::EphemeralContainers,
        Self::Volumes,
    ];

    const fn key(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
            Self::EphemeralContainers => "ephemeralContainers",
            Self::Volumes => "volumes",
        }
    }
}

impl fmt::Display for ImageField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf = if self.list == List::Volumes {
            "image/reference"
        } else {
            "image"
        };
        write!(f, "{}/{}/{}/{leaf}", self.base, self.list.key(), self.index)
    }
}

fn images<'o>(
    base: &'static str,
    spec: Option<&'o Spec<'_>>,
    lists: &[List],
) -> impl Iterator<Item = ImageField<'o>> {
    spec.into_iter().flat_map(move |spec| {
        lists.iter().flat_map(move |&list| {
            let field = move |index, name: &'o Option<Text<'_>>, image: &'o Text<'_>| ImageField {
                base,
                list,
                index,
                name: name.as_ref().map_or("", Text::as_str),
                image: image.as_str(),
            };
            let containers = spec
                .containers(list)
                .iter()
                .enumerate()
                .filter_map(move |(i, it)| Some(field(i, &it.name, it.image.as_ref()?)));
            let volumes = spec
                .image_volumes(list)
                .iter()
                .enumerate()
                .filter_map(move |(i, it)| {
                    Some(field(i, &it.name, it.image.as_ref()?.reference.as_ref()?))
                });
            containers.chain(volumes)
        })
    })
}

#[cfg(test)]
mod tests;
