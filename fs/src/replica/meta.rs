//! What is known of a replica: written beside it before it gets its name, read back at adoption.
//!
//! The file is read as hostile: bounded, versioned, every field checked by its type.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::rel_path::RelPath;

/// Version of the metadata's form; another one is not adopted.
pub const META_VERSION: u32 = 1;
/// Most bytes that metadata may have; two paths of 4,095 bytes written as numbers fit.
pub const META_BYTES_MAX: u64 = 64 << 10;

/// The number of a replica, drawn at random: its name in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(u128);

impl ReplicaId {
    /// A new number that no other replica has.
    pub fn random() -> Self {
        // Each RandomState is seeded from the kernel's random numbers or differs from the last.
        let half = || u128::from(RandomState::new().build_hasher().finish());
        ReplicaId(half() << 64 | half())
    }

    /// From the name of a file in a pool, with its ending; none if the name is not one of ours.
    pub fn parse(name: &[u8]) -> Option<(Self, &str)> {
        let (stem, ending) = std::str::from_utf8(name).ok()?.split_once('.')?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if stem.len() != 32 || !stem.bytes().all(is_hex) {
            return None;
        }
        Some((ReplicaId(u128::from_str_radix(stem, 16).ok()?), ending))
    }

    /// The name of its bytes in the pool.
    pub fn data_name(self) -> String {
        format!("{self}.data")
    }

    pub(super) fn meta_name(self) -> String {
        format!("{self}.meta")
    }

    pub(super) fn partial_name(self) -> String {
        format!("{self}.partial")
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How a digest was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestKind {
    /// SHA-256: what the names of Ollama blobs promise.
    Sha256,
    /// BLAKE3 with 32 bytes: finds also what somebody changed on purpose.
    Blake3,
    /// CRC-64/NVME, as S3 uses it: finds what went wrong by accident, at a fraction of the cost.
    Crc64,
}

impl DigestKind {
    /// `sha256`, `blake3` or `crc64nvme`.
    pub fn as_str(self) -> &'static str {
        match self {
            DigestKind::Sha256 => "sha256",
            DigestKind::Blake3 => "blake3",
            DigestKind::Crc64 => "crc64nvme",
        }
    }

    /// Bytes of such a digest.
    pub fn bytes(self) -> usize {
        match self {
            DigestKind::Sha256 | DigestKind::Blake3 => 32,
            DigestKind::Crc64 => 8,
        }
    }
}

/// A digest of a file's bytes, shown as `sha256:...`, `blake3:...` or `crc64nvme:...`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    /// How it was computed.
    pub kind: DigestKind,
    /// Its bytes, zeros behind them where it has fewer.
    bytes: [u8; 32],
}

impl Digest {
    /// From 32 bytes of SHA-256.
    pub fn sha256(bytes: [u8; 32]) -> Self {
        Digest {
            kind: DigestKind::Sha256,
            bytes,
        }
    }

    /// From 32 bytes of BLAKE3.
    pub fn blake3(bytes: [u8; 32]) -> Self {
        Digest {
            kind: DigestKind::Blake3,
            bytes,
        }
    }

    /// From a CRC-64/NVME.
    pub fn crc64(crc: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&crc.to_be_bytes());
        Digest {
            kind: DigestKind::Crc64,
            bytes,
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.kind.bytes()]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind.as_str())?;
        self.as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The text is not the name of a digest, a colon and its hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDigest;

impl fmt::Display for BadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a digest is `sha256:` or `blake3:` and 64 hexadecimal digits, or `crc64nvme:` and 16",
        )
    }
}

impl std::error::Error for BadDigest {}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let (kind, hex) = text.split_once(':').ok_or(BadDigest)?;
        let kind = match kind {
            "sha256" => DigestKind::Sha256,
            "blake3" => DigestKind::Blake3,
            "crc64nvme" => DigestKind::Crc64,
            _ => return Err(BadDigest),
        };
        if hex.len() != 2 * kind.bytes() {
            return Err(BadDigest);
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            b'A'..=b'F' => Ok(byte - b'A' + 10),
            _ => Err(BadDigest),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Digest { kind, bytes })
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// What a replica is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaOrigin {
    /// The home's directory.
    #[serde(with = "path_bytes")]
    pub home: PathBuf,
    /// The file's path below it.
    pub path: RelPath,
    /// The file when it was copied; its size is the replica's.
    pub source: Identity,
}

