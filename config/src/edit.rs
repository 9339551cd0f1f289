//! Changing a configuration file by keys: its comments, order and blanks stay as they are.
//!
//! Values are texts, as in variables and options; what kind of TOML they become is the field's. Whether they are right
//! is judged by [`load`](crate::load), as if a person had written them.

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike, Value};

use crate::effective::{Config, PIN};
use crate::fault::nearest;
use crate::field::Field;
use crate::setting::{Kind, list_items};

/// Changes keys of the text of a TOML file: `http.listen`, `pool[0].capacity`, `remote.NAME.ssh`,
/// `placement.pins.MODEL`; without a value the key is taken out, and `pool[1]` takes out a whole pool.
///
/// # Errors
/// A sentence: the text is no TOML, or there is no such key.
pub fn edit(text: &str, changes: &[(String, Option<String>)]) -> Result<String, String> {
    if text.trim_start().starts_with('{') {
        return Err("the file is the original's JSON; write it anew as TOML".to_owned());
    }
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        format!("the file is no TOML: {}", error.message())
    })?;
    // Items that go are counted from the end, so that numbers stay true meanwhile.
    let mut gone: Vec<(&str, usize)> = Vec::new();
    for (key, value) in changes {
        match (item_of(key), value) {
            (Some((list, index, "")), None) => gone.push((list, index)),
            _ => set(&mut document, key, value.as_deref())?,
        }
    }
    gone.sort_unstable();
    gone.dedup();
    for (list, index) in gone.into_iter().rev() {
        remove_item(&mut document, list, index)?;
    }
    Ok(document.to_string())
}

/// `pool[2].capacity` as list, number and rest; the rest is empty for the whole item.
fn item_of(key: &str) -> Option<(&str, usize, &str)> {
    let (list, rest) = key.split_once('[')?;
    let (index, rest) = rest.split_once(']')?;
    let known = matches!(list, "pool" | "cold");
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    known.then_some((list, index.parse().ok()?, rest))
}

fn set(document: &mut DocumentMut, key: &str, value: Option<&str>) -> Result<(), String> {
    let unknown = || {
        let text = format!("there is no key `{}`", key.escape_debug());
        match nearest(key, Config::fields().iter().map(|field| field.key)) {
            Some(meant) => format!("{text}; did you mean `{meant}`?"),
            None => text,
        }
    };
    let root = document.as_table_mut();
    if let Some((list, index, leaf)) = item_of(key) {
        let field = Config::field(&format!("{list}[].{leaf}")).ok_or_else(unknown)?;
        return write(nth(root, list, index)?, field, leaf, value);
    }
    if let Some(model) = key.strip_prefix("placement.pins.") {
        let model = unquoted(model);
        let Some(pins) = sections(root, &["placement", "pins"], value.is_some())? else {
            return Ok(());
        };
        return write(pins, &PIN, &model, value);
    }
    let field = Config::field(key)
        .filter(|field| !field.key.contains("[]"))
        .ok_or_else(unknown)?;
    let (place, leaf) = key
        .rsplit_once('.')
        .map_or(("", key), |(place, leaf)| (place, leaf));
    let names = place.split('.').filter(|name| !name.is_empty());
    match sections(root, &names.collect::<Vec<_>>(), value.is_some())? {
        Some(table) => write(table, field, leaf, value),
        None => Ok(()),
    }
}

/// The section within sections; what is not there is made if it is `wanted`.
fn sections<'t>(
    root: &'t mut Table,
    names: &[&str],
    wanted: bool,
) -> Result<Option<&'t mut dyn TableLike>, String> {
    let mut table: &mut dyn TableLike = root;
    for name in names {
        if !wanted && !table.contains_key(name) {
            return Ok(None);
        }
        table = section(table, name)?;
    }
    Ok(Some(table))
}

/// A key as faults show it may be quoted.
fn unquoted(key: &str) -> String {
    format!("k = {key}")
        .parse::<DocumentMut>()
        .ok()
        .and_then(|document| document.get("k")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| key.to_owned())
}

fn section<'t>(table: &'t mut dyn TableLike, name: &str) -> Result<&'t mut dyn TableLike, String> {
    let item = table
        .entry(name)
        .or_insert_with(|| Item::Table(Table::new()));
    item.as_table_like_mut()
        .ok_or_else(|| format!("`{name}` is no section in the file"))
}

/// An item of a list; the one after the last is made.
fn nth<'t>(root: &'t mut Table, list: &str, index: usize) -> Result<&'t mut dyn TableLike, String> {
    let missing = || format!("the file has no {list}[{index}]");
    let item = root
        .entry(list)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    match item {
        Item::ArrayOfTables(tables) => {
            if tables.len() == index {
                tables.push(Table::new());
            }
            let table = tables.get_mut(index).ok_or_else(missing)?;
            Ok(table)
        }
        Item::Value(Value::Array(array)) => {
            let value = array.get_mut(index).and_then(Value::as_inline_table_mut);
            Ok(value.ok_or_else(missing)?)
        }
        _ => Err(format!("`{list}` is no list in the file")),
    }
}

