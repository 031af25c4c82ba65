//! Lists of containers, which policies cannot distinguish: no list may get a rule or a scope of another unnoticed.

use super::{Cell, Work};
use crate::intent::Lists;
use crate::report::Difference;
use std::collections::BTreeSet;

impl Work {
    /// Rules about other lists than `containers`, which these rules complete for other Pods: here
    /// these rules are about the other lists, too.
    pub(super) fn completed_elsewhere(
        &self,
        rules: &BTreeSet<usize>,
        cells: &[Cell],
    ) -> Vec<(usize, Difference)> {
        let read = self.lists(rules);
        let mut found = Vec::new();
        for it in self.kept() {
            let lists = self.intents[it].lists;
            if lists.containers || rules.contains(&it) || read.includes(lists) {
                continue;
            }
            let together = |cell: &Cell| cell.rules.contains(&it) && !cell.rules.is_disjoint(rules);
            if let (true, Some(&by)) = (cells.iter().any(together), rules.iter().next()) {
                let by = &self.intents[by].origin.rule;
                let message = format!(
                    "images of {} are decided about where it does not apply, too, because `{by}` applies there",
                    lists.names().join(" and ")
                );
                found.push((
                    it,
                    Difference {
                        message,
                        example: None,
                    },
                ));
            }
        }
        found
    }

    /// The lists of containers that these rules read.
    pub(super) fn lists(&self, rules: &BTreeSet<usize>) -> Lists {
        let each = rules.iter().map(|&it| self.intents[it].lists);
        each.fold(Lists::default(), Lists::or)
    }

    /// Why a rule is left out that is not about `containers`.
    pub(super) fn without_containers(&self, rule: usize) -> String {
        let lists = self.intents[rule].lists.names().join(" and ");
        let document = |it: usize| &self.intents[it].origin.document;
        let partner = self
            .kept()
            .into_iter()
            .find(|&it| self.intents[it].lists.containers && document(it) == document(rule));
        let place = partner.map_or_else(String::new, |it| {
            format!(
                " for some Pods, where `{}` does not apply",
                self.intents[it].origin.rule
            )
        });
        format!(
            "it is about images of {lists} only{place}; a policy here decides about all containers of a Pod alike"
        )
    }
}