/// What is known of a complete replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaMeta {
    /// Of the form of this metadata.
    pub version: u32,
    /// What it is a copy of.
    pub origin: ReplicaOrigin,
    /// Digest of its bytes.
    pub digest: Digest,
}

impl ReplicaMeta {
    /// For a copy that was just verified.
    pub fn new(origin: ReplicaOrigin, digest: Digest) -> Self {
        ReplicaMeta {
            version: META_VERSION,
            origin,
            digest,
        }
    }

    /// As it is written; at most [`META_BYTES_MAX`].
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// As it was written, by us or by somebody hostile; none if it is not of this form.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let meta: ReplicaMeta = serde_json::from_slice(bytes).ok()?;
        (meta.version == META_VERSION).then_some(meta)
    }
}

/// Paths need not be UTF-8: written as bytes.
mod path_bytes {
    use super::{OsStrExt, OsStringExt, Path, PathBuf};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        let bytes = Vec::<u8>::deserialize(from)?;
        Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn digests_are_read_as_they_are_shown() {
        let text = format!("sha256:{}", "0f".repeat(32));
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest, Digest::sha256([0x0f; 32]));
        let crc = Digest::crc64(0x0123_4567_89ab_cdef);
        assert_eq!(crc.to_string(), "crc64nvme:0123456789abcdef");
        assert_eq!(crc.to_string().parse(), Ok(crc));
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.to_uppercase().parse::<Digest>(), Err(BadDigest));
        for bad in [
            "",
            "sha256:",
            "md5:00",
            "sha256:0",
            &format!("sha256:{}", "0g".repeat(32)),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(BadDigest), "{bad}");
        }
        assert_eq!(
            format!("sha256:{}", "é".repeat(32)).parse::<Digest>(),
            Err(BadDigest)
        );
    }

    #[test]
    fn metadata_survives_odd_names_and_rejects_rubbish() {
        let origin = ReplicaOrigin {
            home: PathBuf::from(OsStr::from_bytes(b"/h\xff\n")),
            path: RelPath::new(b"a/\xfe\"b").unwrap(),
            source: Identity {
                dev: 1,
                ino: u64::MAX,
                size: 3,
                mtime_ns: -1,
                ctime_ns: 5,
            },
        };
        let digest = Digest::blake3([7; 32]);
        let meta = ReplicaMeta::new(origin, digest);
        let bytes = meta.to_bytes().unwrap();
        assert_eq!(ReplicaMeta::from_bytes(&bytes), Some(meta));
        for cut in 0..bytes.len() {
            assert_eq!(ReplicaMeta::from_bytes(&bytes[..cut]), None);
        }
        let text = String::from_utf8(bytes).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":2");
        assert_ne!(newer, text);
        assert_eq!(ReplicaMeta::from_bytes(newer.as_bytes()), None);
    }

    #[test]
    fn the_longest_metadata_fits() {
        let long = [b"/".as_slice(), &[0xff; 255]].concat().repeat(16);
        let origin = ReplicaOrigin {
            home: PathBuf::from(OsStr::from_bytes(&long[..4095])),
            path: RelPath::new(&long[1..4095]).unwrap(),
            source: Identity {
                dev: u64::MAX,
                ino: u64::MAX,
                size: u64::MAX,
                mtime_ns: i64::MIN,
                ctime_ns: i64::MIN,
            },
        };
        let digest = Digest::blake3([0xff; 32]);
        let bytes = ReplicaMeta::new(origin, digest).to_bytes().unwrap();
        assert!(bytes.len() as u64 <= META_BYTES_MAX);
    }

    #[test]
    fn names_of_others_are_not_ours() {
        let id = ReplicaId::random();
        assert_eq!(
            ReplicaId::parse(id.data_name().as_bytes()),
            Some((id, "data"))
        );
        assert_ne!(id, ReplicaId::random());
        for other in [
            "",
            ".",
            "data",
            "x.data",
            &format!("{:031x}.data", 1),
            "\u{e9}.data",
        ] {
            assert_eq!(ReplicaId::parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(
            ReplicaId::parse(format!("+{:031x}.data", 1).as_bytes()),
            None
        );
    }
}
