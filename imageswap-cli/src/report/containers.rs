//! The life of each container, put together from its findings in any order.

use crate::finding::{Event, Finding, Verdict, Workload};
use crate::moment::Moment;
use imageswap_policy::Reference;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

/// Registry of an image that nobody knows.
pub(super) const UNKNOWN: &str = "(unknown)";

/// The part of a container's life in which it was not approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) start_id: String,
    pub(super) node: String,
    pub(super) namespace: Option<String>,
    pub(super) workload: Option<Workload>,
    pub(super) pod: Option<String>,
    pub(super) container: Option<String>,
    pub(super) container_id: Option<String>,
    pub(super) process: Option<String>,
    pub(super) image: Option<String>,
    pub(super) expected_image: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) registry: String,
    pub(super) verdict: &'static str,
    pub(super) route: String,
    pub(super) reason: String,
    pub(super) rule: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) set_revision: String,
    /// When it began to run without approval.
    pub(super) from: Moment,
    /// Whether that is exact; otherwise it may have begun earlier.
    pub(super) from_is_exact: bool,
    /// When that ended, or the last time at which it is known to have run.
    pub(super) to: Moment,
    pub(super) end: End,
    /// How long it ran without approval within the report's window, at least.
    pub(super) seconds: u64,
}

/// How the part without approval ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    /// The container ended.
    Stopped,
    /// The container was approved from then on, because evidence or policy changed.
    Approved,
    /// It still runs by the last record of its node, or at the end of the window.
    Running,
    /// It ended while no agent watched; `to` is when the next agent began.
    Unseen,
}

/// The times that a node's agents were at work, as far as containers need them.
pub(super) trait Nodes {
    /// When the first agent began that started after `last` and did not find the container any more.
    fn next_agent(&self, node: &str, last: Moment) -> Option<Moment>;
    /// The last record of a node.
    fn last_record(&self, node: &str) -> Option<Moment>;
}

/// All containers, by start.
#[derive(Debug, Default)]
pub(super) struct Containers {
    by_start: HashMap<String, Vec<Point>>,
}

/// A finding, without what is only needed if the container is not approved.
#[derive(Debug)]
struct Point {
    time: Moment,
    event: Event,
    verdict: Verdict,
    set_revision: String,
    /// When the container began, and whether that is exact.
    began: (Moment, bool),
    /// `None` if the verdict is fine.
    finding: Option<Box<Finding>>,
    node: String,
}

/// Time in which the verdict was the same.
struct Segment<'p> {
    from: Moment,
    from_is_exact: bool,
    to: Moment,
    end: End,
    verdict: Verdict,
    point: &'p Point,
}

impl Containers {
    pub(super) fn add(&mut self, finding: Box<Finding>) {
        let by_exec = |micros| finding.time.minus(Duration::from_micros(micros));
        let began = match (finding.started, finding.detect_us) {
            (Some(started), _) => (started.min(finding.time), true),
            (None, Some(micros)) => (by_exec(micros), true),
            (None, None) => (finding.time, finding.event == Event::Start),
        };
        let points = self.by_start.entry(finding.start_id.clone()).or_default();
        points.push(Point {
            time: finding.time,
            event: finding.event,
            verdict: finding.verdict,
            set_revision: finding.policy.set_revision.clone(),
            began,
            node: finding.node.clone(),
            finding: (!finding.verdict.is_fine()).then_some(finding),
        });
    }

    /// Number of starts, approved or not.
    pub(super) fn count(&self) -> usize {
        self.by_start.len()
    }

    /// What ran without approval from `since` to `until`, oldest first.
    pub(super) fn rows(mut self, since: Moment, until: Moment, nodes: &impl Nodes) -> Vec<Row> {
        let mut rows: Vec<_> = self
            .by_start
            .values_mut()
            .filter_map(|points| {
                points.sort_by_key(|point| (point.time, point.event));
                row(points, since, until, nodes)
            })
            .collect();
        rows.sort_by(|a, b| (a.from, &a.start_id).cmp(&(b.from, &b.start_id)));
        rows
    }
}

