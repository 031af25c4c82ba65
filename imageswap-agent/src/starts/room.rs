//! Room in the table: which rows give way when there are too many.
//!
//! Any user can begin thousands of pid namespaces a second, each of which may be a container, and make
//! any number of cgroups below one that is delegated to them. So the rows are shared out along the
//! tree of cgroups: those below each cgroup get the same share as those below its siblings, and what
//! one does not need goes to the others. Whoever begins too many pushes out only their own.
//!
//! Running containers that a runtime knows never give way, and do not count.

use super::{Start, Starts};
use crate::facts::{Process, StartId};
use crate::process::Subject;
use std::cmp::Ordering;
use std::collections::HashSet;

/// Rows that may give way. One takes 2 to 5 KB, and up to 20 if the path of its cgroup has 4 KB.
pub(super) const MOST: usize = 2048;

/// Rows that give way at a time, because their choice looks at all rows.
const AT_ONCE: usize = MOST / 4;

/// Levels of the cgroup tree at which rows are shared out; a user can make cgroups of any depth.
const MOST_LEVELS: usize = 16;

/// Processes that are remembered because their rows gave way while they ran. A walk finds any more of
/// them again.
const MOST_LEFT_OUT: usize = 1 << 15;

/// How much room there is.
#[derive(Debug)]
pub(super) struct Room {
    /// The number of rows at which some may have to give way.
    look_at: usize,
    /// First processes of starts that gave way while they ran.
    left_out: HashSet<Subject>,
    /// Starts that gave way before they were reported and may have been containers, until that is
    /// counted.
    pub(super) unanswered: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            look_at: MOST,
            left_out: HashSet::new(),
            unanswered: 0,
        }
    }
}

/// A row that may give way.
struct Row<'a> {
    path: &'a str,
    worth: Worth,
    id: StartId,
}

/// Whether it runs, whether it has not been reported, whether a runtime knows it, and when it began.
/// Rows with the least give way first: nothing is lost with one that has ended and was reported.
type Worth = (bool, bool, bool, u64);

impl Starts {
    /// Whether rows may have to give way before another one comes.
    pub(super) fn is_full(&self) -> bool {
        self.by_id.len() >= self.room.look_at
    }

    /// Forgets the rows that give way, if there are too many.
    pub(super) fn make_room(&mut self) {
        let all = self.by_id.iter();
        let mut rows: Vec<_> = all.filter_map(|(id, start)| Row::of(*id, start)).collect();
        let mut over = Vec::new();
        if rows.len() >= MOST {
            rows.sort_by(Row::in_order_of_the_tree);
            share(&mut rows, 0, MOST - AT_ONCE, &mut over);
        }
        let stay = rows.len() - over.len();
        for id in over {
            let Some(start) = self.by_id.get(&id) else {
                continue;
            };
            self.room.unanswered += u64::from(start.is_unanswered());
            let process = start.facts.process.as_ref();
            let runs = process.filter(|_| !start.facts.removed);
            if let Some(process) = runs.map(Process::subject) {
                self.leave_out(process);
            }
            self.forget(id);
        }
        self.room.look_at = self.by_id.len() + MOST - stay;
    }

    /// The processes whose rows gave way while they ran. Those that still run are [left
    /// out](Self::leave_out) again, unless there [is room](Self::has_room).
    pub fn take_left_out(&mut self) -> HashSet<Subject> {
        std::mem::take(&mut self.room.left_out)
    }

    /// Remembers that this process has no row.
    pub fn leave_out(&mut self, process: Subject) {
        if self.room.left_out.len() < MOST_LEFT_OUT {
            self.room.left_out.insert(process);
        }
    }

    /// Whether there is more room than after rows gave way.
    pub fn has_room(&self) -> bool {
        self.by_id.len() + AT_ONCE < self.room.look_at
    }
}

impl<'a> Row<'a> {
    /// `None` for one that never gives way.
    fn of(id: StartId, start: &'a Start) -> Option<Self> {
        let facts = &start.facts;
        let (runs, is_known) = (!facts.removed, start.is_known());
        let began = facts.process.as_ref().map(|process| process.time_ns);
        (!runs || !is_known).then_some(Self {
            path: &facts.cgroup,
            worth: (
                runs,
                start.reported.is_none(),
                is_known,
                began.unwrap_or_default(),
            ),
            id,
        })
    }

    /// Those below a cgroup are next to each other.
    fn in_order_of_the_tree(&self, other: &Self) -> Ordering {
        let names = |row: &Self| row.path.split('/').take(MOST_LEVELS + 2);
        let in_tree = names(self).cmp(names(other));
        in_tree.then_with(|| self.path.cmp(other.path))
    }

    /// Its cgroup at a level of the tree; `None` below its own.
    fn at(&self, level: usize) -> Option<&'a str> {
        self.path.split('/').nth(level + 1)
    }
}

/// Finds the rows that give way, so that as many stay as there is room for. The rows are in the order
/// of the tree, and all below the same cgroup of the level above.
fn share(rows: &mut [Row<'_>], level: usize, room: usize, over: &mut Vec<StartId>) {
    if rows.len() <= room {
        return;
    }
    let is_one_cgroup = rows.first().map(|row| row.path) == rows.last().map(|row| row.path);
    if is_one_cgroup || level == MOST_LEVELS {
        rows.sort_by_key(|row| row.worth);
        let give_way = &rows[..rows.len() - room];
        over.extend(give_way.iter().map(|row| row.id));
        return;
    }
    let siblings = rows.chunk_by_mut(|row, next| row.at(level) == next.at(level));
    let mut siblings: Vec<_> = siblings.collect();
    // The small ones come first, so that the others share what these do not need.
    siblings.sort_by_key(|rows| (rows.len(), rows.iter().map(|row| row.worth).min()));
    let (mut room, mut others) = (room, siblings.len());
    for rows in siblings {
        let its = rows.len().min(room / others);
        share(rows, level + 1, its, over);
        room -= its;
        others -= 1;
    }
}
