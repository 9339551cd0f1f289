//! GGUF: the header of a file, and what file names say about splits and projectors.
//!
//! Only the header is read, never a weight, and of it only what is worth showing. All counts and
//! lengths are the file's claims: each is checked against the bytes that are left, and the bytes
//! read are limited, so a claim can cost neither memory nor time.

use super::format::{FormatError, ReadError, Source, WINDOW_BYTES, Window, short_text};
use std::fmt;

const FORMAT: &str = "GGUF header";
/// Real headers reach some 30 MB: a large vocabulary with its merges.
const HEADER_BYTES_MAX: u64 = 64 << 20;
const PAIRS_MAX: u64 = 65_536;
const TENSORS_MAX: u64 = 1 << 20;
const KEY_BYTES_MAX: u64 = 1_024;
const DIMENSIONS_MAX: u32 = 8;
const ARRAY_DEPTH_MAX: u32 = 4;
/// Texts and arrays in arrays, each of which is looked at to find the next: vocabularies with their merges have less
/// than a million.
const ELEMENTS_MAX: u64 = 2 << 20;
/// The same before the vocabulary.
const QUICK_ELEMENTS_MAX: u64 = 4096;

/// How much of a header is worth reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// One window: what stands before the vocabulary.
    Quick,
    /// As far as needed to tell the number of parameters.
    Full,
}

/// What a GGUF header tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GgufFacts {
    /// `general.architecture`, for example `llama`.
    pub architecture: Option<Box<str>>,
    /// `general.type`: `model`, `adapter`, `mmproj`, `imatrix`.
    pub purpose: Option<Box<str>>,
    /// `general.file_type`, a number of llama.cpp; [`quantisation`] names it.
    pub file_type: Option<u32>,
    /// Number of weights: counted, or as the header rounds it.
    pub parameters: Option<u64>,
    /// Longest context that the model was trained for, in tokens.
    pub context: Option<u64>,
    /// The tensors end behind the end of the file.
    pub truncated: bool,
}

/// Reads the header of a GGUF file.
///
/// # Errors
/// [`ReadError::Io`] as the source gives it, [`ReadError::Format`] for anything that is not a
/// whole, sane, little-endian header of version 2 or 3.
pub fn read(source: &mut Source<'_>, depth: Depth) -> Result<GgufFacts, ReadError> {
    let mut window = Window::new(source, FORMAT, HEADER_BYTES_MAX);
    if window.take(4)? != b"GGUF" {
        return Err(window.error("does not begin with `GGUF`").into());
    }
    let version = window.u32()?;
    if !(2..=3).contains(&version) {
        let what = if version.swap_bytes() <= 3 {
            " (big-endian)"
        } else {
            ""
        };
        return Err(window
            .error(format!("version {version:#x}{what}; 2 and 3 are read"))
            .into());
    }
    let tensors = window.u64()?;
    let pairs = window.u64()?;
    if pairs > PAIRS_MAX || tensors > TENSORS_MAX {
        let problem = format!(
            "{pairs} metadata pairs and {tensors} tensors; at most {PAIRS_MAX} and {TENSORS_MAX} \
             are read"
        );
        return Err(window.error(problem).into());
    }
    let mut header = Header::default();
    let elements_max = match depth {
        Depth::Quick => QUICK_ELEMENTS_MAX,
        Depth::Full => ELEMENTS_MAX,
    };
    let mut elements_left = elements_max;
    for _ in 0..pairs {
        let key = read_text(&mut window, KEY_BYTES_MAX)?;
        // The vocabulary comes after everything that we want to know, and is long.
        if key.starts_with("tokenizer.") && header.is_enough(depth) {
            return Ok(header.facts);
        }
        let value = read_value(&mut window, &mut elements_left)?;
        if value == Value::TooMany {
            if depth == Depth::Quick {
                return Ok(header.facts);
            }
            let problem = format!("more than {elements_max} texts in arrays");
            return Err(window.error(problem).into());
        }
        if value == Value::Other
            && depth == Depth::Quick
            && window.position() > WINDOW_BYTES as u64 / 2
        {
            return Ok(header.facts);
        }
        header.note(&key, value);
    }
    if depth == Depth::Full {
        header.read_tensors(&mut window, tensors)?;
    }
    Ok(header.facts)
}

