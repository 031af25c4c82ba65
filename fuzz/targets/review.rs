//! libFuzzer's target for the API server's reviews.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz::review::TARGET.prepare(), |input: &[u8]| fuzz::review::TARGET.run(input));
