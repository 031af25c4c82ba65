//! Manual pages, generated from a command line.

use clap::{Args, Command};
use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

/// Arguments of the hidden command `man`, for packages and releases.
#[derive(Debug, Clone, Args)]
pub struct ManualArgs {
    /// Folder for the pages: one for the program, one for each of its commands
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

impl ManualArgs {
    /// Writes the pages; creates the folder.
    pub fn write(&self, command: Command) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.folder.display()))
        };
        fs::create_dir_all(&self.folder).map_err(named)?;
        clap_mangen::generate_to(command, &self.folder).map_err(named)
    }

    /// The same, with errors on standard error.
    pub fn run(&self, command: Command) -> ExitCode {
        match self.write(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManualArgs {
            folder: folder.path().join("man1"),
        };
        let command = Command::new("tool")
            .version("1.2.3")
            .subcommand(Command::new("shown").arg(Arg::new("flag").long("flag")))
            .subcommand(Command::new("hidden").hide(true));
        args.write(command).unwrap();
        let mut names: Vec<_> = fs::read_dir(&args.folder)
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["tool-shown.1", "tool.1"]);
        let page = fs::read_to_string(args.folder.join("tool-shown.1")).unwrap();
        assert!(page.contains(r"\-\-flag"), "{page}");
        // The pages do not contain a date.
        assert!(page.contains(".TH tool-shown 1  "), "{page}");

        fs::write(folder.path().join("file"), "").unwrap();
        let args = ManualArgs {
            folder: folder.path().join("file/man1"),
        };
        let error = args.write(Command::new("tool")).unwrap_err().to_string();
        assert!(error.contains("file/man1: "), "{error}");
    }
}
