//! libFuzzer's target for the text of a maps file.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::maps::TARGET.prepare(), |input: &[u8]| fuzz::maps::TARGET.run(input));
