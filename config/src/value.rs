//! A value as it was written, before anybody knows whether it is right, with the place where it was written.
//!
//! TOML and JSON files, variables and options all become these, so that every later step exists once.

use crate::fault::quoted;
use crate::origin::Origin;

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A string of a file.
    Text(String),
    /// The text of a variable or option, which can stand for any kind of value.
    Word(String),
    /// A whole number of a file.
    Integer(i64),
    /// `true` or `false` of a file.
    Boolean(bool),
    /// An array of a file.
    List(Vec<Value>),
    /// Anything else, by its name: "a table", "a date", "a number with a fraction".
    Other(&'static str),
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Located {
    pub(crate) value: Value,
    pub(crate) at: Origin,
}

impl Value {
    /// The value as part of a sentence.
    pub(crate) fn shown(&self) -> String {
        match self {
            Value::Text(text) | Value::Word(text) => quoted(text),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(on) => on.to_string(),
            Value::List(_) => "a list".to_owned(),
            Value::Other(name) => (*name).to_owned(),
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Word(text) => Some(text),
            _ => None,
        }
    }
}
