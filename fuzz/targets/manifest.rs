//! libFuzzer's target for Kubernetes manifests.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::manifest::TARGET.prepare(), |input: &[u8]| fuzz::manifest::TARGET.run(input));
