//! A configuration as written, from all its sources, sorted by the table of fields; nothing is judged but the keys.
//!
//! A later source replaces what an earlier one set: first the file, then the environment, then the options. Keys that
//! the table does not know are faults here, with a guess at what was meant.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::effective::{Config, PIN};
use crate::fault::{Fault, Faults, nearest, quoted};
use crate::field::{Field, key_of};
use crate::origin::{Lines, Origin};
use crate::setting::Kind;
use crate::value::{Located, Value};

/// Everything that was written.
#[derive(Debug)]
pub(crate) struct Raw {
    /// Values by the pattern of their key and, for fields that repeat, the item.
    entries: BTreeMap<(&'static str, String), Located>,
    /// The items of each place that repeats, in order, and where each begins.
    items: BTreeMap<&'static str, Vec<(String, Origin)>>,
    /// Where there were more items than [`ITEMS_MAX`].
    pub(crate) too_many: Option<(&'static str, Origin)>,
    /// Where something is missing that nobody wrote: the file, or nothing.
    pub(crate) whole: Origin,
}

/// So many pools or cold directories are enough; each is compared with each.
pub(crate) const ITEMS_MAX: usize = 64;

pub(crate) const COLD: &str = "cold[].";
pub(crate) const POOL: &str = "pool[].";
pub(crate) const REMOTE: &str = "remote.*.";

impl Raw {
    /// Nothing written yet; what will be missing is missing there.
    pub(crate) fn new(whole: Origin) -> Raw {
        Raw {
            entries: BTreeMap::new(),
            items: BTreeMap::new(),
            too_many: None,
            whole,
        }
    }

    /// The value of a field, if somebody wrote it.
    pub(crate) fn get(&self, field: &Field, item: &str) -> Option<&Located> {
        self.entries.get(&(field.key, item.to_owned()))
    }

    /// The value of a key that repeats, by its pattern.
    pub(crate) fn text(&self, pattern: &'static str, item: &str) -> Option<(&str, &Origin)> {
        let located = self.entries.get(&(pattern, item.to_owned()))?;
        Some((located.value.text()?, &located.at))
    }

    /// Sets a field, replacing what an earlier source said.
    pub(crate) fn set(&mut self, field: &'static Field, item: &str, value: Value, at: Origin) {
        self.entries
            .insert((field.key, item.to_owned()), Located { value, at });
    }

    /// The items of a place that repeats: numbers of `cold[].` and `pool[].`, names of `remote.*.`.
    pub(crate) fn items(&self, place: &str) -> &[(String, Origin)] {
        self.items.get(place).map_or(&[], Vec::as_slice)
    }

    /// Adds an item; what is too much is left out and remembered.
    pub(crate) fn add_item(&mut self, place: &'static str, item: &str, at: Origin) {
        let items = self.items.entry(place).or_default();
        if items.len() < ITEMS_MAX {
            items.push((item.to_owned(), at));
        } else if self.too_many.is_none() {
            self.too_many = Some((place, at));
        }
    }

    /// Forgets all items of a place, because a later source has a list of its own.
    pub(crate) fn clear_items(&mut self, place: &'static str) {
        self.items.remove(place);
        self.entries
            .retain(|(pattern, _), _| !pattern.starts_with(place));
    }

    /// The pins: models and the values written for them.
    pub(crate) fn pins(&self) -> impl Iterator<Item = &str> {
        self.entries
            .keys()
            .filter(|(pattern, _)| *pattern == PIN.key)
            .map(|(_, item)| item.as_str())
    }
}

/// Reads a TOML text; what can be understood of a broken one is returned together with the faults.
pub(crate) fn from_toml(lines: &Lines<'_>, faults: &mut Faults) -> Raw {
    let (table, errors) = DeTable::parse_recoverable(lines.text());
    for error in errors {
        if faults.is_full() {
            faults.unlisted += 1;
        } else {
            faults.push(syntax_fault(lines, &error));
        }
    }
    let mut raw = Raw::new(lines.whole());
    let mut walk = Walk {
        lines,
        raw: &mut raw,
        faults,
    };
    walk.table("", "", table.get_ref());
    raw
}

fn syntax_fault(lines: &Lines<'_>, error: &toml::de::Error) -> Fault {
    let message = error.message();
    let span = error.span().unwrap_or(0..0);
    let there = lines.text().get(span.clone()).unwrap_or("");
    let found = match there.lines().next() {
        None | Some("") => format!("broken TOML ({message})"),
        Some(_) if is_near_secret(lines.text(), span.start) => format!("broken TOML ({message})"),
        Some(there) => format!("broken TOML at {} ({message})", quoted(there)),
    };
    let wanted = match message {
        "duplicate key" => "each key once",
        _ => "lines such as `key = \"value\"` or `[section]`",
    };
    Fault {
        key: String::new(),
        at: lines.at(span.start),
        found,
        wanted: wanted.to_owned(),
        hint: None,
    }
}

/// True if a secret's name stands on the line of this byte or on the one above, where its value may have begun.
fn is_near_secret(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or("");
    let start = before.rmatch_indices('\n').nth(1).map_or(0, |(at, _)| at);
    let near = text.get(start..).unwrap_or("").lines();
    let count = text.get(start..at).unwrap_or("").lines().count() + 1;
    near.take(count)
        .any(|line| secrets().any(|name| line.contains(name)))
}

/// Names of the fields whose values nobody may see.
pub(crate) fn secrets() -> impl Iterator<Item = &'static str> {
    let fields = Config::fields().iter();
    fields
        .filter(|field| field.kind == Kind::Secret)
        .map(Field::name)
}

/// Sorts a document by the table of fields.
struct Walk<'w> {
    lines: &'w Lines<'w>,
    raw: &'w mut Raw,
    faults: &'w mut Faults,
}

