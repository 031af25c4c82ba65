//! Floods of starts: who gives way, and what is counted.

use super::super::room::MOST;
use super::*;

/// Starts of different users, each with the time at which it began as its process id.
struct Flood {
    starts: Starts,
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
            started: 0,
            reported: 0,
        }
    }

    /// A start in the cgroup with this number, which has others.
    fn begin(&mut self, cgroup: u64, path: &str, then: &[Evidence]) -> StartId {
        self.started += 1;
        let Evidence::Confirmed(first) = confirmed(Confirmation::Exec) else {
            unreachable!()
        };
        let first = Process {
            pid: self.started,
            time_ns: self.started.into(),
            ..first
        };
        let id = StartId {
            cgroup,
            process: Some(first.subject()),
        };
        self.starts.begin(id, path);
        let began = [Evidence::Seen(Sight::Event), Evidence::Confirmed(first)];
        for evidence in began.iter().chain(then) {
            let findings = self.starts.observe(id, evidence.clone(), &corp(), at_ns(1));
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
    const OVER: &[Evidence] = &[Evidence::Removed];
    let known = [claimed(Source::Containerd, Some("x")), settled()];
    let over = [settled(), Evidence::Removed];
    let another = |at: u32| format!("/kubepods.slice/pod{at}.slice");
    // The cgroups in which the flood is, by the number of the start.
    let deep = |at: u32| format!("/user.slice/u1.slice/{}{at}", "a/".repeat(40));
    let paths: [(&str, &dyn Fn(u32) -> String); 5] = [
        ("in one cgroup", &|_| "/user.slice/u1.slice/s".to_owned()),
        ("in the root", &|_| "/".to_owned()),
        ("in a cgroup each", &|at| {
            format!("/user.slice/u1.slice/{at}")
        }),
        ("in a cgroup above each other", &|at| {
            format!("/user.slice/u1.slice/{}", "a/".repeat(at as usize % 40))
        }),
        ("in a cgroup each, far below", &deep),
    ];
    for (what, path) in paths {
        for then in [OVER, &over, &[settled()], &[]] {
            let mut flood = Flood::new();
            let mut others = Vec::new();
            for at in 0..3 * u32::try_from(MOST).unwrap() {
                let path = path(at);
                let its = 1_000 + path.len() as u64 * u64::from(!path.contains("a/"));
                flood.begin(
                    its + u64::from(at) * u64::from(path.contains("/u1.slice/1")),
                    &path,
                    then,
                );
                if at % 100 == 0 {
                    let its: &[Evidence] = match at % 500 {
                        0 => &known,
                        100 => &over,
                        200 => &[settled()],
                        300 => OVER,
                        _ => &[],
                    };
                    others.push(flood.begin(at.into(), &another(at % 300), its));
                    // Another user of the same slice.
                    others.push(flood.begin(at.into(), "/user.slice/u2.slice/s", its));
                }
            }
            let rows = flood.starts.count();
            assert!(rows <= MOST + others.len() / 5, "{what}: {rows}");
            assert!(!flood.are_there(&others).contains(&false), "{what}");
            assert_eq!(flood.missing(), 0, "{what}, {then:?}");
        }
    }
}
