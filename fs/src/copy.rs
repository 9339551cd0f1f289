//! One copy: all bytes of a source into a partial replica, by several threads, hashed on the way.
//!
//! Into a pool in memory the source is read straight into the mapped destination, by direct I/O
//! where the source can; into any other pool through a buffer, since a mapping of a device that
//! vanishes ends in SIGBUS. A copy that returns a digest has read every byte, and its source was
//! the same file before and after. While somebody reads what comes, as it comes, a digest in parts
//! waits until all has come. This module neither opens sources nor names replicas.

mod control;
mod hash;
mod source;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use control::{CopyControl, Pace, Progress};
pub use source::{FileSource, KEPT_BLOCK_BYTES, LentSource, Source};

use crate::errno;
use crate::error::{ErrorKind, FsError, FsResult};
use crate::identity::Identity;
use crate::replica::{Digest, DigestKind, Partial, Replica};
use crate::sys::map::{FileMap, HugeBuffer, PAGE_BYTES, kernel_page_bytes};
use hash::{Parts, Sequential};

/// How to copy.
#[derive(Clone, Debug)]
pub struct CopySettings {
    /// Threads that read; 8 keep far storage busy, 16 a disk whose reader takes the processors meanwhile (measured).
    pub threads: NonZeroUsize,
    /// Bytes read at a time, a power of two of at least 64 KiB; 2 MiB is one huge page.
    pub chunk_bytes: u64,
    /// What the bytes must be, where the file's name promises it.
    pub expected: Option<Digest>,
    /// The digest to record where nothing is promised.
    pub record: DigestKind,
}

impl Default for CopySettings {
    fn default() -> Self {
        CopySettings {
            threads: NonZeroUsize::new(16).unwrap_or(NonZeroUsize::MIN),
            chunk_bytes: 2 << 20,
            expected: None,
            record: DigestKind::Blake3,
        }
    }
}

const CHUNK_BYTES_MIN: u64 = 64 << 10;
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// A thread asks for as much at once as comes in this time, so that a slow store is told from one
/// that hangs.
const READ_TIME: Duration = Duration::from_millis(500);

/// Copies all of `source` into `partial` and returns the digest of the bytes, compared with the
/// expected one.
///
/// # Errors
/// SourceChanged when the source is not the file that `partial` is a copy of, before or after;
/// DigestMismatch; Cancelled; Io with the offset; NoSpace; what the seam injects. The partial is
/// worth nothing then.
pub fn copy(
    source: &dyn Source,
    partial: &Partial,
    settings: &CopySettings,
    control: &CopyControl,
) -> FsResult<Digest> {
    let path = &partial.origin().path;
    let valid = settings.chunk_bytes.is_power_of_two()
        && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&settings.chunk_bytes);
    if !valid {
        let why = "a copy's chunk must be a power of two from 64 KiB to 64 MiB";
        return Err(FsError::new("copy", ErrorKind::Invalid(why)).at(path));
    }
    partial.pool().step("copy.begin")?;
    check_identity(source, partial)?;
    control.begin(partial.size_bytes(), settings.chunk_bytes);
    let found = copy_bytes(source, partial, settings, control)?;
    partial.pool().step("copy.compare")?;
    check_identity(source, partial)?;
    match settings.expected {
        Some(wanted) if wanted != found => {
            let (wanted, found) = (wanted.to_string(), found.to_string());
            Err(FsError::new("verify", ErrorKind::DigestMismatch { wanted, found }).at(path))
        }
        _ => Ok(found),
    }
}

/// Reads a whole replica and compares it with its digest: what lay where others could reach it is not
/// served before. False when it is damaged.
///
/// # Errors
/// Io.
pub fn verify(replica: &Replica) -> FsResult<bool> {
    let path = &replica.meta().origin.path;
    let failed = |error| FsError::io("verify", path, error);
    let chunk_bytes = CopySettings::default().chunk_bytes;
    let size_bytes = replica.size_bytes();
    let digest = replica.meta().digest;
    let parts = Parts::new(digest.kind, size_bytes, chunk_bytes);
    let mut sequence = Sequential::new();
    let source = FileSource::new(replica.file().try_clone().map_err(failed)?);
    let len = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
    let mut buffer = HugeBuffer::new(len).map_err(failed)?;
    let mut offset = 0;
    while offset < size_bytes {
        let wanted = usize::try_from(chunk_bytes.min(size_bytes - offset)).unwrap_or(usize::MAX);
        let mut done = 0;
        while done < wanted {
            let rest = &mut buffer.bytes_mut()[done..];
            match source.read_at(rest, offset + done as u64) {
                Ok(0) => return Ok(false),
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error).at_offset(offset)),
            }
        }
        let bytes = &buffer.bytes_mut()[..wanted];
        match &parts {
            Some(parts) => parts.hash(bytes, offset),
            None => sequence.update(bytes),
        }
        offset += wanted as u64;
    }
    let found = parts.map_or_else(|| sequence.finish(), |parts| parts.digest());
    Ok(found == digest)
}

