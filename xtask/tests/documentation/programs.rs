//! The programs' command lines, from their `--help`, and whether a command line is valid.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Words that may precede a program in a line.
const PREFIXES: [&str; 5] = ["sudo", "-E", "setpriv", "time", "exec"];

/// A program, or one of its commands.
#[derive(Debug, Default)]
pub(crate) struct Help {
    commands: BTreeMap<String, Help>,
    /// Whether each flag takes a value.
    flags: BTreeMap<String, bool>,
}

/// The programs of this workspace, by the words that call them.
#[derive(Debug)]
pub(crate) struct Programs(BTreeMap<&'static str, Help>);

impl Programs {
    /// Asks the programs that cargo has built; the error names one that is missing.
    pub(crate) fn ask() -> Result<Self, String> {
        let xtask = PathBuf::from(env!("CARGO_BIN_EXE_xtask"));
        let mut programs = BTreeMap::new();
        for (words, file) in [
            ("cargo xtask", "xtask"),
            ("imageswap", "imageswap"),
            ("imageswap-agent", "imageswap-agent"),
            ("imageswap-webhook", "imageswap-webhook"),
        ] {
            let program = xtask.with_file_name(file);
            if !program.exists() {
                return Err(format!("{file} is not built: test the whole workspace"));
            }
            programs.insert(words, Help::ask(&program, &mut Vec::new()));
        }
        Ok(Self(programs))
    }

    /// Whether a program has this flag.
    pub(crate) fn know_flag(&self, flag: &str) -> bool {
        self.0.values().any(|it| it.knows_flag(flag))
    }

    /// The long flags of a program's command, without those that every command has.
    pub(crate) fn flags_of(&self, program: &str, command: &str) -> Vec<&str> {
        let flags = self.0[program].commands[command].flags.keys();
        let general = ["--help", "--version"];
        flags
            .map(String::as_str)
            .filter(|it| it.starts_with("--") && !general.contains(it))
            .collect()
    }

    /// What is wrong with each command of a line.
    pub(crate) fn check(&self, line: &str) -> Vec<String> {
        let words = words(line);
        let mut wrong = Vec::new();
        for command in words.split(|it| matches!(&**it, "|" | "||" | "&&" | ";" | "&")) {
            let Some((name, arguments)) = program(command) else {
                continue;
            };
            if let Err(error) = self.0[name].check(name, arguments) {
                wrong.push(error);
            }
        }
        wrong
    }
}

impl Help {
    fn ask(program: &PathBuf, path: &mut Vec<String>) -> Self {
        let output = Command::new(program)
            .args(&*path)
            .arg("--help")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{} {}: {text}",
            program.display(),
            path.join(" ")
        );
        let (mut help, names) = Self::read(&text);
        for name in names.into_iter().filter(|it| it != "help") {
            path.push(name.clone());
            help.commands.insert(name, Self::ask(program, path));
            path.pop();
        }
        help
    }

    /// Reads clap's help text: the flags, and the names of commands.
    fn read(text: &str) -> (Self, Vec<String>) {
        let mut help = Self::default();
        let mut names = Vec::new();
        let mut section = "";
        for line in text.lines() {
            if !line.starts_with(' ') {
                section = line.trim_end();
                continue;
            }
            // Explanations are indented further.
            let indent = line.len() - line.trim_start().len();
            let line = line.trim_start();
            if section == "Commands:" && indent == 2 {
                names.extend(line.split(' ').next().map(str::to_owned));
            }
            if !line.starts_with('-') || indent > 6 {
                continue;
            }
            let syntax = line.split("  ").next().unwrap_or_default();
            let takes_value = syntax.contains('<');
            for word in syntax.split([',', ' ']).filter(|it| it.starts_with('-')) {
                let flag = word.split(['=', '[']).next().unwrap_or_default();
                help.flags.insert(flag.to_owned(), takes_value);
            }
        }
        (help, names)
    }

    fn knows_flag(&self, flag: &str) -> bool {
        self.flags.contains_key(flag) || self.commands.values().any(|it| it.knows_flag(flag))
    }

    fn check(&self, name: &str, arguments: &[String]) -> Result<(), String> {
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                break;
            }
            if let Some(flag) = word.strip_prefix('-').map(|_| word) {
                let (flag, given) = match flag.split_once('=') {
                    Some((flag, _)) => (flag, true),
                    None => (&**flag, false),
                };
                match self.flags.get(flag) {
                    None if flag == "-" => {}
                    None => return Err(format!("`{name}` has no `{flag}`")),
                    Some(true) if !given => drop(rest.next()),
                    Some(false) if given => return Err(format!("`{name} {flag}` takes no value")),
                    Some(_) => {}
                }
            } else if !self.commands.is_empty() {
                let Some(command) = self.commands.get(word) else {
                    return Err(format!("`{name}` has no command `{word}`"));
                };
                return command.check(&format!("{name} {word}"), rest.as_slice());
            }
        }
        Ok(())
    }
}

