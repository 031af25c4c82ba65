//! Kernels for arm64: checks that their BTF has every field that the probes read.
//!
//! The probes are one object file for both architectures, because its byte order is the same and it
//! uses raw tracepoints alone. It is not loaded here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::count::Count;
use crate::matrix::suite::Suite;
use crate::process::{Workspace, cache, cargo};
use crate::vm;

/// The test of the agent that resolves all fields.
const TEST: &str = "offsets::tests::another_kernel_has_every_field";

/// The beginning of the kernel's BTF in its image: magic number, version, flags, length of the header.
const HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];

/// Runs the test with the kernel of `suite`; two lines with what was tested.
pub(super) fn run(
    workspace: &Workspace,
    suite: &'static str,
    count: &mut Count,
) -> Result<[String; 2]> {
    let btf = find_or_extract(suite)?;
    let mut child = cargo()
        .current_dir(&workspace.root)
        .args(["test", "--quiet", "--package", "imageswap-agent", "--lib"])
        .args(["--", "--exact", "--ignored", TEST])
        .env("IMAGESWAP_BTF", &btf)
        .env("IMAGESWAP_PROBES", workspace.probes())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("the test has no output")?;
    let read = count.read(output, |_| true);
    child.wait().context("cargo test")?;
    read?;
    ensure!(count.ran() == 1, "{} tests ran, not 1", count.ran());
    let version = btf.file_name().unwrap_or_default().to_string_lossy();
    let size = fs::metadata(&btf)?.len();
    Ok([
        format!("Linux {version}"),
        format!("{size} bytes of BTF; the probes were not loaded"),
    ])
}

/// The file with the BTF of the suite's kernel, named after the kernel's release; it is kept.
fn find_or_extract(suite: &'static str) -> Result<PathBuf> {
    let folder = cache("matrix")?.join(format!("{suite}-arm64-btf"));
    let kept = fs::read_dir(&folder).into_iter().flatten().flatten().next();
    if let Some(kept) = kept {
        return Ok(kept.path());
    }
    let unpacked = Suite::of_arm64(suite)?.kernel()?;
    let kernel = vm::Kernel::in_folder(&unpacked)?;
    let image = fs::read(kernel.image()).with_context(|| kernel.image().display().to_string())?;
    let btf = extract(&image).with_context(|| no_btf(kernel.image()))?;
    let unfinished = folder.with_extension("unfinished");
    fs::create_dir_all(&unfinished)?;
    fs::write(unfinished.join(kernel.version()), btf)?;
    fs::rename(&unfinished, &folder)?;
    // Its modules are large, and not needed.
    fs::remove_dir_all(&unpacked).with_context(|| unpacked.display().to_string())?;
    Ok(folder.join(kernel.version()))
}

fn no_btf(image: &Path) -> String {
    format!("{}: no BTF, or a compressed image", image.display())
}

/// The largest piece of an image that has BTF's header and ends within the image.
fn extract(image: &[u8]) -> Option<&[u8]> {
    let at = |start: usize| {
        let word = |offset: usize| {
            let bytes = image.get(start + offset..)?.first_chunk()?;
            usize::try_from(u32::from_le_bytes(*bytes)).ok()
        };
        let types = word(8)?.checked_add(word(12)?)?;
        let strings = word(16)?.checked_add(word(20)?)?;
        image.get(start..start.checked_add(24)?.checked_add(types.max(strings))?)
    };
    let starts = image.windows(HEADER.len()).enumerate();
    let starts = starts.filter(|(_, bytes)| *bytes == HEADER);
    starts
        .filter_map(|(start, _)| at(start))
        .max_by_key(|btf| btf.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn btf(types: u32, strings: u32) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        for word in [0, types, types, strings] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(std::iter::repeat_n(7, (types + strings) as usize));
        bytes
    }

    #[test]
    fn largest_btf_that_fits_is_extracted() {
        let whole = btf(40, 9);
        let mut image = b"code".to_vec();
        image.extend(btf(4, 1));
        image.extend(b"more");
        image.extend(&whole);
        image.extend(b"end");
        // A header by chance, whose BTF would end behind the image.
        image.extend(&btf(4000, 1)[..24]);
        assert_eq!(extract(&image), Some(&whole[..]));
        assert_eq!(extract(b"compressed"), None);
    }
}
