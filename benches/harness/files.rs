//! Files that are measured: their making, and ways to read them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::OFlags;
use speedloader_fs::sys::map::{HugeBuffer, ReadMap};

use super::report::Sample;

/// Bytes of a read where large ones are measured.
const READ_BYTES: usize = 1 << 20;
/// Bytes of a random read, and of a page.
const PAGE_BYTES: usize = 4096;
/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// A small generator of numbers that look random: the same in every run.
pub struct Numbers(u64);

impl Numbers {
    /// From a seed that is not zero.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed | 1)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next one below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }
}

/// Writes bytes that do not compress, and makes them durable.
///
/// # Errors
/// The kernel's answer.
pub fn write_file(path: &Path, bytes: u64) -> Result<()> {
    let mut file =
        File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut numbers = Numbers::new(bytes ^ 0x9e37_79b9_7f4a_7c15);
    let mut block = vec![0_u8; READ_BYTES];
    let mut left = usize::try_from(bytes)?;
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&numbers.next().to_ne_bytes());
        }
        let part = left.min(block.len());
        file.write_all(&block[..part])?;
        left -= part;
    }
    Ok(file.sync_all()?)
}

/// Drops a file's clean pages from the page cache, and nobody else's.
///
/// # Errors
/// The kernel's answer.
pub fn forget_pages(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// A way to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `read(2)` of 1 MiB, front to back.
    Read,
    /// `pread(2)` of 4 KiB anywhere.
    RandomRead,
    /// A mapping, one word of every cache line, front to back.
    MapLines,
    /// A mapping, one word of every page, in random order.
    MapRandomPages,
    /// `read(2)` of 1 MiB with O_DIRECT.
    Direct,
}

impl Access {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Access::Read => "read(2) 1 MiB",
            Access::RandomRead => "pread 4 KiB, random",
            Access::MapLines => "mmap, every line",
            Access::MapRandomPages => "mmap, random pages",
            Access::Direct => "O_DIRECT 1 MiB",
        }
    }

    /// What [`Access::rate`] counts.
    pub fn unit(self) -> &'static str {
        match self {
            Access::RandomRead | Access::MapRandomPages => "M/s",
            _ => "GB/s",
        }
    }

    /// Reads the file by so many threads; the rate. Opening and closing are not part of it, mapping is.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn rate(self, path: &Path, threads: usize) -> Result<Sample> {
        let open = || {
            let direct = if self == Access::Direct {
                OFlags::DIRECT.bits().cast_signed()
            } else {
                0
            };
            let mut options = File::options();
            let file = options.read(true).custom_flags(direct).open(path);
            file.with_context(|| format!("cannot open {}", path.display()))
        };
        let files = (0..threads).map(|_| open()).collect::<Result<Vec<_>>>()?;
        let bytes = usize::try_from(files[0].metadata()?.len())?;
        let share = bytes / threads / READ_BYTES * READ_BYTES;
        ensure!(share > 0, "{} is too small", path.display());
        let start = Barrier::new(threads);
        let spans = std::thread::scope(|scope| -> Result<Vec<Span>> {
            let work = |(index, file)| {
                let start = &start;
                scope.spawn(move || self.read(file, index * share, share, start))
            };
            let workers: Vec<_> = files.iter().enumerate().map(work).collect();
            let spans = workers.into_iter().map(|worker| {
                let span = worker.join();
                span.expect("a reader panicked")
            });
            spans.collect()
        })?;
        let total = (share * threads * self.passes()) as f64;
        let amount = match self {
            Access::RandomRead | Access::MapRandomPages => total / PAGE_BYTES as f64 / 1e6,
            _ => total / 1e9,
        };
        let began = spans.iter().map(|span| span.began).min();
        let ended = spans.iter().map(|span| span.ended).max();
        let elapsed = began.zip(ended).map(|(began, ended)| ended - began);
        let processor = spans.iter().map(|span| span.processor).sum();
        Ok(Sample::rate(
            amount,
            elapsed.context("no thread")?,
            processor,
        ))
    }

    /// How often the file is gone through in one measurement: mappings are too fast for once.
    fn passes(self) -> usize {
        match self {
            Access::MapLines => 4,
            Access::MapRandomPages => 16,
            _ => 1,
        }
    }

    /// One thread's part.
    fn read(self, file: &File, from: usize, bytes: usize, start: &Barrier) -> Result<Span> {
        match self {
            Access::Read | Access::Direct => {
                let mut buffer = HugeBuffer::new(READ_BYTES)?;
                buffer.bytes_mut().fill(1);
                Span::of(start, || {
                    for at in (from..from + bytes).step_by(READ_BYTES) {
                        file.read_exact_at(buffer.bytes_mut(), at as u64)?;
                    }
                    Ok(())
                })
            }
            Access::RandomRead => {
                let mut buffer = vec![1_u8; PAGE_BYTES];
                let mut numbers = Numbers::new(from as u64 + 77);
                Span::of(start, || {
                    for _ in 0..bytes / PAGE_BYTES {
                        let page = from / PAGE_BYTES + numbers.below(bytes / PAGE_BYTES);
                        file.read_exact_at(&mut buffer, (page * PAGE_BYTES) as u64)?;
                    }
                    Ok(())
                })
            }
            Access::MapLines => Span::of(start, || {
                for _ in 0..self.passes() {
                    let map = ReadMap::of_unchanging_file(file)?;
                    let mut sum = 0_u8;
                    for line in map.bytes()[from..from + bytes].chunks_exact(LINE_BYTES) {
                        sum = sum.wrapping_add(line[0]);
                    }
                    std::hint::black_box(sum);
                }
                Ok(())
            }),
            Access::MapRandomPages => {
                let order = shuffled(bytes / PAGE_BYTES, from as u64 + 5);
                Span::of(start, || {
                    for _ in 0..self.passes() {
                        let map = ReadMap::of_unchanging_file(file)?;
                        let part = &map.bytes()[from..from + bytes];
                        let mut sum = 0_u8;
                        for page in &order {
                            sum = sum.wrapping_add(part[*page as usize * PAGE_BYTES]);
                        }
                        std::hint::black_box(sum);
                    }
                    Ok(())
                })
            }
        }
    }
}