/// The source must be the very file, unchanged in every respect, that the partial is a copy of.
fn check_identity(source: &dyn Source, partial: &Partial) -> FsResult<()> {
    let path = &partial.origin().path;
    let now: Identity = source
        .identity()
        .map_err(|error| FsError::io("copy", path, error))?;
    let wanted = &partial.origin().source;
    if now.same_contents(wanted) && now.ctime_ns == wanted.ctime_ns {
        return Ok(());
    }
    Err(FsError::new("copy", ErrorKind::SourceChanged).at(path))
}

fn copy_bytes(
    source: &dyn Source,
    partial: &Partial,
    settings: &CopySettings,
    control: &CopyControl,
) -> FsResult<Digest> {
    let size_bytes = partial.size_bytes();
    let chunk_bytes = settings.chunk_bytes;
    let chunks = usize::try_from(size_bytes.div_ceil(chunk_bytes)).unwrap_or(usize::MAX);
    let mut map = None;
    if partial.pool().is_memory() && chunks > 0 {
        let mapped = FileMap::of_private_file(partial.file(), 0, round_to_page(size_bytes));
        map = Some(mapped.map_err(|error| FsError::io("map", &partial.origin().path, error))?);
    }
    let parts = map.as_mut().map(|map| {
        let step = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
        map.bytes_mut()
            .chunks_mut(step)
            .map(Part::new)
            .collect::<Vec<_>>()
    });
    let kind = settings
        .expected
        .map_or(settings.record, |digest| digest.kind);
    let run = Run {
        source,
        partial,
        control,
        chunk_bytes,
        parts,
        hashed: Parts::new(kind, size_bytes, chunk_bytes),
        put_off: Mutex::default(),
        failure: Mutex::new(None),
        finished: Condvar::new(),
    };
    let threads = settings.threads.get().min(chunks);
    let followed = std::thread::scope(|scope| {
        // One chunk, or a digest in parts: this thread does it alone.
        if chunks == 1 || (threads == 1 && run.hashed.is_some()) {
            run.work();
        } else {
            for number in 0..threads {
                let started = std::thread::Builder::new()
                    .name(format!("copy-{number}"))
                    .spawn_scoped(scope, || run.work());
                if let Err(error) = started {
                    run.fail(FsError::io("start a copying thread", run.path(), error));
                }
            }
        }
        if run.hashed.is_none() {
            run.follow(chunks)
        } else {
            None
        }
    });
    if let Some(failure) = lock(&run.failure).take() {
        return Err(failure);
    }
    let hashed_in_parts = || run.hashed.as_ref().map(Parts::digest);
    followed
        .or_else(hashed_in_parts)
        .ok_or_else(|| FsError::new("copy", ErrorKind::Cancelled).at(run.path()))
}

/// One chunk of the mapped destination: first to be filled by one thread, then readable by all.
struct Part<'a> {
    empty: Mutex<Option<&'a mut [u8]>>,
    full: OnceLock<&'a [u8]>,
}

impl<'a> Part<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Part {
            empty: Mutex::new(Some(bytes)),
            full: OnceLock::new(),
        }
    }
}

/// What the threads of one copy share.
struct Run<'a> {
    source: &'a dyn Source,
    partial: &'a Partial,
    control: &'a CopyControl,
    chunk_bytes: u64,
    /// `None` where the destination is written instead of mapped.
    parts: Option<Vec<Part<'a>>>,
    /// `None` where a sequential digest follows the copy.
    hashed: Option<Parts>,
    /// Chunks that came while somebody read along, and are not hashed yet.
    put_off: Mutex<Vec<usize>>,
    failure: Mutex<Option<FsError>>,
    finished: Condvar,
}

