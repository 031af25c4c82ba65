//! Decides what to do next with the Secret. Pure: time and published state are inputs.
//!
//! A rotation of the authority takes three writes, and everything that a client may see between
//! them verifies:
//!
//! | step | bundle | signs | when |
//! |---|---|---|---|
//! | [`Announce`](Step::Announce) | old, new | old | the old one has lived two thirds of its life |
//! | [`Switch`](Step::Switch) | new, old | new | every configuration has held both for the propagation time |
//! | [`Retire`](Step::Retire) | new | new | the last leaf of the old one expired a propagation time ago |
//!
//! A leaf is served only after it is in the Secret, and every write names the version that it was
//! planned on. So a replica that plans on an old state, or stops between two steps, changes
//! nothing.

#[cfg(test)]
mod simulation;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use imageswap_runtime::tls::{Authority, AuthorityError, Pair, Validity};

use super::state::State;

/// Common name of our authorities.
const AUTHORITY: &str = "ImageSwap webhook CA";

/// Requirements for certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The leaf's names, as [`server_name`](imageswap_runtime::tls::server_name) writes them.
    pub(crate) names: BTreeSet<String>,
    pub(crate) leaf_lifetime: Duration,
    pub(crate) ca_lifetime: Duration,
    /// Longer than any API server takes to use a changed caBundle, and than clocks differ.
    pub(crate) propagation: Duration,
}

/// The next write, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is due until then.
    Rest(SystemTime),
    /// A new leaf of the same authority.
    Renew,
    /// The next authority is made and added to the bundle.
    Announce,
    /// The next authority signs a leaf, and takes over.
    Switch,
    /// The previous authority is removed from the bundle.
    Retire,
    /// Nothing can be reused: a new authority and a new leaf.
    Found,
}

impl Settings {
    /// In the last third of its life an authority waits for propagation, and its successor for the
    /// previous authority's leaves to expire.
    pub(crate) fn shortest_ca_lifetime(&self) -> Duration {
        (self.leaf_lifetime + self.propagation * 2) * 3
    }
}

/// Decides about a Secret. `published` is how long every configuration is known to have held the
/// state's bundle.
pub(crate) fn plan(
    state: &State,
    published: Option<Duration>,
    now: SystemTime,
    settings: &Settings,
) -> Step {
    let signing = state.signing.certificate().validity();
    let next = state
        .next
        .as_ref()
        .map(|next| next.certificate().validity());
    let next = next.filter(|next| next.not_after > now);
    if signing.not_after <= now {
        return next.map_or(Step::Found, |_| Step::Switch);
    }
    let waits = published.map(|published| settings.propagation.saturating_sub(published));
    if next.is_some() && waits == Some(Duration::ZERO) {
        return Step::Switch;
    }
    let renewal = renewal(state, now, settings);
    if renewal.is_some_and(|renewal| renewal <= now) {
        return Step::Renew;
    }
    let retirement =
        (!state.previous.is_empty()).then(|| state.previous_until() + settings.propagation);
    if retirement.is_some_and(|retirement| retirement <= now) {
        return Step::Retire;
    }
    // One rotation at a time, so that the bundle holds at most two authorities.
    let succession = (next.is_none() && retirement.is_none())
        .then(|| if state.rotate { now } else { signing.renewal() });
    if succession.is_some_and(|succession| succession <= now) {
        return Step::Announce;
    }
    let switch = next.and(waits).map(|waits| now + waits);
    let until = [renewal, retirement, succession, switch];
    Step::Rest(
        until
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(signing.not_after),
    )
}

/// The Secret's state after `step`; unchanged for [`Step::Rest`].
pub(crate) fn perform(
    step: Step,
    state: &State,
    now: SystemTime,
    settings: &Settings,
) -> Result<State, AuthorityError> {
    let mut after = state.clone();
    match step {
        Step::Rest(_) => {}
        Step::Found => return found(now, settings),
        Step::Renew => {
            let leaf = issue(&state.signing, &names(state, now, settings), now, settings)?;
            after.leaves_until = after.leaves_until.max(leaf.not_after());
            after.leaf = Some(leaf);
        }
        Step::Announce => {
            after.next = Some(authority(now, settings)?);
            after.rotate = false;
        }
        Step::Switch => {
            let Some(next) = after.next.take() else {
                return Ok(after);
            };
            let leaf = issue(&next, &names(state, now, settings), now, settings)?;
            after.previous_until = Some(state.leaves_until());
            after
                .previous
                .insert(0, state.signing.certificate().clone());
            after.leaves_until = leaf.not_after();
            after.leaf = Some(leaf);
            after.signing = next;
        }
        Step::Retire => {
            after.previous.clear();
            after.previous_until = None;
        }
    }
    Ok(after)
}

/// A first authority and its first leaf.
pub(crate) fn found(now: SystemTime, settings: &Settings) -> Result<State, AuthorityError> {
    let signing = authority(now, settings)?;
    let leaf = issue(&signing, &settings.names, now, settings)?;
    Ok(State {
        signing,
        next: None,
        previous: vec![],
        previous_until: None,
        leaves_until: leaf.not_after(),
        leaf: Some(leaf),
        rotate: false,
    })
}

/// When the leaf has to be replaced; never if a new one would not last longer.
fn renewal(state: &State, now: SystemTime, settings: &Settings) -> Option<SystemTime> {
    let Some(leaf) = state.leaf.as_ref().and_then(Pair::certificate) else {
        return Some(now);
    };
    if !leaf.names().is_superset(&settings.names) {
        return Some(now);
    }
    let limit = state.signing.certificate().validity().not_after;
    let validity = leaf.validity();
    (validity.not_after < limit).then(|| validity.renewal())
}

