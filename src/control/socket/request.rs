//! From bytes to requests: lines of a bounded length, then JSON, then a checked command. Pure, so
//! that it can be tried on anything.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::command::{Code, Message, PROTOCOL, Request};

/// Bytes that have come and are not yet taken as lines.
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// So many of them are known to contain no newline.
    searched: usize,
    line_bytes_max: usize,
}

/// A line that is too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            searched: 0,
            line_bytes_max,
        }
    }

    /// The buffer to append to.
    pub(super) fn space(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether more may be read before a line is taken.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() <= self.line_bytes_max
    }

    /// Whether a line has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// The next complete line without its newline.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let found = self.bytes[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        let Some(found) = found else {
            self.searched = self.bytes.len();
            return if self.searched > self.line_bytes_max {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + found;
        if end > self.line_bytes_max {
            return Err(TooLong);
        }
        let rest = self.bytes.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.bytes, rest);
        line.truncate(end);
        self.searched = 0;
        Ok(Some(line))
    }
}

/// The request on a line.
///
/// # Errors
/// What is wrong with it, and its id if that can be read.
pub fn parse(line: &[u8]) -> Result<Request, (Option<u64>, Message)> {
    #[derive(Deserialize)]
    struct Envelope {
        v: Option<u64>,
        id: Option<u64>,
        #[serde(rename = "command")]
        _command: Option<IgnoredAny>,
    }
    let example = r#"send {"v":1,"id":1,"command":{"do":"status"}}"#;
    let bad = |text: String| Message::new(Code::BadRequest, text).with_hint(example);
    let envelope: Envelope = serde_json::from_slice(line)
        .map_err(|error| (None, bad(format!("the line is no request: {error}"))))?;
    let id = envelope.id;
    match envelope.v {
        Some(version) if version == u64::from(PROTOCOL) => {}
        Some(version) => {
            let text = format!(
                "version {version} of the protocol was asked for; this daemon speaks {PROTOCOL}"
            );
            return Err((id, Message::new(Code::UnsupportedVersion, text)));
        }
        None => return Err((id, bad("the request has no `v`".to_owned()))),
    }
    let request: Request = serde_json::from_slice(line)
        .map_err(|error| (id, bad(format!("the request is wrong: {error}"))))?;
    request.command.check().map_err(|message| (id, message))?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let mut lines = Lines::new(8);
        lines.space().extend_from_slice(b"one\n\ntw");
        assert_eq!(lines.next(), Ok(Some(b"one".to_vec())));
        assert_eq!(lines.next(), Ok(Some(Vec::new())));
        assert_eq!(lines.next(), Ok(None));
        lines.space().extend_from_slice(b"o\n12345678\n123456789");
        assert_eq!(lines.next(), Ok(Some(b"two".to_vec())));
        assert_eq!(lines.next(), Ok(Some(b"12345678".to_vec())));
        assert_eq!(lines.next(), Err(TooLong));
        assert_eq!(lines.next(), Err(TooLong), "once too long, always too long");
        let mut lines = Lines::new(8);
        lines.space().extend_from_slice(b"123456789\n");
        assert_eq!(lines.next(), Err(TooLong), "also with its end");
    }

    #[test]
    fn nesting_does_not_overflow_the_stack() {
        let deep = format!(r#"{{"v":1,"id":1,"command":{}"#, "[".repeat(500_000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_are_answered(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err((_, message)) = parse(&line) {
                prop_assert!(!message.text.is_empty());
            }
        }

        #[test]
        fn cutting_a_stream_anywhere_gives_the_same_lines(
            stream in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let cut = cut.min(stream.len());
            let mut whole = Lines::new(16);
            whole.space().extend_from_slice(&stream);
            let mut halves = Lines::new(16);
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            while let Ok(Some(line)) = whole.next() { expected.push(line); }
            for half in [&stream[..cut], &stream[cut..]] {
                halves.space().extend_from_slice(half);
                while let Ok(Some(line)) = halves.next() { found.push(line); }
            }
            prop_assert_eq!(expected, found);
        }
    }
}
