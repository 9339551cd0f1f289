//! Everything about models that is JSON or a name: Ollama's, Hugging Face's, llama.cpp's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use speedloader::models::{gguf, huggingface, ollama};

fuzz_target!(|bytes: &[u8]| {
    let _ = (ollama::read_manifest(bytes), ollama::read_config(bytes));
    let _ = ollama::blob_digest(bytes);
    let _ = (
        huggingface::read_config(bytes),
        huggingface::read_index(bytes),
    );
    let _ = (
        huggingface::read_fetched(bytes),
        huggingface::read_ref(bytes),
    );
    let _ = (
        huggingface::hub_name(bytes),
        huggingface::fetched_name(bytes),
    );
    let _ = (gguf::split_name(bytes), gguf::is_projector(bytes));
});