/// Replicas with different flags would replace each other's leaf forever; so a leaf keeps its names
/// until it is due.
fn names(state: &State, now: SystemTime, settings: &Settings) -> BTreeSet<String> {
    let leaf = state.leaf.as_ref().and_then(Pair::certificate);
    let kept = leaf.filter(|leaf| now < leaf.validity().renewal());
    let kept = kept.map(|leaf| leaf.names().clone()).unwrap_or_default();
    settings.names.union(&kept).cloned().collect()
}

fn authority(now: SystemTime, settings: &Settings) -> Result<Arc<Authority>, AuthorityError> {
    let validity = Validity::from_now(now, settings.ca_lifetime);
    Authority::generate(AUTHORITY, validity).map(Arc::new)
}

/// No leaf outlives its authority, because some clients check that.
fn issue(
    authority: &Authority,
    names: &BTreeSet<String>,
    now: SystemTime,
    settings: &Settings,
) -> Result<Pair, AuthorityError> {
    let limit = authority.certificate().validity().not_after;
    let validity = Validity::from_now(now, settings.leaf_lifetime).ending_by(limit);
    authority.issue(names, validity)
}

#[cfg(test)]
mod tests {
    use imageswap_runtime::tls::verify;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn settings() -> Settings {
        Settings {
            names: BTreeSet::from(["web.ns.svc".to_owned()]),
            leaf_lifetime: DAY * 6,
            ca_lifetime: DAY * 90,
            propagation: Duration::from_mins(5),
        }
    }

    #[test]
    fn one_rotation_step_by_step() {
        let settings = settings();
        let start = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let mut state = found(start, &settings).unwrap();
        let minutes = |minutes| Some(Duration::from_mins(minutes));
        let day = |days| start + DAY * days;
        let propagation = settings.propagation;
        for (line, (now, published, step)) in [
            (day(0), minutes(0), Step::Rest(day(4))),
            (day(4), minutes(0), Step::Renew),
            (day(4), None, Step::Rest(day(8))),
            // Whatever else is due, the served certificate comes first.
            (day(61), None, Step::Renew),
            (day(61), None, Step::Announce),
            // The caBundle of a configuration cannot be patched.
            (day(61), None, Step::Rest(day(65))),
            (
                day(61),
                minutes(4),
                Step::Rest(day(61) + Duration::from_mins(1)),
            ),
            (day(61), minutes(5), Step::Switch),
            (day(61), None, Step::Rest(day(65))),
            (day(65), minutes(99), Step::Renew),
            (day(67), minutes(99), Step::Rest(day(67) + propagation)),
            (day(67) + propagation, None, Step::Retire),
            (day(68), None, Step::Rest(day(69))),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(plan(&state, published, now, &settings), step, "line {line}");
            state = perform(step, &state, now, &settings).unwrap();
            let leaf = state.leaf.as_ref().unwrap();
            verify(state.trusted(), leaf, &settings.names, now).unwrap();
        }
    }

    #[test]
    fn an_expired_authority_makes_way() {
        let settings = settings();
        let start = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let late = start + DAY * 91;
        let state = found(start, &settings).unwrap();
        assert_eq!(plan(&state, None, late, &settings), Step::Found);
        let announced = perform(Step::Announce, &state, start + DAY * 60, &settings).unwrap();
        assert_eq!(plan(&announced, None, late, &settings), Step::Switch);
        // Before that, leaves last as long as they can, and are not replaced needlessly.
        let before = start + DAY * 89;
        assert_eq!(plan(&state, None, before, &settings), Step::Renew);
        let renewed = perform(Step::Renew, &announced, before, &settings).unwrap();
        assert_eq!(
            renewed.leaf.as_ref().unwrap().not_after(),
            Some(start + DAY * 90)
        );
        assert_eq!(
            plan(&renewed, None, before, &settings),
            Step::Rest(start + DAY * 90)
        );
    }

    #[test]
    fn replicas_whose_flags_differ_come_to_rest() {
        let start = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let one = settings();
        let mut other = settings();
        other.names = BTreeSet::from(["10.0.0.1".to_owned()]);
        other.leaf_lifetime = DAY * 2;
        let mut state = found(start, &one).unwrap();
        assert_eq!(plan(&state, None, start, &other), Step::Renew);
        state = perform(Step::Renew, &state, start, &other).unwrap();
        for settings in [&one, &other] {
            assert!(matches!(plan(&state, None, start, settings), Step::Rest(_)));
        }
        // When due, names that are no longer requested are dropped.
        let state = perform(Step::Renew, &state, start + DAY * 2, &one).unwrap();
        let leaf = state.leaf.as_ref().and_then(Pair::certificate).unwrap();
        assert_eq!(leaf.names(), &one.names);
    }

    #[test]
    fn somebody_can_ask_for_another_authority_and_gets_one() {
        let settings = settings();
        let start = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let mut state = found(start, &settings).unwrap();
        state.rotate = true;
        assert_eq!(plan(&state, None, start, &settings), Step::Announce);
        let state = perform(Step::Announce, &state, start, &settings).unwrap();
        assert!(!state.rotate && state.next.is_some());
        assert!(matches!(
            plan(&state, None, start, &settings),
            Step::Rest(_)
        ));
    }
}
