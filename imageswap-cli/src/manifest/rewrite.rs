//! `imageswap rewrite`: manifests with their images replaced by the policy's results.

use super::finding::report_refused;
use super::{Asked, ManifestArgs, report_undecided};
use crate::input::Input;
use crate::{Outcome, report};
use anyhow::{Context, Result, bail};
use clap::Args as ClapArgs;
use imageswap_policy::manifest::{Clash, replace};
use similar::TextDiff;
use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// Lines around a change in a diff.
const CONTEXT: usize = 3;
/// May begin a text, but must not come later.
const BOM: char = '\u{feff}';

/// Arguments of `imageswap rewrite`.
///
/// Everything except the images stays unchanged, byte for byte: comments,
/// order, indentation and quotes. Images that are not approved stay too,
/// and are reported on standard error.
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Change the files instead of printing them
    #[arg(long)]
    in_place: bool,
    /// Print what changes, as a unified diff
    #[arg(long)]
    diff: bool,
}

/// Runs the command: 0 if everything is approved, 1 if something is not, 2 if something cannot be
/// read or rewritten; then nothing is written to `out`, because half of the manifests would be
/// useless.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<Outcome> {
    let manifests = args.manifests.read()?;
    if args.in_place && manifests.files().any(|it| it.path.is_none()) {
        bail!("standard input cannot be rewritten in place");
    }
    let asked = manifests.ask();
    let mut failed = report_undecided(&asked) || manifests.failed;
    let mut findings = false;
    let mut printed = String::new();
    for file in manifests.files() {
        let images: Vec<_> = asked
            .iter()
            .filter(|it| std::ptr::eq(it.file, file))
            .collect();
        for it in images.iter().filter(|it| it.refused()) {
            findings = true;
            report_refused(it);
        }
        for it in &images {
            if let Err(why) = it.image.can_become(result(it)) {
                findings = true;
                report(&format!("{}\n", stays(it, &why)));
            }
        }
        let pairs: Vec<_> = images.iter().map(|it| (it.image, result(it))).collect();
        let text = match replace(&file.text, &pairs) {
            Ok(text) => text,
            Err(Clash { first, second }) => {
                failed = true;
                report(&format!("{}\n", clash(images[first], images[second])));
                continue;
            }
        };
        if let Some(path) = file.path.as_ref().filter(|_| args.in_place)
            && text != file.text
            && let Err(error) = write(path, &text)
        {
            failed = true;
            report(&format!("error: {error:#}"));
            continue;
        }
        if args.diff {
            printed += &diff(file, &text);
        } else if !args.in_place {
            join(&mut printed, &text);
        }
    }
    if !failed || args.in_place {
        out.write_all(printed.as_bytes())?;
    }
    out.flush()?;
    Ok(Outcome::of(!failed, findings))
}

/// Appends a text as a document of its own.
fn join(printed: &mut String, text: &str) {
    if printed.is_empty() {
        printed.push_str(text);
    } else {
        if !printed.ends_with('\n') {
            printed.push('\n');
        }
        let text = text.trim_start_matches(BOM);
        if text.starts_with('%') {
            // Directives are only allowed after the end of the previous document.
            printed.push_str("...\n");
        } else if !text.starts_with("---") {
            printed.push_str("---\n");
        }
        printed.push_str(text);
    }
}

/// The image for the manifest: a refused image stays, because a person has to look at it.
fn result<'a>(asked: &'a Asked<'_>) -> &'a str {
    if asked.refused() {
        &asked.image.image
    } else {
        &asked.decision.result
    }
}

/// Why an image in several fields cannot be rewritten.
fn stays(asked: &Asked<'_>, why: &str) -> String {
    let Asked { file, image, .. } = asked;
    let message = format!("`{}` is not rewritten here", image.image);
    let mut shown = image
        .span
        .error(&file.name, &file.text, "not-rewritten", message);
    let result = &asked.decision.result;
    shown.help = Some(format!("it would become `{result}`: {why}"));
    shown.to_string()
}

/// Why images that share an anchor cannot be rewritten.
fn clash(first: &Asked<'_>, second: &Asked<'_>) -> String {
    let message = format!(
        "`{}` is used twice by its anchor, and would become two images",
        first.image.image
    );
    let shown = first
        .image
        .span
        .error(&first.file.name, &first.file.text, "anchor-clash", message);
    let margin = " ".repeat(shown.line.to_string().len());
    let uses = [first, second].map(|it| {
        let title = it.pod.title(it.namespace);
        format!("\n{margin} = {title}, {}: {}", it.image.path, result(it))
    });
    format!("{shown}{}", uses.concat())
}

fn diff(file: &Input, text: &str) -> String {
    let name = file.path.as_ref().map_or("-", |_| file.name.as_str());
    let name = name.trim_start_matches('/');
    TextDiff::from_lines(file.text.as_str(), text)
        .unified_diff()
        .context_radius(CONTEXT)
        .header(&format!("a/{name}"), &format!("b/{name}"))
        .to_string()
}

/// Replaces the file atomically: a reader sees the old or the new text, even after a power cut.
fn write(path: &Path, text: &str) -> Result<()> {
    let written = || -> Result<()> {
        // A link has to point to the new text, not be replaced by it.
        let path = path.canonicalize()?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file()
            .set_permissions(fs::metadata(&path)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_joined_as_documents() {
        let joined = |texts: &[&str]| {
            let mut printed = String::new();
            for text in texts {
                join(&mut printed, text);
            }
            printed
        };
        assert_eq!(joined(&["a"]), "a");
        assert_eq!(joined(&["", "a\n"]), "a\n");
        assert_eq!(joined(&["a", "b\n", "{}"]), "a\n---\nb\n---\n{}");
        assert_eq!(joined(&["a\n", "---\nb\n"]), "a\n---\nb\n");
        assert_eq!(joined(&["a", "\u{feff}b"]), "a\n---\nb");
        let directive = "%YAML 1.2\n---\nb\n";
        assert_eq!(joined(&["a\n", directive]), format!("a\n...\n{directive}"));
    }
}
