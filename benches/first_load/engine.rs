//! What engines do with a model's file, seven ways: each opens it twice, reads a header and then
//! everything. Run as a process of its own, since the daemon tells processes apart.

#![allow(dead_code, reason = "benchmarks use a part each")]

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use serde_json::{Value, json};
use speedloader_fs::sys::map::HugeBuffer;

use crate::mapping;

/// A tensor.
const TENSOR_BYTES: usize = 8 << 20;
/// What a header takes, and how it is asked for.
const HEADER_BYTES: usize = 64 << 10;
const HEADER_READ_BYTES: usize = 4096;

/// A way of loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// llama.cpp: a shared mapping, populated at once.
    Populate,
    /// safetensors: a private mapping, touched in order.
    Private,
    /// The same by four threads in random order.
    Random,
    /// read(2), tensor by tensor.
    Read,
    /// Eight threads with direct I/O, each the next tensor.
    Direct,
    /// Eight threads with direct I/O, each its own eighth.
    DirectParts,
    /// One thread with direct I/O, tensor by tensor.
    DirectOne,
}

/// All of them, with the letters of the notes that they were first measured in.
pub const PATTERNS: [(Pattern, &str); 7] = [
    (Pattern::Populate, "A: mmap, populated (llama.cpp)"),
    (Pattern::Private, "B: mmap, private (safetensors)"),
    (Pattern::Random, "B2: mmap, 4 threads, random tensors"),
    (Pattern::Read, "C: read(2) by tensor"),
    (Pattern::Direct, "D: O_DIRECT, 8 threads, interleaved"),
    (
        Pattern::DirectParts,
        "D2: O_DIRECT, 8 threads, an eighth each",
    ),
    (Pattern::DirectOne, "E: O_DIRECT, one thread (llama.cpp)"),
];

impl Pattern {
    /// Whether it reads past the page cache.
    pub fn is_direct(self) -> bool {
        matches!(
            self,
            Pattern::Direct | Pattern::DirectParts | Pattern::DirectOne
        )
    }
}

/// Loads the file and prints what that took, as a line of JSON: seconds, the checksum of what was
/// seen, and bytes that this process had the disk read.
///
/// # Errors
/// The kernel's answer.
pub fn load(path: &Path, pattern: usize) -> Result<Value> {
    let (pattern, _) = PATTERNS.get(pattern).context("no such pattern")?;
    let start = Instant::now();
    look_at_header(path)?;
    let sum = match pattern {
        Pattern::Populate => sum_of(&mapping::populated(&File::open(path)?)?),
        Pattern::Private => sum_of(&mapping::private(&File::open(path)?)?),
        Pattern::Random => random(path)?,
        Pattern::Read => read(path)?,
        Pattern::Direct => direct(path, 8, |thread, tensor, _| tensor % 8 == thread)?,
        Pattern::DirectParts => direct(path, 8, |thread, tensor, tensors| {
            tensor / tensors.div_ceil(8) == thread
        })?,
        Pattern::DirectOne => direct(path, 1, |_, _, _| true)?,
    };
    let elapsed = start.elapsed();
    Ok(json!({"secs": elapsed.as_secs_f64(), "sum": sum, "read_bytes": disk_bytes("self")?}))
}

/// Bytes that a process had the disk read so far.
///
/// # Errors
/// When it is gone.
pub fn disk_bytes(process: &str) -> Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{process}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("read_bytes:"));
    Ok(line.context("no read_bytes")?.trim().parse()?)
}

fn look_at_header(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    let mut part = vec![0; HEADER_READ_BYTES];
    for at in (0..HEADER_BYTES).step_by(HEADER_READ_BYTES) {
        file.read_exact_at(&mut part, at as u64)?;
    }
    Ok(())
}

/// The sum of a word of each cache line: everything is touched.
fn sum_of(bytes: &[u8]) -> u64 {
    let word = |line: &[u8]| {
        line.first_chunk::<8>()
            .map_or(0, |word| u64::from_ne_bytes(*word))
    };
    bytes
        .chunks(64)
        .fold(0, |sum: u64, line| sum.wrapping_add(word(line)))
}

fn random(path: &Path) -> Result<u64> {
    let map = mapping::private(&File::open(path)?)?;
    let tensors: Vec<&[u8]> = map.chunks(TENSOR_BYTES).collect();
    // A step that has no divisor in common with the number walks through all of them.
    let step = (tensors.len() * 5 / 8..).find(|step| gcd(*step, tensors.len()) == 1);
    let step = step.context("no step")?;
    let order: Vec<&[u8]> = (0..tensors.len())
        .map(|at| tensors[at * step % tensors.len()])
        .collect();
    let sums = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let mine = order.iter().skip(thread).step_by(4);
                scope.spawn(move || mine.fold(0_u64, |sum, part| sum.wrapping_add(sum_of(part))))
            })
            .collect();
        let sums = threads.into_iter().map(|thread| thread.join().unwrap_or(0));
        sums.fold(0, u64::wrapping_add)
    });
    Ok(sums)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn read(path: &Path) -> Result<u64> {
    let file = File::open(path)?;
    let mut buffer = HugeBuffer::new(TENSOR_BYTES)?;
    sum_reads(&file, buffer.bytes_mut(), (0..).map(|at| at * TENSOR_BYTES))
}

fn direct(
    path: &Path,
    threads: usize,
    is_mine: impl Fn(usize, usize, usize) -> bool + Sync,
) -> Result<u64> {
    let size = usize::try_from(std::fs::metadata(path)?.len())?;
    let tensors = size.div_ceil(TENSOR_BYTES);
    let is_mine = &is_mine;
    let sums: Result<Vec<u64>> = std::thread::scope(|scope| {
        let work = move |thread: usize| -> Result<u64> {
            let mut options = File::options();
            let flags = OFlags::DIRECT.bits().cast_signed();
            let file = options.read(true).custom_flags(flags).open(path)?;
            let mut buffer = HugeBuffer::new(TENSOR_BYTES)?;
            let mine = (0..tensors).filter(|tensor| is_mine(thread, *tensor, tensors));
            sum_reads(&file, buffer.bytes_mut(), mine.map(|at| at * TENSOR_BYTES))
        };
        let threads: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a reader panicked"))
        };
        threads.into_iter().map(join).collect()
    });
    Ok(sums?.into_iter().fold(0, u64::wrapping_add))
}

/// Reads a tensor at each offset, until there is none.
fn sum_reads(file: &File, buffer: &mut [u8], offsets: impl Iterator<Item = usize>) -> Result<u64> {
    let mut sum = 0_u64;
    for offset in offsets {
        let mut length = 0;
        while length < buffer.len() {
            match file.read_at(&mut buffer[length..], (offset + length) as u64)? {
                0 => break,
                number => length += number,
            }
        }
        if length == 0 {
            break;
        }
        ensure!(length.is_multiple_of(64), "an odd file");
        sum = sum.wrapping_add(sum_of(&buffer[..length]));
    }
    Ok(sum)
}
