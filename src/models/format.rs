//! What the parsers of this room share: their errors, a bounded window on a file, bounded JSON.
//!
//! Must not allocate by a length that a file claims: a window holds at most [`WINDOW_BYTES`] and a
//! whole document at most the limit its caller names.

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use speedloader_fs::rel_path::is_hidden;
use std::fmt;
use std::io;

/// Bytes that a [`Window`] reads at a time.
pub const WINDOW_BYTES: usize = 64 * 1024;

/// A file that is not what it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// The format that was read, for example "GGUF header".
    pub format: &'static str,
    /// Where, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}: {}", self.format, self.offset, self.problem)
    }
}

impl std::error::Error for FormatError {}

/// Why a file could not be understood.
#[derive(Debug)]
pub enum ReadError {
    /// Its bytes could not be had; the next try may succeed.
    Io(io::Error),
    /// Its bytes are wrong; they stay wrong until the file changes.
    Format(FormatError),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("cannot be read"),
            Self::Format(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Format(_) => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<FormatError> for ReadError {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

/// The bytes of one file: its size, and a way to read up to `len` of them from an offset.
pub struct Source<'a> {
    /// Size of the file in bytes.
    pub size: u64,
    /// Reads up to `len` bytes at `offset`, fewer only at the end.
    pub read: &'a mut dyn FnMut(u64, usize) -> io::Result<Vec<u8>>,
}

impl Source<'_> {
    /// The whole file, refused if it is longer than `limit_bytes`.
    ///
    /// # Errors
    /// [`ReadError::Io`] if it cannot be read, [`ReadError::Format`] if it is too long.
    pub fn whole(
        &mut self,
        format: &'static str,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, ReadError> {
        let limit = limit_bytes as u64;
        if self.size > limit {
            let problem = format!("{} bytes long; at most {limit} are read", self.size);
            return Err(FormatError {
                format,
                offset: 0,
                problem,
            }
            .into());
        }
        let mut bytes = (self.read)(0, limit_bytes)?;
        bytes.truncate(limit_bytes);
        Ok(bytes)
    }
}

/// A forward-only reader over a [`Source`] that holds one window and counts what it read.
pub struct Window<'a, 'b> {
    source: &'a mut Source<'b>,
    format: &'static str,
    bytes: Vec<u8>,
    start: u64,
    position: u64,
    budget_bytes: u64,
}

impl<'a, 'b> Window<'a, 'b> {
    /// A reader at offset 0 that refuses to read more than `budget_bytes` in all.
    pub fn new(source: &'a mut Source<'b>, format: &'static str, budget_bytes: u64) -> Self {
        Self {
            source,
            format,
            bytes: Vec::new(),
            start: 0,
            position: 0,
            budget_bytes,
        }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes from here to the end of the file.
    pub fn left(&self) -> u64 {
        self.source.size.saturating_sub(self.position)
    }

    /// An error at this place.
    pub fn error(&self, problem: impl Into<String>) -> FormatError {
        FormatError {
            format: self.format,
            offset: self.position,
            problem: problem.into(),
        }
    }

    /// The next `len` bytes, which must be at most half a window.
    ///
    /// # Errors
    /// If the file ends before, or the budget is spent.
    pub fn take(&mut self, len: usize) -> Result<&[u8], ReadError> {
        if len > WINDOW_BYTES / 2 {
            return Err(self
                .error(format!("{len} bytes in one piece are too many"))
                .into());
        }
        if self.left() < len as u64 {
            return Err(self.truncated(len as u64).into());
        }
        let held_end = self.start + self.bytes.len() as u64;
        if self.position < self.start || self.position + len as u64 > held_end {
            self.refill(len)?;
        }
        let from = usize::try_from(self.position - self.start).unwrap_or(usize::MAX);
        let Some(piece) = self.bytes.get(from..from.saturating_add(len)) else {
            return Err(self.truncated(len as u64).into());
        };
        self.position += len as u64;
        Ok(piece)
    }

    fn truncated(&self, wanted: u64) -> FormatError {
        let left = self.left();
        self.error(format!(
            "{wanted} bytes wanted, {left} left: the file is truncated"
        ))
    }

    fn refill(&mut self, len: usize) -> Result<(), ReadError> {
        let want = (WINDOW_BYTES as u64).min(self.left());
        let read_bytes = want.max(len as u64);
        if self.budget_bytes < read_bytes {
            return Err(self.error("the header is longer than any real one").into());
        }
        self.budget_bytes -= read_bytes;
        let mut bytes = (self.source.read)(
            self.position,
            usize::try_from(read_bytes).unwrap_or(WINDOW_BYTES),
        )?;
        bytes.truncate(WINDOW_BYTES);
        self.bytes = bytes;
        self.start = self.position;
        Ok(())
    }

    /// Moves forward by `len` bytes without reading them.
    ///
    /// # Errors
    /// If the file ends before.
    pub fn skip(&mut self, len: u64) -> Result<(), ReadError> {
        if self.left() < len {
            return Err(self.truncated(len).into());
        }
        self.position += len;
        Ok(())
    }

    /// A little-endian `u32`.
    ///
    /// # Errors
    /// As [`Window::take`].
    pub fn u32(&mut self) -> Result<u32, ReadError> {
        let mut value = [0; 4];
        value.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(value))
    }

