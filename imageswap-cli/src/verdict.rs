//! What counts as a finding, and how bad it is: flags that `check` and `scan` share.

use clap::{Args, ValueEnum};
use imageswap_policy::document::Enforcement;

/// What causes exit code 1, and whose enforcement counts.
#[derive(Debug, Args)]
pub(crate) struct VerdictArgs {
    /// What exit code 1 stands for, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "WHAT",
        default_values_t = [FailOn::Denied, FailOn::Variable]
    )]
    fail_on: Vec<FailOn>,
    /// Images that would be swapped are findings too: --fail-on swap, beside the others
    #[arg(long)]
    deny_swaps: bool,
    /// Show what every policy would do with this enforcement
    #[arg(long = "as", value_enum, value_name = "ENFORCEMENT")]
    enforcement: Option<As>,
}

/// What is a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// Images that are not approved, whatever the enforcement is
    Denied,
    /// Images that admission would refuse: not approved, and the enforcement is deny
    Refused,
    /// Images that would be swapped
    Swap,
    /// Texts with a variable, whose image is not known before it runs
    Variable,
    /// Warnings about manifests, such as an image that was not read
    Warning,
    /// Nothing: the exit code is 0 or 2
    Never,
}

/// An enforcement on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum As {
    Deny,
    Warn,
    Audit,
}

impl VerdictArgs {
    /// Whether this is a finding.
    pub(crate) fn fails(&self, what: FailOn) -> bool {
        let never = self.fail_on.contains(&FailOn::Never);
        !never
            && (self.fail_on.contains(&what)
                || what == FailOn::Swap && self.deny_swaps
                || what == FailOn::Refused && self.fail_on.contains(&FailOn::Denied))
    }

    /// Whether an image that is not approved is a finding, for a policy with this enforcement.
    pub(crate) fn fails_unapproved(&self, enforcement: Enforcement) -> bool {
        self.fails(FailOn::Denied)
            || self.effective(enforcement) == Enforcement::Deny && self.fails(FailOn::Refused)
    }

    /// The enforcement to show: the given one, or the policy's.
    pub(crate) fn effective(&self, own: Enforcement) -> Enforcement {
        match self.enforcement {
            None => own,
            Some(As::Deny) => Enforcement::Deny,
            Some(As::Warn) => Enforcement::Warn,
            Some(As::Audit) => Enforcement::Audit,
        }
    }

    /// The usual findings, and with swaps.
    #[cfg(test)]
    pub(crate) fn usual(deny_swaps: bool) -> Self {
        Self {
            fail_on: vec![FailOn::Denied, FailOn::Variable],
            deny_swaps,
            enforcement: None,
        }
    }

    /// Whether `--as` is given.
    pub(crate) fn is_overridden(&self) -> bool {
        self.enforcement.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailOn::{Denied, Never, Refused, Swap, Variable, Warning};

    #[test]
    fn what_fails() {
        let args = |fail_on: &[FailOn], deny_swaps, enforcement| VerdictArgs {
            fail_on: fail_on.to_vec(),
            deny_swaps,
            enforcement,
        };
        let usual = args(&[Denied, Variable], false, None);
        assert!(usual.fails(Denied) && usual.fails(Variable) && usual.fails(Refused));
        assert!(!usual.fails(Swap) && !usual.fails(Warning));
        assert!(args(&[Denied], true, None).fails(Swap));
        assert!(!args(&[Denied], true, None).fails(Variable));
        assert!(!args(&[Never, Denied], true, None).fails(Swap));
        let refused = args(&[Refused], false, None);
        for (own, fails) in [(Enforcement::Deny, true), (Enforcement::Audit, false)] {
            assert_eq!(refused.fails_unapproved(own), fails);
            assert!(usual.fails_unapproved(own));
            assert!(args(&[Refused], false, Some(As::Deny)).fails_unapproved(own));
            assert!(!args(&[Refused], false, Some(As::Warn)).fails_unapproved(own));
        }
    }
}