impl Run<'_> {
    fn path(&self) -> &crate::rel_path::RelPath {
        &self.partial.origin().path
    }

    /// One thread's share: chunks until there is none left or somebody failed.
    fn work(&self) {
        let _stop = StopOnPanic(self);
        if let Err(error) = self.copy_chunks().and_then(|()| self.hash_put_off()) {
            self.fail(error);
        }
    }

    fn copy_chunks(&self) -> FsResult<()> {
        let mut buffer = None;
        let mut piece = Piece::default();
        while !self.has_failed() {
            if !self.control.pass_gate(self.chunk_bytes) {
                return Err(FsError::new("copy", ErrorKind::Cancelled).at(self.path()));
            }
            let Some(index) = self.control.next_chunk() else {
                return Ok(());
            };
            let range = self.control.chunk_range(index);
            self.partial.pool().step("copy.chunk")?;
            match &self.parts {
                Some(parts) => {
                    self.fill_part(&parts[index], &range, &mut piece)?;
                    // Who reads along has more use for the processor, and for the memory's speed.
                    if self.hashed.is_some() && self.control.is_read_along() {
                        lock(&self.put_off).push(index);
                    } else {
                        self.hash_part(index);
                    }
                }
                None => self.fill_file(&mut buffer, &range, &mut piece)?,
            }
            self.control.finish_chunk(index, self.hashed.is_some());
            self.notify();
        }
        Ok(())
    }

    /// Hashes what was put off; what other threads put off from now on they do themselves.
    fn hash_put_off(&self) -> FsResult<()> {
        let next = || lock(&self.put_off).pop();
        while let Some(index) = next() {
            if self.control.is_cancelled() {
                return Err(FsError::new("copy", ErrorKind::Cancelled).at(self.path()));
            }
            if self.has_failed() {
                break;
            }
            self.hash_part(index);
            self.control.note_progress();
        }
        Ok(())
    }

    /// Hashes a chunk of the mapped destination that is full.
    fn hash_part(&self, index: usize) {
        let part = self.parts.as_ref().and_then(|parts| parts.get(index));
        if let Some(bytes) = part.and_then(|part| part.full.get()) {
            self.hash(bytes, &self.control.chunk_range(index));
        }
    }

    fn fill_part(&self, part: &Part, range: &Range<u64>, piece: &mut Piece) -> FsResult<()> {
        // The claim of the chunk by `next_chunk` was exclusive; a second taker finds nothing.
        let Some(bytes) = lock(&part.empty).take() else {
            return Ok(());
        };
        let wanted = length(range);
        self.partial.allocate(range)?;
        self.fill(bytes, range, piece)?;
        bytes[wanted..].fill(0);
        let bytes: &[u8] = bytes;
        // Set once: the chunk was taken out of `empty` only here.
        let _ = part.full.set(&bytes[..wanted]);
        Ok(())
    }

    fn fill_file(
        &self,
        buffer: &mut Option<HugeBuffer>,
        range: &Range<u64>,
        piece: &mut Piece,
    ) -> FsResult<()> {
        let failed = |error| FsError::io("copy", self.path(), error).at_offset(range.start);
        let wanted = length(range);
        let page = usize::try_from(PAGE_BYTES).unwrap_or(1);
        let bytes = &mut self.buffer(buffer).map_err(failed)?[..wanted.next_multiple_of(page)];
        self.fill(bytes, range, piece)?;
        let written = self.partial.write_at(&bytes[..wanted], range.start);
        written.map_err(|error| {
            if errno::is_out_of_space(&error) {
                let kind = ErrorKind::NoSpace {
                    needed_bytes: self.partial.size_bytes(),
                    free_bytes: 0,
                };
                FsError::new("copy", kind)
                    .at(self.path())
                    .at_offset(range.start)
            } else {
                failed(error)
            }
        })?;
        self.hash(&bytes[..wanted], range);
        Ok(())
    }

    /// Reads `range` to the start of `bytes`, which is as long as that or ends with its page.
    fn fill(&self, bytes: &mut [u8], range: &Range<u64>, piece: &mut Piece) -> FsResult<()> {
        let wanted = length(range);
        let mut done = 0;
        while done < wanted {
            let at = range.start + done as u64;
            if self.control.is_cancelled() {
                return Err(FsError::new("copy", ErrorKind::Cancelled).at(self.path()));
            }
            let (asked, began) = (piece.bytes.min(bytes.len() - done), Instant::now());
            match self.source.read_at(&mut bytes[done..done + asked], at) {
                // Shorter than it said.
                Ok(0) => return Err(self.changed(at)),
                Ok(count) if count > asked => return Err(self.changed(range.end)),
                Ok(count) => {
                    done += count;
                    piece.came(count, began.elapsed());
                    self.control.came(count);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FsError::io("read", self.path(), error).at_offset(at)),
            }
        }
        if done > wanted {
            Err(self.changed(range.end))
        } else {
            Ok(())
        }
    }

    fn changed(&self, offset: u64) -> FsError {
        FsError::new("copy", ErrorKind::SourceChanged)
            .at(self.path())
            .at_offset(offset)
    }

    fn hash(&self, bytes: &[u8], range: &Range<u64>) {
        if let Some(parts) = &self.hashed {
            parts.hash(bytes, range.start);
        }
    }

    /// Hashes the finished prefix while the rest is being copied; `None` when somebody failed.
    fn follow(&self, chunks: usize) -> Option<Digest> {
        let mut hasher = Sequential::new();
        let mut buffer = None;
        for index in 0..chunks {
            if !self.wait_for(index) {
                return None;
            }
            let range = self.control.chunk_range(index);
            match self
                .parts
                .as_ref()
                .and_then(|parts| parts[index].full.get())
            {
                Some(bytes) => hasher.update(bytes),
                None => match self.read_back(&mut buffer, &range) {
                    Ok(bytes) => hasher.update(bytes),
                    Err(error) => {
                        let error = FsError::io("read back", self.path(), error);
                        self.fail(error.at_offset(range.start));
                        return None;
                    }
                },
            }
            self.control.add_done(range.end - range.start);
        }
        Some(hasher.finish())
    }

    fn read_back<'b>(
        &self,
        buffer: &'b mut Option<HugeBuffer>,
        range: &Range<u64>,
    ) -> std::io::Result<&'b [u8]> {
        let buffer = self.buffer(buffer)?;
        let bytes = &mut buffer[..length(range)];
        self.partial.file().read_exact_at(bytes, range.start)?;
        self.partial.forget_pages(range);
        Ok(bytes)
    }

    /// A thread's own buffer of one chunk, made when it is first needed.
    fn buffer<'b>(&self, buffer: &'b mut Option<HugeBuffer>) -> std::io::Result<&'b mut [u8]> {
        let buffer = match buffer {
            Some(buffer) => buffer,
            None => {
                let len = usize::try_from(self.chunk_bytes).unwrap_or(usize::MAX);
                buffer.insert(HugeBuffer::new(len)?)
            }
        };
        Ok(buffer.bytes_mut())
    }

    /// Waits until the chunk is there; false when it will never be.
    fn wait_for(&self, index: usize) -> bool {
        let mut failure = lock(&self.failure);
        while !self.control.is_chunk_complete(index) {
            if failure.is_some() {
                return false;
            }
            failure = self
                .finished
                .wait(failure)
                .unwrap_or_else(PoisonError::into_inner);
        }
        failure.is_none()
    }

    fn has_failed(&self) -> bool {
        lock(&self.failure).is_some()
    }

    /// Keeps the first failure and lets everybody see it.
    fn fail(&self, error: FsError) {
        lock(&self.failure).get_or_insert(error);
        self.control.stop();
        self.finished.notify_all();
    }

    fn notify(&self) {
        if self.hashed.is_none() {
            // Under the lock, or a wake-up between the follower's look and its wait is lost.
            let _held = lock(&self.failure);
            self.finished.notify_all();
        }
    }
}

/// How much a thread asks its source for at once.
struct Piece {
    bytes: usize,
}

impl Default for Piece {
    fn default() -> Self {
        Piece {
            bytes: bytes_of(CHUNK_BYTES_MIN),
        }
    }
}

impl Piece {
    /// So many bytes came in so much time.
    fn came(&mut self, count: usize, time: Duration) {
        let bytes = count as u128 * READ_TIME.as_micros() / time.as_micros().max(1);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        // Powers of two are made of whole pages.
        let bytes = bytes.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        self.bytes = bytes_of(1 << bytes.ilog2());
    }
}

/// A thread that panics must not leave the others waiting for its chunk.
struct StopOnPanic<'a, 'b>(&'a Run<'b>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kind = ErrorKind::Invalid("a copying thread panicked");
            self.0.fail(FsError::new("copy", kind).at(self.0.path()));
        }
    }
}

fn length(range: &Range<u64>) -> usize {
    bytes_of(range.end - range.start)
}

fn bytes_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn round_to_page(bytes: u64) -> u64 {
    let page_bytes = kernel_page_bytes();
    bytes.div_ceil(page_bytes).saturating_mul(page_bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
