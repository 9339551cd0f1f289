//! How each type of a field is read from what was written, and written again.
//!
//! One `Setting` per type: what it accepts, what it says would be right, its TOML. The types for names that end up on
//! command lines or in the kernel (hosts, NQNs, groups) accept a strict set of characters, because the daemon is root.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::units::{Bytes, Capacity, format_duration, parse_duration};
use crate::value::Value;

/// What sort of value a field holds; enough for a form to choose its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "choices", rename_all = "lowercase")]
pub enum Kind {
    /// An absolute path.
    Path,
    /// A line of text.
    Text,
    /// Text that is never shown again.
    Secret,
    /// A size with its unit.
    Size,
    /// A size with its unit, or a share of RAM.
    Capacity,
    /// A time with its unit.
    Duration,
    /// True or false.
    Switch,
    /// A whole number.
    Integer,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    List,
}

/// Why a value cannot be what the field needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// What would be right, as part of a sentence.
    pub wanted: String,
    /// What was probably meant: a whole sentence.
    pub hint: Option<String>,
}

impl<S: Into<String>> From<S> for Unfit {
    fn from(wanted: S) -> Unfit {
        Unfit {
            wanted: wanted.into(),
            hint: None,
        }
    }
}

/// A type that a field can have.
pub(crate) trait Setting: Clone + PartialOrd {
    /// What sort of value this is.
    const KIND: Kind;

    /// Reads the text of a string, variable or option.
    fn from_text(text: &str) -> Result<Self, Unfit>;

    /// What would be right, when not even the type of the value is.
    fn wanted() -> String;

    /// Reads a value as written; most types are written as strings.
    fn from_value(value: &Value) -> Result<Self, Unfit> {
        match value.text() {
            Some(text) => Self::from_text(text),
            None => Err(Self::wanted().into()),
        }
    }

    /// What a field has that nobody set and that has no default: only optional ones have such a value.
    fn unset() -> Option<Self> {
        None
    }

    /// The value in TOML; `None` if it is written by leaving the field out.
    fn to_toml(&self) -> Option<String>;
}

pub(crate) fn toml_string(text: &str) -> Option<String> {
    Some(toml_quoted(text))
}