/// The program that a command runs, if it is ours, and its arguments.
fn program(command: &[String]) -> Option<(&'static str, &[String])> {
    let begin = command.iter().position(|word| {
        let is_prefix = PREFIXES.contains(&&**word)
            || word.starts_with("--") && command[0] == "setpriv"
            || word.contains('=') && !word.starts_with('-');
        !is_prefix
    })?;
    let command = &command[begin..];
    let word = |at: usize| command.get(at).map_or("", |it| it);
    match (word(0), word(1)) {
        ("cargo", "xtask") => Some(("cargo xtask", &command[2..])),
        ("kubectl", "imageswap") => Some(("imageswap", &command[2..])),
        ("imageswap" | "kubectl-imageswap", _) => Some(("imageswap", &command[1..])),
        ("imageswap-agent", _) => Some(("imageswap-agent", &command[1..])),
        ("imageswap-webhook", _) => Some(("imageswap-webhook", &command[1..])),
        _ => None,
    }
}

/// The words of a line as a shell splits them, as far as documentation needs it: quotes, comments,
/// redirections.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut begun = false;
    for it in line.chars() {
        match quote {
            Some(end) if it == end => quote = None,
            None if it == '\'' || it == '"' => (quote, begun) = (Some(it), true),
            None if it.is_whitespace() || it == ';' => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
                if it == ';' {
                    words.push(";".to_owned());
                }
            }
            None if it == '#' && word.is_empty() => break,
            _ => word.push(it),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    // A redirection and its target are not arguments.
    let mut left = Vec::new();
    let mut rest = words.into_iter();
    while let Some(word) = rest.next() {
        match &*word {
            ">" | ">>" | "<" | "2>" => drop(rest.next()),
            _ => left.push(word),
        }
    }
    left
}

#[test]
fn a_command_line_is_held_to_the_help() {
    let (mut run, none) = Help::read(
        "Run it\n\nUsage: prog run [OPTIONS]\n\nOptions:\n      --policy <FILE or DIR>\n          A file, or\n          \
         --not-a-flag in a sentence\n\n  -n, --name <NAME>  Its name\n      --push\n  -h, --help     Print help\n",
    );
    assert_eq!(none, [""; 0]);
    assert_eq!(
        run.flags.keys().collect::<Vec<_>>(),
        ["--help", "--name", "--policy", "--push", "-h", "-n"]
    );
    let (mut program, names) = Help::read("P\n\nCommands:\n  run   Run it\n  help  Print this\n");
    assert_eq!(names, ["run", "help"]);
    run.flags.remove("-h");
    program.commands.insert("run".to_owned(), run);
    let programs = Programs(BTreeMap::from([("imageswap", program)]));
    for good in [
        "imageswap run --policy a.yaml x",
        "FOO=1 sudo -E imageswap run --policy=a.yaml -n b --push > out 2> err",
        "kubectl imageswap run 'two words' # --comment",
        "grep imageswap --any",
        "imageswap run -- --any",
    ] {
        assert_eq!(programs.check(good), [""; 0], "{good}");
    }
    for (bad, why) in [
        ("imageswap walk", "`imageswap` has no command `walk`"),
        (
            "x | imageswap run --polcy a",
            "`imageswap run` has no `--polcy`",
        ),
        (
            "imageswap run --push=x",
            "`imageswap run --push` takes no value",
        ),
        ("imageswap --policy x", "`imageswap` has no `--policy`"),
    ] {
        assert_eq!(programs.check(bad), [why], "{bad}");
    }
}
