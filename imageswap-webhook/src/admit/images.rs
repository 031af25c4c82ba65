//! Selects the images of an object that a request is about.
//!
//! On UPDATE only those that it changes, by the name of their container: an admitted object stays
//! admitted, and a user is not refused for an image that somebody else wrote.

use std::collections::HashMap;

use crate::metrics::Operation;
use imageswap_policy::manifest::List;

use super::Asked;
use crate::wire::{ImageField, Object, Text};

/// The judged part of the review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A Pod.
    Pod,
    /// The ephemeral containers of a Pod, through its subresource.
    EphemeralContainers,
    /// The same in the form of API servers before 1.22.
    BareEphemeralContainers,
    /// The Pod template of another kind.
    Template,
    /// A subresource without images.
    Nothing,
}

/// An image that a request is about.
pub(super) struct Asks<'r> {
    pub(super) field: ImageField<'r>,
    /// The stored image in its place.
    pub(super) stored: Option<&'r str>,
}

impl Subject {
    pub(super) fn of(asked: &Asked<'_>) -> Self {
        let request = asked.request;
        let core = request.kind.group.is_empty();
        let sub_resource = request.sub_resource.as_ref().map_or("", Text::as_str);
        match (&*request.kind.kind, sub_resource) {
            ("Pod", "ephemeralcontainers") if core => Self::EphemeralContainers,
            ("EphemeralContainers", "ephemeralcontainers") if core => Self::BareEphemeralContainers,
            ("Pod", "") if core => Self::Pod,
            (_, "") => Self::Template,
            _ => Self::Nothing,
        }
    }

    /// The images to decide: all of a new object's, and those that an update changes. Images are
    /// compared for the same container in the same list, which may have moved there.
    pub(super) fn images<'r>(self, asked: &Asked<'r>) -> Vec<Asks<'r>> {
        let old = asked.request.old_object.as_ref();
        let old = old.filter(|_| asked.operation == Operation::Update);
        let stored: HashMap<_, _> = old
            .into_iter()
            .flat_map(|it| self.all(it))
            .map(|it| ((it.list, it.name), it.image))
            .collect();
        self.all(asked.object)
            .map(|field| Asks {
                field,
                stored: stored.get(&(field.list, field.name)).copied(),
            })
            .filter(|it| it.stored != Some(it.field.image))
            .collect()
    }

    /// Whether Kubernetes allows a patch to change such an image; a forbidden change would fail the
    /// whole request.
    pub(super) fn is_mutable(self, asked: &Asked<'_>, field: &ImageField<'_>) -> bool {
        let update = asked.operation == Operation::Update;
        match self {
            Self::Pod if update => matches!(field.list, List::Containers | List::InitContainers),
            Self::Template if update => asked.request.kind.kind != "Job",
            Self::Nothing => false,
            _ => true,
        }
    }

    fn all<'o>(self, object: &'o Object<'_>) -> Box<dyn Iterator<Item = ImageField<'o>> + 'o> {
        match self {
            Self::Pod => Box::new(object.pod_images(&List::ALL)),
            Self::EphemeralContainers => Box::new(object.pod_images(&[List::EphemeralContainers])),
            Self::BareEphemeralContainers => Box::new(object.ephemeral_images()),
            Self::Template => Box::new(object.template_images(&List::ALL)),
            Self::Nothing => Box::new(std::iter::empty()),
        }
    }
}
