//! Counts of the images of manifests.

use super::Asked;
use anyhow::Result;
use imageswap_policy::Reference;
use imageswap_runtime::text::shown;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// Shown instead of a registry for texts that are not image references.
const NO_REGISTRY: &str = "(none)";
/// Columns for the name of a registry; a longer one has a line of its own.
const REGISTRY: usize = 40;

/// The number of images, each counted once.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    images: usize,
    stay: usize,
    swapped: usize,
    not_approved: usize,
    variable: usize,
    undecided: usize,
}

/// All counts.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    #[serde(flatten)]
    all: Count,
    /// Documents without an image.
    others: usize,
    /// Warnings about the manifests.
    warnings: usize,
    /// Images that cause exit code 1.
    findings: usize,
    /// By the image's present registry.
    registries: BTreeMap<String, Count>,
}

impl Summary {
    pub(super) fn of(asked: &[Asked<'_>], others: usize, warnings: usize, findings: usize) -> Self {
        let mut summary = Self {
            all: Count::default(),
            others,
            warnings,
            findings,
            registries: BTreeMap::new(),
        };
        for it in asked {
            summary.all.add(it);
            let registry = Reference::parse(&it.image.image);
            let registry = registry.map_or(NO_REGISTRY, |it| it.registry());
            let count = summary.registries.entry(registry.to_owned()).or_default();
            count.add(it);
        }
        summary
    }

    /// The lines at the end of each output.
    pub(super) fn end(&self, out: &mut impl Write) -> Result<()> {
        match self.others {
            0 => {}
            1 => writeln!(out, "1 document has no images")?,
            others => writeln!(out, "{others} documents have no images")?,
        }
        writeln!(out, "{}", self.all.words())?;
        Ok(())
    }

    /// A table by registry.
    pub(super) fn table(&self, out: &mut impl Write) -> Result<()> {
        if self.registries.is_empty() {
            return Ok(());
        }
        let head = format!("{:REGISTRY$}", "REGISTRY");
        writeln!(out, "{head}  IMAGES    SWAP  DENIED    LEFT")?;
        for (registry, count) in &self.registries {
            let name = shown(registry);
            let numbers = format!(
                "{:8}{:8}{:8}{:8}",
                count.images,
                count.swapped,
                count.not_approved + count.variable + count.undecided,
                count.stay
            );
            if name.chars().count() > REGISTRY {
                writeln!(out, "{name}\n{:REGISTRY$}{numbers}", "")?;
            } else {
                writeln!(out, "{name:REGISTRY$}{numbers}")?;
            }
        }
        writeln!(out)?;
        Ok(())
    }
}

impl Count {
    fn add(&mut self, asked: &Asked<'_>) {
        self.images += 1;
        let group = match asked {
            it if it.undecided() => &mut self.undecided,
            it if it.is_variable() => &mut self.variable,
            it if it.refused() => &mut self.not_approved,
            it if it.decision.swapped() => &mut self.swapped,
            _ => &mut self.stay,
        };
        *group += 1;
    }

    fn words(&self) -> String {
        let Self {
            images: all,
            stay,
            swapped,
            not_approved,
            variable,
            undecided,
        } = self;
        let images = if *all == 1 { "image" } else { "images" };
        let stay = if *stay == 1 {
            "1 stays".to_owned()
        } else {
            format!("{stay} stay")
        };
        let more = |count: usize, what: &str| match count {
            0 => String::new(),
            some => format!(", {some} {what}"),
        };
        let variable = more(*variable, "with a variable");
        let undecided = more(*undecided, "not decided");
        format!(
            "{all} {images}: {stay}, {swapped} would be swapped, {not_approved} not approved{variable}{undecided}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries() {
        let count = |stay, swapped, not_approved, variable| {
            Count {
                images: stay + swapped + not_approved + variable,
                stay,
                swapped,
                not_approved,
                variable,
                undecided: 0,
            }
            .words()
        };
        assert_eq!(
            count(1, 0, 0, 0),
            "1 image: 1 stays, 0 would be swapped, 0 not approved"
        );
        assert_eq!(
            count(2, 3, 4, 1),
            "10 images: 2 stay, 3 would be swapped, 4 not approved, 1 with a variable"
        );
    }
}
