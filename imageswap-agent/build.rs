//! Embeds the object file with the probes that `cargo xtask build` makes.
//!
//! Debug builds take the variant that logs from inside the kernel. Without an object file the agent
//! still builds, so that every other part can be worked on without a BPF linker; at run time it
//! reports that the probes are missing.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=IMAGESWAP_PROBES");
    let debug = env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    let name = if debug {
        "imageswap-probes-log.o"
    } else {
        "imageswap-probes.o"
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let folder = env::var_os("IMAGESWAP_PROBES").map_or_else(
        // OUT_DIR is <target>/<profile>/build/<package>/out.
        || out.ancestors().nth(4).unwrap_or(&out).join("probes"),
        PathBuf::from,
    );
    let object = folder.join(name);
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = std::fs::read(&object).unwrap_or_else(|error| {
        println!(
            "cargo::warning=no probes in this build: {}: {error}; run `cargo xtask build`",
            object.display()
        );
        Vec::new()
    });
    std::fs::write(out.join("probes.o"), bytes).expect("OUT_DIR can be written");
}
