//! Reads libFuzzer's output.

use std::fmt::{self, Display};

/// The state of a run, from the lines read so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Status {
    /// Inputs that were tried.
    pub(super) runs: u64,
    /// Tried in a second.
    pub(super) per_second: u64,
    /// Edges of the code that some input reached.
    pub(super) edges: u64,
    /// Edges of all code in the program, that of dependencies included.
    pub(super) all_edges: u64,
    /// Inputs that each reach something new.
    pub(super) corpus: u64,
    /// What was wrong with the last input, in one line.
    pub(super) failure: Option<String>,
    /// The file with that input.
    pub(super) artifact: Option<String>,
    /// The next line is the text of a panic.
    in_panic: bool,
}

impl Status {
    /// Reads one line.
    pub(super) fn read(&mut self, line: &str) {
        if self.in_panic {
            self.in_panic = false;
            self.failure = Some(line.to_owned());
        } else if line.starts_with("thread ") && line.contains(" panicked at ") {
            self.in_panic = true;
        } else if let Some(error) = line.split_once("ERROR: libFuzzer: ") {
            // A panic ends in a signal, but its text is more useful.
            self.failure.get_or_insert_with(|| error.1.to_owned());
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.artifact = Some(path.to_owned());
        } else if let Some(counters) = line.strip_prefix("INFO: Loaded 1 modules") {
            self.all_edges = first_number(counters.trim_start_matches([' ', '('])).unwrap_or(0);
        } else if let Some(line) = line.strip_prefix('#') {
            self.progress(line);
        }
    }

    /// `54630\tDONE   cov: 2670 ft: 10436 corp: 1372/121Kb lim: 141 exec/s: 3414 rss: 33Mb`.
    fn progress(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        if let Some(runs) = words.first().and_then(|word| word.parse().ok()) {
            self.runs = runs;
        }
        for pair in words.windows(2) {
            let Some(value) = first_number(pair[1]) else {
                continue;
            };
            match pair[0] {
                "cov:" => self.edges = value,
                "corp:" => self.corpus = value,
                "exec/s:" => self.per_second = value,
                _ => {}
            }
        }
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            runs,
            edges,
            corpus,
            ..
        } = self;
        write!(f, "{runs} runs, {edges} edges, {corpus} in the corpus")
    }
}

/// The number that `text` begins with.
fn first_number(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(lines: &[&str]) -> Status {
        let mut status = Status::default();
        for line in lines {
            status.read(line);
        }
        status
    }

    #[test]
    fn figures_are_those_of_the_last_line_that_has_them() {
        let status = status(&[
            "INFO: Loaded 1 modules   (6569 inline 8-bit counters): 6569 [0x55, 0x56), ",
            "#4096\tpulse  cov: 2301 ft: 8001 corp: 900/80Kb lim: 100 exec/s: 2048 rss: 33Mb",
            "#54630\tDONE   cov: 2670 ft: 10436 corp: 1372/121Kb lim: 141 exec/s: 3414 rss: 33Mb",
            "###### Recommended dictionary. ######",
        ]);
        let Status {
            runs,
            per_second,
            edges,
            all_edges,
            corpus,
            ..
        } = status;
        assert_eq!(
            [runs, per_second, edges, all_edges, corpus],
            [54630, 3414, 2670, 6569, 1372]
        );
        assert_eq!((status.failure, status.artifact), (None, None));
    }

    #[test]
    fn a_panic_says_more_than_the_signal_that_it_ends_in() {
        let status = status(&[
            "thread '<unnamed>' (23061) panicked at fuzz/src/reference.rs:124:51:",
            "\"[1]/a\": not of the form",
            "==23061== ERROR: libFuzzer: deadly signal",
            "artifact_prefix='f/'; Test unit written to f/crash-88",
        ]);
        assert_eq!(
            status.failure.as_deref(),
            Some("\"[1]/a\": not of the form")
        );
        assert_eq!(status.artifact.as_deref(), Some("f/crash-88"));
    }

    #[test]
    fn a_run_that_takes_too_long_is_a_failure() {
        let status = status(&["==1== ERROR: libFuzzer: timeout after 20 seconds"]);
        assert_eq!(status.failure.as_deref(), Some("timeout after 20 seconds"));
    }
}
