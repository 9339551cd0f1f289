//! Every byte arrives, whatever the source does; nothing that went wrong gets a digest.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::replica::ReplicaOrigin;
use crate::testing::{Fault, MemorySource, TestPool, content, origin_of, until_used};

const CHUNK: usize = 64 << 10;

fn settings(expected: Option<Digest>) -> CopySettings {
    CopySettings {
        threads: NonZeroUsize::new(4).unwrap(),
        chunk_bytes: CHUNK as u64,
        expected,
        record: DigestKind::Blake3,
    }
}

fn partial(test: &TestPool, size: usize) -> Partial {
    let claim = test.pool.try_reserve(size as u64).unwrap();
    Partial::create(claim, origin_of(size)).unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

fn blake3_of(bytes: &[u8]) -> Digest {
    Digest::blake3(*blake3::hash(bytes).as_bytes())
}

fn bytes_of(partial: &Partial) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(partial.size_bytes()).unwrap()];
    partial.file().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn every_size_arrives_with_either_digest() {
    let sizes = [
        0,
        1,
        4095,
        4096,
        4097,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        9 * CHUNK,
        9 * CHUNK + 777,
    ];
    for test in TestPool::all("every_size_arrives_with_either_digest") {
        for (size, reads_along) in sizes
            .into_iter()
            .flat_map(|size| [(size, false), (size, true)])
        {
            let bytes = content(size, size as u64);
            let crc = Digest::crc64(hash::crc64(&bytes));
            let promised = [sha256(&bytes), blake3_of(&bytes), crc].map(Some);
            for expected in promised.into_iter().chain([None]) {
                let partial = partial(&test, size);
                let source = MemorySource::new(bytes.clone());
                let control = CopyControl::new();
                if reads_along {
                    control.demand(0..1);
                }
                let digest = copy(&source, &partial, &settings(expected), &control).unwrap();
                assert_eq!(digest, expected.unwrap_or_else(|| blake3_of(&bytes)));
                assert_eq!(bytes_of(&partial), bytes, "{size} bytes");
                let progress = control.progress();
                assert_eq!(progress.done_bytes, size as u64);
                assert_eq!(progress.total_bytes, size as u64);
                assert!(control.is_complete(0..u64::MAX));
            }
        }
    }
}

#[test]
fn a_replica_that_was_damaged_is_told_from_a_whole_one() {
    for test in TestPool::all("a_replica_that_was_damaged_is_told_from_a_whole_one") {
        for size in [0, 1, 4096, 5 * CHUNK + 77] {
            let bytes = content(size, 5);
            let crc = Digest::crc64(hash::crc64(&bytes));
            for expected in [sha256(&bytes), blake3_of(&bytes), crc] {
                let partial = partial(&test, size);
                let source = MemorySource::new(bytes.clone());
                let control = CopyControl::new();
                let digest = copy(&source, &partial, &settings(Some(expected)), &control).unwrap();
                let replica = partial.publish(digest).unwrap();
                assert!(verify(&replica).unwrap(), "{size} bytes");
                if size > 0 {
                    let path = test.path().join("replicas").join(replica.id().data_name());
                    let file = File::options().write(true).open(path).unwrap();
                    let last = size as u64 - 1;
                    file.write_all_at(&[bytes[size - 1] ^ 1], last).unwrap();
                    assert!(!verify(&replica).unwrap(), "{size} bytes");
                }
            }
        }
    }
}

