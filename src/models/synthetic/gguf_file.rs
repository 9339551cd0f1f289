//! A llama model in GGUF, f16, with the smallest vocabulary that llama.cpp takes.

use super::{
    CONTEXT_TOKENS, Part, RMS_EPSILON, Shape, Tensor, Weights, Written, create, share_out,
};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const ALIGNMENT: u64 = 32;
const NORM_BYTES: u64 = 4;
/// About what the header takes.
const HEADER_BYTES: u64 = 16 << 10;

/// Writes a GGUF file of about `size_bytes`, or with `splits` above 1 a set of so many files:
/// `model.gguf` then becomes `model-00001-of-0000N.gguf` and so on. Files that exist are replaced.
///
/// # Errors
/// Those of the file system; [`io::ErrorKind::InvalidInput`] for more splits than tensors.
pub fn write_gguf(path: &Path, size_bytes: u64, splits: u32, seed: u64) -> io::Result<Written> {
    let vocabulary = Vocabulary::new();
    let shape = Shape::of_size(
        size_bytes.saturating_sub(HEADER_BYTES),
        vocabulary.tokens.len() as u64,
        NORM_BYTES,
    );
    let shares = share_out(shape.tensors(tensor_name), splits, NORM_BYTES)?;
    let tensors: usize = shares.iter().map(Vec::len).sum();
    let mut weights = Weights::f16(seed);
    let mut written = Written {
        files: Vec::new(),
        size_bytes: 0,
    };
    for (number, share) in (0_u16..).zip(&shares) {
        let mut pairs = Pairs::default();
        if number == 0 {
            describe(&mut pairs, &shape, &vocabulary);
        }
        if splits > 1 {
            pairs.u16("split.no", number);
            pairs.u16(
                "split.count",
                u16::try_from(splits).map_err(io::Error::other)?,
            );
            pairs.i32(
                "split.tensors.count",
                i32::try_from(tensors).map_err(io::Error::other)?,
            );
        }
        let file = split_path(path, u32::from(number) + 1, splits);
        written.size_bytes += write_file(&file, &pairs, share, &mut weights, &vocabulary)?;
        written.files.push(file);
    }
    Ok(written)
}

fn split_path(path: &Path, number: u32, count: u32) -> PathBuf {
    if count == 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number:05}-of-{count:05}.gguf"));
    path.with_file_name(name)
}

fn tensor_name(part: Part, layer: u64) -> String {
    let within = match part {
        Part::Embedding => return "token_embd.weight".to_owned(),
        Part::OutputNorm => return "output_norm.weight".to_owned(),
        Part::Output => return "output.weight".to_owned(),
        Part::AttentionNorm => "attn_norm",
        Part::Query => "attn_q",
        Part::Key => "attn_k",
        Part::Value => "attn_v",
        Part::AttentionOutput => "attn_output",
        Part::FeedForwardNorm => "ffn_norm",
        Part::Gate => "ffn_gate",
        Part::Up => "ffn_up",
        Part::Down => "ffn_down",
    };
    format!("blk.{layer}.{within}.weight")
}

/// Tokens of a SentencePiece vocabulary: three for control, one a byte, and printable ASCII.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

impl Vocabulary {
    fn new() -> Self {
        let mut vocabulary = Self {
            tokens: Vec::new(),
            kinds: Vec::new(),
        };
        vocabulary.push("<unk>", UNKNOWN);
        vocabulary.push("<s>", CONTROL);
        vocabulary.push("</s>", CONTROL);
        for byte in 0..=255_u8 {
            vocabulary.push(&format!("<0x{byte:02X}>"), BYTE);
        }
        // SentencePiece writes a space like this.
        vocabulary.push("\u{2581}", NORMAL);
        for character in '!'..='~' {
            vocabulary.push(&character.to_string(), NORMAL);
        }
        while !vocabulary.tokens.len().is_multiple_of(32) {
            let name = format!("[pad{}]", vocabulary.tokens.len());
            vocabulary.push(&name, UNUSED);
        }
        vocabulary
    }

    fn push(&mut self, token: &str, kind: i32) {
        self.tokens.push(token.to_owned());
        self.kinds.push(kind);
    }
}

/// The metadata of a header, encoded.
#[derive(Default)]
struct Pairs {
    count: u64,
    bytes: Vec<u8>,
}

impl Pairs {
    fn begin(&mut self, key: &str, kind: u32) {
        self.count += 1;
        push_text(&mut self.bytes, key);
        self.bytes.extend(kind.to_le_bytes());
    }

    fn begin_array(&mut self, key: &str, kind: u32, count: usize) {
        self.begin(key, 9);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.begin(key, 8);
        push_text(&mut self.bytes, value);
    }