fn row(points: &[Point], since: Moment, until: Moment, nodes: &impl Nodes) -> Option<Row> {
    let segments = segments(points, until, nodes);
    let inside: Vec<_> = segments
        .iter()
        .filter(|it| !it.verdict.is_fine() && it.from < until && it.to >= since)
        .collect();
    let worst = inside.iter().map(|it| it.verdict).max()?;
    let shown = inside.iter().rev().find(|it| it.verdict == worst)?;
    let (first, last) = (inside.first()?, inside.last()?);
    let length = |it: &&Segment<'_>| it.to.min(until).since(it.from.max(since));
    let finding = shown.point.finding.as_ref()?;
    let pod = finding.pod.as_ref();
    let image = finding.image.as_deref();
    let registry = image.map_or(UNKNOWN, Reference::registry_of);
    Some(Row {
        start_id: finding.start_id.clone(),
        node: finding.node.clone(),
        namespace: pod.map(|pod| pod.namespace.clone()),
        workload: finding.workload().cloned(),
        pod: pod.map(|pod| pod.name.clone()),
        container: finding.container.name.clone(),
        container_id: finding.container.id.clone(),
        process: finding.process().map(str::to_owned),
        image: finding.image.clone(),
        expected_image: finding.expected_image.clone(),
        digest: finding.digest.clone(),
        registry: registry.to_owned(),
        verdict: worst.as_str(),
        route: finding.route.clone(),
        reason: finding.reason.clone(),
        rule: finding.rule.clone(),
        policy: finding.policy.name.clone(),
        set_revision: finding.policy.set_revision.clone(),
        from: first.from,
        from_is_exact: first.from_is_exact,
        to: last.to.min(until),
        end: if last.to > until {
            End::Running
        } else {
            last.end
        },
        seconds: inside.iter().map(length).sum::<Duration>().as_secs(),
    })
}

