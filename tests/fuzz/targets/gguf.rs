//! Headers of GGUF files, at both depths.
#![no_main]

mod file;

use libfuzzer_sys::fuzz_target;
use speedloader::models::gguf::{self, Depth};

fuzz_target!(|input: (u64, &[u8])| {
    let (size, bytes) = input;
    for size in [bytes.len() as u64, size] {
        for depth in [Depth::Quick, Depth::Full] {
            file::with_source(bytes, size, |source| drop(gguf::read(source, depth)));
        }
    }
});