impl Walk<'_> {
    /// Takes a table whose keys stand after `place` in the patterns of the fields.
    fn table(&mut self, place: &str, item: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let place_of_name = format!("{place}{name}");
            if let Some(field) = field_at(&place_of_name) {
                let located = located(self.lines, value);
                self.raw.set(field, item, located.value, located.at);
            } else if place == "placement.pins." {
                let located = located(self.lines, value);
                self.raw.set(&PIN, name, located.value, located.at);
            } else if leads(&format!("{place_of_name}[].")) {
                self.list(&place_of_name, value);
            } else if leads(&format!("{place_of_name}.*.")) {
                self.named(&place_of_name, value);
            } else if leads(&format!("{place_of_name}.")) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(&format!("{place_of_name}."), item, inner),
                    other => self.not_a_section(&place_of_name, value, other),
                }
            } else {
                let at = self.lines.at(key.span().start);
                self.unknown(place, item, name, at);
            }
        }
    }

    /// Takes a list of sections: `[[pool]]`.
    fn list(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        let Some(place) = known_place(&format!("{name}[].")) else {
            return;
        };
        let DeValue::Array(sections) = value.get_ref() else {
            let hint = format!("write `[[{name}]]`, with two brackets");
            self.wrong_shape(name, value, "a list of sections", Some(hint));
            return;
        };
        for (i, section) in sections.iter().enumerate() {
            let item = i.to_string();
            match section.get_ref() {
                DeValue::Table(table) => {
                    self.raw
                        .add_item(place, &item, self.lines.at(section.span().start));
                    self.table(place, &item, table);
                }
                _ => {
                    let hint = format!("write `[[{name}]]` and its keys on the lines below");
                    self.wrong_shape(&format!("{name}[{i}]"), section, "a section", Some(hint));
                }
            }
        }
    }

    /// Takes sections with names: `[remote.meadowlark]`.
    fn named(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        let Some(place) = known_place(&format!("{name}.*.")) else {
            return;
        };
        let DeValue::Table(sections) = value.get_ref() else {
            let hint = format!("write `[{name}.NAME]`");
            self.wrong_shape(name, value, "sections with names", Some(hint));
            return;
        };
        for (key, section) in sections {
            let item: &str = key.get_ref();
            match section.get_ref() {
                DeValue::Table(table) => {
                    self.raw
                        .add_item(place, item, self.lines.at(key.span().start));
                    self.table(place, item, table);
                }
                _ => {
                    let hint = format!("it belongs into a section with a name: `[{name}.NAME]`");
                    let key = key_of(place, item);
                    self.wrong_shape(&key, section, "a section", Some(hint));
                }
            }
        }
    }

    /// Wording thousands of guesses would take long.
    fn unknown(&mut self, place: &str, item: &str, name: &str, at: Origin) {
        if self.faults.is_full() {
            self.faults.unlisted += 1;
        } else {
            self.faults.push(unknown_key(place, item, name, at));
        }
    }

    fn not_a_section(&mut self, key: &str, at: &Spanned<DeValue<'_>>, value: &DeValue<'_>) {
        let hint = match value {
            DeValue::Array(_) => format!("write `[{key}]`, with one bracket"),
            _ => format!("write `[{key}]` and its keys on the lines below"),
        };
        self.wrong_shape(key, at, "a section", Some(hint));
    }

    fn wrong_shape(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
        hint: Option<String>,
    ) {
        let Located { value, at } = located(self.lines, value);
        let name = key.rsplit('.').next();
        let found = match secrets().any(|secret| name == Some(secret)) {
            true => "something else".to_owned(),
            false => value.shown(),
        };
        let (key, wanted) = (key.to_owned(), wanted.to_owned());
        self.faults.push(Fault {
            key,
            at,
            found,
            wanted,
            hint,
        });
    }
}

