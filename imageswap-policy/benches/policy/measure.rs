//! Time and allocations of a function.

use std::hint::black_box;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region};

/// Timed batches; the median of this many is stable where a mean is not.
const BATCHES: usize = 201;
/// The fewest batches, and the time that is enough for more.
const FEWEST: usize = 5;
const ENOUGH: Duration = Duration::from_secs(3);
/// Long enough that reading the clock costs nothing in comparison.
const BATCH: Duration = Duration::from_millis(1);

/// The cost of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Nanoseconds, the median of all batches.
    pub(crate) median: f64,
    /// Nanoseconds of the fifth and the ninety-fifth batch in a hundred.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Calls of the allocator, on average over the inputs.
    pub(crate) allocations: f64,
}

/// Measures `work` over `inputs`, in rotation.
pub(crate) fn measure<'i, R>(inputs: &[&'i str], work: impl Fn(&'i str) -> R) -> Measured {
    let turn = || {
        for input in inputs {
            black_box(work(black_box(input)));
        }
    };
    // What is made only once, such as a regex's cache, is not part of a call.
    turn();
    let region = Region::new(&INSTRUMENTED_SYSTEM);
    turn();
    let change = region.change();
    let allocations = change.allocations + change.reallocations;

    let mut turns = 1_u32;
    while time(turns, turn) < BATCH && turns < 1 << 24 {
        turns *= 2;
    }
    let calls = f64::from(turns) * number(inputs.len());
    let begin = Instant::now();
    let mut batches: Vec<f64> = (0..BATCHES)
        .take_while(|at| *at < FEWEST || begin.elapsed() < ENOUGH)
        .map(|_| time(turns, turn).as_secs_f64() * 1e9 / calls)
        .collect();
    batches.sort_by(f64::total_cmp);
    let (count, last) = (batches.len(), batches.len() - 1);
    Measured {
        median: batches[count / 2],
        low: batches[count / 20],
        high: batches[last - count / 20],
        allocations: number(allocations) / number(inputs.len()),
    }
}

fn time(turns: u32, turn: impl Fn()) -> Duration {
    let start = Instant::now();
    for _ in 0..turns {
        turn();
    }
    start.elapsed()
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a small number"))
}
