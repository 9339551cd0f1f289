//! A llama model as a Hugging Face directory: bf16 shards, index, configuration, tokenizer.

use super::{CONTEXT_TOKENS, Part, Shape, Tensor, Weights, Written, create, share_out};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

const NORM_BYTES: u64 = 2;
/// 1.0 as bf16.
const ONE: u16 = 0x3f80;
const SPECIAL_TOKENS: [&str; 3] = ["<unk>", "<s>", "</s>"];

/// Writes a model directory of about `size_bytes` in `shards` files, or in one without an index.
/// The directory is made; files that exist are replaced.
///
/// # Errors
/// Those of the file system; [`io::ErrorKind::InvalidInput`] for more shards than tensors.
pub fn write_directory(
    directory: &Path,
    size_bytes: u64,
    shards: u32,
    seed: u64,
) -> io::Result<Written> {
    let (tokenizer, tokens) = tokenizer();
    let shape = Shape::of_size(size_bytes, tokens.next_multiple_of(32), NORM_BYTES);
    let shares = share_out(shape.tensors(tensor_name), shards, NORM_BYTES)?;
    fs::create_dir_all(directory)?;
    let mut weights = Weights::bf16(seed);
    let mut written = Written {
        files: Vec::new(),
        size_bytes: 0,
    };
    let mut weight_map = Map::new();
    let mut data_bytes = 0;
    for (number, share) in (1_u32..).zip(&shares) {
        let name = match shards {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{number:05}-of-{shards:05}.safetensors"),
        };
        let named = share
            .iter()
            .map(|tensor| (tensor.name.clone(), Value::from(name.as_str())));
        weight_map.extend(named);
        data_bytes += share
            .iter()
            .map(|tensor| tensor.size_bytes(NORM_BYTES))
            .sum::<u64>();
        let path = directory.join(name);
        written.size_bytes += write_shard(&path, share, &mut weights)?;
        written.files.push(path);
    }
    let document =
        |name: &str, value: &Value| fs::write(directory.join(name), format!("{value:#}\n"));
    if shards > 1 {
        let index = json!({"metadata": {"total_size": data_bytes}, "weight_map": weight_map});
        document("model.safetensors.index.json", &index)?;
    }
    document("config.json", &config(&shape))?;
    document(
        "generation_config.json",
        &json!({"bos_token_id": 1, "eos_token_id": 2, "do_sample": false}),
    )?;
    document("tokenizer.json", &tokenizer)?;
    document(
        "tokenizer_config.json",
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
            "unk_token": "<unk>", "model_max_length": CONTEXT_TOKENS,
            "clean_up_tokenization_spaces": false,
        }),
    )?;
    Ok(written)
}

fn tensor_name(part: Part, layer: u64) -> String {
    let within = match part {
        Part::Embedding => return "model.embed_tokens.weight".to_owned(),
        Part::OutputNorm => return "model.norm.weight".to_owned(),
        Part::Output => return "lm_head.weight".to_owned(),
        Part::AttentionNorm => "input_layernorm",
        Part::Query => "self_attn.q_proj",
        Part::Key => "self_attn.k_proj",
        Part::Value => "self_attn.v_proj",
        Part::AttentionOutput => "self_attn.o_proj",
        Part::FeedForwardNorm => "post_attention_layernorm",
        Part::Gate => "mlp.gate_proj",
        Part::Up => "mlp.up_proj",
        Part::Down => "mlp.down_proj",
    };
    format!("model.layers.{layer}.{within}.weight")
}

fn write_shard(path: &Path, tensors: &[Tensor], weights: &mut Weights) -> io::Result<u64> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.size_bytes(NORM_BYTES);
        let shape: Vec<u64> = [tensor.rows].into_iter().chain(tensor.columns).collect();
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]});
        header.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut header = Value::from(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = create(path)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for tensor in tensors {
        match tensor.columns {
            None => (0..tensor.rows).try_for_each(|_| file.write_all(&ONE.to_le_bytes()))?,
            Some(_) => weights.write(&mut file, tensor.size_bytes(NORM_BYTES))?,
        }
    }
    file.flush()?;
    Ok(8 + header.len() as u64 + offset)
}

fn config(shape: &Shape) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "vocab_size": shape.vocabulary, "hidden_size": shape.embedding,
        "intermediate_size": shape.feed_forward, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.embedding / shape.heads, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_TOKENS, "rms_norm_eps": 1e-5, "rope_theta": 10_000.0,
        "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": false,
        "bos_token_id": 1, "eos_token_id": 2, "use_cache": true, "torch_dtype": "bfloat16",
    })
}

/// A tokenizer of bytes without merges, and the number of its tokens.
fn tokenizer() -> (Value, u64) {
    let is_printable = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    // As in GPT-2, a byte that is no printable character borrows one from beyond Latin 1.
    let mut borrowed = 256..;
    let characters = (0..256_u32).map(|byte| {
        let code = if is_printable(&byte) {
            Some(byte)
        } else {
            borrowed.next()
        };
        code.and_then(char::from_u32)
            .unwrap_or_default()
            .to_string()
    });
    let tokens = SPECIAL_TOKENS
        .into_iter()
        .map(str::to_owned)
        .chain(characters);
    let vocabulary: Map<String, Value> = (0_u32..)
        .zip(tokens)
        .map(|(id, token)| (token, Value::from(id)))
        .collect();
    let count = vocabulary.len() as u64;
    let added: Vec<Value> = (0_u32..)
        .zip(SPECIAL_TOKENS)
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let bytes = |name: &str| json!({"type": name, "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": bytes("ByteLevel"), "post_processor": null,
        "decoder": bytes("ByteLevel"),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocabulary, "merges": [],
        },
    });
    (tokenizer, count)
}
