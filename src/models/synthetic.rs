//! Synthetic models: valid, of any size, and the same bytes for the same arguments.
//!
//! For demonstrations, benchmarks and tests on machines that have no model. Engines load them and
//! generate nonsense, but the same nonsense for the same file: equal output shows equal weights.
//! Weights do not repeat, so a read at a wrong offset shows. Tensors are written as they are made:
//! memory stays at one buffer, whatever the size.

mod gguf_file;
mod hugging_face;

pub use gguf_file::write_gguf;
pub use hugging_face::write_directory;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

const MIB: u64 = 1 << 20;
const CONTEXT_TOKENS: u32 = 512;
const RMS_EPSILON: f32 = 1e-5;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The files that hold weights, in order: an engine is given the first, or their directory.
    pub files: Vec<PathBuf>,
    /// Bytes of those files: within a few per cent of what was asked, from 1 MiB on.
    pub size_bytes: u64,
}

/// The dimensions of a Llama model.
#[derive(Clone, Copy, Debug)]
struct Shape {
    embedding: u64,
    feed_forward: u64,
    heads: u64,
    kv_heads: u64,
    layers: u64,
    vocabulary: u64,
}

impl Shape {
    /// A shape whose weights take about `size_bytes`, with as many layers as a real model of that
    /// size; norms take `norm_bytes` a weight, all others 2.
    fn of_size(size_bytes: u64, vocabulary: u64, norm_bytes: u64) -> Self {
        let (embedding, feed_forward, heads, kv_heads) = match size_bytes {
            0..0x40_0000 => (64, 128, 4, 2),
            0x40_0000..0x400_0000 => (256, 704, 4, 2),
            0x400_0000..0x1000_0000 => (512, 1_408, 8, 4),
            0x1000_0000..0x4000_0000 => (1_024, 2_816, 16, 4),
            0x4000_0000..0x1_8000_0000 => (2_048, 5_632, 32, 4),
            _ => (4_096, 11_008, 32, 8),
        };
        let mut shape = Self {
            embedding,
            feed_forward,
            heads,
            kv_heads,
            layers: 1,
            vocabulary,
        };
        let fixed = 4 * vocabulary * embedding + norm_bytes * embedding;
        let left = size_bytes.saturating_sub(fixed);
        let layer = shape.layer_bytes(norm_bytes);
        shape.layers = ((left + layer / 2) / layer).max(1);
        // The width of the feed-forward part takes up what whole layers leave over.
        shape.feed_forward = 0;
        let spare = (left / shape.layers).saturating_sub(shape.layer_bytes(norm_bytes));
        shape.feed_forward = (spare / (6 * embedding)).next_multiple_of(32).max(64);
        shape
    }

    fn kv_width(&self) -> u64 {
        self.embedding / self.heads * self.kv_heads
    }

    fn layer_bytes(&self, norm_bytes: u64) -> u64 {
        let matrices = 2 * self.embedding * self.embedding
            + 2 * self.kv_width() * self.embedding
            + 3 * self.feed_forward * self.embedding;
        2 * matrices + 2 * norm_bytes * self.embedding
    }

    /// The matrices and norms (no columns) of a layer in order, by the part they play.
    fn layer(&self) -> [(Part, u64, Option<u64>); 9] {
        let (wide, kv, ff) = (self.embedding, self.kv_width(), self.feed_forward);
        [
            (Part::AttentionNorm, wide, None),
            (Part::Query, wide, Some(wide)),
            (Part::Key, kv, Some(wide)),
            (Part::Value, kv, Some(wide)),
            (Part::AttentionOutput, wide, Some(wide)),
            (Part::FeedForwardNorm, wide, None),
            (Part::Gate, ff, Some(wide)),
            (Part::Up, ff, Some(wide)),
            (Part::Down, wide, Some(ff)),
        ]
    }

