//! Which Pods a policy speaks of.

use crate::decision::Scope;
use std::collections::BTreeMap;

/// Which Pods a policy speaks of. Containers that no Pod owns are in every scope but [`Self::Nothing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScopeRule {
    /// No opinion on anything.
    Nothing,
    /// By labels, as ImageSwap: a namespace opts in, an object opts out.
    Labels {
        /// Label of the namespace that must be `enabled`.
        opt_in: String,
        /// Label of the object that must not be `disabled`.
        opt_out: String,
    },
}

impl ScopeRule {
    /// Whether the policy speaks of `scope`; what is unknown does not exclude.
    pub(crate) fn covers(&self, scope: Scope<'_>) -> bool {
        let Self::Labels { opt_in, opt_out } = self else {
            return false;
        };
        let Scope::Pod(pod) = scope else { return true };
        let has = |labels: &BTreeMap<String, String>, key: &str, value: &str| {
            labels.get(key).is_some_and(|it| it == value)
        };
        pod.namespace_labels
            .is_none_or(|it| has(it, opt_in, "enabled"))
            && pod.labels.is_none_or(|it| !has(it, opt_out, "disabled"))
    }
}