fn located(lines: &Lines<'_>, value: &Spanned<DeValue<'_>>) -> Located {
    let at = lines.at(value.span().start);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number that is too large"), Value::Integer),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Boolean(on) => Value::Boolean(*on),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| located(lines, item).value)
                .collect(),
        ),
        DeValue::Table(_) => Value::Other("a section"),
    };
    Located { value, at }
}

/// The field with exactly this pattern, if it is written with its own name.
pub(crate) fn field_at(pattern: &str) -> Option<&'static Field> {
    Config::fields()
        .iter()
        .find(|field| field.key == pattern && !field.key.ends_with('*'))
}

/// True if fields stand after this place.
pub(crate) fn leads(place: &str) -> bool {
    Config::fields()
        .iter()
        .any(|field| field.key.starts_with(place))
}

fn known_place(place: &str) -> Option<&'static str> {
    [COLD, POOL, REMOTE]
        .into_iter()
        .find(|known| *known == place)
}

/// The names that may stand after a place: of fields and of sections.
fn names_after(place: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Config::fields()
        .iter()
        .filter_map(|field| field.key.strip_prefix(place))
        .map(|rest| rest.split(['.', '[']).next().unwrap_or(rest))
        .filter(|name| *name != "*")
        .collect();
    names.dedup();
    names
}

/// What to say of a key that the table does not have.
pub(crate) fn unknown_key(place: &str, item: &str, name: &str, at: Origin) -> Fault {
    let names = names_after(place);
    let hint = match nearest(name, names.iter().copied()) {
        Some(meant) => Some(format!("did you mean `{meant}`?")),
        None => elsewhere(place, name),
    };
    let key = key_of(&format!("{place}{name}"), item);
    let wanted = format!("one of {}", names.join(", "));
    let found = format!("the unknown key {}", quoted(name));
    Fault {
        key: printable_key(&key),
        at,
        found,
        wanted,
        hint,
    }
}

/// A key that exists, but in another section.
fn elsewhere(place: &str, name: &str) -> Option<String> {
    let field = Config::fields().iter().find(|field| field.name() == name)?;
    let whole = field.key.strip_suffix(name)?.trim_end_matches('.');
    Some(match whole {
        "" => format!("`{name}` belongs to the top, before the first `[section]`"),
        _ if place.is_empty() || whole != place => {
            let header = match whole.strip_suffix("[]") {
                Some(list) => format!("[[{list}]]"),
                None => format!("[{}]", whole.replace('*', "NAME")),
            };
            format!("`{name}` belongs into `{header}`")
        }
        _ => return None,
    })
}

/// A key that a stranger wrote, short and without control characters.
pub(crate) fn printable_key(key: &str) -> String {
    const SHOWN_MAX: usize = 80;
    key.chars()
        .take(SHOWN_MAX)
        .flat_map(char::escape_debug)
        .collect()
}
