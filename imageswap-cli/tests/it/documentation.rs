//! Runs the commands that the documentation shows, and compares what they print.
//!
//! A page's files are those that it prints with `$ cat FILE`, and blocks after a comment
//! `<!-- file: FILE -->`; such a comment may also hold the file itself. A command runs if the page
//! has the files that it names; one without shown output must only be understood. Output that is
//! left out is written as a line `...`.

use crate::folder::{Folder, shell};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A command as written, and the output that follows it.
#[derive(Debug)]
struct Shown {
    line: usize,
    command: String,
    output: String,
}

/// The commands of a page, in order; files are written into `folder`.
fn read(text: &str, folder: &Folder) -> Vec<Shown> {
    let mut commands: Vec<Shown> = Vec::new();
    let (mut name, mut block, mut file): (_, Option<&str>, Option<String>) = (None, None, None);
    let save = |file: &mut Option<String>, name: &mut Option<String>| {
        if let Some(text) = file.take() {
            let name = name.take().unwrap();
            folder.write(&name, text.trim_start_matches('\n'));
        }
    };
    for (at, line) in text.lines().enumerate() {
        if let Some(said) = line.strip_prefix("<!-- file: ") {
            name = Some(said.trim_end_matches(" -->").to_owned());
            file = (!said.ends_with("-->")).then(String::new);
        } else if line == "-->" {
            save(&mut file, &mut name);
        } else if let Some(kind) = line.strip_prefix("```") {
            save(&mut file, &mut name);
            block = block.is_none().then_some(kind);
            file = (block.is_some() && name.is_some()).then(String::new);
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| block == Some("console")) {
            save(&mut file, &mut name);
            if let Some(shown) = command.strip_prefix("cat ") {
                (name, file) = (Some(shown.to_owned()), Some(String::new()));
            }
            commands.push(Shown {
                line: at + 1,
                command: command.to_owned(),
                output: String::new(),
            });
        } else if let Some(text) = &mut file {
            writeln!(text, "{line}").unwrap();
        } else if let Some(shown) = commands.last_mut().filter(|_| block == Some("console")) {
            let is_continued = shown.command.ends_with('\\');
            let to = if is_continued {
                &mut shown.command
            } else {
                &mut shown.output
            };
            write!(to, "\n{line}").unwrap();
        }
    }
    commands
}

/// Whether the files that a command names are in the folder.
fn can_run(command: &str, folder: &Path) -> bool {
    let words: Vec<_> = command.split_whitespace().collect();
    let mut files = words.iter().filter(|it| {
        let has_suffix = [".yaml", ".conf", ".txt", ".jsonl", "/"]
            .iter()
            .any(|end| it.ends_with(end));
        has_suffix && !it.contains(':')
    });
    let written = words.iter().skip_while(|it| **it != ">").nth(1);
    files.all(|it| Some(it) == written || folder.join(it).exists())
}

#[test]
fn commands_print_what_the_pages_show() {
    let docs = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"));
    let mut wrong = String::new();
    for (page, least) in [
        ("audit.md", 1),
        ("cli.md", 3),
        ("export.md", 1),
        ("lint.md", 1),
        ("maps.md", 4),
        ("migrating.md", 2),
        ("pipeline.md", 4),
        ("mirrors.md", 3),
        ("policy.md", 3),
        ("rollout.md", 2),
        ("../README.md", 1),
    ] {
        let text = fs::read_to_string(docs.join(page)).unwrap();
        let folder = Folder::new(&[]);
        let mut compared = 0;
        for shown in read(&text, &folder) {
            let command = &shown.command;
            if !command.starts_with("imageswap ") || !can_run(command, folder.path()) {
                continue;
            }
            let ran = shell(folder.path(), &format!("({command}) 2>&1"));
            let printed = ran.out();
            let expected = shown.output.trim();
            if expected.is_empty() {
                let is_understood = !printed.contains("Usage: imageswap");
                assert!(is_understood, "{page}:{}: {printed}", shown.line);
                continue;
            }
            compared += 1;
            let is_shown = match expected.split_once("...\n") {
                Some((start, end)) => printed.starts_with(start) && printed.trim().ends_with(end),
                None => printed.trim() == expected,
            };
            if !is_shown {
                let line = shown.line;
                writeln!(wrong, "{page}:{line}: $ {command}\n{printed}").unwrap();
            }
        }
        if compared < least {
            writeln!(wrong, "{page}: {compared} commands compared, not {least}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "these print something else:\n{wrong}");
}
