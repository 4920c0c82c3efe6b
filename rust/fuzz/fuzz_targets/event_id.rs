#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| moda_fuzz::checks::event_id(data));
