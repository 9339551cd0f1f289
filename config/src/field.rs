//! The table of fields: one definition of a field makes its place in `Config`, its documentation, its default, its
//! reading and its writing.
//!
//! The macro `section!` is the only way to define a field, so nothing can be read that is not documented, and
//! nothing documented that is not read.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use crate::setting::{Kind, Setting, toml_quoted};

/// What a changed value needs in order to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "effect", content = "reason", rename_all = "lowercase")]
pub enum Effect {
    /// A reload is enough.
    Live,
    /// It counts from the next mount on.
    Remount,
    /// A running daemon refuses it, for this reason.
    Refused(&'static str),
}

/// What a field has that nobody set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "default", content = "default_text", rename_all = "lowercase")]
pub enum DefaultValue {
    /// This, as it would be written in a variable or option.
    Value(&'static str),
    /// What follows from who runs the program; in words.
    Computed(&'static str),
    /// Nothing; in words, what that means.
    Unset(&'static str),
    /// There is none: it must be set; an example.
    Required(&'static str),
}

/// One field of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its key; `[]` stands for the number of a list's item, `*` for a name: `pool[].capacity`, `remote.*.ssh`.
    pub key: &'static str,
    #[serde(rename = "doc", serialize_with = "joined")]
    pub(crate) doc_lines: &'static [&'static str],
    /// What sort of value it holds.
    #[serde(flatten)]
    pub kind: Kind,
    /// What it has if nobody sets it.
    #[serde(flatten)]
    pub default: DefaultValue,
    /// The least and the greatest value, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<(&'static str, &'static str)>,
    /// What a change needs in order to count.
    #[serde(flatten)]
    pub effect: Effect,
}

fn join(lines: &[&str]) -> String {
    lines
        .iter()
        .map(|line| line.trim())
        .collect::<Vec<_>>()
        .join(" ")
}

fn joined<S: Serializer>(lines: &&[&str], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&join(lines))
}

impl Field {
    /// What it is for, as in the manual; may have several sentences.
    pub fn doc(&self) -> String {
        join(self.doc_lines)
    }

    /// The last part of the key.
    pub fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }

    /// True if there can be several of it: fields of lists and of named sections.
    pub fn repeats(&self) -> bool {
        self.key.contains("[]") || self.key.contains('*')
    }

    /// The key of one of several: `pool[0].capacity`, `remote.meadowlark.ssh`.
    pub fn key_of(&self, item: &str) -> String {
        key_of(self.key, item)
    }

    /// The environment variable that sets it; none for what repeats.
    pub fn variable(&self) -> Option<String> {
        let name = self.key.replace('.', "_").to_uppercase();
        (!self.repeats()).then(|| format!("SPEEDLOADER_{name}"))
    }
}

/// A pattern with its place for an item filled.
pub(crate) fn key_of(pattern: &str, item: &str) -> String {
    let key = pattern.trim_end_matches('.');
    if key.contains("[]") {
        key.replacen("[]", &format!("[{item}]"), 1)
    } else {
        key.replacen('*', &toml_key(item), 1)
    }
}

/// A key as TOML writes it: quoted if it must be.
pub(crate) fn toml_key(name: &str) -> Cow<'_, str> {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(bare) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(toml_quoted(name))
    }
}

/// Whoever has the values of the fields.
pub(crate) trait Reader {
    /// The value of a field; `None` if there is none or it is wrong, which is then on record.
    fn get<T: Setting>(&mut self, field: &'static Field, item: &str) -> Option<T>;
}

/// A group of fields that are written together.
pub(crate) trait Section: Sized {
    /// What stands before the name of each field: `mover.`, `pool[].`, nothing.
    const PLACE: &'static str;
    /// What the section is about.
    const ABOUT: &'static [&'static str];
    /// The fields, in the order of the sample.
    const FIELDS: &'static [Field];

    /// Reads all fields, so that every fault is found; `None` if any has one.
    fn read<R: Reader>(reader: &mut R, item: &str) -> Option<Self>;

    /// The values as TOML, in the order of `FIELDS`; `None` for what is unset.
    fn values(&self) -> Vec<Option<String>>;
}

/// Defines a section: the struct, the table of its fields, how it is read and written.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident in $place:literal {
            $(
                $(#[doc = $doc:literal])+
                pub $field:ident: $ty:ty = $default:expr, $effect:expr
                    $(, from $low:literal to $high:literal)?;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $ty,)+
        }

        impl Section for $name {
            const PLACE: &'static str = $place;
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const FIELDS: &'static [Field] = &[$(
                Field {
                    key: concat!($place, stringify!($field)),
                    doc_lines: &[$($doc),+],
                    kind: <$ty as Setting>::KIND,
                    default: $default,
                    range: section!(@range $($low, $high)?),
                    effect: $effect,
                }
            ),+];

            fn read<R: Reader>(reader: &mut R, item: &str) -> Option<Self> {
                let mut fields = Self::FIELDS.iter();
                $(let $field: Option<$ty> = fields.next().and_then(|f| reader.get(f, item));)+
                Some($name { $($field: $field?),+ })
            }

            fn values(&self) -> Vec<Option<String>> {
                vec![$(self.$field.to_toml()),+]
            }
        }
    };
    (@range) => { None };
    (@range $low:literal, $high:literal) => { Some(($low, $high)) };
}

pub(crate) use section;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_items_are_as_a_person_would_look_for_them() {
        assert_eq!(key_of("pool[].capacity", "0"), "pool[0].capacity");
        assert_eq!(
            key_of("remote.*.ssh", "meadowlark"),
            "remote.meadowlark.ssh"
        );
        assert_eq!(
            key_of("placement.pins.*", "a:9b"),
            "placement.pins.\"a:9b\""
        );
        assert_eq!(key_of("pool[].", "1"), "pool[1]");
        assert_eq!(key_of("http.listen", ""), "http.listen");
    }

    #[test]
    fn quoted_keys_read_back() {
        for name in [
            "",
            "a b",
            "ä\u{1F600}",
            "quote\"back\\slash",
            "line\nfeed",
            "it's",
            "a.b",
        ] {
            let text = format!("{} = 1", toml_key(name));
            let table: toml::Table = text.parse().expect(&text);
            assert_eq!(
                table.keys().next().map(String::as_str),
                Some(name),
                "{text}"
            );
        }
    }
}
