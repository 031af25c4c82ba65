//! Targets, where images rest by the maps file, and that rules of the policy would move on.

use super::Written;
use super::rules::Importer;
use crate::pattern::Pattern;
use crate::reference::Reference;
use regex_automata::meta::Regex;

impl Importer<'_> {
    /// Images under a target stay, by the file. So targets that a rule of the policy would move on are kept before all
    /// rules.
    pub(super) fn settle(&mut self) {
        let mut kept: Vec<(usize, String)> = Vec::new();
        for (rule, line) in self.rules.iter().zip(&self.lines) {
            let Some(to) = rule.to.as_deref() else {
                continue;
            };
            let mirrors = to.strip_suffix("$1/$1/$2");
            let place = to.strip_suffix("/$1").unwrap_or(to);
            let mut places = match mirrors {
                Some(prefix) => vec![(format!("{prefix}a.example"), format!("{prefix}*/**"))],
                None => vec![(place.to_owned(), format!("{place}/**"))],
            };
            // By the file, a host is also a target with the port that it takes over.
            if self.carried.contains(line) {
                places.push((format!("{place}:443"), format!("{place}:*/**")));
            }
            for (place, pattern) in places {
                let probe = format!("{place}/image");
                if self.moves(&probe) && !kept.iter().any(|(_, it)| *it == pattern) {
                    kept.push((*line, pattern));
                }
            }
        }
        let count = kept.len();
        for (line, keep) in kept {
            let keep = Some(keep);
            let name = format!("maps:{line} target");
            self.push(
                line,
                &name,
                Written {
                    keep,
                    ..Written::default()
                },
            );
        }
        self.rules.rotate_right(count);
        self.lines.rotate_right(count);
    }

    /// Whether the rules so far move an image, as far as patterns tell.
    fn moves(&self, image: &str) -> bool {
        let Ok(reference) = Reference::parse(image) else {
            return false;
        };
        let means = |pattern: &str| Pattern::parse(pattern).is_ok_and(|it| it.matches(&reference));
        let under = |it: &Written| {
            it.to
                .as_deref()
                .is_some_and(|it| means(&format!("{it}/**")))
        };
        let canonical = reference.canonical();
        let fits = |regex: &str| {
            let whole = Regex::new(&format!("^(?:{regex})$"));
            whole.is_ok_and(|it| it.is_match(&canonical))
        };
        let first = self.rules.iter().find(|it| {
            let pattern = it.keep.as_deref().or(it.from.as_deref());
            pattern.is_some_and(means) || it.regex.as_deref().is_some_and(fits) || under(it)
        });
        first.is_some_and(|it| it.keep.is_none() && !under(it))
    }
}
