//! Digests of a copy: BLAKE3 by chunks in any order, SHA-256 in the order of the bytes.

use std::sync::{Mutex, PoisonError};

use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};
use sha2::{Digest as _, Sha256};

use crate::replica::{Digest, DigestKind};

/// BLAKE3 of a whole file from its chunks, hashed by whoever has just read them, while they are in
/// the processor's cache. All chunks but the last have the same length, a power of two of at least
/// 1 KiB, so each is a subtree of the tree over the whole file.
pub(super) struct Blake3Parts {
    size_bytes: u64,
    chunk_bytes: u64,
    /// Chaining value of each chunk; the root itself when there is only one.
    values: Mutex<Vec<ChainingValue>>,
}

impl Blake3Parts {
    pub(super) fn new(size_bytes: u64, chunk_bytes: u64) -> Self {
        let chunks = usize::try_from(size_bytes.div_ceil(chunk_bytes)).unwrap_or(usize::MAX);
        Blake3Parts {
            size_bytes,
            chunk_bytes,
            values: Mutex::new(vec![[0; 32]; chunks]),
        }
    }

    /// Hashes the chunk that starts at `offset`.
    pub(super) fn hash(&self, bytes: &[u8], offset: u64) {
        let value = if self.size_bytes <= self.chunk_bytes {
            *blake3::hash(bytes).as_bytes()
        } else {
            blake3::Hasher::new()
                .set_input_offset(offset)
                .update(bytes)
                .finalize_non_root()
        };
        let index = usize::try_from(offset / self.chunk_bytes).unwrap_or(usize::MAX);
        if let Some(slot) = self.lock().get_mut(index) {
            *slot = value;
        }
    }

    /// The digest of the whole; all chunks must have been hashed.
    pub(super) fn root(&self) -> [u8; 32] {
        let values = self.lock();
        match values.as_slice() {
            [] => *blake3::hash(b"").as_bytes(),
            [only] => *only,
            values => {
                let (left, right) = self.halves(values, self.size_bytes);
                *hazmat::merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
            }
        }
    }

    fn subtree(&self, values: &[ChainingValue], len: u64) -> ChainingValue {
        if let [only] = values {
            return *only;
        }
        let (left, right) = self.halves(values, len);
        hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
    }

    fn halves(&self, values: &[ChainingValue], len: u64) -> (ChainingValue, ChainingValue) {
        let left_len = hazmat::left_subtree_len(len);
        let chunks = usize::try_from(left_len / self.chunk_bytes).unwrap_or(usize::MAX);
        let (left, right) = values.split_at(chunks);
        (
            self.subtree(left, left_len),
            self.subtree(right, len - left_len),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ChainingValue>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SHA-256, byte by byte in order.
pub(super) struct Sequential(Sha256);

impl Sequential {
    pub(super) fn new() -> Self {
        Sequential(Sha256::new())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        Digest {
            kind: DigestKind::Sha256,
            bytes: self.0.finalize().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_order_give_the_digest_of_the_whole() {
        const CHUNK: usize = 64 << 10;
        let all: Vec<u8> = (0..CHUNK * 9 + 5).map(|n| (n % 251) as u8).collect();
        let sizes = [0, 1, 1024, CHUNK - 1, CHUNK, CHUNK + 1]
            .into_iter()
            .chain((2..=9).flat_map(|n| [n * CHUNK - 1, n * CHUNK, n * CHUNK + 1]));
        for size in sizes {
            let bytes = &all[..size];
            let parts = Blake3Parts::new(size as u64, CHUNK as u64);
            let chunks: Vec<_> = bytes.chunks(CHUNK).enumerate().collect();
            for (index, chunk) in chunks.into_iter().rev() {
                parts.hash(chunk, (index * CHUNK) as u64);
            }
            assert_eq!(
                parts.root(),
                *blake3::hash(bytes).as_bytes(),
                "{size} bytes"
            );
        }
    }
}