#[derive(Default)]
struct Header {
    facts: GgufFacts,
    alignment: Option<u64>,
}

impl Header {
    fn is_enough(&self, depth: Depth) -> bool {
        self.facts.architecture.is_some()
            && (depth == Depth::Quick || self.facts.parameters.is_some())
    }

    fn note(&mut self, key: &str, value: Value) {
        let facts = &mut self.facts;
        match (key, value) {
            ("general.architecture", Value::Text(text)) => facts.architecture = Some(text),
            ("general.type", Value::Text(text)) => facts.purpose = Some(text),
            ("general.file_type", Value::Number(n)) => facts.file_type = u32::try_from(n).ok(),
            ("general.parameter_count", Value::Number(n)) => facts.parameters = Some(n),
            ("general.size_label", Value::Text(text)) => {
                facts.parameters = facts.parameters.or_else(|| parameters_of_label(&text));
            }
            ("general.alignment", Value::Number(n)) => self.alignment = Some(n),
            (key, Value::Number(n)) if key.ends_with(".context_length") => facts.context = Some(n),
            _ => {}
        }
    }

    /// Counts the weights and finds where the last tensor ends.
    fn read_tensors(&mut self, window: &mut Window<'_, '_>, tensors: u64) -> Result<(), ReadError> {
        let mut parameters = 0_u64;
        let mut data_bytes = 0_u64;
        for _ in 0..tensors {
            skip_text(window)?;
            let dimensions = window.u32()?;
            if dimensions > DIMENSIONS_MAX {
                let problem = format!("{dimensions} dimensions; at most {DIMENSIONS_MAX} are read");
                return Err(window.error(problem).into());
            }
            let mut weights = 1_u64;
            for _ in 0..dimensions {
                weights = window
                    .u64()?
                    .checked_mul(weights)
                    .ok_or_else(|| window.error("more weights than 64 bits can count"))?;
            }
            let kind = window.u32()?;
            let offset = window.u64()?;
            parameters = parameters.saturating_add(weights);
            let bytes = tensor_bytes(kind, weights).unwrap_or(0);
            data_bytes = data_bytes.max(offset.saturating_add(bytes));
        }
        let alignment = self.alignment.filter(|n| n.is_power_of_two()).unwrap_or(32);
        let data_start = window.position().checked_next_multiple_of(alignment);
        let file_bytes = window.position().saturating_add(window.left());
        if tensors > 0 {
            self.facts.parameters = Some(parameters);
            self.facts.truncated = data_start
                .and_then(|start| start.checked_add(data_bytes))
                .is_none_or(|end| {
                    // Some writers leave out the padding behind the last tensor.
                    end > file_bytes
                });
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
enum Value {
    Text(Box<str>),
    Number(u64),
    Other,
    /// An array of more elements than are looked at.
    TooMany,
}

fn read_value(window: &mut Window<'_, '_>, elements_left: &mut u64) -> Result<Value, ReadError> {
    let kind = window.u32()?;
    match kind {
        0 => Ok(Value::Number(u64::from(window.take(1)?[0]))),
        2 => {
            let bytes = window.take(2)?;
            Ok(Value::Number(
                u64::from(bytes[0]) | u64::from(bytes[1]) << 8,
            ))
        }
        4 => Ok(Value::Number(u64::from(window.u32()?))),
        10 => Ok(Value::Number(window.u64()?)),
        // Writers disagree about signedness; what fits is taken.
        5 => Ok(i32::from_le_bytes(window.u32()?.to_le_bytes()))
            .map(|n| u64::try_from(n).map_or(Value::Other, Value::Number)),
        11 => Ok(i64::from_le_bytes(window.u64()?.to_le_bytes()))
            .map(|n| u64::try_from(n).map_or(Value::Other, Value::Number)),
        8 => {
            let len = window.u64()?;
            if len > KEY_BYTES_MAX {
                window.skip(len)?;
                return Ok(Value::Other);
            }
            Ok(Value::Text(short_text(&text_of_len(window, len)?)))
        }
        9 => skip_array(window, 0, elements_left).map(|is_skipped| match is_skipped {
            true => Value::Other,
            false => Value::TooMany,
        }),
        _ => skip_fixed(window, kind, 1).map(|()| Value::Other),
    }
}

/// Skips an array, unless it has more elements to be looked at than are left; whether it did.
fn skip_array(
    window: &mut Window<'_, '_>,
    depth: u32,
    elements_left: &mut u64,
) -> Result<bool, ReadError> {
    if depth >= ARRAY_DEPTH_MAX {
        let problem = format!("arrays nested more than {ARRAY_DEPTH_MAX} deep");
        return Err(window.error(problem).into());
    }
    let kind = window.u32()?;
    let count = window.u64()?;
    match kind {
        8 | 9 => {
            // Every element has a length of 8 bytes at least, so the count cannot exceed this.
            if count > window.left() / 8 {
                return Err(window.error(array_too_long(count)).into());
            }
            let Some(left) = elements_left.checked_sub(count) else {
                return Ok(false);
            };
            *elements_left = left;
            for _ in 0..count {
                if kind == 8 {
                    skip_text(window)?;
                } else if !skip_array(window, depth + 1, elements_left)? {
                    return Ok(false);
                }
            }
        }
        _ => skip_fixed(window, kind, count)?,
    }
    Ok(true)
}

fn skip_fixed(window: &mut Window<'_, '_>, kind: u32, count: u64) -> Result<(), ReadError> {
    let element_bytes = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => {
            let problem = format!("value type {kind}; 0 to 12 are known");
            return Err(window.error(problem).into());
        }
    };
    let bytes = count
        .checked_mul(element_bytes)
        .filter(|bytes| *bytes <= window.left());
    match bytes {
        Some(bytes) => window.skip(bytes),
        None => Err(window.error(array_too_long(count)).into()),
    }
}

fn array_too_long(count: u64) -> String {
    format!("an array of {count} elements does not fit into the file")
}

fn skip_text(window: &mut Window<'_, '_>) -> Result<(), ReadError> {
    let len = window.u64()?;
    window.skip(len)
}

fn read_text(window: &mut Window<'_, '_>, bytes_max: u64) -> Result<String, ReadError> {
    let len = window.u64()?;
    if len > bytes_max {
        let problem = format!("a key of {len} bytes; at most {bytes_max} are read");
        return Err(window.error(problem).into());
    }
    text_of_len(window, len)
}

fn text_of_len(window: &mut Window<'_, '_>, len: u64) -> Result<String, ReadError> {
    let len = usize::try_from(len).map_err(|_| -> FormatError { window.error("text too long") })?;
    Ok(String::from_utf8_lossy(window.take(len)?).into_owned())
}

/// Bytes of a tensor of ggml type `kind`; `None` for a type that is unknown here.
fn tensor_bytes(kind: u32, weights: u64) -> Option<u64> {
    let (block_weights, block_bytes) = match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        _ => return None,
    };
    weights.div_ceil(block_weights).checked_mul(block_bytes)
}

/// The name of llama.cpp's file type number.
pub fn quantisation(file_type: u32) -> Option<&'static str> {
    const NAMES: [&str; 39] = [
        "F32", "F16", "Q4_0", "Q4_1", "", "", "", "Q8_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S",
        "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ2_XXS", "IQ2_XS",
        "Q2_K_S", "IQ3_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ3_M", "IQ2_S", "IQ2_M",
        "IQ4_XS", "IQ1_M", "BF16", "", "", "", "TQ1_0", "TQ2_0", "MXFP4",
    ];
    let name = NAMES.get(usize::try_from(file_type).ok()?)?;
    (!name.is_empty()).then_some(name)
}

