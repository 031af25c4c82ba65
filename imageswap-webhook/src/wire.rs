//! AdmissionReviews as JSON: the only module that knows their shape.
//!
//! A review is read into borrowed structures that name the few fields that matter; everything else
//! is skipped. Strings borrow from the body, except the few that the API server has to escape. The
//! shape is that of `admission.k8s.io/v1` and `v1beta1`, which do not differ in any field that is
//! read or written here.

mod answer;
mod bounded;
mod json;
mod object;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;
use serde_json::value::RawValue;

pub use answer::{MAX_WARNINGS, Verdict};
pub use bounded::Labels;
pub use object::{ImageField, Object};

/// The answer and the log repeat the `uid`, which is a UUID.
const MAX_UID: usize = 256;

/// A review's request, and the version to answer in. `O` is the form that its objects are read into.
#[derive(Debug)]
pub struct Review<'a, O = Object<'a>> {
    /// Version that the request was sent in.
    pub version: Version,
    /// The request.
    pub request: Request<'a, O>,
    /// Why [`Request::object`] is missing although something was sent in its place.
    pub unusable: Option<Unreadable>,
}

/// Version of the AdmissionReview API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `admission.k8s.io/v1`
    V1,
    /// `admission.k8s.io/v1beta1`
    V1Beta1,
}

/// Where and why JSON cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct Unreadable {
    line: usize,
    column: usize,
    reason: &'static str,
}

/// Why a body is not a review.
#[derive(Debug, thiserror::Error)]
pub enum NotAReview {
    /// It is not JSON, or JSON of another shape.
    #[error(
        "the request body is not an AdmissionReview: {0}; send an AdmissionReview of admission.k8s.io/v1 as JSON"
    )]
    Json(#[from] Unreadable),
    /// Its kind or version is another one.
    #[error(
        "the request body is not an AdmissionReview: expected kind \"AdmissionReview\" and apiVersion \
         \"admission.k8s.io/v1\" or \"admission.k8s.io/v1beta1\", found kind {kind:?} and apiVersion {api_version:?}"
    )]
    Kind {
        /// Its `kind`.
        kind: String,
        /// Its `apiVersion`.
        api_version: String,
    },
    /// Its `uid` is longer than one that an API server writes.
    #[error("request.uid has {0} bytes, expected at most {MAX_UID}")]
    Uid(usize),
    /// It has no `uid`, which the answer has to repeat.
    #[error("the AdmissionReview has no request.uid: set it to a UUID, which the answer repeats")]
    NoUid,
    /// It asks nothing.
    #[error("the AdmissionReview has no request: add one with uid, kind, operation and object")]
    NoRequest,
}

/// The API server's request. `O` is the form that its objects are read into.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Request<'a, O = Object<'a>> {
    /// Identifies the request; the answer repeats it.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// Group, version and kind of the object.
    #[serde(borrow, default)]
    pub kind: Kind<'a>,
    /// The subresource, such as `ephemeralcontainers`.
    #[serde(borrow)]
    pub sub_resource: Option<Text<'a>>,
    /// Name of the object; empty if the API server will generate one.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// Namespace of the object; `None` for cluster-scoped objects.
    #[serde(borrow)]
    pub namespace: Option<Text<'a>>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(borrow)]
    pub operation: Option<Text<'a>>,
    /// The user who sent the request.
    #[serde(borrow)]
    pub user_info: Option<UserInfo<'a>>,
    /// The object as it would be stored; `None` on DELETE.
    pub object: Option<O>,
    /// The stored object; on UPDATE and DELETE.
    pub old_object: Option<O>,
}

/// The user who sent the request.
#[derive(Debug, Deserialize)]
pub struct UserInfo<'a> {
    /// The user's name, such as `system:node:worker-1`.
    #[serde(borrow)]
    pub username: Option<Text<'a>>,
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

/// A string that borrows even if it is optional, which a bare `Option<Cow<str>>` does not.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

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

impl<'a> Review<'a> {
    /// Reads a request's body.
    ///
    /// An object that cannot be read does not fail the review: the request can still be answered.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotAReview> {
        if let Ok(envelope) = json::from_slice(body) {
            return open(envelope, None);
        }
        match serde_json::from_slice::<Envelope<'a, Object<'a>>>(body) {
            Ok(envelope) => open(envelope, None),
            Err(error) => {
                let envelope = serde_json::from_slice::<Envelope<'a, IgnoredAny>>(body);
                let envelope = envelope.map_err(Unreadable::from)?;
                open(envelope.without_objects(), Some(error.into()))
            }
        }
    }
}

impl<'a> Review<'a, &'a RawValue> {
    /// Reads a request's body, with objects of any kind as text.
    pub fn parse_text(body: &'a [u8]) -> Result<Self, NotAReview> {
        open(
            serde_json::from_slice(body).map_err(Unreadable::from)?,
            None,
        )
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
            user_info: request.user_info,
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

fn open<O>(
    envelope: Envelope<'_, O>,
    unusable: Option<Unreadable>,
) -> Result<Review<'_, O>, NotAReview> {
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
    if request.uid.is_empty() {
        return Err(NotAReview::NoUid);
    }
    if request.uid.len() > MAX_UID {
        return Err(NotAReview::Uid(request.uid.len()));
    }
    Ok(Review {
        version,
        request,
        unusable,
    })
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self {
            line: error.line(),
            column: error.column(),
            reason: match error.classify() {
                Category::Eof => "the JSON ends too early",
                Category::Io | Category::Syntax => "not JSON, or nested too deeply",
                Category::Data => {
                    "a value has the wrong type, or its field is missing or given twice"
                }
            },
        }
    }
}

impl<O> Request<'_, O> {
    /// The user's name; empty if the review has none.
    pub fn user(&self) -> &str {
        let user = self.user_info.as_ref().and_then(|it| it.username.as_ref());
        user.map_or("", Text::as_str)
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

impl Text<'_> {
    /// The string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests;
