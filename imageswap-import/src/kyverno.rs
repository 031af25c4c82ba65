//! Kyverno's `Policy` and `ClusterPolicy`, of all versions of `kyverno.io`.

mod conditions;
mod context;
mod exception;
mod image;
pub(crate) mod jmespath;
mod mutate;
mod policy;
mod scope;
mod validate;
mod value;

pub(crate) use policy::{Exceptions, namespace, read};