/// The number that a label such as `3.2B`, `270M` or `8x7B` stands for.
pub fn parameters_of_label(label: &str) -> Option<u64> {
    let label = label.trim();
    let unit: u64 = match label.chars().last()? {
        'K' | 'k' => 1_000,
        'M' | 'm' => 1_000_000,
        'B' | 'b' => 1_000_000_000,
        'T' | 't' => 1_000_000_000_000,
        _ => return None,
    };
    let number = &label[..label.len() - 1];
    let (experts, each) = match number.split_once('x') {
        Some((experts, each)) => (experts.parse().ok().filter(|n| *n <= 100_000)?, each),
        None => (1_u64, number),
    };
    let (whole, fraction) = each.split_once('.').unwrap_or((each, ""));
    let whole: u64 = whole.parse().ok().filter(|n| *n <= 1_000_000)?;
    let mut parameters = whole.checked_mul(unit)?;
    let mut worth = unit;
    for digit in fraction.chars().take(9) {
        worth /= 10;
        parameters += u64::from(digit.to_digit(10)?) * worth;
    }
    parameters.checked_mul(experts)
}

/// What the name of a GGUF file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitName<'a> {
    /// The name without ending and split number, as stored.
    pub stem: &'a [u8],
    /// Number of this split, from 1, and of all; `None` for a file that is a model of its own.
    pub split: Option<(u32, u32)>,
}