/// When one thread did its part, and what it took.
struct Span {
    began: Instant,
    ended: Instant,
    processor: Duration,
}

impl Span {
    /// Waits for the other threads, then does it.
    fn of(start: &Barrier, work: impl FnOnce() -> Result<()>) -> Result<Span> {
        start.wait();
        let (began, processor) = (Instant::now(), thread_time());
        work()?;
        Ok(Span {
            began,
            ended: Instant::now(),
            processor: thread_time() - processor,
        })
    }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// The numbers below `count` in an order that looks random.
pub fn shuffled(count: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
    let mut numbers = Numbers::new(seed);
    for at in (1..order.len()).rev() {
        order.swap(at, numbers.below(at + 1));
    }
    order
}

/// Opens, reads and closes every file, by so many threads; thousands of files a second.
///
/// # Errors
/// The kernel's answer.
pub fn read_all(paths: &[PathBuf], threads: usize) -> Result<f64> {
    let start = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let share = paths.len().div_ceil(threads);
        let read = |part: &'_ [PathBuf]| -> Result<()> {
            let mut buffer = vec![0_u8; READ_BYTES];
            for path in part {
                let mut file = File::open(path)?;
                while file.read(&mut buffer)? > 0 {}
            }
            Ok(())
        };
        let workers: Vec<_> = paths
            .chunks(share)
            .map(|part| scope.spawn(move || read(part)))
            .collect();
        for worker in workers {
            worker.join().expect("a reader panicked")?;
        }
        Ok(())
    })?;
    Ok(paths.len() as f64 / 1e3 / start.elapsed().as_secs_f64())
}

/// Asks for the attributes of every file so many times; thousands a second.
///
/// # Errors
/// The kernel's answer.
pub fn stat_all(paths: &[PathBuf], passes: usize) -> Result<Sample> {
    let (start, processor) = (Instant::now(), thread_time());
    for _ in 0..passes {
        for path in paths {
            std::hint::black_box(rustix::fs::stat(path)?);
        }
    }
    let amount = (paths.len() * passes) as f64 / 1e3;
    Ok(Sample::rate(
        amount,
        start.elapsed(),
        thread_time() - processor,
    ))
}

/// Opens and closes a file so many times; microseconds that each took.
///
/// # Errors
/// The kernel's answer.
pub fn open_close(path: &Path, times: usize) -> Result<Vec<f64>> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        drop(File::open(path)?);
        taken.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(taken)
}
