//! Options and variables over what a file says: short names, keys, and keys of one pool or remote by its name.

use crate::effective::{Config, PIN};
use crate::fault::{Fault, did_you_mean, quoted};
use crate::origin::Origin;
use crate::raw::{COLD, POOL, REMOTE, Raw, field_at, printable_key, unknown_key};
use crate::value::Value;

/// Sets what an option or variable says: `http.listen`, `cold`, `pool`, `pool.NAME.capacity`, `placement.pins.MODEL`.
///
/// A `cold` or `pool` given for the first time by this source replaces the lists of earlier ones; `lists_of` remembers.
pub(crate) fn set_option(
    raw: &mut Raw,
    key: &str,
    text: &str,
    at: &Origin,
    lists_of: &mut Vec<&'static str>,
) -> Result<(), Box<Fault>> {
    let word = || Value::Word(text.to_owned());
    if let Some(field) = field_at(key).filter(|field| !field.repeats()) {
        raw.set(field, "", word(), at.clone());
        return Ok(());
    }
    match key.split_once('.') {
        None if key == "cold" => {
            replace_once(raw, COLD, lists_of);
            for path in directories(text) {
                add_to_list(raw, COLD, &[("cold[].path", &path)], at);
            }
        }
        None if key == "pool" => {
            replace_once(raw, POOL, lists_of);
            add_pool(raw, text, at);
        }
        Some(("pool", rest)) => set_in_pool(raw, key, rest, word(), at)?,
        Some(("remote", rest)) => set_in_remote(raw, key, rest, word(), at)?,
        Some(("placement", rest)) if rest.starts_with("pins.") => {
            raw.set(&PIN, &rest["pins.".len()..], word(), at.clone());
        }
        _ => return Err(unknown_option(key, at).into()),
    }
    Ok(())
}

/// `DIR:DIR`; a colon behind a backslash is one of a name.
fn directories(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = String::new();
    for part in text.split(':') {
        match part.strip_suffix('\\') {
            Some(part) => open.extend([part, ":"]),
            None => found.push(std::mem::take(&mut open) + part),
        }
    }
    // A backslash at the very end is before no colon.
    if let Some(last) = open.strip_suffix(':') {
        found.push(format!("{last}\\"));
    }
    found.retain(|path| !path.is_empty());
    found
}

/// `SIZE`, `NAME:SIZE` or `NAME:SIZE:PATH`.
fn add_pool(raw: &mut Raw, text: &str, at: &Origin) {
    let (name, rest) = text.split_once(':').unwrap_or(("local", text));
    let (capacity, path) = match rest.split_once(':') {
        Some((capacity, path)) => (capacity, Some(path)),
        None => (rest, None),
    };
    let mut values = vec![("pool[].name", name), ("pool[].capacity", capacity)];
    values.extend(path.map(|path| ("pool[].path", path)));
    add_to_list(raw, POOL, &values, at);
}

fn replace_once(raw: &mut Raw, place: &'static str, lists_of: &mut Vec<&'static str>) {
    if !lists_of.contains(&place) {
        lists_of.push(place);
        raw.clear_items(place);
    }
}

fn add_to_list(raw: &mut Raw, place: &'static str, values: &[(&str, &str)], at: &Origin) {
    let item = raw.items(place).len().to_string();
    raw.add_item(place, &item, at.clone());
    for (key, text) in values {
        if let Some(field) = field_at(key) {
            raw.set(field, &item, Value::Word((*text).to_owned()), at.clone());
        }
    }
}

/// `pool.NAME.FIELD`: changes a pool that an earlier source named.
fn set_in_pool(
    raw: &mut Raw,
    key: &str,
    rest: &str,
    value: Value,
    at: &Origin,
) -> Result<(), Box<Fault>> {
    let Some((name, leaf)) = rest.split_once('.') else {
        return Err(unknown_option(key, at).into());
    };
    let field =
        field_at(&format!("{POOL}{leaf}")).ok_or_else(|| unknown_leaf(POOL, key, leaf, at))?;
    let names: Vec<(String, String)> = raw
        .items(POOL)
        .iter()
        .map(|(item, _)| {
            let name = raw
                .text("pool[].name", item)
                .map_or("local", |(name, _)| name);
            (name.to_owned(), item.clone())
        })
        .collect();
    match names.iter().find(|(known, _)| known == name) {
        Some((_, item)) => {
            raw.set(field, item, value, at.clone());
            Ok(())
        }
        None => Err(Box::new(Fault {
            key: printable_key(key),
            at: at.clone(),
            found: format!("no pool {}", quoted(name)),
            wanted: "the name of a pool of the configuration".to_owned(),
            hint: did_you_mean(name, names.iter().map(|(known, _)| known.as_str())),
        })),
    }
}

/// `remote.NAME.FIELD`: changes or makes a remote pool.
fn set_in_remote(
    raw: &mut Raw,
    key: &str,
    rest: &str,
    value: Value,
    at: &Origin,
) -> Result<(), Box<Fault>> {
    let Some((name, leaf)) = rest.split_once('.') else {
        return Err(unknown_option(key, at).into());
    };
    let field =
        field_at(&format!("{REMOTE}{leaf}")).ok_or_else(|| unknown_leaf(REMOTE, key, leaf, at))?;
    if !raw.items(REMOTE).iter().any(|(item, _)| item == name) {
        raw.add_item(REMOTE, name, at.clone());
    }
    raw.set(field, name, value, at.clone());
    Ok(())
}

fn unknown_leaf(place: &str, key: &str, leaf: &str, at: &Origin) -> Box<Fault> {
    Fault {
        key: printable_key(key),
        ..unknown_key(place, "", leaf, at.clone())
    }
    .into()
}

/// What to say of an option that there is not.
pub(crate) fn unknown_option(key: &str, at: &Origin) -> Fault {
    let known = option_keys();
    Fault {
        key: String::new(),
        at: at.clone(),
        found: format!("the unknown option {}", quoted(key)),
        wanted: "an option of mount(8) or a key of the configuration, such as `pool=64GiB`"
            .to_owned(),
        hint: did_you_mean(key, known.iter().copied()).or_else(|| elsewhere_option(key)),
    }
}

/// "did you mean `policy.enabled`?" for `enabled`, if only one key ends so.
fn elsewhere_option(key: &str) -> Option<String> {
    let mut with_name = Config::fields()
        .iter()
        .filter(|f| !f.repeats() && f.name() == key);
    match (with_name.next(), with_name.next()) {
        (Some(only), None) => Some(format!("did you mean `{}`?", only.key)),
        _ => None,
    }
}

/// Every key that can be given as an option as it is.
pub(crate) fn option_keys() -> Vec<&'static str> {
    let fields = Config::fields()
        .iter()
        .filter(|field| !field.repeats())
        .map(|field| field.key);
    ["cold", "pool", "models", "config", "ro", "allow_other"]
        .into_iter()
        .chain(fields)
        .collect()
}
