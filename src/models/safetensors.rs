//! safetensors: the JSON header of a file.
//!
//! The header is read whole, up to a limit, and folded while it is parsed: no table of tensors is
//! ever built, whatever the header holds.

use super::format::{FormatError, ReadError, Source, json};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

const FORMAT: &str = "safetensors header";
/// The format allows 100 MB; the largest real shards have about 2 MB.
const HEADER_BYTES_MAX: u64 = 16 << 20;
const DIMENSIONS_MAX: usize = 32;

/// What a safetensors header tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SafetensorsFacts {
    /// Number of tensors.
    pub tensors: u64,
    /// Number of weights.
    pub parameters: u64,
    /// Type of most weights, for example `BF16`.
    pub dtype: Option<&'static str>,
    /// The tensors end behind the end of the file.
    pub truncated: bool,
}

const DTYPES: [&str; 18] = [
    "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "I16", "U16",
    "F16", "BF16", "I32", "U32", "F32", "F64", "I64",
];

/// Reads the header of a safetensors file.
///
/// # Errors
/// [`ReadError::Io`] as the source gives it, [`ReadError::Format`] for a header that is too long,
/// not JSON, or describes impossible tensors.
pub fn read(source: &mut Source<'_>) -> Result<SafetensorsFacts, ReadError> {
    let error = |offset, problem| FormatError {
        format: FORMAT,
        offset,
        problem,
    };
    let first = (source.read)(0, 8)?;
    let Ok(length) = <[u8; 8]>::try_from(first) else {
        return Err(error(0, "shorter than the 8 bytes of its length".to_owned()).into());
    };
    let length = u64::from_le_bytes(length);
    if length < 2 || length > source.size.saturating_sub(8) || length > HEADER_BYTES_MAX {
        let problem = format!(
            "a header of {length} bytes in a file of {}; 2 to {HEADER_BYTES_MAX} are read",
            source.size
        );
        return Err(error(0, problem).into());
    }
    let bytes = (source.read)(8, usize::try_from(length).unwrap_or(usize::MAX))?;
    if bytes.len() as u64 != length {
        return Err(error(8, format!("ends after {} of {length} bytes", bytes.len())).into());
    }
    let folded: Folded = json(FORMAT, &bytes)?;
    let most = folded
        .by_dtype
        .iter()
        .enumerate()
        .max_by_key(|(_, weights)| **weights);
    Ok(SafetensorsFacts {
        tensors: folded.tensors,
        parameters: folded
            .by_dtype
            .iter()
            .fold(0, |sum, n| n.saturating_add(sum)),
        dtype: most
            .filter(|(_, weights)| **weights > 0)
            .and_then(|(i, _)| DTYPES.get(i).copied()),
        truncated: folded.data_end > source.size.saturating_sub(8 + length),
    })
}

/// The header, folded: one counter per type, and where the data ends.
#[derive(Default)]
struct Folded {
    tensors: u64,
    by_dtype: [u64; DTYPES.len() + 1],
    data_end: u64,
}

impl<'de> Deserialize<'de> for Folded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FoldedVisitor)
    }
}

struct FoldedVisitor;

impl<'de> Visitor<'de> for FoldedVisitor {
    type Value = Folded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Folded, A::Error> {
        let mut folded = Folded::default();
        while let Some(name) = entries.next_key::<Cow<'_, str>>()? {
            if name == "__metadata__" {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let tensor: Tensor<'_> = entries.next_value()?;
            let [start, end] = tensor.data_offsets;
            if start > end {
                return Err(de::Error::custom(format!("a tensor from {start} to {end}")));
            }
            folded.tensors += 1;
            folded.data_end = folded.data_end.max(end);
            let known = DTYPES.iter().position(|dtype| *dtype == tensor.dtype);
            let weights = &mut folded.by_dtype[known.unwrap_or(DTYPES.len())];
            *weights = weights.saturating_add(tensor.shape.0);
        }
        Ok(folded)
    }
}

