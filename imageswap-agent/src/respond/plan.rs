//! Decides which Pod comes next, and when: pure, time is passed in.

use super::Outcome;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// After an eviction the workload is left alone for this long, and twice as long each time it
/// drifts again.
const AFTER_EVICTION: Duration = Duration::from_secs(30);
const LONGEST_AFTER_EVICTION: Duration = Duration::from_mins(30);

/// If the replacement would drift as well, the Pod is checked again after this long, and twice as
/// long each time: the webhook is down, and a dry run costs the API server time.
const WHILE_AWAY: Duration = Duration::from_secs(5);
const LONGEST_WHILE_AWAY: Duration = Duration::from_mins(5);

/// A workload without news for this long starts from the beginning.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);

/// Candidates and workloads that are kept; a node runs a few hundred Pods.
const MOST: usize = 4096;

/// A container of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) start_id: String,
    pub(super) drifts: bool,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// The workload that it belongs to.
    pub(super) owner: Option<String>,
    pub(super) container: String,
    pub(super) container_id: String,
    pub(super) image: String,
}

/// Candidates, and what has been tried.
#[derive(Debug)]
pub(super) struct Plan {
    /// By start id.
    candidates: HashMap<String, Candidate>,
    /// By workload, or by the Pod's UID if it has none; for a container that is not the Pod's own,
    /// by its start.
    patience: HashMap<String, Patience>,
    between: Duration,
    /// Earliest time of the next eviction.
    not_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Patience {
    until: Instant,
    evictions: u32,
    looks: u32,
}

impl Plan {
    /// An empty plan; at most one eviction per `between`.
    pub(super) fn new(between: Duration) -> Self {
        Self {
            candidates: HashMap::new(),
            patience: HashMap::new(),
            between,
            not_before: None,
        }
    }

    /// Keeps a candidate that drifts, and drops one that no longer does.
    pub(super) fn take(&mut self, candidate: Candidate) {
        if !candidate.drifts {
            self.candidates.remove(&candidate.start_id);
        } else if self.candidates.len() < MOST {
            self.candidates
                .insert(candidate.start_id.clone(), candidate);
        }
    }

    /// The candidate to try now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Candidate> {
        self.patience
            .retain(|_, it| now.saturating_duration_since(it.until) < FORGOTTEN_AFTER);
        if self.not_before.is_some_and(|at| now < at) || self.patience.len() >= MOST {
            return None;
        }
        let due = |candidate: &&Candidate| {
            let is_over = |key: &str| self.patience.get(key).is_none_or(|it| it.until <= now);
            is_over(key(candidate)) && is_over(&candidate.start_id)
        };
        let next = self.candidates.values().filter(due);
        // The one that has waited longest; ties are broken consistently.
        let waited = |it: &&Candidate| self.patience.get(key(it)).map(|it| it.until);
        next.min_by(|a, b| (waited(a), &a.start_id).cmp(&(waited(b), &b.start_id)))
            .cloned()
    }

    /// Records an outcome.
    pub(super) fn done(&mut self, candidate: &Candidate, outcome: Outcome, now: Instant) {
        // A foreign container in a Pod's sandbox must not delay checks of the workload's own.
        let key = match outcome {
            Outcome::Foreign => &candidate.start_id,
            _ => key(candidate),
        };
        let before = self.patience.get(key).copied();
        let mut patience = before.unwrap_or(Patience {
            until: now,
            evictions: 0,
            looks: 0,
        });
        match outcome {
            Outcome::Evicted | Outcome::WouldEvict => {
                patience.until =
                    now + doubled(AFTER_EVICTION, patience.evictions, LONGEST_AFTER_EVICTION);
                patience.evictions += 1;
                patience.looks = 0;
                self.not_before = Some(now + self.between);
            }
            Outcome::NotSwapped
            | Outcome::Foreign
            | Outcome::Denied
            | Outcome::Blocked
            | Outcome::Failed => {
                patience.until = now + doubled(WHILE_AWAY, patience.looks, LONGEST_WHILE_AWAY);
                patience.looks += 1;
            }
            Outcome::Refused | Outcome::Gone => {}
        }
        // An evicted Pod ends, and a Pod that is never evicted is not checked again.
        if !matches!(
            outcome,
            Outcome::NotSwapped
                | Outcome::Foreign
                | Outcome::Denied
                | Outcome::Blocked
                | Outcome::Failed
        ) {
            self.candidates.retain(|_, it| it.uid != candidate.uid);
        }
        self.patience.insert(key.to_owned(), patience);
    }
}

