//! libFuzzer's target for an image reference.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::reference::TARGET.prepare(), |input: &[u8]| fuzz::reference::TARGET.run(input));