    /// All tensors in the order of the file.
    fn tensors(&self, name: impl Fn(Part, u64) -> String) -> Vec<Tensor> {
        let tensor = |part, layer, rows, columns| Tensor {
            name: name(part, layer),
            part,
            rows,
            columns,
        };
        let (vocabulary, wide) = (self.vocabulary, self.embedding);
        let mut tensors = vec![tensor(Part::Embedding, 0, vocabulary, Some(wide))];
        for layer in 0..self.layers {
            let parts = self.layer().into_iter();
            tensors.extend(parts.map(|(part, rows, columns)| tensor(part, layer, rows, columns)));
        }
        tensors.push(tensor(Part::OutputNorm, 0, wide, None));
        tensors.push(tensor(Part::Output, 0, vocabulary, Some(wide)));
        tensors
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Embedding,
    AttentionNorm,
    Query,
    Key,
    Value,
    AttentionOutput,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    OutputNorm,
    Output,
}

/// A tensor to be written; without columns it is a norm, which is all ones.
#[derive(Debug)]
struct Tensor {
    name: String,
    part: Part,
    rows: u64,
    columns: Option<u64>,
}

impl Tensor {
    fn size_bytes(&self, norm_bytes: u64) -> u64 {
        self.columns
            .map_or(self.rows * norm_bytes, |columns| self.rows * columns * 2)
    }
}

/// Shares tensors out over files by bytes, in order; every file gets one at least.
fn share_out(tensors: Vec<Tensor>, files: u32, norm_bytes: u64) -> io::Result<Vec<Vec<Tensor>>> {
    let most = tensors.len();
    if files == 0 || files as usize > most {
        let problem = format!("{files} files for {most} tensors; 1 to {most} are possible");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let total: u64 = tensors
        .iter()
        .map(|tensor| tensor.size_bytes(norm_bytes))
        .sum();
    let mut shares: Vec<Vec<Tensor>> = vec![Vec::new()];
    let mut done = 0;
    for (position, tensor) in tensors.into_iter().enumerate() {
        let open = shares.len() as u64;
        let files_left = u64::from(files) - open;
        let share_is_full = done >= total / u64::from(files) * open;
        let none_to_spare = (most - position) as u64 <= files_left;
        let is_empty = shares.last().is_some_and(Vec::is_empty);
        if files_left > 0 && !is_empty && (share_is_full || none_to_spare) {
            shares.push(Vec::new());
        }
        done += tensor.size_bytes(norm_bytes);
        if let Some(share) = shares.last_mut() {
            share.push(tensor);
        }
    }
    Ok(shares)
}

/// Weights of magnitude 0.0078 to 0.0156: random sign and mantissa under a fixed exponent.
struct Weights {
    state: u64,
    keep: u64,
    set: u64,
    buffer: Vec<u8>,
}

impl Weights {
    fn f16(seed: u64) -> Self {
        Self::new(seed, 0x83ff, 0x2000)
    }

    fn bf16(seed: u64) -> Self {
        Self::new(seed, 0x807f, 0x3c00)
    }

    fn new(seed: u64, keep: u64, set: u64) -> Self {
        let four = 0x0001_0001_0001_0001;
        Self {
            state: seed,
            keep: keep * four,
            set: set * four,
            buffer: Vec::new(),
        }
    }

    /// SplitMix64: its state is a counter, so it never falls into a short period.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// Writes `size_bytes` of weights, 2 bytes each.
    fn write(&mut self, to: &mut impl Write, size_bytes: u64) -> io::Result<()> {
        let mut left = size_bytes;
        while left > 0 {
            let piece = left.min(MIB);
            let words = piece.div_ceil(8);
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            for _ in 0..words {
                let word = self.next() & self.keep | self.set;
                buffer.extend_from_slice(&word.to_le_bytes());
            }
            buffer.truncate(usize::try_from(piece).unwrap_or(usize::MAX));
            to.write_all(&buffer)?;
            self.buffer = buffer;
            left -= piece;
        }
        Ok(())
    }
}

/// A file that is written from its start to its end, in pieces that may be tiny.
fn create(path: &std::path::Path) -> io::Result<io::BufWriter<File>> {
    Ok(io::BufWriter::with_capacity(
        256 * 1024,
        File::create(path)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Catalog, DirTree, Kind, Role};

    fn bytes_of(written: &Written) -> Vec<Vec<u8>> {
        written
            .files
            .iter()
            .map(|file| std::fs::read(file).unwrap())
            .collect()
    }

    #[test]
    fn a_gguf_has_the_size_asked_for_and_is_the_same_again() {
        let directory = tempfile::tempdir().unwrap();
        for (mib, splits) in [(1, 1), (8, 1), (24, 3)] {
            let path = directory.path().join(format!("m{mib}.gguf"));
            let written = write_gguf(&path, mib * MIB, splits, 1).unwrap();
            let ratio = written.size_bytes * 100 / (mib * MIB);
            assert!((92..=108).contains(&ratio), "{mib} MiB: {ratio} %");
            assert_eq!(written.files.len(), splits as usize);
            let first = bytes_of(&written);
            let sizes: u64 = first.iter().map(|bytes| bytes.len() as u64).sum();
            assert_eq!(sizes, written.size_bytes);
            assert!(first == bytes_of(&write_gguf(&path, mib * MIB, splits, 1).unwrap()));
            assert!(first != bytes_of(&write_gguf(&path, mib * MIB, splits, 2).unwrap()));
        }
        let catalog = Catalog::build(&DirTree::new(directory.path()), None);
        let found = catalog.resolve("m24").unwrap();
        let model = catalog.model(found[0]).unwrap();
        assert_eq!((model.files.len(), model.kind), (3, Kind::Gguf));
        assert!(
            model.missing.is_empty() && model.faults.is_empty(),
            "{model:?}"
        );
        assert_eq!(model.details.architecture.as_deref(), Some("llama"));
        assert_eq!(model.details.quantisation.as_deref(), Some("F16"));
        let parameters = model.details.parameters.unwrap();
        assert!(
            (11_000_000..13_000_000).contains(&parameters),
            "{parameters}"
        );
        assert!(write_gguf(&directory.path().join("x.gguf"), MIB, 0, 1).is_err());
        assert!(write_gguf(&directory.path().join("x.gguf"), MIB, 9_999, 1).is_err());
    }

    #[test]
    fn a_directory_is_a_whole_model() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("org/model");
        for shards in [1, 3] {
            let written = write_directory(&path, 4 * MIB, shards, 1).unwrap();
            let ratio = written.size_bytes * 100 / (4 * MIB);
            assert!((92..=108).contains(&ratio), "{ratio} %");
            let first = bytes_of(&written);
            assert!(first == bytes_of(&write_directory(&path, 4 * MIB, shards, 1).unwrap()));
        }
        std::fs::remove_file(path.join("model.safetensors")).unwrap();
        let catalog = Catalog::build(&DirTree::new(directory.path()), None);
        let found = catalog.resolve("org/model").unwrap();
        let model = catalog.model(found[0]).unwrap();
        assert_eq!((model.files.len(), model.kind), (8, Kind::HuggingFace));
        assert!(
            model.missing.is_empty() && model.faults.is_empty(),
            "{model:?}"
        );
        let weights = model.files.iter().filter(|file| file.role == Role::Weights);
        assert_eq!(weights.count(), 3);
        assert_eq!(model.details.quantisation.as_deref(), Some("BF16"));
    }
}
