//! Probes, as a kubelet makes them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Problem, connect};
use super::container::Probe;

/// A kubelet probes every few seconds, starting at an unknown time. So probes are made once a
/// second, each on its own connection as a kubelet does, and [`Probes::count`] tries every way to
/// choose among them.
const EVERY: Duration = Duration::from_secs(1);

/// The outcome of probes that were made once a second.
#[derive(Debug, Clone)]
pub struct Probes {
    /// By the second in which each was made: the time of its answer, if it was good and in time.
    answers: Vec<Option<Duration>>,
    period: usize,
    threshold: usize,
    lasted: Duration,
}

/// Probes `addr` for `duration`.
pub(super) async fn probe(addr: SocketAddr, probe: Probe, duration: Duration) -> Probes {
    let start = Instant::now();
    let mut made = JoinSet::new();
    let mut count = 0;
    while EVERY * count < duration {
        sleep_until(start + EVERY * count).await;
        let (path, limit, at) = (probe.path.clone(), probe.timeout, count as usize);
        made.spawn(async move {
            let good = timeout(limit, ask(addr, &path)).await;
            let good = matches!(good, Ok(Ok(true)));
            (at, good.then(|| start.elapsed()))
        });
        count += 1;
    }
    let mut answers = vec![None; count as usize];
    while let Some(answer) = made.join_next().await {
        if let Ok((at, answer)) = answer {
            answers[at] = answer;
        }
    }
    Probes {
        answers,
        period: usize::try_from(probe.period.as_secs() / EVERY.as_secs()).map_or(1, |it| it.max(1)),
        threshold: probe.threshold,
        lasted: start.elapsed(),
    }
}

/// Whether the answer is one that a kubelet accepts as success.
async fn ask(addr: SocketAddr, path: &str) -> Result<bool, Problem> {
    let mut stream = connect(addr, Ipv4Addr::LOCALHOST, None).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: kube-probe/1.33\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(1 << 16).read_to_end(&mut answer).await?;
    let status = answer
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| rest.first());
    Ok(matches!(status, Some(b'2' | b'3')))
}

impl Probes {
    /// How many probes were made, and how many of them failed.
    pub fn failed(&self) -> (usize, usize) {
        let failed = self.answers.iter().filter(|answer| answer.is_none());
        (self.answers.len(), failed.count())
    }

    /// Whether a kubelet would have acted: restarted the container, or removed the Pod from its
    /// Service.
    pub fn would_act(&self) -> bool {
        (0..self.answers.len()).any(|first| {
            let chosen = self.answers[first..].iter().step_by(self.period);
            let failed = chosen
                .take(self.threshold)
                .filter(|answer| answer.is_none());
            failed.count() == self.threshold
        })
    }

    /// The longest time without a good answer.
    pub fn age(&self) -> Duration {
        let mut times: Vec<_> = self.answers.iter().copied().flatten().collect();
        times.sort();
        times.push(self.lasted);
        let mut before = Duration::ZERO;
        let gaps = times.iter().map(|time| {
            let gap = time.saturating_sub(before);
            before = *time;
            gap
        });
        gaps.max().unwrap_or(self.lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(failed: &[usize], period: usize, threshold: usize) -> Probes {
        let answer =
            |at: usize| (!failed.contains(&at)).then(|| EVERY * u32::try_from(at).unwrap());
        Probes {
            answers: (0..30).map(answer).collect(),
            period,
            threshold,
            lasted: EVERY * 30,
        }
    }

    #[test]
    fn a_kubelet_acts_on_failures_in_a_row_of_its_own_probes() {
        assert!(!probes(&[], 10, 3).would_act());
        assert!(!probes(&[3, 13], 10, 3).would_act());
        assert!(probes(&[3, 13, 23], 10, 3).would_act());
        assert!(!probes(&[3, 4, 5, 6, 7], 10, 3).would_act());
        assert!(probes(&[3, 5], 2, 2).would_act());
        assert!(!probes(&[3, 4], 2, 2).would_act());
    }

    #[test]
    fn the_age_is_the_longest_time_without_an_answer() {
        assert_eq!(probes(&[], 10, 3).age(), EVERY);
        assert_eq!(probes(&[4, 5, 6], 10, 3).age(), EVERY * 4);
        assert_eq!(
            probes(&(0..30).collect::<Vec<_>>(), 10, 3).age(),
            EVERY * 30
        );
    }
}
