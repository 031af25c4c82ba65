//! The policy's series, which both services have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use imageswap_policy::Policies;

use super::catalogue::{
    POLICY_EXCEPTION_END, POLICY_INFO, POLICY_LAST_LOAD, POLICY_REFUSED, POLICY_RELOAD_FAILURES,
};
use super::{Counter, Exporter, Gauge, NONE, unix_seconds, write_head};

/// The policy metrics that both services have. Clones share the series.
#[derive(Debug, Clone)]
pub struct PolicyMetrics {
    in_force: Arc<ArcSwapOption<PolicyInForce>>,
    last_load: Gauge,
    reload_failures: Counter,
    refused: Gauge,
}

/// Series that have to disappear together with their policy, which a recorder's gauge cannot do.
#[derive(Debug)]
pub(super) struct PolicyInForce {
    set_revision: String,
    source: &'static str,
    /// When exceptions end, in seconds since 1970, by policy and pattern.
    exceptions: BTreeMap<(String, String), i64>,
}

impl PolicyMetrics {
    pub(super) fn register(exporter: &Exporter) -> Self {
        Self {
            in_force: Arc::clone(&exporter.policy),
            last_load: exporter.gauge(&POLICY_LAST_LOAD, NONE),
            reload_failures: exporter.counter(&POLICY_RELOAD_FAILURES, NONE),
            refused: exporter.gauge(&POLICY_REFUSED, NONE),
        }
    }

    /// A set of policies came into force. `source` is the kind of source, such as `maps`.
    pub fn loaded(&self, policies: &Policies, source: &'static str) {
        let mut exceptions = BTreeMap::new();
        for policy in policies {
            for (pattern, last_day) in policy.exceptions() {
                // Through the whole of its last day, in UTC.
                let next = last_day.next_day().unwrap_or(last_day);
                let end = next.midnight().assume_utc().unix_timestamp();
                // If two exceptions are about the same images, the later end counts.
                exceptions
                    .entry((policy.name().to_owned(), pattern.to_owned()))
                    .and_modify(|known: &mut i64| *known = end.max(*known))
                    .or_insert(end);
            }
        }
        self.in_force.store(Some(Arc::new(PolicyInForce {
            set_revision: policies.set_revision().to_owned(),
            source,
            exceptions,
        })));
        self.last_load.set(unix_seconds(SystemTime::now()));
    }

    /// The source changed, and the new content cannot be used.
    pub fn reload_failed(&self) {
        self.reload_failures.increment(1);
    }

    /// Sets how many texts have a newest version that cannot be used.
    pub fn set_refused(&self, texts: usize) {
        self.refused
            .set(f64::from(u32::try_from(texts).unwrap_or(u32::MAX)));
    }
}

impl PolicyInForce {
    /// Appends the series to `text`.
    pub(super) fn write(&self, text: &mut String) {
        write_head(text, &POLICY_INFO);
        let _infallible = writeln!(
            text,
            "{}{{set_revision=\"{}\",source=\"{}\"}} 1\n",
            POLICY_INFO.name,
            escape(&self.set_revision),
            self.source,
        );
        if self.exceptions.is_empty() {
            return;
        }
        write_head(text, &POLICY_EXCEPTION_END);
        for ((policy, pattern), end) in &self.exceptions {
            let _infallible = writeln!(
                text,
                "{}{{policy=\"{}\",pattern=\"{}\"}} {end}",
                POLICY_EXCEPTION_END.name,
                escape(policy),
                escape(pattern),
            );
        }
        text.push('\n');
    }
}

/// Escapes a label value for the exposition format.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use imageswap_policy::document;

    use super::*;

    fn policies(spec: &str) -> Policies {
        let text = format!(
            "apiVersion: imageswap.io/v1alpha1\nkind: ImageSwapPolicy\nmetadata: {{name: corp}}\nspec: {{{spec}}}"
        );
        Policies::new(document::load("test", &text).unwrap().policies)
    }

    #[test]
    fn only_what_is_in_force_is_shown() {
        let exporter = Exporter::new();
        let policy = exporter.policy_metrics();
        assert!(!exporter.render().contains(POLICY_INFO.name));
        let first = policies(
            "rules: [{from: '**', to: r.io}], exceptions: \
             [{pattern: 'a.io/**', until: 2027-01-31, reason: x}, {pattern: 'a.io/**', until: 2026-12-31, reason: y}]",
        );
        policy.loaded(&first, "cluster");
        let text = exporter.render();
        let end = r#"imageswap_policy_exception_end_timestamp_seconds{policy="corp",pattern="a.io/**"} 1801440000"#;
        assert_eq!(text.lines().filter(|it| *it == end).count(), 1, "{text}");
        let second = policies("rules: [{from: '**', to: s.io}]");
        policy.loaded(&second, "cluster");
        let text = exporter.render();
        let info = format!(
            "imageswap_policy_info{{set_revision=\"{}\",source=\"cluster\"}} 1",
            second.set_revision()
        );
        assert!(text.lines().any(|it| it == info), "{text}");
        assert!(!text.contains(first.set_revision()), "{text}");
        assert!(!text.contains(POLICY_EXCEPTION_END.name), "{text}");
    }

    #[test]
    fn reload_failures_exist_from_the_start() {
        let exporter = Exporter::new();
        let policy = exporter.policy_metrics();
        let shows = |line: &str| exporter.render().lines().any(|it| it == line);
        assert!(shows("imageswap_policy_reload_failures_total 0"));
        assert!(shows("imageswap_policy_refused 0"));
        policy.reload_failed();
        policy.set_refused(2);
        assert!(shows("imageswap_policy_reload_failures_total 1"));
        assert!(shows("imageswap_policy_refused 2"));
        policy.set_refused(0);
        assert!(shows("imageswap_policy_refused 0"));
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
