//! Floods of starts: who gives way, and what is counted.

use super::super::room::MOST;
use super::*;

/// The cgroup of a start of a flood, by its number.
type PathOf = fn(usize) -> String;

/// Starts of different users.
struct Flood {
    starts: Starts,
    criteria: Criteria,
    cgroups: HashMap<String, u64>,
    started: u32,
    reported: usize,
}

impl Flood {
    fn new() -> Self {
        let origin = Origin {
            node: "n".to_owned(),
            boot_id: "b".to_owned(),
        };
        Self {
            starts: Starts::new(origin),
            criteria: corp(),
            cgroups: HashMap::new(),
            started: 0,
            reported: 0,
        }
    }

    /// A start in a cgroup that has others.
    fn begin(&mut self, path: &str, then: &[Evidence]) -> StartId {
        self.started += 1;
        let Evidence::Confirmed(first) = confirmed(Confirmation::Exec) else {
            unreachable!()
        };
        let first = Process {
            pid: self.started,
            time_ns: self.started.into(),
            ..first
        };
        let new = self.cgroups.len() as u64;
        let id = StartId {
            cgroup: *self.cgroups.entry(path.to_owned()).or_insert(new),
            process: Some(first.subject()),
        };
        self.starts.begin(id, path);
        let began = [Evidence::Seen(Sight::Event), Evidence::Confirmed(first)];
        for evidence in began.iter().chain(then) {
            let evidence = evidence.clone();
            let findings = self.starts.observe(id, evidence, &self.criteria, at_ns(1));
            let is_first = |finding: &&Finding| finding.event == Event::Start;
            self.reported += findings.iter().filter(is_first).count();
        }
        id
    }

    fn are_there(&self, ids: &[StartId]) -> Vec<bool> {
        let is_there = |id: &StartId| self.starts.get(*id).is_some();
        ids.iter().map(is_there).collect()
    }

    /// Starts that are neither reported nor counted, and will not be.
    fn missing(&mut self) -> u64 {
        let (findings, counted) = purge(&mut self.starts, 2);
        assert_eq!(findings, []);
        let rows = self.starts.by_id.values();
        let waiting = rows.filter(|row| row.reported.is_none()).count();
        let seen = u64::try_from(self.reported + waiting).unwrap() + counted;
        u64::from(self.started) - seen
    }
}

#[test]
fn a_flood_of_starts_pushes_out_its_own_only_and_nothing_vanishes() {
    let known = [claimed(Source::Containerd, Some("x")), settled()];
    let over = [settled(), Evidence::Removed];
    let kinds: [&[Evidence]; 5] = [&over, &[Evidence::Removed], &[settled()], &[], &known];
    // The cgroup of each start of the flood.
    let paths: [(&str, PathOf); 5] = [
        ("in one cgroup", |_| "/user.slice/u1.slice/s".to_owned()),
        ("in the root", |_| "/".to_owned()),
        ("in a cgroup each", |at| {
            format!("/user.slice/u1.slice/{at}")
        }),
        ("below each other", |at| {
            format!("/user.slice/u1.slice/{}", "a/".repeat(at % 40))
        }),
        ("far below", |at| {
            format!("/user.slice/u1.slice/{}{at}", "a/".repeat(40))
        }),
    ];
    for (what, path) in paths {
        for then in &kinds[..4] {
            let mut flood = Flood::new();
            let mut others = Vec::new();
            for at in 0..2 * MOST {
                flood.begin(&path(at), then);
                if at % 100 == 0 {
                    let kind = kinds[at / 100 % kinds.len()];
                    let pod = format!("/kubepods.slice/pod{}.slice", at % 300);
                    others.extend(
                        [&*pod, "/user.slice/u2.slice/s"].map(|its| flood.begin(its, kind)),
                    );
                }
            }
            let rows = flood.starts.count();
            assert!(rows <= MOST + others.len(), "{what}: {rows}");
            assert!(!flood.are_there(&others).contains(&false), "{what}");
            assert_eq!(flood.missing(), 0, "{what}, {then:?}");
        }
    }
}

/// Whoever floods cannot push out a container that a runtime knows, not even one of their own.
#[test]
fn what_is_least_lost_gives_way_first() {
    let known = [claimed(Source::Containerd, Some("x")), settled()];
    let kinds: [&[Evidence]; 5] = [
        &[settled(), Evidence::Removed],
        &[Evidence::Removed],
        &[settled()],
        &[],
        &known,
    ];
    for (at, stays) in kinds.iter().enumerate().skip(1) {
        let mut flood = Flood::new();
        let first = flood.begin("/s", stays);
        for _ in 1..2 * MOST {
            flood.begin("/s", kinds[at - 1]);
        }
        assert_eq!(flood.are_there(&[first]), [true], "{stays:?}");
    }
    let mut flood = Flood::new();
    let all: Vec<_> = (0..2 * MOST).map(|_| flood.begin("/s", &known)).collect();
    assert!(!flood.are_there(&all).contains(&false));
}

#[test]
fn what_gave_way_while_it_ran_comes_back_when_there_is_room() {
    let mut flood = Flood::new();
    let ids: Vec<_> = (0..MOST).map(|_| flood.begin("/s", &[settled()])).collect();
    let last = flood.begin("/t", &[]);
    let there = flood.are_there(&ids);
    let left_out = flood.starts.take_left_out();
    let gone: Vec<_> = ids
        .iter()
        .zip(&there)
        .filter(|(_, there)| !**there)
        .collect();
    assert!(!gone.is_empty() && left_out.len() == gone.len());
    assert!(
        gone.iter()
            .all(|(id, _)| id.process.is_some_and(|it| left_out.contains(&it)))
    );
    assert!(!flood.starts.has_room());
    assert_eq!(flood.missing(), 0);
    flood.starts.forget(last);
    flood.starts.forget(ids[MOST - 1]);
    assert!(flood.starts.has_room());
}