#[derive(serde::Deserialize)]
struct Tensor<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Weights,
    data_offsets: [u64; 2],
}

/// A shape, multiplied out.
struct Weights(u64);

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(WeightsVisitor)
    }
}

struct WeightsVisitor;

impl<'de> Visitor<'de> for WeightsVisitor {
    type Value = Weights;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shape")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut shape: A) -> Result<Weights, A::Error> {
        let (mut weights, mut dimensions) = (1_u64, 0);
        while let Some(dimension) = shape.next_element::<u64>()? {
            dimensions += 1;
            weights = weights
                .checked_mul(dimension)
                .filter(|_| dimensions <= DIMENSIONS_MAX)
                .ok_or_else(|| de::Error::custom("a shape of more weights than can be"))?;
        }
        Ok(Weights(weights))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(header: &str, data_bytes: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data_bytes, 0);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<SafetensorsFacts, ReadError> {
        let mut read = |offset: u64, len: usize| {
            let from = usize::try_from(offset).unwrap().min(bytes.len());
            Ok(bytes[from..bytes.len().min(from + len)].to_vec())
        };
        super::read(&mut Source {
            size: bytes.len() as u64,
            read: &mut read,
        })
    }

    const SMALL: &str = r#"{"__metadata__":{"format":"pt"},
        "a":{"dtype":"BF16","shape":[4,8],"data_offsets":[0,64]},
        "b":{"dtype":"F32","shape":[2],"data_offsets":[64,72],"extra":[]}}"#;

    #[test]
    fn a_header_tells_weights_and_type() {
        let facts = read_bytes(&file(SMALL, 72)).unwrap();
        assert_eq!(
            (facts.tensors, facts.parameters, facts.dtype),
            (2, 34, Some("BF16"))
        );
        assert!(!facts.truncated);
        assert!(read_bytes(&file(SMALL, 71)).unwrap().truncated);
        assert_eq!(
            read_bytes(&file("{}", 0)).unwrap(),
            SafetensorsFacts::default()
        );
    }

    #[test]
    fn hostile_headers_are_refused_with_a_reason() {
        let deep = format!("{{\"__metadata__\":{}", "[".repeat(100_000));
        let shape = format!(
            r#"{{"a":{{"dtype":"F32","shape":[{}0]}}}}"#,
            "1,".repeat(99)
        );
        let table: [(&str, Vec<u8>, &str); 12] = [
            ("empty", vec![], "shorter"),
            ("seven bytes", vec![1; 7], "shorter"),
            ("length 0", vec![0; 99], "a header of 0"),
            (
                "length 2^64",
                vec![255; 99],
                "a header of 18446744073709551615",
            ),
            (
                "length over the end",
                92_u64.to_le_bytes().repeat(12),
                "a header of 92",
            ),
            ("not JSON", file("hello", 0), "expected"),
            ("not an object", file("[1,2]", 0), "an object of tensors"),
            ("cut", file(r#"{"a":{"dtype":"#, 0), "EOF"),
            ("deep", file(&deep, 0), "EOF"),
            ("many dimensions", file(&shape, 0), "more weights"),
            (
                "overflow",
                file(
                    r#"{"a":{"dtype":"F32","shape":[9999999999,9999999999]}}"#,
                    0,
                ),
                "more weights",
            ),
            (
                "backwards",
                file(
                    r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[9,1]}}"#,
                    0,
                ),
                "from 9 to 1",
            ),
        ];
        for (name, bytes, wanted) in table {
            let error = read_bytes(&bytes).expect_err(name).to_string();
            assert!(
                error.contains(wanted) && error.starts_with(FORMAT),
                "{name}: {error}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, text: String) {
            let _ = read_bytes(&bytes);
            let _ = read_bytes(&file(&text, 3));
        }

        #[test]
        fn a_mutated_header_never_panics(at: usize, value: u8, cut: usize) {
            let mut bytes = file(SMALL, 72);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read_bytes(&bytes);
            bytes.truncate(cut % bytes.len());
            let _ = read_bytes(&bytes);
        }
    }
}