    /// A little-endian `u64`.
    ///
    /// # Errors
    /// As [`Window::take`].
    pub fn u64(&mut self) -> Result<u64, ReadError> {
        let mut value = [0; 8];
        value.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(value))
    }
}

/// Reads JSON whose size the caller has bounded; `serde_json` bounds the depth.
///
/// # Errors
/// With line and column of what is wrong. No value of the document is quoted: everybody is shown what is wrong with a
/// model, also who may not read its files.
pub fn json<'de, T: Deserialize<'de>>(
    format: &'static str,
    bytes: &'de [u8],
) -> Result<T, FormatError> {
    serde_json::from_slice(bytes).map_err(|error| FormatError {
        format,
        offset: 0,
        problem: short_text(&without_value(&error.to_string())).into(),
    })
}

/// A message of serde without the value that it found: `invalid type: string "...", expected ...`.
fn without_value(message: &str) -> String {
    let quoted = message
        .strip_prefix("invalid ")
        .and_then(|_| message.find(['"', '`']));
    // The document can have this within the value; what is wanted is ours, and comes last.
    match (quoted, message.rfind(", expected ")) {
        (Some(quoted), Some(wanted)) if quoted < wanted => {
            format!("{}{}", message[..quoted].trim_end(), &message[wanted..])
        }
        _ => message.to_owned(),
    }
}

/// Text kept from a JSON document is cut to this many bytes.
pub const TEXT_BYTES: usize = 256;

/// A JSON value of which only text or a whole number is kept: a field of an unexpected type must
/// not make the whole document unreadable. Of an array the first element counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scalar {
    /// Anything else, or nothing.
    #[default]
    Nothing,
    /// A string, cut to [`TEXT_BYTES`].
    Text(Box<str>),
    /// A whole number of zero or more.
    Number(u64),
}

impl Scalar {
    /// The text, if it is text.
    pub fn text(self) -> Option<Box<str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// The start of `text`, at most [`TEXT_BYTES`] long, with nothing that a terminal would obey or that turns writing round.
pub fn short_text(text: &str) -> Box<str> {
    let mut short = String::new();
    for c in text.chars() {
        if short.len() + c.len_utf8() > TEXT_BYTES {
            break;
        }
        short.push(if is_hidden(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        });
    }
    short.into_boxed_str()
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(short_text(text)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(u64::try_from(number).map_or(Scalar::Nothing, Scalar::Number))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Scalar, A::Error> {
        let first = elements.next_element::<Scalar>()?.unwrap_or_default();
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Scalar, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who may not read a file is told what is wrong with it, where a link in the tree leads to it.
    #[test]
    fn nothing_of_a_document_is_told() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only its reading is tested")]
        struct Config {
            layers: u64,
        }
        for secret in [
            r#""hf_secret""#,
            r#"{"layers":"hf_secret"}"#,
            r#"{"layers":"hf_secret, expected hf_secret"}"#,
            r#"{"layers":-1234.5}"#,
            r#"{"layers":-1234}"#,
            "hf_secret",
        ] {
            let error = json::<Config>("config.json", secret.as_bytes()).expect_err("is none");
            let text = error.to_string();
            let quotes = text.contains("hf_secret") || text.contains("1234");
            assert!(!quotes && text.contains("line 1"), "{text}");
        }
    }

    #[test]
    fn what_turns_writing_round_is_not_shown() {
        assert_eq!(
            &*short_text("x\u{202e}\u{200b}\u{1b}y"),
            "x\u{fffd}\u{fffd}\u{fffd}y"
        );
    }
}
