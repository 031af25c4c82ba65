//! libFuzzer's target for the text of ImageSwapPolicies.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::policy::TARGET.prepare(), |input: &[u8]| fuzz::policy::TARGET.run(input));
