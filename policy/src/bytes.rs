//! The envelope of saved state: magic, version, length, payload, checksum; little-endian.
//!
//! Knows nothing of what is saved. Reading never trusts a length: every count is checked
//! against the bytes that are there before anything is allocated for it.

use std::fmt;
use std::ops::RangeInclusive;

const MAGIC: [u8; 8] = *b"SLPOLICY";
const HEADER_BYTES: usize = 8 + 4 + 8;
const CHECKSUM_BYTES: usize = 8;

/// Why saved bytes cannot be used. The owner sets the file aside and starts cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LearnedFault {
    /// Not a saved policy state at all.
    NotPolicyState,
    /// Written by another version of the format.
    Version {
        /// What the bytes say.
        found: u32,
        /// What this program reads.
        wanted: u32,
    },
    /// Shorter or longer than it says.
    Length {
        /// Bytes given.
        found: u64,
        /// Bytes announced.
        wanted: u64,
    },
    /// Damaged: the checksum differs.
    Checksum,
    /// The checksum is right and the contents are impossible.
    Impossible {
        /// What is impossible.
        what: &'static str,
    },
}

impl fmt::Display for LearnedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPolicyState => write!(f, "not a saved policy state"),
            Self::Version { found, wanted } => {
                write!(
                    f,
                    "policy state of format {found}; this program reads format {wanted}"
                )
            }
            Self::Length { found, wanted } => {
                write!(
                    f,
                    "policy state of {found} bytes should have {wanted}: cut off or damaged"
                )
            }
            Self::Checksum => write!(f, "policy state is damaged: its checksum is wrong"),
            Self::Impossible { what } => write!(f, "policy state is impossible: {what}"),
        }
    }
}

impl std::error::Error for LearnedFault {}

/// FNV-1a, 64 bits: finds damage, not malice (who can write the file can write the checksum).
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &b| {
        (sum ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Collects a payload.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }
    pub fn count(&mut self, value: usize) {
        self.u64(value as u64);
    }

    /// The payload in its envelope.
    pub fn seal(self, version: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.0.len() + CHECKSUM_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(&(self.0.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.0);
        let sum = checksum(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }
}

/// Takes a payload apart.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks the envelope.
    pub fn open(bytes: &'a [u8], version: u32) -> Result<Self, LearnedFault> {
        if bytes.len() < HEADER_BYTES || bytes[..8] != MAGIC {
            return Err(LearnedFault::NotPolicyState);
        }
        let mut header = Reader(&bytes[8..HEADER_BYTES]);
        let found = header.u32()?;
        if found != version {
            return Err(LearnedFault::Version {
                found,
                wanted: version,
            });
        }
        let payload = header.u64()?;
        let wanted = payload.saturating_add((HEADER_BYTES + CHECKSUM_BYTES) as u64);
        if bytes.len() as u64 != wanted {
            return Err(LearnedFault::Length {
                found: bytes.len() as u64,
                wanted,
            });
        }
        let (body, sum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if Reader(sum).u64()? != checksum(body) {
            return Err(LearnedFault::Checksum);
        }
        Ok(Self(&body[HEADER_BYTES..]))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], LearnedFault> {
        let Some((head, tail)) = self.0.split_first_chunk::<N>() else {
            return Err(LearnedFault::Impossible {
                what: "it ends within a field",
            });
        };
        self.0 = tail;
        Ok(*head)
    }
    pub fn u8(&mut self) -> Result<u8, LearnedFault> {
        Ok(self.take::<1>()?[0])
    }
    pub fn u16(&mut self) -> Result<u16, LearnedFault> {
        Ok(u16::from_le_bytes(self.take()?))
    }
    pub fn u32(&mut self) -> Result<u32, LearnedFault> {
        Ok(u32::from_le_bytes(self.take()?))
    }
    pub fn u64(&mut self) -> Result<u64, LearnedFault> {
        Ok(u64::from_le_bytes(self.take()?))
    }
    pub fn f64(&mut self) -> Result<f64, LearnedFault> {
        Ok(f64::from_bits(self.u64()?))
    }
    /// A figure of that range.
    pub fn within(
        &mut self,
        range: RangeInclusive<f64>,
        what: &'static str,
    ) -> Result<f64, LearnedFault> {
        let value = self.f64()?;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(LearnedFault::Impossible { what })
        }
    }
    /// A count of things that take at least `each_bytes` each.
    pub fn count(&mut self, each_bytes: usize) -> Result<usize, LearnedFault> {
        let count = self.u64()?;
        let most = self.0.len() / each_bytes.max(1);
        usize::try_from(count)
            .ok()
            .filter(|&c| c <= most)
            .ok_or(LearnedFault::Impossible {
                what: "a count exceeds the bytes that are there",
            })
    }
    /// Nothing may be left over.
    pub fn finish(self) -> Result<(), LearnedFault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(LearnedFault::Impossible {
                what: "bytes are left over",
            })
        }
    }
}
