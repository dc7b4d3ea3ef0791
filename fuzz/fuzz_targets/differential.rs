//! The body is in `bmv2_tests::fuzz`; the input is the seed of a program.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|seed: u64| {
    if let Err(why) = bmv2_tests::fuzz::differential::generated(seed) {
        panic!("{why}");
    }
});
