//! The test programs of the workspace: built by cargo, and run two at a time.
//!
//! Cargo runs one program after another, and most of the time a test waits for a control plane or a
//! runtime. Two lanes use that time on two cores.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use serde_json::Value;

use crate::count::Count;
use crate::process::{Workspace, cargo, output};

/// The agent's tests with real containers. They take longest, so they start first.
pub(crate) const NODE: &str = "imageswap-agent/node";
const LANES: usize = 2;

/// A built test program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Folder of the package and name of the target: `imageswap-agent/node`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The folder of the package, in which its tests run.
    folder: PathBuf,
}

/// Builds the test programs that `which` selects (flags of cargo; none for all of them). Features
/// are those of the whole workspace, so that nothing is built twice.
pub(crate) fn build(workspace: &Workspace, which: &[&str]) -> Result<Vec<Program>> {
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(["test", "--workspace", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(which)
        .env("IMAGESWAP_PROBES", workspace.probes())
        .stderr(Stdio::inherit());
    let built = output(&mut command)?;
    Ok(built.lines().filter_map(program).collect())
}

/// The test program that a message of cargo names.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message["profile"]["test"] == true;
    let path = message["executable"].as_str().filter(|_| is_test)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = folder.file_name()?.to_string_lossy();
    let target = message["target"]["name"].as_str()?;
    Some(Program {
        name: format!("{package}/{target}"),
        path: path.into(),
        folder: folder.into(),
    })
}

/// Runs all of `programs` and counts their tests. The lines of each begin with its name.
pub(crate) fn run(
    workspace: &Workspace,
    mut programs: Vec<Program>,
    count: &mut Count,
) -> Result<()> {
    // Lanes take from the end. Cargo names programs in the order in which they were built.
    programs.sort_by(|a, b| (a.name == NODE, &b.name).cmp(&(b.name == NODE, &a.name)));
    let waiting = Mutex::new(programs);
    let lane = || {
        let mut count = Count::default();
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(program) = next else {
                return Ok(count);
            };
            run_one(workspace, &program, &mut count)?;
        }
    };
    let counts: Vec<Result<Count>> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let ended = lanes.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|it| it.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    for lane in counts {
        count.add(lane?);
    }
    Ok(())
}

fn run_one(workspace: &Workspace, program: &Program, count: &mut Count) -> Result<()> {
    let mut command = Command::new(&program.path);
    command
        .current_dir(&program.folder)
        .arg("--show-output")
        // A test that builds a program must not build the agent again.
        .env("IMAGESWAP_PROBES", workspace.probes());
    let mut own = Count::with_prefix(format!("{}: ", program.name));
    own.watch(command, &program.name)?;
    count.add(own);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_programs_are_run() {
        let message = |executable: &str, test: bool| {
            format!(
                r#"{{"reason": "compiler-artifact", "manifest_path": "/w/imageswap-agent/Cargo.toml",
                     "target": {{"name": "node"}}, "profile": {{"test": {test}}}, "executable": {executable}}}"#
            )
        };
        let node = program(&message(r#""/t/node-1""#, true)).unwrap();
        assert_eq!(node.name, NODE);
        assert_eq!(node.folder, Path::new("/w/imageswap-agent"));
        assert!(program(&message(r#""/t/agent""#, false)).is_none());
        assert!(program(&message("null", true)).is_none());
        assert!(program("not a message").is_none());
    }
}