/// Takes a file name (no directory) apart; `None` if it does not end in `.gguf`.
pub fn split_name(name: &[u8]) -> Option<SplitName<'_>> {
    let cut = name.len().checked_sub(5)?;
    let (stem, ending) = name.split_at(cut);
    if stem.is_empty() || !ending.eq_ignore_ascii_case(b".gguf") {
        return None;
    }
    Some(match split_number(stem) {
        Some((stem, number, count)) => SplitName {
            stem,
            split: Some((number, count)),
        },
        None => SplitName { stem, split: None },
    })
}

/// `NAME-00001-of-00003` -> (`NAME`, 1, 3); the numbering of shards of other formats is the same.
pub fn split_number(stem: &[u8]) -> Option<(&[u8], u32, u32)> {
    let cut = stem.len().checked_sub("-00001-of-00003".len())?;
    let (name, tail) = stem.split_at(cut);
    if name.is_empty() || tail[0] != b'-' || &tail[6..10] != b"-of-" {
        return None;
    }
    let (number, count) = (digits(&tail[1..6])?, digits(&tail[10..])?);
    (1..=count)
        .contains(&number)
        .then_some((name, number, count))
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0_u32, |n, digit| {
        let digit = u32::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a file name marks a multimodal projector, which is of use beside its model only.
pub fn is_projector(name: &[u8]) -> bool {
    name.windows(6)
        .any(|part| part.eq_ignore_ascii_case(b"mmproj"))
}

impl fmt::Display for SplitName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.stem))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Builds headers piece by piece, right or wrong.
    #[derive(Clone)]
    pub(crate) struct Bytes(pub(crate) Vec<u8>);

    impl Bytes {
        pub(crate) fn header(tensors: u64, pairs: u64) -> Self {
            let mut bytes = Self(b"GGUF".to_vec());
            bytes.0.extend(3_u32.to_le_bytes());
            bytes.u64(tensors).u64(pairs);
            bytes
        }
        pub(crate) fn u32(&mut self, n: u32) -> &mut Self {
            self.0.extend(n.to_le_bytes());
            self
        }
        pub(crate) fn u64(&mut self, n: u64) -> &mut Self {
            self.0.extend(n.to_le_bytes());
            self
        }
        pub(crate) fn text(&mut self, text: &str) -> &mut Self {
            self.u64(text.len() as u64);
            self.0.extend(text.as_bytes());
            self
        }
        pub(crate) fn pair(&mut self, key: &str, value: &str) -> &mut Self {
            self.text(key).u32(8).text(value)
        }
        pub(crate) fn number(&mut self, key: &str, value: u32) -> &mut Self {
            self.text(key).u32(4).u32(value)
        }
    }

    pub(crate) fn read_bytes(
        bytes: &[u8],
        size: u64,
        depth: Depth,
    ) -> Result<GgufFacts, ReadError> {
        let mut read = |offset: u64, len: usize| {
            let from = usize::try_from(offset).unwrap().min(bytes.len());
            Ok(bytes[from..bytes.len().min(from + len)].to_vec())
        };
        super::read(
            &mut Source {
                size,
                read: &mut read,
            },
            depth,
        )
    }

    pub(crate) fn small_model() -> Vec<u8> {
        let mut bytes = Bytes::header(1, 5);
        bytes
            .pair("general.architecture", "llama")
            .number("general.file_type", 15);
        bytes.number("llama.context_length", 4096);
        bytes
            .text("tokenizer.ggml.tokens")
            .u32(9)
            .u32(8)
            .u64(2)
            .text("a")
            .text("b");
        bytes
            .text("tokenizer.ggml.scores")
            .u32(9)
            .u32(6)
            .u64(2)
            .u32(0)
            .u32(0);
        bytes
            .text("output.weight")
            .u32(2)
            .u64(64)
            .u64(2)
            .u32(0)
            .u64(0);
        let start = bytes.0.len().next_multiple_of(32);
        bytes.0.resize(start + 512, 0);
        bytes.0
    }

    #[test]
    fn a_header_tells_architecture_quantisation_context_and_weights() {
        let bytes = small_model();
        let facts = read_bytes(&bytes, bytes.len() as u64, Depth::Full).unwrap();
        assert_eq!(facts.architecture.as_deref(), Some("llama"));
        assert_eq!(quantisation(facts.file_type.unwrap()), Some("Q4_K_M"));
        assert_eq!((facts.context, facts.parameters), (Some(4096), Some(128)));
        assert!(!facts.truncated);
        let quick = read_bytes(&bytes, bytes.len() as u64, Depth::Quick).unwrap();
        assert_eq!((quick.context, quick.parameters), (Some(4096), None));
        let cut = read_bytes(&bytes, bytes.len() as u64 - 1, Depth::Full).unwrap();
        assert!(cut.truncated);
    }

    #[test]
    fn hostile_headers_are_refused_with_a_reason() {
        let header = Bytes::header;
        let with = |mut bytes: Bytes, build: &dyn for<'a> Fn(&'a mut Bytes) -> &'a mut Bytes| {
            build(&mut bytes);
            bytes.0
        };
        let mut big_endian = b"GGUF".to_vec();
        big_endian.extend(3_u32.to_be_bytes());
        let nested = with(header(0, 1), &|bytes| {
            bytes.text("a").u32(9);
            for _ in 0..100 {
                bytes.u32(9).u64(1);
            }
            bytes
        });
        let table: [(&str, Vec<u8>, u64, &str); 19] = [
            ("empty", vec![], 0, "truncated"),
            ("short magic", b"GGU".to_vec(), 3, "truncated"),
            ("wrong magic", b"GGML\0\0\0\0".to_vec(), 8, "does not begin"),
            ("zeroes", vec![0; 64], 64, "does not begin"),
            ("version 1", b"GGUF\x01\0\0\0".to_vec(), 8, "version"),
            ("big-endian", big_endian, 8, "big-endian"),
            ("no counts", b"GGUF\x03\0\0\0".to_vec(), 8, "truncated"),
            ("2^64 pairs", header(0, u64::MAX).0, 24, "at most"),
            ("2^64 tensors", header(u64::MAX, 0).0, 24, "at most"),
            ("pairs, but no bytes", header(0, 60_000).0, 24, "truncated"),
            (
                "key of 2^63",
                with(header(0, 1), &|b| b.u64(1 << 63)),
                99,
                "key of",
            ),
            (
                "long key",
                with(header(0, 1), &|b| b.u64(5_000)),
                9_000,
                "key of",
            ),
            (
                "type 13",
                with(header(0, 1), &|b| b.text("a").u32(13)),
                99,
                "type 13",
            ),
            (
                "text of 2^64",
                with(header(0, 1), &|b| b.text("a").u32(8).u64(u64::MAX)),
                99,
                "truncated",
            ),
            (
                "array of 2^61 u64",
                with(header(0, 1), &|b| b.text("a").u32(9).u32(10).u64(1 << 61)),
                99,
                "does not fit",
            ),
            (
                "array of 2^60 texts",
                with(header(0, 1), &|b| b.text("a").u32(9).u32(8).u64(1 << 60)),
                1 << 40,
                "does not fit",
            ),
            ("nested arrays", nested, 9_999, "nested"),
            (
                "99 dimensions",
                with(header(1, 0), &|b| b.text("t").u32(99)),
                9_999,
                "dimensions",
            ),
            (
                "overflowing shape",
                with(header(1, 0), &|b| {
                    b.text("t").u32(2).u64(1 << 40).u64(1 << 40)
                }),
                9_999,
                "64 bits",
            ),
        ];
        for (name, bytes, size, wanted) in table {
            let error = read_bytes(&bytes, size, Depth::Full)
                .expect_err(name)
                .to_string();
            assert!(
                error.contains(wanted) && error.starts_with(FORMAT),
                "{name}: {error}"
            );
        }
    }

    /// What is read of a file of a terabyte that has zeroes behind its header, and how many bytes of it.
    fn read_before_zeroes(header: &Bytes, depth: Depth) -> (Result<GgufFacts, ReadError>, usize) {
        let mut read_bytes = 0;
        let mut read = |offset: u64, len: usize| {
            read_bytes += len;
            let from = usize::try_from(offset).unwrap().min(header.0.len());
            let mut piece = header.0[from..].to_vec();
            piece.resize(len, 0);
            Ok(piece)
        };
        let mut source = Source {
            size: 1 << 40,
            read: &mut read,
        };
        let found = super::read(&mut source, depth);
        (found, read_bytes)
    }

    #[test]
    fn a_sparse_giant_costs_no_more_than_the_budget() {
        // One array of 2^36 empty texts in a file of a terabyte of zeroes.
        let mut bytes = Bytes::header(0, 1);
        bytes.text("a").u32(9).u32(8).u64(1 << 36);
        let (found, read_bytes) = read_before_zeroes(&bytes, Depth::Full);
        let error = found.unwrap_err();
        assert!(error.to_string().contains("texts in arrays"), "{error}");
        assert!(read_bytes <= WINDOW_BYTES, "{read_bytes}");
    }

    /// Many of them cost seconds, at each look at what models there are.
    #[test]
    fn of_a_cold_file_one_window_is_read_whatever_it_claims() {
        let mut bytes = Bytes::header(0, 2);
        bytes.pair("general.architecture", "llama");
        bytes.text("a").u32(9).u32(8).u64(1 << 20);
        let (found, read_bytes) = read_before_zeroes(&bytes, Depth::Quick);
        assert_eq!(found.unwrap().architecture.as_deref(), Some("llama"));
        assert!(read_bytes <= WINDOW_BYTES, "{read_bytes}");
    }

    #[test]
    fn names_of_splits_and_labels() {
        let split = |name: &'static str| {
            split_name(name.as_bytes())
                .map(|name| (String::from_utf8_lossy(name.stem).into_owned(), name.split))
        };
        assert_eq!(
            split("a-00001-of-00003.gguf"),
            Some(("a".into(), Some((1, 3))))
        );
        assert_eq!(
            split("a-00004-of-00003.gguf"),
            Some(("a-00004-of-00003".into(), None))
        );
        assert_eq!(
            split("a-00000-of-00003.gguf"),
            Some(("a-00000-of-00003".into(), None))
        );
        assert_eq!(
            split("a-0000x-of-00003.GGUF"),
            Some(("a-0000x-of-00003".into(), None))
        );
        assert_eq!(split(".gguf"), None);
        assert_eq!(split("a.gguf.part"), None);
        assert_eq!(parameters_of_label("3.2B"), Some(3_200_000_000));
        assert_eq!(parameters_of_label("8x7B"), Some(56_000_000_000));
        assert_eq!(parameters_of_label("270M"), Some(270_000_000));
        for wrong in [
            "",
            "B",
            "-1B",
            "1e9B",
            "99999999999999999999B",
            "7",
            "1.äB",
            "€",
        ] {
            assert_eq!(parameters_of_label(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, size: u64, full: bool) {
            let depth = if full { Depth::Full } else { Depth::Quick };
            let _ = read_bytes(&bytes, size, depth);
            let mut headed = Bytes::header(u64::from(full), 3).0;
            headed.extend(&bytes);
            let _ = read_bytes(&headed, headed.len() as u64, depth);
            let _ = split_name(&bytes);
            let _ = parameters_of_label(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn a_mutated_header_never_panics(at: usize, value: u8, cut: usize, size: u64) {
            let mut bytes = small_model();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read_bytes(&bytes, bytes.len() as u64, Depth::Full);
            let _ = read_bytes(&bytes, size, Depth::Full);
            bytes.truncate(cut % bytes.len());
            let _ = read_bytes(&bytes, bytes.len() as u64, Depth::Quick);
        }
    }
}