    fn u16(&mut self, key: &str, value: u16) {
        self.begin(key, 2);
        self.bytes.extend(value.to_le_bytes());
    }

    fn u32(&mut self, key: &str, value: u64) {
        self.begin(key, 4);
        self.bytes
            .extend(u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn i32(&mut self, key: &str, value: i32) {
        self.begin(key, 5);
        self.bytes.extend(value.to_le_bytes());
    }

    fn f32(&mut self, key: &str, value: f32) {
        self.begin(key, 6);
        self.bytes.extend(value.to_le_bytes());
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.begin(key, 7);
        self.bytes.push(u8::from(value));
    }
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn describe(pairs: &mut Pairs, shape: &Shape, vocabulary: &Vocabulary) {
    pairs.text("general.architecture", "llama");
    pairs.text("general.name", "synthetic");
    pairs.u32("general.file_type", 1);
    pairs.u32("general.quantization_version", 2);
    pairs.u32("llama.vocab_size", shape.vocabulary);
    pairs.u32("llama.context_length", u64::from(CONTEXT_TOKENS));
    pairs.u32("llama.embedding_length", shape.embedding);
    pairs.u32("llama.feed_forward_length", shape.feed_forward);
    pairs.u32("llama.block_count", shape.layers);
    pairs.u32("llama.attention.head_count", shape.heads);
    pairs.u32("llama.attention.head_count_kv", shape.kv_heads);
    pairs.u32("llama.rope.dimension_count", shape.embedding / shape.heads);
    pairs.f32("llama.attention.layer_norm_rms_epsilon", RMS_EPSILON);
    pairs.text("tokenizer.ggml.model", "llama");
    pairs.text("tokenizer.ggml.pre", "default");
    pairs.begin_array("tokenizer.ggml.tokens", 8, vocabulary.tokens.len());
    for token in &vocabulary.tokens {
        push_text(&mut pairs.bytes, token);
    }
    pairs.begin_array("tokenizer.ggml.scores", 6, vocabulary.kinds.len());
    for (position, kind) in (0_u16..).zip(&vocabulary.kinds) {
        let score = if *kind == NORMAL {
            -f32::from(position)
        } else {
            0.0
        };
        pairs.bytes.extend(score.to_le_bytes());
    }
    pairs.begin_array("tokenizer.ggml.token_type", 5, vocabulary.kinds.len());
    for kind in &vocabulary.kinds {
        pairs.bytes.extend(kind.to_le_bytes());
    }
    pairs.u32("tokenizer.ggml.bos_token_id", 1);
    pairs.u32("tokenizer.ggml.eos_token_id", 2);
    pairs.u32("tokenizer.ggml.unknown_token_id", 0);
    pairs.flag("tokenizer.ggml.add_bos_token", true);
    pairs.flag("tokenizer.ggml.add_space_prefix", true);
}

fn write_file(
    path: &Path,
    pairs: &Pairs,
    tensors: &[Tensor],
    weights: &mut Weights,
    vocabulary: &Vocabulary,
) -> io::Result<u64> {
    let mut header = b"GGUF".to_vec();
    header.extend(3_u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend(pairs.count.to_le_bytes());
    header.extend(&pairs.bytes);
    let mut offset = 0_u64;
    for tensor in tensors {
        push_text(&mut header, &tensor.name);
        // The fastest dimension comes first.
        let dimensions: Vec<u64> = tensor.columns.into_iter().chain([tensor.rows]).collect();
        header.extend(if tensor.columns.is_some() { 2_u32 } else { 1 }.to_le_bytes());
        dimensions
            .iter()
            .for_each(|dimension| header.extend(dimension.to_le_bytes()));
        header.extend(if tensor.columns.is_some() { 1_u32 } else { 0 }.to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += tensor.size_bytes(NORM_BYTES).next_multiple_of(ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(32), 0);
    let mut file = create(path)?;
    file.write_all(&header)?;
    for tensor in tensors {
        let size = tensor.size_bytes(NORM_BYTES);
        match (tensor.part, tensor.columns) {
            (_, None) => {
                (0..tensor.rows).try_for_each(|_| file.write_all(&1_f32.to_le_bytes()))?;
            }
            (Part::Output, Some(columns)) => {
                // Rows of zeroes keep the text that is generated printable.
                for kind in &vocabulary.kinds {
                    if *kind == NORMAL {
                        weights.write(&mut file, columns * 2)?;
                    } else {
                        io::copy(&mut io::Read::take(io::repeat(0), columns * 2), &mut file)?;
                    }
                }
            }
            _ => weights.write(&mut file, size)?,
        }
        let padding = size.next_multiple_of(ALIGNMENT) - size;
        io::copy(&mut io::Read::take(io::repeat(0), padding), &mut file)?;
    }
    file.flush()?;
    Ok(header.len() as u64 + offset)
}
