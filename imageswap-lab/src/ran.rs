//! A program that ran to its end, with what it printed.

use std::process::{Command, Output};

use serde_json::Value;

use crate::error::Result;
use crate::process::output_with;

/// The exit code and the output of a program.
#[derive(Debug)]
pub struct Ran(Output);

impl Ran {
    /// Runs `command` with `input` on its standard input, which must fit into a pipe.
    pub fn of(command: &mut Command, input: &str) -> Result<Self> {
        output_with(command, input).map(Self)
    }

    /// The exit code; `None` if a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        self.0.status.code()
    }

    /// Standard output.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn out(&self) -> &str {
        str::from_utf8(&self.0.stdout).expect("text on standard output")
    }

    /// Standard error.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn err(&self) -> &str {
        str::from_utf8(&self.0.stderr).expect("text on standard error")
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code(), Some(code), "{self:?}");
        self
    }

    /// Checks that `part` is on standard output.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn prints(&self, part: &str) -> &Self {
        assert!(self.out().contains(part), "{part:?} is not in {self:?}");
        self
    }

    /// Checks that `part` is on standard error.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn says(&self, part: &str) -> &Self {
        assert!(self.err().contains(part), "{part:?} is not in {self:?}");
        self
    }

    /// The last line of standard output.
    pub fn last_line(&self) -> &str {
        self.out().lines().last().unwrap_or_default()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        parsed(self.out())
    }

    /// Each line of standard output as JSON.
    ///
    /// # Panics
    /// If one is not JSON.
    pub fn json_lines(&self) -> Vec<Value> {
        self.out().lines().map(parsed).collect()
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
