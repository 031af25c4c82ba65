//! libFuzzer's target for policies of other programs.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::import::TARGET.prepare(), |input: &[u8]| fuzz::import::TARGET.run(input));
