//! Chooses the connection that is closed to make room for a new one.
//!
//! The connection that has proven least is closed:
//!
//! 1. one without a good answer: first of a peer with unusually many, then the one that the server has waited
//!    for the longest;
//! 2. one that had good answers, but is not in use: first of a peer with unusually many, then the one whose
//!    last good answer is the oldest;
//! 3. one that is in use, in the same order.
//!
//! A new client needs some time until its first good answer. If more than half of the connections had one, these are
//! closed first. Otherwise a crowd that gets good answers could keep new clients out.
//!
//! A connection whose request is being answered is never closed. Clients that prove who they are go last.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

/// A peer with fewer connections of a kind than this share of all places is not a crowd.
const CROWD_SHARE: usize = 16;

/// What counts of a connection that may make room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) id: u64,
    pub(super) peer: IpAddr,
    /// Whether the client proved who it is.
    pub(super) trusted: bool,
    /// Whether its request is being answered.
    pub(super) busy: bool,
    pub(super) standing: Standing,
}

/// How much a connection has proven, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It had no good answer. How long the server has waited for the client, in microseconds.
    Unproven { waited: Reverse<u64> },
    /// It had its last good answer in this tick.
    Answered { at: u32 },
    /// The same, after many others in a row.
    InUse { at: u32 },
}

impl Standing {
    pub(super) fn is_proven(self) -> bool {
        !matches!(self, Self::Unproven { .. })
    }

    fn level(self) -> u8 {
        match self {
            Self::Unproven { .. } => 0,
            Self::Answered { .. } => 1,
            Self::InUse { .. } => 2,
        }
    }
}

/// The connection that makes room among `candidates`, which share so many places.
pub(super) fn victim(candidates: &[Candidate], places: usize) -> Option<u64> {
    let mut crowds = HashMap::new();
    for it in candidates {
        *crowds
            .entry((it.peer, it.standing.is_proven()))
            .or_default() += 1;
    }
    let crowd = |it: &Candidate| -> usize {
        let count: usize = crowds[&(it.peer, it.standing.is_proven())];
        count / (places / CROWD_SHARE).max(1)
    };
    let least = |trusted| {
        let group = || candidates.iter().filter(move |it| it.trusted == trusted);
        let proven = group().filter(|it| it.standing.is_proven()).count();
        let proven_first = proven > places / 2;
        let free = group().filter(|it| !it.busy);
        free.min_by_key(|it| {
            let later = it.standing.is_proven() != proven_first;
            let (level, crowd) = (it.standing.level(), Reverse(crowd(it)));
            (later, level, crowd, it.standing, it.id)
        })
    };
    let victim = least(false).or_else(|| least(true));
    victim.map(|it| it.id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACES: usize = 64;

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![
            2 => (0..1000u64).prop_map(|waited| Standing::Unproven { waited: Reverse(waited) }),
            1 => (1..100u32).prop_map(|at| Standing::Answered { at }),
            1 => (1..100u32).prop_map(|at| Standing::InUse { at }),
        ]
    }

    /// A full table of clients from few addresses.
    fn tables(
        trusted: impl Strategy<Value = bool> + Clone,
    ) -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0..4u8, trusted, any::<bool>(), standing());
        prop::collection::vec(one, 1..=PLACES).prop_map(|all| {
            let numbered = (0..).zip(all);
            let candidate = |(id, (last, trusted, busy, standing))| Candidate {
                id,
                peer: IpAddr::from([10, 0, 0, last]),
                trusted,
                busy,
                standing,
            };
            numbered.map(candidate).collect()
        })
    }

    fn chosen(table: &[Candidate], places: usize) -> Option<Candidate> {
        let id = victim(table, places)?;
        table.iter().copied().find(|it| it.id == id)
    }

    fn fixed_seed() -> ProptestConfig {
        ProptestConfig {
            rng_seed: proptest::test_runner::RngSeed::Fixed(16),
            failure_persistence: None,
            ..ProptestConfig::with_cases(300)
        }
    }

    proptest! {
        #![proptest_config(fixed_seed())]

        #[test]
        fn somebody_makes_room_unless_all_are_busy(table in tables(any::<bool>())) {
            let all_busy = table.iter().all(|it| it.busy);
            let victim = chosen(&table, PLACES);
            prop_assert_eq!(victim.is_none(), all_busy);
            prop_assert!(victim.is_none_or(|it| !it.busy));
        }

        #[test]
        fn known_clients_go_last(table in tables(any::<bool>())) {
            let strangers = table.iter().any(|it| !it.trusted && !it.busy);
            prop_assert!(chosen(&table, PLACES).is_none_or(|it| !it.trusted || !strangers));
        }

        #[test]
        fn an_answered_connection_never_goes_for_one_that_was_not_while_they_are_few(
            table in tables(Just(false)),
        ) {
            let proven = table.iter().filter(|it| it.standing.is_proven()).count();
            let unproven = table.iter().any(|it| !it.standing.is_proven() && !it.busy);
            if proven <= PLACES / 2 && unproven {
                prop_assert!(chosen(&table, PLACES).is_some_and(|it| !it.standing.is_proven()));
            }
        }

        #[test]
        fn a_new_connection_stays_once_answered_ones_are_many(table in tables(Just(false))) {
            let proven = table.iter().filter(|it| it.standing.is_proven()).count();
            let free = table.iter().any(|it| it.standing.is_proven() && !it.busy);
            if proven > PLACES / 2 && free {
                prop_assert!(chosen(&table, PLACES).is_some_and(|it| it.standing.is_proven()));
            }
        }

        #[test]
        fn of_one_address_the_least_of_a_kind_goes(table in tables(Just(false))) {
            let Some(victim) = chosen(&table, PLACES) else { return Ok(()) };
            let kind = victim.standing.is_proven();
            let mut rivals = table
                .iter()
                .filter(|it| !it.busy && it.peer == victim.peer && it.standing.is_proven() == kind);
            prop_assert!(rivals.all(|it| it.standing >= victim.standing));
        }

        #[test]
        fn a_crowd_goes_before_a_handful(
            handful in prop::collection::vec(0..1000u64, 1..PLACES / CROWD_SHARE),
            crowd in prop::collection::vec(0..1000u64, PLACES / CROWD_SHARE..PLACES),
        ) {
            let of_crowd = crowd.iter().map(|waited| (true, *waited));
            let all = handful.iter().map(|waited| (false, *waited)).chain(of_crowd);
            let table: Vec<_> = (0..)
                .zip(all)
                .map(|(id, (crowd, waited))| Candidate {
                    id,
                    peer: IpAddr::from([10, 0, 0, u8::from(crowd)]),
                    trusted: false,
                    busy: false,
                    standing: Standing::Unproven { waited: Reverse(waited) },
                })
                .collect();
            let victim = chosen(&table, PLACES);
            prop_assert!(victim.is_some_and(|it| it.peer == IpAddr::from([10, 0, 0, 1])));
        }
    }
}
