//! How our own files are known again: by a last line with the digest of all before it. So there is no record that could
//! be lost, and what somebody has changed by hand is seen.

use sha2::{Digest, Sha256};

/// What a mark begins with, after the signs of a comment.
pub(super) const MARK: &str = "speedloader install sha256:";

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// As we have written it.
    Ours,
    /// We have written it, and somebody has changed it since.
    Changed,
    /// Somebody else's.
    Others,
}

/// `text`, which ends a line, with a mark; `comment` begins a comment in it.
pub(super) fn marked(text: &[u8], comment: &str) -> Vec<u8> {
    let mut bytes = text.to_vec();
    if !bytes.ends_with(b"\n") {
        bytes.push(b'\n');
    }
    let mark = format!("{comment} {MARK}{}\n", digest(&bytes));
    bytes.extend_from_slice(mark.as_bytes());
    bytes
}

/// Whose a file with these bytes is.
pub(super) fn whose(bytes: &[u8]) -> Whose {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let start = body.iter().rposition(|byte| *byte == b'\n');
    let (text, last) = bytes.split_at(start.map_or(0, |at| at + 1));
    let has_mark = |bytes: &[u8]| {
        bytes
            .windows(MARK.len())
            .any(|part| part == MARK.as_bytes())
    };
    let wanted = format!("{MARK}{}\n", digest(text));
    if last.ends_with(wanted.as_bytes()) {
        Whose::Ours
    } else if has_mark(bytes) {
        Whose::Changed
    } else {
        Whose::Others
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_wrote_is_known_and_what_was_changed_since_is_seen() {
        for text in ["[Unit]\n", "no end of line", "", "\n"] {
            let ours = marked(text.as_bytes(), "#");
            assert_eq!(whose(&ours), Whose::Ours, "{text:?}");
            let mut changed = ours.clone();
            changed.insert(0, b'x');
            assert_eq!(whose(&changed), Whose::Changed, "{text:?}");
            let more = [ours.as_slice(), b"more\n"].concat();
            assert_eq!(whose(&more), Whose::Changed, "{text:?}");
        }
        for foreign in ["", "\n", "[Unit]\n", "# speedloader install\n"] {
            assert_eq!(whose(foreign.as_bytes()), Whose::Others, "{foreign:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_somebodys(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            proptest::prop_assert_eq!(whose(&marked(&bytes, "#")), Whose::Ours);
            let _ = whose(&bytes);
        }
    }
}