fn key(candidate: &Candidate) -> &str {
    candidate.owner.as_ref().unwrap_or(&candidate.uid)
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(pod: &str, owner: &str) -> Candidate {
        Candidate {
            start_id: format!("boot/{pod}"),
            drifts: true,
            namespace: "team-a".to_owned(),
            name: pod.to_owned(),
            uid: pod.to_owned(),
            owner: Some(owner.to_owned()),
            container: "app".to_owned(),
            container_id: pod.to_owned(),
            image: "nginx".to_owned(),
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds of all tries within an hour, if each try ends with `outcome` and drifts again.
    fn tries(outcome: Outcome) -> Vec<u64> {
        let start = Instant::now();
        let mut plan = Plan::new(10 * SECOND);
        let mut tried = Vec::new();
        for second in 0..3600 {
            let now = start + u32::try_from(second).unwrap() * SECOND;
            plan.take(candidate(&format!("pod-{}", tried.len()), "web"));
            if let Some(candidate) = plan.next(now) {
                plan.done(&candidate, outcome, now);
                tried.push(second);
            }
        }
        tried
    }

    #[test]
    fn a_workload_that_drifts_again_and_again_is_left_alone_longer_and_longer() {
        let tried = tries(Outcome::Evicted);
        assert_eq!(tried, [0, 30, 90, 210, 450, 930, 1890], "seconds");
    }

    #[test]
    fn while_the_webhook_is_away_it_is_looked_at_less_and_less() {
        let tried = tries(Outcome::NotSwapped);
        assert_eq!(tried.get(..6), Some(&[0, 5, 15, 35, 75, 155][..]));
        let gaps: Vec<_> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps.iter().max(), Some(&300));
    }

    #[test]
    fn a_container_that_is_not_the_pods_own_keeps_no_other_waiting() {
        let now = Instant::now();
        let mut plan = Plan::new(SECOND);
        plan.take(candidate("a-foreign", "web"));
        plan.take(candidate("b-own", "web"));
        let first = plan.next(now).unwrap();
        assert_eq!(first.uid, "a-foreign");
        plan.done(&first, Outcome::Foreign, now);
        let own = plan.next(now).unwrap();
        assert_eq!(own.uid, "b-own");
        // The status of the other one's Pod may only be late.
        plan.done(&own, Outcome::Refused, now);
        assert_eq!(plan.next(now), None);
        let later = plan.next(now + WHILE_AWAY).map(|it| it.uid);
        assert_eq!(later.as_deref(), Some("a-foreign"));
    }

    #[test]
    fn two_workloads_wait_for_the_nodes_own_limit() {
        let now = Instant::now();
        let mut plan = Plan::new(10 * SECOND);
        plan.take(candidate("a", "web"));
        plan.take(candidate("b", "db"));
        let first = plan.next(now).unwrap();
        plan.done(&first, Outcome::Evicted, now);
        assert_eq!(plan.next(now + 9 * SECOND), None);
        let second = plan.next(now + 10 * SECOND).unwrap();
        assert_ne!(first.uid, second.uid);
    }

    #[test]
    fn what_no_longer_drifts_is_dropped() {
        let now = Instant::now();
        let mut plan = Plan::new(SECOND);
        plan.take(candidate("a", "web"));
        plan.take(Candidate {
            drifts: false,
            ..candidate("a", "web")
        });
        assert_eq!(plan.next(now), None);
        plan.take(candidate("b", "web"));
        let refused = plan.next(now).unwrap();
        plan.done(&refused, Outcome::Refused, now);
        assert_eq!(plan.next(now + 600 * SECOND), None, "never is never");
    }
}
