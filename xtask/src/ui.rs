//! xtask's output for people: at most 80 columns, colour only on a terminal.

use std::env;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal};
use std::time::Duration;

use imageswap_runtime::text::columns;

/// Prints the heading of a part, after an empty line.
pub(crate) fn heading(text: &str) {
    println!("\n{}", paint("1", text));
}

/// Prints on standard error what is being done, so that a long silent step does not look like a
/// hang.
pub(crate) fn step(text: impl Display) {
    eprintln!("{} {text}", paint_err("36", "..."));
}

/// Prints that something happened as it should.
pub(crate) fn good(text: impl Display) {
    println!("  {} {text}", paint("32", "ok"));
}

/// Prints that something did not happen.
pub(crate) fn bad(text: impl Display) {
    println!("  {} {text}", paint("31", "FAILED"));
}

/// Prints something, and whether it happened as it should.
pub(crate) fn outcome(text: impl Display, happened: bool) {
    if happened {
        good(text);
    } else {
        bad(text);
    }
}

/// Prints what was left out, and why.
pub(crate) fn left_out(text: impl Display) {
    println!("  {} {text}", paint("33", "left out"));
}

/// Prints rows in columns as wide as their longest cell.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) {
    for line in columns(rows, |_, _, padded| padded) {
        println!("  {line}");
    }
}

/// A duration as people write it.
pub(crate) struct Took(pub(crate) Duration);

impl Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 => write!(f, "{} ms", self.0.as_millis()),
            1..60 => write!(f, "{seconds} s"),
            _ => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        }
    }
}

fn paint(code: &str, text: &str) -> String {
    coloured(code, text, io::stdout().is_terminal())
}

fn paint_err(code: &str, text: &str) -> String {
    coloured(code, text, io::stderr().is_terminal())
}

fn coloured(code: &str, text: &str, terminal: bool) -> String {
    // https://no-color.org: any value that is not empty.
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if terminal && !refused {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, text) in [
            (17, "17 ms"),
            (1999, "1 s"),
            (59_999, "59 s"),
            (61_000, "1 min 1 s"),
        ] {
            assert_eq!(Took(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn a_pipe_gets_no_colour() {
        assert_eq!(coloured("31", "text", false), "text");
    }
}