fn segments<'p>(points: &'p [Point], until: Moment, nodes: &impl Nodes) -> Vec<Segment<'p>> {
    let mut segments: Vec<Segment<'p>> = Vec::new();
    let began = points.iter().map(|point| point.began);
    // An exact time is better than an earlier one that is not.
    let began = began.min_by_key(|(time, is_exact)| (!is_exact, *time));
    for point in points {
        let is_end = point.event == Event::Stopped;
        if let Some(last) = segments.last_mut() {
            last.to = point.time.max(last.from);
            if is_end {
                last.end = End::Stopped;
                return segments;
            }
            // Under the same policies a verdict changes because more is known. What was not known
            // at first was so from the beginning.
            let is_same_policy = last.point.set_revision == point.set_revision;
            let is_learned = last.verdict == Verdict::Unresolved && is_same_policy;
            if last.verdict == point.verdict || is_learned {
                last.verdict = point.verdict;
                last.point = point;
                continue;
            }
            last.end = End::Approved;
        }
        let is_first = segments.is_empty();
        let (from, from_is_exact) = match began {
            Some(began) if is_first => began,
            _ => (point.time, true),
        };
        segments.push(Segment {
            from: from.min(point.time),
            from_is_exact,
            to: point.time,
            end: if is_end { End::Stopped } else { End::Running },
            verdict: point.verdict,
            point,
        });
        if is_end {
            return segments;
        }
    }
    if let (Some(open), Some(last)) = (segments.last_mut(), points.last()) {
        let next = nodes.next_agent(&last.node, last.time);
        (open.to, open.end) = if let Some(next) = next {
            (next, End::Unseen)
        } else {
            let seen = nodes.last_record(&last.node).unwrap_or(last.time);
            (seen.min(until).max(open.to), End::Running)
        };
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::{Record, Text, read, sample};

    fn at(minute: u64) -> Moment {
        let start = Moment::parse("2026-11-28T10:00:00Z").unwrap();
        start.plus(Duration::from_secs(60 * minute))
    }

    /// A node whose agents started at these minutes.
    struct Agents(Vec<u64>, u64);

    impl Nodes for Agents {
        fn next_agent(&self, _node: &str, last: Moment) -> Option<Moment> {
            self.0.iter().map(|it| at(*it)).find(|it| *it > last)
        }

        fn last_record(&self, _node: &str) -> Option<Moment> {
            Some(at(self.1))
        }
    }

    /// Event, minute, verdict, revision.
    type Told = (&'static str, u64, &'static str, &'static str);

    fn rows(told: &[Told], agents: &Agents) -> Vec<Row> {
        let mut containers = Containers::default();
        for (event, minute, verdict, revision) in told {
            let line = sample(event)
                .replace("2026-11-28T10:00:00.000000Z", &at(*minute).rfc3339())
                .replace("\"drift\"", &format!("\"{verdict}\""))
                .replace(
                    "\"set_revision\":\"r\"",
                    &format!("\"set_revision\":\"{revision}\""),
                );
            let Text::Record(record) = read(line.as_bytes()) else {
                panic!("{line}")
            };
            let Record::Finding(finding) = *record else {
                panic!("{line}")
            };
            containers.add(finding);
        }
        containers.rows(at(0), at(60), agents)
    }

    type Case<'a> = (
        &'a str,
        &'a [Told],
        Agents,
        Option<(&'a str, u64, u64, u64, End)>,
    );

    #[test]
    fn the_time_without_approval_follows_from_all_findings() {
        let quiet = || Agents(vec![], 30);
        #[rustfmt::skip]
        let table: [Case<'_>; 13] = [
            ("approved", &[("start", 1, "approved", "r")], quiet(), None),
            ("came and went", &[("start", 1, "drift", "r"), ("stopped", 3, "drift", "r")], quiet(),
                Some(("drift", 1, 3, 120, End::Stopped))),
            ("in any order", &[("stopped", 3, "drift", "r"), ("start", 1, "drift", "r")], quiet(),
                Some(("drift", 1, 3, 120, End::Stopped))),
            ("told twice", &[("start", 1, "drift", "r"), ("start", 1, "drift", "r"), ("stopped", 3, "drift", "r")], quiet(),
                Some(("drift", 1, 3, 120, End::Stopped))),
            ("still runs", &[("start", 1, "drift", "r")], quiet(), Some(("drift", 1, 30, 29 * 60, End::Running))),
            ("runs on after a restart", &[("start", 1, "drift", "r"), ("initial", 10, "drift", "r")], Agents(vec![9], 30),
                Some(("drift", 1, 30, 29 * 60, End::Running))),
            ("ended unseen", &[("start", 1, "drift", "r")], Agents(vec![9], 30), Some(("drift", 1, 9, 8 * 60, End::Unseen))),
            ("resolved later", &[("start", 1, "unresolved", "r"), ("rejudged", 2, "approved", "r")], quiet(), None),
            ("known later", &[("start", 1, "unresolved", "r"), ("rejudged", 2, "drift", "r"), ("stopped", 3, "drift", "r")], quiet(),
                Some(("drift", 1, 3, 120, End::Stopped))),
            ("a policy approves it later", &[("start", 1, "drift", "r"), ("rejudged", 5, "approved", "s")], quiet(),
                Some(("drift", 1, 5, 240, End::Approved))),
            ("a policy that is not known to have approved it before", &[("start", 1, "unresolved", "r"), ("rejudged", 5, "approved", "s")],
                quiet(), Some(("unresolved", 1, 5, 240, End::Approved))),
            ("a policy refuses it later", &[("start", 1, "approved", "r"), ("rejudged", 5, "drift", "s"), ("stopped", 6, "drift", "s")],
                quiet(), Some(("drift", 5, 6, 60, End::Stopped))),
            ("only its end is there", &[("stopped", 6, "drift", "s")], quiet(), Some(("drift", 6, 6, 0, End::Stopped))),
        ];
        for (what, told, agents, expected) in table {
            let rows = rows(told, &agents);
            let found = rows
                .first()
                .map(|row| (row.verdict, row.from, row.to, row.seconds, row.end));
            let expected = expected
                .map(|(verdict, from, to, seconds, end)| (verdict, at(from), at(to), seconds, end));
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn only_the_window_counts() {
        let told = [("start", 0, "drift", "r"), ("stopped", 50, "drift", "r")];
        let mut containers = Containers::default();
        for (event, minute, ..) in told {
            let line = sample(event).replace("2026-11-28T10:00:00.000000Z", &at(minute).rfc3339());
            if let Text::Record(record) = read(line.as_bytes())
                && let Record::Finding(finding) = *record
            {
                containers.add(finding);
            }
        }
        let rows = containers.rows(at(20), at(30), &Agents(vec![], 60));
        let [row] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!((row.from, row.to, row.seconds), (at(0), at(30), 600));
        assert_eq!(row.end, End::Running, "at the end of the window");
    }

    #[test]
    fn a_missed_start_is_not_exact() {
        let exact = |event| {
            let rows = rows(&[(event, 5, "drift", "r")], &Agents(vec![], 30));
            rows[0].from_is_exact
        };
        assert!(exact("start"));
        assert!(!exact("reconciled") && !exact("initial") && !exact("rejudged"));
    }
}
