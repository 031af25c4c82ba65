//! Processes that end when their value is dropped.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Error, Result};
use crate::wait::wait_until;
use crate::workspace::Lab;

const STOP: Duration = Duration::from_secs(10);

/// A running process whose output goes to a file of the lab; dropping it ends
/// it by SIGTERM, then by SIGKILL.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lab: Lab,
}

impl Process {
    /// Starts `command`; both outputs go to [`Lab::log_path`].
    pub fn start(lab: &Lab, name: &str, command: Command) -> Result<Self> {
        Self::spawn(lab, name, command, false)
    }

    /// Starts `command` with its standard output as a pipe, for
    /// [`Process::take_stdout`]; only the standard error goes to the log.
    pub fn start_piped(lab: &Lab, name: &str, command: Command) -> Result<Self> {
        Self::spawn(lab, name, command, true)
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, if it was started with a pipe.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its exit code, once it has ended; `None` while it runs or when a signal
    /// ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child
            .try_wait()
            .ok()
            .flatten()
            .and_then(|status| status.code())
    }

    /// Its output so far; what is not text is replaced.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.lab.log_path(&self.name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits at most `limit` until `ready` returns true; fails at once if the process ends. The
    /// error carries the end of the log.
    pub fn wait_ready(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let came = wait_until(limit, || ready() || !self.is_running());
        if came && self.is_running() {
            return Ok(());
        }
        Err(Error::Timeout {
            what: format!("start of {}", self.name),
            seconds: limit.as_secs(),
            log: tail(&self.log()),
        })
    }

    /// Ends the process: SIGTERM, then SIGKILL if that does not help.
    pub fn stop(&mut self) {
        if !self.is_running() {
            return;
        }
        self.signal(Signal::TERM);
        if !wait_until(STOP, || !self.is_running()) {
            self.signal(Signal::KILL);
            if let Err(error) = self.child.wait() {
                eprintln!("{}: {error}", self.name);
            }
        }
    }

    /// Sends SIGKILL and waits, like a crash.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Err(error) = self.child.wait() {
            eprintln!("{}: {error}", self.name);
        }
    }

    fn spawn(lab: &Lab, name: &str, mut command: Command, piped: bool) -> Result<Self> {
        let log_path = lab.log_path(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(Error::io(log_path.display().to_string()))?;
        let err = log
            .try_clone()
            .map_err(Error::io(log_path.display().to_string()))?;
        let out = if piped {
            Stdio::piped()
        } else {
            Stdio::from(log)
        };
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        if lab.own_groups() {
            command.process_group(0);
        }
        let child = command
            .spawn()
            .map_err(Error::io(command.get_program().display().to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            lab: lab.clone(),
        })
    }

    fn signal(&self, signal: Signal) {
        // Not reaped yet, so the id cannot belong to another process.
        if let Err(error) = kill_process(Pid::from_child(&self.child), signal) {
            eprintln!("{}: {error}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs `command` to the end; an exit status other than 0 is an error.
pub(crate) fn run(command: Command) -> Result<Output> {
    run_with_input(command, "")
}

/// Like [`run`], with `input` on its standard input; `input` must fit into a pipe.
pub(crate) fn run_with_input(mut command: Command, input: &str) -> Result<Output> {
    let output = output_with(&mut command, input)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Command {
        command: shown(&command),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Runs `command` to the end with `input` on its standard input; `input` must fit into a pipe. An exit
/// status other than 0 is not an error.
pub fn output_with(command: &mut Command, input: &str) -> Result<Output> {
    let mut output = || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Closed once it is written.
        let stdin = child.stdin.take();
        let written = stdin.map_or(Ok(()), |mut it| it.write_all(input.as_bytes()));
        // A program that ends without reading says why.
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
        child.wait_with_output()
    };
    let output = output();
    output.map_err(Error::io(shown(command)))
}

fn shown(command: &Command) -> String {
    format!("{command:?}").replace('"', "")
}

/// The last lines of a log, each indented on a line of its own.
fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let mut last = String::new();
    for line in &lines[lines.len().saturating_sub(10)..] {
        last.push_str("\n    ");
        last.push_str(line);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let lab = Lab::new("process").unwrap();
        let mut process = Process::start(&lab, "sleep", shell("echo up; exec sleep 600")).unwrap();
        let log = lab.log_path("sleep");
        let up = || fs::read_to_string(&log).is_ok_and(|text| text == "up\n");
        process.wait_ready(Duration::from_mins(1), up).unwrap();
        let proc_dir = format!("/proc/{}", process.pid());
        assert!(fs::exists(&proc_dir).unwrap());
        drop(process);
        assert!(!fs::exists(&proc_dir).unwrap());
    }

    #[test]
    fn an_early_end_is_told_with_the_log() {
        let lab = Lab::new("process").unwrap();
        let mut process =
            Process::start(&lab, "fail", shell("echo no such thing >&2; exit 3")).unwrap();
        let error = process
            .wait_ready(Duration::from_mins(10), || false)
            .unwrap_err();
        assert!(error.to_string().contains("\n    no such thing"), "{error}");
        assert_eq!(process.exit_code(), Some(3));
    }

    #[test]
    fn a_failed_command_is_told_with_its_standard_error() {
        let error = run(shell("echo broken >&2; exit 7"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 7: broken"), "{error}");
    }
}
