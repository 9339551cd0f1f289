//! Headers of safetensors files.
#![no_main]

mod file;

use libfuzzer_sys::fuzz_target;
use speedloader::models::safetensors;

fuzz_target!(|input: (u64, &[u8])| {
    let (size, bytes) = input;
    for size in [bytes.len() as u64, size] {
        file::with_source(bytes, size, |source| drop(safetensors::read(source)));
    }
});
