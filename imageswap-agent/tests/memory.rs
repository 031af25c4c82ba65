//! Reading a file that others write takes little more memory than its text, whatever it holds.
//!
//! A program of its own with one test, because the kernel counts the memory of the whole process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use imageswap_agent::evidence::docker::{self, DataRoots, Store};
use imageswap_agent::evidence::{bundle, storage};

/// What a read may take beside its text.
const BESIDE: usize = 12 << 20;

const ID: &str = "aae4c340fcf4d50ec145fc42b9e7cec59fe27fbba4817cc881b72584d3771902";
const PODMANS: &str = "var/lib/containers/storage";
const DOCKERS: &str = "var/lib/docker";

/// A host whose stores have one container, all files of which belong to root.
struct Host(tempfile::TempDir);

impl Host {
    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn podmans(&self) -> Result<bool, String> {
        let stores = storage::stores(self.0.path(), Path::new("/proc"), 1);
        let bundle = format!("{PODMANS}/overlay-containers/{ID}/userdata");
        let found = storage::of_bundle(&stores, &self.0.path().join(bundle), ID);
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.is_some_and(|it| it.made.is_some() && it.names.contains("quay.io/a/b:1")))
    }

    fn dockers(&self) -> Result<bool, String> {
        let roots = DataRoots::default().of_node(self.0.path(), &self.0.path().join("proc"));
        let root = Path::new("/var/lib/docker/overlay2/mount/merged");
        let found = docker::of_root(self.0.path(), &roots, root, ID);
        let found = found.map_err(|error| error.to_string())?;
        let store = found.map(|it| it.store);
        Ok(
            matches!(store, Some(Store::Docker { image: Some(image), .. })
            if image.names.contains("a:1") || !image.layers_from.is_empty()),
        )
    }

    fn bundle(&self) -> Result<bool, String> {
        let read = bundle::read_bundle(&self.0.path().join("bundle"));
        let read = read.map_err(|error| error.to_string())?;
        Ok(read.is_some_and(|it| it.cri.is_some()))
    }
}

/// Memory of this process in bytes, as the kernel counts it.
fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let count = line.unwrap().trim().strip_suffix(" kB").unwrap();
    count.parse::<usize>().unwrap() << 10
}

type Read = fn(&Host) -> Result<bool, String>;

#[test]
fn a_file_takes_about_its_own_size() {
    if !imageswap_lab::is_root() {
        return imageswap_lab::skip("a_file_takes_about_its_own_size", "needs root");
    }
    let host = Host(tempfile::tempdir().unwrap());
    let image = "69a10a15fd71ecc7f18759390a9f633dd1f83e88794fd893bef74506199d3726";
    let podmans = |list: &str| format!("{PODMANS}/overlay-{list}/{list}.json");
    let dockers = |file: &str| format!("{DOCKERS}/image/overlay2/{file}");
    host.write(&dockers(&format!("layerdb/mounts/{ID}/mount-id")), "mount");
    let record = format!(
        r#"{{"ID":"{ID}","Image":"sha256:{image}","Driver":"overlay2","Config":{{"Image":"a:1"}}}}"#
    );
    host.write(
        &format!("{DOCKERS}/containers/{ID}/config.v2.json"),
        &record,
    );
    // Path and size; the text before, between and after the filler; what reads it. A number takes
    // the place of `@`, and a smaller one that of `%`.
    let cases: &[(String, usize, [&str; 3], &str, Read)] = &[
        (
            dockers(&format!("imagedb/content/sha256/{image}")),
            4 << 20,
            [r#"{"rootfs":{"diff_ids":["#, r#""""#, "]}}"],
            r#""""#,
            Host::dockers,
        ),
        (
            "bundle/config.json".to_owned(),
            4 << 20,
            [
                r#"{"annotations":{"#,
                r#""io.kubernetes.cri.container-type":"container""#,
                "}}",
            ],
            r#""@":"""#,
            Host::bundle,
        ),
        (
            podmans("containers"),
            16 << 20,
            [
                "[",
                &format!(r#"{{"id":"{ID}","image":"i","layer":"m"}}"#),
                "]",
            ],
            r#"{"id":""}"#,
            Host::podmans,
        ),
        (
            podmans("images"),
            16 << 20,
            [
                "[",
                r#"{"id":"i","layer":"l","names":["quay.io/a/b:1"]}"#,
                "]",
            ],
            r#"{"id":""}"#,
            Host::podmans,
        ),
        (
            podmans("images"),
            16 << 20,
            [
                r#"[{"id":"x","names":["#,
                r#"""]},{"id":"i","layer":"l","names":["quay.io/a/b:1"]},{"id":"y","names":["""#,
                "]}]",
            ],
            r#""""#,
            Host::podmans,
        ),
        (
            podmans("layers"),
            16 << 20,
            ["[", r#"{"id":"l"},{"id":"m","parent":"l"}"#, "]"],
            r#"{"id":"%"}"#,
            Host::podmans,
        ),
        (
            dockers("repositories.json"),
            16 << 20,
            [
                r#"{"Repositories":{"x":{"#,
                &format!(r#""@":""}},"a":{{"a:1":"sha256:{image}"}},"y":{{"@":"""#),
                "}}}",
            ],
            r#""@":"""#,
            Host::dockers,
        ),
    ];
    for (path, _, [before, middle, after], _, _) in cases {
        let text = format!("{before}{middle}{after}");
        host.write(path, &text);
    }
    let base = memory("VmRSS:");
    for (path, size, [before, middle, after], filler, read) in cases {
        let whole = fs::read_to_string(host.0.path().join(path)).unwrap();
        // Piece by piece, so that the test itself takes no memory.
        let mut file = BufWriter::new(File::create(host.0.path().join(path)).unwrap());
        let mut length = 0;
        let mut write = |text: &str| {
            file.write_all(text.as_bytes()).unwrap();
            length += text.len();
            length
        };
        let mut fillers = (0..).map(|at: u32| {
            let few = (at % 60_000).to_string();
            filler.replace('@', &at.to_string()).replace('%', &few)
        });
        write(before);
        while write(&fillers.next().unwrap()) < size / 2 {
            write(",");
        }
        write(&format!(",{middle}"));
        while write(&format!(",{}", fillers.next().unwrap())) < size - 64 {}
        write(after);
        file.flush().unwrap();
        // Resets the peak (proc(5)).
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let found = read(&host);
        let took = memory("VmHWM:").saturating_sub(base);
        println!("{path}, {filler}: {length} bytes took {took}");
        assert_eq!(found, Ok(true), "{path}");
        assert!(
            took < 2 * length + BESIDE,
            "{path}, {filler}: {length} bytes took {took}"
        );
        host.write(path, &whole);
    }
    for (count, is_kept) in [(1 << 16, true), ((1 << 16) + 1, false)] {
        let layers: Vec<_> = (2..count).map(|at| format!(r#"{{"id":"{at}"}}"#)).collect();
        let layers = layers.join(",");
        let text = format!(r#"[{layers},{{"id":"l"}},{{"id":"m","parent":"l"}}]"#);
        host.write(&podmans("layers"), &text);
        match host.podmans() {
            Ok(found) => assert!(found && is_kept),
            Err(error) => assert!(
                !is_kept && error.contains("more than 65536 layers"),
                "{error}"
            ),
        }
    }
}
