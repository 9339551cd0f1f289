//! A path below a home that cannot escape it: checked once, then a type.
//!
//! Bytes, not text: names need not be UTF-8. No component is empty, `.`, `..`, longer than 255
//! bytes or holds a NUL or `/`. The empty path is the root itself.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

/// Longest name of one component in bytes (`NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest path in bytes that we accept (`PATH_MAX` less its NUL).
pub const PATH_BYTES_MAX: usize = 4095;

/// Why some bytes are not a [`RelPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// A component is empty, `.` or `..`, or the path is absolute.
    Escapes,
    /// A NUL byte, or a `/` in a single name.
    Byte,
    /// A component over [`NAME_BYTES_MAX`], or a path over [`PATH_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadPath::Escapes => "it is absolute or has an empty, `.` or `..` component",
            BadPath::Byte => "it has a NUL byte or a slash inside a name",
            BadPath::TooLong => "it is too long (255 bytes a name, 4095 a path)",
        })
    }
}

/// Checks one name as it comes from the kernel or from a directory.
///
/// # Errors
/// [`BadPath`] when the name is empty, `.`, `..`, too long, or holds a NUL or `/`.
pub fn check_name(name: &[u8]) -> Result<(), BadPath> {
    if name.is_empty() || name == b"." || name == b".." {
        return Err(BadPath::Escapes);
    }
    if name.contains(&0) || name.contains(&b'/') {
        return Err(BadPath::Byte);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(BadPath::TooLong);
    }
    Ok(())
}

/// A checked path below a home.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The root of a home.
    pub fn root() -> Self {
        RelPath::default()
    }

    /// Checks `bytes`.
    ///
    /// # Errors
    /// [`BadPath`] when any component could escape or the path is too long.
    pub fn new(bytes: &[u8]) -> Result<Self, BadPath> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        if !bytes.is_empty() {
            for name in bytes.split(|b| *b == b'/') {
                check_name(name)?;
            }
        }
        Ok(RelPath(bytes.into()))
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// [`BadPath`] when `name` is no single name or the result is too long.
    pub fn join(&self, name: &[u8]) -> Result<Self, BadPath> {
        check_name(name)?;
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if bytes.len() > PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        Ok(RelPath(bytes.into()))
    }

    /// The bytes, components separated by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For system calls: the root is given as `.`.
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(if self.0.is_empty() { b"." } else { &self.0 })
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parent and the last name; `None` for the root.
    pub fn split_last(&self) -> Option<(RelPath, &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|b| *b == b'/') {
            Some(at) => Some((RelPath(self.0[..at].into()), &self.0[at + 1..])),
            None => Some((RelPath::root(), &self.0)),
        }
    }

    /// The components from the top down.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }
}

/// Makes a name of any bytes printable and unambiguous: bytes that are no UTF-8 become `\xNN`,
/// control characters `\n`, `\t` or `\xNN`, a backslash `\\`.
pub fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                hidden if is_hidden(hidden) => {
                    push_escaped_bytes(&mut text, hidden.encode_utf8(&mut [0; 4]).as_bytes());
                }
                other => text.push(other),
            }
        }
        push_escaped_bytes(&mut text, chunk.invalid());
    }
    text
}

/// Whether [`escape`] does not show a character. The second range is C1, which terminals obey as they obey escape
/// sequences; the rest turns the direction of writing round or takes no room, so that a name could show as another.
pub fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
    )
}

fn push_escaped_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

/// As it is shown, see [`escape`].
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = String;

    fn try_from(bytes: Vec<u8>) -> Result<Self, String> {
        RelPath::new(&bytes).map_err(|bad| bad.to_string())
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(path: RelPath) -> Self {
        path.0.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_escapes_is_a_path() {
        for bad in ["/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b"] {
            assert!(RelPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(RelPath::new(&[b'x'; 256]).is_err());
        assert!(RelPath::new(&[b'x'; 255]).is_ok());
        assert!(RelPath::root().join(b"a/b").is_err());
    }

    #[test]
    fn join_and_split_are_inverse() {
        let path = RelPath::new(b"a/b\xff/c\n").expect("valid");
        let (parent, name) = path.split_last().expect("not the root");
        assert_eq!(parent.join(name).expect("valid"), path);
        assert_eq!(path.names().count(), 3);
        assert!(RelPath::root().split_last().is_none());
        assert_eq!(RelPath::root().names().count(), 0);
    }
}
