//! From a model's name to what it has in common with its kin.

/// What a model has in common with its kin, from its name: of an Ollama tag what stands before the colon,
/// of a file or directory the words before its size (`Qwen2.5-7B-Instruct-Q4_K_M.gguf`: `qwen2.5`).
pub fn family(kind: &str, name: &str) -> String {
    if kind == "ollama" {
        let (family, _tag) = name.rsplit_once(':').unwrap_or((name, ""));
        return family.to_lowercase();
    }
    let last = name
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(name);
    let stem = last.strip_suffix(".gguf").unwrap_or(last);
    let mut family = String::new();
    for word in stem.split(['-', '_', ' ']) {
        let sized = word.starts_with(|c: char| c.is_ascii_digit());
        if sized && !family.is_empty() {
            break;
        }
        if !family.is_empty() {
            family.push('-');
        }
        family.push_str(word);
    }
    family.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::family;

    #[test]
    fn kin_have_one_family() {
        for (kind, name, wanted) in [
            ("ollama", "llama3.2:3b", "llama3.2"),
            ("ollama", "hf.co/x/Y-GGUF:Q4_K_M", "hf.co/x/y-gguf"),
            ("ollama", "llama3.2", "llama3.2"),
            ("gguf", "gguf/Qwen2.5-7B-Instruct-Q4_K_M.gguf", "qwen2.5"),
            ("gguf", "Qwen2.5-32B-Instruct-Q8_0.gguf", "qwen2.5"),
            ("huggingface", "Meta-Llama-3-70B-Instruct", "meta-llama"),
            ("file", "phi4.gguf", "phi4"),
            ("file", "7b", "7b"),
            ("file", "", ""),
        ] {
            assert_eq!(family(kind, name), wanted, "{name}");
        }
    }
}