#[test]
fn the_last_page_ends_with_zeros() {
    for test in TestPool::all("the_last_page_ends_with_zeros") {
        let bytes = content(CHUNK + 100, 3);
        let partial = partial(&test, bytes.len());
        copy(
            &MemorySource::new(bytes),
            &partial,
            &settings(None),
            &CopyControl::new(),
        )
        .unwrap();
        if test.pool.is_memory() {
            let mut map = FileMap::of_private_file(partial.file(), 0, CHUNK as u64 + 4096).unwrap();
            assert!(map.bytes_mut()[CHUNK + 100..].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn a_fault_at_any_read_is_survived_or_reported() {
    let size = 6 * CHUNK + 123;
    let bytes = content(size, 11);
    for test in TestPool::all("a_fault_at_any_read_is_survived_or_reported") {
        let used = test.pool.usage().unwrap().used_bytes;
        for expected in [None, Some(sha256(&bytes))] {
            for fault_at in 1..=8 {
                let run = |fault| {
                    let partial = partial(&test, size);
                    let source = MemorySource::with_fault(bytes.clone(), fault, fault_at);
                    let result = copy(&source, &partial, &settings(expected), &CopyControl::new());
                    (result, bytes_of(&partial))
                };
                for survived in [Fault::None, Fault::Interrupted, Fault::Short] {
                    let (result, copied) = run(survived);
                    assert!(result.is_ok(), "{survived:?} at {fault_at}");
                    assert_eq!(copied, bytes);
                }
                if fault_at == 8 {
                    continue;
                }
                let error = run(Fault::Error).0.unwrap_err();
                assert!(error.offset.is_some_and(|at| at < size as u64), "{error}");
                assert!(matches!(error.kind, ErrorKind::Io(_)), "{error}");
                assert_eq!(error.path, "dir/model.gguf");
                for changed in [Fault::Truncated, Fault::Grown, Fault::Changed] {
                    let error = run(changed).0.unwrap_err();
                    assert!(
                        matches!(error.kind, ErrorKind::SourceChanged),
                        "{changed:?} {error}"
                    );
                }
            }
        }
        until_used(&test.pool, used);
    }
}

#[test]
fn corrupt_contents_are_told_from_the_name() {
    for test in TestPool::all("corrupt_contents_are_told_from_the_name") {
        let bytes = content(3 * CHUNK, 5);
        let wanted = sha256(b"something else");
        let partial = partial(&test, bytes.len());
        let source = MemorySource::new(bytes.clone());
        let error = copy(
            &source,
            &partial,
            &settings(Some(wanted)),
            &CopyControl::new(),
        );
        match error.unwrap_err().kind {
            ErrorKind::DigestMismatch {
                wanted: text,
                found,
            } => {
                assert_eq!(text, wanted.to_string());
                assert_eq!(found, sha256(&bytes).to_string());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_source_that_is_another_file_is_not_copied() {
    for test in TestPool::all("a_source_that_is_another_file_is_not_copied") {
        let partial = partial(&test, 100);
        let source = MemorySource::new(content(101, 1));
        let error = copy(&source, &partial, &settings(None), &CopyControl::new()).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::SourceChanged));
    }
}

/// Stops at its first read until it is let go.
struct Gated {
    inner: MemorySource,
    go: std::sync::Barrier,
    reads: AtomicU64,
}

impl Source for Gated {
    fn identity(&self) -> std::io::Result<Identity> {
        self.inner.identity()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
        if self.reads.fetch_add(1, Ordering::SeqCst) == 0 {
            self.go.wait();
            self.go.wait();
        }
        self.inner.read_at(bytes, offset)
    }
}

#[test]
fn a_cancelled_copy_ends_before_its_next_chunk() {
    for test in TestPool::all("a_cancelled_copy_ends_before_its_next_chunk") {
        for expected in [None, Some(sha256(b""))] {
            let size = 40 * CHUNK;
            let partial = partial(&test, size);
            let inner = MemorySource::new(content(size, 1));
            let source = Gated {
                inner,
                go: std::sync::Barrier::new(2),
                reads: AtomicU64::new(0),
            };
            let control = CopyControl::new();
            let mut one_thread = settings(expected);
            one_thread.threads = NonZeroUsize::MIN;
            std::thread::scope(|scope| {
                let copying = scope.spawn(|| copy(&source, &partial, &one_thread, &control));
                source.go.wait();
                control.cancel();
                source.go.wait();
                let error = copying.join().unwrap().unwrap_err();
                assert!(matches!(error.kind, ErrorKind::Cancelled), "{error}");
            });
            assert!(control.progress().done_bytes < size as u64);
            assert_eq!(source.reads.load(Ordering::SeqCst), 1);
        }
    }
}

#[test]
fn a_failure_ends_a_paused_copy() {
    let test = TestPool::directory(&std::env::temp_dir());
    let size = 10 * CHUNK;
    let partial = partial(&test, size);
    let control = Arc::new(CopyControl::new());
    let source = MemorySource::with_fault(content(size, 1), Fault::Error, 1);
    control.pause();
    // One thread passes the closed gate for the demand and fails; the others must not stay there.
    control.demand(0..1);
    let error = copy(&source, &partial, &settings(None), &control).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Io(_)), "{error}");
}

#[test]
fn finished_ranges_are_announced_once_each() {
    for test in TestPool::all("finished_ranges_are_announced_once_each") {
        let size = 5 * CHUNK + 1;
        let announced = Arc::new(AtomicU64::new(0));
        let sum = Arc::clone(&announced);
        let control = CopyControl::new();
        control.set_on_range(move |range| {
            sum.fetch_add(range.end - range.start, Ordering::SeqCst);
        });
        let partial = partial(&test, size);
        let source = MemorySource::new(content(size, 1));
        copy(&source, &partial, &settings(None), &control).unwrap();
        assert_eq!(announced.load(Ordering::SeqCst), size as u64);
    }
}

#[test]
fn who_reads_along_gets_the_bytes_before_they_are_hashed() {
    let chunks = 5;
    let bytes = content(chunks * CHUNK, 1);
    let mut changed = bytes.clone();
    changed[0] ^= 1;
    // What is changed when the last chunk has come is seen by what is hashed after that.
    let digest_with = |control: CopyControl| {
        let test = TestPool::directory(Path::new("/dev/shm"));
        assert!(test.pool.is_memory());
        let partial = partial(&test, bytes.len());
        let (file, first) = (partial.shared_file(), changed[0]);
        let last = bytes.len() as u64;
        control.set_on_range(move |range| {
            if range.end == last {
                file.write_all_at(&[first], 0).unwrap();
            }
        });
        // One thread, so that there is one order.
        let settings = CopySettings {
            threads: NonZeroUsize::MIN,
            ..settings(None)
        };
        let source = MemorySource::new(bytes.clone());
        let digest = copy(&source, &partial, &settings, &control).unwrap();
        assert_eq!(control.progress().done_bytes, last);
        digest
    };
    assert_eq!(digest_with(CopyControl::new()), blake3_of(&bytes));
    let demanded = CopyControl::new();
    demanded.demand(0..1);
    assert_eq!(digest_with(demanded), blake3_of(&changed));
    // Somebody waits for the whole.
    let urged = CopyControl::new();
    urged.demand(0..1);
    urged.urge();
    assert_eq!(digest_with(urged), blake3_of(&bytes));
}

#[test]
fn a_panicking_source_does_not_hang_the_copy() {
    let test = TestPool::directory(&std::env::temp_dir());
    for expected in [None, Some(sha256(b""))] {
        let size = 10 * CHUNK;
        let partial = partial(&test, size);
        let source = MemorySource::with_fault(content(size, 1), Fault::Panic, 3);
        let attempt = std::panic::AssertUnwindSafe(|| {
            copy(&source, &partial, &settings(expected), &CopyControl::new())
        });
        if let Ok(result) = std::panic::catch_unwind(attempt) {
            assert!(result.is_err());
        }
    }
}

#[test]
fn silly_chunks_are_refused() {
    let test = TestPool::directory(&std::env::temp_dir());
    let partial = partial(&test, 10);
    let source = MemorySource::new(content(10, 1));
    for chunk_bytes in [0, 1, 4096, 65_537, 1 << 40] {
        let settings = CopySettings {
            chunk_bytes,
            ..settings(None)
        };
        let error = copy(&source, &partial, &settings, &CopyControl::new()).unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Invalid(_)), "{chunk_bytes}");
    }
}

#[test]
fn real_files_are_copied_directly_or_through_the_page_cache() {
    for test in TestPool::all("real_files_are_copied_directly_or_through_the_page_cache") {
        for parent in [std::env::temp_dir(), "/dev/shm".into()] {
            let Ok(mut named) = tempfile::NamedTempFile::new_in(&parent) else {
                continue;
            };
            let bytes = content(5 * CHUNK + 4097, 9);
            named.write_all(&bytes).unwrap();
            for direct in [true, false] {
                let file = File::open(named.path()).unwrap();
                let source = if direct {
                    FileSource::new(file)
                } else {
                    FileSource::buffered(file)
                };
                let origin = ReplicaOrigin {
                    source: source.identity().unwrap(),
                    ..origin_of(0)
                };
                let claim = test.pool.try_reserve(bytes.len() as u64).unwrap();
                let partial = Partial::create(claim, origin).unwrap();
                let digest = copy(&source, &partial, &settings(None), &CopyControl::new());
                assert_eq!(digest.unwrap(), blake3_of(&bytes));
                assert_eq!(bytes_of(&partial), bytes);
            }
        }
    }
}

/// A store that takes seconds for a chunk is asked for less at once, so that it is seen to get on.
#[test]
fn a_thread_asks_for_what_comes_in_half_a_second() {
    let mut piece = Piece::default();
    assert_eq!(piece.bytes, 64 << 10);
    piece.came(64 << 10, Duration::from_millis(2));
    assert_eq!(piece.bytes, 8 << 20);
    piece.came(2 << 20, Duration::from_secs(4));
    assert_eq!(piece.bytes, 256 << 10);
    piece.came(256 << 10, Duration::from_secs(60));
    assert_eq!(piece.bytes, 64 << 10);
    piece.came(2 << 20, Duration::ZERO);
    assert_eq!(piece.bytes, 64 << 20);
}