fn remove_item(document: &mut DocumentMut, list: &str, index: usize) -> Result<(), String> {
    let missing = || format!("the file has no {list}[{index}]");
    match document.get_mut(list) {
        Some(Item::ArrayOfTables(tables)) if index < tables.len() => {
            tables.remove(index);
        }
        Some(Item::Value(Value::Array(array))) if index < array.len() => {
            array.remove(index);
        }
        _ => return Err(missing()),
    }
    Ok(())
}

fn write(
    table: &mut dyn TableLike,
    field: &Field,
    name: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let Some(text) = value else {
        table.remove(name);
        return Ok(());
    };
    let mut new = toml_of(field, text);
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            // What stands before and behind it, comments above all.
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => {
            table.insert(name, Item::Value(new));
        }
    }
    Ok(())
}

fn toml_of(field: &Field, text: &str) -> Value {
    let word = || Value::from(text);
    match field.kind {
        Kind::Switch => text.parse::<bool>().map_or_else(|_| word(), Value::from),
        Kind::Integer => text.parse::<i64>().map_or_else(|_| word(), Value::from),
        Kind::List => Value::Array(list_items(text).into_iter().collect::<Array>()),
        _ => word(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "# top\nmodels_dir = \"/m\" # where\n\n[[pool]]\nname = \"a\"\ncapacity = \"1GiB\" # small\n\n\
                        [[pool]]\nname = \"b\"\n\n# the policy\n[policy]\nenabled = true\n";

    fn change(key: &str, value: Option<&str>) -> (String, Option<String>) {
        (key.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn comments_and_order_stay() {
        let changes = [
            change("pool[0].capacity", Some("2GiB")),
            change("policy.enabled", Some("false")),
            change("policy.never", Some("a, b*")),
            change("http.listen", Some("127.0.0.1:1")),
            change("placement.pins.x:1", Some("a")),
        ];
        let text = edit(FILE, &changes).expect("well-formed");
        let expected = "# top\nmodels_dir = \"/m\" # where\n\n[[pool]]\nname = \"a\"\ncapacity = \"2GiB\" # small\n\n\
                        [[pool]]\nname = \"b\"\n\n# the policy\n[policy]\nenabled = false\nnever = [\"a\", \"b*\"]\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("[http]\nlisten = \"127.0.0.1:1\"\n"),
            "{text}"
        );
        assert!(text.contains("\"x:1\" = \"a\""), "{text}");
    }

    /// The second time it was the pool after it.
    #[test]
    fn a_pool_that_is_named_twice_goes_once() {
        let twice = [change("pool[0]", None), change("pool[0]", None)];
        let text = edit(FILE, &twice).expect("well-formed");
        assert!(!text.contains("name = \"a\""), "{text}");
        assert!(text.contains("[[pool]]\nname = \"b\""), "{text}");
    }

    /// One item was made of it, brackets and quotes and all.
    #[test]
    fn a_list_can_be_written_as_in_the_file() {
        for (given, written) in [
            ("[\"m0*\", 'a,b']", "[\"m0*\", \"a,b\"]"),
            ("[]", "[]"),
            ("[ab]*, c", "[\"[ab]*\", \"c\"]"),
        ] {
            let text = edit(FILE, &[change("policy.never", Some(given))]).expect("well-formed");
            assert!(text.ends_with(&format!("never = {written}\n")), "{text}");
        }
    }

    #[test]
    fn items_come_and_go() {
        let added = edit(FILE, &[change("pool[2].name", Some("c"))]).expect("added");
        assert!(
            added.contains("name = \"b\"\n\n[[pool]]\nname = \"c\"\n"),
            "{added}"
        );
        let gone = edit(FILE, &[change("pool[0]", None)]).expect("gone");
        assert!(
            !gone.contains("name = \"a\"") && gone.contains("name = \"b\""),
            "{gone}"
        );
        assert!(edit(FILE, &[change("pool[2]", None)]).is_err());
        assert!(edit(FILE, &[change("pool[9].name", Some("c"))]).is_err());
    }

    #[test]
    fn what_is_not_there_goes_without_a_trace() {
        for key in [
            "log.level",
            "placement.pins.x",
            "policy.never",
            "pool[0].speed",
        ] {
            assert_eq!(
                edit(FILE, &[change(key, None)]).as_deref(),
                Ok(FILE),
                "{key}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_told_what_may_be_meant() {
        let fault = edit(FILE, &[change("policy.enable", Some("true"))]).unwrap_err();
        assert!(fault.ends_with("did you mean `policy.enabled`?"), "{fault}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        for key in [
            "bogus",
            "http.bogus",
            "pool.a.capacity",
            "pool[x].name",
            "pool[0].bogus",
            "",
            ".",
        ] {
            assert!(edit(FILE, &[change(key, Some("1"))]).is_err(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(key in "(pool|cold|\\[|\\]|[0-9]|\\.|http|listen|placement|pins|\"|[a-z]){0,8}", value in proptest::option::of("\\PC{0,8}")) {
            let _ = edit(FILE, &[(key, value)]);
        }

        #[test]
        fn a_value_comes_through(value in "\\PC{1,24}") {
            let text = edit(FILE, &[change("log.level", Some(&value))]).expect("well-formed");
            let table: toml::Table = text.parse().expect("still TOML");
            prop_assert_eq!(table["log"]["level"].as_str(), Some(value.as_str()));
        }
    }
}
