//! Digests of a copy: BLAKE3 and CRC-64 by chunks in any order, SHA-256 in the order of the bytes.

use std::sync::{Mutex, PoisonError};

use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};
use sha2::{Digest as _, Sha256};

use crate::replica::{Digest, DigestKind};

/// The digest of a whole file from its chunks, each hashed by whoever has just read it, while it
/// is in the processor's cache. All chunks but the last have the same length, a power of two of at
/// least 1 KiB: each is a subtree of BLAKE3's tree over the whole file.
pub(super) struct Parts {
    size_bytes: u64,
    chunk_bytes: u64,
    values: Values,
}

enum Values {
    /// Chaining value of each chunk; the root itself when there is only one.
    Blake3(Mutex<Vec<ChainingValue>>),
    Crc64(Mutex<Vec<u64>>),
}

impl Parts {
    /// `None` for a digest that knows only the order of the bytes.
    pub(super) fn new(kind: DigestKind, size_bytes: u64, chunk_bytes: u64) -> Option<Self> {
        let chunks = usize::try_from(size_bytes.div_ceil(chunk_bytes)).unwrap_or(usize::MAX);
        let values = match kind {
            DigestKind::Blake3 => Values::Blake3(Mutex::new(vec![[0; 32]; chunks])),
            DigestKind::Crc64 => Values::Crc64(Mutex::new(vec![0; chunks])),
            DigestKind::Sha256 => return None,
        };
        Some(Parts {
            size_bytes,
            chunk_bytes,
            values,
        })
    }

    /// Hashes the chunk that starts at `offset`.
    pub(super) fn hash(&self, bytes: &[u8], offset: u64) {
        let index = usize::try_from(offset / self.chunk_bytes).unwrap_or(usize::MAX);
        match &self.values {
            Values::Blake3(values) => {
                let value = if self.size_bytes <= self.chunk_bytes {
                    *blake3::hash(bytes).as_bytes()
                } else {
                    blake3::Hasher::new()
                        .set_input_offset(offset)
                        .update(bytes)
                        .finalize_non_root()
                };
                set(values, index, value);
            }
            Values::Crc64(values) => set(values, index, crc64(bytes)),
        }
    }

    /// The digest of the whole; all chunks must have been hashed.
    pub(super) fn digest(&self) -> Digest {
        match &self.values {
            Values::Blake3(values) => Digest::blake3(self.root(&lock(values))),
            Values::Crc64(values) => Digest::crc64(self.combined(&lock(values))),
        }
    }

    fn root(&self, values: &[ChainingValue]) -> [u8; 32] {
        match values {
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

    fn combined(&self, values: &[u64]) -> u64 {
        let Some((first, rest)) = values.split_first() else {
            return crc64(b"");
        };
        let mut left = self.size_bytes.saturating_sub(self.chunk_bytes);
        let whole_chunk = crc64_shift(self.chunk_bytes);
        rest.iter().fold(*first, |whole, crc| {
            let shift = if left >= self.chunk_bytes {
                whole_chunk
            } else {
                crc64_shift(left)
            };
            left = left.saturating_sub(self.chunk_bytes);
            crc64_multiply(shift, whole) ^ crc
        })
    }
}

/// CRC-64/NVME of `bytes`.
pub(super) fn crc64(bytes: &[u8]) -> u64 {
    let mut digest = crc64fast_nvme::Digest::new();
    digest.write(bytes);
    digest.sum64()
}

/// Reflected polynomial of CRC-64/NVME; the highest bit of a number is the factor of x^0.
const CRC64_POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

/// The factor by which the CRC of some bytes grows when `len` more follow: x^(8 len).
fn crc64_shift(len: u64) -> u64 {
    let (mut result, mut power) = (1 << 63, 1 << 55);
    let mut len = len;
    while len > 0 {
        if len & 1 == 1 {
            result = crc64_multiply(result, power);
        }
        power = crc64_multiply(power, power);
        len >>= 1;
    }
    result
}

/// The product of two polynomials modulo that of the CRC.
fn crc64_multiply(a: u64, b: u64) -> u64 {
    let (mut product, mut b) = (0, b);
    for bit in (0..64).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = if b & 1 == 1 {
            b >> 1 ^ CRC64_POLYNOMIAL
        } else {
            b >> 1
        };
    }
    product
}

fn set<T>(values: &Mutex<Vec<T>>, index: usize, value: T) {
    if let Some(slot) = lock(values).get_mut(index) {
        *slot = value;
    }
}

fn lock<T>(values: &Mutex<Vec<T>>) -> std::sync::MutexGuard<'_, Vec<T>> {
    values.lock().unwrap_or_else(PoisonError::into_inner)
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
        Digest::sha256(self.0.finalize().into())
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
            let wanted = [
                Digest::blake3(*blake3::hash(bytes).as_bytes()),
                Digest::crc64(crc64(bytes)),
            ];
            for wanted in wanted {
                let parts = Parts::new(wanted.kind, size as u64, CHUNK as u64).unwrap();
                let chunks: Vec<_> = bytes.chunks(CHUNK).enumerate().collect();
                for (index, chunk) in chunks.into_iter().rev() {
                    parts.hash(chunk, (index * CHUNK) as u64);
                }
                assert_eq!(parts.digest(), wanted, "{size} bytes");
            }
        }
    }

    #[test]
    fn the_crc_is_the_one_that_others_compute() {
        // The check value of CRC-64/NVME in the catalogue of CRCs.
        assert_eq!(crc64(b"123456789"), 0xae8b_1486_0a79_9888);
    }
}
