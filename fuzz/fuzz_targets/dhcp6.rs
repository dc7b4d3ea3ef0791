//! The body is in `bmv2_tests::fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Err(why) = bmv2_tests::fuzz::body("dhcp6", data) {
        panic!("{why}");
    }
});