/// A basic string of TOML on one line, good as a key and as a value.
pub(crate) fn toml_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        T::from_text(text).map(Some)
    }

    fn wanted() -> String {
        T::wanted()
    }

    fn from_value(value: &Value) -> Result<Self, Unfit> {
        T::from_value(value).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(T::to_toml)
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Switch;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        match text {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(Self::wanted().into()),
        }
    }

    fn wanted() -> String {
        "true or false".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Unfit> {
        match value {
            Value::Boolean(on) => Ok(*on),
            Value::Word(word) => Self::from_text(word),
            _ => Err(Self::wanted().into()),
        }
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A whole number: an integer in a file, digits in a variable or option.
macro_rules! integer {
    ($($ty:ty: $wanted:literal),+) => {$(
        impl Setting for $ty {
            const KIND: Kind = Kind::Integer;

            fn from_text(text: &str) -> Result<Self, Unfit> {
                text.parse().map_err(|_| Self::wanted().into())
            }

            fn wanted() -> String {
                $wanted.to_owned()
            }

            fn from_value(value: &Value) -> Result<Self, Unfit> {
                match value {
                    Value::Integer(number) => {
                        <$ty>::try_from(*number).map_err(|_| Self::wanted().into())
                    }
                    Value::Word(word) => Self::from_text(word),
                    Value::Text(text) if text.parse::<$ty>().is_ok() => Err(Unfit {
                        wanted: Self::wanted(),
                        hint: Some("leave out the quotes".to_owned()),
                    }),
                    _ => Err(Self::wanted().into()),
                }
            }

            fn to_toml(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

integer!(u32: "a whole number", u16: "a port number, at most 65535");

impl Setting for Bytes {
    const KIND: Kind = Kind::Size;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        Bytes::parse(text).map_err(Unfit::from)
    }

    fn wanted() -> String {
        "a size with its unit, in quotes, such as \"64GiB\"".to_owned()
    }

    fn to_toml(&self) -> Option<String> {
        toml_string(&self.to_string())
    }
}

impl Setting for Capacity {
    const KIND: Kind = Kind::Capacity;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        Capacity::parse(text).map_err(Unfit::from)
    }

    fn wanted() -> String {
        "a size or a share, in quotes, such as \"64GiB\" or \"60%\"".to_owned()
    }

    fn to_toml(&self) -> Option<String> {
        toml_string(&self.to_string())
    }
}

impl Setting for Duration {
    const KIND: Kind = Kind::Duration;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        parse_duration(text).map_err(Unfit::from)
    }

    fn wanted() -> String {
        "a time with its unit, in quotes, such as \"30s\"".to_owned()
    }

    fn to_toml(&self) -> Option<String> {
        toml_string(&format_duration(*self))
    }
}

/// An absolute path without `..`, in its shortest form.
impl Setting for PathBuf {
    const KIND: Kind = Kind::Path;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        const PATH_LEN_MAX: usize = 4095;
        if text.contains('\0') {
            return Err("a path without NUL bytes".into());
        }
        if text.len() > PATH_LEN_MAX {
            return Err(format!("a path of at most {PATH_LEN_MAX} bytes").into());
        }
        let path = Path::new(text);
        if !path.is_absolute() {
            let hint = if text.starts_with('~') {
                Some("`~` is not expanded here: write the directory's full path".to_owned())
            } else if text.is_empty() {
                None
            } else {
                Some("write the full path from `/` on".to_owned())
            };
            return Err(Unfit {
                wanted: Self::wanted(),
                hint,
            });
        }
        if path.components().any(|c| c == Component::ParentDir) {
            return Err("a path without `..`".into());
        }
        Ok(path.components().collect())
    }

    fn wanted() -> String {
        "an absolute path".to_owned()
    }

    fn to_toml(&self) -> Option<String> {
        toml_string(&self.to_string_lossy())
    }
}

impl Setting for SocketAddr {
    const KIND: Kind = Kind::Text;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        text.parse().map_err(|_| {
            let port = text
                .rsplit(':')
                .next()
                .and_then(|port| port.parse::<u16>().ok());
            let hint = port.map(|port| format!("did you mean `127.0.0.1:{port}`?"));
            Unfit {
                wanted: Self::wanted(),
                hint,
            }
        })
    }

    fn wanted() -> String {
        "an IP address and a port, such as \"127.0.0.1:5050\"".to_owned()
    }

    fn to_toml(&self) -> Option<String> {
        toml_string(&self.to_string())
    }
}

/// The strings of a list that is one text: between commas, or as TOML has it.
pub(crate) fn list_items(text: &str) -> Vec<String> {
    let array = text.parse::<toml_edit::Value>().ok();
    let array = array.as_ref().and_then(toml_edit::Value::as_array);
    let strings = array.and_then(|items| {
        items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect()
    });
    strings.unwrap_or_else(|| {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    })
}

/// A list of texts: an array in a file, separated by commas in a variable or option, or an array as well.
impl Setting for Vec<String> {
    const KIND: Kind = Kind::List;

    fn from_text(text: &str) -> Result<Self, Unfit> {
        list_items(text)
            .iter()
            .map(|item| list_item(item))
            .collect()
    }

    fn wanted() -> String {
        "a list of strings, such as [\"a\", \"b\"]".to_owned()
    }

    fn from_value(value: &Value) -> Result<Self, Unfit> {
        match value {
            Value::List(items) if items.len() > LIST_LEN_MAX => {
                Err(format!("at most {LIST_LEN_MAX} strings").into())
            }
            Value::List(items) => items
                .iter()
                .map(|item| match item {
                    Value::Text(text) => list_item(text),
                    _ => Err("only strings in the list".into()),
                })
                .collect(),
            Value::Word(word) => Self::from_text(word),
            _ => Err(Self::wanted().into()),
        }
    }

    fn to_toml(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(|item| toml_string(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// A longer list is a mistake, and comparing it with another would take long.
const LIST_LEN_MAX: usize = 4096;

fn list_item(text: &str) -> Result<String, Unfit> {
    const ITEM_LEN_MAX: usize = 1024;
    if text.is_empty() || text.len() > ITEM_LEN_MAX || text.chars().any(char::is_control) {
        return Err("strings that are neither empty nor hold control characters".into());
    }
    Ok(text.to_owned())
}
